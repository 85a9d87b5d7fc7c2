//! The table on disk: a Delta table whose commits carry the journal offset as an application transaction.
//!
//! Data files are written by deltalake's own record batch writer, the one Parquet path of the house (docs/adr/0002-lake.md),
//! through a store that fsyncs. A commit is one log entry: the files it adds and `txn { appId: kilter/<shard>/<journal>,
//! version: offset }`. After an error nobody can know whether the entry stands, so the log is read again and decides.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Transaction};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::operations::create::CreateBuilder;
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::writer::{DeltaWriter, RecordBatchWriter};
use deltalake::{DeltaTableError, ensure_table_uri};
use kilter_types::JournalId;

use crate::durable::{DurableStore, sync_folder};
use crate::table::new_rows;
use crate::{Appended, DataFile, Gate, LakeError, Offset, Rows, Snapshot, Table, TableName, arrow};

/// A table of the lake on local disk. One writer at a time: the lab's lock sees to it.
pub struct DeltaTable {
    name: TableName,
    folder: PathBuf,
    store: Arc<DurableStore>,
    inner: deltalake::DeltaTable,
    shard: u32,
    journal_id: JournalId,
    committed: Option<u64>,
    /// An append failed and it is not known whether its commit stands.
    doubtful: bool,
}

impl DeltaTable {
    /// Opens the table under `lake`, creating it and adding columns that it lacks, for the offsets of one journal.
    pub async fn open(
        lake: &Path,
        name: TableName,
        shard: u32,
        journal_id: JournalId,
        gate: Gate,
    ) -> Result<Self, LakeError> {
        let folder = lake.join(name.as_str());
        let opened = Self::connect(&folder, &gate).map(|(store, log)| (store, deltalake::DeltaTable::new(log)));
        let failed = |source: DeltaTableError| LakeError::open(name, folder.clone(), source);
        let (store, inner) = opened.map_err(failed)?;
        let inner = prepare(name, inner).await.map_err(failed)?;
        let mut table =
            Self { name, folder: folder.clone(), store, inner, shard, journal_id, committed: None, doubtful: true };
        table.settle().await.map_err(failed)?;
        Ok(table)
    }

    /// Pins the newest version.
    pub fn snapshot(&self) -> Result<Snapshot, LakeError> {
        let state = self.inner.snapshot().map_err(|source| self.unreadable(self.version(), source))?;
        let mut files: Vec<_> = state
            .log_data()
            .iter()
            .map(|file| DataFile {
                path: self.folder.join(file.object_store_path().as_ref()),
                bytes: file.size().try_into().unwrap_or(0),
                rows: file.num_records().and_then(|rows| rows.try_into().ok()),
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Snapshot { table: self.name, version: self.version(), offset: self.committed(), files })
    }

    /// Pins a past version (L3).
    pub async fn snapshot_as_of(&self, version: u64) -> Result<Snapshot, LakeError> {
        let mut past = deltalake::DeltaTable::new(self.inner.log_store());
        past.load_version(version).await.map_err(|source| self.unreadable(version, source))?;
        let state = past.snapshot().map_err(|source| self.unreadable(version, source))?;
        let offset = state
            .transaction_version(past.log_store().as_ref(), self.app_id())
            .await
            .map_err(|source| self.unreadable(version, source))?;
        let past = Self {
            name: self.name,
            folder: self.folder.clone(),
            store: self.store.clone(),
            inner: past,
            shard: self.shard,
            journal_id: self.journal_id,
            committed: offset.map(|bits| bits as u64),
            doubtful: false,
        };
        past.snapshot()
    }

    fn connect(folder: &Path, gate: &Gate) -> Result<(Arc<DurableStore>, LogStoreRef), DeltaTableError> {
        let path = folder.to_str().ok_or_else(|| DeltaTableError::generic("the folder's name is not UTF-8"))?;
        let url = ensure_table_uri(path)?;
        if let Some(parent) = folder.parent() {
            sync_folder(parent)?;
        }
        let store = Arc::new(DurableStore::new(Some(folder), gate.clone())?);
        let root = Arc::new(DurableStore::new(None, gate.clone())?);
        let log = default_logstore(store.clone(), root, &url, &StorageConfig::default());
        Ok((store, log))
    }

    /// Reads from the log what is committed, and makes sure that what is read is durable: a process may have died between
    /// linking a log entry and fsyncing its folder.
    async fn settle(&mut self) -> Result<(), DeltaTableError> {
        self.inner.update_state().await?;
        sync_folder(&self.folder.join("_delta_log"))?;
        let log = self.inner.log_store();
        let bits = self.inner.snapshot()?.transaction_version(log.as_ref(), self.app_id()).await?;
        self.committed = bits.map(|bits| bits as u64);
        self.doubtful = false;
        Ok(())
    }

    async fn commit(&mut self, rows: &Rows, offset: u64) -> Result<(), DeltaTableError> {
        let properties = WriterProperties::builder()
            .set_created_by(concat!("kilter ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .build();
        let mut writer = RecordBatchWriter::for_table(&self.inner)?.with_writer_properties(properties);
        let batch = arrow::batch(rows, writer.arrow_schema())?;
        writer.write(batch).await?;
        let files = writer.flush().await?;
        let transaction = Transaction::new(self.app_id(), offset as i64);
        let commit = CommitBuilder::from(
            CommitProperties::default()
                .with_application_transaction(transaction)
                .with_metadata(HashMap::from([("kilter".to_owned(), env!("CARGO_PKG_VERSION").into())]))
                // One committer: a version that is there already is not a conflict to be solved but an error.
                .with_max_retries(0)
                // What a model card names must stay readable (L3).
                .with_cleanup_expired_logs(Some(false)),
        )
        .with_actions(files.into_iter().map(Action::Add).collect());
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(PARTITION_COLUMNS.map(str::to_owned).to_vec()),
            predicate: None,
        };
        commit.build(Some(self.inner.snapshot()?), self.inner.log_store(), operation).await?;
        self.inner.update_state().await
    }

    fn app_id(&self) -> String {
        format!("kilter/{}/{:016x}", self.shard, self.journal_id.0)
    }

    fn unreadable(&self, version: u64, source: DeltaTableError) -> LakeError {
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
            self.settle().await.map_err(|source| LakeError::append(self.name, self.folder.clone(), source))?;
        }
        let Some(new) = new_rows(self.name, rows, offset, self.committed)? else {
            return Ok(Appended::Unchanged);
        };
        self.store.begin();
        self.doubtful = true;
        let committed = self.commit(&new, offset.offset).await;
        // The log decides, also where the entry stands and only what came after it failed.
        if let Err(source) = committed {
            let settled = self.settle().await;
            if settled.is_ok() && self.committed != Some(offset.offset) {
                self.store.take_back();
                return Err(LakeError::append(self.name, self.folder.clone(), source));
            }
            settled.map_err(|source| LakeError::append(self.name, self.folder.clone(), source))?;
        }
        self.committed = Some(offset.offset);
        self.doubtful = false;
        Ok(Appended::Committed { version: self.version(), rows: new.len() })
    }

    fn committed(&self) -> Option<Offset> {
        self.committed.map(|offset| Offset { shard: self.shard, journal_id: self.journal_id, offset })
    }

    fn version(&self) -> u64 {
        self.inner.version().unwrap_or(0)
    }

    async fn read_as_of(&self, version: u64) -> Result<Rows, LakeError> {
        let snapshot = self.snapshot_as_of(version).await?;
        let table = self.name;
        let read = tokio::task::spawn_blocking(move || {
            let mut rows = Rows::new(table);
            snapshot.files.iter().try_for_each(|file| arrow::read_file(table, &file.path, &mut rows)).map(|()| rows)
        });
        let read = read.await.unwrap_or_else(|error| Err(error.into()));
        read.map_err(|source| LakeError::Read { table, version, source })
    }
}

/// Loads the table, or creates it; adds columns that this build writes and an older one did not.
async fn prepare(name: TableName, mut table: deltalake::DeltaTable) -> Result<deltalake::DeltaTable, DeltaTableError> {
    let fields: Vec<_> = name.columns().map(arrow::delta_field).collect();
    if !table.verify_deltatable_existence().await? {
        return CreateBuilder::new()
            .with_log_store(table.log_store())
            .with_table_name(name.as_str())
            .with_columns(fields)
            .with_partition_columns(PARTITION_COLUMNS)
            .with_save_mode(SaveMode::ErrorIfExists)
            .await;
    }
    table.load().await?;
    let schema = table.snapshot()?.schema();
    let missing: Vec<_> = fields.into_iter().filter(|field| schema.field(field.name()).is_none()).collect();
    if missing.is_empty() { Ok(table) } else { table.add_columns().with_fields(missing).await }
}

const PARTITION_COLUMNS: [&str; 2] = ["day", "bucket"];
