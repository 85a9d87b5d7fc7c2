//! One stream replayed part after part, and what the device recorded of it.

use kilter_history::{RecordedScore, ScoresOf, Window};
use kilter_monitor::replay::{Replay, Replayed};
use kilter_signal::table::Schema;
use kilter_types::{GroupKind, Micros, SchemaHash};

use super::{
    Subject,
    compare::{Outcome, Tally},
};

/// One number against its threshold, as the decision takes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) at_us: i64,
    pub(super) start: Micros,
    pub(super) value: f32,
    pub(super) threshold: f32,
}

/// A stream on its way through time.
pub(super) struct Track<'s> {
    judge: Judge<'s>,
    /// Another definition of a row's values is another stream's business.
    schema: SchemaHash,
    pub(super) words: Vec<Word>,
    pub(super) tally: Tally,
    /// The last window's number and time, and distances of neighbours.
    last: Option<(u64, i64)>,
    periods_us: Vec<i64>,
}

enum Judge<'s> {
    Model { replay: Box<Replay<&'s [u8]>>, recorded: ScoresOf, begins: Vec<(u64, u64)> },
    Rule { place: usize, limit: f32 },
}

impl<'s> Track<'s> {
    /// A stream whose first window this is; `None` where its rows are not what is asked for.
    pub(super) fn new(
        subject: &'s Subject,
        first: &Window,
        recorded: ScoresOf,
        begins: Vec<(u64, u64)>,
    ) -> anyhow::Result<Option<Self>> {
        let (kind, hash) = (first.row.kind, first.row.vector.schema);
        let Some(schema) = schema(kind, hash) else { return Ok(None) };
        let judge = match subject {
            Subject::Model { artifact, .. } => match Replay::new(artifact.as_slice(), &schema) {
                Ok(replay) if replay.group() == Some(kind) => {
                    Judge::Model { replay: Box::new(replay), recorded, begins }
                }
                Ok(_) | Err(kilter_monitor::InstallError::Features) => return Ok(None),
                Err(error) => anyhow::bail!("failed to {error}"),
            },
            Subject::Rule { feature, limit } => {
                let id = kilter_signal::table::find(feature);
                match schema.features().iter().position(|reference| Some(reference.id) == id) {
                    Some(place) => Judge::Rule { place, limit: *limit },
                    None => return Ok(None),
                }
            }
        };
        let (words, tally) = (Vec::new(), Tally::default());
        Ok(Some(Self { judge, schema: hash, words, tally, last: None, periods_us: Vec::new() }))
    }

    /// The next windows; those of the range that have a word are kept.
    pub(super) fn more(&mut self, windows: impl Iterator<Item = Window>, from_us: i64) {
        let schema = self.schema;
        for window in windows.filter(|window| window.row.vector.schema == schema) {
            self.seen(&window);
            match &mut self.judge {
                Judge::Rule { place, limit } => {
                    let value = window.row.vector.get(*place).filter(|_| window.at_us >= from_us);
                    self.words.extend(value.map(|value| Word {
                        at_us: window.at_us,
                        start: window.row.start,
                        value,
                        threshold: *limit,
                    }));
                }
                Judge::Model { replay, recorded, begins } => {
                    let key = (window.epoch, window.row.index);
                    if begins.contains(&key) {
                        replay.begin();
                    }
                    let replayed = replay.push(&window.row);
                    if window.at_us < from_us {
                        continue;
                    }
                    let old = recorded.get(key.0, key.1);
                    let outcome = outcome(old, replayed.as_ref(), replay.is_exact());
                    outcome.into_iter().for_each(|outcome| self.tally.take(window.row.index, outcome));
                    self.words.extend(replayed.map(|new| Word {
                        at_us: window.at_us,
                        start: window.row.start,
                        value: new.score.anomaly,
                        threshold: new.score.threshold,
                    }));
                }
            }
        }
    }

    fn seen(&mut self, window: &Window) {
        let now = (window.row.index, window.at_us);
        if let Some((index, at_us)) = self.last.replace(now)
            && self.periods_us.len() < PERIODS
            && index + 1 == now.0
        {
            self.periods_us.push(now.1.saturating_sub(at_us));
        }
    }

    /// Was there anything to compare or to judge?
    pub(super) fn has_said(&self) -> bool {
        !self.words.is_empty() || self.tally != Tally::default()
    }

    /// The usual distance of two windows.
    pub(super) fn period_s(&self) -> f64 {
        let mut periods = self.periods_us.clone();
        periods.sort_unstable();
        periods.get(periods.len() / 2).copied().unwrap_or_default().max(0) as f64 / 1e6
    }
}

fn outcome(old: Option<&RecordedScore>, new: Option<&Replayed>, exact: bool) -> Option<Outcome> {
    match (old, new) {
        (Some(old), Some(new)) if new.exact => Some(if is_same(old, new) { Outcome::Same } else { Outcome::Other }),
        (Some(_), None) if exact => Some(Outcome::Other),
        (Some(_), _) => Some(Outcome::Unknown),
        (None, Some(_)) => Some(Outcome::NotRecorded),
        (None, None) => None,
    }
}

fn is_same(old: &RecordedScore, new: &Replayed) -> bool {
    let score = &new.score;
    let rul = score.rul.map(|rul| [rul.hours.0, rul.low.0, rul.high.0].map(f32::to_bits));
    old.anomaly.to_bits() == score.anomaly.to_bits()
        && old.threshold.to_bits() == score.threshold.to_bits()
        && old.rul_h.map(|rul| rul.map(f32::to_bits)) == rul
        && old.kernel == score.kernel.0
}

/// The definitions behind a schema's hash.
fn schema(kind: GroupKind, hash: SchemaHash) -> Option<Schema> {
    (1..=64).map(|channels| Schema::of(kind, channels)).find(|schema| schema.hash() == hash)
}

/// Distances that tell the usual one.
const PERIODS: usize = 10_000;
