//! Looks for better options of the network within a budget of steps, by cross-validation inside the training part.
//!
//! A candidate is trained on each fold ([`Prepared::fold`]), exported, calibrated and scored by the kernel, as the final model
//! will be. Its merit is the share of simulated faults that it finds on machines and times it did not see; a share of healthy
//! windows above the threshold beyond one percent costs ten times itself. Rows that calibrate or test the final model, and
//! labelled faults, take no part: choices come from training rows alone.

mod halving;
#[cfg(test)]
pub(crate) mod memory;
mod space;

use kilter_types::Digest;

pub use halving::{Measured, SearchProgress, Standing, Trial, TrialLog};
pub use space::Device;

use self::halving::{Halving, Piece};
use crate::{Dataset, Networks, TrainError, TrainOptions, bench::Bench, parallel, prepare::Prepared};

/// How much is spent on a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchOptions {
    /// Candidates, the given options among them.
    pub candidates: usize,
    /// Steps of each in the first rung; three times as many in the next.
    pub first_steps: usize,
    /// Folds, 2 to 8.
    pub folds: usize,
    /// Threads; 0: as many as the machine runs at once. The result does not depend on it.
    pub workers: usize,
    /// What the model must fit in.
    pub device: Option<Device>,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self { candidates: 9, first_steps: 60, folds: 3, workers: 0, device: None }
    }
}

/// What a search gave.
#[derive(Clone, Debug)]
pub struct Found {
    /// The given options with what was found; the budget is the given one.
    pub options: TrainOptions,
    /// Of everything measured and of the choice: the same data, options and budget give the same.
    pub digest: Digest,
    /// The places after each rung, the best first.
    pub standings: Vec<Standing>,
    /// The choice in words.
    pub why: String,
}

/// Searches; every trial goes to the log, and what the log of the same search already holds is not done again.
pub fn search(
    dataset: &Dataset,
    options: &TrainOptions,
    search: &SearchOptions,
    log: &mut dyn TrialLog,
    tell: &mut dyn FnMut(SearchProgress),
) -> Result<Found, TrainError> {
    options.check()?;
    dataset.check()?;
    if options.networks == Networks::None {
        return Err(TrainError::Option("networks of a search"));
    }
    if !(2..=8).contains(&search.folds) || search.candidates == 0 || search.first_steps == 0 {
        return Err(TrainError::Option("candidates, first_steps or folds of the search"));
    }
    let space = space::candidates(options, search, dataset.features.len())?;
    let key = space::key(dataset, options, search);
    let measure = |piece: Piece| judge(dataset, &space.candidates[piece.candidate], piece, search.folds);
    let describe = |candidate: usize| space::describe(&space.candidates[candidate]);
    let halving = Halving {
        key: &key,
        candidates: space.candidates.len(),
        folds: search.folds,
        first_steps: search.first_steps,
        workers: if search.workers == 0 { parallel::workers() } else { search.workers },
    };
    let outcome = halving.run(&measure, &describe, log, tell)?;
    let why = space::explain(&space, search, &outcome);
    let options = TrainOptions { max_steps: options.max_steps, ..space.candidates[outcome.winner].clone() };
    Ok(Found { options, digest: outcome.digest, standings: outcome.standings, why })
}

/// A candidate on one fold.
fn judge(dataset: &Dataset, candidate: &TrainOptions, piece: Piece, folds: usize) -> Result<Measured, TrainError> {
    let options = TrainOptions { max_steps: piece.steps, look_every: piece.steps.div_ceil(LOOKS), ..candidate.clone() };
    let prepared = Prepared::fold(dataset, &options, piece.fold, folds)?;
    let bench = Bench::of(dataset, &options, prepared);
    let network = bench.network(&mut |_| {})?.ok_or(TrainError::Option("networks of a search"))?;
    let figures = bench.judge(&network.bytes)?;
    Ok(Measured {
        merit: figures.worth() as f32,
        detection: figures.detection as f32,
        false_alarm_share: figures.false_alarm_share as f32,
        windows: u32::try_from(figures.windows).unwrap_or(u32::MAX),
        held_out_loss: network.held_out_loss,
        best_step: u32::try_from(network.steps).unwrap_or(u32::MAX),
    })
}

/// Looks at the held-out loss in a trial.
const LOOKS: usize = 8;

#[cfg(test)]
mod tests {
    use super::{memory::MemoryLog, *};
    use crate::prepare::sample::dataset_of;

    #[test]
    fn a_search_ends_alike_whatever_rows_that_calibrate_or_test_and_labelled_faults_hold() {
        let mut dataset = dataset_of(400);
        dataset.faulty = dataset.healthy.clone();
        let options = TrainOptions { sequence_len: 3, hidden: 8, code: 4, ..TrainOptions::default() };
        let budget = SearchOptions { candidates: 2, first_steps: 6, folds: 2, workers: 1, device: None };
        let found = |dataset: &Dataset| -> Vec<(usize, Option<u32>)> {
            let found = search(dataset, &options, &budget, &mut MemoryLog::default(), &mut |_| {}).expect("a winner");
            found.standings.iter().map(|standing| (standing.candidate, standing.merit.map(f32::to_bits))).collect()
        };
        let expected = found(&dataset);
        let parts = Prepared::new(&dataset, &options).expect("enough rows").parts;
        let mut planted = dataset.clone();
        planted.faulty.values.fill(1e6);
        for row in [&parts.stop, &parts.calibrate, &parts.test].into_iter().flatten().flatten() {
            planted.healthy.values[row * 2..][..2].fill(1e6);
        }
        assert_eq!(found(&planted), expected);
        // The same in the rows that a search does see changes what it finds.
        for row in parts.fit.iter().flatten().skip(3).step_by(7) {
            planted.healthy.values[row * 2] += 5.0;
        }
        assert_ne!(found(&planted), expected);
    }
}
