//! Heat of the bearing housing: one time constant towards ambient plus what load, friction and failing cooling add.
//!
//! Integrated exactly on a grid of one second with the target held from each grid point, so the values depend neither on how often
//! they are asked for nor on commands that come later.

use crate::bearing::Defect;
use crate::random;
use crate::schedule::Schedule;
use crate::spec::{FaultKind, MachineSpec};

/// The housing's temperature, advancing with the times asked for.
#[derive(Debug, Clone)]
pub(crate) struct Thermal {
    grid: u64,
    at_grid_c: f64,
    asked_s: f64,
}

impl Thermal {
    /// Starts in equilibrium with the first operating point: a machine that has been running, or one at ambient.
    pub(crate) fn new(spec: &MachineSpec, schedule: &Schedule) -> Self {
        Self { grid: 0, at_grid_c: target_c(0.0, spec, schedule), asked_s: 0.0 }
    }

    /// Latest time asked for.
    pub(crate) fn asked_s(&self) -> f64 {
        self.asked_s
    }

    /// True temperature at `t_s`; times do not go back, an earlier one gives the value of the second reached.
    pub(crate) fn at(&mut self, t_s: f64, spec: &MachineSpec, schedule: &Schedule) -> f64 {
        self.asked_s = self.asked_s.max(t_s);
        let step = libm::exp(-1.0 / spec.thermal.time_constant_s);
        while (self.grid + 1) as f64 <= t_s {
            let target = target_c(self.grid as f64, spec, schedule);
            self.at_grid_c = target + (self.at_grid_c - target) * step;
            self.grid += 1;
        }
        let target = target_c(self.grid as f64, spec, schedule);
        let elapsed = (t_s - self.grid as f64).max(0.0);
        target + (self.at_grid_c - target) * libm::exp(-elapsed / spec.thermal.time_constant_s)
    }
}

/// Ambient temperature with its daily cycle.
pub(crate) fn ambient_c(t_s: f64, spec: &MachineSpec) -> f64 {
    spec.thermal.ambient_c + spec.thermal.ambient_swing_c * spec.day.phase(t_s)
}

/// What a sensor with the spec's noise shows for a true value, by channel and time.
pub(crate) fn sensed_c(value_c: f64, t_s: f64, channel: u64, spec: &MachineSpec, seed: u64) -> f64 {
    let millis = libm::floor(t_s.max(0.0) * 1e3) as u64;
    value_c + spec.thermal.noise_c * random::normal(seed, KEY_SENSOR + channel, millis)
}

fn target_c(t_s: f64, spec: &MachineSpec, schedule: &Schedule) -> f64 {
    let speed = schedule.speed_ratio(t_s);
    let worst = Defect::ALL.iter().map(|defect| schedule.severity(defect.fault(), t_s)).fold(0.0, f64::max);
    let friction_k = FRICTION_K * worst * worst;
    let cooling_k = COOLING_K * schedule.severity(FaultKind::Cooling, t_s);
    let load_k = spec.thermal.rise_c * (0.3 + 0.7 * schedule.load(t_s));
    ambient_c(t_s, spec) + speed * (load_k + friction_k + cooling_k)
}

const KEY_SENSOR: u64 = 0x7465_6d70_0000;
/// Rise at nominal speed from a bearing at the end of its life, and from cooling that has failed altogether.
const FRICTION_K: f64 = 20.0;
const COOLING_K: f64 = 45.0;
