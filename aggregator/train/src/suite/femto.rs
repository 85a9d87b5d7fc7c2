//! FEMTO: bearings worn to failure in hours, one snapshot every ten seconds. The first 100 snapshots are a bearing's own beginning;
//! how far a bearing strays from it while it runs in and works is learned from the other bearings alone.
//!
//! What is left is told by a head that was trained on the other bearings alone, at three quarters of each life, and scored as the
//! challenge did. A head that does not beat the mean on bearings it did not see says the mean.

use std::path::Path;

use kilter_monitor::ChannelKind;
use kilter_recording::{ChannelDeclaration, CsvDeclaration, CsvTime, Declaration, Recording, TimeFormat, open};
use kilter_types::{GroupKind, Micros, Severity, Unit};

use super::{
    Evaluation, Report, SuiteError,
    alarm::{raised, standing},
    detector::{Straying, Table, Tuning},
    path::{For, Said, Signed, machine, run},
    report::Source,
    skab::{features, table},
};
use crate::{Bank, Feature, Life, LifeDataset, LifeOptions, train_life};

pub(crate) fn evaluate(
    folder: &Path,
    evaluation: &Evaluation,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, SuiteError> {
    let bearings = bearings(folder)?;
    let tables: Vec<Table> = bearings.iter().map(table).collect();
    let mut report = Report::default();
    let mut worth: Vec<(u64, f64, f64, Signed)> = Vec::new();
    for (number, (bearing, rows)) in bearings.iter().zip(&tables).enumerate() {
        let count = rows.rows().len();
        let beginning = rows.first(TRAIN);
        let others: Vec<&Table> =
            tables.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, table)| table).collect();
        let straying = if others.is_empty() {
            Straying::alone(&beginning, TUNING)
        } else {
            Straying::from_lives(&others, TRAIN, tuning_by(&others)?)?
        };
        let columns = features(rows.width)?;
        let artifact = straying.artifact(&beginning, &columns, GroupKind::Reading, TUNING)?;
        let model = Signed::new(artifact, For { task: "anomaly", class: "bearing", asset: Some(&bearing.name) })?;
        let said = run(config(bearing)?, Some(&model), bearing)?;
        report.keep(("femto", &bearing.name, None), &said);
        let share = |row: Option<&usize>| row.map_or(f64::NAN, |row| *row as f64 / count as f64);
        let source = Source::of(std::slice::from_ref(&model));
        let mut add = |metric: &str, value: f64, baseline: Option<f64>| {
            report.add(("femto", &bearing.name, None), (metric, value, baseline), &source);
        };
        for (word, least) in [("alarm", Severity::Watch), ("severe alarm", Severity::Alarm)] {
            let alarms = raised(&standing(&said, count, least));
            tell(&format!("{}: {count} snapshots, {word} at {alarms:?}", bearing.name));
            let (early, late): (Vec<usize>, Vec<usize>) = alarms.into_iter().partition(|row| row * 5 < count);
            add(&format!("first {word} after 20 %, share of life"), share(late.first()), Some(0.9));
            add(&format!("{word}s in the first 20 % of life"), early.len() as f64, None);
        }
        for seed in 1..=evaluation.seeds {
            let (words, said, mean, head) = left(number, &bearings, &tables, seed, evaluation)?;
            report.keep(("femto", &bearing.name, Some(seed)), &words);
            let source = Source::of(std::slice::from_ref(&head));
            let at = count * 3 / 4;
            let truth = (count - at) as f64 * SNAPSHOT_HOURS;
            let (ours, baseline) = (challenge(said, truth), challenge(mean, truth));
            worth.push((seed, ours, baseline, head));
            let mut add = |metric: &str, value: f64, baseline: Option<f64>| {
                report.add(("femto", &bearing.name, Some(seed)), (metric, value, baseline), &source);
            };
            add("hours left at 75 % of life", said, Some(truth));
            add("challenge score", ours, Some(baseline));
        }
        report.scorings += 1;
    }
    let all = format!("{} bearings", bearings.len());
    for seed in 1..=evaluation.seeds {
        let of: Vec<_> = worth.iter().filter(|(s, ..)| *s == seed).collect();
        let count = of.len().max(1) as f64;
        let (ours, baseline) = (of.iter().map(|w| w.1).sum::<f64>(), of.iter().map(|w| w.2).sum::<f64>());
        let heads: Vec<Signed> = of.iter().map(|w| w.3.clone()).collect();
        let figures = ("challenge score, mean", ours / count, Some(baseline / count));
        report.add(("femto", &all, Some(seed)), figures, &Source::of(&heads));
    }
    report.notes.push("baseline of \"hours left\" is the truth; of the alarm the goal; of the score the mean of the other bearings' lives".to_owned());
    Ok(report)
}

/// The threshold's place that serves the other bearings best: most of them alarmed between 20 and 90 % of their lives when the rest
/// taught; of equals the highest.
fn tuning_by(others: &[&Table]) -> Result<Tuning, SuiteError> {
    let mut best = (TUNING, None);
    for healthy_below in [1.0, 0.99, 0.95, 0.9, 0.8, 0.7] {
        let tuning = Tuning { healthy_below, ..TUNING };
        let mut served = 0;
        for (number, life) in others.iter().enumerate() {
            let rest: Vec<&Table> =
                others.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, table)| *table).collect();
            let rest = if rest.is_empty() { vec![*life] } else { rest };
            let rows = life.rows().len();
            let first = Straying::from_lives(&rest, TRAIN, tuning)?.first_alarm(life, TRAIN, tuning);
            served += usize::from(first.is_some_and(|row| (rows / 5..rows * 9 / 10).contains(&row)));
        }
        if best.1.is_none_or(|most| served > most) {
            best = (tuning, Some(served));
        }
    }
    Ok(best.0)
}

/// The words of a head trained on the other bearings, what it says at three quarters of this one's life, and the mean of the others.
fn left(
    number: usize,
    bearings: &[Recording],
    tables: &[Table],
    seed: u64,
    evaluation: &Evaluation,
) -> Result<(Vec<Said>, f64, f64, Signed), SuiteError> {
    let references = features(tables[number].width)?;
    let others: Vec<&Table> =
        tables.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, table)| table).collect();
    let life = |table: &&Table| {
        let rows = table.rows().len();
        let left = (0..rows).rev().map(|left| left as f32).collect();
        Life { rows: table.values.clone(), left, extra: 0, asset: None }
    };
    let longest = others.iter().map(|table| table.rows().len()).max().unwrap_or(1) as f32;
    let dataset = LifeDataset {
        group: GroupKind::Reading,
        features: references.iter().map(|r| Feature { reference: *r, name: String::new() }).collect(),
        settings: Vec::new(),
        machines: others.iter().map(life).collect(),
    };
    let options = LifeOptions {
        seed,
        cap: longest,
        hours_per_unit: SNAPSHOT_HOURS as f32,
        bank: Bank { smoothing: vec![0.1, 0.02, 0.0], age_scale: 0.0 },
        hidden: vec![16],
        members: others.len().clamp(2, 5),
        steps: evaluation.steps.unwrap_or(1_500),
        ..LifeOptions::default()
    };
    let model = train_life(&dataset, &options, &mut |_, _, _| {})?;
    let signed = Signed::new(model.artifact, For { task: "rul", class: "bearing", asset: None })?;
    let bearing = &bearings[number];
    let said = run(config(bearing)?, Some(&signed), bearing)?;
    let at = (tables[number].rows().len() * 3 / 4) as u64;
    let word = said.iter().find_map(|word| match word {
        Said::Score(score) if score.input.index == at && score.model == signed.digest => Some(score.rul?.hours.0),
        Said::Score(_) | Said::Alarm { .. } | Said::Drift => None,
    });
    let word = word.ok_or_else(|| super::path::failed("a snapshot without a score"))?;
    let lives: f64 = others.iter().map(|table| table.rows().len() as f64).sum();
    let mean = (lives / others.len() as f64 / 4.0) * SNAPSHOT_HOURS;
    Ok((said, f64::from(word), mean, signed))
}

/// The challenge's accuracy: too late halves every 5 %, too early every 20 %.
fn challenge(said: f64, truth: f64) -> f64 {
    let error = 100.0 * (truth - said) / truth;
    let half = 0.5f64.ln();
    if error <= 0.0 { (-half * error / 5.0).exp() } else { (half * error / 20.0).exp() }
}

fn config(bearing: &Recording) -> Result<kilter_monitor::MachineConfig, SuiteError> {
    let kind = ChannelKind::Reading { period: Some(Micros::from_secs(1)) };
    let channels: Vec<_> = bearing.channels.iter().map(|c| (c.name.as_str(), c.unit, kind)).collect();
    let mut config = machine(&channels, GroupKind::Reading, 1, 1)?;
    config.commissioning_windows = TRAIN as u32;
    Ok(config)
}

/// Every `…_features.csv`: one row per snapshot. The snapshot's number stands for its time.
fn bearings(folder: &Path) -> Result<Vec<Recording>, SuiteError> {
    let own = folder.join("femto");
    let folder = if own.is_dir() { own } else { folder.to_owned() };
    let column = |name: &str, unit: Unit| ChannelDeclaration { column: name.to_owned(), name: None, unit: Some(unit) };
    let csv = CsvDeclaration {
        time: Some(CsvTime { column: "file_no".to_owned(), format: TimeFormat::UnixSeconds }),
        columns: vec![
            column("rms_h_g", Unit::G),
            column("rms_v_g", Unit::G),
            column("kurt_h", Unit::One),
            column("kurt_v", Unit::One),
            column("peak_h_g", Unit::G),
            column("peak_v_g", Unit::G),
        ],
        ..CsvDeclaration::default()
    };
    let mut found = super::files(&folder, &["_features.csv", "_features.csv.gz"])?;
    found.sort();
    let declaration = Declaration { csv: Some(csv), ..Declaration::default() };
    found.iter().map(|path| Ok(open(path, &declaration)?)).collect()
}

const TRAIN: usize = 100;
const SNAPSHOT_HOURS: f64 = 10.0 / 3_600.0;
const TUNING: Tuning = Tuning::new(0.1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_forgives_early_words_more_than_late_ones() {
        assert!((challenge(10.0, 10.0) - 1.0).abs() < 1e-12);
        assert!((challenge(10.5, 10.0) - 0.5).abs() < 1e-12);
        assert!((challenge(8.0, 10.0) - 0.5).abs() < 1e-12);
    }
}
