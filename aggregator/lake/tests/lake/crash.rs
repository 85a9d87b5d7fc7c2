//! The power goes, or the disk fills up, at every step of a commit; what was promised holds.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::sample::{feature_rows, keys};
use kilter_lake::{Appended, DeltaTable, Gate, LakeError, Offset, Step, Table, TableName, open_gate};
use kilter_types::JournalId;

const JOURNAL: JournalId = JournalId(7);

fn upto(offset: u64) -> Offset {
    Offset { shard: 0, journal_id: JOURNAL, offset }
}

async fn open(folder: &Path, gate: Gate) -> Result<DeltaTable, LakeError> {
    DeltaTable::open(folder, TableName::Features, 0, JOURNAL, gate).await
}

/// Lets `steps` steps pass, then nothing: what a process sees whose power is cut.
fn power_for(steps: usize) -> Gate {
    let passed = AtomicUsize::new(0);
    Arc::new(move |_, _| match passed.fetch_add(1, Ordering::Relaxed) < steps {
        true => Ok(()),
        false => Err(io::Error::other("the power is off")),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_a_crash_at_any_step_of_a_commit_and_a_replay_leave_each_row_once() {
    let mut crashes = 0;
    for steps in 0.. {
        let folder = tempfile::tempdir().expect("a folder");
        let mut table = open(folder.path(), open_gate()).await.expect("a new table");
        table.append(&feature_rows(0..4, |i| i), upto(4)).await.expect("the first append");
        drop(table);

        let mut table = open(folder.path(), power_for(steps)).await.expect("opening writes nothing");
        let cut = table.append(&feature_rows(2..8, |i| i), upto(8)).await;
        let told = table.committed();
        drop(table);

        // After the crash the lab folds again from an older offset and appends what it gets.
        let mut table = open(folder.path(), open_gate()).await.expect("the table opens after a crash");
        let found = table.committed();
        assert!(found == Some(upto(4)) || found == Some(upto(8)), "half a commit after {steps} steps: {found:?}");
        if cut.is_ok() {
            assert_eq!((told, found), (Some(upto(8)), Some(upto(8))), "told and lost after {steps} steps");
        }
        table.append(&feature_rows(0..10, |i| i), upto(10)).await.expect("the replay");
        let rows = table.read_as_of(table.version()).await.expect("the newest version");
        assert_eq!(keys(&rows), keys(&feature_rows(0..10, |i| i)), "after {steps} steps");
        if cut.is_ok() {
            break;
        }
        crashes += 1;
    }
    assert!(crashes >= 5, "a commit has more than {crashes} steps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_data_files_are_synced_before_the_log_entry_and_the_log_entry_before_it_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path(), open_gate()).await.expect("a new table"));
    let steps: Arc<Mutex<Vec<(Step, bool)>>> = Arc::default();
    let seen = steps.clone();
    let gate: Gate = Arc::new(move |step, path| {
        let log = path.extension().is_some_and(|extension| extension == "json");
        seen.lock().expect("no test panics here").push((step, log));
        Ok(())
    });
    let mut table = open(folder.path(), gate).await.expect("the table");
    table.append(&feature_rows(0..4, |i| i), upto(4)).await.expect("an append");
    let steps = steps.lock().expect("no test panics here").clone();
    let whole = [Step::Write, Step::SyncFile, Step::Publish, Step::SyncFolder];
    let log: Vec<_> = steps.iter().filter(|(_, log)| *log).map(|(step, _)| *step).collect();
    assert_eq!(log, whole, "one log entry");
    let first_log = steps.iter().position(|(_, log)| *log).expect("a log entry");
    assert!(steps[first_log..].iter().all(|(_, log)| *log), "no data file after the log entry");
    let data: Vec<_> = steps[..first_log].iter().map(|(step, _)| *step).collect();
    let count = |wanted| data.iter().filter(|step| **step == wanted).count();
    assert!(count(Step::Write) > 0);
    assert!(whole.iter().all(|step| count(*step) == count(Step::Write)), "{data:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_leaves_nothing_behind_and_the_append_can_be_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let full = Arc::new(AtomicBool::new(false));
    let disk = full.clone();
    let gate: Gate = Arc::new(move |step, path| {
        let log = path.extension().is_some_and(|extension| extension == "json");
        // The data files still fit; the log entry does not.
        match disk.load(Ordering::Relaxed) && log && step == Step::Write {
            true => Err(io::Error::from_raw_os_error(28)),
            false => Ok(()),
        }
    });
    let mut table = open(folder.path(), gate).await.expect("the table");
    let version = table.version();
    full.store(true, Ordering::Relaxed);
    let rows = feature_rows(0..4, |i| i);
    for _ in 0..3 {
        let error = table.append(&rows, upto(4)).await.expect_err("the disk is full");
        assert!(error.is_disk_full(), "{error}");
        assert_eq!((table.committed(), table.version()), (None, version));
        assert_eq!(parquet_files(folder.path()), 0, "orphans fill the disk further");
    }
    full.store(false, Ordering::Relaxed);
    let done = table.append(&rows, upto(4)).await.expect("there is room again");
    assert_eq!(done, Appended::Committed { version: version + 1, rows: 4 });
}

fn parquet_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| match path.is_dir() {
            true => parquet_files(&path),
            false => usize::from(path.extension().is_some_and(|extension| extension == "parquet")),
        })
        .sum()
}
