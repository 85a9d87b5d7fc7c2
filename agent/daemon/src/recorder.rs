//! The one thread that writes the journal: group commit, checkpoints after the sync that covers them, reports.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use kilter_journal::Filesystem;
use kilter_types::{Class, Clock as _, Epoch, Gap, Monotonic, Name, Payload, Record, Report};
use kilter_uplink::{Lost, Note};
use tokio::sync::{mpsc, watch};
use tracing::error;

use crate::board::Board;
use crate::checkpoint::Checkpoint;
use crate::clock::SystemClock;
use crate::file;
use crate::number::Stamp;
use crate::said::Said;
use crate::spooler::{Effect, Spooler};

/// What the recorder is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// An output of a monitor.
    Said(Said),
    /// Something about a machine that no window says.
    About { machine: usize, payload: Payload },
    /// A machine's state behind everything it has said; `None` when it is as before.
    Checkpoint { machine: usize, checkpoint: Option<Checkpoint> },
    /// A record of a node, as the node made it.
    Carried(Box<Record>),
    /// Records of a node that were lost on the line.
    Lost(Gap),
    /// Report on a machine now.
    Report(usize),
    /// Sync now.
    Flush,
}

/// What the recorder needs.
pub(crate) struct Parts<F: Filesystem> {
    pub(crate) spooler: Spooler<F>,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) overruns: Arc<[AtomicU64; Class::ALL.len()]>,
    /// Where each machine's checkpoint lies.
    pub(crate) checkpoints: Vec<PathBuf>,
    pub(crate) durable: watch::Sender<u64>,
    pub(crate) notes: mpsc::Sender<Note>,
    pub(crate) released: watch::Receiver<u64>,
    pub(crate) lost: mpsc::Receiver<Lost>,
    pub(crate) board: Board,
    pub(crate) clock: SystemClock,
    pub(crate) version: Name,
    pub(crate) report_us: u64,
    pub(crate) first: u64,
}

/// The recorder.
pub(crate) struct Recorder<F: Filesystem> {
    parts: Parts<F>,
    machines: Vec<Marks>,
    report_due: Monotonic,
    revive_due: Monotonic,
    records: u64,
}

/// How far a machine's checkpoint has come.
#[derive(Clone, Debug, Default)]
struct Marks {
    /// The journal's end when the checkpoint came; written once that is durable.
    waiting: Option<(u64, Option<Checkpoint>)>,
    /// Nothing below is needed after a restart.
    safe: u64,
}

impl<F: Filesystem> Recorder<F> {
    pub(crate) fn new(parts: Parts<F>) -> Self {
        let machines = vec![Marks { waiting: None, safe: parts.first }; parts.checkpoints.len()];
        let now = parts.clock.monotonic();
        Self { parts, machines, report_due: now, revive_due: now, records: 0 }
    }

    /// Runs until everyone who could say something is gone.
    pub(crate) fn run(mut self) {
        loop {
            let wait = self.wait_us();
            match self.parts.inbox.recv_timeout(Duration::from_micros(wait)) {
                Ok(message) => {
                    self.take(message);
                    // Whatever came meanwhile goes into the same commit.
                    for _ in 0..MOST_AT_ONCE {
                        let Ok(message) = self.parts.inbox.try_recv() else { break };
                        self.take(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.turn(false);
        }
        self.parts.spooler.close(Stamp::now(&self.parts.clock));
        self.turn(true);
    }

    fn take(&mut self, message: Message) {
        let now = Stamp::now(&self.parts.clock);
        let spooler = &mut self.parts.spooler;
        match message {
            Message::Said(said) => {
                self.records += 1;
                spooler.say(said, now);
            }
            Message::About { machine, payload } => spooler.about(machine, payload, now),
            Message::Checkpoint { machine, checkpoint } => {
                let end = spooler.next_offset();
                if let Some(marks) = self.machines.get_mut(machine) {
                    let before = marks.waiting.take().and_then(|(_, checkpoint)| checkpoint);
                    marks.waiting = Some((end, checkpoint.or(before)));
                }
            }
            Message::Carried(record) => {
                self.records += 1;
                spooler.carry(*record);
            }
            Message::Lost(gap) => spooler.missing(gap),
            Message::Report(machine) => self.report(machine, now),
            Message::Flush => self.turn(true),
        }
        self.apply();
    }

    /// Sync, checkpoints, release, reports: whatever is due.
    fn turn(&mut self, force: bool) {
        let now = Stamp::now(&self.parts.clock);
        for class in Class::ALL {
            let count = self.parts.overruns[class as usize].swap(0, Ordering::Relaxed);
            self.parts.spooler.overrun(class, count);
        }
        while let Ok(lost) = self.parts.lost.try_recv() {
            match lost {
                Lost::Forgotten(key) => self.parts.spooler.forgotten(key),
                Lost::Gone(gap) => self.parts.spooler.gone(gap),
            }
        }
        if now.monotonic >= self.report_due {
            self.report_due = Monotonic(now.monotonic.0 + self.parts.report_us);
            (0..self.machines.len()).for_each(|machine| self.report(machine, now));
            self.parts.spooler.tell_gaps_unjournaled(now);
        }
        if self.parts.spooler.needs_revival() && now.monotonic >= self.revive_due {
            self.revive_due = Monotonic(now.monotonic.0 + REVIVE_US);
            self.revive(now);
        }
        self.parts.spooler.sync(force, now);
        self.apply();
        self.checkpoint();
        self.release();
        let spooler = &self.parts.spooler;
        let mut board = self.parts.board.lock();
        board.journal.bytes = spooler.bytes();
        board.journal.dropped = spooler.dropped();
        board.journal.quarantined = spooler.quarantined();
        board.journal.dead = spooler.is_dead();
        board.journal.durable = spooler.durable();
        board.journal.records = self.records;
        board.journal.unchanged = spooler.unchanged();
    }

    fn revive(&mut self, now: Stamp) {
        if let (Ok(epoch), Ok(fresh_id)) = (getrandom::u64(), getrandom::u64()) {
            self.parts.spooler.revive(Epoch(epoch), fresh_id, now);
        }
    }

    fn apply(&mut self) {
        let mut effects = self.parts.spooler.take_effects();
        for effect in effects.drain(..) {
            let sent = match effect {
                Effect::Durable(upto) => {
                    self.parts.durable.send_replace(upto);
                    Ok(())
                }
                // Without room it goes in its turn.
                Effect::Urgent(offset) => self.parts.notes.try_send(Note::Urgent(offset)).or(Ok(())),
                Effect::Unjournaled(key, bytes) => {
                    self.parts.notes.try_send(Note::Unjournaled(key, bytes)).map_err(|_| Some(key))
                }
                Effect::Epoch(epoch) => self.parts.notes.try_send(Note::Epoch(epoch)).map_err(|_| None),
            };
            match sent {
                Ok(()) => {}
                Err(Some(key)) => self.parts.spooler.forgotten(key),
                Err(None) => error!("the uplink does not hear of the new epoch; its next greeting tells it"),
            }
        }
        self.parts.spooler.give_back(effects);
    }

    /// Writes the checkpoints whose outputs are durable.
    fn checkpoint(&mut self) {
        let durable = self.parts.spooler.durable();
        for (marks, path) in self.machines.iter_mut().zip(&self.parts.checkpoints) {
            let Some((end, checkpoint)) = marks.waiting.take_if(|(end, _)| *end <= durable) else { continue };
            let written = checkpoint.map_or(Ok(()), |checkpoint| file::replace(path, &checkpoint.encode()));
            match written {
                Ok(()) => marks.safe = end,
                Err(error) => error!(path = %path.display(), %error, "checkpoint not written"),
            }
        }
    }

    /// What is committed and behind every checkpoint may go (D4).
    fn release(&mut self) {
        let committed = *self.parts.released.borrow();
        let safe = self.machines.iter().map(|marks| marks.safe).min().unwrap_or(committed);
        let upto = committed.min(safe);
        let mut board = self.parts.board.lock();
        if upto > board.journal.released {
            board.journal.released = upto;
            drop(board);
            self.parts.spooler.release(upto);
        }
    }

    fn report(&mut self, machine: usize, now: Stamp) {
        let (best, uncertainty) = self.parts.clock.best();
        let board = self.parts.board.lock();
        let Some(known) = board.machines.get(machine) else { return };
        let models = known.models.iter().map(|model| {
            let mut running = model.running;
            running.expired = (best - uncertainty) > model.expires;
            running
        });
        let report = Report {
            version: self.parts.version.clone(),
            asset_class: known.class.clone(),
            generation: board.generation,
            models: models.collect(),
            journal_bytes: self.parts.spooler.bytes(),
            dropped: self.parts.spooler.dropped(),
            resident_bytes: resident_bytes(),
            journal_dead: self.parts.spooler.is_dead(),
        };
        drop(board);
        self.parts.spooler.about(machine, Payload::Report(report), now);
    }

    fn wait_us(&self) -> u64 {
        let now = self.parts.clock.monotonic();
        let sync = self.parts.spooler.sync_due_us().map(|due| u64::try_from(due).unwrap_or(0));
        let due = sync.unwrap_or(u64::MAX).min(self.report_due.0);
        due.saturating_sub(now.0).clamp(MIN_WAIT_US, MAX_WAIT_US)
    }
}

/// Resident memory of this process; 0 when the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

const MOST_AT_ONCE: usize = 512;
const MIN_WAIT_US: u64 = 500;
const MAX_WAIT_US: u64 = 250_000;
const REVIVE_US: u64 = 10_000_000;
