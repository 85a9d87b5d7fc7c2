//! A bearing's signs: hit rate and rate of false names side by side, on recorded bearings and on simulated machines.

mod support;

use kilter_machine::{Axis, BearingSpec, FaultChange, FaultKind, GearSpec, Growth, LoadChange, Machine, MachineSpec};
use kilter_signal::{
    bearing::{Geometry, Orders},
    bearing_sign,
    demodulate::{self, Beats, Demodulation},
    diagnose::{self, Diagnosis, Limits},
    extract::{self, Vibration, VibrationSetup},
    fft::{self, Plan},
    gear::Mesh,
    spectrum::Amplitudes,
    verdict::{self, Clear},
};
use kilter_types::{Cause, Hertz, Rpm};

/// One window length with its buffers, and mean spectra for the record.
struct Engine {
    rate: Hertz,
    plan: Plan<Vec<f32>>,
    scratch: Vec<f32>,
    work: Vec<f32>,
    means: Vec<(Demodulation, Vec<f32>, f32, f32)>,
}

impl Engine {
    fn new(rate: Hertz) -> Self {
        let len = fft::longest_len(rate.0 as usize).expect("a second is long enough");
        Self {
            rate,
            plan: Plan::new(len, vec![0.0; fft::fast_table_len(len)]).expect("supported"),
            scratch: vec![0.0; demodulate::scratch_len(len)],
            work: vec![0.0; len],
            means: Demodulation::candidates(rate).map(|d| (d, vec![0.0; len / 4], 0.0, 0.0)).collect(),
        }
    }

    fn window(&mut self, samples: &[f32], shaft: Hertz, bearing: &Orders) -> Cause {
        let mut clearest = Diagnosis::default();
        for (demodulation, power, variance, windows) in &mut self.means {
            let beats =
                demodulate::beats(samples, self.rate, demodulation, &self.plan, &mut self.scratch).expect("it fits");
            power.iter_mut().zip(beats.amplitudes.lines).for_each(|(p, a)| *p += a * a);
            *variance += beats.deviation * beats.deviation;
            *windows += 1.0;
            if let Some(sign) = bearing_sign::weigh(&beats, shaft, bearing, &mut self.work) {
                clearest = clearest.clearer(verdict::of(&sign, demodulation, &Clear::default()));
            }
        }
        clearest.cause()
    }

    /// The record from all windows so far, which are then forgotten.
    fn record(&mut self, shaft: Hertz, bearing: &Orders) -> Cause {
        let mut clearest = Diagnosis::default();
        let spacing_hz = self.rate.0 / self.plan.len() as f32;
        for (demodulation, power, variance, windows) in &mut self.means {
            let lines: Vec<f32> = power.iter().map(|p| (p / *windows).sqrt()).collect();
            let amplitudes = Amplitudes { lines: &lines, spacing_hz };
            let beats = Beats { amplitudes, deviation: (*variance / *windows).sqrt() };
            let clear = if *windows >= 4.0 { Clear::averaged() } else { Clear::default() };
            if let Some(sign) = bearing_sign::weigh(&beats, shaft, bearing, &mut self.work) {
                clearest = clearest.clearer(verdict::of(&sign, demodulation, &clear));
            }
            power.fill(0.0);
            (*variance, *windows) = (0.0, 0.0);
        }
        clearest.cause()
    }
}

/// The causes of all windows and of the record.
fn causes(samples: &[f32], rate: Hertz, rpm: Rpm, bearing: &Orders) -> (Vec<Cause>, Cause) {
    let mut engine = Engine::new(rate);
    let windows = samples.chunks_exact(rate.0 as usize);
    let windows = windows.map(|window| engine.window(window, rpm.hertz(), bearing)).collect();
    (windows, engine.record(rpm.hertz(), bearing))
}

fn scaled(bearing: &Orders, factor: f32) -> Orders {
    let Orders { bpfo, bpfi, bsf, ftf } = *bearing;
    Orders::new(bpfo * factor, bpfi * factor, bsf * factor, ftf * factor).expect("sound orders")
}

/// Hits, false names and all windows.
#[derive(Default)]
struct Count {
    right: usize,
    wrong: usize,
    total: usize,
}

impl Count {
    fn add(&mut self, found: &[Cause], allowed: &[Cause]) {
        self.total += found.len();
        self.right += found.iter().filter(|c| allowed.contains(c)).count();
        self.wrong += found.iter().filter(|c| !allowed.contains(c) && **c != Cause::Unclear).count();
    }
}

#[test]
fn recorded_races_are_named_in_every_second_and_nothing_is_with_speed_or_bearing_seven_per_cent_off() {
    let Some(root) = support::data(9) else { return };
    let meta = support::json(root.join("cwru/meta.json"));
    let (mut own, mut off) = (Count::default(), Count::default());
    for (name, meta) in meta.as_object().expect("an object") {
        let number = |key: &str| meta[key].as_f64().expect("a number") as f32;
        let (rate, rpm) = (Hertz(number("fs_hz")), Rpm(number("rpm")));
        let bearing = Orders::catalogue(meta["bearing"].as_str().expect("a name")).expect("built in");
        let samples = support::npy(root.join(format!("cwru/{name}.npy")));
        let allowed: &[Cause] = match meta["label"].as_str().expect("a label") {
            "inner_race" => &[Cause::InnerRace],
            "outer_race" => &[Cause::OuterRace],
            "ball" => &[Cause::Unclear, Cause::RollingElement],
            _ => &[Cause::Unclear],
        };
        let (windows, record) = causes(&samples, rate, rpm, &bearing);
        println!("{name:24} {:16} {windows:?}", record.as_str());
        assert!(allowed.contains(&record), "{name}: {record:?}");
        assert!(windows.iter().all(|c| allowed.contains(c)), "{name}: {windows:?}");
        own.add(&windows, allowed);
        for factor in [0.93, 1.07] {
            for (bearing, rpm) in [(scaled(&bearing, factor), rpm), (bearing, Rpm(rpm.0 * factor))] {
                let (windows, record) = causes(&samples, rate, rpm, &bearing);
                assert_eq!(record, Cause::Unclear, "{name} {factor}");
                off.add(&windows, &[Cause::Unclear]);
            }
        }
    }
    println!("declared right: {} right, {} wrong of {} windows", own.right, own.wrong, own.total);
    println!("7 % off: {} falsely named of {} windows", off.wrong, off.total);
    assert!(off.wrong * 100 <= off.total);
}

/// A machine with one fault, a bearing that is declared, and ten seconds of its vibration at 12.8 kHz.
fn simulated(kind: Option<FaultKind>, severity: f64, geometry: &(u32, f64, f64), seed: u64) -> (Vec<f32>, Rpm, Orders) {
    let mut spec = MachineSpec::named("bench");
    let rpm = 1200.0 + 150.0 * (seed % 7) as f64;
    let &(balls, ball_mm, pitch_mm) = geometry;
    let resonance_hz = 1900.0 + 450.0 * (seed % 5) as f64;
    spec.bearing = BearingSpec { balls, ball_mm, pitch_mm, resonance_hz, ..spec.bearing };
    spec.gear = Some(GearSpec { teeth: 31, mesh_g: 0.1 });
    spec.load_changes = vec![LoadChange { at_s: 0.0, rpm, load: 0.8, ramp_s: 0.0 }];
    let fault = |kind| FaultChange { kind, start_s: 0.0, growth_s: 0.0, severity, growth: Growth::Linear };
    spec.faults = kind.map(fault).into_iter().collect();
    let mut samples = vec![0.0; 4 * 12_800];
    Machine::new(spec, seed).expect("a sound spec").vibration(Axis::ALL[seed as usize % 2], &mut samples);
    let geometry = Geometry { balls: balls as u8, ball_mm: ball_mm as f32, pitch_mm: pitch_mm as f32, angle_deg: 0.0 };
    (samples, Rpm(rpm as f32), geometry.orders().expect("a bearing"))
}

/// 6205; 6203, whose orders are nearly whole numbers; a roller bearing with many elements.
const GEOMETRIES: [(u32, f64, f64); 3] = [(9, 7.94, 39.04), (8, 6.747, 28.5), (14, 7.5, 46.0)];

/// What shaft and gear say in each second.
fn shaft_and_gear(samples: &[f32], rpm: Rpm) -> Vec<Cause> {
    let plan = Plan::new(12_800, vec![0.0; fft::fast_table_len(12_800)]).expect("supported");
    let setup = VibrationSetup::new(Hertz(12_800.0)).expect("a rate").with_shaft(rpm);
    let mut scratch = vec![0.0; extract::scratch_len(12_800)];
    let mut work = vec![0.0; 2000];
    let windows = samples.chunks_exact(12_800).map(|window| {
        let mut out = Vibration::default();
        let spectra = extract::vibration(window, &setup, &plan, &mut scratch, &mut out).expect("it fits");
        let mesh = Mesh::read(&spectra.acceleration, rpm.hertz(), 31, &mut work).expect("resolved");
        let limits = Limits::default();
        diagnose::shaft_lines(&out, &limits).merge(mesh.diagnose(limits.snr)).cause()
    });
    windows.collect()
}

#[test]
fn simulated_shaft_and_gear_faults_say_their_own_cause_or_none() {
    let kinds = [
        (None, Cause::Unclear),
        (Some(FaultKind::Unbalance), Cause::Unbalance),
        (Some(FaultKind::Misalignment), Cause::Misalignment),
        (Some(FaultKind::Looseness), Cause::Looseness),
        (Some(FaultKind::Gear), Cause::Gear),
        (Some(FaultKind::Cavitation), Cause::Unclear),
        (Some(FaultKind::OuterRace), Cause::Unclear),
        (Some(FaultKind::InnerRace), Cause::Unclear),
    ];
    let mut all = Count::default();
    for (kind, cause) in kinds {
        let mut count = Count::default();
        for seed in 0..6 {
            let (samples, rpm, _) = simulated(kind, 0.9, &GEOMETRIES[0], seed);
            count.add(&shaft_and_gear(&samples, rpm), &[cause]);
        }
        let word = kind.map_or("healthy", FaultKind::word);
        println!("{word:14} {} say {}, {} falsely named of {}", count.right, cause.as_str(), count.wrong, count.total);
        all.wrong += count.wrong;
        all.right += count.right;
        all.total += count.total;
    }
    assert!(all.wrong * 100 <= all.total, "{} of {}", all.wrong, all.total);
    assert!(all.right * 100 >= all.total * 80, "{} of {}", all.right, all.total);
}

#[test]
fn simulated_machines_without_a_bearing_fault_name_none() {
    let kinds = [
        None,
        Some(FaultKind::Unbalance),
        Some(FaultKind::Misalignment),
        Some(FaultKind::Looseness),
        Some(FaultKind::Gear),
        Some(FaultKind::Cavitation),
    ];
    let (mut all, mut records) = (Count::default(), Count::default());
    for kind in kinds {
        let mut count = Count::default();
        for seed in 0..6 {
            for geometry in &GEOMETRIES {
                let (samples, rpm, bearing) = simulated(kind, 0.9, geometry, seed);
                let (windows, record) = causes(&samples, Hertz(12_800.0), rpm, &bearing);
                count.add(&windows, &[Cause::Unclear]);
                records.add(&[record], &[Cause::Unclear]);
            }
        }
        println!(
            "{:14} {} falsely named of {} windows",
            kind.map_or("healthy", FaultKind::word),
            count.wrong,
            count.total
        );
        all.wrong += count.wrong;
        all.total += count.total;
    }
    println!("falsely named: {} of {} windows, {} of {} records", all.wrong, all.total, records.wrong, records.total);
    assert_eq!(records.wrong, 0);
    assert!(all.wrong * 200 <= all.total, "{} of {}", all.wrong, all.total);
}

#[test]
fn simulated_defects_name_their_own_part_and_no_other() {
    let kinds = [
        (FaultKind::OuterRace, Cause::OuterRace),
        (FaultKind::InnerRace, Cause::InnerRace),
        (FaultKind::RollingElement, Cause::RollingElement),
        (FaultKind::Cage, Cause::Cage),
    ];
    let (mut races, mut all, mut records) = (Count::default(), Count::default(), Count::default());
    for (kind, cause) in kinds {
        for severity in [0.15, 0.3, 0.6, 1.0] {
            let mut count = Count::default();
            for seed in 0..6 {
                for geometry in &GEOMETRIES {
                    let (samples, rpm, bearing) = simulated(Some(kind), severity, geometry, seed);
                    let (windows, record) = causes(&samples, Hertz(12_800.0), rpm, &bearing);
                    records.add(&[record], &[cause]);
                    if record != cause && record != Cause::Unclear {
                        println!("{kind:?} {severity} {seed} {geometry:?}: {record:?}");
                    }
                    count.add(&windows, &[cause]);
                    if [Cause::OuterRace, Cause::InnerRace].contains(&cause) && severity >= 0.3 {
                        races.add(&windows, &[cause]);
                    }
                }
            }
            println!(
                "{:16} severity {severity:4}: {} right, {} wrong of {}",
                kind.word(),
                count.right,
                count.wrong,
                count.total
            );
            all.wrong += count.wrong;
            all.total += count.total;
        }
    }
    println!("races from severity 0.3: {} of {}; wrong: {} of {}", races.right, races.total, all.wrong, all.total);
    assert!(races.right * 100 >= races.total * 95, "{} of {}", races.right, races.total);
    assert!(all.wrong * 200 <= all.total, "{} of {}", all.wrong, all.total);
}

#[test]
fn noise_names_no_part() {
    let bearing = Orders::catalogue("6205").expect("built in");
    let mut engine = Engine::new(Hertz(12_000.0));
    let named = (0..200).filter(|seed| {
        let window = support::noise(12_000, 5000 + seed);
        engine.window(&window, Hertz(30.0), &bearing) != Cause::Unclear
    });
    assert_eq!(named.count(), 0, "of 200 windows of normal noise");
}

#[test]
fn a_recorded_race_is_still_named_when_noise_hides_most_of_it() {
    let Some(root) = support::data(3) else { return };
    let bearing = Orders::catalogue("6205").expect("built in");
    for (name, rpm, cause) in [
        ("105_IR007_0_DE_12k", 1797.0, Cause::InnerRace),
        ("130_OR007at6_0_DE_12k", 1796.0, Cause::OuterRace),
        ("156_OR007at12_0_DE_12k", 1797.0, Cause::OuterRace),
    ] {
        let samples = support::npy(root.join(format!("cwru/{name}.npy")));
        let power: f32 = samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32;
        for decibels in [0, 5, 10] {
            // So many decibels more noise than record, white from end to end.
            let gain = (power * 10f32.powf(decibels as f32 / 10.0)).sqrt();
            let noisy: Vec<f32> =
                samples.iter().zip(support::noise(samples.len(), 3)).map(|(x, n)| x + gain * n).collect();
            let (windows, record) = causes(&noisy, Hertz(12_000.0), Rpm(rpm), &bearing);
            let mut count = Count::default();
            count.add(&windows, &[cause]);
            println!(
                "{name:24} noise {decibels:2} dB above: record {}, windows {} right {} wrong of {}",
                record.as_str(),
                count.right,
                count.wrong,
                count.total
            );
            assert!([cause, Cause::Unclear].contains(&record) && count.wrong == 0, "{name}: {windows:?}");
            if decibels == 0 {
                assert_eq!(record, cause, "{name}");
            }
        }
    }
}
