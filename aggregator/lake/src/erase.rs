//! Rows are taken out: for good, because a person wants it (erasure), or because they are older than they are kept (retention).
//!
//! Both are one commit that says what went, who wanted it and why. After an erasure the old files go too, pinned or not
//! ([`DeltaTable::remove_erased`]); after an expiry they go with upkeep, and stay where a model's card names their version.

use std::collections::BTreeMap;

use deltalake::DeltaTableError;
use deltalake::arrow::array::{AsArray, BooleanArray};
use deltalake::arrow::compute::{filter_record_batch, not};
use deltalake::arrow::datatypes::Int64Type;
use deltalake::arrow::record_batch::RecordBatch;
use deltalake::parquet::errors::ParquetError;
use deltalake::protocol::DeltaOperation;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::log::Note;
use crate::maintain::large_files;
use crate::ranges::{Streams, collect};
use crate::{Bound, ColumnKind, DataFile, DeltaTable, LakeError, Rows, Table, TableName, arrow};

/// Whose data is meant: rows that have all of these values, and lie within the time where one is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Columns and values, as in `device`: `press-1`.
    pub equals: BTreeMap<String, String>,
    /// Only rows of this time; with no columns, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Within>,
}

/// A range of a column of times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Within {
    /// The column, as in `event_time_us`. Rows without a value in it are not meant.
    pub column: String,
    /// First microsecond.
    pub from_us: i64,
    /// Last microsecond.
    pub to_us: i64,
}

/// Who wants it, and why: it stands in the commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Who.
    pub who: String,
    /// Why.
    pub why: String,
    /// When.
    pub at_us: i64,
}

/// Why rows are taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// A person wants it: from every version.
    #[default]
    Erase,
    /// They are older than they are kept: pinned versions still hold them.
    Expire,
}

/// What was taken out of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct Erased {
    /// The table.
    pub table: TableName,
    /// The first version without the rows.
    pub version: u64,
    /// How many rows.
    pub rows: usize,
    /// Which records.
    pub records: Streams,
}

impl Subject {
    /// Does it mean anything in this table?
    pub fn fits(&self, table: TableName) -> bool {
        let time = |within: &Within| {
            let column = table.columns().find(|column| column.name == within.column);
            column.is_some_and(|column| column.kind == ColumnKind::Int64)
        };
        let named = !self.equals.is_empty() || self.within.is_some();
        named && self.equals.keys().all(|name| table.position(name).is_some()) && self.within.as_ref().is_none_or(time)
    }

    /// Can a row of this file be meant?
    fn may_be_in(&self, file: &DataFile) -> bool {
        let equal = |(column, value): (&String, &String)| {
            let value = Bound::Text(value.clone());
            file.may_hold(column, Some(&value), Some(&value))
        };
        let time = |within: &Within| {
            let (from, to) = (Bound::Whole(within.from_us), Bound::Whole(within.to_us));
            file.may_hold(&within.column, Some(&from), Some(&to))
        };
        self.equals.iter().all(equal) && self.within.as_ref().is_none_or(time)
    }

    /// Is this row meant?
    pub fn means(&self, rows: &Rows, row: usize) -> bool {
        let equal = |(column, value): (&String, &String)| rows.text(column, row) == Some(value.as_str());
        let time = |within: &Within| {
            let range = within.from_us..=within.to_us;
            rows.int64(&within.column, row).is_some_and(|us| range.contains(&us))
        };
        self.fits(rows.table()) && self.equals.iter().all(equal) && self.within.as_ref().is_none_or(time)
    }

    /// Which rows are meant.
    fn rows_of(&self, batch: &RecordBatch) -> Result<BooleanArray, DeltaTableError> {
        let mut all = vec![true; batch.num_rows()];
        for (column, wanted) in &self.equals {
            let values = batch.column_by_name(column).and_then(|column| column.as_string_opt::<i32>());
            let values =
                values.ok_or_else(|| DeltaTableError::generic(format!("{column} is not a column of texts")))?;
            all.iter_mut().zip(values).for_each(|(all, value)| *all &= value == Some(wanted.as_str()));
        }
        if let Some(Within { column, from_us, to_us }) = &self.within {
            let values = batch.column_by_name(column).and_then(|column| column.as_primitive_opt::<Int64Type>());
            let values =
                values.ok_or_else(|| DeltaTableError::generic(format!("{column} is not a column of times")))?;
            let range = *from_us..=*to_us;
            all.iter_mut().zip(values).for_each(|(all, value)| *all &= value.is_some_and(|us| range.contains(&us)));
        }
        Ok(BooleanArray::from(all))
    }

    fn predicate(&self) -> String {
        let equals = self.equals.iter().map(|(column, value)| format!("{column} = '{value}'"));
        let within = self
            .within
            .iter()
            .map(|Within { column, from_us, to_us }| format!("{column} BETWEEN {from_us} AND {to_us}"));
        equals.chain(within).collect::<Vec<_>>().join(" AND ")
    }
}

impl DeltaTable {
    /// Takes out every row of the subject, in one commit that says who wanted it and why. `None` when the newest version held nothing
    /// of it. The files that held the rows stay until [`DeltaTable::remove_erased`]: questions that began before may end.
    pub async fn erase(&mut self, subject: &Subject, audit: &Audit) -> Result<Option<Erased>, LakeError> {
        self.clear(Reason::Erase, subject, audit).await
    }

    /// The same; `reason` says what the commit calls itself.
    pub async fn clear(
        &mut self,
        reason: Reason,
        subject: &Subject,
        audit: &Audit,
    ) -> Result<Option<Erased>, LakeError> {
        if !subject.fits(self.name) {
            return Ok(None);
        }
        let files: Vec<_> = self.snapshot()?.files.into_iter().filter(|file| subject.may_be_in(file)).collect();
        if files.is_empty() {
            return Ok(None);
        }
        let before = self.prepare().await?;
        let done = self.take_out(files, reason, subject, audit).await;
        let Some(mut erased) = self.conclude(before, done).await? else { return Ok(None) };
        erased.version = self.version();
        Ok(Some(erased))
    }

    /// Can the newest version hold something of the subject, as far as the log tells?
    pub fn may_hold(&self, subject: &Subject) -> bool {
        let held = || self.snapshot().is_ok_and(|now| now.files.iter().any(|file| subject.may_be_in(file)));
        subject.fits(self.name) && held()
    }

    /// What commits of this very erasure or expiry took out of the table, as the log tells: also those of a run that was killed after its
    /// commit.
    pub async fn erased(&self, reason: Reason, subject: &Subject, audit: &Audit) -> Result<Vec<Erased>, LakeError> {
        let mut found = Vec::new();
        for version in 1..=self.version() {
            let entry = self.log_entry(version).await.map_err(|source| self.unreadable(version, source))?;
            let note = entry.note.filter(|note| note.cleared(reason) == Some(subject) && note.audit == *audit);
            found.extend(note.map(|note| Erased {
                table: self.name,
                version,
                rows: note.rows,
                records: note.records.into_iter().collect(),
            }));
        }
        Ok(found)
    }

    /// Removes every file that is no longer part of the table and holds something of this subject, pinned or not; says how many. Those are
    /// the files that its erasures took out, and older ones that a compaction had replaced before. Which they are stands in the log, so that
    /// what a crash interrupted can be done again.
    pub async fn remove_erased(&mut self, subject: &Subject) -> Result<usize, LakeError> {
        if !subject.fits(self.name) {
            return Ok(0);
        }
        let store = self.stores.log.object_store(None);
        let mut removed = 0;
        for version in 1..=self.version() {
            let entry = self.log_entry(version).await.map_err(|source| self.unreadable(version, source))?;
            let erased = entry.note.is_some_and(|note| note.cleared(Reason::Erase) == Some(subject));
            for path in entry.removed {
                let location = Path::from_iter(path.split('/'));
                match store.head(&location).await {
                    Ok(_) => {}
                    Err(object_store::Error::NotFound { .. }) => continue,
                    Err(error) => return Err(self.unreadable(version, error.into())),
                }
                if !erased {
                    let old = DataFile { path: self.stores.folder.join(&path), bytes: 0, rows: None, stats: None };
                    let holds = match self.load(vec![old]).await {
                        Ok(batch) => subject.rows_of(&batch).map(|rows| rows.true_count() > 0),
                        // Damaged: nobody can tell what it held, and nothing that a person wants gone may stay in it.
                        Err(DeltaTableError::Parquet { source }) if !matches!(source, ParquetError::External(_)) => {
                            Ok(true)
                        }
                        Err(error) => Err(error),
                    };
                    if !holds.map_err(|source| self.unreadable(version, source))? {
                        continue;
                    }
                }
                match store.delete(&location).await {
                    Ok(()) => removed += 1,
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(self.unreadable(version, error.into())),
                }
                if self.stores.local.is_none() {
                    // The copy for reading goes too; where there is none there is nothing to remove.
                    let _ = std::fs::remove_file(self.stores.folder.join(&path));
                }
            }
        }
        Ok(removed)
    }

    async fn take_out(
        &mut self,
        files: Vec<DataFile>,
        reason: Reason,
        subject: &Subject,
        audit: &Audit,
    ) -> Result<Option<Erased>, DeltaTableError> {
        let mut erased = Erased { table: self.name, version: 0, rows: 0, records: Streams::new() };
        let (mut adds, mut touched) = (Vec::new(), Vec::new());
        for file in files {
            let batch = self.load(vec![file.clone()]).await?;
            let meant = subject.rows_of(&batch)?;
            let count = meant.true_count();
            if count == 0 {
                continue;
            }
            let out =
                arrow::rows(self.name, &filter_record_batch(&batch, &meant)?).map_err(DeltaTableError::generic)?;
            collect(&out, &mut erased.records);
            erased.rows += count;
            let rest = filter_record_batch(&batch, &not(&meant)?)?;
            if rest.num_rows() > 0 {
                adds.extend(self.write(|_| Ok(rest), large_files()?).await?);
            }
            touched.push(file);
        }
        if touched.is_empty() {
            return Ok(None);
        }
        let operation = DeltaOperation::Delete { predicate: Some(subject.predicate()) };
        // With the records: whoever ends an erasure after a crash learns from here what is gone.
        let records: Vec<_> = erased.records.iter().collect();
        let note = json!({ (Note::key(reason)): subject, "audit": audit, "rows": erased.rows, "records": records });
        let actions = self.replacing(&touched, adds, true)?;
        self.enter(actions, None, operation, note).await?;
        Ok(Some(erased))
    }
}
