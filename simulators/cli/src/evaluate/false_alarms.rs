//! Months of healthy machines through the production monitor, and how late faults are seen.
//!
//! Each machine gives one window of vibration every five minutes, with speed, load, housing and ambient temperature. Speed and load
//! change every shift, the load follows the day, the surroundings follow day and season, machines stand still on Sundays, and in the
//! middle of the month the sensor is exchanged for one that reads otherwise, which the machine is told as maintenance.

use kilter_machine::{FaultChange, FaultKind, Growth, LoadChange, MachineSpec};
use kilter_monitor::{Output, What};
use kilter_signal::table::{Schema, find};
use kilter_types::{AlarmState, FeatureRow, GroupKind, MachineEvent, Micros, OperatingState, Quality, Role, Score};

use super::{
    Row,
    bench::{Bench, Watch},
    mix, on_all_cores, unit,
};
use crate::args::EvaluateArgs;

pub(super) fn evaluate(args: &EvaluateArgs) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
    let mut rows = healthy(args)?;
    if !args.healthy_only {
        for kind in FAULTS {
            rows.extend(delays(kind, args)?);
        }
    }
    let notes = [
        "statistics learned on the device, rules and physics decide: no artifact, the kernel is that of rules",
        "baseline: the fixed threshold of 2.8 mm/s in five of eight windows",
    ];
    Ok((rows, notes.map(str::to_owned).into()))
}

/// Machine-months without a fault: alarms raised, by the monitor and by the fixed threshold.
fn healthy(args: &EvaluateArgs) -> anyhow::Result<Vec<Row>> {
    let run = |machine: u64| {
        let mut watched = Watched::new(args, machine)?;
        for number in 0..MONTH_WINDOWS {
            if number == MONTH_WINDOWS / 2 {
                watched.exchange_sensor(number);
            }
            watched.step(number, None)?;
        }
        Ok(watched)
    };
    let (mut alarms, mut fixed, mut windows) = (0usize, 0usize, 0u64);
    for (machine, watched) in on_all_cores(0..args.machine_months, run)?.into_iter().enumerate() {
        for (number, cause) in &watched.raised {
            eprintln!("machine {machine}: window {number}: {cause}");
        }
        alarms += watched.raised.len();
        fixed += watched.fixed.raised.len();
        windows += watched.windows;
    }
    let months = args.machine_months as f64;
    let name = format!("{} machine-months", args.machine_months);
    let row = |metric: &str, value: f64, baseline| Row::new(SUITE, &name, args.seed, metric, value, baseline);
    Ok(vec![
        row("false alarms", alarms as f64, Some(fixed as f64)),
        row("false alarms per machine-month", alarms as f64 / months, Some(fixed as f64 / months)),
        row("the same, 95 % upper bound", most_of(alarms) / months, Some(f64::from(args.budget))),
        row("windows judged", windows as f64, None),
    ])
}

/// The expected number of alarms that is no longer believed at 95 % where so few were counted: a Poisson bound.
fn most_of(alarms: usize) -> f64 {
    let at_most = |expected: f64| {
        let terms = (1..=alarms).scan((-expected).exp(), |term, k| {
            *term *= expected / k as f64;
            Some(*term)
        });
        (-expected).exp() + terms.sum::<f64>()
    };
    let (mut low, mut high) = (0.0, 10.0 + 3.0 * alarms as f64);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if at_most(middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

/// Faults that grow over five days on a machine that ran for five: hours from the start to the first alarm.
fn delays(kind: FaultKind, args: &EvaluateArgs) -> anyhow::Result<Vec<Row>> {
    let severity = args.severity;
    let run = |machine: u64| {
        let mut watched = Watched::new(args, 1_000 + machine)?;
        for number in 0..2 * FAULT_WINDOWS {
            let grown = number.saturating_sub(FAULT_WINDOWS) as f64 / FAULT_WINDOWS as f64;
            watched.step(number, (grown > 0.0).then_some((kind, severity * grown)))?;
        }
        let first = |raised: &[(u64, String)]| {
            let after = raised.iter().find(|(number, _)| *number >= FAULT_WINDOWS);
            after.map_or(f64::INFINITY, |(number, _)| (number - FAULT_WINDOWS) as f64 * PERIOD_S / 3_600.0)
        };
        Ok((first(&watched.raised), first(&watched.fixed.raised)))
    };
    let (mut ours, mut fixed): (Vec<f64>, Vec<f64>) = on_all_cores(0..args.faulty_machines, run)?.into_iter().unzip();
    let name = format!("{} x {}", args.faulty_machines, kind.word());
    let found = |delays: &[f64]| delays.iter().filter(|d| d.is_finite()).count() as f64;
    let median = |delays: &mut Vec<f64>| {
        delays.sort_by(f64::total_cmp);
        delays.get(delays.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let row =
        |metric: &str, value: f64, baseline: f64| Row::new(SUITE, &name, args.seed, metric, value, Some(baseline));
    Ok(vec![
        row("found", found(&ours), found(&fixed)),
        row("median delay, hours", median(&mut ours), median(&mut fixed)),
    ])
}

/// One machine with its monitor.
pub(super) struct Watched {
    pub(super) bench: Bench,
    spec: MachineSpec,
    number: u64,
    seed: u64,
    pub(super) raised: Vec<(u64, String)>,
    fixed: Fixed,
    windows: u64,
    /// Windows of vibration in which it ran steadily and nothing was wrong, where somebody wants them.
    pub(super) rows: Option<Vec<FeatureRow>>,
    /// Deciding scores by the end of their window, where somebody wants them.
    pub(super) scores: Option<Vec<(Micros, Score)>>,
}

/// The fixed threshold: so many of the last windows above it raise an alarm, as many below clear it.
#[derive(Default)]
struct Fixed {
    recent: u8,
    on: bool,
    raised: Vec<(u64, String)>,
}

impl Watched {
    pub(super) fn new(args: &EvaluateArgs, number: u64) -> anyhow::Result<Self> {
        let seed = mix(args.seed, number, 0);
        // Machines of one make differ a little.
        let vary = |purpose: u64, spread: f64| 1.0 + spread * (2.0 * unit(mix(seed, purpose, 1)) - 1.0);
        let mut spec = MachineSpec::named("machine");
        spec.unbalance_g *= vary(1, 0.4);
        spec.misalignment_g *= vary(2, 0.4);
        spec.noise_g *= vary(3, 0.2);
        spec.resonant_noise_g *= vary(4, 0.2);
        spec.day.load_swing = 0.1;
        spec.thermal.ambient_swing_c = 4.0;
        // A shift of windows: five hours would teach a machine on one window in five minutes too little.
        let commissioning = (SHIFT_S / PERIOD_S) as u32;
        let watch = Watch { window: args.window, period_s: PERIOD_S, commissioning, budget: args.budget };
        let bench = Bench::new("pump", &spec, watch)?;
        let (raised, fixed) = (Vec::new(), Fixed::default());
        Ok(Self { bench, spec, number, seed, raised, fixed, windows: 0, rows: None, scores: None })
    }

    /// Another sensor: it reads a tenth more and is noisier.
    pub(super) fn exchange_sensor(&mut self, number: u64) {
        self.bench.gain = 1.1;
        self.spec.noise_g *= 1.2;
        let at = self.bench.time(number);
        self.bench.monitor.machine_event(at, MachineEvent::Maintenance, &mut |_| {});
    }

    pub(super) fn step(&mut self, number: u64, fault: Option<(FaultKind, f64)>) -> anyhow::Result<()> {
        let t_s = number as f64 * PERIOD_S;
        let day = (t_s / DAY_S) as u64;
        let shift = (t_s / SHIFT_S) as u64;
        let sunday = day % 7 == 6;
        let (rpm, load) = SHIFTS[(mix(self.seed, shift % 21, 2) % SHIFTS.len() as u64) as usize];
        let mut spec = self.spec.clone();
        spec.day.start_s = t_s % DAY_S;
        let season = std::f64::consts::TAU * (t_s / (365.0 * DAY_S) + self.number as f64 / 12.0);
        spec.thermal.ambient_c += 8.0 * season.sin();
        let rpm = if sunday { 0.0 } else { rpm };
        spec.load_changes = vec![LoadChange { at_s: 0.0, rpm, load: if sunday { 0.0 } else { load }, ramp_s: 0.0 }];
        spec.faults = fault
            .map(|(kind, severity)| FaultChange { kind, start_s: 0.0, growth_s: 0.0, severity, growth: Growth::Linear })
            .into_iter()
            .collect();
        let (raised, fixed, windows, rows) = (&mut self.raised, &mut self.fixed, &mut self.windows, &mut self.rows);
        let scores = &mut self.scores;
        let mut sink = |output: Output<'_>| match output.what {
            What::Alarm(alarm) if alarm.state == AlarmState::Raised => {
                raised.push((number, format!("{} by {:?}", alarm.cause.as_str(), alarm.source)));
            }
            What::Features(row) if row.kind == GroupKind::Vibration => {
                *windows += 1;
                let velocity = find("velocity_rms")
                    .and_then(|id| {
                        let schema = Schema::of(GroupKind::Vibration, 1);
                        schema.features().iter().position(|feature| feature.id == id)
                    })
                    .and_then(|place| row.vector.get(place));
                fixed.step(number, velocity.is_some_and(|v| v > FIXED_MM_S));
                if matches!(row.state, OperatingState::Steady(_)) && row.quality == Quality::GOOD {
                    rows.iter_mut().for_each(|rows| rows.push(row.clone()));
                }
            }
            What::Score(score) if score.role == Role::Leader => {
                let score = || Score { contributions: Default::default(), ..score.clone() };
                scores.iter_mut().for_each(|scores| scores.push((output.at, score())));
            }
            What::Alarm(_) | What::Features(_) | What::Score(_) | What::Event(_) => {}
            What::Spectrum(_) | What::State(_) | What::Trip(_) => {}
        };
        self.bench.window(number, spec, mix(self.seed, number, 3), &mut sink)
    }
}

impl Fixed {
    fn step(&mut self, number: u64, above: bool) {
        self.recent = self.recent << 1 | u8::from(above);
        let count = self.recent.count_ones();
        if !self.on && count >= 5 {
            self.on = true;
            self.raised.push((number, "velocity".to_owned()));
        } else if count == 0 {
            self.on = false;
        }
    }
}

const SUITE: &str = "false-alarms";
pub(super) const PERIOD_S: f64 = 300.0;
const DAY_S: f64 = 86_400.0;
const SHIFT_S: f64 = 8.0 * 3_600.0;
pub(super) const MONTH_WINDOWS: u64 = 30 * 288;
pub(super) const FAULT_WINDOWS: u64 = 5 * 288;
const FIXED_MM_S: f32 = 2.8;
/// Speed and load of a shift; each machine has its own week of them.
const SHIFTS: [(f64, f64); 4] = [(1_500.0, 0.7), (1_500.0, 0.9), (1_800.0, 0.9), (1_350.0, 0.5)];
pub(super) const FAULTS: [FaultKind; 6] = [
    FaultKind::OuterRace,
    FaultKind::InnerRace,
    FaultKind::RollingElement,
    FaultKind::Unbalance,
    FaultKind::Misalignment,
    FaultKind::Looseness,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::EvaluateSuite;

    /// The budget is a tenth of an alarm per machine and month, so one alarm is expected in ten months; a Poisson count with mean 1 is above 3
    /// in 1.9 % of all cases (above 2 in 8 %), so 3 is the 95 % bound. Where the rate really is the budget's, fresh seeds fail once in 53.
    #[test]
    fn ten_healthy_machine_months_with_shifts_seasons_and_another_sensor_stay_within_the_budget() {
        let args = EvaluateArgs {
            suite: EvaluateSuite::FalseAlarms,
            machine_months: 10,
            healthy_only: true,
            ..EvaluateArgs::default()
        };
        let rows = healthy(&args).expect("a run");
        assert!(rows[3].value > 10.0 * 7_000.0, "{rows:?}");
        assert!(rows[0].value <= 3.0, "{rows:?}");
    }

    #[test]
    fn twelve_alarms_in_200_months_keep_a_tenth_per_month_at_95_percent_and_13_do_not() {
        assert!(most_of(12) < 20.0 && most_of(13) > 20.0, "{} and {}", most_of(12), most_of(13));
        assert!((most_of(0) - 20f64.ln()).abs() < 1e-6, "{}", most_of(0));
    }
}
