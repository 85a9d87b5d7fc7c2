//! Rows become data files: each bucket's by a task of its own where there are many, for encoding is what takes the time.

use deltalake::DeltaTableError;
use deltalake::arrow::array::{AsArray, BooleanArray};
use deltalake::arrow::compute::filter_record_batch;
use deltalake::arrow::datatypes::Int32Type;
use deltalake::arrow::record_batch::RecordBatch;
use deltalake::kernel::Add;
use deltalake::parquet::file::properties::WriterPropertiesBuilder;
use deltalake::writer::{DeltaWriter, RecordBatchWriter};
use tokio::task::JoinSet;

use crate::delta::{DIGEST_TAG, parquet};
use crate::maintain::lost;
use crate::{DeltaTable, Rows, arrow};

impl DeltaTable {
    /// Writes rows into files of their partitions.
    pub(crate) async fn write_rows(&mut self, rows: &Rows) -> Result<Vec<Add>, DeltaTableError> {
        let schema = RecordBatchWriter::for_table(&self.inner)?.arrow_schema();
        let batch = arrow::batch(rows, schema)?;
        if rows.len() < ROWS_OF_ONE_TASK {
            return self.write(|_| Ok(batch), parquet(1)?).await;
        }
        let mut tasks = JoinSet::new();
        for part in by_bucket(&batch)? {
            let mut writer = self.writer(parquet(1)?)?;
            tasks.spawn(async move {
                writer.write(part).await?;
                writer.flush().await
            });
        }
        // All of them end before an error is told: what they have published is taken back then.
        let (mut files, mut failed) = (Vec::new(), None);
        while let Some(done) = tasks.join_next().await {
            match done.map_err(lost).flatten() {
                Ok(added) => files.extend(added),
                Err(error) => failed = Some(error),
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        failed.map_or(Ok(self.with_digests(files)), Err)
    }

    /// Writes one batch of the table's own schema into files of its partitions.
    pub(crate) async fn write(
        &mut self,
        batch: impl FnOnce(&RecordBatchWriter) -> Result<RecordBatch, DeltaTableError>,
        properties: WriterPropertiesBuilder,
    ) -> Result<Vec<Add>, DeltaTableError> {
        let mut writer = self.writer(properties)?;
        let batch = batch(&writer)?;
        writer.write(batch).await?;
        let files = writer.flush().await?;
        Ok(self.with_digests(files))
    }

    fn writer(&self, properties: WriterPropertiesBuilder) -> Result<RecordBatchWriter, DeltaTableError> {
        Ok(RecordBatchWriter::for_table(&self.inner)?.with_writer_properties(properties.build()))
    }

    fn with_digests(&self, mut files: Vec<Add>) -> Vec<Add> {
        if let Some(store) = &self.stores.local {
            for file in &mut files {
                if let Some(digest) = store.digest_of(&file.path) {
                    file.tags.get_or_insert_default().insert(DIGEST_TAG.into(), Some(digest.to_string()));
                }
            }
        }
        files
    }
}

/// The rows of each bucket that has any.
fn by_bucket(batch: &RecordBatch) -> Result<Vec<RecordBatch>, DeltaTableError> {
    let buckets = batch.column_by_name("bucket").and_then(|column| column.as_primitive_opt::<Int32Type>());
    let buckets = buckets.ok_or_else(|| DeltaTableError::generic("the table has no buckets"))?;
    let mut known: Vec<Option<i32>> = buckets.iter().collect();
    known.sort_unstable();
    known.dedup();
    let part = |bucket: Option<i32>| {
        let mask: BooleanArray = buckets.iter().map(|value| Some(value == bucket)).collect();
        Ok(filter_record_batch(batch, &mask)?)
    };
    known.into_iter().map(part).collect()
}

/// Fewer rows are written by one task.
const ROWS_OF_ONE_TASK: usize = 8_192;
