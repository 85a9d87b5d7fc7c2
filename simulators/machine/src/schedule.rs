//! Speed, load and severities as pure functions of time, so that every axis and the truth read the same world.
//!
//! Speed is piecewise linear and the shaft's angle is its exact integral: asking at any time, in any order, gives the same angle.
//! Live commands are further entries that start no earlier than what has already been synthesised.

use crate::random;
use crate::spec::{FaultChange, FaultKind, Growth, LoadChange, MachineSpec};

/// What the machine does over time.
#[derive(Debug, Clone)]
pub struct Schedule {
    legs: Vec<Leg>,
    faults: Vec<FaultChange>,
    nominal_rpm: f64,
    wander_rev: f64,
    load_noise: f64,
    day: crate::spec::DayCycle,
    seed: u64,
}

impl Schedule {
    pub(crate) fn new(spec: &MachineSpec, seed: u64) -> Self {
        let start =
            Leg { start_s: 0.0, ramp_s: 0.0, from: (spec.nominal_rpm, 0.7), to: (spec.nominal_rpm, 0.7), revs: 0.0 };
        let mut schedule = Self {
            legs: vec![start],
            faults: Vec::new(),
            nominal_rpm: spec.nominal_rpm,
            wander_rev: spec.wander_rev,
            load_noise: spec.load_noise,
            day: spec.day,
            seed,
        };
        let mut changes = spec.load_changes.clone();
        changes.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        changes.iter().for_each(|change| schedule.add_load(change));
        spec.faults.iter().for_each(|change| schedule.add_fault(*change));
        schedule
    }

    /// Takes a load change; later entries stay and are rebuilt on it.
    pub(crate) fn add_load(&mut self, change: &LoadChange) {
        let place = self.legs.partition_point(|leg| leg.start_s <= change.at_s);
        let later: Vec<Leg> = self.legs.split_off(place);
        self.push_leg(change.at_s, change.ramp_s, (change.rpm, change.load));
        for leg in later {
            self.push_leg(leg.start_s, leg.ramp_s, leg.to);
        }
    }

    pub(crate) fn add_fault(&mut self, change: FaultChange) {
        let place = self.faults.partition_point(|other| other.start_s <= change.start_s);
        self.faults.insert(place, change);
    }

    /// Shaft speed in revolutions per minute, without the wander.
    pub fn rpm(&self, t_s: f64) -> f64 {
        self.leg(t_s).at(t_s).0
    }

    /// Speed against nominal.
    pub(crate) fn speed_ratio(&self, t_s: f64) -> f64 {
        self.rpm(t_s) / self.nominal_rpm
    }

    /// Load: what is scheduled, the daily cycle and the slow fluctuation; 1 is full load, and a stopped machine has none.
    pub fn load(&self, t_s: f64) -> f64 {
        let (rpm, scheduled) = self.leg(t_s).at(t_s);
        if rpm <= 0.0 {
            return 0.0;
        }
        let fluctuation = self.load_noise * random::drifting(self.seed, KEY_LOAD, t_s, LOAD_PERIOD_S);
        (scheduled + self.day.load_swing * self.day.phase(t_s)).max(0.0) * (1.0 + fluctuation).max(0.0)
    }

    /// Revolutions since the start, with the slow wander of the phase.
    pub fn revolutions(&self, t_s: f64) -> f64 {
        let phase = random::unit(self.seed, KEY_WANDER, 0);
        let wander = |period_s: f64, offset: f64| libm::sin(std::f64::consts::TAU * (t_s / period_s + offset));
        let slow = 0.7 * wander(8.3, phase) + 0.3 * wander(3.1, phase * 7.0);
        self.leg(t_s).revs_at(t_s) + self.wander_rev * slow
    }

    /// Whether speed is scheduled to move at this time: the sign of the acceleration.
    pub(crate) fn acceleration(&self, t_s: f64) -> f64 {
        let leg = self.leg(t_s);
        if t_s < leg.start_s + leg.ramp_s { leg.to.0 - leg.from.0 } else { 0.0 }
    }

    /// Severity of one fault.
    pub fn severity(&self, kind: FaultKind, t_s: f64) -> f64 {
        self.trace(kind, t_s).0
    }

    /// Severity, and since when it has been above zero.
    pub(crate) fn trace(&self, kind: FaultKind, t_s: f64) -> (f64, f64) {
        let (mut severity, mut since_s) = (0.0, 0.0);
        let mut changes = self.faults.iter().filter(|change| change.kind == kind).peekable();
        while let Some(change) = changes.next() {
            if change.start_s > t_s {
                break;
            }
            let until = changes.peek().map_or(t_s, |next| next.start_s.min(t_s));
            if severity <= 0.0 {
                since_s = change.start_s;
            }
            severity = grown(severity, change, until);
        }
        (severity, since_s)
    }

    /// When the fault reaches severity 1 by what is scheduled now.
    pub(crate) fn end_of_life(&self, kind: FaultKind, t_s: f64) -> Option<f64> {
        let current = self.faults.iter().rfind(|change| change.kind == kind && change.start_s <= t_s)?;
        (current.severity >= 1.0).then_some(current.start_s + current.growth_s)
    }

    fn push_leg(&mut self, start_s: f64, ramp_s: f64, to: (f64, f64)) {
        let last = self.leg(start_s);
        let leg = Leg { start_s, ramp_s, from: last.at(start_s), to, revs: last.revs_at(start_s) };
        self.legs.push(leg);
    }

    fn leg(&self, t_s: f64) -> &Leg {
        let place = self.legs.partition_point(|leg| leg.start_s <= t_s);
        &self.legs[place.saturating_sub(1)]
    }
}

/// From one operating point to the next, and then held.
#[derive(Debug, Clone)]
struct Leg {
    start_s: f64,
    ramp_s: f64,
    from: (f64, f64),
    to: (f64, f64),
    revs: f64,
}

impl Leg {
    fn at(&self, t_s: f64) -> (f64, f64) {
        let elapsed = (t_s - self.start_s).max(0.0);
        if elapsed >= self.ramp_s {
            return self.to;
        }
        let x = elapsed / self.ramp_s;
        (self.from.0 + (self.to.0 - self.from.0) * x, self.from.1 + (self.to.1 - self.from.1) * x)
    }

    fn revs_at(&self, t_s: f64) -> f64 {
        let elapsed = (t_s - self.start_s).max(0.0);
        let ramping = elapsed.min(self.ramp_s);
        let mean_rpm = (self.from.0 + self.at(self.start_s + ramping).0) / 2.0;
        let held = elapsed - ramping;
        let ramped = if ramping > 0.0 { ramping * mean_rpm } else { 0.0 };
        self.revs + (ramped + held * self.to.0) / 60.0
    }
}

fn grown(from: f64, change: &FaultChange, t_s: f64) -> f64 {
    let elapsed = t_s - change.start_s;
    if elapsed >= change.growth_s {
        return change.severity;
    }
    let x = (elapsed / change.growth_s).clamp(0.0, 1.0);
    let share = match change.growth {
        Growth::Linear => x,
        Growth::Exponential => (libm::exp(4.0 * x) - 1.0) / (libm::exp(4.0) - 1.0),
    };
    from + (change.severity - from) * share
}

const KEY_LOAD: u64 = 0x6c6f_6164_0001;
const KEY_WANDER: u64 = 0x7761_6e64_0001;
const LOAD_PERIOD_S: f64 = 17.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn change(at_s: f64, rpm: f64, ramp_s: f64) -> LoadChange {
        LoadChange { at_s, rpm, load: 0.5, ramp_s }
    }

    #[test]
    fn revolutions_are_the_integral_of_speed_across_steps_and_ramps() {
        let mut spec = MachineSpec::named("m");
        spec.wander_rev = 0.0;
        spec.load_changes = vec![change(10.0, 3000.0, 20.0), change(20.0, 600.0, 0.0), change(50.0, 0.0, 5.0)];
        let schedule = Schedule::new(&spec, 1);
        let step = 1e-3;
        let mut sum = 0.0;
        for k in 0..70_000 {
            let t = (f64::from(k) + 0.5) * step;
            sum += schedule.rpm(t) / 60.0 * step;
        }
        // The midpoint rule is exact on lines and on steps that fall on the grid; 1e-6 covers the rounding of 70,000 sums.
        assert!((schedule.revolutions(70.0) - sum).abs() < 1e-6, "{} against {sum}", schedule.revolutions(70.0));
        assert_eq!(schedule.rpm(60.0), 0.0);
        assert_eq!(schedule.load(60.0), 0.0);
    }

    #[test]
    fn a_live_change_before_a_scheduled_one_leaves_the_past_alone() {
        let mut spec = MachineSpec::named("m");
        spec.load_changes = vec![change(100.0, 3000.0, 0.0)];
        let mut schedule = Schedule::new(&spec, 1);
        let before = schedule.revolutions(30.0);
        schedule.add_load(&change(40.0, 750.0, 0.0));
        assert_eq!(schedule.revolutions(30.0), before);
        assert_eq!(schedule.rpm(50.0), 750.0);
        assert_eq!(schedule.rpm(150.0), 3000.0);
    }

    #[test]
    fn a_fault_grows_heals_and_remembers_when_it_began() {
        let mut spec = MachineSpec::named("m");
        let kind = FaultKind::InnerRace;
        spec.faults = vec![
            FaultChange { kind, start_s: 10.0, growth_s: 10.0, severity: 0.8, growth: Growth::Linear },
            FaultChange { kind, start_s: 40.0, growth_s: 0.0, severity: 0.0, growth: Growth::Linear },
            FaultChange { kind, start_s: 60.0, growth_s: 100.0, severity: 1.0, growth: Growth::Exponential },
        ];
        let schedule = Schedule::new(&spec, 1);
        assert_eq!(schedule.severity(kind, 10.0), 0.0);
        assert_eq!(schedule.trace(kind, 15.0), (0.4, 10.0));
        assert_eq!(schedule.severity(kind, 45.0), 0.0);
        assert_eq!(schedule.trace(kind, 160.0), (1.0, 60.0));
        assert!(schedule.severity(kind, 110.0) < 0.13, "slow at first");
        assert_eq!(schedule.end_of_life(kind, 100.0), Some(160.0));
        assert_eq!(schedule.end_of_life(kind, 30.0), None);
    }
}
