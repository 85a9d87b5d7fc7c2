//! The aggregator's hot half: production admission, journal and fold behind a shell that does what `kilter-aggregator` does.
//!
//! Entries are appended as they come, synced together, folded and only then answered. A snapshot of the fold is kept with its
//! offset; the journal is released behind snapshot and lab.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kilter_fold::{Entry, Fold, MarkState};
use kilter_ingest::{Admission, Admit, Exchange, Intake, Principal};
use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Config, Drop, FsyncPolicy, Journal, Key as Outer, Offset};
use kilter_types::{Class, Epoch, JournalId};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{Ack, Batch, ClassAck, Down, Refetch, TimeReply, Welcome};

use super::agent::BATCH_BYTES;
use super::event::Context;
use super::kept_fold::is_young;
use super::marks::Marks;
use super::record::{device, name};
use super::truth::{Broken, broken};
use super::{CREDIT_BYTES, Plant};
use crate::VirtualClock;

/// The server while it runs.
pub(crate) struct Server {
    journal: Journal<MemoryFilesystem>,
    admission: Admission,
    fold: Fold,
    folded_to: u64,
    seq: u64,
    /// Entries since the last snapshot.
    since: usize,
    waiting: Vec<Waiting>,
    epochs: BTreeMap<usize, BTreeSet<Epoch>>,
    /// Who the agents are, by their number.
    principals: Vec<Principal>,
    /// What the lab has told.
    committed: Marks,
    /// Where a message down is written.
    room: Box<[u8; MESSAGE_BYTES]>,
    /// Messages down: to whom, and what.
    pub(crate) outbox: Vec<(usize, Vec<u8>)>,
}

/// What the server's data folder keeps beside the journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// The fold's snapshot with its offset and its journal.
    pub(crate) snapshot: Option<(JournalId, u64, Vec<u8>)>,
    /// `committed.json`: what the lab has told.
    pub(crate) committed: Option<(JournalId, u64, Marks)>,
    /// What the last run had accepted; only a planted mistake looks at it.
    pub(crate) outlived: Vec<MarkState>,
}

/// A batch that is appended and not yet durable.
struct Waiting {
    agent: usize,
    epoch: Epoch,
    records: Vec<u8>,
    offset: u64,
    entry: Entry,
    with_alarm: bool,
}

impl Server {
    /// Opens the journal and folds it up; `None` while the disk is full. A new one begins with the marks of the lake.
    pub(crate) fn start(
        disk: &MemoryFilesystem,
        config: &Config,
        kept: &Kept,
        agents: usize,
        fresh_id: u64,
        world: &Context,
    ) -> Result<Option<Self>, Broken> {
        let failed =
            |error: kilter_journal::JournalError| Broken { invariant: "J2", detail: format!("server: {error}") };
        let at = VirtualClock::true_wall(world.now_us());
        let open = |config: &Config| Journal::open(disk.clone(), Path::new(DIR), config.clone(), fresh_id);
        let mut opened = open(config);
        // As in the aggregator: a new journal begins with the lake's marks in one entry.
        let first = match &opened {
            Ok((journal, recovery)) if recovery.created => {
                let journal_id = JournalId(journal.id());
                Some(Entry::Opened { journal_id, at, marks: first_marks(kept, world) })
            }
            Ok(_) | Err(_) => None,
        };
        let first_bytes = first.as_ref().map_or(0, |entry| entry.encode().len() as u64 + SEGMENT_SLACK_BYTES);
        if first_bytes > config.segment_bytes {
            drop(opened);
            opened = open(&Config { segment_bytes: first_bytes, ..config.clone() });
        }
        let (mut journal, _) = match opened {
            Ok(opened) => opened,
            Err(error) if error.is_full() => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let journal_id = JournalId(journal.id());
        if let Some(entry) = first {
            match append(&mut journal, &entry, 0).and_then(|_| journal.sync()) {
                Ok(_) => {}
                // Still empty at the next start, so its beginning is written then.
                Err(error) if error.is_full() => return Ok(None),
                Err(error) => return Err(failed(error)),
            }
        }
        let snapshot = kept.snapshot.as_ref().filter(|(id, _, _)| *id == journal_id);
        let restored = snapshot.and_then(|(_, offset, bytes)| Some((*offset, Fold::restore(bytes).ok()?)));
        let (from, mut fold) = restored.unwrap_or_else(|| (journal.first_offset().0, Fold::new()));
        let (mut reader, mut since) = (journal.reader(Offset(from)), 0);
        while let Some(stored) = reader.next().map_err(failed)? {
            since += 1;
            let entry = Entry::decode(&stored.bytes).or_else(|error| broken("J2", error.to_string()))?;
            fold.apply(stored.offset.0, entry, &mut drop);
        }
        let folded_to = journal.next_offset().0;
        Ok(Some(Self {
            journal,
            admission: Admission::new(CREDIT_BYTES),
            fold,
            folded_to,
            seq: 1,
            since,
            waiting: Vec::new(),
            epochs: BTreeMap::new(),
            principals: (0..agents).map(principal).collect(),
            committed: kept.committed.as_ref().map(|(_, _, marks)| marks.clone()).unwrap_or_default(),
            room: Box::new([0; MESSAGE_BYTES]),
            outbox: Vec::new(),
        }))
    }

    /// Takes a payload of an agent; `true` when something waits for a sync.
    pub(crate) fn handle(&mut self, agent: usize, payload: &[u8], world: &Context) -> Result<bool, Broken> {
        let near_cap = self.journal.room_bytes(false) < self.journal.config().max_bytes / 10;
        self.admission.set_intake(if near_cap { Intake::AlarmsOnly } else { Intake::Open });
        let received = VirtualClock::true_wall(world.now_us());
        let (admission, principal) = (&mut self.admission, &self.principals[agent]);
        let device = principal.device.clone();
        match admission.admit(principal, payload, received) {
            Admit::Hello(hello) => {
                let epochs: BTreeSet<Epoch> = hello.held.iter().copied().chain([hello.epoch]).collect();
                self.epochs.entry(agent).or_default().extend(&epochs);
                // Half of the fleet talks to an aggregator of version 1.
                if agent.is_multiple_of(2) {
                    let welcome = Welcome { wire_version: u16::from(kilter_wire::VERSION), software: hello.software };
                    self.send(agent, &Down::Welcome(welcome));
                }
                epochs.into_iter().for_each(|epoch| self.send_ack(agent, epoch));
            }
            Admit::Batch(batch) => {
                self.epochs.entry(agent).or_default().insert(batch.epoch);
                let (epoch, records) = (batch.epoch, batch.records.into_owned());
                let with_alarm = has_alarm(&Batch { epoch, count: 0, records: &records });
                let entry = Entry::Batch { device, received, epoch, records: records.clone() };
                match append(&mut self.journal, &entry, self.seq) {
                    Ok(offset) => {
                        (self.seq, self.since) = (self.seq + 1, self.since + 1);
                        self.waiting.push(Waiting { agent, epoch, records, offset: offset.0, entry, with_alarm });
                        self.check_waiting(agent)?;
                        if world.plant == Some(Plant::AggregatorAcksBeforeSync) {
                            self.answer();
                        }
                    }
                    Err(error) if error.is_full() => {
                        self.settle(agent, &records);
                        self.send_ack(agent, epoch);
                    }
                    Err(error) => return broken("J1", format!("server: {error}")),
                }
            }
            Admit::TimeRequest { request, exchange } => {
                let (id, sent) = (request.id, request.sent);
                self.send(agent, &Down::TimeReply(TimeReply { id, sent, received, replied: received }));
                if let Some(Exchange { epoch, received, monotonic, mut round_trip_us }) = exchange {
                    if world.plant == Some(Plant::HalfARoundTrip) {
                        round_trip_us /= 2;
                    }
                    self.note(Entry::Exchange { device, epoch, received, monotonic, round_trip_us })?;
                }
            }
            Admit::Refuse(_) => {
                let epochs = self.epochs.get(&agent).cloned().unwrap_or_default();
                epochs.into_iter().for_each(|epoch| self.send_ack(agent, epoch));
            }
            Admit::Quarantine { reason, .. } => {
                return broken("D1", format!("a good payload was quarantined: {reason}"));
            }
            Admit::Fetch(_) | Admit::CommandResult(_) => {}
        }
        Ok(!self.waiting.is_empty() || self.journal.sync_due_us().is_some())
    }

    /// The fold's clock.
    pub(crate) fn tick(&mut self, world: &Context) -> Result<(), Broken> {
        self.note(Entry::Tick { now: VirtualClock::true_wall(world.now_us()) })
    }

    /// One sync for all that waits; then it is folded and answered (J1). On a full disk it goes on waiting: `false`.
    pub(crate) fn sync(&mut self) -> Result<bool, Broken> {
        match self.journal.sync() {
            Ok(_) => {
                self.answer();
                Ok(true)
            }
            Err(error) if error.is_full() => Ok(false),
            Err(error) => broken("J1", format!("server: {error}")),
        }
    }

    /// Snapshots the fold and releases what it and the lab have passed. While the last one is young and the journal has room, that does.
    pub(crate) fn snapshot(&mut self, kept: &mut Kept) -> Result<(), Broken> {
        if !self.sync()? {
            return Ok(());
        }
        let roomy = self.journal.room_bytes(false) > self.journal.config().max_bytes / 2;
        if roomy && is_young(self.since, self.committed.len()) {
            return Ok(());
        }
        let id = self.id();
        self.since = 0;
        kept.snapshot = Some((id, self.folded_to, self.fold.snapshot()));
        let lab = kept.committed.as_ref().filter(|(journal, _, _)| *journal == id).map_or(0, |(_, offset, _)| *offset);
        let upto = Offset(lab.min(self.folded_to));
        match self.journal.release(upto) {
            Err(error) if !error.is_full() => broken("J1", error.to_string()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The lab has told what is committed: devices whose marks moved hear of it.
    pub(crate) fn committed(&mut self, kept: &Kept) {
        let Some((_, _, marks)) = &kept.committed else { return };
        let before = std::mem::replace(&mut self.committed, marks.clone());
        let mut moved = Vec::new();
        for (agent, epochs) in self.epochs.iter().filter(|(agent, _)| !before.rest(marks, **agent)) {
            let changed = |epoch: &&Epoch| before.of(*agent, **epoch) != marks.of(*agent, **epoch);
            moved.extend(epochs.iter().filter(changed).map(|epoch| (*agent, *epoch)));
        }
        moved.into_iter().for_each(|(agent, epoch)| self.send_ack(agent, epoch));
    }

    pub(crate) fn id(&self) -> JournalId {
        JournalId(self.journal.id())
    }

    pub(crate) fn marks(&self) -> Vec<MarkState> {
        self.fold.marks()
    }

    pub(crate) fn duplicates(&self) -> u64 {
        self.fold.duplicates()
    }

    fn answer(&mut self) {
        let mut told = BTreeSet::new();
        for waiting in std::mem::take(&mut self.waiting) {
            self.fold.apply(waiting.offset, waiting.entry, &mut drop);
            self.settle(waiting.agent, &waiting.records);
            told.insert((waiting.agent, waiting.epoch));
        }
        self.folded_to = self.journal.next_offset().0;
        told.into_iter().for_each(|(agent, epoch)| self.send_ack(agent, epoch));
    }

    fn note(&mut self, entry: Entry) -> Result<(), Broken> {
        match append(&mut self.journal, &entry, self.seq) {
            Ok(_) => (self.seq, self.since) = (self.seq + 1, self.since + 1),
            Err(error) if error.is_full() => return Ok(()),
            Err(error) => return broken("J1", format!("server: {error}")),
        }
        self.sync().map(|_| ())
    }

    fn settle(&mut self, agent: usize, records: &[u8]) {
        self.admission.settle(&self.principals[agent], records.len());
    }

    /// D3: what an agent can make the server hold is its credit, or one batch; alarms stand beside it.
    fn check_waiting(&self, agent: usize) -> Result<(), Broken> {
        let mine = self.waiting.iter().filter(|waiting| waiting.agent == agent && !waiting.with_alarm);
        let bytes: usize = mine.map(|waiting| waiting.records.len()).sum();
        if bytes > (CREDIT_BYTES as usize).max(BATCH_BYTES) {
            return broken("D3", format!("{bytes} bytes of agent {agent} wait for the journal"));
        }
        Ok(())
    }

    fn send_ack(&mut self, agent: usize, epoch: Epoch) {
        let principal = &self.principals[agent];
        let mut classes: heapless::Vec<ClassAck, 9> = self.fold.acks(&principal.device, epoch).into_iter().collect();
        for &MarkState { class, to, .. } in self.committed.of(agent, epoch) {
            match classes.iter_mut().find(|ack| ack.class == class) {
                Some(ack) => ack.committed_to = to,
                None => {
                    let beyond = heapless::Vec::new();
                    let ack = ClassAck { class, accepted_to: to, beyond, committed_to: to };
                    classes.push(ack).expect("there is room for every class");
                }
            }
        }
        let credit_bytes = self.admission.credit_bytes(principal);
        self.send(agent, &Down::Ack(Ack { journal_id: self.id(), epoch, classes, credit_bytes }));
    }

    /// Asks an agent for what the lake lost.
    pub(crate) fn ask(&mut self, agent: usize, refetch: Refetch) {
        self.send(agent, &Down::Refetch(refetch));
    }

    fn send(&mut self, agent: usize, down: &Down<'_>) {
        let bytes = frame::encode(Kind::Down, down, &mut *self.room).expect("acks and replies are short");
        self.outbox.push((agent, bytes.to_vec()));
    }
}

/// What a new journal begins with: what the lake has, and nothing that only the lost journal had.
fn first_marks(kept: &Kept, world: &Context) -> Vec<MarkState> {
    let mut marks = match world.plant {
        Some(Plant::StaleMarks) => kept.committed.as_ref().map(|(_, _, marks)| marks.all()).unwrap_or_default(),
        Some(Plant::MarksOutliveJournal) => kept.outlived.clone(),
        _ => world.lake.commit.as_ref().map(|commit| commit.marks.all()).unwrap_or_default(),
    };
    if world.plant == Some(Plant::DedupOffByOne) {
        marks.iter_mut().for_each(|mark| mark.to += 1);
    }
    if world.plant == Some(Plant::ForgetByFirstSight) {
        marks.retain(|mark| world.lake.is_among_the_newest(&mark.device, mark.epoch));
    }
    marks
}

fn append(
    journal: &mut Journal<MemoryFilesystem>,
    entry: &Entry,
    seq: u64,
) -> Result<Offset, kilter_journal::JournalError> {
    let urgent = match entry {
        Entry::Batch { epoch, records, .. } => has_alarm(&Batch { epoch: *epoch, count: 0, records }),
        _ => false,
    };
    let key = Outer { class: entry.kind(), epoch: journal.id(), seq };
    journal.append(key, &entry.encode(), urgent)
}

fn has_alarm(batch: &Batch<'_>) -> bool {
    batch.iter().map_while(Result::ok).any(|record| record.class == Class::Alarm as u8)
}

fn principal(agent: usize) -> Principal {
    Principal { tenant: name("world"), device: device(agent) }
}

/// The journal of the aggregator: it never drops, and at the cap only alarms come in. It is as large for each agent in a large
/// fleet as in a small one.
pub(crate) fn config(max_bytes: u64, scale: u64) -> Config {
    Config {
        segment_bytes: 32 * 1024 * scale.min(8),
        max_bytes: max_bytes * scale,
        fsync: FsyncPolicy::Group { interval_us: 2_000 },
        reserve_bytes: 32 * 1024 * scale,
        drop_policy: Drop::Never,
        keep_bytes: 0,
    }
}

/// The longest message down.
const MESSAGE_BYTES: usize = 4096;

/// What a segment takes for itself and for an entry around it.
const SEGMENT_SLACK_BYTES: u64 = 4096;

pub(crate) const DIR: &str = "/aggregator/journal";
