//! The committer: takes what waits, appends it to each table, then publishes.
//!
//! While the disk is full it fails, says so, waits longer each time and tries again with the same rows; nothing is published and
//! nothing is dropped. At `hold_bytes` the journal is not read on, and keeps what comes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kilter_lake::{DeltaTable, Offset, Table, TableName};
use kilter_types::{JournalId, Micros};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};

use crate::clock;
use crate::config;
use crate::derived::Derived;
use crate::files::{Committed, Files};
use crate::lab::SHARD;
use crate::rollups::RollUps;
use crate::state::State;
use crate::upkeep::Order;

/// The state, shared between journal reader, committer and questions.
pub(crate) type Shared = Arc<Mutex<State>>;

/// Locks the state; a panic elsewhere does not spoil it for questions.
pub(crate) fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Commits rows and publishes the offset.
pub(crate) struct Committer {
    pub(crate) state: Shared,
    pub(crate) tables: BTreeMap<TableName, DeltaTable>,
    pub(crate) files: Files,
    pub(crate) journal_id: JournalId,
    pub(crate) config: config::Commit,
    pub(crate) upkeep: config::Upkeep,
    pub(crate) status: Arc<Mutex<Status>>,
    /// When old files were last looked for.
    pub(crate) vacuumed: Option<Micros>,
    pub(crate) roll_ups: RollUps,
    pub(crate) derived: Derived,
}

/// How committing goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// Published last.
    pub(crate) offset: u64,
    /// Rounds since the start.
    pub(crate) commits: u64,
    /// Rows committed since the start.
    pub(crate) rows: u64,
    /// What keeps it from committing now.
    pub(crate) error: Option<String>,
    /// Data files that can't be read, as far as anybody has looked.
    pub(crate) damaged: Vec<String>,
}

impl Status {
    /// For people.
    pub(crate) fn json(&self) -> Value {
        let Self { offset, commits, rows, error, damaged } = self;
        json!({ "committed_offset": offset, "commits": commits, "rows_committed": rows, "error": error, "damaged": damaged })
    }
}

/// Asks for a commit now; answered when everything folded so far is committed.
pub(crate) type Flush = oneshot::Sender<()>;

impl Committer {
    /// Commits for ever, or until `flushes` is closed: then once more.
    pub(crate) async fn run(mut self, mut flushes: mpsc::Receiver<Flush>, mut orders: mpsc::Receiver<Order>) {
        let mut waited_ms = 0;
        let mut idle_ms = 0;
        self.finish_erasures().await;
        loop {
            let (mut asked, mut order) = (Vec::new(), None);
            let closed = tokio::select! {
                () = clock::pause(POLL_MS) => false,
                Some(given) = orders.recv() => { order = Some(given); false }
                flush = flushes.recv() => match flush {
                    Some(flush) => { asked.push(flush); false }
                    None => true,
                },
            };
            while let Ok(flush) = flushes.try_recv() {
                asked.push(flush);
            }
            let (bytes, rows) = {
                let state = lock(&self.state);
                (state.waiting_bytes(), state.waiting_rows())
            };
            waited_ms = if rows == 0 { 0 } else { waited_ms + POLL_MS };
            idle_ms = if rows == 0 { idle_ms + POLL_MS } else { 0 };
            let due = rows > 0 && (waited_ms >= self.config.max_wait_ms || bytes >= self.config.max_bytes);
            if due || closed || order.is_some() || !asked.is_empty() || idle_ms >= IDLE_MS {
                self.round_until_done(&mut flushes, &mut asked, closed).await;
                (waited_ms, idle_ms) = (0, 0);
                if let Some(order) = order {
                    self.obey(order).await;
                }
            }
            for flush in asked {
                // Whoever asked may have gone.
                let _ = flush.send(());
            }
            if closed {
                return;
            }
            if due {
                self.keep_up(&flushes).await;
            }
        }
    }

    /// Tries until it works; on the way out only once.
    async fn round_until_done(&mut self, flushes: &mut mpsc::Receiver<Flush>, asked: &mut Vec<Flush>, closed: bool) {
        let mut pause_ms = FIRST_PAUSE_MS;
        while let Err(failed) = self.round().await {
            let text = format!("{failed:#}");
            error!(error = %text, retry_ms = pause_ms, "commit failed; nothing is lost, it is tried again");
            self.status().error = Some(text);
            if closed || flushes.is_closed() {
                return;
            }
            clock::pause(pause_ms).await;
            pause_ms = (pause_ms * 2).min(LONGEST_PAUSE_MS);
            while let Ok(flush) = flushes.try_recv() {
                asked.push(flush);
            }
        }
        if self.status().error.take().is_some() {
            info!("commits go on");
        }
    }

    pub(crate) async fn round(&mut self) -> anyhow::Result<()> {
        let batch = lock(&self.state).batch();
        if batch.position == self.status().offset {
            return Ok(());
        }
        let offset = Offset { shard: SHARD, journal_id: self.journal_id, offset: batch.position };
        for rows in &batch.rows {
            let Some(table) = self.tables.get_mut(&rows.table()) else { continue };
            table.append(rows, offset).await?;
            // Each table moves on by itself; the seam of the others stays where it is.
            let snapshot = table.current().await?;
            lock(&self.state).committed(snapshot);
        }
        self.put_back_again(&batch.rows).await?;
        let committed = Committed { journal_id: self.journal_id.0, offset: batch.position, marks: batch.marks };
        let (files, fold, keys) = (self.files.clone(), batch.fold, batch.keys);
        let keys = tokio::task::spawn_blocking(move || {
            keys.as_ref().map_or(Ok(()), |keys| files.keep_keys(keys))?;
            files.publish(&committed, &fold)?;
            anyhow::Ok(keys)
        });
        if let Some(keys) = keys.await?? {
            lock(&self.state).keep_keys(keys);
        }
        let mut status = self.status();
        status.offset = batch.position;
        if !batch.rows.is_empty() {
            status.commits += 1;
            status.rows += batch.rows.iter().map(|rows| rows.len() as u64).sum::<u64>();
        }
        Ok(())
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const POLL_MS: u64 = 50;
/// Without rows the offset is still published now and then, so that the journal can be released.
const IDLE_MS: u64 = 10_000;
const FIRST_PAUSE_MS: u64 = 500;
const LONGEST_PAUSE_MS: u64 = 30_000;
