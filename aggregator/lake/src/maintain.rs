//! What is done to a table besides appending: small files become large ones, and files that nothing needs any more are removed.
//!
//! Each is one commit by the same committer that appends, so that none of them ever conflicts with another. Files are rewritten as
//! Arrow batches, not as [`crate::Rows`]: a column that only a newer build knows survives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::Duration;
use deltalake::DeltaTableError;
use deltalake::arrow::array::{Array, ArrayRef, Int32Array, StringArray, new_null_array};
use deltalake::arrow::compute::{SortColumn, cast, concat_batches, lexsort_to_indices, take_record_batch};
use deltalake::arrow::datatypes::{DataType, SchemaRef};
use deltalake::arrow::record_batch::RecordBatch;
use deltalake::kernel::{Action, Add, Remove};
use deltalake::operations::vacuum::{Clock, VacuumMode};
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::protocol::DeltaOperation;
use kilter_types::Micros;
use serde_json::json;

use crate::arrow::partition_of;
use crate::delta::parquet;
use crate::{DataFile, DeltaTable, LakeError, Table};

/// When files are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// A partition with this many small files is rewritten.
    pub least_files: usize,
    /// Below it a file is small.
    pub small_bytes: u64,
    /// The most bytes that are rewritten in one commit.
    pub most_bytes: u64,
}

/// What came of a rewrite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Files that were replaced.
    pub files: usize,
    /// Files that replace them.
    pub into: usize,
    /// Rows in the new files.
    pub rows: usize,
}

impl DeltaTable {
    /// Rewrites the small files of the partition that has most of them, sorted by machine and time, if it has enough of them.
    pub async fn compact(&mut self, when: Compaction) -> Result<Option<Rewritten>, LakeError> {
        let mut partitions: BTreeMap<PathBuf, Vec<DataFile>> = BTreeMap::new();
        for file in self.snapshot()?.files.into_iter().filter(|file| file.bytes < when.small_bytes) {
            let partition = file.path.parent().map(PathBuf::from).unwrap_or_default();
            partitions.entry(partition).or_default().push(file);
        }
        let Some(mut files) = partitions.into_values().max_by_key(Vec::len) else { return Ok(None) };
        if files.len() < when.least_files.max(2) {
            return Ok(None);
        }
        let mut bytes = 0;
        files.retain(|file| {
            bytes += file.bytes;
            bytes <= when.most_bytes
        });
        if files.len() < 2 {
            return Ok(None);
        }
        let before = self.prepare().await?;
        let done = self.put_together(files, when).await;
        self.conclude(before, done).await.map(Some)
    }

    /// Removes files that the newest version does not need, were replaced longer ago than `retention`, and are in none of the pinned
    /// versions; says how many.
    pub async fn vacuum(&mut self, retention: Micros, pinned: &[u64], now: Micros) -> Result<usize, LakeError> {
        let mut held = Vec::new();
        for version in pinned.iter().copied().filter(|version| *version <= self.version()) {
            // An erased version can't be held any more; vacuum would fail on it.
            if self.log_entry(version).await.is_ok() {
                held.push(version);
            }
        }
        let before = self.prepare().await?;
        let vacuum = self.inner.clone().vacuum();
        let done = vacuum
            .with_mode(VacuumMode::Full)
            .with_retention_period(Duration::microseconds(retention.0))
            .with_enforce_retention_duration(false)
            .with_keep_versions(&held)
            .with_clock(Arc::new(Now(now)))
            .await;
        let done = match done {
            Ok((_, metrics)) => {
                if self.stores.local.is_none() {
                    // Copies for reading go with them; where there is none there is nothing to remove.
                    let copies = metrics.files_deleted.iter().map(|path| self.stores.folder.join(path));
                    copies.for_each(|copy| drop(std::fs::remove_file(copy)));
                }
                self.inner.update_state().await.map(|()| metrics.files_deleted.len())
            }
            Err(error) => Err(error),
        };
        self.conclude(before, done).await
    }

    async fn put_together(&mut self, files: Vec<DataFile>, when: Compaction) -> Result<Rewritten, DeltaTableError> {
        let count = files.len();
        let batch = self.load(files.clone()).await?;
        let batch = tokio::task::spawn_blocking(move || sorted(&batch)).await.map_err(lost)??;
        let rows = batch.num_rows();
        let adds = self.write(|_| Ok(batch), large_files()?).await?;
        let into = adds.len();
        let operation = DeltaOperation::Optimize {
            predicate: None,
            target_size: i64::try_from(when.most_bytes).unwrap_or(i64::MAX),
        };
        let actions = self.replacing(&files, adds, false)?;
        self.enter(actions, None, operation, json!({ "compacted": count })).await?;
        Ok(Rewritten { files: count, into, rows })
    }

    /// The actions that put `adds` in the place of `files`.
    pub(crate) fn replacing(
        &self,
        files: &[DataFile],
        adds: Vec<Add>,
        data_change: bool,
    ) -> Result<Vec<Action>, DeltaTableError> {
        let mut actions = Vec::new();
        for view in self.inner.snapshot()?.log_data().iter() {
            let path = self.stores.folder.join(view.object_store_path().as_ref());
            if files.iter().any(|file| file.path == path) {
                let removed: Remove = view.remove_action(data_change);
                actions.push(Action::Remove(removed));
            }
        }
        actions.extend(adds.into_iter().map(|add| Action::Add(Add { data_change, ..add })));
        Ok(actions)
    }

    /// Whole files as one batch of the table's schema.
    pub(crate) async fn load(&self, files: Vec<DataFile>) -> Result<RecordBatch, DeltaTableError> {
        for file in &files {
            self.stores.fetch(&file.path).await?;
        }
        let writer = deltalake::writer::RecordBatchWriter::for_table(&self.inner)?;
        let schema = writer.arrow_schema();
        let load = move || {
            let mut batches = Vec::new();
            for file in &files {
                read(file, &schema, &mut batches)?;
            }
            Ok(concat_batches(&schema, &batches)?)
        };
        tokio::task::spawn_blocking(load).await.map_err(lost)?
    }
}

/// Row groups small enough that a question about one machine opens few of them.
pub(crate) fn large_files() -> Result<deltalake::parquet::file::properties::WriterPropertiesBuilder, DeltaTableError> {
    Ok(parquet(3)?.set_max_row_group_row_count(Some(ROWS_PER_GROUP)))
}

fn read(file: &DataFile, schema: &SchemaRef, into: &mut Vec<RecordBatch>) -> Result<(), DeltaTableError> {
    let partition = partition_of(&file.path);
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file.path)?)?.build()?;
    for batch in reader {
        let batch = batch?;
        let rows = batch.num_rows();
        let columns = schema.fields().iter().map(|field| -> Result<ArrayRef, DeltaTableError> {
            Ok(match (batch.column_by_name(field.name()), partition.get(field.name())) {
                (Some(column), _) if column.data_type() == field.data_type() => column.clone(),
                (Some(column), _) => cast(column, field.data_type())?,
                (None, Some(value)) if *field.data_type() == DataType::Int32 => {
                    Arc::new(Int32Array::from(vec![value.parse::<i32>().ok(); rows]))
                }
                (None, Some(value)) => Arc::new(StringArray::from(vec![Some(value.as_str()); rows])),
                (None, None) => new_null_array(field.data_type(), rows),
            })
        });
        into.push(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?);
    }
    Ok(())
}

fn sorted(batch: &RecordBatch) -> Result<RecordBatch, DeltaTableError> {
    let by = SORT_COLUMNS.iter().filter_map(|name| batch.column_by_name(name));
    let by: Vec<_> = by.map(|values| SortColumn { values: values.clone(), options: None }).collect();
    let order = lexsort_to_indices(&by, None)?;
    Ok(take_record_batch(batch, &order)?)
}

pub(crate) fn lost(error: tokio::task::JoinError) -> DeltaTableError {
    DeltaTableError::generic(error.to_string())
}

#[derive(Debug)]
struct Now(Micros);

impl Clock for Now {
    fn current_timestamp_millis(&self) -> i64 {
        self.0.0 / 1_000
    }
}

const SORT_COLUMNS: [&str; 6] = ["tenant", "site", "asset", "point", "event_time_us", "journal_offset"];

const ROWS_PER_GROUP: usize = 16_384;
