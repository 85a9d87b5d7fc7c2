//! What the lab knows between journal and lake: the fold, and each table's tail beyond its last commit.
//!
//! A core: entries go in, batches to commit and views to ask come out. Everything changes under one lock, so that fold, tails and
//! position always stand at the same offset.

use std::collections::BTreeMap;
use std::sync::Arc;

use kilter_fold::{Entry, EntryError, Fold, MarkState, Output};
use kilter_history::{Asset, View};
use kilter_lake::{Rows, Snapshot, Stream, Streams, TableName};
use kilter_types::{Class, DeviceId, Digest, Event, JournalId, Micros, Payload, Point, Seal};
use kilter_wire::seal::{Fingerprint, is_signed};
use tracing::warn;

use crate::files::Keys;
use crate::lost::Lost;

/// See the module's text.
pub(crate) struct State {
    fold: Fold,
    /// Everything below was folded.
    position: u64,
    tails: BTreeMap<TableName, Tail>,
    /// Records that the lake already holds although this journal's fold calls them new.
    ghosts: Streams,
    /// What the lake lost and is fetched from the edge again.
    pub(crate) lost: Lost,
    /// Which kind of machine each machine is.
    classes: BTreeMap<Asset, String>,
    /// When drift was last reported, by kind of machine.
    drift: BTreeMap<String, Micros>,
    /// With what devices seal, and how many of them are known on the disk.
    keys: Keys,
    kept_keys: usize,
    rows: u64,
}

/// Everything to commit at one offset.
pub(crate) struct Batch {
    /// The offset.
    pub(crate) position: u64,
    /// Rows per table that has any.
    pub(crate) rows: Vec<Rows>,
    /// The fold at that offset.
    pub(crate) fold: Vec<u8>,
    /// Its marks.
    pub(crate) marks: Vec<MarkState>,
    /// With what devices seal, where that is not kept yet.
    pub(crate) keys: Option<Keys>,
}

struct Tail {
    snapshot: Snapshot,
    sealed: Vec<Arc<Rows>>,
    open: Rows,
}

impl State {
    /// Starts at `position` with the tables as they are.
    pub(crate) fn new(fold: Fold, position: u64, snapshots: Vec<Snapshot>, ghosts: Streams) -> Self {
        let tail = |snapshot: Snapshot| {
            let open = Rows::new(snapshot.table);
            (snapshot.table, Tail { snapshot, sealed: Vec::new(), open })
        };
        Self {
            fold,
            position,
            tails: snapshots.into_iter().map(tail).collect(),
            ghosts,
            lost: Lost::default(),
            classes: BTreeMap::new(),
            drift: BTreeMap::new(),
            keys: Keys::new(),
            kept_keys: 0,
            rows: 0,
        }
    }

    /// Takes what was known of machines before `position`.
    pub(crate) fn know(&mut self, classes: BTreeMap<Asset, String>, drift: BTreeMap<String, Micros>) {
        self.classes.extend(classes);
        self.drift.extend(drift);
    }

    /// These are the keys that are kept.
    pub(crate) fn keep_keys(&mut self, kept: Keys) {
        self.kept_keys = kept.len();
        for (device, keys) in kept {
            self.keys.insert(device, keys);
        }
    }

    /// With what devices seal.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What was folded of each device, as marks.
    pub(crate) fn marks(&self) -> Vec<MarkState> {
        self.fold.marks()
    }

    /// Folds the entry at `offset`; the next one lies at `next`.
    pub(crate) fn apply(&mut self, offset: u64, next: u64, bytes: &[u8]) -> Result<(), EntryError> {
        let entry = Entry::decode(bytes)?;
        self.lost.take(&self.fold, offset, &entry);
        let mut outputs = Vec::new();
        self.fold.apply(offset, entry, &mut |output| outputs.push(output));
        self.position = next;
        outputs.iter().for_each(|output| self.take(output, offset));
        Ok(())
    }

    /// A table has committed up to what its new snapshot says.
    pub(crate) fn committed(&mut self, snapshot: Snapshot) {
        let upto = snapshot.offset.map_or(0, |offset| offset.offset);
        if let Some(tail) = self.tails.get_mut(&snapshot.table) {
            // Rows of a chunk ascend by offset; one that straddles stays, the seam hides its first part.
            tail.sealed.retain(|rows| !rows.is_empty() && rows.journal_offset(rows.len() - 1) >= upto);
            tail.snapshot = snapshot;
        }
    }

    /// Everything that waits, with the fold at the same offset.
    pub(crate) fn batch(&mut self) -> Batch {
        self.seal();
        let mut waiting = Vec::new();
        for (name, tail) in &self.tails {
            let mut rows = Rows::new(*name);
            tail.sealed.iter().for_each(|chunk| rows.extend(chunk));
            if !rows.is_empty() {
                waiting.push(rows);
            }
        }
        let keys = (self.keys.len() != self.kept_keys).then(|| self.keys.clone());
        Batch { position: self.position, rows: waiting, fold: self.fold.snapshot(), marks: self.fold.marks(), keys }
    }

    /// Every table, lake and tail.
    pub(crate) fn views(&mut self) -> Vec<View> {
        self.seal();
        let view = |tail: &Tail| View { snapshot: tail.snapshot.clone(), tail: tail.sealed.clone() };
        self.tails.values().map(view).collect()
    }

    /// Every table as it is in the lake.
    pub(crate) fn pinned(&self) -> Vec<View> {
        self.tails.values().map(|tail| View { snapshot: tail.snapshot.clone(), tail: Vec::new() }).collect()
    }

    /// Bytes that wait for a commit.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let bytes = |tail: &Tail| tail.open.bytes() + tail.sealed.iter().map(|rows| rows.bytes()).sum::<usize>();
        self.tails.values().map(bytes).sum()
    }

    /// Rows that wait for a commit.
    pub(crate) fn waiting_rows(&self) -> usize {
        self.tails.values().map(|tail| tail.open.len() + tail.sealed.iter().map(|rows| rows.len()).sum::<usize>()).sum()
    }

    /// Everything below was folded.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The journal that is folded.
    pub(crate) fn journal_id(&self) -> Option<JournalId> {
        self.fold.journal_id()
    }

    /// Rows taken since the start.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The versions and offsets of the tables.
    pub(crate) fn snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        self.tails.values().map(|tail| &tail.snapshot)
    }

    /// Kinds of machines for which devices reported drift, and when last.
    pub(crate) fn drift(&self) -> &BTreeMap<String, Micros> {
        &self.drift
    }

    fn take(&mut self, output: &Output, offset: u64) {
        let table = Rows::table_of(output);
        self.watch(output);
        let Some(tail) = self.tails.get_mut(&table) else { return };
        if tail.snapshot.offset.is_some_and(|committed| offset < committed.offset) {
            return;
        }
        if !self.ghosts.is_empty() && is_ghost(&self.ghosts, output) {
            return;
        }
        self.rows += 1;
        tail.open.push(output);
        if tail.open.len() >= CHUNK_ROWS {
            tail.seal();
        }
    }

    /// Remembers what training needs to know at once.
    fn watch(&mut self, output: &Output) {
        let Output::Row(row) = output else { return };
        match &row.record.payload {
            Payload::Report(report) => {
                self.classes.insert(asset_of(&row.record.point), report.asset_class.to_string());
            }
            Payload::Event(Event::Drift { .. }) => {
                if let Some(class) = self.classes.get(&asset_of(&row.record.point)) {
                    let last = self.drift.entry(class.clone()).or_default();
                    *last = (*last).max(row.received);
                }
            }
            Payload::Seal(seal) => self.pin(&row.device, seal),
            _ => {}
        }
    }

    /// The first key seen of a device is its key; another one is told.
    fn pin(&mut self, device: &DeviceId, seal: &Seal) {
        let key = Digest(seal.key).to_string();
        match self.keys.get(device.as_str()) {
            Some(known) if known.contains(&key) => {}
            Some(_) => warn!(
                %device,
                key = %Fingerprint::of(&seal.key),
                "a seal by another key than the first one seen of this device: `kilter-lab accept-key` where that is right"
            ),
            None if is_signed(seal) => drop(self.keys.insert(device.to_string(), vec![key])),
            None => {}
        }
    }

    fn seal(&mut self) {
        self.tails.values_mut().for_each(Tail::seal);
    }
}

impl Tail {
    fn seal(&mut self) {
        if !self.open.is_empty() {
            let full = std::mem::replace(&mut self.open, Rows::new(self.snapshot.table));
            self.sealed.push(Arc::new(full));
        }
    }
}

fn asset_of(point: &Point) -> Asset {
    Asset { tenant: point.tenant.to_string(), site: point.site.to_string(), asset: point.asset.to_string() }
}

fn is_ghost(ghosts: &Streams, output: &Output) -> bool {
    let Output::Row(row) = output else { return false };
    let class: Class = row.record.class();
    let stream = Stream { device: row.device.to_string(), epoch: row.record.epoch.0, class: class.as_str().to_owned() };
    ghosts.get(&stream).is_some_and(|ranges| ranges.contains(row.record.seq))
}

const CHUNK_ROWS: usize = 4_096;
