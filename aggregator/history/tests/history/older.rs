//! Files of other builds: what is narrower is widened, what is missing is null, what is unknown is left out.

use std::path::Path;

use kilter_history::{View, query};
use kilter_lake::{DataFile, Snapshot, TableName};
use polars::prelude::{Column, DataFrame, NamedFrom, ParquetWriter, Series};
use serde_json::json;

fn file(folder: &Path, name: &str, columns: Vec<Column>) -> DataFile {
    let folder = folder.join("day=1970-01-01/bucket=0");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(name);
    let mut frame = DataFrame::new(1, columns).expect("a frame");
    ParquetWriter::new(std::fs::File::create(&path).expect("a file")).finish(&mut frame).expect("written");
    DataFile { bytes: path.metadata().expect("a size").len(), path, rows: Some(1), stats: None }
}

#[test]
fn f3_a_question_reads_files_whose_columns_are_narrower_missing_or_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    let device = || Series::new("device".into(), ["press-1"]).into();
    let old = vec![device(), Series::new("seq".into(), [100_i32]).into()];
    let new =
        vec![device(), Series::new("seq".into(), [1_i64 << 40]).into(), Series::new("colour".into(), ["red"]).into()];
    let files = vec![file(folder.path(), "a.parquet", old), file(folder.path(), "b.parquet", new)];
    let snapshot = Snapshot { table: TableName::Features, version: 1, offset: None, files };
    let views = [View { snapshot, tail: Vec::new() }];
    let answer = query("SELECT device, seq, asset, day FROM features ORDER BY seq", &views, 10).expect("an answer");
    let row = |seq: i64| vec![json!("press-1"), json!(seq), json!(null), json!("1970-01-01")];
    assert_eq!(answer.rows, [row(100), row(1 << 40)]);
    let few = query("SELECT seq FROM features WHERE seq > 2147483647", &views, 10).expect("an answer");
    assert_eq!(few.rows, [[json!(1_i64 << 40)]]);
}
