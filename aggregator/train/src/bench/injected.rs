//! Where injected faults serve, and where they never come: they choose between finished models, and no row is changed by them.

use super::{Bench, simulated};
use crate::{
    Augmentation, Dataset, Networks, TrainOptions, calibrate,
    evaluate::{self, RawRun},
    export::FamilyParts,
    prepare::{Run, sample},
};

fn quick() -> TrainOptions {
    let augment = Augmentation { noise: 0.1, shift: 0.5, load: 0.1 };
    let quick =
        TrainOptions { hidden: 8, code: 4, sequence_len: 4, max_steps: 20, look_every: 10, ..TrainOptions::default() };
    TrainOptions { networks: Networks::Autoencoder, augment, ..quick }
}

/// The rows of a part as they came in.
fn measured(dataset: &Dataset, bench: &Bench<'_>, runs: &[Run]) -> Vec<RawRun> {
    let row = |row: &usize| {
        let values = dataset.healthy.row(*row, dataset.features.len());
        bench.prepared.columns.iter().map(|column| values[*column]).collect::<Vec<f32>>()
    };
    runs.iter().map(|run| run.iter().flat_map(row).collect()).collect()
}

#[test]
fn rows_that_stop_calibrate_and_test_stay_as_measured_whatever_is_augmented_and_injected() {
    let (dataset, options) = (sample::dataset_of(300), quick());
    let bench = Bench::new(&dataset, &options).expect("enough rows");
    let network = bench.network(&mut |_| {}).expect("a network").expect("one was asked for");
    bench.statistic().expect("a statistic");
    let figures = bench.test(&network.bytes).expect("figures");
    bench.events(&network.bytes).expect("events");
    let parts = &bench.prepared.parts;
    for (raw, runs) in [(&bench.stop, &parts.stop), (&bench.calibrate, &parts.calibrate), (&bench.test, &parts.test)] {
        assert_eq!(*raw, measured(&dataset, &bench, runs), "to the bit");
    }
    // What is said of healthy rows, and the threshold, rest on rows as measured alone.
    let artifact = kilter_infer::Artifact::parse(&network.bytes).expect("an artifact");
    let above = |runs: &[RawRun]| {
        let scores = evaluate::anomalies(&artifact, runs).expect("scores");
        let above = scores.iter().filter(|score| **score > artifact.threshold()).count();
        above as f64 / scores.len() as f64
    };
    assert_eq!(figures.false_alarm_share, above(&measured(&dataset, &bench, &parts.test)));
    let statistic = bench.calibrated(bench.blueprint(FamilyParts::Statistic { ewma: 0.35 })).expect("a statistic");
    let artifact = kilter_infer::Artifact::parse(&statistic).expect("an artifact");
    let scores = evaluate::anomalies(&artifact, &measured(&dataset, &bench, &parts.calibrate)).expect("scores");
    let probability = calibrate::probability(options.false_alarms_per_month, options.window_period_secs);
    assert_eq!(artifact.threshold(), calibrate::threshold(&scores, probability));
}

#[test]
fn injected_faults_choose_between_finished_models_and_no_weight_or_threshold_knows_of_them() {
    let (dataset, options) = (simulated::dataset((4, 120), 2, 1), quick());
    let with = Bench::new(&dataset, &options).expect("enough rows");
    let mut without = Bench::new(&dataset, &options).expect("enough rows");
    without.directions = Vec::new();
    // Each variant is the same to the bit, and so is every loss on the way.
    for ewma in [0.15, 0.35] {
        let variant = FamilyParts::Statistic { ewma };
        let of = |bench: &Bench<'_>, family| bench.calibrated(bench.blueprint(family)).expect("a statistic");
        assert_eq!(of(&with, variant), of(&without, FamilyParts::Statistic { ewma }));
    }
    let losses = |bench: &Bench<'_>| {
        let network = bench.network(&mut |_| {}).expect("a network").expect("one was asked for");
        network
            .losses
            .iter()
            .map(|step| (step.step, step.loss.to_bits(), step.held_out_loss.to_bits()))
            .collect::<Vec<_>>()
    };
    assert_eq!(losses(&with), losses(&without));
    // With nothing injected the first variant is as good as any; with faults the one that finds most of them goes on.
    let (chosen, first) = (with.statistic().expect("a statistic"), without.statistic().expect("a statistic"));
    let found = |bytes: &[u8]| with.figures(bytes, &with.calibrate, &[]).expect("figures").merit();
    println!(
        "found on the rows that calibrate: {:.3} by the chosen one, {:.3} by the first",
        found(&chosen),
        found(&first)
    );
    assert!(found(&chosen) > found(&first));
    // The faults of the simulator itself had no say, and what the injected ones chose finds more of them too.
    let simulated = |bytes: &[u8]| with.test(bytes).expect("figures").labelled.expect("machines with faults");
    println!("of simulated faults {:.3} by the chosen one, {:.3} by the first", simulated(&chosen), simulated(&first));
    assert!(simulated(&chosen) > simulated(&first));
}
