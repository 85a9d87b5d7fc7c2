//! The lab's socket: one JSON request per line, one JSON answer per line, progress lines in between.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use kilter_history::query;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tracing::warn;

use crate::commit::{Shared, Status, lock};
use crate::completeness;
use crate::trainer::{DEFAULT_SEED, Trainer};
use crate::training::Request;

/// Everything that questions need; cheap to clone.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) state: Shared,
    pub(crate) status: Arc<Mutex<Status>>,
    pub(crate) trainer: Trainer,
    pub(crate) max_rows: usize,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Ask {
    Query { sql: String },
    Train { reason: Option<String>, asset_class: Option<String>, seed: Option<u64> },
    Status {},
    Completeness { point: String, from: i64, to: i64 },
}

/// Opens the socket anew.
pub(crate) fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    // The lock is ours: whoever left this file is gone.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).with_context(|| format!("failed to listen on {}", path.display()))
}

/// Answers for ever.
pub(crate) async fn serve(listener: UnixListener, desk: Desk) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = desk.clone();
                // An asker that goes away ends only its own task.
                tokio::spawn(async move { drop(desk.talk(stream).await) });
            }
            Err(error) => {
                warn!(%error, "a connection to the lab failed");
                crate::clock::pause(100).await;
            }
        }
    }
}

impl Desk {
    async fn talk(&self, stream: UnixStream) -> anyhow::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read.take(MAX_SESSION_BYTES)).lines();
        while let Some(line) = lines.next_line().await? {
            let (progress, mut steps) = mpsc::channel(64);
            let answer = self.answer(&line, progress);
            tokio::pin!(answer);
            let answer = loop {
                tokio::select! {
                    Some(step) = steps.recv() => send(&mut write, &step).await?,
                    answer = &mut answer => break answer,
                }
            };
            let answer = match answer {
                Ok(value) => json!({ "ok": value }),
                Err(error) => json!({ "error": format!("{error:#}") }),
            };
            send(&mut write, &answer).await?;
        }
        Ok(())
    }

    async fn answer(&self, line: &str, progress: mpsc::Sender<Value>) -> anyhow::Result<Value> {
        match serde_json::from_str(line).context("failed to read the request")? {
            Ask::Query { sql } => {
                let views = lock(&self.state).views();
                let max_rows = self.max_rows;
                let answer = tokio::task::spawn_blocking(move || query(&sql, &views, max_rows)).await?;
                Ok(serde_json::to_value(answer?)?)
            }
            Ask::Train { reason, asset_class, seed } => {
                let request = Request {
                    reason: reason.unwrap_or_else(|| "command".into()),
                    class: asset_class,
                    seed: seed.unwrap_or(DEFAULT_SEED),
                };
                // The run goes on when the asker goes away.
                let trainer = self.trainer.clone();
                tokio::spawn(async move { trainer.train(request, progress).await }).await?
            }
            Ask::Status {} => Ok(self.status()),
            Ask::Completeness { point, from, to } => {
                let views = lock(&self.state).views();
                tokio::task::spawn_blocking(move || completeness::account(&views, &point, from, to)).await?
            }
        }
    }

    fn status(&self) -> Value {
        let state = lock(&self.state);
        let tables: serde_json::Map<_, _> = state
            .snapshots()
            .map(|snapshot| {
                let files = snapshot.files.len();
                let offset = snapshot.offset.map(|offset| offset.offset);
                (snapshot.table.to_string(), json!({ "version": snapshot.version, "offset": offset, "files": files }))
            })
            .collect();
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner).json();
        status["journal_id"] = state.journal_id().map(|id| format!("{:016x}", id.0)).into();
        status["position"] = state.position().into();
        status["rows_folded"] = state.rows().into();
        status["rows_waiting"] = state.waiting_rows().into();
        status["tables"] = tables.into();
        drop(state);
        status["training"] = self.trainer.json();
        status
    }
}

async fn send(write: &mut tokio::net::unix::OwnedWriteHalf, value: &Value) -> anyhow::Result<()> {
    let mut line = value.to_string();
    line.push('\n');
    Ok(write.write_all(line.as_bytes()).await?)
}

/// Requests of one connection together; a line without an end is not read for ever.
const MAX_SESSION_BYTES: u64 = 16 << 20;
