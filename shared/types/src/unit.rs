//! Physical units at borders. An undeclared unit is refused, never guessed.

use core::fmt;

use serde::{Deserialize, Serialize};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f32);
    };
}

quantity!(
    /// Cycles per second; sampling rates and line frequencies.
    Hertz
);
quantity!(
    /// Shaft revolutions per minute.
    Rpm
);
quantity!(
    /// Degrees Celsius.
    Celsius
);
quantity!(
    /// Acceleration in units of standard gravity (9.80665 m/s²).
    Gs
);
quantity!(
    /// Hours, for remaining useful life.
    Hours
);

impl Rpm {
    /// Revolutions per second.
    pub fn hertz(self) -> Hertz {
        Hertz(self.0 / 60.0)
    }
}

/// A declared unit and its way to the house's own (g, °C, plain numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Acceleration in g (kept).
    #[serde(rename = "g")]
    G,
    /// Acceleration in m/s², converted to g.
    #[serde(rename = "m/s2")]
    MetrePerSecondSquared,
    /// Velocity in mm/s (kept).
    #[serde(rename = "mm/s")]
    MillimetrePerSecond,
    /// Temperature in °C (kept).
    #[serde(rename = "degC")]
    DegreeCelsius,
    /// Temperature in °F, converted to °C.
    #[serde(rename = "degF")]
    DegreeFahrenheit,
    /// Speed in revolutions per minute (kept).
    #[serde(rename = "rpm")]
    Rpm,
    /// Speed or rate in Hz, kept.
    #[serde(rename = "Hz")]
    Hertz,
    /// Pressure in bar (kept).
    #[serde(rename = "bar")]
    Bar,
    /// Current in ampere (kept).
    #[serde(rename = "A")]
    Ampere,
    /// Voltage in volt (kept).
    #[serde(rename = "V")]
    Volt,
    /// Flow in litres per minute (kept).
    #[serde(rename = "L/min")]
    LitrePerMinute,
    /// A number without a unit, said so on purpose.
    #[serde(rename = "1")]
    One,
}

impl Unit {
    /// Parses a declared unit; `None` of the known ones is an error that lists them.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        Ok(match text {
            "g" => Self::G,
            "m/s2" | "m/s^2" | "m/s²" => Self::MetrePerSecondSquared,
            "mm/s" => Self::MillimetrePerSecond,
            "degC" | "°C" | "C" => Self::DegreeCelsius,
            "degF" | "°F" | "F" => Self::DegreeFahrenheit,
            "rpm" => Self::Rpm,
            "Hz" => Self::Hertz,
            "bar" => Self::Bar,
            "A" => Self::Ampere,
            "V" => Self::Volt,
            "L/min" => Self::LitrePerMinute,
            "1" => Self::One,
            _ => return Err(UnitError),
        })
    }

    /// The value in the house's unit: g for acceleration, °C for temperature, otherwise as given.
    pub fn to_house(self, value: f32) -> f32 {
        match self {
            Self::MetrePerSecondSquared => value / 9.806_65,
            Self::DegreeFahrenheit => (value - 32.0) / 1.8,
            Self::G
            | Self::MillimetrePerSecond
            | Self::DegreeCelsius
            | Self::Rpm
            | Self::Hertz
            | Self::Bar
            | Self::Ampere
            | Self::Volt
            | Self::LitrePerMinute
            | Self::One => value,
        }
    }
}

/// A unit that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitError;

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown unit; declare one of g, m/s2, mm/s, degC, degF, rpm, Hz, bar, A, V, L/min, 1 (no unit)")
    }
}

impl core::error::Error for UnitError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_units_become_the_houses_own() {
        for (unit, given, expected) in [
            (Unit::MetrePerSecondSquared, 9.806_65, 1.0),
            (Unit::MetrePerSecondSquared, -19.613_3, -2.0),
            (Unit::DegreeFahrenheit, 212.0, 100.0),
            (Unit::DegreeFahrenheit, 32.0, 0.0),
            (Unit::DegreeFahrenheit, -40.0, -40.0),
            (Unit::G, 0.25, 0.25),
            (Unit::DegreeCelsius, 71.5, 71.5),
            (Unit::MillimetrePerSecond, 2.8, 2.8),
            (Unit::Bar, 3.5, 3.5),
            (Unit::Rpm, 1500.0, 1500.0),
        ] {
            let house = unit.to_house(given);
            // f32: seven digits.
            assert!((house - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{given} {unit:?} became {house}");
        }
        assert_eq!(Rpm(1500.0).hertz(), Hertz(25.0));
    }

    #[test]
    fn a_unit_is_parsed_by_each_of_its_spellings_and_never_guessed() {
        for text in ["g", "mm/s", "degC", "degF", "rpm", "Hz", "bar", "A", "V", "L/min", "1"] {
            assert!(Unit::parse(text).is_ok(), "{text}");
        }
        for text in ["m/s2", "m/s^2", "m/s²"] {
            assert_eq!(Unit::parse(text), Ok(Unit::MetrePerSecondSquared));
        }
        assert_eq!((Unit::parse("°F"), Unit::parse("°C")), (Ok(Unit::DegreeFahrenheit), Ok(Unit::DegreeCelsius)));
        for text in ["", "G", "m/s", "K", "celsius", "RPM", "psi", " g"] {
            assert_eq!(Unit::parse(text), Err(UnitError), "{text}");
        }
    }
}
