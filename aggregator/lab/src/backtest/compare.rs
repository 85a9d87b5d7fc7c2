//! One stream replayed, and what the device recorded of it.

use std::collections::BTreeMap;

use kilter_history::{RecordedScore, ScoresOf, Stream, Window};
use kilter_monitor::replay::{Replay, Replayed};
use kilter_types::Micros;
use serde_json::{Value, json};

/// One number against its threshold, as the decision takes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) at_us: i64,
    pub(super) start: Micros,
    pub(super) value: f32,
    pub(super) threshold: f32,
}

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

/// Replays a stream; `None` where its rows are not what the model asks for. `take` gets each window of the range that has a score.
pub(super) fn stream(
    artifact: &[u8],
    windows: &[Window],
    recorded: &ScoresOf,
    begins: Option<&Vec<(u64, u64)>>,
    from_us: i64,
    take: &mut dyn FnMut((u64, Outcome)),
) -> anyhow::Result<Option<Vec<Word>>> {
    let Some(first) = windows.first() else { return Ok(None) };
    let Some(schema) = super::schema(first.row.kind, first.row.vector.schema.0) else { return Ok(None) };
    let mut replay: Box<Replay<&[u8]>> = match Replay::new(artifact, &schema) {
        Ok(replay) if replay.group() == Some(first.row.kind) => Box::new(replay),
        Ok(_) | Err(kilter_monitor::InstallError::Features) => return Ok(None),
        Err(error) => anyhow::bail!("failed to {error}"),
    };
    let mut words = Vec::new();
    for window in windows {
        // Another definition of its values is another stream's business.
        if window.row.vector.schema != first.row.vector.schema {
            continue;
        }
        let key = (window.epoch, window.row.index);
        if begins.is_some_and(|begins| begins.contains(&key)) {
            replay.begin();
        }
        let replayed = replay.push(&window.row);
        if window.at_us < from_us {
            continue;
        }
        let outcome = match (recorded.get(&key), &replayed) {
            (Some(old), Some(new)) if new.exact => Some(if is_same(old, new) { Outcome::Same } else { Outcome::Other }),
            (Some(_), None) if replay.is_exact() => Some(Outcome::Other),
            (Some(_), _) => Some(Outcome::Unknown),
            (None, Some(_)) => Some(Outcome::NotRecorded),
            (None, None) => None,
        };
        if let Some(outcome) = outcome {
            take((window.row.index, outcome));
        }
        words.extend(replayed.map(|new| Word {
            at_us: window.at_us,
            start: window.row.start,
            value: new.score.anomaly,
            threshold: new.score.threshold,
        }));
    }
    Ok(Some(words))
}

fn is_same(old: &RecordedScore, new: &Replayed) -> bool {
    let score = &new.score;
    let rul = score.rul.map(|rul| [rul.hours.0, rul.low.0, rul.high.0].map(f32::to_bits));
    old.anomaly.to_bits() == score.anomaly.to_bits()
        && old.threshold.to_bits() == score.threshold.to_bits()
        && old.rul_h.map(|rul| rul.map(f32::to_bits)) == rul
        && old.kernel == score.kernel.0
}

/// All streams together.
#[derive(Debug, Default)]
pub(super) struct Compared {
    same: usize,
    other: usize,
    unknown: usize,
    not_recorded: usize,
    /// First and last window of each run of windows that are not the same.
    ranges: BTreeMap<Stream, Vec<(u64, u64, Outcome)>>,
}

impl Compared {
    pub(super) fn take(&mut self, stream: &Stream, (index, outcome): (u64, Outcome)) {
        match outcome {
            Outcome::Same => self.same += 1,
            Outcome::Other => self.other += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::NotRecorded => self.not_recorded += 1,
        }
        if outcome != Outcome::Same {
            let ranges = self.ranges.entry(stream.clone()).or_default();
            match ranges.last_mut() {
                Some((_, last, of)) if *of == outcome && index == *last + 1 => *last = index,
                Some(_) | None => ranges.push((index, index, outcome)),
            }
        }
    }

    pub(super) fn json(&self) -> Value {
        let told = self.ranges.iter().flat_map(|(stream, ranges)| {
            let asset = &stream.asset;
            let name =
                format!("{}/{}/{}/{} group {}", asset.tenant, asset.site, asset.asset, stream.point, stream.group);
            ranges.iter().map(move |(first, last, outcome)| {
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
        json!({
            "same": self.same, "other": self.other, "not_comparable": self.unknown, "not_recorded": self.not_recorded,
            "ranges": ranges,
        })
    }
}

/// More are counted and not listed.
const MOST_RANGES: usize = 200;
