//! Shift and retrain: a head that knows one population of engines meets another, and learns it from ten of its machines.
//!
//! The train engines of each C-MAPSS subset are split by how fast they wear: the half with the longer lives is the old population,
//! the other the new one. A third of each is kept for the figures and shown to no head. Three heads are compared: one of the old
//! population, one retrained on it and ten new machines (old machines are rehearsed, or they would be
//! forgotten, and both populations count alike), one of all.

use std::path::Path;

use kilter_recording::Recording;

use super::{
    Evaluation, Report, SuiteError,
    cmapss::{CAP, COLUMNS, TURBOFAN, dataset, rows_of, subsets, word_of},
    measure::rmse,
    path::{Said, Signed, cycle_machine, run},
    report::Source,
};
use crate::{LifeOptions, train_life};

pub(crate) fn evaluate(
    folder: &Path,
    evaluation: &Evaluation,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, SuiteError> {
    let mut report = Report::default();
    for (subset, engines) in subsets(folder)? {
        let mut engines = engines.train;
        engines.sort_by_key(|engine| std::cmp::Reverse(rows_of(engine).len()));
        let fast = engines.split_off(engines.len() / 2);
        let (old, old_kept) = kept(engines);
        let (new, new_kept) = kept(fast);
        let ten = &new[..NEW_MACHINES.min(new.len())];
        for seed in 1..=evaluation.seeds {
            let mut options = LifeOptions { seed, cap: CAP as f32, ..LifeOptions::default() };
            options.steps = evaluation.steps.unwrap_or(options.steps);
            let mut head = |name: &str, machines: Vec<Recording>, few: usize| -> Result<Signed, SuiteError> {
                tell(&format!("{subset} seed {seed}: {name}, {} engines", machines.len()));
                let mut dataset = dataset(&machines)?;
                // The last few machines count together as much as the others together.
                let many = machines.len() - few;
                dataset.machines[many..].iter_mut().for_each(|life| life.extra = (many / few.max(1)).saturating_sub(1));
                let model = train_life(&dataset, &options, &mut |_, _, _| {})?;
                let mut signed = Signed::new(model.artifact, TURBOFAN)?;
                signed.parity = model.parity;
                Ok(signed)
            };
            let first = head("old population", old.clone(), 0)?;
            let retrained = head("retrained", [&old[..], ten].concat(), ten.len())?;
            let all = head("all", [&old[..], &new[..]].concat(), 0)?;
            let mut error = |head: &Signed, engines: &[Recording]| error(head, engines, seed, &mut report);
            let (before_new, drifted) = error(&first, &new_kept)?;
            let (before_old, flagged_on_old) = error(&first, &old_kept)?;
            let (after_new, after_old) = (error(&retrained, &new_kept)?.0, error(&retrained, &old_kept)?.0);
            let (all_new, all_old) = (error(&all, &new_kept)?.0, error(&all, &old_kept)?.0);
            let mut add = |metric: &str, value: f64, baseline: f64, heads: &[&Signed]| {
                let heads: Vec<Signed> = heads.iter().map(|head| (*head).clone()).collect();
                report.add(("shift", &subset, Some(seed)), (metric, value, Some(baseline)), &Source::of(&heads));
            };
            add("rmse on new, before", before_new, all_new, &[&first]);
            add("rmse on old, before", before_old, all_old, &[&first]);
            add("rmse on new, retrained", after_new, all_new, &[&retrained]);
            add("rmse on old, retrained", after_old, all_old, &[&retrained]);
            add("ratio on new (goal 1.3)", after_new / all_new, before_new / all_new, &[&retrained, &all]);
            add("ratio on old (goal 1.05)", after_old / all_old, before_old / all_old, &[&retrained, &all]);
            add("new engines with drift flagged", drifted, flagged_on_old, &[&first]);
            let flagged = |share: f64| f64::from(u8::from(share > FLAGGED));
            add("new population flagged", flagged(drifted), flagged(flagged_on_old), &[&first]);
        }
        report.scorings += 3 * evaluation.seeds as usize;
    }
    report.notes.push("shift baselines: of errors the head trained on all engines; of ratios the head before retraining; of drift the old engines".to_owned());
    Ok(report)
}

/// Every third machine is kept from training.
fn kept(engines: Vec<Recording>) -> (Vec<Recording>, Vec<Recording>) {
    let (kept, used): (Vec<_>, Vec<_>) = engines.into_iter().enumerate().partition(|(place, _)| place % 3 == 1);
    let plain = |list: Vec<(usize, Recording)>| list.into_iter().map(|(_, engine)| engine).collect();
    (plain(used), plain(kept))
}

/// Every-cycle capped error on these engines, and in which share of them drift was flagged.
fn error(model: &Signed, engines: &[Recording], seed: u64, report: &mut Report) -> Result<(f64, f64), SuiteError> {
    let (mut words, mut truth, mut drifted) = (Vec::new(), Vec::new(), 0usize);
    for engine in engines {
        let life = rows_of(engine).len();
        let said = run(cycle_machine(COLUMNS)?, Some(model), engine)?;
        report.keep(("shift", &engine.name, Some(seed)), &said);
        drifted += usize::from(said.iter().any(|word| matches!(word, Said::Drift)));
        for (row, rul) in said.iter().filter_map(|word| word_of(word, model)) {
            words.push(f64::from(rul.hours.0));
            truth.push(((life - 1) as f64 - row as f64).min(CAP));
        }
    }
    Ok((rmse(&words, &truth), drifted as f64 / engines.len().max(1) as f64))
}

const NEW_MACHINES: usize = 10;
/// A population has drifted when more than this share of its machines say so. Of machines that fit, up to a tenth break a promise whose
/// interval covers nine tenths.
const FLAGGED: f64 = 0.5;
