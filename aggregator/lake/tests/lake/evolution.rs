//! Tables of another build: older ones lack columns, newer ones have columns that this build does not know.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sample::{feature_rows, keys};
use deltalake::arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, StringArray};
use deltalake::arrow::record_batch::RecordBatch;
use deltalake::kernel::{DataType, PrimitiveType, StructField};
use deltalake::operations::create::CreateBuilder;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::writer::{DeltaWriter, RecordBatchWriter};
use kilter_lake::{Compaction, DeltaTable, Gate, Offset, Table, TableName, open_gate};
use kilter_types::JournalId;

/// A features table of another build, with a row; its only column besides those named here is `colour`. Its numbers of records are of
/// this kind.
pub(crate) async fn foreign(folder: &Path, seq: PrimitiveType) {
    let folder = folder.join("features");
    std::fs::create_dir(&folder).expect("created");
    let kinds = [
        ("device", PrimitiveType::String),
        ("seq", seq.clone()),
        ("journal_offset", PrimitiveType::Long),
        ("colour", PrimitiveType::String),
        ("day", PrimitiveType::String),
        ("bucket", PrimitiveType::Integer),
    ];
    let fields = kinds.map(|(name, kind)| StructField::new(name, DataType::Primitive(kind), true));
    let url = deltalake::ensure_table_uri(folder.to_str().expect("UTF-8")).expect("a folder");
    let create = CreateBuilder::new().with_location(url.as_str()).with_columns(fields);
    let mut table = create.with_partition_columns(["day", "bucket"]).await.expect("a table");
    let mut writer = RecordBatchWriter::for_table(&table).expect("a writer");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["press-1"])),
        match seq {
            PrimitiveType::Integer => Arc::new(Int32Array::from(vec![100])),
            _ => Arc::new(Int64Array::from(vec![100])),
        },
        Arc::new(Int64Array::from(vec![0])),
        Arc::new(StringArray::from(vec!["red"])),
        Arc::new(StringArray::from(vec!["2026-12-31"])),
        Arc::new(Int32Array::from(vec![kilter_bucket()])),
    ];
    writer.write(RecordBatch::try_new(writer.arrow_schema(), columns).expect("a batch")).await.expect("written");
    writer.flush_and_commit(&mut table).await.expect("committed");
}

fn kilter_bucket() -> i32 {
    kilter_lake::bucket_of(&kilter_types::DeviceId::new("press-1").expect("a good name"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_02_old_rows_stay_new_columns_are_null_in_them_and_unknown_columns_survive_a_rewrite() {
    let folder = tempfile::tempdir().expect("a folder");
    foreign(folder.path(), PrimitiveType::Long).await;
    let journal_id = JournalId(7);
    let mut table =
        DeltaTable::open(folder.path(), TableName::Features, 0, journal_id, open_gate()).await.expect("opens");
    let rows = feature_rows(0..40, |i| i);
    table.append(&rows, Offset { shard: 0, journal_id, offset: 40 }).await.expect("an append");
    let mut wanted = keys(&rows);
    wanted.push(("press-1".into(), 100));
    wanted.sort_unstable();
    let when = Compaction { least_files: 2, small_bytes: 1 << 20, most_bytes: 1 << 30 };
    for compacted in [false, true] {
        if compacted {
            assert!(table.compact(when).await.expect("a compaction").is_some());
        }
        let read = table.read_as_of(table.version()).await.expect("rows");
        assert_eq!(keys(&read), wanted);
        let old = (0..read.len()).find(|row| read.int64("seq", *row) == Some(100)).expect("the old row");
        assert_eq!((read.text("asset", old), read.int64("epoch", old)), (None, None));
        assert_eq!(colours(&table), ["red"], "compacted: {compacted}");
    }
}

/// What the newest version's files hold in the column that this build does not know.
fn colours(table: &DeltaTable) -> Vec<String> {
    let mut colours = Vec::new();
    for file in table.snapshot().expect("a snapshot").files {
        let file = std::fs::File::open(&file.path).expect("a file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader");
        for batch in reader.map(|batch| batch.expect("a batch")) {
            if let Some(column) = batch.column_by_name("colour") {
                colours.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
            }
        }
    }
    colours
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_column_that_holds_another_type_is_refused_by_name_and_nothing_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("features");
    std::fs::create_dir(&path).expect("created");
    let fields = [("seq", PrimitiveType::Long), ("rpm", PrimitiveType::String), ("day", PrimitiveType::String)];
    let fields = fields.map(|(name, kind)| StructField::new(name, DataType::Primitive(kind), true));
    let url = deltalake::ensure_table_uri(path.to_str().expect("UTF-8")).expect("a folder");
    let create = CreateBuilder::new().with_location(url.as_str()).with_columns(fields);
    create.with_partition_columns(["day"]).await.expect("a table");
    let opened = DeltaTable::open(folder.path(), TableName::Features, 0, JournalId(7), open_gate()).await;
    let refused = opened.err().expect("speeds are numbers");
    let mut said = refused.to_string();
    let mut cause = std::error::Error::source(&refused);
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    assert!(said.contains("rpm") && said.contains("string") && said.contains("float"), "{said}");
    let log = std::fs::read_dir(path.join("_delta_log")).expect("the log").count();
    assert_eq!(log, 1, "no column was added beside it");
}

/// What the files of the newest version hold the numbers of records as.
fn kinds_of_seq(table: &DeltaTable) -> BTreeSet<String> {
    let kind = |path: &Path| {
        let file = std::fs::File::open(path).expect("a file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
        reader.schema().field_with_name("seq").expect("a column").data_type().to_string()
    };
    table.snapshot().expect("a snapshot").files.iter().map(|file| kind(&file.path)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_narrower_column_is_widened_once_and_a_crash_at_any_step_of_it_is_made_up_for() {
    let journal_id = JournalId(7);
    let mut crashes = 0;
    for steps in 0.. {
        let folder = tempfile::tempdir().expect("a folder");
        foreign(folder.path(), PrimitiveType::Integer).await;
        let passed = AtomicUsize::new(0);
        let gate: Gate = Arc::new(move |_, _| match passed.fetch_add(1, Ordering::Relaxed) < steps {
            true => Ok(()),
            false => Err(std::io::Error::other("the power is off")),
        });
        let cut = DeltaTable::open(folder.path(), TableName::Features, 0, journal_id, gate).await;
        let whole = cut.is_ok();
        drop(cut);
        let mut table =
            DeltaTable::open(folder.path(), TableName::Features, 0, journal_id, open_gate()).await.expect("opens");
        assert_eq!(kinds_of_seq(&table), BTreeSet::from(["Int64".to_owned()]), "after {steps} steps");
        let version = table.version();
        // What no narrow column could hold.
        let far = 1_u64 << 40;
        let rows = feature_rows(far..far + 4, |i| i - far);
        table.append(&rows, Offset { shard: 0, journal_id, offset: 4 }).await.expect("an append");
        let mut wanted = keys(&rows);
        wanted.push(("press-1".into(), 100));
        wanted.sort_unstable();
        assert_eq!(keys(&table.read_as_of(table.version()).await.expect("rows")), wanted);
        assert_eq!(colours(&table), ["red"], "columns of other builds stay");
        // The past, whose file is as narrow as ever.
        assert_eq!(keys(&table.read_as_of(1).await.expect("the past")), [("press-1".to_owned(), 100)]);
        drop(table);
        let table =
            DeltaTable::open(folder.path(), TableName::Features, 0, journal_id, open_gate()).await.expect("opens");
        assert_eq!(table.version(), version + 1, "nothing is widened twice");
        if whole {
            break;
        }
        crashes += 1;
    }
    assert!(crashes >= 10, "widening has more than {crashes} steps");
}
