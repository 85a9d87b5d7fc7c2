//! Machines that ran to failure: the windows of each life, from whatever began it to the last one before somebody said that it failed.
//!
//! A life ends with every record of maintenance, for what would have come without it nobody knows. It counts as run to failure only when the
//! word of that record says so: `failed` or `failure`, alone or before a `-`, `_` or `.` (`failed-outer-race`). Its end is the last window in which
//! the machine still ran steadily, so that a failure that is noted on Monday does not make the weekend a part of the life. Alarms say
//! nothing here: a machine under an alarm is what is to be learned.
//!
//! Point in time (P1): with `known_at_us` only what the aggregator had received by then takes part.

use std::collections::BTreeMap;

use kilter_lake::TableName;
use polars::prelude::{PolarsError, SortMultipleOptions, col, lit};

use crate::{
    Asset, Frame, HistoryError, Selection, View,
    frame::{Windows, assets, numbers, texts, wanted, windows},
};

/// What a selection gives; its margin and its recent time play no part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lives {
    /// The feature schema that most rows have; the others are left out.
    pub schema: u64,
    /// Values per row.
    pub width: usize,
    /// Those that ran to failure, in the order of their ends.
    pub lives: Vec<RunToFailure>,
}

/// One life. A machine has as many as it had failures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunToFailure {
    /// Which machine, as a place in [`Selection::assets`].
    pub asset: u32,
    /// The last window before the failure, in microseconds of event time.
    pub end_us: i64,
    /// The windows of each measuring point and group, one after the other in time, whatever device or epoch they came from.
    pub strands: Vec<Frame>,
}

/// Does this word of a record of maintenance say that the machine failed?
pub fn says_failed(what: &str) -> bool {
    matches!(what.split(['-', '_', '.']).next(), Some("failed" | "failure"))
}

/// Gathers the lives of a selection that ended in a failure. Reads files: not for an async thread.
pub fn lives(features: &View, events: &View, selection: &Selection) -> Result<Lives, HistoryError> {
    if features.table() != TableName::Features {
        return Err(HistoryError::Missing(TableName::Features));
    }
    let ends = ends(events, selection)?;
    if !ends.values().flatten().any(|end| end.failed) {
        return Ok(Lives::default());
    }
    let windows = windows(features, selection)?;
    let rows = Windows::read(&windows).map_err(|error| features.unreadable(error))?;
    Ok(cut(&rows, &ends, selection))
}

/// The end of a life.
struct End {
    at_us: i64,
    failed: bool,
}

/// The ends of each machine's lives, in the order of time.
fn ends(events: &View, selection: &Selection) -> Result<BTreeMap<Asset, Vec<End>>, HistoryError> {
    if events.table() != TableName::Events {
        return Err(HistoryError::Missing(TableName::Events));
    }
    let frame = events
        .scan()?
        .filter(wanted(selection).and(col("event").eq(lit("maintenance"))))
        .sort(["event_time_us", "device", "epoch", "seq"], SortMultipleOptions::default())
        .select(["tenant", "site", "asset", "event_time_us", "label"].map(col))
        .collect()
        .map_err(|error| events.unreadable(error))?;
    let read = || -> Result<_, PolarsError> {
        let (at_us, what) = (numbers(&frame, "event_time_us")?, texts(&frame, "label")?);
        let mut ends: BTreeMap<Asset, Vec<End>> = BTreeMap::new();
        for ((asset, at_us), what) in assets(&frame)?.into_iter().zip(at_us).zip(what) {
            ends.entry(asset).or_default().push(End { at_us, failed: says_failed(&what) });
        }
        Ok(ends)
    };
    read().map_err(|error| events.unreadable(error))
}

fn cut(rows: &Windows, ends: &BTreeMap<Asset, Vec<End>>, selection: &Selection) -> Lives {
    let mut lives = Lives { schema: rows.most_frequent_schema(), ..Lives::default() };
    let good = |row: &usize| rows.schema[*row] == lives.schema && rows.good_bin(*row).is_some();
    let mut of_asset: BTreeMap<&Asset, Vec<usize>> = BTreeMap::new();
    for row in (0..rows.assets.len()).filter(good) {
        of_asset.entry(&rows.assets[row]).or_default().push(row);
    }
    for (place, asset) in (0_u32..).zip(&selection.assets) {
        let (Some(own), Some(ends)) = (of_asset.get(asset), ends.get(asset)) else { continue };
        let mut begin_us = i64::MIN;
        for end in ends {
            let within = |row: &&usize| (begin_us..end.at_us).contains(&rows.time_us[**row]);
            let of_life: Vec<usize> = own.iter().filter(within).copied().collect();
            begin_us = end.at_us;
            let last_us = of_life.iter().map(|row| rows.time_us[*row]).max();
            if let (true, Some(end_us)) = (end.failed, last_us) {
                lives.width = rows.values[of_life[0]].len();
                lives.lives.push(RunToFailure { asset: place, end_us, strands: strands(rows, of_life, place) });
            }
        }
    }
    lives.lives.sort_by_key(|life| (life.end_us, life.asset));
    lives
}

/// The windows of each measuring point and group in the order of time.
fn strands(rows: &Windows, of_life: Vec<usize>, asset: u32) -> Vec<Frame> {
    let mut by_stream: BTreeMap<(&str, i64), Vec<usize>> = BTreeMap::new();
    for row in of_life {
        by_stream.entry((&rows.point[row], rows.group[row])).or_default().push(row);
    }
    let strand = |(series, mut own): (u32, Vec<usize>)| {
        own.sort_by_key(|row| (rows.time_us[*row], rows.index[*row]));
        let mut frame = Frame::default();
        own.into_iter().for_each(|row| frame.push(rows, row, (asset, series, rows.good_bin(row))));
        frame
    };
    (0_u32..).zip(by_stream.into_values()).map(strand).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_that_says_so_is_a_failure() {
        assert!(["failed", "failure", "failed-outer-race", "failed_seal", "failure.2"].into_iter().all(says_failed));
        assert!(
            ["greased", "replaced", "failsafe-tested", "not-failed", ""].into_iter().all(|what| !says_failed(what))
        );
    }
}
