//! A running machine: blocks of vibration per axis, readings, live commands, and the truth.

use crate::axis::{Axis, Synthesiser};
use crate::schedule::Schedule;
use crate::spec::{FaultChange, LoadChange, MachineSpec, SpecError};
use crate::thermal::{self, Thermal};
use crate::truth::Truth;

/// One simulated machine. Axes advance independently, each in its own order; all see the same shaft.
#[derive(Debug, Clone)]
pub struct Machine {
    spec: MachineSpec,
    seed: u64,
    schedule: Schedule,
    axes: [Synthesiser; 3],
    thermal: Thermal,
}

impl Machine {
    /// Builds the machine that `spec` describes; `seed` fixes noise, phases and slip.
    pub fn new(spec: MachineSpec, seed: u64) -> Result<Self, SpecError> {
        spec.check()?;
        let schedule = Schedule::new(&spec, seed);
        let axes = Axis::ALL.map(|axis| Synthesiser::new(axis, &spec, seed));
        let thermal = Thermal::new(&spec, &schedule);
        Ok(Self { spec, seed, schedule, axes, thermal })
    }

    /// Writes the next `out.len()` samples of an axis, in g; sample n of an axis belongs to time n / `rate_hz`.
    pub fn vibration(&mut self, axis: Axis, out: &mut [f32]) {
        self.axes[axis as usize].fill(out, &self.spec, &self.schedule);
    }

    /// Temperature of the bearing housing as its sensor shows it, in degrees Celsius. Times must not go back.
    pub fn temperature(&mut self, t_s: f64) -> f32 {
        let value_c = self.thermal.at(t_s, &self.spec, &self.schedule);
        thermal::sensed_c(value_c, t_s, 0, &self.spec, self.seed) as f32
    }

    /// Moves a fault towards `change.severity`; a start that lies in the past becomes [`Self::now_s`]. Returns when it starts.
    pub fn set_fault(&mut self, change: FaultChange) -> Result<f64, SpecError> {
        self.spec.check_fault(&change)?;
        let start_s = change.start_s.max(self.now_s());
        self.schedule.add_fault(FaultChange { start_s, ..change });
        Ok(start_s)
    }

    /// Moves speed and load; a time that lies in the past becomes [`Self::now_s`]. Returns when it starts.
    pub fn set_load(&mut self, change: LoadChange) -> Result<f64, SpecError> {
        self.spec.check_load(&change)?;
        let at_s = change.at_s.max(self.now_s());
        self.schedule.add_load(&LoadChange { at_s, ..change });
        Ok(at_s)
    }

    /// The earliest moment that no axis and no reading has seen yet: where a live command takes effect.
    pub fn now_s(&self) -> f64 {
        let settled = self.axes.iter().map(Synthesiser::settled).max().unwrap_or(0);
        (settled as f64 / self.spec.rate_hz).max(self.thermal.asked_s())
    }

    /// Number of the next sample of an axis.
    pub fn position(&self, axis: Axis) -> u64 {
        self.axes[axis as usize].index()
    }

    /// Ambient temperature as its sensor shows it, in degrees Celsius.
    pub fn ambient(&self, t_s: f64) -> f32 {
        thermal::sensed_c(thermal::ambient_c(t_s, &self.spec), t_s, 1, &self.spec, self.seed) as f32
    }

    /// Shaft speed as a tachometer shows it, in revolutions per minute.
    pub fn speed(&self, t_s: f64) -> f32 {
        self.schedule.rpm(t_s) as f32
    }

    /// Shaft revolutions since the start: one tacho pulse falls on each whole number.
    pub fn revolutions(&self, t_s: f64) -> f64 {
        self.schedule.revolutions(t_s)
    }

    /// Pulses of a tachometer with so many evenly spaced ones to a revolution, in `from_s..to_s`: the number of each since the start and its
    /// time. The one at the very start is number 0.
    pub fn pulses(&self, per_rev: u16, from_s: f64, to_s: f64) -> Vec<(u64, f64)> {
        let count = |t_s: f64| self.schedule.revolutions(t_s) * f64::from(per_rev.max(1));
        // The wander of the phase may turn a standing shaft back a little: a pulse comes once.
        let first = count(from_s).ceil().max(0.0) as u64;
        (first..)
            .map_while(|number| {
                let wanted = number as f64;
                (count(to_s) > wanted).then(|| {
                    let (mut low_s, mut high_s) = (from_s, to_s);
                    for _ in 0..HALVINGS {
                        let middle_s = 0.5 * (low_s + high_s);
                        if count(middle_s) < wanted { low_s = middle_s } else { high_s = middle_s }
                    }
                    (number, high_s)
                })
            })
            .collect()
    }

    /// Load; 1 is full load.
    pub fn load(&self, t_s: f64) -> f32 {
        self.schedule.load(t_s) as f32
    }

    /// What is really the matter at `t_s`.
    pub fn truth(&self, t_s: f64) -> Truth {
        Truth::read(t_s, &self.schedule)
    }

    /// What the machine was built from (live commands are not in it).
    pub fn spec(&self) -> &MachineSpec {
        &self.spec
    }
}

/// Of a tenth of a second: far below a microsecond.
const HALVINGS: u32 = 40;
