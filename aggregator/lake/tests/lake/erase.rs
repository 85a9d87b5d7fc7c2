//! Rows that go by their time, rows that are too old, and records that are corrected.

use std::collections::BTreeMap;

use crate::sample::{feature_rows, features, output};
use kilter_fold::Output;
use kilter_lake::{
    Audit, Correction, DeltaTable, LakeError, Offset, Reason, Rows, Subject, Table, TableName, Values, Within,
    open_gate,
};
use kilter_types::{JournalId, Micros};
use serde_json::{Value, json};

const JOURNAL: JournalId = JournalId(7);

fn upto(offset: u64) -> Offset {
    Offset { shard: 0, journal_id: JOURNAL, offset }
}

fn audit() -> Audit {
    Audit { who: "ops".into(), why: "the clock had jumped".into(), at_us: 77 }
}

fn time(column: &str, from_us: i64, to_us: i64) -> Option<Within> {
    Some(Within { column: column.into(), from_us, to_us })
}

/// Rows 0 to 9 of today and 10 to 19 of the year 2036, then some more of today in one commit with some of 2036.
async fn jumped(folder: &std::path::Path) -> DeltaTable {
    let mut table = DeltaTable::open(folder, TableName::Features, 0, JOURNAL, open_gate()).await.expect("a table");
    let row = |seq: u64, year_2036: bool| {
        let mut made = output(seq, seq, features(seq));
        let Output::Row(row) = &mut made else { unreachable!("records are rows") };
        if year_2036 {
            row.event_time = Micros(JANUARY_2036_US + seq as i64);
        }
        made
    };
    let mut append = async |range: std::ops::Range<u64>, jumped: fn(u64) -> bool| {
        let mut rows = Rows::new(TableName::Features);
        let end = range.end;
        range.for_each(|seq| rows.push(&row(seq, jumped(seq))));
        table.append(&rows, upto(end)).await.expect("an append");
    };
    append(0..10, |_| false).await;
    append(10..20, |_| true).await;
    append(20..40, |seq| seq % 4 < 2).await;
    table
}

async fn seqs(table: &DeltaTable, version: u64) -> Vec<i64> {
    let rows = table.read_as_of(version).await.expect("a version that is there");
    let mut seqs: Vec<_> = (0..rows.len()).filter_map(|row| rows.int64("seq", row)).collect();
    seqs.sort_unstable();
    seqs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f9_everything_dated_in_one_year_goes_from_every_version_and_nothing_else_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = jumped(folder.path()).await;
    let pinned = table.version();
    let year = Subject {
        equals: BTreeMap::new(),
        within: time("event_time_us", JANUARY_2036_US, JANUARY_2036_US + 366 * 86_400_000_000 - 1),
    };
    let erased = table.erase(&year, &audit()).await.expect("an erasure").expect("there was something");
    assert_eq!((erased.rows, erased.records.values().map(|ranges| ranges.count()).sum::<u64>()), (20, 20));
    let left: Vec<i64> = (0..10).chain((20..40).filter(|seq| seq % 4 >= 2)).collect();
    assert_eq!(seqs(&table, table.version()).await, left);
    assert!(table.remove_erased(&year).await.expect("removed") > 0);
    assert!(table.read_as_of(pinned).await.is_err(), "the past does not hold it either");
    assert_eq!(table.erase(&year, &audit()).await.expect("again"), None);
    // Columns and a time together mean both.
    let both = Subject { equals: [("device".into(), "press-1".into())].into(), ..year.clone() };
    assert_eq!(table.erase(&both, &audit()).await.expect("nothing is left of it"), None);
    let log = folder.path().join(format!("features/_delta_log/{:020}.json", erased.version));
    let log = std::fs::read_to_string(log).expect("the commit");
    assert!(log.contains("event_time_us BETWEEN") && log.contains("the clock had jumped"), "{log}");
    // Nothing named is nothing meant, and so is a column of another kind or table.
    for within in [None, time("rpm", 0, i64::MAX), time("day", 0, i64::MAX), time("colour", 0, i64::MAX)] {
        let subject = Subject { equals: BTreeMap::new(), within };
        assert_eq!(table.erase(&subject, &audit()).await.expect("no such time"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_07_what_is_older_than_it_is_kept_goes_and_a_pinned_version_keeps_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = jumped(folder.path()).await;
    let pinned = table.version();
    let whole = seqs(&table, pinned).await;
    let old = Subject { equals: [("class".into(), "feature".into())].into(), within: time("received_us", i64::MIN, 0) };
    assert!(!table.may_hold(&old), "the log says that nothing is so old");
    assert_eq!(table.clear(Reason::Expire, &old, &audit()).await.expect("nothing is old"), None);
    let all = Subject { within: time("received_us", i64::MIN, i64::MAX), ..old };
    assert!(table.may_hold(&all));
    let gone = table.clear(Reason::Expire, &all, &audit()).await.expect("an expiry").expect("there was something");
    assert_eq!((gone.rows, table.snapshot().expect("a snapshot").files.len()), (40, 0));
    let told = table.erased(Reason::Expire, &all, &audit()).await.expect("the log");
    assert_eq!(told, [gone]);
    assert!(table.erased(Reason::Erase, &all, &audit()).await.expect("the log").is_empty(), "it is no erasure");
    let far = Micros(i64::MAX / 2);
    assert_eq!(table.vacuum(Micros(0), &[pinned], far).await.expect("a vacuum"), 0, "a model's card needs the files");
    assert_eq!(seqs(&table, pinned).await, whole);
    assert!(table.vacuum(Micros(0), &[], far).await.expect("a vacuum") > 0);
    assert!(table.read_as_of(pinned).await.is_err());
    // A replay does not bring it back, and appends go on.
    assert_eq!(table.committed(), Some(upto(40)));
    table.append(&feature_rows(0..42, |i| i), upto(42)).await.expect("a replay");
    assert_eq!(seqs(&table, table.version()).await, [40, 41]);
}

fn correction(seq: u64, set: Value) -> Correction {
    let Value::Object(set) = set else { unreachable!("columns and values") };
    Correction {
        device: if seq.is_multiple_of(2) { "press-1" } else { "pump-2" }.into(),
        epoch: u64::MAX - 3,
        class: "feature".into(),
        seq,
        set: set.into_iter().collect(),
    }
}

/// Every row in a form that can be compared.
async fn lines(table: &DeltaTable, version: u64) -> Vec<String> {
    let rows = table.read_as_of(version).await.expect("a version that is there");
    let mut lines: Vec<_> = (0..rows.len())
        .map(|row| {
            let mut one = Rows::new(TableName::Features);
            one.copy(&rows, row);
            format!("{one:?}")
        })
        .collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f9_a_corrected_record_says_the_new_the_past_says_the_old_and_what_is_pinned_does_not_move() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut table = jumped(folder.path()).await;
    let (before, pinned) = (table.version(), table.snapshot().expect("a snapshot"));
    let was = lines(&table, before).await;
    let set = json!({ "rpm": 1_490.1, "quality": 3, "state": "off", "values": [1.0, 2.5], "start_us": null });
    let corrected =
        table.correct(&correction(25, set.clone()), &audit()).await.expect("corrected").expect("it is there");
    let held = json!({ "rpm": 1480.0, "quality": 0, "state": "steady:3", "values": [25.0, 0.5, f64::from(-1.0e-9_f32)], "start_us": 10 });
    assert_eq!((corrected.version, json!(&corrected.was)), (before + 1, held));
    let told =
        table.corrected(&correction(25, set.clone()), &audit()).await.expect("the log").expect("it was corrected");
    assert_eq!((told.version, &told.was["rpm"], &told.was["state"]), (before + 1, &json!(1480.0), &json!("steady:3")));

    let rows = table.read_as_of(table.version()).await.expect("rows");
    let row = (0..rows.len()).find(|row| rows.int64("seq", *row) == Some(25)).expect("the record");
    assert_eq!((rows.text("state", row), rows.int64("start_us", row)), (Some("off"), None));
    let Some(Values::Floats(values)) = rows.column("values") else { panic!("lists") };
    let Some(Values::Float32(speeds)) = rows.column("rpm") else { panic!("numbers") };
    assert_eq!((values.get(row), speeds[row]), (&[1.0, 2.5][..], Some(1_490.1)));
    let now = lines(&table, table.version()).await;
    assert_eq!(now.iter().filter(|line| was.contains(line)).count(), was.len() - 1, "one row is another one");
    assert_eq!(lines(&table, before).await, was, "the past reads as it was");
    assert!(pinned.files.iter().all(|file| file.path.exists()), "a question that has begun goes on");

    // Again it changes nothing; a replay of the journal does not bring the old back.
    assert_eq!(table.correct(&correction(25, set), &audit()).await.expect("again"), None);
    table.append(&feature_rows(0..40, |i| i), upto(40)).await.expect("a replay");
    assert_eq!(lines(&table, table.version()).await, now);
    // Which record it is can't be corrected, nor what would not fit; a record that is not there is told as such.
    for wrong in [
        json!({}),
        json!({ "seq": 3 }),
        json!({ "day": "2026-01-01" }),
        json!({ "rpm": "fast" }),
        json!({ "quality": 1e12 }),
    ] {
        let refused = table.correct(&correction(25, wrong.clone()), &audit()).await;
        assert!(matches!(refused, Err(LakeError::Correction { .. })), "{wrong}: {refused:?}");
    }
    assert_eq!(table.correct(&correction(99, json!({ "rpm": 1 })), &audit()).await.expect("not there"), None);
}

/// 2036-01-01, 00:00 UTC.
const JANUARY_2036_US: i64 = 2_082_758_400_000_000;
