//! What a machine is and what will happen to it: the part of a plant file that a person writes.
//!
//! Everything has a default but the name, so that a short entry is a whole machine; unknown keys are refused. Amplitudes are peak
//! values in g at `nominal_rpm` and full load on the axis with the strongest response.

use serde::{Deserialize, Serialize};

use crate::bearing::BearingSpec;

/// A machine, its bearing, heat and schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Name in logs and in the truth.
    pub name: String,
    /// Samples per second of each vibration axis.
    #[serde(default = "default_rate_hz")]
    pub rate_hz: f64,
    /// Shaft speed at which amplitudes are stated.
    #[serde(default = "default_rpm")]
    pub nominal_rpm: f64,
    /// Residual unbalance of the healthy machine: amplitude at 1x, growing with the square of speed.
    #[serde(default = "default_unbalance_g")]
    pub unbalance_g: f64,
    /// Residual misalignment: amplitude at 2x, growing with the square of speed and with load.
    #[serde(default = "default_misalignment_g")]
    pub misalignment_g: f64,
    /// White measurement and flow noise, as standard deviation.
    #[serde(default = "default_noise_g")]
    pub noise_g: f64,
    /// Noise of process and lubrication through the bearing's resonance, as standard deviation.
    #[serde(default = "default_noise_g")]
    pub resonant_noise_g: f64,
    /// Slow relative fluctuation of the load, as standard deviation.
    #[serde(default = "default_load_noise")]
    pub load_noise: f64,
    /// Slow wandering of the shaft's phase, in revolutions (peak); its period is about eight seconds.
    #[serde(default = "default_wander_rev")]
    pub wander_rev: f64,
    /// The monitored bearing.
    #[serde(default)]
    pub bearing: BearingSpec,
    /// A gear on the shaft.
    #[serde(default)]
    pub gear: Option<GearSpec>,
    /// Heat of the bearing housing.
    #[serde(default)]
    pub thermal: ThermalSpec,
    /// Daily cycle of the load.
    #[serde(default)]
    pub day: DayCycle,
    /// Speed and load over time. Before the first change the machine runs at `nominal_rpm` and load 0.7.
    #[serde(default)]
    pub load_changes: Vec<LoadChange>,
    /// Faults over time.
    #[serde(default)]
    pub faults: Vec<FaultChange>,
}

impl MachineSpec {
    /// A healthy machine with every default.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            rate_hz: default_rate_hz(),
            nominal_rpm: default_rpm(),
            unbalance_g: default_unbalance_g(),
            misalignment_g: default_misalignment_g(),
            noise_g: default_noise_g(),
            resonant_noise_g: default_noise_g(),
            load_noise: default_load_noise(),
            wander_rev: default_wander_rev(),
            bearing: BearingSpec::default(),
            gear: None,
            thermal: ThermalSpec::default(),
            day: DayCycle::default(),
            load_changes: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Every figure within the range for which the models hold.
    pub(crate) fn check(&self) -> Result<(), SpecError> {
        let field = |field: &'static str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) { Ok(()) } else { Err(self.refuse(field, value, low, high)) }
        };
        field("rate_hz", self.rate_hz, 1.0, 1e6)?;
        field("nominal_rpm", self.nominal_rpm, 1.0, MAX_RPM)?;
        field("unbalance_g", self.unbalance_g, 0.0, MAX_G)?;
        field("misalignment_g", self.misalignment_g, 0.0, MAX_G)?;
        field("noise_g", self.noise_g, 0.0, MAX_G)?;
        field("resonant_noise_g", self.resonant_noise_g, 0.0, MAX_G)?;
        field("load_noise", self.load_noise, 0.0, 1.0)?;
        field("wander_rev", self.wander_rev, 0.0, 0.25)?;
        field("bearing.balls", f64::from(self.bearing.balls), 3.0, 200.0)?;
        field("bearing.pitch_mm", self.bearing.pitch_mm, 1e-3, 1e5)?;
        field("bearing.ball_mm", self.bearing.ball_mm, 1e-3, self.bearing.pitch_mm * 0.99)?;
        field("bearing.contact_deg", self.bearing.contact_deg, 0.0, 89.0)?;
        field("bearing.resonance_hz", self.bearing.resonance_hz, 1.0, self.rate_hz / 2.0)?;
        field("bearing.damping", self.bearing.damping, 1e-3, 0.99)?;
        field("bearing.impact_g", self.bearing.impact_g, 0.0, MAX_G)?;
        field("bearing.slip", self.bearing.slip, 0.0, 0.1)?;
        if let Some(gear) = &self.gear {
            field("gear.teeth", f64::from(gear.teeth), 3.0, 1000.0)?;
            field("gear.mesh_g", gear.mesh_g, 0.0, MAX_G)?;
        }
        field("thermal.ambient_c", self.thermal.ambient_c, -90.0, 500.0)?;
        field("thermal.ambient_swing_c", self.thermal.ambient_swing_c, 0.0, 200.0)?;
        field("thermal.rise_c", self.thermal.rise_c, 0.0, 1000.0)?;
        field("thermal.time_constant_s", self.thermal.time_constant_s, 1.0, 1e7)?;
        field("thermal.noise_c", self.thermal.noise_c, 0.0, 100.0)?;
        field("day.load_swing", self.day.load_swing, 0.0, 1.0)?;
        field("day.length_s", self.day.length_s, 1.0, 1e9)?;
        field("day.start_s", self.day.start_s, -1e9, 1e9)?;
        self.load_changes.iter().try_for_each(|change| self.check_load(change))?;
        self.faults.iter().try_for_each(|change| self.check_fault(change))
    }

    pub(crate) fn check_load(&self, change: &LoadChange) -> Result<(), SpecError> {
        let limits = [
            ("load_changes.at_s", change.at_s, 0.0, MAX_TIME_S),
            ("load_changes.rpm", change.rpm, 0.0, MAX_RPM),
            ("load_changes.load", change.load, 0.0, 2.0),
            ("load_changes.ramp_s", change.ramp_s, 0.0, MAX_TIME_S),
        ];
        self.check_limits(&limits)
    }

    pub(crate) fn check_fault(&self, change: &FaultChange) -> Result<(), SpecError> {
        if change.kind == FaultKind::Gear && self.gear.is_none() {
            return Err(SpecError::NoGear { machine: self.name.clone() });
        }
        let limits = [
            ("faults.start_s", change.start_s, 0.0, MAX_TIME_S),
            ("faults.growth_s", change.growth_s, 0.0, MAX_TIME_S),
            ("faults.severity", change.severity, 0.0, 1.0),
        ];
        self.check_limits(&limits)
    }

    fn check_limits(&self, limits: &[(&'static str, f64, f64, f64)]) -> Result<(), SpecError> {
        let broken = limits.iter().find(|(_, value, low, high)| !(*low..=*high).contains(value));
        match broken {
            Some(&(field, value, low, high)) => Err(self.refuse(field, value, low, high)),
            None => Ok(()),
        }
    }

    fn refuse(&self, field: &'static str, value: f64, low: f64, high: f64) -> SpecError {
        SpecError::OutOfRange { machine: self.name.clone(), field, value, low, high }
    }
}

/// From `at_s` on, move to this speed and load within `ramp_s` (0 is a step).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadChange {
    /// When, in seconds of simulated time.
    pub at_s: f64,
    /// Shaft speed to reach; 0 is off.
    pub rpm: f64,
    /// Load to reach; 1 is full load.
    pub load: f64,
    /// How long the change takes.
    #[serde(default)]
    pub ramp_s: f64,
}

/// From `start_s` on, let a fault grow (or heal) to `severity` within `growth_s`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultChange {
    /// Which fault.
    pub kind: FaultKind,
    /// When it begins to change, in seconds of simulated time.
    pub start_s: f64,
    /// How long it takes to reach `severity`; 0 is a step.
    #[serde(default)]
    pub growth_s: f64,
    /// Severity to reach: 0 healthy, 1 end of life.
    pub severity: f64,
    /// How it gets there.
    #[serde(default)]
    pub growth: Growth,
}

/// The course of a severity between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// A straight line.
    #[default]
    Linear,
    /// Slow at first, fast at the end, as wear to failure is: (e^4x - 1) / (e^4 - 1).
    Exponential,
}

/// What can be wrong with a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Spall on the outer race.
    OuterRace,
    /// Spall on the inner race.
    InnerRace,
    /// Spall on a ball or roller.
    RollingElement,
    /// Broken cage.
    Cage,
    /// Mass off the axis.
    Unbalance,
    /// Coupling out of line.
    Misalignment,
    /// Loose foot or worn fit.
    Looseness,
    /// Worn tooth.
    Gear,
    /// Vapour bubbles collapsing in a pump.
    Cavitation,
    /// Cooling or lubrication failing: the housing heats up.
    Cooling,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::OuterRace,
        Self::InnerRace,
        Self::RollingElement,
        Self::Cage,
        Self::Unbalance,
        Self::Misalignment,
        Self::Looseness,
        Self::Gear,
        Self::Cavitation,
        Self::Cooling,
    ];

    /// The word used in plant files, in the truth and on the control socket.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OuterRace => "outer_race",
            Self::InnerRace => "inner_race",
            Self::RollingElement => "rolling_element",
            Self::Cage => "cage",
            Self::Unbalance => "unbalance",
            Self::Misalignment => "misalignment",
            Self::Looseness => "looseness",
            Self::Gear => "gear",
            Self::Cavitation => "cavitation",
            Self::Cooling => "cooling",
        }
    }

    /// The kind that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// A gear on the shaft: its mesh frequency is `teeth` times the shaft's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GearSpec {
    /// Teeth of the wheel on the monitored shaft.
    pub teeth: u32,
    /// Amplitude at the mesh frequency, at nominal speed and full load.
    #[serde(default = "default_mesh_g")]
    pub mesh_g: f64,
}

/// Heat of the bearing housing: first order towards ambient plus the rise from load and friction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThermalSpec {
    /// Mean ambient temperature.
    pub ambient_c: f64,
    /// Half the difference between the warmest and the coldest hour.
    pub ambient_swing_c: f64,
    /// Rise above ambient at nominal speed and full load, healthy.
    pub rise_c: f64,
    /// Time in which 63 % of a change has happened.
    pub time_constant_s: f64,
    /// Noise of the sensor, as standard deviation.
    pub noise_c: f64,
}

impl Default for ThermalSpec {
    fn default() -> Self {
        Self { ambient_c: 22.0, ambient_swing_c: 4.0, rise_c: 30.0, time_constant_s: 900.0, noise_c: 0.1 }
    }
}

/// The daily cycle: a sine on the load (and, in [`ThermalSpec`], on ambient), with its maximum at 15:00.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DayCycle {
    /// Amplitude on the load.
    pub load_swing: f64,
    /// Length of a day; shorter days make a demonstration.
    pub length_s: f64,
    /// Second of the day at which the simulation starts.
    pub start_s: f64,
}

impl Default for DayCycle {
    fn default() -> Self {
        Self { load_swing: 0.0, length_s: 86_400.0, start_s: 43_200.0 }
    }
}

impl DayCycle {
    /// -1 to 1 over the day.
    pub(crate) fn phase(&self, t_s: f64) -> f64 {
        let day = (t_s + self.start_s) / self.length_s;
        libm::cos(std::f64::consts::TAU * (day - libm::floor(day) - 15.0 / 24.0))
    }
}

/// A spec or a command that no machine can follow.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// A figure outside the range for which the model holds.
    #[error("machine {machine}: {field} = {value} is not within {low} to {high}")]
    OutOfRange {
        /// Name of the machine.
        machine: String,
        /// Key of the figure.
        field: &'static str,
        /// What was given.
        value: f64,
        /// Least allowed.
        low: f64,
        /// Greatest allowed.
        high: f64,
    },
    /// A gear fault on a machine without a gear.
    #[error("machine {machine}: a gear fault needs a gear; add gear = {{ teeth = … }}")]
    NoGear {
        /// Name of the machine.
        machine: String,
    },
}

fn default_rate_hz() -> f64 {
    12_800.0
}
fn default_rpm() -> f64 {
    1_500.0
}
fn default_unbalance_g() -> f64 {
    0.02
}
fn default_misalignment_g() -> f64 {
    0.015
}
fn default_noise_g() -> f64 {
    0.03
}
fn default_load_noise() -> f64 {
    0.02
}
fn default_wander_rev() -> f64 {
    0.01
}
fn default_mesh_g() -> f64 {
    0.1
}

const MAX_G: f64 = 1_000.0;
const MAX_RPM: f64 = 200_000.0;
const MAX_TIME_S: f64 = 1e10;
