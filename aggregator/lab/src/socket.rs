//! The lab's socket: one JSON request per line, one JSON answer per line, progress lines in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use kilter_history::{View, query_named};
use kilter_lake::{Audit, Subject, TableName};
use kilter_types::Micros;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::clock;
use crate::commit::{Shared, Status, lock};
use crate::completeness;
use crate::files::Files;
use crate::trainer::{DEFAULT_SEED, Trainer};
use crate::training::{Request, Search};
use crate::turns::Turns;
use crate::upkeep::Order;

/// Everything that questions need; cheap to clone.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) state: Shared,
    pub(crate) status: Arc<Mutex<Status>>,
    pub(crate) trainer: Trainer,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) files: Files,
    pub(crate) turns: Turns,
    /// Statements with names.
    pub(crate) views: Arc<BTreeMap<String, String>>,
    /// The most rows of an answer.
    pub(crate) max_rows: usize,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Ask {
    Query {
        sql: String,
        as_of_us: Option<i64>,
    },
    Train {
        reason: Option<String>,
        asset_class: Option<String>,
        seed: Option<u64>,
        search: Option<Search>,
        rehearsal: Option<f64>,
    },
    Status {},
    Completeness {
        point: String,
        from: i64,
        to: i64,
    },
    Erase {
        equals: BTreeMap<String, String>,
        who: String,
        why: String,
    },
    Reconcile {
        repair: bool,
    },
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
                clock::pause(100).await;
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
            Ask::Query { sql, as_of_us } => {
                let max_rows = self.max_rows;
                let named = self.views.clone();
                let answer =
                    move |views: &[View]| Ok(serde_json::to_value(query_named(&sql, views, &named, max_rows)?)?);
                match as_of_us {
                    None => self.look(answer).await,
                    Some(at_us) => {
                        let views = self.order(|done| Order::AsOf { at: Micros(at_us), done }).await?;
                        self.turns.take(move || answer(&views)).await
                    }
                }
            }
            Ask::Train { reason, asset_class, seed, search, rehearsal } => {
                let request = Request {
                    reason: reason.unwrap_or_else(|| "command".into()),
                    class: asset_class,
                    seed: seed.unwrap_or(DEFAULT_SEED),
                    search,
                    rehearsal,
                };
                // The run goes on when the asker goes away.
                let trainer = self.trainer.clone();
                tokio::spawn(async move { trainer.train(request, progress).await }).await?
            }
            Ask::Status {} => Ok(self.status()),
            Ask::Completeness { point, from, to } => {
                let erased = self.files.erased();
                self.look(move |views| completeness::account(views, &erased, &point, from, to)).await
            }
            Ask::Erase { equals, who, why } => {
                if who.trim().is_empty() || why.trim().is_empty() {
                    bail!("failed to erase: the audit asks who wants it and why");
                }
                let known = |name: &String| TableName::ALL.iter().any(|table| table.position(name).is_some());
                if let Some(unknown) = equals.keys().find(|name| !known(name)) {
                    bail!("failed to erase: no table has a column '{unknown}'");
                }
                let audit = Audit { who, why, at_us: clock::now().0 };
                self.order(|done| Order::Erase { subject: Subject { equals }, audit, done }).await
            }
            Ask::Reconcile { repair } => self.order(|done| Order::Reconcile { repair, done }).await,
        }
    }

    /// Looks at the tables as they are now, lake and tail.
    async fn look(
        &self,
        look: impl FnOnce(&[View]) -> anyhow::Result<Value> + Send + 'static,
    ) -> anyhow::Result<Value> {
        let state = self.state.clone();
        self.turns
            .take(move || {
                let views = lock(&state).views();
                look(&views)
            })
            .await
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<anyhow::Result<T>>) -> Order) -> anyhow::Result<T> {
        let (done, told) = oneshot::channel();
        self.orders.send(order(done)).await?;
        told.await?
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
