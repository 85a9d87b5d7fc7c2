//! The table on disk: a Delta table whose commits carry the journal offset as an application transaction.
//!
//! Data files are written by deltalake's own record batch writer, the one Parquet path of the house (docs/adr/0002-lake.md),
//! through a store that fsyncs. A commit is one log entry: the files it adds and `txn { appId: kilter/<shard>/<journal>,
//! version: offset }`. After an error nobody can know whether the entry stands, so the log is read again and decides.

use std::collections::HashMap;
use std::path::Path;

use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, StructField, Transaction};
use deltalake::operations::create::CreateBuilder;
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use deltalake::protocol::{DeltaOperation, SaveMode};
use kilter_types::{JournalId, Micros};
use serde_json::Value;

use crate::durable::sync_folder;
use crate::place::{Stores, is_not_found};
use crate::table::new_rows;
use crate::widen::widens;
use crate::{Appended, DataFile, Gate, LakeError, Offset, Place, Rows, Snapshot, Table, TableName, arrow};

/// A table of the lake. One writer at a time: the lab's lock sees to it.
pub struct DeltaTable {
    pub(crate) name: TableName,
    pub(crate) stores: Stores,
    pub(crate) inner: deltalake::DeltaTable,
    shard: u32,
    journal_id: JournalId,
    committed: Option<u64>,
    /// A commit failed and it is not known whether it stands.
    doubtful: bool,
}

impl DeltaTable {
    /// Opens the table in the folder `lake`: [`DeltaTable::open_in`].
    pub async fn open(
        lake: &Path,
        name: TableName,
        shard: u32,
        journal_id: JournalId,
        gate: Gate,
    ) -> Result<Self, LakeError> {
        Self::open_in(&Place::Folder { path: lake.to_owned(), gate }, name, shard, journal_id).await
    }

    /// Opens the table, creating it, adding columns that it lacks and widening those that are too narrow, for the offsets of one journal.
    pub async fn open_in(place: &Place, name: TableName, shard: u32, journal_id: JournalId) -> Result<Self, LakeError> {
        let failed = |source: DeltaTableError| LakeError::open(name, place.folder(name), source);
        let stores = place.connect(name).map_err(failed)?;
        let (inner, wider) =
            load_or_create(name, deltalake::DeltaTable::new(stores.log.clone())).await.map_err(failed)?;
        let mut table = Self { name, stores, inner, shard, journal_id, committed: None, doubtful: true };
        table.settle().await.map_err(failed)?;
        table.widen(wider).await?;
        Ok(table)
    }

    /// Pins the newest version.
    pub fn snapshot(&self) -> Result<Snapshot, LakeError> {
        self.pinned(&self.inner, self.committed())
    }

    /// The newest version, its files where readers look for them.
    pub async fn current(&self) -> Result<Snapshot, LakeError> {
        let snapshot = self.snapshot()?;
        self.fetch(&snapshot).await?;
        Ok(snapshot)
    }

    /// Pins a past version (L3).
    pub async fn snapshot_as_of(&self, version: u64) -> Result<Snapshot, LakeError> {
        let failed = |source| self.unreadable(version, source);
        let mut past = deltalake::DeltaTable::new(self.inner.log_store());
        past.load_version(version).await.map_err(failed)?;
        let state = past.snapshot().map_err(failed)?;
        let bits = state.transaction_version(past.log_store().as_ref(), self.app_id()).await.map_err(failed)?;
        self.pinned(&past, bits.map(|bits| self.offset(bits as u64)))
    }

    /// Pins the version that stood at `time`, by the committer's clock (L3), its files where readers look for them. Fails when upkeep or an
    /// erasure has removed one of them.
    pub async fn snapshot_at(&self, time: Micros) -> Result<Snapshot, LakeError> {
        let mut version = self.version();
        while version > 0 {
            let entry = self.log_entry(version).await.map_err(|source| self.unreadable(version, source))?;
            if entry.at.is_some_and(|at| at <= time) {
                break;
            }
            version -= 1;
        }
        let snapshot = self.snapshot_as_of(version).await?;
        self.fetch(&snapshot).await?;
        match snapshot.files.iter().find(|file| !file.path.exists()) {
            Some(file) => Err(LakeError::Gone { table: self.name, version, path: file.path.clone() }),
            None => Ok(snapshot),
        }
    }

    /// Makes sure that the snapshot's files lie where it says. On a local disk they do; those of a bucket are fetched once. What is gone from
    /// either is found by whoever reads it: commits go on without it.
    pub async fn fetch(&self, snapshot: &Snapshot) -> Result<(), LakeError> {
        for file in &snapshot.files {
            match self.stores.fetch(&file.path).await {
                Err(source) if !is_not_found(&source) => return Err(self.unreadable(snapshot.version, source)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn pinned(&self, table: &deltalake::DeltaTable, offset: Option<Offset>) -> Result<Snapshot, LakeError> {
        let version = table.version().unwrap_or(0);
        let state = table.snapshot().map_err(|source| self.unreadable(version, source))?;
        let mut files: Vec<_> = state
            .log_data()
            .iter()
            .map(|file| DataFile {
                path: self.stores.folder.join(file.object_store_path().as_ref()),
                bytes: file.size().try_into().unwrap_or(0),
                rows: file.num_records().and_then(|rows| rows.try_into().ok()),
                stats: file.stats(),
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Snapshot { table: self.name, version, offset, files })
    }

    /// Reads from the log what is committed, and makes sure that what is read is durable: a process may have died between
    /// linking a log entry and fsyncing its folder.
    pub(crate) async fn settle(&mut self) -> Result<(), DeltaTableError> {
        self.inner.update_state().await?;
        if self.stores.local.is_some() {
            sync_folder(&self.stores.folder.join("_delta_log"))?;
        }
        let log = self.inner.log_store();
        let bits = self.inner.snapshot()?.transaction_version(log.as_ref(), self.app_id()).await?;
        self.committed = bits.map(|bits| bits as u64);
        self.doubtful = false;
        Ok(())
    }

    /// One log entry.
    pub(crate) async fn enter(
        &mut self,
        actions: Vec<Action>,
        transaction: Option<Transaction>,
        operation: DeltaOperation,
        note: Value,
    ) -> Result<(), DeltaTableError> {
        let mut properties = CommitProperties::default()
            .with_metadata(HashMap::from([("kilter".to_owned(), note)]))
            // One committer: a version that is there already is not a conflict to be solved but an error.
            .with_max_retries(0)
            // What a model card names must stay readable (L3).
            .with_cleanup_expired_logs(Some(false));
        if let Some(transaction) = transaction {
            properties = properties.with_application_transaction(transaction);
        }
        let commit = CommitBuilder::from(properties).with_actions(actions);
        commit.build(Some(self.inner.snapshot()?), self.inner.log_store(), operation).await?;
        self.inner.update_state().await
    }

    async fn commit(&mut self, rows: &Rows, offset: u64) -> Result<(), DeltaTableError> {
        let files = self.write_rows(rows).await?;
        let transaction = Transaction::new(self.app_id(), offset as i64);
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(PARTITION_COLUMNS.map(str::to_owned).to_vec()),
            predicate: None,
        };
        let actions = files.into_iter().map(Action::Add).collect();
        self.enter(actions, Some(transaction), operation, env!("CARGO_PKG_VERSION").into()).await
    }

    /// Before a commit other than an append: the version that stands now. [`DeltaTable::conclude`] comes after it.
    pub(crate) async fn prepare(&mut self) -> Result<u64, LakeError> {
        if self.doubtful {
            self.settle().await.map_err(|source| self.failed(source))?;
        }
        self.begin();
        self.doubtful = true;
        Ok(self.version())
    }

    /// After an error the log decides whether the commit stands; if it does not, its files are taken back.
    pub(crate) async fn conclude<T>(&mut self, before: u64, done: Result<T, DeltaTableError>) -> Result<T, LakeError> {
        if done.is_err() {
            self.settle().await.map_err(|source| self.failed(source))?;
            if self.version() == before {
                self.take_back();
            }
        }
        self.doubtful = false;
        done.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: DeltaTableError) -> LakeError {
        LakeError::append(self.name, self.stores.folder.clone(), source)
    }

    fn begin(&self) {
        if let Some(store) = &self.stores.local {
            store.begin();
        }
    }

    fn take_back(&self) {
        if let Some(store) = &self.stores.local {
            store.take_back();
        }
    }

    fn app_id(&self) -> String {
        app_id(self.shard, self.journal_id)
    }

    fn offset(&self, offset: u64) -> Offset {
        Offset { shard: self.shard, journal_id: self.journal_id, offset }
    }

    pub(crate) fn unreadable(&self, version: u64, source: DeltaTableError) -> LakeError {
        LakeError::Read { table: self.name, version, source: source.into() }
    }
}

impl Table for DeltaTable {
    fn name(&self) -> TableName {
        self.name
    }

    async fn append(&mut self, rows: &Rows, offset: Offset) -> Result<Appended, LakeError> {
        if (offset.shard, offset.journal_id) != (self.shard, self.journal_id) {
            return Err(LakeError::WrongJournal { table: self.name });
        }
        if self.doubtful {
            self.settle().await.map_err(|source| self.failed(source))?;
        }
        let Some(new) = new_rows(self.name, rows, offset, self.committed)? else {
            return Ok(Appended::Unchanged);
        };
        self.begin();
        self.doubtful = true;
        let committed = self.commit(&new, offset.offset).await;
        // The log decides, also where the entry stands and only what came after it failed.
        if let Err(source) = committed {
            let settled = self.settle().await;
            if settled.is_ok() && self.committed != Some(offset.offset) {
                self.take_back();
                return Err(self.failed(source));
            }
            settled.map_err(|source| self.failed(source))?;
        }
        self.committed = Some(offset.offset);
        self.doubtful = false;
        Ok(Appended::Committed { version: self.version(), rows: new.len() })
    }

    fn committed(&self) -> Option<Offset> {
        self.committed.map(|offset| self.offset(offset))
    }

    fn version(&self) -> u64 {
        self.inner.version().unwrap_or(0)
    }

    async fn read_as_of(&self, version: u64) -> Result<Rows, LakeError> {
        let snapshot = self.snapshot_as_of(version).await?;
        self.fetch(&snapshot).await?;
        let table = self.name;
        let read = tokio::task::spawn_blocking(move || {
            let mut rows = Rows::new(table);
            snapshot.files.iter().try_for_each(|file| arrow::read_file(table, &file.path, &mut rows)).map(|()| rows)
        });
        let read = read.await.unwrap_or_else(|error| Err(error.into()));
        read.map_err(|source| LakeError::Read { table, version, source })
    }
}

/// The name under which the log keeps a journal's offset.
pub(crate) fn app_id(shard: u32, journal_id: JournalId) -> String {
    format!("kilter/{shard}/{:016x}", journal_id.0)
}

/// How files are written.
pub(crate) fn parquet(zstd_level: i32) -> Result<WriterPropertiesBuilder, DeltaTableError> {
    Ok(WriterProperties::builder()
        .set_created_by(concat!("kilter ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(zstd_level)?)))
}

/// Loads the table, or creates it; adds columns that this build writes and an older one did not, and says which it writes wider.
async fn load_or_create(
    name: TableName,
    mut table: deltalake::DeltaTable,
) -> Result<(deltalake::DeltaTable, Vec<StructField>), DeltaTableError> {
    let fields: Vec<_> = name.columns().map(arrow::delta_field).collect();
    if !table.verify_deltatable_existence().await? {
        let created = CreateBuilder::new()
            .with_log_store(table.log_store())
            .with_table_name(name.as_str())
            .with_columns(fields)
            .with_partition_columns(PARTITION_COLUMNS)
            .with_save_mode(SaveMode::ErrorIfExists)
            .await?;
        return Ok((created, Vec::new()));
    }
    table.load().await?;
    let schema = table.snapshot()?.schema();
    let (mut missing, mut wider) = (Vec::new(), Vec::new());
    for field in fields {
        match schema.field(field.name()) {
            Some(known) if known.data_type() == field.data_type() => {}
            Some(known) if widens(known.data_type(), field.data_type()) => wider.push(field),
            // What was written as one thing is not read as another: such a change is a new column.
            Some(known) => {
                return Err(DeltaTableError::generic(format!(
                    "column {} holds {} and this build writes {}: another build has changed it",
                    field.name(),
                    known.data_type(),
                    field.data_type()
                )));
            }
            None => missing.push(field),
        }
    }
    if !missing.is_empty() {
        table = table.add_columns().with_fields(missing).await?;
    }
    Ok((table, wider))
}

/// Under it the log keeps a file's SHA-256.
pub(crate) const DIGEST_TAG: &str = "kilter.sha256";

pub(crate) const PARTITION_COLUMNS: [&str; 2] = ["day", "bucket"];
