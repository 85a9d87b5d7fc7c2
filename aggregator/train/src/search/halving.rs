//! Successive halving: many candidates get few steps, the better third of them three times as many, until one is left.
//!
//! Every piece of work (one candidate, one rung, one fold) is logged when it is done, and found in the log when the search
//! begins anew: a killed search goes on where it was, and ends with the same digest. Threads work side by side; a piece sees
//! nothing of another, so their timing decides the order of the log's lines and nothing else. The first candidate is what would
//! be used without a search: it goes through to the last rung, so that the gain is a measured one.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use kilter_types::Digest;
use serde::{Deserialize, Serialize};

use crate::{TrainError, clock::Stopwatch, parallel};

/// Where a search writes its trials, line by line.
pub trait TrialLog {
    /// Every whole line that was written before.
    fn lines(&mut self) -> std::io::Result<Vec<String>>;

    /// Adds a line; it is there after a crash once this returns.
    fn add(&mut self, line: &str) -> std::io::Result<()>;
}

/// How far a search is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchProgress {
    /// Steps done, over all trials.
    pub done: usize,
    /// The budget.
    pub steps: usize,
    /// The best merit of one piece so far.
    pub best: f32,
    /// Seconds left.
    pub eta_secs: f32,
}

/// What a piece of work gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// What candidates are ordered by; more is better.
    pub merit: f32,
    /// Share of simulated faults found, or what else the merit rests on.
    pub detection: f32,
    /// Share of healthy windows above the threshold.
    pub false_alarm_share: f32,
    /// Windows that judged.
    pub windows: u32,
    /// Loss on the part that decided when to stop.
    pub held_out_loss: f32,
    /// Where it stopped: the step of the best weights.
    pub best_step: u32,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Which candidate.
    pub candidate: usize,
    /// Which round.
    pub rung: usize,
    /// Its budget.
    pub steps: usize,
    /// Which fold.
    pub fold: usize,
    /// The candidate's options; for people.
    pub options: BTreeMap<String, f64>,
    /// What came of it.
    pub measured: Option<Measured>,
    /// Why nothing came of it.
    pub error: Option<String>,
}

/// A candidate's place after a rung.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Which candidate.
    pub candidate: usize,
    /// Which round.
    pub rung: usize,
    /// Its budget.
    pub steps: usize,
    /// The mean over the folds; `None` if one of them failed.
    pub merit: Option<f32>,
}

/// The shape of a search.
pub(crate) struct Halving<'a> {
    /// Names data, options and budget: a log of another search is not taken up.
    pub(crate) key: &'a str,
    pub(crate) candidates: usize,
    pub(crate) folds: usize,
    pub(crate) first_steps: usize,
    pub(crate) workers: usize,
}

/// One piece of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) candidate: usize,
    pub(crate) rung: usize,
    pub(crate) steps: usize,
    pub(crate) fold: usize,
}

/// What a search gave.
pub(crate) struct Outcome {
    pub(crate) winner: usize,
    pub(crate) standings: Vec<Standing>,
    pub(crate) digest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    search: String,
}

type Known = BTreeMap<(usize, usize, usize), Option<Measured>>;

impl Halving<'_> {
    pub(crate) fn run(
        &self,
        measure: &(dyn Fn(Piece) -> Result<Measured, TrainError> + Sync),
        describe: &(dyn Fn(usize) -> BTreeMap<String, f64> + Sync),
        log: &mut dyn TrialLog,
        tell: &mut dyn FnMut(SearchProgress),
    ) -> Result<Outcome, TrainError> {
        let mut known = self.known(log)?;
        let stopwatch = Stopwatch::start();
        let budget = self.budget();
        let (mut done, mut fresh) = (0, 0);
        let mut alive: Vec<usize> = (0..self.candidates).collect();
        let mut standings = Vec::new();
        let mut rung = 0;
        loop {
            let steps = self.first_steps * WIDTH.pow(rung as u32);
            let pieces = alive
                .iter()
                .flat_map(|candidate| (0..self.folds).map(|fold| Piece { candidate: *candidate, rung, steps, fold }));
            let (kept, open): (Vec<_>, Vec<_>) =
                pieces.partition(|piece| known.contains_key(&(piece.rung, piece.candidate, piece.fold)));
            done += kept.len() * steps;
            let broken = AtomicBool::new(false);
            let mut failed = None;
            let work = |piece: Piece, say: &mut dyn FnMut(Trial)| {
                // A log that can't be written makes the rest of the work vain.
                if broken.load(Ordering::Relaxed) {
                    return;
                }
                let result = measure(piece);
                let error = result.as_ref().err().map(|error| error.to_string());
                let Piece { candidate, rung, steps, fold } = piece;
                let options = describe(candidate);
                say(Trial { candidate, rung, steps, fold, options, measured: result.ok(), error });
            };
            let mut hear = |trial: Trial| {
                if let Err(error) = write(log, &trial) {
                    broken.store(true, Ordering::Relaxed);
                    failed.get_or_insert(error);
                    return;
                }
                known.insert((trial.rung, trial.candidate, trial.fold), trial.measured);
                (done, fresh) = (done + steps, fresh + steps);
                let eta_secs = stopwatch.secs() / fresh as f32 * budget.saturating_sub(done) as f32;
                let best = known.values().flatten().map(|measured| measured.merit).fold(f32::MIN, f32::max);
                tell(SearchProgress { done, steps: budget.max(done), best, eta_secs });
            };
            parallel::each(open, self.workers, &work, &mut hear);
            if let Some(error) = failed {
                return Err(TrainError::Log(error));
            }
            let order = self.ranked(&alive, rung, steps, &known);
            standings.extend(order.iter().cloned());
            if self.planned(rung) <= 1 {
                let best = order.first().filter(|standing| standing.merit.is_some());
                let winner = best.ok_or(TrainError::NoTrial)?.candidate;
                return Ok(Outcome { winner, digest: self.digest(&known, winner), standings });
            }
            alive = order.iter().take(self.planned(rung + 1)).map(|standing| standing.candidate).collect();
            if !alive.contains(&0) {
                alive.push(0);
            }
            rung += 1;
        }
    }

    /// Candidates of a rung, the first one not counted where it would have gone.
    fn planned(&self, rung: usize) -> usize {
        (0..rung).fold(self.candidates, |count, _| count.div_ceil(WIDTH))
    }

    fn budget(&self) -> usize {
        let rungs = (0..).take_while(|rung| *rung == 0 || self.planned(rung - 1) > 1);
        let of_rung = |rung: usize| {
            let alive = self.planned(rung) + usize::from(rung > 0);
            alive * self.folds * self.first_steps * WIDTH.pow(rung as u32)
        };
        rungs.map(of_rung).sum()
    }

    /// What an earlier run of this very search left.
    fn known(&self, log: &mut dyn TrialLog) -> Result<Known, TrainError> {
        let (mut known, mut ours) = (Known::new(), false);
        for line in log.lines().map_err(TrainError::Log)? {
            if let Ok(header) = serde_json::from_str::<Header>(&line) {
                ours = header.search == self.key;
            } else if let Ok(trial) = serde_json::from_str::<Trial>(&line)
                && ours
            {
                known.insert((trial.rung, trial.candidate, trial.fold), trial.measured);
            }
        }
        if !ours {
            write(log, &Header { search: self.key.to_owned() }).map_err(TrainError::Log)?;
        }
        Ok(known)
    }

    /// The best first; the earlier of equals.
    fn ranked(&self, alive: &[usize], rung: usize, steps: usize, known: &Known) -> Vec<Standing> {
        let standing = |candidate: &usize| {
            let folds: Option<Vec<f32>> =
                (0..self.folds).map(|fold| Some(known.get(&(rung, *candidate, fold)).copied()??.merit)).collect();
            let merit = folds.map(|folds| folds.iter().sum::<f32>() / folds.len().max(1) as f32);
            Standing { candidate: *candidate, rung, steps, merit: merit.filter(|merit| merit.is_finite()) }
        };
        let mut order: Vec<Standing> = alive.iter().map(standing).collect();
        let merit = |standing: &Standing| standing.merit.unwrap_or(f32::MIN);
        order.sort_by(|a, b| merit(b).total_cmp(&merit(a)).then(a.candidate.cmp(&b.candidate)));
        order
    }

    /// Every bit that was measured, in the order of the work.
    fn digest(&self, known: &Known, winner: usize) -> Digest {
        let mut bytes = self.key.as_bytes().to_vec();
        for ((rung, candidate, fold), measured) in known {
            [*rung, *candidate, *fold].iter().for_each(|number| bytes.extend((*number as u64).to_le_bytes()));
            let Measured { merit, detection, false_alarm_share, windows, held_out_loss, best_step } =
                measured.unwrap_or_default();
            bytes.extend([merit, detection, false_alarm_share, held_out_loss].iter().flat_map(|v| v.to_le_bytes()));
            bytes.extend([windows, best_step].iter().flat_map(|v| v.to_le_bytes()));
        }
        bytes.extend((winner as u64).to_le_bytes());
        Digest::of(&bytes)
    }
}

fn write(log: &mut dyn TrialLog, line: &impl Serialize) -> std::io::Result<()> {
    log.add(&serde_json::to_string(line)?)
}

/// One candidate in so many gets a longer budget, and its budget is so many times longer.
const WIDTH: usize = 3;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::search::memory::MemoryLog;

    /// Candidate 5 is the best, but only shows it with more steps; 0 stays middling.
    fn measure(piece: Piece) -> Result<Measured, TrainError> {
        if piece.candidate == 3 {
            return Err(TrainError::Diverged { step: 1 });
        }
        let worth = [0.4, 0.1, 0.3, 0.0, 0.2, 0.5, 0.35, 0.45, 0.15][piece.candidate];
        let learned = 1.0 - 1.0 / (1.0 + piece.steps as f32 / 100.0);
        let merit = worth * learned + 0.001 * piece.fold as f32;
        Ok(Measured { merit, detection: merit, best_step: piece.steps as u32, ..Measured::default() })
    }

    fn halving(workers: usize) -> Halving<'static> {
        Halving { key: "a search", candidates: 9, folds: 2, first_steps: 10, workers }
    }

    fn run(halving: &Halving<'_>, log: &mut MemoryLog) -> Outcome {
        halving.run(&measure, &|_| BTreeMap::new(), log, &mut |_| {}).expect("a winner")
    }

    #[test]
    fn the_better_third_goes_on_with_three_times_the_steps_and_the_first_always_does() {
        let mut log = MemoryLog::default();
        let outcome = run(&halving(2), &mut log);
        assert_eq!(outcome.winner, 5);
        let of = |rung| {
            let of_rung = outcome.standings.iter().filter(move |standing| standing.rung == rung);
            of_rung.map(|standing| (standing.candidate, standing.steps)).collect::<Vec<_>>()
        };
        assert_eq!(of(1), [(5, 30), (7, 30), (0, 30)]);
        assert_eq!(of(2), [(5, 90), (0, 90)]);
        assert_eq!(of(0).last(), Some(&(3, 10)), "what fails is last");
        // A header and every piece: 9 + 3 + 2 candidates with two folds.
        assert_eq!(log.lines.len(), 1 + 2 * 14);
        assert_eq!(log.lines.iter().filter(|line| line.contains("keep the loss finite")).count(), 2);
    }

    #[test]
    fn a_search_cut_at_any_byte_of_its_log_ends_with_the_same_digest_and_repeats_nothing_it_knew() {
        let mut whole = MemoryLog::default();
        let expected = run(&halving(1), &mut whole);
        let text = whole.lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        for cut in (0..text.len()).step_by(97) {
            let mut log = MemoryLog::from_text(&text[..cut]);
            let begun = AtomicUsize::new(0);
            let counted = |piece| {
                begun.fetch_add(1, Ordering::Relaxed);
                measure(piece)
            };
            let known = log.lines.iter().filter(|line| serde_json::from_str::<Trial>(line).is_ok()).count();
            let outcome = halving(2).run(&counted, &|_| BTreeMap::new(), &mut log, &mut |_| {}).expect("a winner");
            assert_eq!((outcome.winner, outcome.digest), (expected.winner, expected.digest), "cut at {cut}");
            assert_eq!(begun.into_inner(), 28 - known, "cut at {cut}");
        }
    }

    #[test]
    fn a_log_of_another_search_is_not_taken_up() {
        let mut log = MemoryLog::default();
        run(&Halving { key: "another", ..halving(2) }, &mut log);
        let lines = log.lines.len();
        run(&halving(2), &mut log);
        assert_eq!(log.lines.len(), 2 * lines);
    }

    #[test]
    fn a_log_that_cannot_be_written_ends_the_search() {
        let mut log = MemoryLog { room: Some(5), ..MemoryLog::default() };
        let ended = halving(2).run(&measure, &|_| BTreeMap::new(), &mut log, &mut |_| {});
        assert!(matches!(ended, Err(TrainError::Log(_))));
        let mut log = MemoryLog { room: None, ..log };
        let expected = run(&halving(1), &mut MemoryLog::default()).digest;
        assert_eq!(run(&halving(2), &mut log).digest, expected, "and it goes on when there is room again");
    }
}
