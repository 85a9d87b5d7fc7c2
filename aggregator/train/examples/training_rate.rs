//! How long a training takes from rows on disk to artifacts, for comparison with `peers.py` on the same rows.
//!
//! `training_rate write FILE` makes the rows: 8 machines, 800 windows each, 20 features. `training_rate train FILE ROUNDS` reads them, trains with the
//! default options and a full budget, and prints the best and the median of the rounds: all of it, and the steps alone.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::time::Instant;

use kilter_train::{Dataset, Feature, Networks, Rows, TrainOptions, report, train};
use kilter_types::{FeatureId, FeatureRef, GroupKind};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", file] => {
            std::fs::write(file, rows().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?
        }
        ["train", file, rounds] => measure(file, rounds.parse()?)?,
        _ => return Err("training_rate write FILE, or training_rate train FILE ROUNDS".into()),
    }
    Ok(())
}

fn measure(file: &str, rounds: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (mut whole, mut steps) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        let begin = Instant::now();
        let dataset = read(file)?;
        // The peer trains an autoencoder. There is one speed, so none is kept away.
        let options = TrainOptions { patience: 99, networks: Networks::Autoencoder, ..TrainOptions::default() };
        let mut looks = Vec::new();
        let trained = train(&dataset, &options, &mut |step| looks.push((step.step, begin.elapsed().as_secs_f64())))?;
        std::fs::write(format!("{file}.kltm"), &trained.models[0].artifact)?;
        whole.push(begin.elapsed().as_secs_f64());
        std::fs::write(format!("{file}.html"), report(&trained.models, None))?;
        let ((first, from), (last, to)) = (looks[0], looks[looks.len() - 1]);
        steps.push((to - from) / (last - first) as f64);
    }
    for (name, mut times, unit) in
        [("rows to artifacts, s", whole, 1.0), ("one step with its share of looks, ms", steps, 1e3)]
    {
        times.sort_by(f64::total_cmp);
        println!("{name}: best {:.3}, median {:.3}", unit * times[0], unit * times[times.len() / 2]);
    }
    Ok(())
}

fn read(file: &str) -> Result<Dataset, std::io::Error> {
    let bytes = std::fs::read(file)?;
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let count = values.len() / FEATURES;
    let machine = |row: usize| (row / WINDOWS) as u32;
    let feature =
        |i: usize| Feature { reference: FeatureRef { id: FeatureId(i as u16 + 1), hash: 1 }, name: format!("f{i}") };
    let healthy = Rows {
        values,
        valid: vec![(1 << FEATURES) - 1; count],
        asset: (0..count).map(machine).collect(),
        series: (0..count).map(machine).collect(),
        index: (0..count).map(|row| (row % WINDOWS) as u64).collect(),
        time_us: (0..count).map(|row| (row % WINDOWS) as i64 * 10_000_000).collect(),
        regime: vec![0; count],
        rpm: vec![1_500.0; count],
        load: vec![f32::NAN; count],
    };
    let features = (0..FEATURES).map(feature).collect();
    Ok(Dataset { group: GroupKind::Vibration, features, healthy, faulty: Rows::default() })
}

/// Features that follow a load that wanders, each in its own way.
fn rows() -> Vec<f32> {
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let mut values = Vec::new();
    for machine in 0..MACHINES {
        let mut load = 0.0;
        for _ in 0..WINDOWS {
            load = 0.97 * load + 0.4 * noise();
            values.extend((0..FEATURES).map(|i| {
                let slope = [0.8, -0.5, 0.3, 1.0][i % 4];
                5.0 + i as f32 + 0.1 * machine as f32 + slope * load + 0.4 * noise()
            }));
        }
    }
    values
}

const MACHINES: usize = 8;
const WINDOWS: usize = 800;
const FEATURES: usize = 20;
