//! The fold itself: entries in, rows out.

use std::collections::BTreeMap;

use kilter_types::{Class, DeviceId, Epoch, Gap, JournalId, Micros, Payload, Record};
use kilter_wire::{Batch, BatchRecord, ClassAck, decode_record};
use serde::{Deserialize, Serialize};

use crate::time::{Anchor, solve};
use crate::{Entry, MarkState, Marks, Taken};

/// The state of the fold: small, and the same after the same entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    journal_id: Option<JournalId>,
    now: Micros,
    marks: Marks,
    anchors: BTreeMap<DeviceId, (Epoch, Anchor)>,
    duplicates: u64,
    refused: u64,
}

/// One record, new and dated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Who sent it.
    pub device: DeviceId,
    /// When it came in.
    pub received: Micros,
    /// Where it stands in the journal.
    pub offset: u64,
    /// When it happened.
    pub event_time: Micros,
    /// How far that may be off.
    pub event_bound: Micros,
    /// The record as it was made.
    pub record: Record,
}

/// What an entry gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// A new record.
    Row(Box<Row>),
    /// Something that can't be read, kept for a person to look at.
    Quarantine {
        /// Who sent it.
        device: DeviceId,
        /// When it came in.
        received: Micros,
        /// Where it stands in the journal.
        offset: u64,
        /// What is wrong with it.
        reason: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

impl Fold {
    /// A fold before its first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the entry that stands at `offset` of the journal.
    pub fn apply(&mut self, offset: u64, entry: Entry, sink: &mut dyn FnMut(Output)) {
        let over_quota = matches!(entry, Entry::OverQuota { .. });
        match entry {
            Entry::Opened { journal_id, at, marks } => {
                *self = Self { journal_id: Some(journal_id), now: at, ..Self::default() };
                marks.iter().for_each(|state| self.marks.set(state));
            }
            Entry::Batch { device, received, epoch, records }
            | Entry::OverQuota { device, received, epoch, records } => {
                self.now = self.now.max(received);
                let batch = Batch { epoch, count: 0, records: &records };
                for record in batch.iter() {
                    match record {
                        Ok(record) if over_quota && !Class::from_u8(record.class).is_some_and(Class::is_brief) => {
                            self.set_aside(&device, epoch, record, received, offset, sink);
                        }
                        Ok(record) => self.record(&device, epoch, record, received, offset, sink),
                        Err(error) => sink(Output::Quarantine {
                            device: device.clone(),
                            received,
                            offset,
                            reason: error.as_str().into(),
                            bytes: Vec::new(),
                        }),
                    }
                }
            }
            Entry::Exchange { device, epoch, received, monotonic, round_trip_us } => {
                self.now = self.now.max(received);
                if let Some(anchor) = Anchor::new(received, monotonic, round_trip_us) {
                    let best = match self.anchors.get(&device) {
                        Some((known, old)) if *known == epoch => old.better(anchor, monotonic),
                        Some(_) | None => anchor,
                    };
                    self.anchors.insert(device, (epoch, best));
                }
            }
            Entry::Tick { now } => self.now = self.now.max(now),
            Entry::Quarantined { device, received, reason, bytes } => {
                self.now = self.now.max(received);
                sink(Output::Quarantine { device, received, offset, reason, bytes });
            }
        }
    }

    /// The records of an entry that the lake had and lost, dated as rows again. Dedup knows them as taken and goes on knowing them so: this
    /// changes nothing, and who asks for it sees to it that the lake holds none of them.
    pub fn again(
        &self,
        offset: u64,
        entry: &Entry,
        lost: &mut dyn FnMut(&DeviceId, Epoch, Class, u64) -> bool,
        sink: &mut dyn FnMut(Row),
    ) {
        let Entry::Batch { device, received, epoch, records } = entry else { return };
        let batch = Batch { epoch: *epoch, count: 0, records };
        for raw in batch.iter().map_while(Result::ok) {
            let Some(class) = Class::from_u8(raw.class).filter(|class| lost(device, *epoch, *class, raw.seq)) else {
                continue;
            };
            let Ok(record) = decode_record(raw.bytes) else { continue };
            // Nothing says how long ago it was: its receipt would date it wrongly.
            let dated = record.wall.is_some() || self.anchor(device, *epoch).is_some();
            if dated && check(&record, *epoch, class, raw.seq).is_ok() {
                sink(self.row(device, *received, offset, record));
            }
        }
    }

    /// Takes over what a part of the journal that is gone had brought: the marks that were published with its rows, in the place of
    /// its own.
    pub fn take_over(&mut self, journal_id: JournalId, marks: &[MarkState]) {
        self.journal_id = Some(journal_id);
        self.marks = Marks::default();
        marks.iter().for_each(|state| self.marks.set(state));
    }

    /// Restores a state that [`Fold::snapshot`] wrote.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        match bytes.split_first() {
            Some((&SNAPSHOT_VERSION, body)) => postcard::from_bytes(body).map_err(|_| SnapshotError::Body),
            Some((&version, _)) => Err(SnapshotError::Version(version)),
            None => Err(SnapshotError::Body),
        }
    }

    /// The state as bytes, to be stored with the offset of the last entry applied.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = vec![SNAPSHOT_VERSION];
        bytes.extend(postcard::to_allocvec(self).expect("the state holds nothing that postcard can't write"));
        bytes
    }

    /// The journal that is folded.
    pub fn journal_id(&self) -> Option<JournalId> {
        self.journal_id
    }

    /// The fold's clock: the latest time that an entry named.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Records that came more than once.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Records not taken because their device has too many holes; it sends them again.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Every mark, in a fixed order.
    pub fn marks(&self) -> Vec<MarkState> {
        self.marks.all()
    }

    /// The marks of one device, in the order in which its epochs were last seen.
    pub fn marks_of(&self, device: &DeviceId) -> Vec<MarkState> {
        self.marks.of(device)
    }

    /// The same epoch by epoch, the one that was seen last first: who asks for what moved need not read on.
    pub fn latest_marks_of(&self, device: &DeviceId) -> impl Iterator<Item = (Epoch, Vec<MarkState>)> {
        self.marks.latest(device)
    }

    /// The accepted marks of one epoch, as an ack carries them; committed marks are left at 0.
    pub fn acks(&self, device: &DeviceId, epoch: Epoch) -> Vec<ClassAck> {
        self.marks.acks(device, epoch)
    }

    fn record(
        &mut self,
        device: &DeviceId,
        epoch: Epoch,
        raw: BatchRecord<'_>,
        received: Micros,
        offset: u64,
        sink: &mut dyn FnMut(Output),
    ) {
        let Some(class) = Class::from_u8(raw.class) else {
            return quarantine(device, received, offset, "class", raw.bytes, sink);
        };
        let gap = if class == Class::Gap { gap_in(raw.bytes) } else { None };
        if gap.is_some_and(|gap| !self.marks.has_room(device, &gap)) {
            self.refused += 1;
            return;
        }
        if !self.take(device, epoch, class, raw.seq) {
            return;
        }
        let record = match decode_record(raw.bytes) {
            Ok(record) => record,
            Err(error) => return quarantine(device, received, offset, error.as_str(), raw.bytes, sink),
        };
        if let Err(reason) = check(&record, epoch, class, raw.seq) {
            return quarantine(device, received, offset, reason, raw.bytes, sink);
        }
        if let Some(gap) = gap {
            self.marks.cover(device, &gap);
        }
        sink(Output::Row(Box::new(self.row(device, received, offset, record))));
    }

    /// A row beyond its device's day: held, so that it is not sent again, and no row.
    fn set_aside(
        &mut self,
        device: &DeviceId,
        epoch: Epoch,
        raw: BatchRecord<'_>,
        received: Micros,
        offset: u64,
        sink: &mut dyn FnMut(Output),
    ) {
        if Class::from_u8(raw.class).is_none_or(|class| self.take(device, epoch, class, raw.seq)) {
            quarantine(device, received, offset, "quota", raw.bytes, sink);
        }
    }

    /// Whether the record is new.
    fn take(&mut self, device: &DeviceId, epoch: Epoch, class: Class, seq: u64) -> bool {
        match self.marks.take(device, epoch, class, seq) {
            Taken::New => return true,
            Taken::Duplicate => self.duplicates += 1,
            Taken::TooFar => self.refused += 1,
        }
        false
    }

    fn anchor(&self, device: &DeviceId, epoch: Epoch) -> Option<Anchor> {
        self.anchors.get(device).filter(|(known, _)| *known == epoch).map(|(_, anchor)| *anchor)
    }

    fn row(&self, device: &DeviceId, received: Micros, offset: u64, record: Record) -> Row {
        let solved = solve(&record, self.anchor(device, record.epoch), received);
        Row {
            device: device.clone(),
            received,
            offset,
            event_time: solved.event_time,
            event_bound: solved.bound,
            record,
        }
    }
}

fn gap_in(bytes: &[u8]) -> Option<Gap> {
    match decode_record(bytes).ok()?.payload {
        Payload::Gap(gap) => Some(gap),
        _ => None,
    }
}

fn quarantine(
    device: &DeviceId,
    received: Micros,
    offset: u64,
    reason: &str,
    bytes: &[u8],
    sink: &mut dyn FnMut(Output),
) {
    sink(Output::Quarantine { device: device.clone(), received, offset, reason: reason.into(), bytes: bytes.to_vec() });
}

/// What a record must hold to become a row.
fn check(record: &Record, epoch: Epoch, class: Class, seq: u64) -> Result<(), &'static str> {
    if record.epoch != epoch || record.class() != class || record.seq != seq {
        return Err("envelope_differs");
    }
    let finite = match &record.payload {
        Payload::Features(row) => row.vector.values.iter().all(|value| value.is_finite()) && row.rpm.0.is_finite(),
        Payload::Score(score) => score.anomaly.is_finite() && score.threshold.is_finite() && score.rest.is_finite(),
        Payload::Alarm(alarm) => alarm.evidence.iter().all(|line| line.value.is_finite() && line.limit.is_finite()),
        Payload::Spectrum(spectrum) => spectrum.line_hz.is_finite() && spectrum.full_scale.is_finite(),
        // Raw samples may hold NaN: a sensor says so where one is missing.
        Payload::Clip(clip) => clip.rate.0.is_finite() && clip.samples.len() % 4 == 0,
        Payload::Event(_) | Payload::Gap(_) | Payload::Opening(_) | Payload::Report(_) | Payload::State(_) => true,
        Payload::Seal(_) => true,
    };
    if finite { Ok(()) } else { Err("non_finite") }
}

/// Why bytes are not a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A version that this build does not know.
    #[error(
        "read a fold snapshot of version {0}: this build reads version {SNAPSHOT_VERSION}; it folds the journal again"
    )]
    Version(u8),
    /// Not readable.
    #[error("read a fold snapshot: it is damaged; the journal is folded again")]
    Body,
}

const SNAPSHOT_VERSION: u8 = 1;
