//! The remaining life of a kind of machine: from lives that ran to failure in the lake to what a head learns from, or to why there are too few.
//!
//! A life is what `kilter_history::lives` says it is. A column takes part if nearly every window has it, and then only windows that have
//! every such column: a device says nothing on the others either. What is left counts in hours of time, also those in which the machine stood;
//! for a machine that counts cycles a cycle counts as an hour.

use std::collections::BTreeSet;

use anyhow::bail;
use kilter_history::{Asset, Frame, Lives, Selection, View, lives};
use kilter_train::{Card, Life, LifeDataset, Origin, teach_life};
use kilter_types::GroupKind;
use serde_json::{Value, json};

use crate::gather::{KINDS, features_of};

/// What a head is for, as keys of models say it.
pub(crate) const TASK: &str = "rul";

/// What the lake holds of a kind of machine.
pub(crate) enum Found {
    /// Enough, in the order of their ends.
    Lives(LifeDataset),
    /// Too few; how many there are and how many are needed.
    Few(String),
}

/// The lives of the first kind of group of which enough machines have one.
pub(crate) fn gather(assets: &[Asset], features: &View, events: &View, least_lives: usize) -> anyhow::Result<Found> {
    let mut most = (0, 0);
    for (kind, name) in KINDS {
        let selection = Selection {
            assets: assets.to_vec(),
            kind: name.into(),
            margin_windows: 0,
            known_at_us: None,
            recent_us: None,
        };
        let found = lives(features, events, &selection)?;
        if found.lives.is_empty() {
            continue;
        }
        let (dataset, count) = dataset(kind, &found)?;
        let machines: BTreeSet<_> = dataset.machines.iter().map(|life| life.asset).collect();
        if machines.len() >= least_lives {
            return Ok(Found::Lives(dataset));
        }
        most = most.max((machines.len(), count));
    }
    let (machines, count) = most;
    Ok(Found::Few(format!(
        "no head for the remaining life: {count} lives of {machines} machines ran to failure in the lake, lives of {least_lives} machines are \
         needed; a life ends with maintenance whose word says that the machine failed, as \"failed\" or \"failed-bearing\""
    )))
}

/// Makes the head of a card again; its digest.
pub(crate) fn again(
    found: Found,
    card: &Card,
    steps: usize,
    progress: &mut dyn FnMut(Value),
) -> anyhow::Result<String> {
    let dataset = match found {
        Found::Lives(dataset) => dataset,
        Found::Few(why) => bail!("failed to make {} again: {why}", card.digest),
    };
    let mut tell = |step, steps, loss| progress(told(&card.key.asset_class, (step, steps, loss)));
    Ok(teach_life(&dataset, (card.seed, steps, 0), &Origin::default(), &mut tell)?.card.digest)
}

/// A step for whoever watches.
pub(crate) fn told(class: &str, (step, steps, loss): (usize, usize, f32)) -> Value {
    json!({ "progress": { "asset_class": class, "stage": "remaining life", "step": step, "steps": steps, "loss": loss } })
}

/// What a head learns from, and how many lives that are.
fn dataset(kind: GroupKind, found: &Lives) -> anyhow::Result<(LifeDataset, usize)> {
    let all = features_of(kind, found.schema, found.width)?;
    let strands = || found.lives.iter().flat_map(|life| &life.strands);
    let rows: usize = strands().map(|strand| strand.valid.len()).sum();
    let having = |column: usize| {
        let valid = strands().flat_map(|strand| &strand.valid);
        valid.filter(|valid| **valid >> column & 1 == 1).count()
    };
    let columns: Vec<usize> =
        (0..found.width).filter(|column| 100 * having(*column) >= HAVING_PERCENT * rows).collect();
    let mask = columns.iter().fold(0_u64, |mask, column| mask | 1 << column);
    let (mut machines, mut count) = (Vec::new(), 0);
    for life in &found.lives {
        let before = machines.len();
        for strand in &life.strands {
            let whole: Vec<usize> = (0..strand.valid.len()).filter(|row| strand.valid[*row] & mask == mask).collect();
            if whole.len() >= LEAST_ROWS {
                let values = |row: &usize| {
                    let row = &strand.values[row * found.width..][..found.width];
                    columns.iter().map(|column| row[*column]).collect::<Vec<_>>()
                };
                machines.push(Life {
                    rows: whole.iter().flat_map(values).collect(),
                    left: left(kind, strand, &whole, life.end_us),
                    extra: 0,
                    asset: Some(life.asset),
                });
            }
        }
        count += usize::from(machines.len() > before);
    }
    let features = columns.iter().map(|column| all[*column].clone()).collect();
    Ok((LifeDataset { group: kind, features, settings: Vec::new(), machines }, count))
}

/// What was left after each of these windows: hours, or cycles by their own count, which may begin anew within a life.
fn left(kind: GroupKind, strand: &Frame, rows: &[usize], end_us: i64) -> Vec<f32> {
    if kind != GroupKind::Cycle {
        return rows.iter().map(|row| ((end_us - strand.time_us[*row]) as f64 / HOUR_US) as f32).collect();
    }
    let mut cycles = vec![0.0; rows.len()];
    for place in (1..rows.len()).rev() {
        let step = strand.index[rows[place]].saturating_sub(strand.index[rows[place - 1]]).max(1);
        cycles[place - 1] = cycles[place] + step as f32;
    }
    cycles
}

/// Of a hundred windows so many must have a column.
const HAVING_PERCENT: usize = 95;
/// A life of fewer windows tells nothing.
const LEAST_ROWS: usize = 20;
const HOUR_US: f64 = 3.6e9;

#[cfg(test)]
mod tests {
    use kilter_history::RunToFailure;
    use kilter_signal::table::Schema;

    use super::*;

    fn life(asset: u32, windows: u64, width: usize) -> RunToFailure {
        let mut strand = Frame::default();
        for index in 0..windows {
            strand.values.extend((0..width).map(|column| index as f32 + column as f32));
            // The first window lacks a column that all others have; nearly all lack the last one.
            strand.valid.push(if index == 0 { 0b10 } else { 0b011 });
            strand.index.push(index % 30);
            strand.time_us.push(index as i64 * 1_800_000_000);
        }
        RunToFailure { asset, end_us: windows as i64 * 1_800_000_000, strands: vec![strand] }
    }

    #[test]
    fn a_head_learns_from_whole_windows_and_columns_that_nearly_all_have_and_counts_hours_or_cycles() {
        let schema = Schema::of(GroupKind::Temperature, 1);
        let width = schema.features().len();
        let found = Lives {
            schema: schema.hash().0,
            width,
            lives: vec![life(4, 40, width), life(7, 10, width), life(4, 25, width)],
        };
        let (dataset, count) = dataset(GroupKind::Temperature, &found).expect("a schema of this build");
        assert_eq!((count, dataset.machines.len(), dataset.features.len()), (2, 2, 2), "ten windows are no life");
        let first = &dataset.machines[0];
        assert_eq!((first.asset, first.left.len(), first.rows.len()), (Some(4), 39, 78));
        assert_eq!((first.left[0], first.left[38], &first.rows[..2]), (19.5, 0.5, &[1.0, 2.0][..]));
        // The count of cycles began anew after 30.
        let strand = &found.lives[0].strands[0];
        let cycles = left(GroupKind::Cycle, strand, &(0..40).collect::<Vec<_>>(), 0);
        assert_eq!((cycles[39], cycles[38], cycles[0]), (0.0, 1.0, 39.0));
        assert_eq!(left(GroupKind::Cycle, strand, &[3, 7], 0), [4.0, 0.0], "a cycle that is missing has passed too");
    }
}
