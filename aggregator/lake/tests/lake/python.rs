//! Others read the lake too: the Python `deltalake` package counts and sums what was written.
//!
//! Needs a Python that has the package: `KILTER_PYTHON=/path/to/python`, or `python3`. Otherwise prints `not run: 1`.

use std::process::Command;

use kilter_lake::{DeltaTable, Offset, Table, TableName, open_gate};
use kilter_types::JournalId;

/// A Python that has the package.
fn python() -> Option<String> {
    let python = std::env::var("KILTER_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_package = Command::new(&python).args(["-c", "import os, deltalake, pyarrow; os._exit(0)"]).output();
    if !has_package.is_ok_and(|output| output.status.success()) {
        println!("not run: 1 (no Python with deltalake and pyarrow; set KILTER_PYTHON)");
        return None;
    }
    Some(python)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_package_reads_the_same_rows() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let journal_id = JournalId(7);
    let mut table =
        DeltaTable::open(folder.path(), TableName::Features, 0, journal_id, open_gate()).await.expect("a table");
    for part in 0..12 {
        let rows = crate::sample::feature_rows(part * 100..(part + 1) * 100, |i| i);
        let offset = Offset { shard: 0, journal_id, offset: (part + 1) * 100 };
        table.append(&rows, offset).await.expect("an append");
    }
    let output =
        Command::new(&python).args(["-c", READ]).arg(folder.path().join("features")).output().expect("Python just ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // 1200 rows; seqs 0..1200 sum to 719400; the first of each list too; the offset that the log carries.
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1200 719400 719400.0 1200 2 1200");
}

const READ: &str = r#"
import os, sys, deltalake
table = deltalake.DeltaTable(sys.argv[1])
rows = table.to_pyarrow_table() if hasattr(table, "to_pyarrow_table") else None
seqs = rows.column("seq").to_pylist()
firsts = [v[0] for v in rows.column("values").to_pylist()]
print(len(seqs), sum(seqs), sum(firsts), len(set(seqs)), len(set(rows.column("day").to_pylist())),
      table.transaction_version("kilter/0/0000000000000007"), flush=True)
# Arrow's threads may abort an interpreter that takes itself apart (apache/arrow issue 34314).
os._exit(0)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_the_python_package_reads_a_widened_column_and_its_narrow_past() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    crate::evolution::foreign(folder.path(), deltalake::kernel::PrimitiveType::Integer).await;
    let journal_id = JournalId(7);
    let mut table =
        DeltaTable::open(folder.path(), TableName::Features, 0, journal_id, open_gate()).await.expect("opens");
    let rows = crate::sample::feature_rows(1 << 40..(1 << 40) + 4, |i| i - (1 << 40));
    table.append(&rows, Offset { shard: 0, journal_id, offset: 4 }).await.expect("an append");
    let output = Command::new(&python)
        .args(["-c", READ_WIDENED])
        .arg(folder.path().join("features"))
        .output()
        .expect("Python just ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(told.trim(), "int64 100 1099511627776 1099511627777 1099511627778 1099511627779 | int32 100");
}

const READ_WIDENED: &str = r#"
import os, sys, deltalake
now = deltalake.DeltaTable(sys.argv[1]).to_pyarrow_table().column("seq")
past = deltalake.DeltaTable(sys.argv[1], version=1).to_pyarrow_table().column("seq")
print(now.type, *sorted(now.to_pylist()), "|", past.type, *past.to_pylist(), flush=True)
os._exit(0)
"#;
