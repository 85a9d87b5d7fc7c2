//! What the committer does to the tables besides appending: puts small files together, removes what nothing needs.
//!
//! It all happens between two rounds of commits, by the one committer that there is. The journal keeps what comes meanwhile.

use kilter_history::View;
use kilter_lake::{Audit, Compaction, Correction, Subject, Table, TableName};
use kilter_types::Micros;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::clock;
use crate::commit::{Committer, Flush, lock};
use crate::refetch::Asked;

/// What a person asks of the committer.
pub(crate) enum Order {
    /// Take a subject's data out of every table.
    Erase {
        /// Whose.
        subject: Subject,
        /// Who wants it, and why.
        audit: Audit,
        /// Told when it is done.
        done: Answer,
    },
    /// Replace what a record says.
    Correct {
        /// Which record, and how.
        correction: Correction,
        /// Who wants it, and why.
        audit: Audit,
        /// Told when it is done.
        done: Answer,
    },
    /// Ask the edge for what the lake lost.
    Refetch {
        /// Of what.
        asked: Asked,
        /// Who wants it, and why.
        audit: Audit,
        /// Told what is asked for.
        done: Answer,
    },
    /// Compare the lake with the marks that were published.
    Reconcile {
        /// Take duplicates out, and put back what the journal still holds.
        repair: bool,
        /// Told the report.
        done: Answer,
    },
    /// A device may seal with another key from now on.
    Accept {
        /// Which.
        device: String,
        /// Its key, as `completeness` tells it.
        key: String,
        /// Who wants it, and why.
        audit: Audit,
        /// Told the keys of the device.
        done: Answer,
    },
    /// Pin every table as it stood at this time.
    AsOf {
        /// The time, by the lab's clock.
        at: Micros,
        /// Told the tables.
        done: oneshot::Sender<anyhow::Result<Vec<View>>>,
    },
}

type Answer = oneshot::Sender<anyhow::Result<Value>>;

impl Committer {
    /// Does what is asked. Everything folded so far was committed before.
    pub(crate) async fn obey(&mut self, order: Order) {
        // Whoever asked may have gone.
        match order {
            Order::Erase { subject, audit, done } => drop(done.send(self.erase(subject, audit).await)),
            Order::Correct { correction, audit, done } => drop(done.send(self.correct(correction, audit).await)),
            Order::Refetch { asked, audit, done } => drop(done.send(self.refetch(asked, audit).await)),
            Order::Reconcile { repair, done } => drop(done.send(self.reconcile(repair).await)),
            Order::Accept { device, key, audit, done } => drop(done.send(self.accept(&device, &key, &audit).await)),
            Order::AsOf { at, done } => drop(done.send(self.as_of(at).await)),
        }
    }

    /// After a round: one compaction per table at most, and once a day a vacuum. What fails is tried again after another round; a lab that
    /// is told to end leaves the rest to the next one.
    pub(crate) async fn keep_up(&mut self, flushes: &mpsc::Receiver<Flush>) {
        let when = Compaction {
            least_files: self.upkeep.compact_files,
            small_bytes: self.upkeep.small_bytes,
            most_bytes: self.upkeep.most_bytes,
        };
        let now = clock::now();
        let vacuum_due = self.vacuumed.is_none_or(|last| now >= last + A_DAY);
        if vacuum_due {
            self.vacuumed = Some(now);
            self.expire(now).await;
        }
        let pins = self.files.pins();
        for name in TableName::ALL {
            if flushes.is_closed() {
                return;
            }
            let Some(table) = self.tables.get_mut(&name) else { continue };
            let before = table.version();
            match table.compact(when).await {
                Ok(Some(done)) => info!(table = %name, files = done.files, into = done.into, "files put together"),
                Ok(None) => {}
                Err(error) => warn!(table = %name, error = %chain(&error), "files not put together"),
            }
            if vacuum_due {
                let pinned = pins.values().filter(|pin| pin.erased_at_us.is_none());
                let pinned: Vec<_> = pinned.filter_map(|pin| pin.versions.get(name.as_str()).copied()).collect();
                let retention = Micros::from_secs(i64::from(self.upkeep.retention_hours) * 3_600);
                match table.vacuum(retention, &pinned, now).await {
                    Ok(0) => {}
                    Ok(files) => info!(table = %name, files, "old files removed"),
                    Err(error) => warn!(table = %name, error = %chain(&error), "old files not removed"),
                }
            }
            if table.version() != before {
                match table.current().await {
                    Ok(snapshot) => lock(&self.state).committed(snapshot),
                    Err(error) => warn!(table = %name, error = %chain(&error), "version not read"),
                }
            }
        }
        self.roll_up().await;
    }

    /// Brings the roll-ups to what features and scores are now.
    pub(crate) async fn roll_up(&self) {
        let snapshot = |name: &TableName| self.tables.get(name).and_then(|table| table.snapshot().ok());
        let tables: Vec<_> = [TableName::Features, TableName::Scores].iter().filter_map(snapshot).collect();
        if tables.len() < 2 {
            return;
        }
        let roll_ups = self.roll_ups.clone();
        let kept = tokio::task::spawn_blocking(move || roll_ups.keep(&tables)).await;
        if let Err(error) = kept.unwrap_or_else(|error| Err(error.into())) {
            warn!(error = %format!("{error:#}"), "roll-ups not made; they are made when they are asked for");
        }
    }

    async fn as_of(&self, at: Micros) -> anyhow::Result<Vec<View>> {
        let mut views = Vec::new();
        for table in self.tables.values() {
            views.push(View { snapshot: table.snapshot_at(at).await?, tail: Vec::new() });
        }
        Ok(views)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

const A_DAY: Micros = Micros::from_secs(86_400);
