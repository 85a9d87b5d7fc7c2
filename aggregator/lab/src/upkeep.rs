//! What the committer does to the tables besides appending: puts small files together, removes what nothing needs, erases on demand,
//! and compares the lake with what was promised.
//!
//! It all happens between two rounds of commits, by the one committer that there is. The journal keeps what comes meanwhile.

use kilter_history::View;
use kilter_lake::{Audit, Checked, Compaction, Report, Streams, Subject, Table, TableName};
use kilter_types::Micros;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::clock;
use crate::commit::{Committer, Flush, lock};
use crate::files::Erasure;
use crate::lab::held;

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
    /// Compare the lake with the marks that were published.
    Reconcile {
        /// Take duplicates out.
        repair: bool,
        /// Told the report.
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
            Order::Reconcile { repair, done } => drop(done.send(self.reconcile(repair).await)),
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
    }

    /// Ends the erasures that a crash interrupted.
    pub(crate) async fn finish_erasures(&mut self) {
        for erasure in self.files.unfinished() {
            let (who, why) = (erasure.audit.who.clone(), erasure.audit.why.clone());
            match self.take_out(erasure).await {
                Ok(_) => info!(who, why, "an erasure that was interrupted is done"),
                Err(error) => warn!(who, why, error = %format!("{error:#}"), "an erasure is still not done"),
            }
        }
    }

    async fn erase(&mut self, subject: Subject, audit: Audit) -> anyhow::Result<Value> {
        let erasure = Erasure { subject, audit, done: None, records: Vec::new() };
        // Before anything goes: a crash in between leaves a line that says what was begun.
        self.files.audit(&erasure)?;
        self.take_out(erasure).await
    }

    async fn take_out(&mut self, mut erasure: Erasure) -> anyhow::Result<Value> {
        let (mut models, mut done) = (Vec::new(), Vec::new());
        for (name, table) in &mut self.tables {
            if table.erase(&erasure.subject, &erasure.audit).await?.is_some() {
                // Questions look at the new version before the old files go.
                let snapshot = table.current().await?;
                lock(&self.state).committed(snapshot);
            }
            // The log says what went, also by a run that was killed before it could tell.
            let mut rows = 0;
            for erased in table.erased(&erasure.subject, &erasure.audit).await? {
                models.extend(self.files.mark_erased(*name, erased.version, erasure.audit.at_us)?);
                rows += erased.rows;
                erasure.records.extend(erased.records);
            }
            if rows > 0 {
                done.push((*name, rows));
            }
            table.remove_erased(&erasure.subject).await?;
        }
        models.sort();
        models.dedup();
        info!(who = erasure.audit.who, rows = ?done, models = models.len(), "data erased");
        let told = json!({ "rows": done, "models_that_can_not_be_made_again": models });
        erasure.done = Some(done);
        self.files.audit(&erasure)?;
        Ok(told)
    }

    async fn as_of(&self, at: Micros) -> anyhow::Result<Vec<View>> {
        let mut views = Vec::new();
        for table in self.tables.values() {
            views.push(View { snapshot: table.snapshot_at(at).await?, tail: Vec::new() });
        }
        Ok(views)
    }

    async fn reconcile(&mut self, repair: bool) -> anyhow::Result<Value> {
        let mut repaired = 0;
        let mut checked: Vec<Checked> = Vec::new();
        for table in self.tables.values_mut() {
            let mut found = table.check().await?;
            if repair && !found.doubled.is_empty() && found.damage.is_empty() {
                repaired += table.single().await?;
                let snapshot = table.current().await?;
                lock(&self.state).committed(snapshot);
                found = table.check().await?;
            }
            checked.push(found);
        }
        let marks = self.files.committed().map(|committed| committed.marks).unwrap_or_default();
        let report = Report::new(&checked, &held(&marks), &self.files.erased());
        let damage: Vec<_> = report
            .damage
            .iter()
            .map(|damage| json!({ "path": damage.path.display().to_string(), "what": damage.what }))
            .collect();
        Ok(json!({
            "clean": report.is_clean(),
            "files": checked.iter().map(|table| table.files).sum::<usize>(),
            "rows": checked.iter().map(|table| table.rows).sum::<u64>(),
            "damaged": damage,
            "doubled": listed(&report.doubled),
            "lost": listed(&report.lost),
            "repaired_rows": repaired,
        }))
    }
}

fn listed(streams: &Streams) -> Vec<Value> {
    let each = streams.iter().flat_map(|(stream, ranges)| {
        ranges.iter().map(move |(first, last)| {
            json!({ "device": stream.device, "epoch": stream.epoch, "class": stream.class, "first": first, "last": last })
        })
    });
    each.collect()
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
