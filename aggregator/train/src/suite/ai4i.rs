//! AI4I: rows of a synthetic milling machine, each with or without a failure. The first 70 % of the rows train, the rest is scored.
//!
//! The head says how likely a failure is from one row; squared error makes its number a probability. Failure modes are labels and
//! are not shown to it. Folds are blocks of rows in time.

use std::path::Path;

use kilter_recording::{Channel, Item, Notes, Recording, read_bounded};
use kilter_signal::table::Schema;
use kilter_types::{ChannelId, GroupKind, Name, Unit};

use super::{
    Evaluation, Report, SuiteError,
    path::{For, Said, Signed, cycle_machine, failed, run},
    report::Source,
};
use crate::{Bank, Feature, Life, LifeDataset, LifeOptions, train_life};

pub(crate) fn evaluate(
    folder: &Path,
    evaluation: &Evaluation,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, SuiteError> {
    let own = folder.join("ai4i");
    let folder = if own.is_dir() { own } else { folder.to_owned() };
    let mut report = Report::default();
    for path in super::files(&folder, &[".csv", ".csv.gz"])? {
        let (rows, labels) = read(&path)?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let cut = rows.len() * 7 / 10;
        for seed in 1..=evaluation.seeds {
            tell(&format!("{name} seed {seed}: {cut} rows to learn from"));
            let block = cut.div_ceil(BLOCKS);
            let life = |from: usize| Life {
                rows: rows[from..(from + block).min(cut)].concat(),
                left: labels[from..(from + block).min(cut)].iter().map(|failed| f32::from(u8::from(*failed))).collect(),
                extra: 0,
                asset: None,
            };
            let references = Schema::of(GroupKind::Cycle, COLUMNS.len());
            let dataset = LifeDataset {
                group: GroupKind::Cycle,
                features: references
                    .features()
                    .iter()
                    .map(|r| Feature { reference: *r, name: String::new() })
                    .collect(),
                settings: Vec::new(),
                machines: (0..cut).step_by(block).map(life).collect(),
            };
            let options = LifeOptions {
                seed,
                cap: 1.0,
                bank: Bank { smoothing: vec![1.0], age_scale: 0.0 },
                hidden: vec![32, 16],
                steps: evaluation.steps.unwrap_or(3_000),
                learning_rate: 5e-3,
                ..LifeOptions::default()
            };
            let model = train_life(&dataset, &options, &mut |_, _, _| {})?;
            let signed = Signed::new(model.artifact, For { task: "failure", class: "mill", asset: None })?;
            let said = run(cycle_machine(COLUMNS.len())?, Some(&signed), &recording(&rows)?)?;
            report.keep(("ai4i", &name, Some(seed)), &said);
            let mut likely = vec![f64::NAN; rows.len()];
            for word in &said {
                if let Said::Score(score) = word
                    && let Some(rul) = score.rul
                {
                    likely[score.input.index as usize] = f64::from(rul.hours.0);
                }
            }
            let (train, test) = (&likely[..cut], &likely[cut..]);
            let threshold = best_threshold(train, &labels[..cut]);
            let truth = &labels[cut..];
            let share = truth.iter().filter(|l| **l).count() as f64 / truth.len().max(1) as f64;
            let source = Source::of(std::slice::from_ref(&signed));
            let mut add = |metric: &str, value: f64, baseline: Option<f64>| {
                report.add(("ai4i", &name, Some(seed)), (metric, value, baseline), &source);
            };
            add("average precision", average_precision(test, truth), Some(share));
            add("F1", f1(test, truth, threshold), Some(2.0 * share / (1.0 + share)));
            add("parameters", model.parameters as f64, None);
        }
        report.scorings += evaluation.seeds as usize;
    }
    report.notes.push("ai4i baselines: the share of failures, and the F1 of always saying failure".to_owned());
    Ok(report)
}

/// The measured columns of each row, and whether it failed.
fn read(path: &Path) -> Result<(Vec<Vec<f32>>, Vec<bool>), SuiteError> {
    let bytes = read_bounded(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let wrong = |what: String| SuiteError::Format { file: path.display().to_string(), what };
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or("").split(',').map(str::trim).collect();
    let place = |column: &str| {
        header.iter().position(|name| *name == column).ok_or_else(|| wrong(format!("has no column {column:?}")))
    };
    let columns = COLUMNS.iter().map(|column| place(column)).collect::<Result<Vec<_>, _>>()?;
    let failure = place("Machine failure")?;
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let value = |place: &usize| {
            let cell = cells.get(*place).copied().unwrap_or("");
            let quality = QUALITIES.iter().position(|letter| *letter == cell).map(|rank| rank as f32);
            quality.or_else(|| cell.parse().ok()).ok_or_else(|| wrong(format!("line {}: {cell:?}", number + 2)))
        };
        rows.push(columns.iter().map(value).collect::<Result<Vec<f32>, _>>()?);
        labels.push(value(&failure)? > 0.5);
    }
    Ok((rows, labels))
}

fn recording(rows: &[Vec<f32>]) -> Result<Recording, SuiteError> {
    let channel = Channel { name: Name::new("row").map_err(failed)?, unit: Unit::One, rate: None };
    let item = |(position, row): (usize, &Vec<f32>)| Item::Cycle {
        channel: ChannelId(0),
        position: position as u64,
        n: position as u32,
        row: row.clone(),
    };
    Ok(Recording {
        name: "rows".to_owned(),
        channels: vec![channel],
        rpm: None,
        bearing: None,
        items: rows.iter().enumerate().map(item).collect(),
        notes: Notes::default(),
    })
}

fn f1(said: &[f64], truth: &[bool], threshold: f64) -> f64 {
    let hits = said.iter().zip(truth).filter(|(s, t)| **s > threshold && **t).count() as f64;
    let called = said.iter().filter(|s| **s > threshold).count() as f64;
    let real = truth.iter().filter(|t| **t).count() as f64;
    2.0 * hits / (called + real).max(1.0)
}

/// The threshold with the best F1 on these rows.
fn best_threshold(said: &[f64], truth: &[bool]) -> f64 {
    let worth = |place: usize| f1(said, truth, place as f64 / 100.0);
    (1..100).max_by(|a, b| worth(*a).total_cmp(&worth(*b))).map_or(0.5, |place| place as f64 / 100.0)
}

fn average_precision(said: &[f64], truth: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..said.len()).collect();
    order.sort_by(|a, b| said[*b].total_cmp(&said[*a]));
    let (mut hits, mut sum) = (0.0, 0.0);
    for (place, row) in order.into_iter().enumerate() {
        if truth[row] {
            hits += 1.0;
            sum += hits / (place + 1) as f64;
        }
    }
    sum / f64::max(hits, 1.0)
}

const COLUMNS: [&str; 6] = [
    "Type",
    "Air temperature [K]",
    "Process temperature [K]",
    "Rotational speed [rpm]",
    "Torque [Nm]",
    "Tool wear [min]",
];
/// Product quality, by its letter.
const QUALITIES: [&str; 3] = ["L", "M", "H"];
const BLOCKS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_is_one_for_a_perfect_order_and_the_share_of_hits_for_none() {
        assert!((average_precision(&[0.9, 0.1, 0.8, 0.0], &[true, false, true, false]) - 1.0).abs() < 1e-12);
        assert!((average_precision(&[0.1, 0.9], &[true, false]) - 0.5).abs() < 1e-12);
        assert!((f1(&[0.9, 0.1, 0.8], &[true, true, false], 0.5) - 0.5).abs() < 1e-12);
    }
}
