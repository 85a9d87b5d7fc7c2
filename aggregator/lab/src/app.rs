//! `kilter-lab serve`: the journal's reader, the committer, the socket and the watch for drift, wired.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kilter_journal::Reader;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info};

use crate::cache::Cache;
use crate::clock;
use crate::commit::{Committer, Shared, Status, lock};
use crate::config;
use crate::derived::Derived;
use crate::lab::{Lab, Wait, read_on};
use crate::rollups::RollUps;
use crate::socket::{self, Desk};
use crate::trainer::Trainer;
use crate::turns::Turns;

/// Serves until it is told to stop, or the journal can't be followed any more.
pub(crate) async fn serve(data: &Path) -> anyhow::Result<()> {
    let config = config::load(data)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let lab = tokio::select! {
        lab = Lab::open(data, Wait::ForJournal) => lab?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let Lab { files, journal_id, reader, tables, state, damaged, lock: held } = lab;
    let state: Shared = Arc::new(Mutex::new(state));
    let status = Arc::new(Mutex::new(Status { damaged, ..Status::default() }));
    let (flush, flushes) = mpsc::channel(16);
    let roll_ups = RollUps::new(files.path("rollups"));
    let derived = Derived::open(&files)?;
    let committer = Committer {
        state: state.clone(),
        tables,
        files: files.clone(),
        journal_id,
        config: config.commit.clone(),
        upkeep: config.upkeep.clone(),
        status: status.clone(),
        vacuumed: None,
        roll_ups: roll_ups.clone(),
        derived: derived.clone(),
    };
    let (order, orders) = mpsc::channel(4);
    let trainer = Trainer::new(state.clone(), flush.clone(), order.clone(), files.clone(), config.clone());
    let path = data.join("lab.sock");
    let turns = Turns::new(QUESTIONS_AT_ONCE, Duration::from_secs(config.query.max_secs.into()));
    let desk = Desk {
        state: state.clone(),
        status: status.clone(),
        trainer: trainer.clone(),
        orders: order,
        files: files.clone(),
        turns: turns.clone(),
        views: Arc::new(config.views),
        max_rows: config.query.max_rows,
        cache: Arc::new(Mutex::new(Cache::new(config.query.cache_bytes))),
        roll_ups: roll_ups.clone(),
        derived: derived.clone(),
    };
    let listener = socket::listen(&path)?;
    let (failed, mut fails) = mpsc::channel(1);
    let hold_bytes = config.commit.hold_bytes;
    let reading = state.clone();
    std::thread::Builder::new().name("journal".into()).spawn(move || {
        let error = follow(reader, &reading, hold_bytes);
        // Only a lab that is ending does not hear it.
        let _ = failed.blocking_send(error);
    })?;
    let (stop, stopped) = mpsc::channel(16);
    let committing = tokio::spawn(committer.run(stopped, orders));
    let relay = tokio::spawn(relay(flushes, stop));
    let serving = tokio::spawn(socket::serve(listener, desk));
    let watching = tokio::spawn(trainer.watch(status));
    let deriving = tokio::spawn(derived.watch(state.clone()));
    info!(socket = %path.display(), "lab serves");
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = orphaned() => Ok(()),
        error = fails.recv() => Err(error.unwrap_or_else(|| anyhow::anyhow!("the journal's reader ended"))),
        () = stuck(&turns) => Err(anyhow::anyhow!("none of {QUESTIONS_AT_ONCE} questions ends; the lab starts anew")),
    };
    serving.abort();
    watching.abort();
    deriving.abort();
    // What was folded is committed once more on the way out.
    relay.abort();
    if let Err(error) = committing.await {
        error!(%error, "the last commit failed; it is made up for at the next start");
    }
    let _ = std::fs::remove_file(&path);
    drop(held);
    info!("lab ended");
    ended
}

/// Ends when the server that started us is gone: a lab left behind would hold the lock of the next one's.
async fn orphaned() {
    let supervisor = std::env::var("KILTER_SUPERVISOR").ok().and_then(|pid| pid.parse::<u32>().ok());
    loop {
        clock::pause(SUPERVISOR_MS).await;
        if supervisor.is_some_and(|pid| pid != std::os::unix::process::parent_id()) {
            info!("the server is gone");
            return;
        }
    }
}

/// Ends when no question could be answered for a while, because those that took too long hold every turn.
async fn stuck(turns: &Turns) {
    let mut secs = 0;
    while secs < STUCK_SECS {
        clock::pause(1_000).await;
        secs = if turns.are_stuck() { secs + 1 } else { 0 };
    }
}

/// Hands flush requests on; when it is aborted, the committer's channel closes and it ends.
async fn relay(mut flushes: mpsc::Receiver<crate::commit::Flush>, stop: mpsc::Sender<crate::commit::Flush>) {
    while let Some(flush) = flushes.recv().await {
        if stop.send(flush).await.is_err() {
            return;
        }
    }
}

/// Reads the journal for ever; returns why it can't go on.
fn follow(mut reader: Reader, state: &Shared, hold_bytes: usize) -> anyhow::Error {
    loop {
        let more = {
            let mut state = lock(state);
            if state.waiting_bytes() >= hold_bytes {
                Ok(false)
            } else {
                read_on(&mut reader, &mut state, ENTRIES_PER_LOCK)
            }
        };
        match more {
            Ok(true) => {}
            Ok(false) => clock::block(IDLE_MS),
            Err(error) => return error,
        }
    }
}

/// Questions get their turn between so many entries.
const ENTRIES_PER_LOCK: usize = 64;
const IDLE_MS: u64 = 20;
const SUPERVISOR_MS: u64 = 500;
/// Questions that are answered at once.
const QUESTIONS_AT_ONCE: usize = 4;
/// So long nothing can be answered before the lab gives up on questions that do not end.
const STUCK_SECS: u32 = 30;
