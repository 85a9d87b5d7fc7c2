//! Every state that a disk may be in when the power goes during a commit: each prefix of its steps, with everything that was not
//! fsynced there, missing, torn at 512 bytes, or in another order.
//!
//! The steps come from a real commit through the [`Gate`]; the states are built from them by the rules of a disk that keeps only
//! what it was told to: a file's bytes by its fsync, its names by the fsync of their folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::sample::{feature_rows, keys};
use kilter_lake::{DeltaTable, Gate, Offset, Step, Table, TableName, open_gate};
use kilter_types::JournalId;
use tempfile::TempDir;

const JOURNAL: JournalId = JournalId(7);

/// A commit as it went: what stood before it, its steps, and what its files held in the end.
struct Commit {
    before: TempDir,
    steps: Vec<(Step, PathBuf)>,
    contents: BTreeMap<PathBuf, Vec<u8>>,
}

/// How one file may be found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// Under its own name, with these bytes.
    named: Option<Vec<u8>>,
    /// Under its staging name.
    staged: Option<Vec<u8>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_every_state_that_power_loss_can_leave_opens_whole_and_is_made_up_for_by_a_replay() {
    let commit = record().await;
    let mut states = 0;
    for done in 0..=commit.steps.len() {
        states += explore(&commit, &commit.steps, done).await.unwrap_or_else(|bad| panic!("{bad}"));
    }
    println!("{} steps, {states} states", commit.steps.len());
    assert!(states > 40, "only {states} states");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_skips_an_fsync_or_its_order_is_caught() {
    let commit = record().await;
    let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "json");
    let without = |left_out: Step, log: bool| -> Vec<_> {
        commit.steps.iter().filter(|(step, path)| *step != left_out || is_log(path) != log).cloned().collect()
    };
    let (log, data): (Vec<_>, Vec<_>) = commit.steps.iter().cloned().partition(|(_, path)| is_log(path));
    let planted = [
        ("data files are not fsynced", without(Step::SyncFile, false)),
        ("their folders are not fsynced", without(Step::SyncFolder, false)),
        ("the log entry is not fsynced", without(Step::SyncFile, true)),
        ("its folder is not fsynced", without(Step::SyncFolder, true)),
        ("the log entry comes first", [log, data].concat()),
    ];
    for (what, steps) in planted {
        let mut caught = None;
        // What is told too early shows at the end.
        for done in (0..=steps.len()).rev() {
            if let Err(bad) = explore(&commit, &steps, done).await {
                caught = Some(bad);
                break;
            }
        }
        println!("{what}: {}", caught.unwrap_or_else(|| panic!("not caught: {what}")));
    }
}

/// One commit of six rows over two days and two devices.
async fn record() -> Commit {
    let before = room();
    let mut table = open(before.path(), open_gate()).await.expect("a new table");
    table.append(&feature_rows(0..4, |i| i), upto(4)).await.expect("the first append");
    drop(table);
    let after = room();
    copy(before.path(), after.path());
    let steps: Arc<Mutex<Vec<(Step, PathBuf)>>> = Arc::default();
    let (seen, root) = (steps.clone(), after.path().to_owned());
    let gate: Gate = Arc::new(move |step, path| {
        let path = path.strip_prefix(&root).expect("within the lake").to_owned();
        seen.lock().expect("no test panics here").push((step, path));
        Ok(())
    });
    let mut table = open(after.path(), gate).await.expect("the table");
    table.append(&feature_rows(2..8, |i| i), upto(8)).await.expect("the second append");
    let steps = steps.lock().expect("no test panics here").clone();
    let contents =
        steps.iter().map(|(_, path)| (path.clone(), std::fs::read(after.path().join(path)).expect("it was written")));
    Commit { before, contents: contents.collect(), steps }
}

/// Checks every state after `done` of these steps; says how many there are, or which one is bad.
async fn explore(commit: &Commit, steps: &[(Step, PathBuf)], done: usize) -> Result<usize, String> {
    let told = done == steps.len();
    let mut files: BTreeMap<&Path, Vec<Step>> = BTreeMap::new();
    for (step, path) in &steps[..done] {
        files.entry(path).or_default().push(*step);
    }
    // A write that has begun may have reached the disk in part.
    if let Some((Step::Write, path)) = steps.get(done) {
        files.entry(path).or_default().push(Step::Write);
    }
    let mut states: Vec<Vec<(&Path, Found)>> = vec![Vec::new()];
    for (path, steps) in files {
        let found = possible(&steps, &commit.contents[path]);
        let with = |state: &Vec<_>| found.iter().map(|found| [&state[..], &[(path, found.clone())]].concat()).collect();
        states = states.iter().flat_map(|state| -> Vec<_> { with(state) }).collect();
    }
    for (i, state) in states.iter().enumerate() {
        let folder = room();
        copy(commit.before.path(), folder.path());
        for (path, found) in state {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("in a folder")).expect("created");
            let staged = PathBuf::from(format!("{}#1", path.display()));
            found.named.iter().for_each(|bytes| std::fs::write(&path, bytes).expect("written"));
            found.staged.iter().for_each(|bytes| std::fs::write(&staged, bytes).expect("written"));
        }
        let bad = |what: String| format!("after {done} of {} steps, state {i}: {what}", steps.len());
        whole(folder.path(), told).await.map_err(bad)?;
    }
    Ok(states.len())
}

/// Every way in which a file may be found after these steps.
fn possible(steps: &[Step], bytes: &[u8]) -> Vec<Found> {
    let did = |step| steps.contains(&step);
    // Folders are fsynced after the name was given; one that came before does not count.
    let named_for_sure = steps.iter().position(|step| *step == Step::Publish).is_some_and(|published| {
        steps.iter().rposition(|step| *step == Step::SyncFolder).is_some_and(|synced| synced > published)
    });
    let contents = if did(Step::SyncFile) { vec![bytes.to_vec()] } else { torn(bytes) };
    let (mut found, mut unnamed) = (Vec::new(), Vec::new());
    for content in contents {
        let (there, gone) = (Some(content), None);
        if named_for_sure {
            found.push(Found { named: there, staged: gone });
            continue;
        }
        if did(Step::Publish) {
            found.push(Found { named: there.clone(), staged: gone.clone() });
            found.push(Found { named: there.clone(), staged: there.clone() });
        }
        unnamed.push(Found { named: gone, staged: there });
    }
    // What has no name but the staging one is swept away whatever is in it: some of these stand for all.
    let (first, middle, last) = (0, unnamed.len() / 2, unnamed.len().saturating_sub(1));
    found.extend([first, middle, last].into_iter().filter_map(|at| unnamed.get(at).cloned()));
    if !named_for_sure {
        found.push(Found { named: None, staged: None });
    }
    found.sort();
    found.dedup();
    found
}

/// Bytes that were written and not fsynced: cut at any sector, or with any sector not there.
fn torn(bytes: &[u8]) -> Vec<Vec<u8>> {
    let cuts = (0..bytes.len()).step_by(SECTOR_BYTES).map(|cut| bytes[..cut].to_vec());
    let holes = (0..bytes.len()).step_by(SECTOR_BYTES).map(|start| {
        let mut holed = bytes.to_vec();
        let end = bytes.len().min(start + SECTOR_BYTES);
        holed[start..end].fill(0);
        holed
    });
    cuts.chain(holes).chain([bytes.to_vec()]).collect()
}

/// Does the table open with a whole commit or none, with it if it was told, and with each row once after a replay?
async fn whole(folder: &Path, told: bool) -> Result<(), String> {
    let said = |error: kilter_lake::LakeError| {
        format!("{error}: {}", std::error::Error::source(&error).map_or(String::new(), ToString::to_string))
    };
    let mut table = open(folder, open_gate()).await.map_err(said)?;
    let expected = match table.committed() {
        Some(offset) if offset == upto(8) => 0..8,
        Some(offset) if offset == upto(4) && !told => 0..4,
        other => return Err(format!("committed is {other:?}, told: {told}")),
    };
    let rows = table.read_as_of(table.version()).await.map_err(said)?;
    if keys(&rows) != keys(&feature_rows(expected, |i| i)) {
        return Err(format!("{} rows under {:?}", rows.len(), table.committed()));
    }
    table.append(&feature_rows(0..10, |i| i), upto(10)).await.map_err(said)?;
    let rows = table.read_as_of(table.version()).await.map_err(said)?;
    if keys(&rows) == keys(&feature_rows(0..10, |i| i)) {
        Ok(())
    } else {
        Err(format!("{} rows after the replay", rows.len()))
    }
}

async fn open(folder: &Path, gate: Gate) -> Result<DeltaTable, kilter_lake::LakeError> {
    DeltaTable::open(folder, TableName::Features, 0, JOURNAL, gate).await
}

fn upto(offset: u64) -> Offset {
    Offset { shard: 0, journal_id: JOURNAL, offset }
}

/// A folder in memory where there is one: a state is built and thrown away thousands of times.
fn room() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).expect("created");
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

const SECTOR_BYTES: usize = 512;
