//! C-MAPSS turbofan engines: how many cycles are left, for each subset that lies in the folder.
//!
//! `train_X` and `test_X` hold engines, `RUL_X` what the test engines had left after their last row. A head is trained on the train
//! engines alone and speaks of every row of the test engines through the monitor. A cycle counts as an hour. What is left is
//! capped at 125 in training; figures are given for truth capped and as it is.

use std::collections::BTreeMap;
use std::path::Path;

use kilter_recording::{DataSet, Item, Recording, read_bounded};
use kilter_signal::table::{Schema, describe};
use kilter_types::GroupKind;

use super::{
    Evaluation, Report, SuiteError,
    measure::{phm08, rmse},
    path::{For, Said, Signed, cycle_machine, run},
    report::Source,
};
use crate::{Feature, Life, LifeDataset, LifeModel, LifeOptions, random::Random, train_life};

pub(crate) fn evaluate(
    folder: &Path,
    evaluation: &Evaluation,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, SuiteError> {
    let mut report = Report::default();
    for (subset, engines) in subsets(folder)? {
        let mut dataset = dataset(&engines.train)?;
        if evaluation.shuffled_labels {
            shuffle(&mut dataset);
        }
        let truth = truth(folder, &subset, engines.test.len())?;
        for seed in 1..=evaluation.seeds {
            tell(&format!("{subset} seed {seed}: {} engines to learn from", dataset.machines.len()));
            let mut options = LifeOptions { seed, cap: CAP as f32, ..LifeOptions::default() };
            options.steps = evaluation.steps.unwrap_or(options.steps);
            let model = train_life(&dataset, &options, &mut |step, of, loss| {
                tell(&format!("{subset} seed {seed}: step {step} of {of}, loss {loss:.5}"));
            })?;
            one(&subset, seed, &model, &engines, &truth, &dataset, &mut report)?;
        }
        report.scorings += evaluation.seeds as usize;
    }
    report.notes.push(PUBLISHED.to_owned());
    Ok(report)
}

fn one(
    subset: &str,
    seed: u64,
    model: &LifeModel,
    engines: &Engines,
    truth: &[f64],
    dataset: &LifeDataset,
    report: &mut Report,
) -> Result<(), SuiteError> {
    let mut signed = Signed::new(model.artifact.clone(), TURBOFAN)?;
    signed.parity = model.parity;
    let (mut last, mut every, mut every_truth) = (Vec::new(), Vec::new(), Vec::new());
    let (mut covered, mut width) = (0usize, 0.0);
    for (engine, left) in engines.test.iter().zip(truth) {
        let rows = rows_of(engine).len();
        let said = run(cycle_machine(COLUMNS)?, Some(&signed), engine)?;
        report.keep(("cmapss", &engine.name, Some(seed)), &said);
        let words: BTreeMap<u64, _> = said.iter().filter_map(|word| word_of(word, &signed)).collect();
        for row in 0..rows {
            // A row without a word would be scored by nobody.
            let rul = words.get(&(row as u64)).ok_or_else(|| super::path::failed("a row without a score"))?;
            every.push(f64::from(rul.hours.0));
            every_truth.push(left + (rows - 1 - row) as f64);
        }
        let rul = words.get(&(rows as u64 - 1)).ok_or_else(|| super::path::failed("an engine without rows"))?;
        last.push(f64::from(rul.hours.0));
        let (low, high) = (f64::from(rul.low.0), f64::from(rul.high.0));
        covered += usize::from((low..=high.max(CAP)).contains(&left.min(CAP)) && left.min(CAP) <= high);
        width += high.min(CAP) - low;
    }
    let capped = |truth: &[f64]| truth.iter().map(|left| left.min(CAP)).collect::<Vec<_>>();
    let mean = {
        let all: Vec<f64> =
            dataset.machines.iter().flat_map(|m| m.left.iter().map(|l| f64::from(*l).min(CAP))).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    let constant = vec![mean; every.len()];
    let (constant_last, engines_tested) = (&constant[..last.len()], last.len() as f64);
    let source = Source::of(std::slice::from_ref(&signed));
    let mut add = |metric: &str, value: f64, baseline: Option<f64>| {
        report.add(("cmapss", subset, Some(seed)), (metric, value, baseline), &source);
    };
    let (at_end, all) = (capped(truth), capped(&every_truth));
    add("rmse last cycle, capped", rmse(&last, &at_end), Some(rmse(constant_last, &at_end)));
    add("phm08 last cycle, capped", phm08(&last, &at_end), Some(phm08(constant_last, &at_end)));
    add("rmse last cycle, uncapped", rmse(&last, truth), Some(rmse(constant_last, truth)));
    add("phm08 last cycle, uncapped", phm08(&last, truth), Some(phm08(constant_last, truth)));
    add("rmse every cycle, capped", rmse(&every, &all), Some(rmse(&constant, &all)));
    add("rmse every cycle, uncapped", rmse(&every, &every_truth), Some(rmse(&constant, &every_truth)));
    add("90 % interval covers, last cycle", covered as f64 / engines_tested, None);
    add("90 % interval width, cycles", width / engines_tested, None);
    add("parameters", model.parameters as f64, None);
    add(&format!("parity with Burn ({} leads)", model.head.word()), model.parity, None);
    // What was chosen by: the trainer's own words on train engines, so a note and not a row.
    let held_out: Vec<String> =
        model.held_out.iter().map(|(head, error)| format!("{} {error:.2}", head.word())).collect();
    report.notes.push(format!(
        "{subset} seed {seed}: rmse on train engines that were held out: {}; {} leads",
        held_out.join(", "),
        model.head.word()
    ));
    Ok(())
}

pub(crate) struct Engines {
    pub(crate) train: Vec<Recording>,
    pub(crate) test: Vec<Recording>,
}

/// Train and test engines of each subset for which all three files are there.
pub(crate) fn subsets(folder: &Path) -> Result<BTreeMap<String, Engines>, SuiteError> {
    let mut subsets: BTreeMap<String, Engines> = BTreeMap::new();
    for source in DataSet::Cmapss.sources(folder)? {
        let (file, _) = source.name.rsplit_once('-').unwrap_or((&source.name, ""));
        let Some((part, subset)) = file.split_once('_') else { continue };
        let engines =
            subsets.entry(subset.to_owned()).or_insert_with(|| Engines { train: Vec::new(), test: Vec::new() });
        match part {
            "train" => engines.train.push(source.read()?),
            _ => engines.test.push(source.read()?),
        }
    }
    subsets.retain(|_, engines| !engines.train.is_empty() && !engines.test.is_empty());
    Ok(subsets)
}

/// What the test engines had left, in their order.
fn truth(folder: &Path, subset: &str, engines: usize) -> Result<Vec<f64>, SuiteError> {
    let own = folder.join("cmapss");
    let folder = if own.is_dir() { own } else { folder.to_owned() };
    let names = [format!("RUL_{subset}.txt"), format!("RUL_{subset}.txt.gz")];
    let path = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    let path = path.unwrap_or_else(|| folder.join(&names[0]));
    let bytes = read_bounded(&path)?;
    let text = String::from_utf8_lossy(&bytes);
    let left: Option<Vec<f64>> = text.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
    match left {
        Some(left) if left.len() == engines => Ok(left),
        _ => Err(SuiteError::Format {
            file: path.display().to_string(),
            what: format!("does not hold a number for each of {engines} engines"),
        }),
    }
}

/// Engines that ran to failure, as a data set to learn from.
pub(crate) fn dataset(engines: &[Recording]) -> Result<LifeDataset, SuiteError> {
    let features = Schema::of(GroupKind::Cycle, COLUMNS);
    let named = |reference: &kilter_types::FeatureRef| Feature {
        reference: *reference,
        name: describe(reference.id).map_or_else(String::new, |described| described.name.as_str().to_owned()),
    };
    let life = |engine: &Recording| {
        let rows = rows_of(engine);
        let left = (0..rows.len()).rev().map(|left| left as f32).collect();
        Life { rows: rows.concat(), left, extra: 0, asset: None }
    };
    Ok(LifeDataset {
        group: GroupKind::Cycle,
        features: features.features().iter().map(named).collect(),
        settings: (0..SETTINGS).collect(),
        machines: engines.iter().map(life).collect(),
    })
}

/// Every row gets what some other row had left.
fn shuffle(dataset: &mut LifeDataset) {
    let mut all: Vec<f32> = dataset.machines.iter().flat_map(|life| life.left.iter().copied()).collect();
    Random::new(1, "shuffled labels").shuffle(&mut all);
    let mut all = all.into_iter();
    for life in &mut dataset.machines {
        life.left.iter_mut().zip(&mut all).for_each(|(left, other)| *left = other);
    }
}

pub(crate) fn rows_of(engine: &Recording) -> Vec<&[f32]> {
    engine
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Cycle { row, .. } => Some(row.as_slice()),
            Item::Block { .. } | Item::Reading { .. } | Item::Event { .. } | Item::Skipped { .. } => None,
        })
        .collect()
}

pub(crate) fn word_of(word: &Said, signed: &Signed) -> Option<(u64, kilter_types::Rul)> {
    match word {
        Said::Score(score) if score.model == signed.digest => Some((score.input.index, score.rul?)),
        Said::Score(_) | Said::Alarm { .. } | Said::Drift => None,
    }
}

/// What a head of such engines is for.
pub(crate) const TURBOFAN: For<'_> = For { task: "rul", class: "turbofan", asset: None };
pub(crate) const CAP: f64 = 125.0;
pub(crate) const COLUMNS: usize = 24;
const SETTINGS: usize = 3;
const PUBLISHED: &str = "published for FD001, last cycle, capped RMSE: LSTM 16.14, DCNN 12.61, transformer 10.61; measured floors: ridge 15.07, \
small MLP 12.9-13.4, small LSTM 14.0, gradient boosting 12.55";
