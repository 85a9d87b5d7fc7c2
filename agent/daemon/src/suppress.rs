//! What the journal already holds is not recorded again when a restart computes it again.
//!
//! After a restart the monitor goes on from a checkpoint that is up to a second old, so the windows since then come a second
//! time. Per machine, group and class the journal's last window index is known from one scan: everything up to it is left
//! out, and of that last window itself exactly what was found, because a crash may have cut it in the middle. Events and
//! baselines carry no index; they are recognised as they are, once each.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use kilter_types::{Class, Digest, Micros, Name, Payload, Record, Role};

/// What was found in the journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suppress {
    windows: BTreeMap<(Name, u8, Class), Last>,
    others: BTreeMap<u64, u32>,
}

impl Suppress {
    /// A record that the journal holds.
    pub(crate) fn note(&mut self, record: &Record) {
        let asset = &record.point.asset;
        match window(&record.payload) {
            Some((group, index, mark)) => {
                let last = self.windows.entry((asset.clone(), group, record.class())).or_default();
                if index > last.index || last.marks.is_empty() {
                    *last = Last { index, marks: vec![mark] };
                } else if index == last.index {
                    last.marks.push(mark);
                }
            }
            None => {
                if let Some(mark) = other(asset, record.wall.unwrap_or_default(), &record.payload) {
                    *self.others.entry(mark).or_default() += 1;
                }
            }
        }
    }

    /// Does the journal hold this already?
    pub(crate) fn covers(&mut self, asset: &Name, at: Micros, payload: &Payload) -> bool {
        if let Some((group, index, mark)) = window(payload) {
            let last = self.windows.get(&(asset.clone(), group, payload.class()));
            return last.is_some_and(|last| index < last.index || index == last.index && last.marks.contains(&mark));
        }
        let Some(mark) = other(asset, at, payload) else { return false };
        match self.others.get_mut(&mark) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            Some(_) | None => false,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Last {
    index: u64,
    marks: Vec<u64>,
}

/// Group, window and a mark that tells apart what one window can say in one class.
fn window(payload: &Payload) -> Option<(u8, u64, u64)> {
    match payload {
        Payload::Features(row) => Some((row.group, row.index, 0)),
        Payload::Score(score) => {
            let mark = match (score.model == Digest::NONE, score.role) {
                (true, _) => 0,
                (false, Role::Leader) => 1,
                (false, Role::Shadow) => 2,
            };
            Some((score.input.group, score.input.index, mark))
        }
        Payload::Alarm(alarm) => {
            Some((alarm.input.group, alarm.input.index, u64::from(alarm.id) << 8 | alarm.state as u64))
        }
        Payload::Spectrum(spectrum) => Some((spectrum.group, spectrum.index, u64::from(spectrum.envelope))),
        Payload::Event(_) | Payload::Gap(_) | Payload::Opening(_) | Payload::Report(_) => None,
        Payload::State(_) | Payload::Clip(_) | Payload::Seal(_) => None,
    }
}

/// Events and baselines by their content.
fn other(asset: &Name, at: Micros, payload: &Payload) -> Option<u64> {
    match payload {
        Payload::Event(_) | Payload::State(_) => {}
        Payload::Features(_) | Payload::Score(_) | Payload::Alarm(_) | Payload::Spectrum(_) => return None,
        Payload::Gap(_) | Payload::Opening(_) | Payload::Report(_) => return None,
        Payload::Clip(_) | Payload::Seal(_) => return None,
    }
    let mut bytes = [0; 2048];
    let bytes = postcard::to_slice(payload, &mut bytes).ok()?;
    let mut hasher = DefaultHasher::new();
    asset.as_str().hash(&mut hasher);
    at.0.hash(&mut hasher);
    bytes.hash(&mut hasher);
    Some(hasher.finish())
}
