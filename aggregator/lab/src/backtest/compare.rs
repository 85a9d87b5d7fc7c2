//! What came of comparing replayed windows with recorded ones.

use kilter_history::Stream;
use serde_json::{Value, json};

/// What came of comparing one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Same,
    Other,
    /// Rows are missing before it, so nobody knows what the device remembered.
    Unknown,
    /// The device said nothing of it by this model.
    NotRecorded,
}

/// One stream's windows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tally {
    same: usize,
    other: usize,
    unknown: usize,
    not_recorded: usize,
    /// First and last window of each run of windows that are not the same.
    ranges: Vec<(u64, u64, Outcome)>,
}

impl Tally {
    pub(super) fn take(&mut self, index: u64, outcome: Outcome) {
        match outcome {
            Outcome::Same => self.same += 1,
            Outcome::Other => self.other += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::NotRecorded => self.not_recorded += 1,
        }
        if outcome != Outcome::Same {
            match self.ranges.last_mut() {
                Some((_, last, of)) if *of == outcome && index == *last + 1 => *last = index,
                Some(_) | None => self.ranges.push((index, index, outcome)),
            }
        }
    }
}

/// All streams together.
pub(super) fn json<'t>(tallies: impl Iterator<Item = (&'t Stream, &'t Tally)> + Clone) -> Value {
    let told = tallies.clone().flat_map(|(stream, tally)| {
        let asset = &stream.asset;
        let name = format!("{}/{}/{}/{} group {}", asset.tenant, asset.site, asset.asset, stream.point, stream.group);
        tally.ranges.iter().map(move |(first, last, outcome)| {
            let why = match outcome {
                Outcome::Same => "the same",
                Outcome::Other => "other bits than recorded",
                Outcome::Unknown => {
                    "not comparable: rows are missing before it, and no break since has emptied the memory"
                }
                Outcome::NotRecorded => "the device recorded no score of this model",
            };
            json!({ "stream": name, "first": first, "last": last, "why": why })
        })
    });
    let ranges: Vec<Value> = told.take(MOST_RANGES).collect();
    let sum = |of: fn(&Tally) -> usize| tallies.clone().map(|(_, tally)| of(tally)).sum::<usize>();
    json!({
        "same": sum(|tally| tally.same), "other": sum(|tally| tally.other),
        "not_comparable": sum(|tally| tally.unknown), "not_recorded": sum(|tally| tally.not_recorded),
        "ranges": ranges,
    })
}

/// More are counted and not listed.
const MOST_RANGES: usize = 200;
