//! A search on simulated rows: it is the same with any number of threads, goes on after a cut, and what it finds can be trained.

use kilter_train::{
    Dataset, Device, Feature, Found, Rows, SearchOptions, TrainOptions, Trial, TrialLog, report, search, train,
};
use kilter_types::{FeatureId, FeatureRef, GroupKind};

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Vec<String>);

impl TrialLog for Log {
    fn lines(&mut self) -> std::io::Result<Vec<String>> {
        Ok(self.0.clone())
    }

    fn add(&mut self, line: &str) -> std::io::Result<()> {
        self.0.push(line.to_owned());
        Ok(())
    }
}

fn noise(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / 8_388_608.0 - 1.0
}

/// Five machines whose ten features follow a load that wanders and swings.
fn dataset() -> Dataset {
    let mut rows = Rows::default();
    for asset in 0..5u32 {
        let mut state = u64::from(asset) + 1;
        let mut load = 0.0;
        for index in 0..420u64 {
            load = 0.95 * load + 0.3 * noise(&mut state);
            let swing = (index as f32 * 0.7).sin();
            rows.values.extend((0..10).map(|i| {
                let part = [load, swing, load * swing][i % 3];
                2.0 + i as f32 + part + 0.1 * noise(&mut state)
            }));
            rows.valid.push(0x3ff);
            rows.asset.push(asset);
            rows.series.push(asset);
            rows.index.push(index);
            rows.time_us.push(index as i64 * 10_000_000);
            rows.regime.push(0);
            rows.rpm.push(1_500.0);
            rows.load.push(f32::NAN);
        }
    }
    let names = [
        "rms",
        "peak",
        "kurtosis",
        "velocity_rms",
        "band_rms_00",
        "band_rms_10",
        "envelope_rms",
        "shaft_1x",
        "shaft_2x",
        "bpfo_amplitude",
    ];
    let feature = |(i, name): (usize, &&str)| Feature {
        reference: FeatureRef { id: FeatureId(i as u16 + 1), hash: 5 },
        name: (*name).to_owned(),
    };
    Dataset {
        group: GroupKind::Vibration,
        features: names.iter().enumerate().map(feature).collect(),
        healthy: rows,
        faulty: Rows::default(),
    }
}

fn run(budget: &SearchOptions, log: &mut Log) -> Found {
    let options = TrainOptions { hidden: 8, sequence_len: 6, max_steps: 60, ..TrainOptions::default() };
    search(&dataset(), &options, budget, log, &mut |_| {}).expect("a winner")
}

#[test]
fn a_search_is_the_same_with_any_number_of_threads_and_after_a_cut() {
    let budget = SearchOptions { candidates: 2, first_steps: 10, folds: 2, workers: 1, device: None };
    let mut whole = Log::default();
    let alone = run(&budget, &mut whole);
    let beside = run(&SearchOptions { workers: 3, ..budget.clone() }, &mut Log::default());
    assert_eq!((alone.digest, alone.options.hidden), (beside.digest, beside.options.hidden));
    let trials = whole.0.iter().filter(|line| serde_json::from_str::<Trial>(line).is_ok()).count();
    assert!(trials >= 2 * 2 + 2, "every trial is logged: {trials}");
    let cut = whole.0.len() / 2;
    let mut log = Log(whole.0[..cut].to_vec());
    log.0.push(whole.0[cut][..whole.0[cut].len() / 2].to_owned());
    assert_eq!(run(&budget, &mut log).digest, alone.digest, "cut after {cut} lines and a half");
    // The options given stay in the race to its end, so that the gain is known.
    let last = alone.standings.iter().map(|standing| standing.rung).max();
    let of = |candidate| {
        alone.standings.iter().find(|s| Some(s.rung) == last && s.candidate == candidate).and_then(|s| s.merit)
    };
    let best = alone.standings.iter().filter(|s| Some(s.rung) == last).filter_map(|s| s.merit).fold(f32::MIN, f32::max);
    assert!(of(0).expect("the given options were judged") <= best);
}

#[test]
fn a_model_for_a_small_device_fits_it_and_says_why_it_was_chosen() {
    let device = Device { ram_bytes: 64 << 10, latency_secs: 1e-3, products_per_sec: 30e6 };
    let budget = SearchOptions { candidates: 2, first_steps: 10, folds: 2, workers: 0, device: Some(device) };
    let found = run(&budget, &mut Log::default());
    let trained = train(&dataset(), &found.options, &mut |_| {}).expect("two models");
    let largest = trained.models.iter().map(|model| model.artifact.len()).max().expect("models");
    assert!(largest < 64 << 10, "{largest} bytes");
    assert!(found.why.contains("of 65536 bytes") && found.why.contains("of 1.00 ms"), "{}", found.why);
    let page = report(&trained.models, Some(&found));
    for part in [
        "Loss over the steps",
        "Scores of the tested windows",
        "Share of healthy tested windows",
        "of the alarms were for a fault",
        "On machines that it never learned from",
        "simulated: bearing",
        "Search",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(!page.contains("NaN") && !page.contains("http"), "nothing is fetched");
}
