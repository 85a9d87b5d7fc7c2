//! The journal and the state folded from it, on a thread of their own.
//!
//! Everything that comes in goes through here once: appended with its neighbours, synced together (group commit), folded,
//! and only then answered. So what a device hears as accepted is durable (J1), and what the page shows has been journalled.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::Context;
use kilter_fold::{Entry, Fold, MarkState};
use kilter_journal::{Config, Drop, FsyncPolicy, Journal, JournalError, Key, Offset, RealFilesystem};
use kilter_live::{Change, Live};
use kilter_types::{Class, JournalId, Micros};
use kilter_wire::Batch;
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{error, info, warn};

use crate::recall::Recall;
use crate::replay::{SNAPSHOT, apply, encode_snapshot, fold_up};

/// The way to the journal's thread; cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    work: mpsc::Sender<Work>,
    shared: Arc<Shared>,
}

struct Shared {
    state: RwLock<State>,
    changes: broadcast::Sender<Change>,
    journal_id: JournalId,
    near_cap: AtomicBool,
    failed: AtomicBool,
    bytes: AtomicU64,
    next_offset: AtomicU64,
}

/// What the journal says up to an offset.
pub(crate) struct State {
    /// Dedup and time.
    pub(crate) fold: Fold,
    /// What the page shows.
    pub(crate) live: Live,
    /// The first offset that is not in it yet.
    pub(crate) offset: u64,
    /// How long machines that are gone are kept; nothing: for ever.
    pub(crate) forget_after: Option<Micros>,
}

enum Work {
    Append { entry: Entry, done: oneshot::Sender<Result<(), NotStored>> },
    Snapshot { lab_offset: u64 },
    End { done: oneshot::Sender<()> },
}

/// The journal did not take it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("store in the journal: {0}")]
pub(crate) struct NotStored(String);

impl NotStored {
    fn ended() -> Self {
        Self("its thread has ended".into())
    }
}

/// An entry on its way.
pub(crate) struct Pending(oneshot::Receiver<Result<(), NotStored>>);

impl Pending {
    /// Waits until it is durable and folded.
    pub(crate) async fn stored(self) -> Result<(), NotStored> {
        self.0.await.map_err(|_| NotStored::ended())?
    }
}

impl Store {
    /// Opens the journal in `data` and folds what it holds.
    pub(crate) fn open(
        data: &Path,
        config: &crate::config::Journal,
        forget_after: Option<Micros>,
        marks: Vec<MarkState>,
        now: Micros,
        recall: Recall<'_>,
    ) -> anyhow::Result<Self> {
        let dir = data.join("journal");
        // A new journal begins with the lake's marks in one entry: many devices may need more room than a segment usually has.
        let first = Entry::Opened { journal_id: JournalId(u64::MAX), at: now, marks: marks.clone() };
        let segment_bytes = config.segment_bytes.max(first.encode().len() as u64 + SEGMENT_SLACK_BYTES);
        let journal_config = Config {
            segment_bytes,
            max_bytes: config.max_bytes,
            fsync: FsyncPolicy::Group { interval_us: 2_000 },
            reserve_bytes: config.segment_bytes.min(8 << 20),
            drop_policy: Drop::Never,
            keep_bytes: 0,
        };
        let random = crate::keys::random()?;
        let fresh = u64::from_le_bytes(*random.first_chunk().expect("32 bytes hold 8"));
        let (mut journal, recovery) = Journal::open(RealFilesystem, &dir, journal_config, fresh)
            .with_context(|| format!("failed to open the journal {}", dir.display()))?;
        let journal_id = JournalId(journal.id());
        info!(journal = journal_id.0, created = recovery.created, torn_bytes = recovery.torn_bytes, "journal opened");
        if recovery.created {
            let entry = Entry::Opened { journal_id, at: now, marks };
            append(&mut journal, &entry, 0)?;
            journal.sync().context("failed to sync the journal")?;
        }
        let snapshot_path = data.join(SNAPSHOT);
        let state = fold_up(&journal, data, journal_id, forget_after, recall)?;
        let (work, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            bytes: AtomicU64::new(journal.bytes()),
            next_offset: AtomicU64::new(state.offset),
            state: RwLock::new(state),
            changes: broadcast::Sender::new(4096),
            journal_id,
            near_cap: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let writer = Writer { journal, shared: Arc::clone(&shared), snapshot_path, seq: 1 };
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(queue))
            .context("failed to start the journal's thread")?;
        Ok(Self { work, shared })
    }

    /// Makes an entry durable and folds it.
    pub(crate) async fn append(&self, entry: Entry) -> Result<(), NotStored> {
        self.submit(entry).await?.stored().await
    }

    /// Takes an entry in its turn: entries become durable in the order in which they were submitted. Waits while too many do.
    pub(crate) async fn submit(&self, entry: Entry) -> Result<Pending, NotStored> {
        let (done, answer) = oneshot::channel();
        match self.work.send(Work::Append { entry, done }).await {
            Ok(()) => Ok(Pending(answer)),
            Err(_) => Err(NotStored::ended()),
        }
    }

    /// Snapshots the state and releases what it and the lab have passed.
    pub(crate) async fn snapshot(&self, lab_offset: u64) {
        let _ = self.work.send(Work::Snapshot { lab_offset }).await;
    }

    /// Syncs, snapshots and ends the thread.
    pub(crate) async fn end(&self) {
        let (done, answer) = oneshot::channel();
        if self.work.send(Work::End { done }).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// The state, to read.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for what a person says (acknowledgements).
    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that changes from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// The journal's identity.
    pub(crate) fn journal_id(&self) -> JournalId {
        self.shared.journal_id
    }

    /// Little room is left: only alarms may come.
    pub(crate) fn near_cap(&self) -> bool {
        self.shared.near_cap.load(Ordering::Relaxed)
    }

    /// A write or sync has failed: nothing more is accepted until a restart.
    pub(crate) fn failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Bytes in the journal.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// The first offset not yet written.
    pub(crate) fn next_offset(&self) -> u64 {
        self.shared.next_offset.load(Ordering::Relaxed)
    }
}

struct Writer {
    journal: Journal,
    shared: Arc<Shared>,
    snapshot_path: PathBuf,
    seq: u64,
}

type Waiting = (u64, Entry, oneshot::Sender<Result<(), NotStored>>);

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        // What waits on a full disk stays here: its bytes are in the journal's buffer and go to the disk once it takes them.
        let mut group = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            let mut next = Some(first);
            while let Some(work) = next {
                match work {
                    Work::Append { entry, done } => match append(&mut self.journal, &entry, self.seq) {
                        Ok(offset) => {
                            self.seq += 1;
                            group.push((offset.0, entry, done));
                        }
                        Err(error) => {
                            let _ = done.send(Err(NotStored(error.to_string())));
                        }
                    },
                    Work::Snapshot { lab_offset } => {
                        self.commit(&mut group);
                        self.snapshot(lab_offset);
                    }
                    Work::End { done } => {
                        self.commit(&mut group);
                        self.snapshot(0);
                        let _ = done.send(());
                        return;
                    }
                }
                next = if group.len() < GROUP { queue.try_recv().ok() } else { None };
            }
            self.commit(&mut group);
        }
    }

    /// One sync for all of them; then they are folded and answered.
    fn commit(&mut self, group: &mut Vec<Waiting>) {
        if group.is_empty() {
            return;
        }
        if let Err(error) = self.journal.sync() {
            if error.is_full() {
                warn!(%error, waiting = group.len(), "journal waits for room on its disk; alarms use its reserve");
                self.shared.near_cap.store(true, Ordering::Relaxed);
                return;
            }
            error!(%error, "journal failed: nothing more is accepted; restart after mending the disk");
            self.shared.failed.store(true, Ordering::Relaxed);
            for (_, _, done) in group.drain(..) {
                let _ = done.send(Err(NotStored(error.to_string())));
            }
            return;
        }
        let end = self.journal.next_offset().0;
        let mut answers = Vec::with_capacity(group.len());
        {
            let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
            let mut before = Change::Nothing;
            for (offset, entry, done) in group.drain(..) {
                apply(&mut state, offset, entry, &mut |change| self.tell(change, &mut before));
                answers.push(done);
            }
            state.offset = end;
        }
        // Who is answered reads the state at once, so not before it is free again.
        for done in answers {
            let _ = done.send(Ok(()));
        }
        let room = self.journal.room_bytes(false);
        self.shared.near_cap.store(room < self.journal.config().max_bytes / 10, Ordering::Relaxed);
        self.shared.bytes.store(self.journal.bytes(), Ordering::Relaxed);
        self.shared.next_offset.store(end, Ordering::Relaxed);
    }

    /// Of rows of one machine that follow each other the first is told: nobody reads the state before the last of the group is in it.
    fn tell(&self, change: Change, before: &mut Change) {
        match &change {
            Change::Nothing => {}
            Change::Machine(_) if change == *before => {}
            Change::Machine(_) | Change::Alarm(..) | Change::Drift(_) | Change::Report(..) => {
                *before = change.clone();
                // While nobody listens there is nobody to tell.
                let _ = self.shared.changes.send(change);
            }
        }
    }

    fn snapshot(&mut self, lab_offset: u64) {
        let (bytes, offset) = {
            let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
            (encode_snapshot(&state, self.shared.journal_id), state.offset)
        };
        if let Err(error) = crate::disk::replace(&self.snapshot_path, &bytes) {
            warn!(error = %format!("{error:#}"), "snapshot not written; the journal keeps more");
            return;
        }
        if let Err(error) = self.journal.release(Offset(offset.min(lab_offset))) {
            warn!(%error, "journal not released");
        }
        self.shared.bytes.store(self.journal.bytes(), Ordering::Relaxed);
    }
}

fn append(journal: &mut Journal, entry: &Entry, seq: u64) -> Result<Offset, JournalError> {
    let urgent = match entry {
        Entry::Batch { epoch, records, .. } | Entry::OverQuota { epoch, records, .. } => {
            let batch = Batch { epoch: *epoch, count: 0, records };
            batch.iter().map_while(Result::ok).any(|record| record.class == Class::Alarm as u8)
        }
        Entry::Opened { .. } | Entry::Exchange { .. } | Entry::Tick { .. } | Entry::Quarantined { .. } => false,
    };
    let key = Key { class: entry.kind(), epoch: journal.id(), seq };
    journal.append(key, &entry.encode(), urgent)
}

/// What a segment takes for itself and for an entry around it.
const SEGMENT_SLACK_BYTES: u64 = 4096;

/// Entries waiting for the thread; senders wait beyond it.
const QUEUE: usize = 4096;

/// The most entries that share one sync.
const GROUP: usize = 1024;
