//! Folds of a cross-validation inside the training part: grouped by machine and ordered by time.
//!
//! Fold `k` keeps a group of machines away and a time: it trains on other machines up to that time, and is judged by the kept
//! machines after it. So neither a machine nor a later moment of the plant is on both sides. Times move on from fold to fold.
//! Only rows that the run itself trains on take part: what calibrates or tests the final model is not touched by a search.
//! With fewer than four machines none can be spared, here as in the run itself, and time alone divides.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Dataset, TrainError, TrainOptions,
    columns::choose_columns,
    dataset::Rows,
    prepare::{EMBARGO_ROWS, Parts, Prepared, Run, by_key, early, runs},
    random::Random,
};

impl Prepared {
    /// Fold `fold` of `folds`: `fit`, `stop` and `calibrate` before its time, `test` after it.
    pub(crate) fn fold(
        dataset: &Dataset,
        options: &TrainOptions,
        fold: usize,
        folds: usize,
    ) -> Result<Self, TrainError> {
        let rows = &dataset.healthy;
        let order = by_key(rows);
        let sides = Sides::new(rows, &early(rows, &order, options), options.seed, fold, folds);
        let columns = choose_columns(dataset, &sides.before, options.max_inputs)?;
        let mut parts = Parts::default();
        let mut groups: BTreeMap<(u32, u8), Vec<Run>> = BTreeMap::new();
        for run in runs(rows, &sides.before, &columns) {
            groups.entry((rows.series[run[0]], rows.regime[run[0]])).or_default().push(run);
        }
        for group in groups.into_values() {
            let total: usize = group.iter().map(Vec::len).sum();
            let mut rank = 0;
            for run in group {
                let mut pieces: [Run; 3] = Default::default();
                for row in run {
                    let part = SHARES.iter().position(|share| rank * 100 < total * share).unwrap_or(2);
                    pieces[part].push(row);
                    rank += 1;
                }
                let all = [&mut parts.fit, &mut parts.stop, &mut parts.calibrate];
                for (place, (part, mut piece)) in all.into_iter().zip(pieces).enumerate() {
                    // Feature windows may overlap: rows after a cut share samples with the part before it.
                    let kept = piece.split_off(if place == 0 { 0 } else { EMBARGO_ROWS.min(piece.len()) });
                    if !kept.is_empty() {
                        part.push(kept);
                    }
                }
            }
        }
        // A device trusts a model in regimes that its training saw; so does a fold.
        let seen: BTreeSet<u8> = parts.fit.iter().flatten().map(|row| rows.regime[*row]).collect();
        let judged = runs(rows, &sides.after, &columns).into_iter().filter(|run| seen.contains(&rows.regime[run[0]]));
        parts.test =
            judged.map(|mut run| run.split_off(EMBARGO_ROWS.min(run.len()))).filter(|run| !run.is_empty()).collect();
        parts.refuse_leaks(rows)?;
        Self::fitted(dataset, columns, parts, options)
    }
}

/// The rows on both sides of a fold, in the order of the key.
struct Sides {
    before: Vec<usize>,
    after: Vec<usize>,
}

impl Sides {
    fn new(rows: &Rows, usable: &[usize], seed: u64, fold: usize, folds: usize) -> Self {
        let mut machines: Vec<u32> = usable.iter().map(|row| rows.asset[*row]).collect();
        machines.sort_unstable();
        machines.dedup();
        Random::new(seed, "folds").shuffle(&mut machines);
        let alone = machines.len() < LEAST_MACHINES;
        let place = |asset: u32| machines.iter().position(|machine| *machine == asset).unwrap_or(0);
        let groups = folds.clamp(1, machines.len().max(1));
        let kept = |asset: u32| alone || place(asset) % groups == fold % groups;
        let mut times: Vec<i64> = usable.iter().map(|row| rows.time_us[*row]).collect();
        times.sort_unstable();
        let share = FIRST_PERCENT + (LAST_PERCENT - FIRST_PERCENT) * fold / (folds - 1).max(1);
        let time = times.get(times.len() * share / 100).copied().unwrap_or(i64::MAX);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for row in usable.iter().copied() {
            let kept = kept(rows.asset[row]);
            if rows.time_us[row] >= time {
                after.extend(kept.then_some(row));
            } else if alone || !kept {
                before.push(row);
            }
        }
        Self { before, after }
    }
}

impl Parts {
    /// Nothing that trains may be seen again where it is judged: no row twice, and within a series and regime no row of a later
    /// part before one of an earlier.
    pub(crate) fn refuse_leaks(&self, rows: &Rows) -> Result<(), TrainError> {
        let mut seen = BTreeSet::new();
        let mut latest: BTreeMap<(u32, u8), u64> = BTreeMap::new();
        for part in [&self.fit, &self.stop, &self.calibrate, &self.test] {
            let before = latest.clone();
            for row in part.iter().flatten() {
                if !seen.insert(*row) {
                    return Err(TrainError::Leak("a row is in two parts"));
                }
                let key = (rows.series[*row], rows.regime[*row]);
                let index = rows.index[*row];
                if before.get(&key).is_some_and(|latest| index <= *latest) {
                    return Err(TrainError::Leak("a part holds rows that are older than those of the part before it"));
                }
                let latest = latest.entry(key).or_insert(index);
                *latest = (*latest).max(index);
            }
        }
        Ok(())
    }
}

/// Where the first two of fit, stop and calibrate end, in percent of the rows before a fold's time.
const SHARES: [usize; 2] = [70, 85];
/// Fewer machines than this are divided by time alone.
const LEAST_MACHINES: usize = 4;
/// The times of the first and of the last fold, in percent of the rows.
const FIRST_PERCENT: usize = 50;
const LAST_PERCENT: usize = 75;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::sample::{dataset_of, options};

    #[test]
    fn no_machine_and_no_later_moment_is_on_both_sides_of_a_fold() {
        let dataset = dataset_of(400);
        let rows = &dataset.healthy;
        let whole = Prepared::new(&dataset, &options()).expect("enough rows");
        let closed: BTreeSet<usize> =
            [&whole.parts.calibrate, &whole.parts.test].into_iter().flatten().flatten().copied().collect();
        let mut judged_by = BTreeSet::new();
        for fold in 0..3 {
            let Prepared { parts, .. } = Prepared::fold(&dataset, &options(), fold, 3).expect("enough rows");
            let learned: Vec<usize> =
                [&parts.fit, &parts.stop, &parts.calibrate].into_iter().flatten().flatten().copied().collect();
            let judged: Vec<usize> = parts.test.iter().flatten().copied().collect();
            let machines = |part: &[usize]| part.iter().map(|row| rows.asset[*row]).collect::<BTreeSet<_>>();
            assert!(machines(&learned).is_disjoint(&machines(&judged)), "fold {fold}");
            let last = learned.iter().map(|row| rows.time_us[*row]).max();
            assert!(last < judged.iter().map(|row| rows.time_us[*row]).min(), "fold {fold}");
            assert!(learned.iter().chain(&judged).all(|row| !closed.contains(row)), "fold {fold} looks at the test");
            judged_by.extend(machines(&judged));
        }
        assert!(judged_by.len() >= 3, "folds are judged by different machines: {judged_by:?}");
    }

    #[test]
    fn a_leak_planted_in_the_rows_that_judge_a_fold_does_not_reach_its_normaliser() {
        let dataset = dataset_of(400);
        let clean = Prepared::fold(&dataset, &options(), 1, 3).expect("enough rows");
        let mut planted = dataset.clone();
        for row in clean.parts.test.iter().flatten() {
            planted.healthy.values[row * 2..][..2].fill(1e6);
        }
        let leaked = Prepared::fold(&planted, &options(), 1, 3).expect("enough rows");
        assert_eq!(
            (&clean.mean, &clean.scale, &clean.range, &clean.columns),
            (&leaked.mean, &leaked.scale, &leaked.range, &leaked.columns)
        );
    }

    #[test]
    fn parts_with_a_planted_leak_are_refused() {
        let dataset = dataset_of(400);
        let rows = &dataset.healthy;
        let parts = || Prepared::new(&dataset, &options()).expect("enough rows").parts;
        assert!(parts().refuse_leaks(rows).is_ok());
        let mut twice = parts();
        let copied = twice.fit[0].clone();
        twice.test.push(copied);
        assert!(matches!(twice.refuse_leaks(rows), Err(TrainError::Leak(_))), "a training row that is tested with");
        let mut future = parts();
        std::mem::swap(&mut future.fit, &mut future.test);
        assert!(matches!(future.refuse_leaks(rows), Err(TrainError::Leak(_))), "training on what comes after the test");
    }

    #[test]
    fn few_machines_are_divided_by_time_alone() {
        let mut dataset = dataset_of(400);
        dataset.healthy.asset.iter_mut().for_each(|asset| *asset %= 3);
        let Prepared { parts, .. } = Prepared::fold(&dataset, &options(), 0, 2).expect("enough rows");
        let time = |runs: &[Run]| runs.iter().flatten().map(|row| dataset.healthy.time_us[*row]).collect::<Vec<_>>();
        assert!(time(&parts.calibrate).iter().max() < time(&parts.test).iter().min());
    }
}
