//! Compaction, erasure, vacuum, and what a journal that is lost leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::sample::{feature_rows, keys, one_of_each};
use kilter_lake::{
    Audit, Compaction, DeltaTable, Offset, Ranges, Report, Rows, Stream, Streams, Subject, Table, TableName, Wrong,
    collect, open_gate,
};
use kilter_types::{JournalId, Micros};

const JOURNAL: JournalId = JournalId(7);

fn upto(offset: u64) -> Offset {
    Offset { shard: 0, journal_id: JOURNAL, offset }
}

async fn open(folder: &Path, journal_id: JournalId) -> DeltaTable {
    DeltaTable::open(folder, TableName::Features, 0, journal_id, open_gate()).await.expect("a table")
}

/// Twelve commits of ten rows each.
async fn small_commits(folder: &Path) -> DeltaTable {
    let mut table = open(folder, JOURNAL).await;
    for part in 0..12 {
        table.append(&feature_rows(part * 10..(part + 1) * 10, |i| i), upto((part + 1) * 10)).await.expect("an append");
    }
    table
}

async fn read(table: &DeltaTable, version: u64) -> Rows {
    table.read_as_of(version).await.expect("a version that is there")
}

fn parquet_files(table: &DeltaTable) -> usize {
    table.snapshot().expect("a snapshot").files.len()
}

fn device(name: &str) -> Subject {
    Subject { equals: BTreeMap::from([("device".into(), name.into())]), within: None }
}

const ALWAYS: Compaction = Compaction { least_files: 2, small_bytes: 1 << 20, most_bytes: 64 << 20 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_changes_the_files_and_neither_the_rows_nor_the_offset_nor_the_past() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = small_commits(folder.path()).await;
    let (before, files) = (table.version(), parquet_files(&table));
    assert!(files >= 24, "{files}");
    let mut rounds = 0;
    while let Some(rewritten) = table.compact(ALWAYS).await.expect("a compaction") {
        assert_eq!((rewritten.files, rewritten.into), (6, 1), "two devices, two days");
        rounds += 1;
    }
    assert_eq!(parquet_files(&table), rounds, "one file a partition");
    let wanted = keys(&feature_rows(0..120, |i| i));
    assert_eq!(keys(&read(&table, table.version()).await), wanted);
    assert_eq!(keys(&read(&table, before).await), wanted, "a past version reads as it was (L3)");
    assert_eq!(table.committed(), Some(upto(120)));
    // Appends and replays go on as before.
    table.append(&feature_rows(100..130, |i| i), upto(130)).await.expect("an append");
    assert_eq!(keys(&read(&table, table.version()).await), keys(&feature_rows(0..130, |i| i)));
    // Opened again, the log says the same.
    drop(table);
    assert_eq!(open(folder.path(), JOURNAL).await.committed(), Some(upto(130)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vacuum_keeps_what_is_recent_or_pinned_and_removes_the_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = small_commits(folder.path()).await;
    let (pinned, other) = (table.version(), table.version() - 3);
    while table.compact(ALWAYS).await.expect("a compaction").is_some() {}
    let now = Micros::from_secs(4_000_000_000);
    let long = Micros::from_secs(3_999_999_000);
    assert_eq!(table.vacuum(long, &[], now).await.expect("a vacuum"), 0, "all of it is recent");
    let day = Micros::from_secs(86_400);
    assert_eq!(table.vacuum(day, &[pinned], now).await.expect("a vacuum"), 0, "the pinned version needs every file");
    assert_eq!(keys(&read(&table, pinned).await), keys(&feature_rows(0..120, |i| i)));
    assert!(table.vacuum(day, &[other], now).await.expect("a vacuum") > 0);
    assert_eq!(keys(&read(&table, other).await).len(), 90, "the version that is pinned now stays readable");
    assert!(table.read_as_of(pinned).await.is_err(), "the other one has lost its files");
    assert_eq!(keys(&read(&table, table.version()).await), keys(&feature_rows(0..120, |i| i)));
    table.append(&feature_rows(120..125, |i| i), upto(125)).await.expect("an append");
    assert_eq!(read(&table, table.version()).await.len(), 125);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_takes_one_device_out_of_every_version_and_says_who_wanted_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = small_commits(folder.path()).await;
    let pinned = table.version();
    let subject = device("press-1");
    let audit = Audit { who: "dpo@acme".into(), why: "contract ended".into(), at_us: 77 };
    let erased = table.erase(&subject, &audit).await.expect("an erasure").expect("there was something");
    assert_eq!((erased.rows, erased.version), (60, pinned + 1));
    let stream = Stream { device: "press-1".into(), epoch: u64::MAX - 3, class: "feature".into() };
    assert_eq!(erased.records[&stream].count(), 60);
    let left = read(&table, table.version()).await;
    assert!((0..left.len()).all(|row| left.text("device", row) == Some("pump-2")) && left.len() == 60);
    // Killed before the files went: the log tells which they are.
    drop(table);
    let mut table = open(folder.path(), JOURNAL).await;
    let old = table.snapshot_as_of(pinned).await.expect("the past").files.len();
    assert_eq!(table.remove_erased(&subject).await.expect("removed"), old / 2, "those of one device of two");
    assert_eq!(table.remove_erased(&subject).await.expect("removed"), 0);
    assert!(table.read_as_of(pinned).await.is_err(), "what was erased can't be read by asking for the past");
    assert_eq!(table.committed(), Some(upto(120)), "and a replay does not bring it back");
    table.append(&feature_rows(0..121, |i| i), upto(121)).await.expect("a replay");
    assert_eq!(read(&table, table.version()).await.len(), 61);
    let log = folder.path().join(format!("features/_delta_log/{:020}.json", erased.version));
    let log = std::fs::read_to_string(log).expect("the commit");
    assert!(log.contains("dpo@acme") && log.contains("contract ended") && log.contains("press-1"), "{log}");
    assert_eq!(table.erase(&subject, &audit).await.expect("again").map(|erased| erased.rows), Some(1), "the row since");
    assert_eq!(table.erase(&subject, &audit).await.expect("once more"), None);
    let nobody = Subject { equals: BTreeMap::from([("colour".into(), "red".into())]), within: None };
    assert_eq!(table.erase(&nobody, &audit).await.expect("no such column"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_table_can_be_compacted_and_comes_back_as_it_went_in() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, rows) in one_of_each() {
        let mut table = DeltaTable::open(folder.path(), name, 0, JOURNAL, open_gate()).await.expect("a table");
        let line = |rows: &Rows, row| {
            let mut one = Rows::new(rows.table());
            one.copy(rows, row);
            format!("{one:?}")
        };
        let mut all = Vec::new();
        for round in 1..4_u64 {
            // The same rows again and again, as if they stood further on in the journal.
            let offset = Offset { journal_id: JournalId(round), ..upto(u64::MAX >> 1) };
            let mut again =
                DeltaTable::open(folder.path(), name, 0, JournalId(round), open_gate()).await.expect("a table");
            again.append(&rows, offset).await.expect("an append");
            all.extend((0..rows.len()).map(|row| line(&rows, row)));
        }
        drop(table);
        table = DeltaTable::open(folder.path(), name, 0, JOURNAL, open_gate()).await.expect("a table");
        while table.compact(ALWAYS).await.expect("a compaction").is_some() {}
        let read = read(&table, table.version()).await;
        let mut found: Vec<_> = (0..read.len()).map(|row| line(&read, row)).collect();
        found.sort_unstable();
        all.sort_unstable();
        assert_eq!(found, all, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_commits_that_no_publication_told_of_are_found_through_any_number_of_lost_journals() {
    let folder = tempfile::tempdir().expect("a folder");
    let seqs = |streams: Streams| -> BTreeSet<u64> {
        streams.values().flat_map(Ranges::iter).flat_map(|(first, last)| first..=last).collect()
    };
    // What marks would cover that were published when the table held these.
    let held = |upto| {
        let mut held = Streams::new();
        collect(&feature_rows(0..upto, |i| i), &mut held);
        held
    };
    // Journal 7 was published up to 20, then committed ten more; journal 8 never was.
    let mut table = open(folder.path(), JOURNAL).await;
    for end in [10, 20, 30] {
        table.append(&feature_rows(end - 10..end, |i| i), upto(end)).await.expect("an append");
    }
    let seven = table.version();
    let mut table = open(folder.path(), JournalId(8)).await;
    assert_eq!(seqs(table.unpublished(&held(20), 0).await.expect("an answer").records), (20..30).collect());
    assert_eq!(
        seqs(table.unpublished(&held(23), 0).await.expect("an answer").records),
        (23..30).collect(),
        "within a commit"
    );
    assert_eq!(seqs(table.unpublished(&held(30), 0).await.expect("an answer").records), [].into());
    assert_eq!(
        seqs(table.unpublished(&held(0), 0).await.expect("an answer").records),
        (0..30).collect(),
        "nothing was published"
    );
    let eight = Offset { journal_id: JournalId(8), ..upto(5) };
    table.append(&feature_rows(30..35, |i| i - 30), eight).await.expect("an append");
    let mut table = open(folder.path(), JournalId(9)).await;
    assert_eq!(seqs(table.unpublished(&held(20), 0).await.expect("an answer").records), (20..35).collect());
    assert_eq!(seqs(table.unpublished(&held(20), seven).await.expect("an answer").records), (30..35).collect());
    // Commits of the journal that is open are its own business; compaction in between changes nothing.
    let nine = Offset { journal_id: JournalId(9), ..upto(4) };
    table.append(&feature_rows(40..44, |i| i - 40), nine).await.expect("an append");
    while table.compact(ALWAYS).await.expect("a compaction").is_some() {}
    assert_eq!(seqs(table.unpublished(&held(20), 0).await.expect("an answer").records), (20..35).collect());
    // Upkeep has removed the files that compaction replaced: their rows are found in what was written in their place.
    drop(table);
    let mut table = open(folder.path(), JournalId(10)).await;
    assert!(table.vacuum(Micros(0), &[], Micros(i64::MAX / 2)).await.expect("a vacuum") > 0);
    let found = table.unpublished(&held(20), 0).await.expect("an answer");
    assert_eq!((seqs(found.records), found.unread), ((20..35).chain(40..44).collect(), Vec::new()));
    // What was written in their place is gone: it is named, and nothing is taken for known.
    let files = table.snapshot().expect("a snapshot").files;
    files.iter().for_each(|file| std::fs::remove_file(&file.path).expect("it was there"));
    let found = table.unpublished(&held(20), 0).await.expect("an answer");
    let unread: BTreeSet<_> = found.unread.into_iter().map(|(path, _)| path).collect();
    assert_eq!((seqs(found.records), unread), ([].into(), files.into_iter().map(|file| file.path).collect()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_loss_duplication_and_corruption_are_found_and_a_clean_lake_has_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = small_commits(folder.path()).await;
    let mut held = Streams::new();
    collect(&feature_rows(0..120, |i| i), &mut held);
    let clean = Report::new(&[table.check().await.expect("a check")], &held, &Streams::new());
    assert!(clean.is_clean(), "{clean:?}");

    // Loss: a record that was promised and is in no file; erased ones are not missed.
    let press = Stream { device: "press-1".into(), epoch: u64::MAX - 3, class: "feature".into() };
    held.entry(press.clone()).or_default().insert(500);
    let checked = [table.check().await.expect("a check")];
    let report = Report::new(&checked, &held, &Streams::new());
    assert_eq!(report.lost[&press].iter().collect::<Vec<_>>(), [(500, 500)]);
    let mut erased = Streams::new();
    erased.entry(press.clone()).or_default().insert(500);
    assert!(Report::new(&checked, &held, &erased).is_clean());

    // Duplication: the same records committed under another journal.
    drop(table);
    let other = JournalId(8);
    table = open(folder.path(), other).await;
    let offset = Offset { journal_id: other, ..upto(4) };
    table.append(&feature_rows(10..14, |i| i - 10), offset).await.expect("an append");
    let report = Report::new(&[table.check().await.expect("a check")], &erased, &erased);
    assert_eq!(report.doubled[&press].iter().collect::<Vec<_>>(), [(10, 10), (12, 12)]);
    assert_eq!((table.single().await.expect("a repair"), read(&table, table.version()).await.len()), (4, 120));
    assert_eq!(keys(&read(&table, table.version()).await), keys(&feature_rows(0..120, |i| i)));

    // Corruption: one bit anywhere, a file cut, a file gone.
    let files = table.snapshot().expect("a snapshot").files;
    let (flipped, cut, gone) = (&files[0].path, &files[1].path, &files[2].path);
    let mut bytes = std::fs::read(flipped).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(flipped, &bytes).expect("written");
    std::fs::write(cut, &std::fs::read(cut).expect("a file")[..100]).expect("written");
    std::fs::remove_file(gone).expect("removed");
    let report = Report::new(&[table.check().await.expect("a check")], &Streams::new(), &Streams::new());
    let damaged: Vec<_> = report.damage.iter().map(|damage| (&damage.path, damage.wrong)).collect();
    let wrong = [(flipped, Wrong::Changed), (cut, Wrong::Changed), (gone, Wrong::Gone)];
    assert_eq!(damaged, wrong, "{:?}", report.damage);
    // They are taken out of the table; what is left of them is kept elsewhere, and the table can be read again.
    let kept = tempfile::tempdir().expect("a folder");
    let (flipped, gone) = (flipped.clone(), gone.clone());
    let aside = table.set_aside(&report.damage, kept.path()).await.expect("set aside");
    assert_eq!(std::fs::read(aside[0].kept.as_ref().expect("kept")).expect("a file"), bytes);
    assert_eq!((aside.len(), aside[0].rows, aside[2].kept.as_ref()), (3, files[0].rows, None));
    assert!(!flipped.exists() && aside[2].path == gone);
    let after = table.check().await.expect("a check");
    assert_eq!((after.damage, after.files), (Vec::new(), files.len() - 3));
    assert_eq!(read(&table, table.version()).await.len() as u64, after.rows);
    assert_eq!(table.set_aside(&report.damage, kept.path()).await.expect("nothing is left to do"), []);
}
