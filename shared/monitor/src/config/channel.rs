//! One channel of a machine: what it delivers, in which unit, within which range, along which axis.

use kilter_types::{Axis, Hertz, Micros, Name, Unit};

use super::Reason;

/// One channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelConfig {
    /// Its name at the sensor.
    pub name: Name,
    /// The unit in which values arrive; they are converted to g and °C.
    pub unit: Unit,
    /// What it delivers.
    pub kind: ChannelKind,
    /// What the sensor can measure, in [`Self::unit`]. A value outside is no measurement: it enters no feature, and its window carries
    /// [`kilter_types::Quality::OUT_OF_RANGE`].
    pub range: Bounds,
    /// The direction that a vibration channel measures.
    pub axis: Option<Axis>,
}

impl ChannelConfig {
    /// A channel without bounds and without a declared axis.
    pub fn new(name: Name, unit: Unit, kind: ChannelKind) -> Self {
        Self { name, unit, kind, range: Bounds::NONE, axis: None }
    }

    pub(super) fn check(&self) -> Result<(), Reason> {
        if self.range.low.partial_cmp(&self.range.high) != Some(core::cmp::Ordering::Less) {
            return Err(Reason::Range);
        }
        let unit_fits = match self.kind {
            ChannelKind::Vibration { rate } => {
                if !(rate.0 >= 1.0 && rate.0 <= 10.0e6) {
                    return Err(Reason::Rate);
                }
                matches!(self.unit, Unit::G | Unit::MetrePerSecondSquared)
            }
            ChannelKind::Speed => matches!(self.unit, Unit::Rpm | Unit::Hertz),
            ChannelKind::Tacho { pulses_per_rev } => {
                if !(1..=MOST_PULSES).contains(&pulses_per_rev) {
                    return Err(Reason::Pulses);
                }
                self.unit == Unit::One
            }
            ChannelKind::Ambient => matches!(self.unit, Unit::DegreeCelsius | Unit::DegreeFahrenheit),
            ChannelKind::Reading { .. } | ChannelKind::Cycle { .. } | ChannelKind::Load => true,
        };
        if unit_fits { Ok(()) } else { Err(Reason::Unit) }
    }
}

/// What a channel delivers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ChannelKind {
    /// Evenly sampled acceleration.
    Vibration {
        /// The declared rate.
        rate: Hertz,
    },
    /// Single values.
    Reading {
        /// How far apart they are nominally; a step of more than three of these is a hole in time.
        period: Option<Micros>,
    },
    /// Rows of a machine that counts cycles.
    Cycle {
        /// Values per row.
        width: u8,
    },
    /// The shaft's speed.
    Speed,
    /// Pulses of the shaft: each reading is one pulse, at its time; the value is not used.
    ///
    /// A source sends a pulse before the samples that were taken after it, and counts pulses by position.
    Tacho {
        /// Evenly spaced pulses to a revolution, 1 to 1000.
        pulses_per_rev: u16,
    },
    /// The load in per cent of nominal.
    Load,
    /// The temperature around the machine.
    Ambient,
}

/// A range of values with both its ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The least value.
    pub low: f32,
    /// The greatest.
    pub high: f32,
}

impl Bounds {
    /// Every value lies within.
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

    /// The value as it is kept: itself, NaN where it is missing, [`OUTSIDE`] where it lies outside.
    pub(crate) fn admit(self, value: f32) -> f32 {
        if !value.is_finite() {
            f32::NAN
        } else if (self.low..=self.high).contains(&value) {
            value
        } else {
            OUTSIDE
        }
    }
}

/// The most pulses to a revolution.
const MOST_PULSES: u16 = 1000;
/// Stands for a value outside its channel's range, also after any conversion of units; nothing else that is kept is infinite.
pub(crate) const OUTSIDE: f32 = f32::INFINITY;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_range_belong_to_it() {
        let range = Bounds { low: -50.0, high: 50.0 };
        for (value, kept) in [(-50.0, -50.0), (50.0, 50.0), (0.0, 0.0), (50.1, OUTSIDE), (-1e9, OUTSIDE)] {
            assert_eq!(range.admit(value), kept);
            assert_eq!(Bounds::NONE.admit(value), value);
        }
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(range.admit(value).is_nan() && Bounds::NONE.admit(value).is_nan());
        }
    }
}
