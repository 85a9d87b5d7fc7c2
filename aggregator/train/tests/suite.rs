//! Suites on made-up engines and, where `KILTER_DATA` names them, on a slice of the real sets.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kilter_train::suite::{Evaluation, Report, Suite, evaluate};
use kilter_train::{Feature, Life, LifeDataset};
use kilter_train::{Head, LifeOptions, train_life};
use kilter_types::{FeatureId, FeatureRef, GroupKind};
use kilter_wire::SignedManifest;

/// Numbers that are the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        let mut draw = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f64 / 16_777_216.0 - 0.5
        };
        draw() + draw() + draw()
    }
}

/// Engines that work at three settings which move every sensor far more than wear does; `keep` of each life is told.
fn engines(count: u32, seed: u64, keep: impl Fn(u32, usize) -> usize) -> (String, Vec<usize>) {
    let mut noise = Noise(seed);
    let (mut text, mut left) = (String::new(), Vec::new());
    for unit in 1..=count {
        let life = 120 + (unit as usize * 37) % 100;
        let told = keep(unit, life);
        for cycle in 1..=told {
            let wear = (cycle as f64 / life as f64).powi(3);
            let point = (unit as usize * 7 + cycle * 5) % 3;
            let _ = write!(text, "{unit} {cycle} {} {} 100", [0.0, 20.0, 42.0][point] + 0.002 * noise.next(), 0.1);
            for sensor in 0..21 {
                let base = 100.0 * (sensor + 1) as f64 + 50.0 * point as f64;
                let shown = if sensor < 6 { (1.0 + sensor as f64 * 0.2) * wear } else { 0.0 };
                let _ = write!(text, " {:.4}", base + shown + 0.15 * noise.next());
            }
            text.push('\n');
        }
        left.push(life - told);
    }
    (text, left)
}

fn folder(test_seed: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (train, _) = engines(20, 1, |_, life| life);
    let (test, left) = engines(12, test_seed, |unit, life| life - 10 - (unit as usize * 9) % 90);
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    write("train_FD009.txt", &train);
    write("test_FD009.txt", &test);
    write("RUL_FD009.txt", &left.iter().map(|l| format!("{l}\n")).collect::<String>());
    folder
}

fn quick() -> Evaluation {
    Evaluation { seeds: 1, steps: Some(400), shuffled_labels: false }
}

fn run(suite: Suite, folder: &Path, evaluation: &Evaluation) -> Report {
    evaluate(suite, folder, evaluation, &mut |_| {}).expect("a report")
}

fn figure(report: &Report, metric: &str) -> (f64, Option<f64>) {
    let row = report.rows.iter().find(|row| row.metric == metric);
    let row = row.unwrap_or_else(|| panic!("no row {metric}"));
    (row.value, row.baseline)
}

#[test]
fn engines_at_several_operating_points_are_told_apart_and_beat_the_mean_by_far() {
    let folder = folder(2);
    let report = run(Suite::Cmapss, folder.path(), &quick());
    let (error, baseline) = figure(&report, "rmse last cycle, capped");
    assert!(error < 0.5 * baseline.expect("a baseline"), "{error} against {baseline:?}\n{}", report.table());
    let (covered, _) = figure(&report, "90 % interval covers, last cycle");
    assert!(covered > 0.6, "{covered}");
    let exports = report.exports().expect("artifacts");
    for row in &report.rows {
        let [digest] = row.artifacts.as_slice() else { panic!("{row:?} does not name its artifact") };
        let exported = exports.iter().find(|e| e.card.digest == *digest).expect("an exported artifact");
        assert_eq!(kilter_types::Digest::of(&exported.artifact).to_string(), *digest);
        assert_eq!(row.kernel, kilter_types::KernelId::PORTABLE_F32.0);
        let signed = SignedManifest { manifest: &exported.manifest, signature: &exported.signature };
        let manifest = signed.verify(&exported.public_key).expect("a good signature");
        assert_eq!(manifest.digest.to_string(), *digest);
    }
}

#[test]
fn what_is_scored_changes_no_bit_of_what_was_trained() {
    let (one, other) = (folder(2), folder(3));
    let digest = |folder: &tempfile::TempDir| run(Suite::Cmapss, folder.path(), &quick()).rows[0].artifacts.clone();
    assert_eq!(digest(&one), digest(&other));
}

#[test]
fn with_shuffled_labels_the_suite_says_what_the_constant_predictor_says() {
    let folder = folder(2);
    let shuffled = Evaluation { shuffled_labels: true, ..quick() };
    let report = run(Suite::Cmapss, folder.path(), &shuffled);
    for metric in ["rmse last cycle, capped", "rmse every cycle, capped", "rmse last cycle, uncapped"] {
        let (error, baseline) = figure(&report, metric);
        let baseline = baseline.expect("a baseline");
        assert!((error - baseline).abs() < 0.03 * baseline, "{metric}: {error} against {baseline}\n{}", report.table());
    }
    let said = report.rows.iter().any(|row| row.metric == "parity with Burn (constant leads)");
    assert!(said, "{}", report.table());
}

#[test]
fn with_shuffled_labels_the_head_falls_back_to_the_mean() {
    let mut noise = Noise(5);
    let reference = |id: u16| FeatureRef { id: FeatureId(1_000 + id), hash: 7 };
    let mut machines: Vec<Life> = (0..10)
        .map(|_| Life {
            rows: (0..120).flat_map(|row| [row as f32 + noise.next() as f32, noise.next() as f32]).collect(),
            left: (0..120).rev().map(|left| left as f32).collect(),
            extra: 0,
            asset: None,
        })
        .collect();
    let dataset = |machines: &[Life]| LifeDataset {
        group: GroupKind::Cycle,
        features: (0..2).map(|id| Feature { reference: reference(id), name: format!("c0{id}") }).collect(),
        settings: Vec::new(),
        machines: machines.to_vec(),
    };
    let options = LifeOptions { steps: 400, ..LifeOptions::default() };
    let honest = train_life(&dataset(&machines), &options, &mut |_, _, _| {}).expect("a head");
    assert_ne!(honest.head, Head::Constant, "{:?}", honest.held_out);
    let mut order = Noise(6);
    for machine in &mut machines {
        for place in (1..machine.left.len()).rev() {
            machine.left.swap(place, ((order.next() + 1.5) * 1e6) as usize % (place + 1));
        }
    }
    let shuffled = train_life(&dataset(&machines), &options, &mut |_, _, _| {}).expect("a head");
    assert_eq!(shuffled.head, Head::Constant, "{:?}", shuffled.held_out);
}

#[test]
fn a_slice_of_the_real_sets_keeps_what_was_reached() {
    let Some(data) = std::env::var_os("KILTER_DATA").map(PathBuf::from) else {
        println!("not run: 1 (KILTER_DATA is not set)");
        return;
    };
    if data.join("ims").is_dir() {
        let report = run(Suite::Ims, &data, &quick());
        let first = |bearing: u32| {
            let of = |row: &&kilter_train::suite::Row| {
                row.dataset == format!("ims_test2_meanabs bearing {bearing}") && row.metric == "first alarm, row"
            };
            report.rows.iter().find(of).map(|row| row.value)
        };
        if let Some(first_alarm) = first(1) {
            assert!(first_alarm <= 540.0, "{first_alarm}");
            assert!((1..=4).all(|bearing| first(bearing).is_none_or(|row| row.is_nan() || row >= 500.0)));
        }
    }
    if data.join("nab").is_dir() {
        let (score, null) = figure(&run(Suite::Nab, &data, &quick()), "raw score");
        assert!(score > null.expect("a baseline"), "{score}");
    }
    if data.join("cwru/meta.json").is_file() {
        let report = run(Suite::Bearing, &data, &quick());
        let accuracy = report.rows.iter().find(|row| row.metric == "accuracy").map(|row| (row.value, row.baseline));
        assert!(accuracy.is_some_and(|(value, baseline)| value > baseline.unwrap_or(0.0)), "{accuracy:?}");
    }
}
