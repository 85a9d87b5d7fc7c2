//! An isolation forest beside the statistic: measured, and not sent, for on no data at hand is it the best (docs/TRAINING.md).
//!
//! Trees cut random features at random places; what few cuts set apart from a sample of healthy rows is unusual (Liu, Ting and Zhou,
//! 2008: 100 trees, 256 rows each). It is given what the statistic has: rows smoothed with the same memories, the threshold for the same
//! budget or right above the rows that calibrate, and the choice among all of these by the faults injected into the rows that calibrate.

use super::{Bench, EWMA};
use crate::{
    TrainError, calibrate,
    evaluate::{self, Figures, RawRun},
    random::Random,
};

/// Random trees over healthy rows.
struct Forest {
    trees: Vec<Vec<Node>>,
    inputs: usize,
}

/// A cut, or how deep a row lies that comes to rest here.
enum Node {
    Cut { feature: usize, at: f32, below: usize, above: usize },
    Leaf { depth: f64 },
}

impl Forest {
    fn grow(rows: &[f32], inputs: usize, seed: u64) -> Self {
        let mut random = Random::new(seed, "isolation forest");
        let all: Vec<&[f32]> = rows.chunks_exact(inputs).collect();
        let tree = |_| {
            let mut sample = all.clone();
            random.shuffle(&mut sample);
            sample.truncate(SAMPLE);
            let mut nodes = Vec::new();
            plant(&mut nodes, &mut sample, 0, &mut random);
            nodes
        };
        Self { trees: (0..TREES).map(tree).collect(), inputs }
    }

    /// The depth that is usual over the mean depth of this row: the larger, the more unusual.
    fn score(&self, row: &[f32]) -> f32 {
        let sum: f64 = self.trees.iter().map(|tree| depth(tree, row)).sum();
        (usual(SAMPLE) / (sum / self.trees.len() as f64).max(0.1)) as f32
    }

    /// As the kernel would score: smoothed from the healthy mean on at each run's beginning, silent for the first rows.
    fn scores(&self, bench: &Bench<'_>, runs: &[RawRun], ewma: f32) -> Vec<f32> {
        let silent = bench.options.sequence_len - 1;
        let of = |run: &RawRun| {
            let rows = smoothed(&bench.normalised(run), self.inputs, ewma);
            rows.chunks_exact(self.inputs).skip(silent).map(|row| self.score(row)).collect::<Vec<_>>()
        };
        runs.iter().flat_map(of).collect()
    }
}

/// Cuts the rows until each lies alone or deep enough; gives the place of the node.
fn plant(nodes: &mut Vec<Node>, rows: &mut [&[f32]], depth: usize, random: &mut Random) -> usize {
    let place = nodes.len();
    nodes.push(Node::Leaf { depth: depth as f64 + usual(rows.len()) });
    let inputs = rows.first().map_or(0, |row| row.len());
    let span = |feature: usize| {
        let values = rows.iter().map(|row| row[feature]);
        values.fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(value), high.max(value)))
    };
    let open: Vec<(usize, (f32, f32))> =
        (0..inputs).map(|feature| (feature, span(feature))).filter(|(_, (low, high))| low < high).collect();
    if depth >= DEEPEST || rows.len() < 2 || open.is_empty() {
        return place;
    }
    let (feature, (low, high)) = open[random.below(open.len())];
    let at = low + (high - low) * 0.5 * (1.0 + random.symmetric());
    rows.sort_by(|a, b| a[feature].total_cmp(&b[feature]));
    let (first, second) = rows.split_at_mut(rows.partition_point(|row| row[feature] < at));
    let below = plant(nodes, first, depth + 1, random);
    let above = plant(nodes, second, depth + 1, random);
    nodes[place] = Node::Cut { feature, at, below, above };
    place
}

fn depth(tree: &[Node], row: &[f32]) -> f64 {
    let mut place = 0;
    loop {
        match &tree[place] {
            Node::Cut { feature, at, below, above } => place = if row[*feature] < *at { *below } else { *above },
            Node::Leaf { depth } => return *depth,
        }
    }
}

/// Cuts that set one of so many rows apart, on average.
fn usual(rows: usize) -> f64 {
    match rows {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let below = (rows - 1) as f64;
            2.0 * (below.ln() + EULER) - 2.0 * below / rows as f64
        }
    }
}

fn smoothed(rows: &[f32], inputs: usize, ewma: f32) -> Vec<f32> {
    let mut mean = vec![0.0f32; inputs];
    let step = |row: &[f32]| {
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += ewma * (value - *mean));
        mean.clone()
    };
    rows.chunks_exact(inputs).flat_map(step).collect()
}

/// What the best forest does on the rows that test, chosen by those that calibrate.
fn rival(bench: &Bench<'_>) -> Result<Figures, TrainError> {
    let (options, prepared) = (bench.options, &bench.prepared);
    let inputs = prepared.columns.len();
    let probability = calibrate::probability(options.false_alarms_per_month, options.window_period_secs);
    let mut best: Option<(f64, Figures)> = None;
    for ewma in EWMA.into_iter().chain([1.0]) {
        let of_run = |run: &Vec<usize>| smoothed(&bench.normalised(&bench.raw_window(run)), inputs, ewma);
        let rows: Vec<f32> = prepared.parts.fit.iter().flat_map(of_run).collect();
        let forest = Forest::grow(&rows, inputs, options.seed);
        let score = |runs: &[RawRun]| Ok(forest.scores(bench, runs, ewma));
        let healthy = forest.scores(bench, &bench.calibrate, ewma);
        let largest = healthy.iter().copied().fold(0.0, f32::max);
        for threshold in [calibrate::threshold(&healthy, probability), largest] {
            let judged = |healthy: &[RawRun], faulty: &[RawRun]| {
                evaluate::judged(&score, threshold, inputs, healthy, faulty, &prepared.scale, &bench.directions)
            };
            let merit = judged(&bench.calibrate, &[])?.merit();
            if best.as_ref().is_none_or(|(least, _)| merit > *least) {
                best = Some((merit, judged(&bench.test, &bench.faulty)?));
            }
        }
    }
    Ok(best.map(|(_, figures)| figures).expect("there is at least one memory"))
}

const TREES: usize = 100;
const SAMPLE: usize = 256;
/// The depth of a tree that sets each of its rows apart when cuts halve them.
const DEEPEST: usize = 8;
const EULER: f64 = 0.577_215_664_901_532_9;

mod tests {
    use std::path::Path;

    use kilter_recording::DataSet;
    use kilter_types::{FeatureId, FeatureRef, GroupKind};

    use super::*;
    use crate::{
        Dataset, Feature, Rows, TrainOptions,
        bench::simulated,
        prepare::Prepared,
        suite::{detector::Table, skab},
    };

    #[test]
    fn a_forest_is_the_same_twice_and_what_lies_apart_is_unusual_to_it() {
        let mut random = Random::new(3, "rows");
        let rows: Vec<f32> = (0..900).map(|_| random.normal()).collect();
        let forest = Forest::grow(&rows, 3, 1);
        let again = Forest::grow(&rows, 3, 1);
        let other = Forest::grow(&rows, 3, 2);
        let scores = |forest: &Forest| rows.chunks_exact(3).map(|row| forest.score(row)).collect::<Vec<_>>();
        assert_eq!(scores(&forest), scores(&again));
        assert_ne!(scores(&forest), scores(&other));
        let mut sorted = scores(&forest);
        sorted.sort_by(f32::total_cmp);
        assert!(forest.score(&[9.0, -9.0, 9.0]) > sorted[299], "further away than any");
        assert!(forest.score(&[0.0; 3]) < sorted[150], "in the middle of all");
    }

    #[test]
    #[ignore = "minutes: run by cargo xt proof"]
    fn the_statistic_or_the_simple_rule_finds_more_than_an_isolation_forest_on_all_data_at_hand() {
        let seeds = [1, 2, 3];
        let mut lakes = vec![("simulated".to_owned(), simulated::dataset((12, 400), 1, 1))];
        match std::env::var_os("KILTER_DATA") {
            Some(data) => lakes.extend(recorded(Path::new(&data))),
            None => println!("not run: 2 (KILTER_DATA is not set)"),
        }
        for (name, dataset) in lakes {
            // Stretches of the simulated machines are short.
            let sequence_len = if name == "simulated" { 4 } else { 12 };
            let [statistic, forest, rule] = compare(&name, &dataset, &seeds, sequence_len);
            assert!(forest < statistic.max(rule), "{name}: {statistic} {forest} {rule}");
        }
    }

    /// Mean worth of the statistic, the forest and the simple rule over the folds of a cross-validation inside the training part.
    fn compare(name: &str, dataset: &Dataset, seeds: &[u64], sequence_len: usize) -> [f64; 3] {
        let folds = 3;
        let (mut sums, mut count) = ([0.0; 3], 0.0);
        for (seed, fold) in seeds.iter().flat_map(|seed| (0..folds).map(move |fold| (*seed, fold))) {
            let options = TrainOptions { seed, sequence_len, ..TrainOptions::default() };
            let prepared = match Prepared::fold(dataset, &options, fold, folds) {
                Ok(prepared) => prepared,
                Err(error) => {
                    println!("{name} seed {seed} fold {fold}: not possible: failed to {error}");
                    continue;
                }
            };
            let bench = Bench::of(dataset, &options, prepared);
            let statistic = bench.test(&bench.statistic().expect("a statistic")).expect("figures");
            let all = [statistic, rival(&bench).expect("figures"), bench.simple_rule()];
            for (kind, figures) in ["statistic", "isolation forest", "simple rule"].iter().zip(&all) {
                println!("{name} seed {seed} fold {fold}: {kind}: worth {:.3}, {figures:?}", figures.worth());
            }
            sums.iter_mut().zip(&all).for_each(|(sum, figures)| *sum += figures.worth());
            count += 1.0;
        }
        let means = sums.map(|sum| sum / f64::max(count, 1.0));
        println!("{name}: worth of statistic, isolation forest, simple rule: {means:.3?}, {count} folds");
        means
    }

    /// The rows of SKAB's and NAB's files that train: healthy beginnings.
    fn recorded(data: &Path) -> Vec<(String, Dataset)> {
        let tables = |set: DataSet, folder: &str, first: fn(usize) -> usize| -> Vec<Table> {
            let sources = set.sources(&data.join(folder)).expect("the set lies there");
            let files = sources.iter().filter(|source| !source.name.contains("anomaly-free"));
            let table = |recording| {
                let table = skab::table(&recording);
                let rows = table.rows().len();
                table.first(first(rows))
            };
            files.map(|source| table(source.read().expect("a file"))).collect()
        };
        let skab = tables(DataSet::Skab, "skab", |_| 400);
        let nab = tables(DataSet::Nab, "nab", |rows| (rows * 15 / 100).min(750));
        vec![("skab".to_owned(), rows(&skab)), ("nab".to_owned(), rows(&nab))]
    }

    /// One machine per file.
    fn rows(tables: &[Table]) -> Dataset {
        let width = tables.first().map_or(0, |table| table.width);
        let mut rows = Rows::default();
        for (asset, table) in (0..).zip(tables) {
            for (index, row) in (0..).zip(table.rows()) {
                rows.values.extend(row);
                rows.valid.push((1 << width) - 1);
                rows.asset.push(asset);
                rows.series.push(asset);
                rows.index.push(index);
                rows.time_us.push(index as i64 * 1_000_000);
                rows.regime.push(0);
                rows.rpm.push(0.0);
                rows.load.push(f32::NAN);
            }
        }
        let feature =
            |i| Feature { reference: FeatureRef { id: FeatureId(i as u16 + 1), hash: 1 }, name: format!("r{i}.last") };
        let features = (0..width).map(feature).collect();
        Dataset { group: GroupKind::Reading, features, healthy: rows, faulty: Rows::default() }
    }
}
