//! The speed estimated from the signal: against the declared speed of recorded bearings and the true one of simulated machines, wide
//! and narrow ranges; how often it is right, how often it says that it is unsure, and never wrong without saying so.

mod support;

use kilter_machine::{Axis, FaultChange, FaultKind, GearSpec, Growth, LoadChange, Machine, MachineSpec};
use kilter_signal::{
    fft::{self, Plan},
    spectrum::Amplitudes,
    speed::{self, Estimate, Range},
    welch,
};
use kilter_types::Hertz;

/// The mean spectrum over windows of four seconds.
struct Averager {
    plan: Plan<Vec<f32>>,
    scratch: Vec<f32>,
    rate: Hertz,
}

impl Averager {
    fn new(rate: Hertz, samples: usize) -> Self {
        let len = fft::longest_len(samples.min((4.0 * rate.0) as usize)).expect("long enough");
        let plan = Plan::new(len, vec![0.0; fft::fast_table_len(len)]).expect("supported");
        Self { plan, scratch: vec![0.0; welch::scratch_len(len)], rate }
    }

    fn ask<R>(&mut self, samples: &[f32], range: Range, ask: impl Fn(&Amplitudes<'_>, &mut [f32]) -> R) -> R {
        let mut lines = vec![0.0; self.plan.len() / 2];
        welch::density(samples, self.rate, &self.plan, &mut self.scratch, &mut lines).expect("the buffers fit");
        lines.iter_mut().for_each(|density| *density = density.sqrt());
        let amplitudes = Amplitudes { lines: &lines, spacing_hz: self.rate.0 / self.plan.len() as f32 };
        let mut work = vec![0.0; speed::work_len(&amplitudes, range)];
        ask(&amplitudes, &mut work)
    }

    fn estimate(&mut self, samples: &[f32], range: Range) -> Option<Estimate> {
        self.ask(samples, range, |amplitudes, work| speed::estimate(amplitudes, range, work))
    }
}

/// Right within 1 %, unsure, or wrong and sure of it.
#[derive(Default, Debug, PartialEq, Eq, Clone, Copy)]
struct Tally {
    right: u32,
    unsure: u32,
    wrong: u32,
}

impl Tally {
    fn count(&mut self, estimate: Option<Estimate>, truth_hz: f32) {
        match estimate.and_then(|e| e.sure()) {
            None => self.unsure += 1,
            Some(shaft) if (shaft.0 / truth_hz - 1.0).abs() < 0.01 => self.right += 1,
            Some(_) => self.wrong += 1,
        }
    }
}

fn narrow(truth_hz: f32) -> Range {
    Range::new(Hertz(0.8 * truth_hz), Hertz(1.15 * truth_hz)).expect("a range")
}

#[test]
fn recorded_bearings_give_their_declared_speed_or_doubt() {
    let Some(root) = support::data(9) else { return };
    let root = root.join("cwru");
    let meta = support::json(root.join("meta.json"));
    let mut tally = [Tally::default(); 2];
    for (name, meta) in meta.as_object().expect("an object") {
        let number = |key: &str| meta[key].as_f64().expect("a number") as f32;
        let samples = support::npy(root.join(format!("{name}.npy")));
        let (rate, truth_hz) = (Hertz(number("fs_hz")), number("rpm") / 60.0);
        let samples = &samples[..samples.len().min(10 * rate.0 as usize)];
        for (tally, range) in tally.iter_mut().zip([Range::usual(), narrow(truth_hz)]) {
            let estimate = Averager::new(rate, samples.len()).estimate(samples, range);
            println!("{name}: {truth_hz:.3} Hz, {estimate:?}");
            tally.count(estimate, truth_hz);
        }
    }
    println!("600 to 3600 rpm: {:?}; from 20 % below to 15 % above the nameplate: {:?}", tally[0], tally[1]);
    assert_eq!((tally[0].wrong, tally[1].wrong), (0, 0));
}

const FAULTS: [Option<FaultKind>; 11] = [
    None,
    Some(FaultKind::Unbalance),
    Some(FaultKind::Misalignment),
    Some(FaultKind::Looseness),
    Some(FaultKind::Gear),
    Some(FaultKind::Cavitation),
    Some(FaultKind::OuterRace),
    Some(FaultKind::InnerRace),
    Some(FaultKind::RollingElement),
    Some(FaultKind::Cage),
    Some(FaultKind::Cooling),
];

#[test]
fn simulated_machines_of_every_fault_and_speed_are_never_given_a_wrong_speed_without_doubt() {
    let mut all = [Tally::default(); 2];
    for (f, fault) in FAULTS.into_iter().enumerate() {
        let mut tally = [Tally::default(); 2];
        for (i, rpm) in [740.0, 980.0, 1180.0, 1480.0, 1785.0, 2240.0, 2950.0, 3540.0].into_iter().enumerate() {
            for severity in [0.3, 0.9] {
                let mut spec = MachineSpec::named("m");
                spec.nominal_rpm = rpm;
                spec.gear = (fault == Some(FaultKind::Gear)).then_some(GearSpec { teeth: 23, mesh_g: 0.2 });
                spec.faults = fault
                    .map(|kind| FaultChange { kind, start_s: 0.0, growth_s: 0.0, growth: Growth::Linear, severity })
                    .into_iter()
                    .collect();
                let rate = Hertz(spec.rate_hz as f32);
                let mut machine = Machine::new(spec, 100 * f as u64 + i as u64).expect("a good spec");
                let mut samples = vec![0.0; (8.0 * rate.0) as usize];
                machine.vibration(Axis::Vertical, &mut samples);
                let truth_hz = rpm as f32 / 60.0;
                for (tally, range) in tally.iter_mut().zip([Range::usual(), narrow(truth_hz)]) {
                    let estimate = Averager::new(rate, samples.len()).estimate(&samples, range);
                    if estimate.and_then(|e| e.sure()).is_some_and(|s| (s.0 / truth_hz - 1.0).abs() >= 0.01) {
                        println!("WRONG {fault:?} {rpm} {severity} {range:?} {estimate:?}");
                    }
                    tally.count(estimate, truth_hz);
                }
            }
        }
        println!("{fault:?}: 600 to 3600 rpm {:?}, around the nameplate {:?}", tally[0], tally[1]);
        for (all, tally) in all.iter_mut().zip(tally) {
            all.right += tally.right;
            all.unsure += tally.unsure;
            all.wrong += tally.wrong;
        }
    }
    println!("all: 600 to 3600 rpm {:?}, around the nameplate {:?}", all[0], all[1]);
    assert_eq!((all[0].wrong, all[1].wrong), (0, 0));
}

#[test]
fn along_a_profile_the_speed_is_told_where_it_holds_and_doubted_where_it_changes() {
    let mut spec = MachineSpec::named("m");
    spec.faults = vec![FaultChange {
        kind: FaultKind::Misalignment,
        start_s: 0.0,
        growth_s: 0.0,
        growth: Growth::Linear,
        severity: 0.5,
    }];
    let change = |at_s: f64, rpm: f64, ramp_s: f64| LoadChange { at_s, rpm, load: 0.7, ramp_s };
    spec.load_changes = vec![change(0.0, 1480.0, 0.0), change(16.0, 1180.0, 8.0), change(40.0, 1780.0, 16.0)];
    let rate = Hertz(spec.rate_hz as f32);
    let mut machine = Machine::new(spec, 7).expect("a good spec");
    let mut averager = Averager::new(rate, usize::MAX);
    let (mut steady, mut moving) = (Tally::default(), Tally::default());
    for block in 0..16 {
        let mut samples = vec![0.0; averager.plan.len()];
        let from_s = machine.position(Axis::Vertical) as f64 / f64::from(rate.0);
        machine.vibration(Axis::Vertical, &mut samples);
        let until_s = machine.position(Axis::Vertical) as f64 / f64::from(rate.0);
        let (a, b) = (machine.speed(from_s) / 60.0, machine.speed(until_s) / 60.0);
        let estimate = averager.estimate(&samples, Range::usual());
        println!("block {block}: {a:.2} to {b:.2} Hz, {estimate:?}");
        let tally = if (a / b - 1.0).abs() < 0.005 { &mut steady } else { &mut moving };
        tally.count(estimate, 0.5 * (a + b));
    }
    println!("steady {steady:?}, changing {moving:?}");
    assert_eq!((steady.wrong, moving.wrong), (0, 0));
    assert!(steady.right >= 8 && steady.unsure <= 1, "{steady:?}");
}

#[test]
fn a_wrong_rate_is_told_from_a_wrong_speed_by_the_hum_of_the_mains_and_is_else_not_named() {
    let (mut named, mut falsely, mut healthy) = (0, 0, 0);
    for (seed, factor) in [0.9f32, 0.95, 1.0, 1.03, 1.07, 1.25].into_iter().enumerate() {
        for mains_hz in [50.0f64, 60.0] {
            let mut spec = MachineSpec::named("m");
            spec.nominal_rpm = 1478.0;
            spec.faults = vec![FaultChange {
                kind: FaultKind::Misalignment,
                start_s: 0.0,
                growth_s: 0.0,
                growth: Growth::Linear,
                severity: 0.5,
            }];
            let true_rate_hz = spec.rate_hz;
            let mut machine = Machine::new(spec, seed as u64).expect("a good spec");
            let mut quiet = vec![0.0; (12.0 * true_rate_hz) as usize];
            machine.vibration(Axis::Vertical, &mut quiet);
            let turn = |i: usize| std::f64::consts::TAU * 2.0 * mains_hz * i as f64 / true_rate_hz;
            let humming: Vec<f32> = quiet.iter().enumerate().map(|(i, x)| x + 0.05 * turn(i).sin() as f32).collect();
            let true_shaft = Hertz(1478.0 / 60.0);
            let range = Range::usual();
            let ask = |samples: &[f32], rate: f64, shaft: Hertz| {
                let mut averager = Averager::new(Hertz(rate as f32), samples.len());
                averager.ask(samples, range, |amplitudes, work| speed::rate_factor(amplitudes, shaft, range, work))
            };
            // Declared too fast by the factor: the shaft and the hum stand too high by it.
            let found = ask(&humming, true_rate_hz * f64::from(factor), true_shaft);
            if factor == 1.0 {
                (healthy, falsely) = (healthy + 1, falsely + u32::from(found.is_some()));
            } else {
                let close = found.is_some_and(|found| (found / factor - 1.0).abs() < 0.005);
                println!("rate times {factor}, mains {mains_hz}: {found:?}");
                named += u32::from(close);
            }
            // The rate is right and the speed is declared wrongly; and a rate that is wrong where nothing hums.
            let speed = ask(&humming, true_rate_hz, Hertz(true_shaft.0 / factor));
            let silent = ask(&quiet, true_rate_hz * f64::from(factor), true_shaft);
            (healthy, falsely) = (healthy + 2, falsely + u32::from(speed.is_some()) + u32::from(silent.is_some()));
        }
    }
    println!("wrong rate: {named} of 10 named, {falsely} of {healthy} falsely");
    assert_eq!((named, falsely), (10, 0));
}

#[test]
fn noise_single_tones_and_the_mains_have_no_speed() {
    let rate = Hertz(8192.0);
    let mut averager = Averager::new(rate, usize::MAX);
    let tones = |teeth: &[(f32, f32)], seed: u64| -> Vec<f32> {
        let noise = support::noise(4 * 8192, seed);
        let tone = |i: usize| -> f32 {
            teeth
                .iter()
                .map(|(f, a)| a * (std::f64::consts::TAU * f64::from(*f) * i as f64 / 8192.0).sin() as f32)
                .sum()
        };
        noise.iter().enumerate().map(|(i, n)| n + tone(i)).collect()
    };
    let mut sure = [0; 2];
    for seed in 0..200 {
        let noise = tones(&[], seed);
        for (sure, range) in sure.iter_mut().zip([Range::usual(), narrow(24.0)]) {
            *sure += u32::from(averager.estimate(&noise, range).is_some_and(|e| e.sure().is_some()));
        }
    }
    println!("noise: sure of {sure:?} of 200");
    assert_eq!(sure, [0, 0]);
    for (name, teeth) in [
        ("one tone", vec![(24.3f32, 1.0f32)]),
        ("the mains", vec![(50.0, 1.0), (100.0, 2.0), (150.0, 1.0), (200.0, 0.5)]),
        ("half orders", (1..=10).map(|i| (12.0 * i as f32, if i % 2 == 0 { 1.0 } else { 0.5 })).collect()),
        ("two shafts", [17.3f32, 24.1].iter().flat_map(|f| (1..=5).map(move |h| (f * h as f32, 1.0))).collect()),
        ("twice and four times only", vec![(24.3 * 2.0, 1.0), (24.3 * 4.0, 1.0)]),
    ] {
        let estimate = averager.estimate(&tones(&teeth, 1), Range::usual());
        println!("{name}: {estimate:?}");
        assert_eq!(estimate.and_then(|e| e.sure()), None, "{name}");
    }
    let comb: Vec<(f32, f32)> = (1..=5).map(|h| (24.33 * h as f32, 0.3)).collect();
    let estimate = averager.estimate(&tones(&comb, 1), Range::usual()).expect("lines stand");
    assert!((estimate.sure().expect("nothing speaks against it").0 / 24.33 - 1.0).abs() < 5e-4, "{estimate:?}");
}
