//! How warm a housing should be: a model of the first order, learned from the machine itself.
//!
//! A housing of time constant `tau` moves towards ambient plus what its work heats it by, so its difference to ambient is
//! `D = speed (a + b load) - tau dT/dt`, with speed as a share of nominal. That is linear in `a`, `b` and `tau`, and holds for
//! low-passed values as for the values themselves; so everything goes through one low-pass, whose own lag gives the slope without
//! the noise of a difference: `dT/dt = (T - low-passed T) / constant`.
//!
//! **Learning.** Recursive least squares from wide priors. It learns only where it is in doubt: a point of speed, load and warming that it
//! knows teaches it nothing more, so cooling that fails slowly at a known point is not learned away. The doubt also widens the
//! limit: where the machine has never been, nothing is said.
//!
//! **Not seen.** A fault that was there from the first hour; one that grows only while the machine visits loads that it has never had.

use kilter_types::Micros;
use serde::{Deserialize, Serialize};

/// The model of one housing and the low-passed state of its machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Thermal {
    newest: Option<Micros>,
    /// Constant of the low-pass, and how long it has run.
    constant_s: f32,
    run_s: f32,
    /// Low-passed: level, difference, speed, speed times load.
    smooth: [f32; 4],
    /// What the newest window multiplies `a`, `b` and `tau` with.
    point: [f32; 3],
    known: [f32; 3],
    /// Their covariance, row by row.
    doubt: [[f32; 3]; 3],
}

/// How much warmer than expected, and from where on that is a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Excess {
    pub(crate) residual_k: f32,
    pub(crate) limit_k: f32,
}

/// One window of a housing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Housing {
    pub(crate) at: Micros,
    pub(crate) level_c: f32,
    /// Above ambient.
    pub(crate) difference_k: f32,
    /// As a share of nominal.
    pub(crate) speed: f32,
    /// As a share of full load; 0 where nobody tells it.
    pub(crate) load: f32,
}

impl Default for Thermal {
    fn default() -> Self {
        let mut doubt = [[0.0; 3]; 3];
        for (i, spread) in PRIOR.into_iter().enumerate() {
            doubt[i][i] = spread * spread;
        }
        let (smooth, point, known) = ([0.0; 4], [0.0; 3], [0.0; 3]);
        Self { newest: None, constant_s: 0.0, run_s: 0.0, smooth, point, known, doubt }
    }
}

impl Thermal {
    /// Takes one window; what it is above the model, once that can be said.
    pub(crate) fn push(&mut self, housing: &Housing) -> Option<Excess> {
        let Housing { at, level_c, difference_k, speed, load } = *housing;
        let values = [level_c, difference_k, speed, speed * load];
        let step_s = self.newest.map(|newest| (at - newest).as_secs_f64() as f32);
        self.newest = Some(at);
        match step_s.filter(|step| *step > 0.0 && (self.run_s == 0.0 || *step < 4.0 * self.constant_s)) {
            None => {
                (self.smooth, self.run_s) = (values, 0.0);
                return None;
            }
            Some(step_s) => {
                if self.run_s == 0.0 {
                    self.constant_s = f32::max(LEAST_S, WINDOWS * step_s);
                }
                self.run_s += step_s;
                let weight = 1.0 - libm::expf(-step_s / self.constant_s);
                for (smooth, value) in self.smooth.iter_mut().zip(values) {
                    *smooth += (value - *smooth) * weight;
                }
            }
        }
        let [level, difference, speed, work] = self.smooth;
        let warming_k_per_h = (level_c - level) / self.constant_s * 3600.0;
        self.point = [speed, work, -warming_k_per_h];
        let expected = dot(self.known, self.point);
        let doubt_k = libm::sqrtf(f32::max(self.variance(), 0.0));
        self.is_warm().then_some(Excess { residual_k: difference - expected, limit_k: LIMIT_K + DOUBTS * doubt_k })
    }

    /// The window that ended at `at` was that of a healthy machine; nothing where it was not taken in.
    pub(crate) fn learn(&mut self, at: Micros) {
        let variance = self.variance();
        if self.newest != Some(at) || !self.is_warm() || variance < KNOWN_K2 {
            return;
        }
        let gain = self.gain().map(|gain| gain / (variance + NOISE_K2));
        let error = self.smooth[1] - dot(self.known, self.point);
        let seen = self.gain();
        for ((known, row), gain) in self.known.iter_mut().zip(&mut self.doubt).zip(gain) {
            *known += gain * error;
            for (doubt, seen) in row.iter_mut().zip(seen) {
                *doubt -= gain * seen;
            }
        }
    }

    /// Has the low-pass forgotten how it began?
    fn is_warm(&self) -> bool {
        self.run_s >= 3.0 * self.constant_s && self.run_s > 0.0
    }

    fn gain(&self) -> [f32; 3] {
        self.doubt.map(|row| dot(row, self.point))
    }

    fn variance(&self) -> f32 {
        dot(self.gain(), self.point)
    }
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Spread of `a` and `b` in K and of `tau` in hours before anything is seen.
const PRIOR: [f32; 3] = [100.0, 60.0, 1.0];
/// Variance of what a window says beside the model.
const NOISE_K2: f32 = 1.0;
/// A point whose expectation is at least so sure teaches no more.
const KNOWN_K2: f32 = 0.05;
/// A housing so much warmer than expected has a fault …
const LIMIT_K: f32 = 6.0;
/// … and so many times the doubt more.
const DOUBTS: f32 = 4.0;
/// The low-pass spans so many windows, and at least so long.
const WINDOWS: f32 = 10.0;
const LEAST_S: f32 = 600.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// A housing of 15 minutes that its load heats by 9 K and 21 K times load, in windows of a minute.
    struct Plant {
        thermal: Thermal,
        level_c: f32,
        minute: i64,
    }

    impl Plant {
        /// The greatest excess over its limit within these minutes.
        fn run(&mut self, minutes: i64, ambient_c: f32, load: f32, fault_k: f32, learns: bool) -> f32 {
            let mut worst = f32::NEG_INFINITY;
            for _ in 0..minutes {
                self.minute += 1;
                let target = ambient_c + 9.0 + 21.0 * load + fault_k;
                self.level_c = target + (self.level_c - target) * libm::expf(-60.0 / 900.0);
                let difference_k = self.level_c - ambient_c;
                let at = Micros::from_secs(60 * self.minute);
                let housing = Housing { at, level_c: self.level_c, difference_k, speed: 1.0, load };
                if let Some(excess) = self.thermal.push(&housing) {
                    worst = worst.max(excess.residual_k - excess.limit_k);
                }
                if learns {
                    self.thermal.learn(at);
                }
            }
            worst
        }
    }

    #[test]
    fn steps_of_load_teach_the_model_and_a_fault_stands_out_at_any_ambient() {
        for ambient in [-10.0, 22.0, 38.0] {
            let mut plant = Plant { thermal: Thermal::default(), level_c: ambient + 23.7, minute: 0 };
            for load in [0.7, 0.3, 1.0, 0.5, 0.9, 0.7] {
                assert!(plant.run(90, ambient, load, 0.0, true) < 0.0, "a load of {load} at {ambient} is a fault");
            }
            let [a, b, tau_h] = plant.thermal.known;
            assert!((a - 9.0).abs() < 0.5 && (b - 21.0).abs() < 0.7 && (tau_h - 0.25).abs() < 0.02, "{a} {b} {tau_h}");
            assert!(plant.run(90, ambient, 0.4, 0.0, true) < -4.0, "a healthy load between those known");
            // Three hours of failing cooling, learning all the while.
            let worst = plant.run(180, ambient, 0.4, 14.0, true);
            assert!(worst > 2.0, "14 K too warm at {ambient}: {worst}");
        }
    }

    #[test]
    fn where_the_machine_has_never_been_nothing_is_said() {
        let mut plant = Plant { thermal: Thermal::default(), level_c: 45.0, minute: 0 };
        assert_eq!(plant.run(30, 22.0, 0.3, 0.0, true), f32::NEG_INFINITY, "half an hour teaches nothing yet");
        plant.run(300, 22.0, 0.3, 0.0, true);
        assert!(plant.run(200, 22.0, 1.0, 0.0, false) < 0.0, "a load of which nothing is known");
        assert!(plant.run(200, 22.0, 0.3, 15.0, false) > 0.0, "the load that is known");
    }
}
