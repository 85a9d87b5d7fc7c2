//! What a baseline says of made-up machines whose features move together, drift with the season and fall ill.

use std::vec::Vec;

use kilter_types::{FeatureId, FeatureRef, GroupKind, Micros};

use super::{Baseline, Verdict, Window, floats};

const FEATURES: usize = 26;
const WINDOWS: u32 = 60;
/// How often a healthy window may lie above the threshold.
const RATE: f32 = 1e-5;

/// Sums of twelve evenly spread numbers, so nearly normal, the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        (0..12).map(|_| self.even()).sum::<f32>() - 6.0
    }

    fn even(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / 16_777_216.0
    }
}

/// Sizes that a load moves all together, two more things some, and each its own noise; by a tenth or so.
pub(super) struct Machine {
    noise: Noise,
    mix: Vec<[f32; 3]>,
    factors: [f32; 3],
    own: Vec<f32>,
    window: u32,
    swing: f32,
}

impl Machine {
    pub(super) fn new(seed: u64, swing: f32) -> Self {
        let mut noise = Noise(seed);
        let mix = (0..FEATURES).map(|_| [0.8 * noise.next().abs(), 0.5 * noise.next(), 0.3 * noise.next()]).collect();
        Self { noise, mix, factors: [0.0; 3], own: std::vec![0.0; FEATURES], window: 0, swing }
    }

    /// The next window's values; `fault` gets the logarithms before they become sizes.
    pub(super) fn next(&mut self, fault: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        let day = core::f32::consts::TAU * self.window as f32 / 288.0;
        for factor in &mut self.factors {
            *factor = 0.9 * *factor + 0.436 * self.noise.next();
        }
        let mut values = std::vec![1.0; FEATURES];
        for (i, value) in values.iter_mut().enumerate() {
            self.own[i] = 0.3 * self.own[i] + 0.954 * self.noise.next();
            let mix = self.mix[i];
            let load = self.factors[0] + self.swing * libm::sinf(day);
            let sum = mix[0] * load + mix[1] * self.factors[1] + mix[2] * self.factors[2] + 0.6 * self.own[i];
            *value = libm::expf(fault(i, 0.1 * sum));
        }
        self.window += 1;
        values
    }
}

pub(super) struct Bench {
    pub(super) baseline: Baseline<Vec<f32>>,
    features: Vec<FeatureRef>,
}

impl Bench {
    fn new() -> Self {
        Self::with(WINDOWS)
    }

    pub(super) fn with(windows: u32) -> Self {
        let baseline =
            Baseline::new(GroupKind::Vibration, FEATURES, 2, windows, RATE, std::vec![0.0; floats(FEATURES, 2)]);
        let features = (0..FEATURES).map(|i| FeatureRef { id: FeatureId(i as u16), hash: 0 }).collect();
        Self { baseline, features }
    }

    pub(super) fn push(&mut self, values: &[f32], trusted: bool) -> Verdict {
        let window = Window { bin: 1, start: Micros(0), end: Micros(1), values, valid: u64::MAX, trusted };
        self.baseline.push(&window, &self.features)
    }

    /// The anomaly as a share of the threshold.
    fn ratio(&mut self, values: &[f32], trusted: bool) -> Option<f32> {
        self.push(values, trusted).distance.map(|d| d.anomaly / d.threshold)
    }
}

/// Runs a healthy machine; in how many windows of those after commissioning the score lay above its threshold.
fn healthy(bench: &mut Bench, machine: &mut Machine, windows: u32, trusted: bool) -> (u32, u32) {
    let (mut above, mut judged) = (0, 0);
    for _ in 0..windows {
        let values = machine.next(|_, x| x);
        if let Some(ratio) = bench.ratio(&values, trusted) {
            judged += 1;
            above += u32::from(ratio > 1.0);
        }
    }
    (above, judged)
}

#[test]
fn learning_that_goes_on_makes_a_machine_that_was_commissioned_in_an_hour_quiet_over_a_season() {
    let (mut with, mut without, mut judged) = (0, 0, 0);
    for seed in 1..=8 {
        for learns in [true, false] {
            let (mut bench, mut machine) = (Bench::new(), Machine::new(seed, 0.7));
            healthy(&mut bench, &mut machine, WINDOWS, true);
            healthy(&mut bench, &mut machine, 2_000, learns);
            let (above, windows) = healthy(&mut bench, &mut machine, 2_000, learns);
            *if learns { &mut with } else { &mut without } += above;
            judged += windows / 2;
        }
    }
    std::println!("of {judged} healthy windows {with} above the threshold, {without} if learning had ended");
    assert!(with * 3 < without && with * 100 < judged, "{with} and {without} of {judged}");
}

#[test]
fn a_fault_that_grows_slowly_is_not_learned() {
    for seed in 1..=6 {
        let (mut bench, mut machine) = (Bench::new(), Machine::new(seed, 0.0));
        healthy(&mut bench, &mut machine, WINDOWS + 2_000, true);
        // Every third size grows fourfold within a week; a suspicion would stop the learning sooner than this.
        let mut last = 0.0;
        for step in 0..2_016 {
            let grown = 0.693 * step as f32 / 2_016.0;
            let values = machine.next(|i, x| if i % 3 == 1 { x + 2.0 * grown } else { x });
            last = bench.ratio(&values, true).unwrap_or(0.0);
        }
        assert!(last > 1.0, "machine {seed}: {last}");
    }
}

#[test]
fn what_breaks_the_pattern_stands_out_more_than_what_follows_it() {
    let (mut with, mut against) = (0.0, 0.0);
    for seed in 1..=8 {
        let (mut bench, mut machine) = (Bench::new(), Machine::new(seed, 0.0));
        healthy(&mut bench, &mut machine, WINDOWS + 1_000, true);
        let mix: Vec<f32> = machine.mix.iter().map(|mix| mix[0]).collect();
        for (sum, turned) in [(&mut with, false), (&mut against, true)] {
            let base = machine.next(|_, x| x);
            let sign = |i: usize| if turned && i % 2 == 1 { -1.0 } else { 1.0 };
            let moved: Vec<f32> =
                base.iter().enumerate().map(|(i, v)| v * libm::expf(0.2 * sign(i) * mix[i])).collect();
            *sum += bench.ratio(&moved, false).unwrap_or(0.0);
        }
    }
    assert!(against > 1.5 * with, "with the load {with}, against it {against}");
}

#[test]
fn a_knock_in_the_first_windows_hardly_widens_what_counts_as_normal() {
    let width = |knocked: Option<usize>| {
        let (mut bench, mut machine) = (Bench::new(), Machine::new(5, 0.0));
        for window in 0..WINDOWS {
            let hit = knocked == Some(window as usize);
            let values = machine.next(|_, x| if hit { x + 3.0 } else { x });
            bench.push(&values, true);
        }
        let spread = &bench.baseline.buffer[2 * FEATURES..3 * FEATURES];
        spread.iter().sum::<f32>() / FEATURES as f32
    };
    let clean = width(None);
    for place in 0..3 {
        let knocked = width(Some(place));
        assert!(knocked < 1.3 * clean, "window {place}: {knocked} instead of {clean}");
    }
}

#[test]
fn after_a_step_in_the_healthy_level_and_maintenance_the_score_is_low_again_within_the_commissioning() {
    let (mut bench, mut machine) = (Bench::new(), Machine::new(3, 0.0));
    healthy(&mut bench, &mut machine, WINDOWS + 500, true);
    let stepped = |machine: &mut Machine| machine.next(|i, x| if i % 3 == 0 { x + 1.0 } else { x });
    let values = stepped(&mut machine);
    bench.ratio(&values, true);
    let values = stepped(&mut machine);
    assert!(bench.ratio(&values, true).is_some_and(|ratio| ratio > 1.0));
    bench.baseline.restart();
    for _ in 0..WINDOWS {
        let values = stepped(&mut machine);
        bench.push(&values, true);
    }
    let mut above = 0;
    for _ in 0..200 {
        let values = stepped(&mut machine);
        above += u32::from(bench.ratio(&values, true).is_none_or(|ratio| ratio > 1.0));
    }
    assert!(above <= 10, "{above} of 200");
}

#[test]
fn contributions_and_rest_are_the_anomaly_and_name_what_moved_m2() {
    let (mut bench, mut machine) = (Bench::new(), Machine::new(9, 0.0));
    healthy(&mut bench, &mut machine, WINDOWS + 100, true);
    for _ in 0..10 {
        let values = machine.next(|i, x| if i == 7 { x + 1.5 } else { x });
        let distance = bench.push(&values, false).distance.expect("the baseline stands");
        let sum = distance.contributions.iter().fold(0.0, |sum, c| sum + c.amount) + distance.rest;
        assert_eq!(sum.to_bits(), distance.anomaly.to_bits());
        assert!(distance.contributions.iter().all(|c| c.amount > 0.0) && distance.rest >= 0.0);
        assert_eq!(distance.contributions[0].feature, FeatureId(7));
    }
}
