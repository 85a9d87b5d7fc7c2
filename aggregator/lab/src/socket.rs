//! The lab's socket: one JSON request per line, one JSON answer per line, progress lines in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use kilter_history::{View, query_named};
use kilter_lake::{Audit, Correction, Reason, Stream, Streams, Subject, TableName, Within};
use kilter_types::Micros;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::cache::{Cache, Key};
use crate::clock;
use crate::commit::{Shared, Status, lock};
use crate::completeness;
use crate::derived::Derived;
use crate::files::Files;
use crate::lab::held;
use crate::reprocess::{self, Wish};
use crate::rollups::{RollUps, Trend};
use crate::seals::{self, Asked, Known};
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
    /// Answers that were given before.
    pub(crate) cache: Arc<Mutex<Cache>>,
    pub(crate) roll_ups: RollUps,
    pub(crate) derived: Derived,
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
        #[serde(default)]
        equals: BTreeMap<String, String>,
        from_us: Option<i64>,
        to_us: Option<i64>,
        who: String,
        why: String,
    },
    Correct {
        correction: Correction,
        who: String,
        why: String,
    },
    Refetch {
        asked: crate::refetch::Asked,
        who: String,
        why: String,
    },
    Reconcile {
        repair: bool,
    },
    Accept {
        device: String,
        key: String,
        who: String,
        why: String,
    },
    Trend(Trend),
    Reprocess {
        wish: Wish,
        who: String,
        why: String,
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
                let (max_rows, named, cache) = (self.max_rows, self.views.clone(), self.cache.clone());
                let derived = self.derived.clone();
                let answer = move |views: &[View]| {
                    if reprocess::is_asked(&sql, &derived, &named) {
                        return reprocess::answer(&sql, views, &derived, &named, (max_rows, as_of_us));
                    }
                    let key = Key::new(&sql, views, &named);
                    if let Some(mut known) = recall(&cache).get(&key) {
                        known["cached"] = true.into();
                        return Ok(known);
                    }
                    let answer = serde_json::to_value(query_named(&sql, views, &named, max_rows)?)?;
                    recall(&cache).put(key, &answer);
                    Ok(answer)
                };
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
                let desk = self.clone();
                self.turns
                    .take(move || {
                        let (views, known) = desk.known();
                        completeness::account(&views, &known, &point, from, to)
                    })
                    .await
            }
            Ask::Erase { equals, from_us, to_us, who, why } => {
                let audit = audit(who, why)?;
                let known = |name: &String| TableName::ALL.iter().any(|table| table.position(name).is_some());
                if let Some(unknown) = equals.keys().find(|name| !known(name)) {
                    bail!("failed to erase: no table has a column '{unknown}'");
                }
                let subject = Subject { equals, within: within(from_us, to_us)? };
                if subject == Subject::default() {
                    bail!("failed to erase: neither a column nor a time is named");
                }
                let done = self.order(|done| Order::Erase { subject, audit, done }).await;
                recall(&self.cache).clear();
                done
            }
            Ask::Correct { correction, who, why } => {
                let audit = audit(who, why)?;
                self.order(|done| Order::Correct { correction, audit, done }).await
            }
            Ask::Refetch { asked, who, why } => {
                let audit = audit(who, why)?;
                self.order(|done| Order::Refetch { asked, audit, done }).await
            }
            Ask::Trend(asked) => {
                let roll_ups = self.roll_ups.clone();
                self.look(move |views| roll_ups.trend(views, &asked)).await
            }
            Ask::Reprocess { wish, who, why } => {
                let audit = audit(who, why)?;
                self.reprocess(wish, audit, progress).await
            }
            Ask::Accept { device, key, who, why } => {
                let audit = audit(who, why)?;
                self.order(|done| Order::Accept { device, key, audit, done }).await
            }
            Ask::Reconcile { repair } => {
                let mut told = self.order(|done| Order::Reconcile { repair, done }).await?;
                // Not by the committer: rows go on into the lake meanwhile. Where a table can't be asked, the report above says why.
                let desk = self.clone();
                let seals = tokio::task::spawn_blocking(move || {
                    let (views, known) = desk.known();
                    anyhow::Ok(seals::check(&views, &known, &Asked::All)?.summary())
                });
                told["seals"] = seals.await?.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
                let broken = told["seals"]["broken"].as_array().is_some_and(|broken| !broken.is_empty());
                told["clean"] = (told["clean"] == true && !broken).into();
                Ok(told)
            }
        }
    }

    /// The tables as they are now, and what is known of them beside their rows.
    fn known(&self) -> (Vec<View>, Known) {
        let (views, marks, keys) = {
            let mut state = lock(&self.state);
            (state.views(), state.marks(), state.keys().clone())
        };
        let mut corrected = Streams::new();
        for line in self.files.corrections() {
            let of = line.correction;
            let stream = Stream { device: of.device, epoch: of.epoch, class: of.class };
            corrected.entry(stream).or_default().cover(of.seq, of.seq);
        }
        let gone = vec![("erased", self.files.erased(Reason::Erase)), ("expired", self.files.erased(Reason::Expire))];
        (views, Known { held: held(&marks), gone, corrected, keys })
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
        status["derived"] = reprocess::list(&self.derived);
        status
    }
}

fn recall(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

fn audit(who: String, why: String) -> anyhow::Result<Audit> {
    if who.trim().is_empty() || why.trim().is_empty() {
        bail!("failed to begin: the audit asks who wants it and why");
    }
    Ok(Audit { who, why, at_us: clock::now().0 })
}

/// A range of event time, ends included; half a range is most likely a slip.
fn within(from_us: Option<i64>, to_us: Option<i64>) -> anyhow::Result<Option<Within>> {
    match (from_us, to_us) {
        (None, None) => Ok(None),
        (Some(from_us), Some(to_us)) if from_us <= to_us => {
            Ok(Some(Within { column: "event_time_us".into(), from_us, to_us }))
        }
        (Some(_), Some(_)) => bail!("failed to erase: the time ends before it begins"),
        (Some(_), None) | (None, Some(_)) => bail!("failed to erase: a range of time needs both ends"),
    }
}

async fn send(write: &mut tokio::net::unix::OwnedWriteHalf, value: &Value) -> anyhow::Result<()> {
    let mut line = value.to_string();
    line.push('\n');
    Ok(write.write_all(line.as_bytes()).await?)
}

/// Requests of one connection together; a line without an end is not read for ever.
const MAX_SESSION_BYTES: u64 = 16 << 20;
