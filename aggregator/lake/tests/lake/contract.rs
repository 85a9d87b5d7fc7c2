//! What every table promises, asked of the Delta table and of its model alike.

use std::path::Path;
use std::sync::Arc;

use crate::sample::{feature_rows, gap_rows, keys};
use kilter_fold::Output;
use kilter_lake::{
    Appended, Compaction, DeltaTable, LakeError, MemoryTable, Offset, Place, Rows, Table, TableName, open_gate,
};
use kilter_text::comes_back;
use kilter_types::{Digest, Event, JournalId, Payload, Spectrum};
use object_store::memory::InMemory;

pub(crate) const JOURNAL: JournalId = JournalId(7);

fn upto(offset: u64) -> Offset {
    Offset { shard: 0, journal_id: JOURNAL, offset }
}

async fn delta(folder: &Path, name: TableName, journal_id: JournalId) -> DeltaTable {
    DeltaTable::open(folder, name, 0, journal_id, open_gate()).await.expect("a folder that can be written")
}

async fn read(table: &impl Table) -> Rows {
    table.read_as_of(table.version()).await.expect("the newest version is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_all_tables_keep_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    contract(delta(folder.path(), TableName::Features, JOURNAL).await).await;
    contract(MemoryTable::new(TableName::Features, 0, JOURNAL)).await;
    contract(in_bucket(&bucket(folder.path()), JOURNAL).await).await;
}

/// A bucket in memory: it refuses to create what exists, which is all that a commit asks of it.
fn bucket(cache: &Path) -> Place {
    let (store, url) = (Arc::new(InMemory::new()), "memory://".to_owned());
    Place::Bucket { store, url, prefix: "plant/lake".into(), cache: cache.join("cache") }
}

pub(crate) async fn in_bucket(place: &Place, journal_id: JournalId) -> DeltaTable {
    DeltaTable::open_in(place, TableName::Features, 0, journal_id).await.expect("a table in the bucket")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_20_a_bucket_holds_what_a_folder_holds_and_its_second_committer_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    like_a_folder(&bucket(folder.path()), folder.path()).await;
}

/// What a lake in this place must hold after the same appends as one in a folder; its copies are under `folder/cache`.
pub(crate) async fn like_a_folder(place: &Place, folder: &Path) {
    let mut table = in_bucket(place, JOURNAL).await;
    let mut local = delta(folder, TableName::Features, JOURNAL).await;
    for part in 0..4 {
        let rows = feature_rows(part * 10..(part + 1) * 10, |i| i);
        table.append(&rows, upto((part + 1) * 10)).await.expect("an append");
        local.append(&rows, upto((part + 1) * 10)).await.expect("an append");
    }
    assert_eq!(sorted(&read(&table).await), sorted(&read(&local).await));
    // Opened again, by a reader that has nothing in its cache.
    drop(table);
    std::fs::remove_dir_all(folder.join("cache")).expect("removed");
    let mut table = in_bucket(place, JOURNAL).await;
    assert_eq!(table.committed(), Some(upto(40)));
    let snapshot = table.snapshot().expect("a snapshot");
    assert!(snapshot.files.iter().all(|file| !file.path.exists()));
    table.fetch(&snapshot).await.expect("fetched");
    assert!(snapshot.files.iter().all(|file| file.path.exists()));
    let when = Compaction { least_files: 2, small_bytes: 1 << 20, most_bytes: 1 << 30 };
    while table.compact(when).await.expect("a compaction").is_some() {}
    assert_eq!(sorted(&read(&table).await), sorted(&read(&local).await));
    // Who was overtaken is refused or finds its rows there; nothing is there twice.
    let mut overtaken = in_bucket(place, JOURNAL).await;
    table.append(&feature_rows(40..45, |i| i), upto(45)).await.expect("an append");
    let second = overtaken.append(&feature_rows(40..45, |i| i), upto(45)).await;
    assert!(second.is_err() || overtaken.committed() == Some(upto(45)), "{second:?}");
    let last = in_bucket(place, JOURNAL).await;
    assert_eq!((last.version(), read(&last).await.len()), (table.version(), 45));
}

/// The contract, step by step on one table.
pub(crate) async fn contract(mut table: impl Table) {
    let start = table.version();
    assert_eq!(table.committed(), None, "a new table holds nothing of the journal");

    // Rows come with their offset, in one version.
    let first = feature_rows(0..10, |i| 100 + i);
    let done = table.append(&first, upto(110)).await.expect("the first append");
    assert_eq!(done, Appended::Committed { version: start + 1, rows: 10 });
    assert_eq!(table.committed(), Some(upto(110)));
    assert_eq!(read(&table).await.len(), 10);

    // The same again changes nothing.
    assert_eq!(table.append(&first, upto(110)).await.expect("the same append again"), Appended::Unchanged);
    assert_eq!((table.version(), read(&table).await.len()), (start + 1, 10));

    // A replay that goes on adds only what is new.
    let overlapping = feature_rows(5..20, |i| 100 + i);
    let done = table.append(&overlapping, upto(120)).await.expect("an append that overlaps");
    assert_eq!(done, Appended::Committed { version: start + 2, rows: 10 });
    assert_eq!(keys(&read(&table).await), keys(&feature_rows(0..20, |i| 100 + i)));

    // Nothing to add: no version, and the offset stays with the rows.
    assert_eq!(table.append(&Rows::new(TableName::Features), upto(500)).await.expect("no rows"), Appended::Unchanged);
    assert_eq!((table.version(), table.committed()), (start + 2, Some(upto(120))));

    // A past version reads as it was (L3).
    let past = table.read_as_of(start + 1).await.expect("a past version");
    assert_eq!(keys(&past), keys(&first));
    assert!(matches!(table.read_as_of(start + 3).await, Err(LakeError::Read { .. })));

    // What can't be right is refused.
    let beyond = feature_rows(20..21, |_| 130);
    assert!(matches!(table.append(&beyond, upto(130)).await, Err(LakeError::Beyond { row: 130, offset: 130, .. })));
    let other = Offset { journal_id: JournalId(8), ..upto(200) };
    assert!(matches!(table.append(&beyond, other).await, Err(LakeError::WrongJournal { .. })));
    assert!(matches!(table.append(&gap_rows(0..1), upto(200)).await, Err(LakeError::WrongTable { .. })));
    assert_eq!(read(&table).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_column_comes_back_as_it_went_in() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, rows) in crate::sample::one_of_each() {
        let mut table = delta(folder.path(), name, JOURNAL).await;
        table.append(&rows, upto(u64::MAX >> 1)).await.expect("an append");
        let mut model = MemoryTable::new(name, 0, JOURNAL);
        model.append(&rows, upto(u64::MAX >> 1)).await.expect("an append");
        assert_eq!(sorted(&read(&table).await), sorted(&read(&model).await), "{name}");
    }
}

#[test]
fn s4_33_every_row_can_be_read_back_as_what_the_fold_gave() {
    for (name, rows) in crate::sample::one_of_each() {
        let mut again = kilter_lake::Rows::new(name);
        for row in 0..rows.len() {
            let output = rows.output(row).unwrap_or_else(|| panic!("row {row} of {name}"));
            let text = serde_json::to_string(&output).expect("JSON");
            again.push(&serde_json::from_str(&text).expect("the same"));
        }
        // Of a clip the samples stay where they are.
        for column in name.columns().filter(|column| column.name != "samples") {
            assert_eq!(again.column(column.name), rows.column(column.name), "{} of {name}", column.name);
        }
    }
}

#[test]
fn d12_a_row_gives_back_what_a_device_may_vouch_for_and_of_the_rest_nothing() {
    for number in [0.1, -0.0, 1e-45, f32::MAX, f32::NAN, f32::INFINITY] {
        let drift = Payload::Event(Event::Drift { model: Digest::NONE, share: number });
        let (lines, full_scale) = (std::iter::once(7).collect(), number);
        let spectrum = Spectrum { group: 0, index: 8, envelope: true, line_hz: 2.0, full_scale, lines };
        for payload in [drift, Payload::Spectrum(spectrum)] {
            let output = crate::sample::output(4, 4, payload);
            let mut rows = Rows::new(Rows::table_of(&output));
            rows.push(&output);
            let Output::Row(row) = output else { panic!("a record") };
            let vouched = comes_back(&row.record);
            assert_eq!((vouched, rows.recorded(0)), (number.is_finite(), vouched.then_some(row.record)), "{number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_journal_starts_without_an_offset_and_keeps_the_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = delta(folder.path(), TableName::Features, JOURNAL).await;
    table.append(&feature_rows(0..3, |i| i), upto(3)).await.expect("an append");
    let other = JournalId(8);
    let mut table = delta(folder.path(), TableName::Features, other).await;
    assert_eq!(table.committed(), None);
    let offset = Offset { shard: 0, journal_id: other, offset: 2 };
    table.append(&feature_rows(3..5, |i| i - 3), offset).await.expect("an append");
    assert_eq!(read(&table).await.len(), 5);
    let table = delta(folder.path(), TableName::Features, JOURNAL).await;
    assert_eq!(table.committed(), Some(upto(3)), "the older journal's offset still stands");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l2_a_pinned_snapshot_stays_as_it_was_while_commits_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = delta(folder.path(), TableName::Features, JOURNAL).await;
    table.append(&feature_rows(0..3, |i| i), upto(3)).await.expect("an append");
    let pinned = table.snapshot().expect("a snapshot");
    table.append(&feature_rows(3..6, |i| i), upto(6)).await.expect("an append");
    assert_eq!(table.snapshot_as_of(pinned.version).await.expect("a past snapshot"), pinned);
    assert!(table.snapshot().expect("a snapshot").files.len() > pinned.files.len());
    assert!(pinned.files.iter().all(|file| file.path.exists() && file.bytes > 0));
}

fn sorted(rows: &Rows) -> Vec<String> {
    let mut lines: Vec<_> = (0..rows.len())
        .map(|row| {
            let mut one = Rows::new(rows.table());
            one.copy(rows, row);
            format!("{one:?}")
        })
        .collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_are_written_by_several_tasks_and_are_those_that_were_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal_id = JournalId(7);
    let mut table =
        DeltaTable::open(folder.path(), TableName::Features, 0, journal_id, open_gate()).await.expect("a table");
    let rows = feature_rows(0..9_000, |i| i);
    table.append(&rows, Offset { shard: 0, journal_id, offset: 9_000 }).await.expect("an append");
    assert_eq!((table.version(), table.snapshot().expect("a snapshot").files.len()), (1, 4), "two days, two buckets");
    assert_eq!(keys(&table.read_as_of(1).await.expect("rows")), keys(&rows));
    let checked = table.check().await.expect("a check");
    assert_eq!(
        (checked.rows, checked.damage, checked.doubled.len()),
        (9_000, Vec::new(), 0),
        "each file has its digest"
    );
}
