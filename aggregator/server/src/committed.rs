//! What the lab has committed to the lake: read from the file it publishes, turned into the second ack.

use std::collections::BTreeMap;
use std::path::Path;

use kilter_fold::MarkState;
use kilter_types::{Class, DeviceId, Epoch, JournalId};
use serde::Deserialize;

/// What the lab publishes after each durable commit.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Committed {
    /// The journal that was followed.
    pub(crate) journal_id: u64,
    /// The offset below which no table has a row pending.
    pub(crate) offset: u64,
    /// The fold's marks at that offset.
    pub(crate) marks: Vec<MarkState>,
}

/// The marks by where they belong.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CommittedMarks {
    to: BTreeMap<(DeviceId, Epoch), BTreeMap<Class, u64>>,
    offset: u64,
    journal_id: Option<JournalId>,
}

impl Committed {
    /// Reads the file; `None` while the lab has committed nothing.
    pub(crate) fn read(data: &Path) -> Option<Self> {
        let text = std::fs::read(data.join("lab").join("committed.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

impl CommittedMarks {
    /// Takes over what the lab published.
    pub(crate) fn new(committed: &Committed) -> Self {
        let mut to: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for mark in &committed.marks {
            to.entry((mark.device.clone(), mark.epoch)).or_default().insert(mark.class, mark.to);
        }
        Self { to, offset: committed.offset, journal_id: Some(JournalId(committed.journal_id)) }
    }

    /// Every seq below is committed.
    pub(crate) fn to(&self, device: &DeviceId, epoch: Epoch, class: Class) -> u64 {
        self.classes(device, epoch).find(|(known, _)| *known == class).map_or(0, |(_, to)| to)
    }

    /// The classes of an epoch with their marks.
    pub(crate) fn classes(&self, device: &DeviceId, epoch: Epoch) -> impl Iterator<Item = (Class, u64)> {
        self.to.get(&(device.clone(), epoch)).into_iter().flatten().map(|(class, to)| (*class, *to))
    }

    /// Has anything moved in this epoch since `before`?
    pub(crate) fn moved(&self, before: &Self, device: &DeviceId, epoch: Epoch) -> bool {
        let key = (device.clone(), epoch);
        self.to.get(&key) != before.to.get(&key)
    }

    /// How far the lab is in this journal; 0 in any other.
    pub(crate) fn offset_in(&self, journal: JournalId) -> u64 {
        if self.journal_id == Some(journal) { self.offset } else { 0 }
    }
}
