//! What leaves the lake and what is corrected in it: by a person's order, or because it is older than it is kept. Each is told in the
//! audit before anything happens and after it is done; what a crash interrupted is ended at the next start.

use kilter_lake::{Audit, Correction, DeltaTable, LakeError, Reason, Subject, TableName, Within};
use kilter_types::{Class, Micros};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::commit::{Committer, lock};
use crate::config::QUARANTINE;
use crate::files::{Corrected, Erasure};

impl Committer {
    /// Ends the erasures and corrections that a crash interrupted.
    pub(crate) async fn finish_erasures(&mut self) {
        for erasure in self.files.unfinished() {
            let (who, why) = (erasure.audit.who.clone(), erasure.audit.why.clone());
            match self.take_out(erasure).await {
                Ok(_) => info!(who, why, "an erasure that was interrupted is done"),
                Err(error) => warn!(who, why, error = %format!("{error:#}"), "an erasure is still not done"),
            }
        }
        for correction in self.files.unfinished_corrections() {
            let (who, why) = (correction.audit.who.clone(), correction.audit.why.clone());
            match self.put_right(correction).await {
                Ok(_) => info!(who, why, "a correction that was interrupted is done"),
                Err(error) => warn!(who, why, error = %format!("{error:#}"), "a correction is still not done"),
            }
        }
    }

    /// Takes a subject's data out of every table and every version.
    pub(crate) async fn erase(&mut self, subject: Subject, audit: Audit) -> anyhow::Result<Value> {
        let erasure = Erasure { reason: Reason::Erase, subject, audit, done: None, records: Vec::new() };
        // Before anything goes: a crash in between leaves a line that says what was begun.
        self.files.audit(&erasure)?;
        self.take_out(erasure).await
    }

    /// Takes out what came in longer ago than its class is kept. Pinned versions still hold it.
    pub(crate) async fn expire(&mut self, now: Micros) {
        for (kept, days) in self.upkeep.keep_days.clone() {
            let to_us = now.0.saturating_sub(i64::from(days) * A_DAY_US);
            let within = Some(Within { column: "received_us".into(), from_us: i64::MIN, to_us });
            let class = (kept != QUARANTINE).then(|| ("class".to_owned(), kept.clone()));
            let subject = Subject { equals: class.into_iter().collect(), within };
            let audit = Audit { who: "retention".into(), why: format!("{kept} is kept for {days} days"), at_us: now.0 };
            if !self.holds(&subject) {
                continue;
            }
            let erasure = Erasure { reason: Reason::Expire, subject, audit, done: None, records: Vec::new() };
            let done = match self.files.audit(&erasure) {
                Ok(()) => self.take_out(erasure).await,
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                warn!(class = kept, error = %format!("{error:#}"), "what is too old is not taken out");
            }
        }
    }

    /// Can a table that the subject belongs to hold something of it?
    fn holds(&self, subject: &Subject) -> bool {
        self.tables.iter().filter(|(name, _)| belongs(**name, subject)).any(|(_, table)| table.may_hold(subject))
    }

    async fn take_out(&mut self, mut erasure: Erasure) -> anyhow::Result<Value> {
        let (mut models, mut done) = (Vec::new(), Vec::new());
        let Erasure { reason, subject, audit, .. } = erasure.clone();
        for (name, table) in
            self.tables.iter_mut().filter(|(name, _)| reason == Reason::Erase || belongs(**name, &subject))
        {
            if table.clear(reason, &subject, &audit).await?.is_some() {
                // Questions look at the new version before the old files go.
                let snapshot = table.current().await?;
                lock(&self.state).committed(snapshot);
            }
            // The log says what went, also by a run that was killed before it could tell.
            let mut rows = 0;
            for erased in table.erased(reason, &subject, &audit).await? {
                if reason == Reason::Erase {
                    models.extend(self.files.mark_erased(*name, erased.version, audit.at_us)?);
                }
                rows += erased.rows;
                erasure.records.extend(erased.records);
            }
            if rows > 0 {
                done.push((*name, rows));
            }
            if reason == Reason::Erase {
                table.remove_erased(&subject).await?;
                if subject.fits(*name) {
                    self.files.forget_damaged(*name)?;
                }
            }
        }
        // What is gone is in no roll-up and in no defined feature either.
        self.roll_up().await;
        if let Some(features) = self.tables.get(&TableName::Features) {
            self.derived.forget(&features.snapshot()?)?;
        }
        models.sort();
        models.dedup();
        info!(who = audit.who, why = audit.why, rows = ?done, models = models.len(), "data taken out");
        let told = json!({ "rows": done, "models_that_can_not_be_made_again": models });
        erasure.done = Some(done);
        self.files.audit(&erasure)?;
        Ok(told)
    }

    /// Replaces what a record says.
    pub(crate) async fn correct(&mut self, correction: Correction, audit: Audit) -> anyhow::Result<Value> {
        let corrected = Corrected { correction, audit, done: None };
        self.table_of(&corrected.correction)?;
        self.files.audit(&corrected)?;
        self.put_right(corrected).await
    }

    async fn put_right(&mut self, mut corrected: Corrected) -> anyhow::Result<Value> {
        let Corrected { correction, audit, .. } = corrected.clone();
        let files = self.files.clone();
        let table = self.table_of(&correction)?;
        let now = match table.correct(&correction, &audit).await {
            Ok(now) => now,
            Err(error) => {
                if matches!(error, LakeError::Correction { .. }) {
                    // It can not be done at all: a line that is only begun would be tried at each start.
                    corrected.done = Some(json!({ "refused": error.to_string() }));
                    files.audit(&corrected)?;
                }
                return Err(error.into());
            }
        };
        let moved = now.is_some();
        // The log says what was replaced, also by a run that was killed before it could tell.
        let told = match table.corrected(&correction, &audit).await? {
            Some(done) => {
                let models = files.mark_corrected(done.table, done.version, audit.at_us)?;
                json!({ "table": done.table, "version": done.version, "was": done.was, "models_trained_before": models })
            }
            None => json!({ "table": null, "unchanged": "no such record, or it holds these values already" }),
        };
        if moved {
            let snapshot = table.current().await?;
            lock(&self.state).committed(snapshot);
            self.roll_up().await;
        }
        info!(who = audit.who, why = audit.why, moved, "record corrected");
        corrected.done = Some(told.clone());
        self.files.audit(&corrected)?;
        Ok(told)
    }

    fn table_of(&mut self, correction: &Correction) -> anyhow::Result<&mut DeltaTable> {
        let class = Class::ALL.into_iter().find(|class| class.as_str() == correction.class);
        let table = class.and_then(|class| self.tables.get_mut(&TableName::of(class)));
        table.ok_or_else(|| anyhow::anyhow!("failed to correct a record: there is no class '{}'", correction.class))
    }
}

/// Retention speaks of one class; the table of what could not be read has none.
fn belongs(table: TableName, subject: &Subject) -> bool {
    match subject.equals.get("class") {
        Some(class) => Class::ALL.into_iter().any(|known| known.as_str() == class && TableName::of(known) == table),
        None => table == TableName::Quarantine,
    }
}

const A_DAY_US: i64 = 86_400_000_000;
