//! From rows to sequences: which features, which rows belong together, who sees what.
//!
//! Three rules keep an evaluation honest. Rows are split by asset and by time, never by row. The normaliser is fitted on the
//! training part alone. A sequence holds consecutive windows of one series in one regime and of one part, so no row of a
//! later part reaches into an earlier one.

use std::collections::{BTreeMap, BTreeSet};

use kilter_infer::{Range, Regime};

use crate::{
    TrainError,
    columns::{choose_columns, column_values, trimmed_moments},
    dataset::{Dataset, Rows},
    options::TrainOptions,
    random::Random,
};

/// Consecutive windows of one series, in one regime and one part: numbers of rows.
pub(crate) type Run = Vec<usize>;

/// Who sees what.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// Weights and normaliser are fitted on these.
    pub(crate) fit: Vec<Run>,
    /// Decides when to stop, and how large healthy residuals are.
    pub(crate) stop: Vec<Run>,
    /// Thresholds and variants are chosen on these.
    pub(crate) calibrate: Vec<Run>,
    /// Figures on the card come from these, once.
    pub(crate) test: Vec<Run>,
}

/// The data of a run, ready to train on.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The chosen columns of the data set.
    pub(crate) columns: Vec<usize>,
    pub(crate) parts: Parts,
    /// Labelled faulty rows; never cut into parts.
    pub(crate) faulty: Vec<Run>,
    pub(crate) mean: Vec<f32>,
    pub(crate) scale: Vec<f32>,
    pub(crate) range: Vec<Range>,
    pub(crate) regimes: Vec<Regime>,
}

impl Prepared {
    pub(crate) fn new(dataset: &Dataset, options: &TrainOptions) -> Result<Self, TrainError> {
        let order = by_key(&dataset.healthy);
        let early = early(&dataset.healthy, &order, options);
        let of_champion = options.warm.as_ref().and_then(|warm| warm.columns(dataset, &early));
        let columns = match of_champion {
            Some(columns) => columns,
            None => choose_columns(dataset, &early, options.max_inputs)?,
        };
        let runs = runs(&dataset.healthy, &order, &columns);
        let parts = split(&dataset.healthy, &runs, options);
        parts.refuse_leaks(&dataset.healthy)?;
        Self::fitted(dataset, columns, parts, options)
    }

    /// The same parts without the rows of some bins of the steady state, which alone test.
    pub(crate) fn without(dataset: &Dataset, options: &TrainOptions, kept: &BTreeSet<u8>) -> Result<Self, TrainError> {
        let rows = &dataset.healthy;
        let order = by_key(rows);
        let is_kept = |row: usize| kept.contains(&rows.regime[row]);
        let early: Vec<usize> = early(rows, &order, options).into_iter().filter(|row| !is_kept(*row)).collect();
        let columns = choose_columns(dataset, &early, options.max_inputs)?;
        let mut parts = split(rows, &runs(rows, &order, &columns), options);
        // A run is of one bin.
        for part in [&mut parts.fit, &mut parts.stop, &mut parts.calibrate] {
            part.retain(|run| !is_kept(run[0]));
        }
        parts.test.retain(|run| is_kept(run[0]));
        parts.refuse_leaks(rows)?;
        Self::fitted(dataset, columns, parts, options)
    }

    /// The normaliser and what else is learned from the first part, once there is enough in each.
    pub(crate) fn fitted(
        dataset: &Dataset,
        columns: Vec<usize>,
        parts: Parts,
        options: &TrainOptions,
    ) -> Result<Self, TrainError> {
        let found = windows(&parts.fit, options.sequence_len, usize::MAX).len();
        let calibration = windows(&parts.calibrate, options.sequence_len, usize::MAX).len();
        let test = windows(&parts.test, options.sequence_len, usize::MAX).len();
        let length = options.sequence_len;
        if found < LEAST_WINDOWS {
            return Err(TrainError::TooFew { found, needed: LEAST_WINDOWS, length });
        }
        for (part, found) in [("calibration", calibration), ("test", test)] {
            if found < LEAST_HELD_OUT {
                return Err(TrainError::HeldOutTooFew { part, found, needed: LEAST_HELD_OUT, length });
            }
        }
        let fit: Vec<usize> = parts.fit.iter().flatten().copied().collect();
        let (mut mean, mut scale, mut range) = (Vec::new(), Vec::new(), Vec::new());
        for column in &columns {
            let values = column_values(dataset, &fit, *column);
            let (centre, spread) = trimmed_moments(&values);
            let (low, high) = (values[0], values[values.len() - 1]);
            let margin = RANGE_MARGIN * (high - low).max(spread);
            mean.push(centre);
            scale.push(spread);
            range.push(Range { low: low - margin, high: high + margin });
        }
        let faulty = self::runs(&dataset.faulty, &by_key(&dataset.faulty), &columns);
        Ok(Self { columns, regimes: regimes(&dataset.healthy, &fit), parts, faulty, mean, scale, range })
    }

    /// The chosen values of a row, as measured.
    pub(crate) fn raw(&self, rows: &Rows, row: usize, features: usize) -> Vec<f32> {
        let values = rows.row(row, features);
        self.columns.iter().map(|column| values[*column]).collect()
    }
}

/// Starts of sequences within runs, at most `most` of them, evenly thinned.
pub(crate) fn windows(runs: &[Run], length: usize, most: usize) -> Vec<&[usize]> {
    let all: Vec<&[usize]> = runs.iter().flat_map(|run| run.windows(length)).collect();
    let stride = all.len().div_ceil(most.max(1)).max(1);
    all.into_iter().step_by(stride).collect()
}

/// Row numbers by series, then window.
pub(crate) fn by_key(rows: &Rows) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|row| (rows.series[*row], rows.index[*row], rows.time_us[*row]));
    order
}

/// The rows that can only become training rows: what is chosen by them can't tell of a later part.
pub(crate) fn early(rows: &Rows, order: &[usize], options: &TrainOptions) -> Vec<usize> {
    let held_out = held_out_assets(rows, options.seed);
    let mut groups: BTreeMap<(u32, u8), Vec<usize>> = BTreeMap::new();
    for row in order.iter().copied().filter(|row| !held_out.contains(&rows.asset[*row])) {
        groups.entry((rows.series[row], rows.regime[row])).or_default().push(row);
    }
    let first = |group: &Vec<usize>| group[..group.len() * FIT_PERCENT / 100].to_vec();
    groups.values().flat_map(first).collect()
}

/// Cuts the ordered rows where series, regime or numbering breaks, and where a chosen value is missing.
pub(crate) fn runs(rows: &Rows, order: &[usize], columns: &[usize]) -> Vec<Run> {
    let mask = columns.iter().fold(0u64, |mask, column| mask | 1 << column);
    let mut runs: Vec<Run> = Vec::new();
    let mut last: Option<usize> = None;
    for row in order.iter().copied() {
        if rows.valid[row] & mask != mask {
            last = None;
            continue;
        }
        let follows = last.is_some_and(|last| {
            rows.series[last] == rows.series[row]
                && rows.regime[last] == rows.regime[row]
                && rows.index[last].checked_add(1) == Some(rows.index[row])
        });
        match runs.last_mut() {
            Some(run) if follows => run.push(row),
            _ => runs.push(vec![row]),
        }
        last = Some(row);
    }
    runs
}

/// By asset: every fifth machine, when there are at least four, is kept from training. By time: within each series and
/// regime the first rows train, then come the parts that stop, calibrate and test, so that a regime that is new still trains.
fn split(rows: &Rows, runs: &[Run], options: &TrainOptions) -> Parts {
    let held_out = held_out_assets(rows, options.seed);
    let mut groups: BTreeMap<(u32, u8), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        groups.entry((rows.series[run[0]], rows.regime[run[0]])).or_default().push(run);
    }
    let mut parts = Parts::default();
    for group in groups.values() {
        let total: usize = group.iter().map(|run| run.len()).sum();
        let known = !held_out.contains(&rows.asset[group[0][0]]);
        let shares: &[usize] = if known { &[FIT_PERCENT, 70, 85, 100] } else { &[0, 0, 50, 100] };
        let ends: Vec<usize> = shares.iter().map(|share| total * share / 100).collect();
        let mut rank = 0;
        let mut part_before = usize::MAX;
        for run in group {
            let mut pieces: [Run; 4] = Default::default();
            for row in run.iter() {
                let part = ends.iter().position(|end| rank < *end).unwrap_or(3);
                // Feature windows may overlap: the first rows after a cut share samples with the part before it.
                let cut = if part == 0 || part == part_before { 0 } else { ends[part - 1] };
                if cut == 0 || rank >= cut + EMBARGO_ROWS {
                    pieces[part].push(*row);
                    part_before = part;
                }
                rank += 1;
            }
            let all = [&mut parts.fit, &mut parts.stop, &mut parts.calibrate, &mut parts.test];
            for (part, piece) in all.into_iter().zip(pieces) {
                if !piece.is_empty() {
                    part.push(piece);
                }
            }
        }
    }
    parts
}

fn held_out_assets(rows: &Rows, seed: u64) -> Vec<u32> {
    let mut assets = rows.asset.clone();
    assets.sort_unstable();
    assets.dedup();
    let count = if assets.len() < 4 { 0 } else { assets.len().div_ceil(5) };
    Random::new(seed, "held-out assets").shuffle(&mut assets);
    assets.truncate(count);
    assets
}

/// One regime per bin that training saw, with a margin of 3 % of speed and load.
fn regimes(rows: &Rows, fit: &[usize]) -> Vec<Regime> {
    let mut bins: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for row in fit {
        bins.entry(rows.regime[*row]).or_default().push(*row);
    }
    let span = |values: Vec<f32>| {
        let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        Range { low: low - 0.03 * low.abs(), high: high + 0.03 * high.abs() }
    };
    let of_bin = |numbers: &Vec<usize>| {
        let loads: Vec<f32> = numbers.iter().map(|row| rows.load[*row]).filter(|load| load.is_finite()).collect();
        Regime {
            rpm: span(numbers.iter().map(|row| rows.rpm[*row]).collect()),
            load: if loads.is_empty() { Range::ANY } else { span(loads) },
        }
    };
    bins.values().take(kilter_infer::MAX_REGIMES).map(of_bin).collect()
}

const FIT_PERCENT: usize = 60;
const LEAST_WINDOWS: usize = 64;
const LEAST_HELD_OUT: usize = 20;
pub(crate) const EMBARGO_ROWS: usize = 1;
const RANGE_MARGIN: f32 = 0.25;

#[cfg(test)]
pub(crate) mod sample {
    use kilter_types::{FeatureId, FeatureRef, GroupKind};

    use super::*;
    use crate::Feature;

    /// A hundred windows of each machine.
    pub(crate) fn dataset() -> Dataset {
        dataset_of(100)
    }

    /// Five machines, two features, one missing window, one invalid value, a second regime after 60 % of the windows.
    pub(crate) fn dataset_of(windows: u64) -> Dataset {
        let mut random = Random::new(1, "rows");
        let mut rows = Rows::default();
        for (asset, index) in (0..5u32).flat_map(|asset| (0..windows).map(move |index| (asset, index))) {
            if index == 30 {
                continue;
            }
            rows.values.extend([random.symmetric(), 10.0 + random.symmetric()]);
            rows.valid.push(if index == 45 { 0b01 } else { 0b11 });
            rows.asset.push(asset);
            rows.series.push(asset);
            rows.index.push(index);
            rows.time_us.push(index as i64);
            rows.regime.push(u8::from(index * 10 >= windows * 6));
            rows.rpm.push(1_000.0);
            rows.load.push(f32::NAN);
        }
        let feature = |id| Feature { reference: FeatureRef { id: FeatureId(id), hash: 1 }, name: format!("f{id}") };
        Dataset {
            group: GroupKind::Reading,
            features: vec![feature(1), feature(2)],
            healthy: rows,
            faulty: Rows::default(),
        }
    }

    pub(crate) fn options() -> TrainOptions {
        TrainOptions { sequence_len: 3, ..TrainOptions::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        sample::{dataset, options},
        *,
    };

    #[test]
    fn a_sequence_never_crosses_an_asset_a_gap_a_regime_or_a_part() {
        let dataset = dataset();
        let prepared = Prepared::new(&dataset, &options()).expect("enough rows");
        let rows = &dataset.healthy;
        let mut seen = BTreeSet::new();
        let Parts { fit, stop, calibrate, test } = &prepared.parts;
        for run in [fit, stop, calibrate, test].into_iter().flatten() {
            assert!(run.iter().all(|row| seen.insert(*row)), "a row is in one part only");
            for pair in run.windows(2) {
                let (a, b) = (pair[0], pair[1]);
                assert_eq!(
                    (rows.asset[a], rows.regime[a], rows.index[a] + 1),
                    (rows.asset[b], rows.regime[b], rows.index[b])
                );
            }
            assert!(run.iter().all(|row| rows.valid[*row] == 0b11));
        }
    }

    #[test]
    fn parts_are_split_by_asset_and_by_time_within_each_regime() {
        let dataset = dataset();
        let prepared = Prepared::new(&dataset, &options()).expect("enough rows");
        let rows = &dataset.healthy;
        let Parts { fit, stop, calibrate, test } = &prepared.parts;
        let assets = |runs: &[Run]| runs.iter().flatten().map(|row| rows.asset[*row]).collect::<BTreeSet<_>>();
        assert_eq!((assets(fit).len(), assets(calibrate).len(), assets(test).len()), (4, 5, 5));
        for (asset, regime) in assets(fit).into_iter().flat_map(|asset| [(asset, 0), (asset, 1)]) {
            let indices = |runs: &[Run]| -> Vec<u64> {
                let here = |row: &&usize| rows.asset[**row] == asset && rows.regime[**row] == regime;
                runs.iter().flatten().filter(here).map(|row| rows.index[*row]).collect()
            };
            let parts = [indices(fit), indices(stop), indices(calibrate), indices(test)];
            for pair in parts.windows(2) {
                let (last, first) = (pair[0].iter().max(), pair[1].iter().min());
                // Windows may overlap their neighbour, so one is left out at each cut.
                assert!(last.expect("rows") + 1 < *first.expect("rows"), "{parts:?}");
            }
        }
    }

    #[test]
    fn a_held_out_part_that_is_too_short_is_named_and_not_the_training_part() {
        let short = TrainOptions { sequence_len: 16, ..TrainOptions::default() };
        let error = Prepared::new(&dataset(), &short).expect_err("the held-out parts hold few sequences of 16");
        assert!(matches!(error, TrainError::HeldOutTooFew { part: "calibration" | "test", .. }), "{error}");
    }

    #[test]
    fn a_leak_planted_in_held_out_rows_does_not_reach_the_normaliser() {
        let dataset = dataset();
        let clean = Prepared::new(&dataset, &options()).expect("enough rows");
        let Parts { stop, calibrate, test, .. } = &clean.parts;
        let mut planted = dataset.clone();
        for row in [stop, calibrate, test].into_iter().flatten().flatten() {
            planted.healthy.values[row * 2..][..2].fill(1e6);
            planted.healthy.rpm[*row] = 9_000.0;
        }
        let leaked = Prepared::new(&planted, &options()).expect("enough rows");
        assert_eq!((&clean.mean, &clean.scale, &clean.columns), (&leaked.mean, &leaked.scale, &leaked.columns));
        assert_eq!((&clean.range, &clean.regimes), (&leaked.range, &leaked.regimes));
        // The same plant in training rows shows.
        let fit: Vec<usize> = clean.parts.fit.iter().flatten().copied().collect();
        for row in &fit {
            planted.healthy.values[row * 2] *= 3.0;
        }
        assert_ne!(Prepared::new(&planted, &options()).expect("enough rows").scale, clean.scale);
    }
}
