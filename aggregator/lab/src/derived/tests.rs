//! Whatever comes, goes or is put together, and wherever it is killed: the values are those of a recompute of every row.

use std::collections::BTreeMap;
use std::path::Path;

use kilter_fold::{Output, Row};
use kilter_history::query_with;
use kilter_lake::{Audit, Compaction, DeltaTable, Offset, Rows, Subject, Table, TableName, Within, open_gate};
use kilter_types::{
    DeviceId, Epoch, FeatureRow, FeatureVector, GroupKind, JournalId, Micros, Monotonic, OperatingState, Payload,
    Point, Quality, Record, Rpm, SchemaHash, Timeline,
};

use super::{Definition, Derived};
use crate::files::Files;

/// By device and number: event time in seconds and the one value.
type Held = BTreeMap<(&'static str, u64), (i64, f32)>;

struct World {
    table: DeltaTable,
    offset: u64,
    held: Held,
}

impl World {
    async fn new(folder: &Path) -> Self {
        let table = DeltaTable::open(folder, TableName::Features, 0, JournalId(7), open_gate()).await.expect("opens");
        Self { table, offset: 0, held: Held::new() }
    }

    async fn append(&mut self, rows: &[(&'static str, u64, i64, f32)]) {
        let mut out = Rows::new(TableName::Features);
        for (device, seq, secs, value) in rows.iter().copied() {
            out.push(&output(device, seq, secs, value, self.offset));
            self.offset += 1;
            self.held.insert((device, seq), (secs, value));
        }
        let upto = Offset { shard: 0, journal_id: JournalId(7), offset: self.offset };
        self.table.append(&out, upto).await.expect("an append");
    }

    /// Until nothing is left to do; how many days were computed.
    fn settle(&self, derived: &Derived) -> usize {
        let snapshot = self.table.snapshot().expect("a snapshot");
        let mut steps = 0;
        while derived.step(&snapshot, derived.epoch()).expect("a step") {
            steps += 1;
        }
        steps
    }

    /// `value_0 - rolling_median(value_0, 4) + previous(value_0, 2)` by hand; none where nothing stands two rows before.
    fn by_hand(&self) -> BTreeMap<(String, u64), f64> {
        let mut series: BTreeMap<&str, Vec<(i64, u64, f64)>> = BTreeMap::new();
        for ((device, seq), (secs, value)) in &self.held {
            series.entry(device).or_default().push((*secs, *seq, f64::from(*value)));
        }
        let mut out = BTreeMap::new();
        for (device, mut rows) in series {
            rows.sort_by_key(|(secs, seq, _)| (*secs, *seq));
            for (at, (_, seq, value)) in rows.iter().enumerate().skip(2) {
                let mut seen: Vec<f64> = rows[(at + 1).saturating_sub(4)..=at].iter().map(|row| row.2).collect();
                seen.sort_by(f64::total_cmp);
                let median = (seen[(seen.len() - 1) / 2] + seen[seen.len() / 2]) / 2.0;
                out.insert((device.to_owned(), *seq), value - median + rows[at - 2].2);
            }
        }
        out
    }
}

fn output(device: &str, seq: u64, secs: i64, value: f32, offset: u64) -> Output {
    let vector = FeatureVector { schema: SchemaHash(7), values: [value].into_iter().collect(), valid: 1 };
    let record = Record {
        point: Point::parse("acme/north/press/drive-end").expect("a good address"),
        epoch: Epoch(5),
        seq,
        monotonic: Monotonic(seq),
        timeline: Timeline::Source,
        wall: Some(Micros::from_secs(secs)),
        uncertainty: Micros(0),
        payload: Payload::Features(FeatureRow {
            group: 0,
            kind: GroupKind::Vibration,
            index: seq,
            start: Micros(0),
            end: Micros(1),
            state: OperatingState::Steady(0),
            rpm: Rpm(1_500.0),
            quality: Quality::GOOD,
            vector,
        }),
    };
    Output::Row(Box::new(Row {
        device: DeviceId::new(device).expect("a good name"),
        received: Micros::from_secs(secs),
        offset,
        event_time: Micros::from_secs(secs),
        event_bound: Micros(0),
        record,
    }))
}

fn open(data: &Path) -> Derived {
    let files = Files::open(data, open_gate()).expect("a folder");
    Derived::open(&files).expect("it opens")
}

fn define(derived: &Derived, version: u32, expression: &str) {
    let definition = Definition {
        name: "odd".into(),
        version,
        expression: expression.into(),
        who: "a".into(),
        at_us: 0,
        within_us: Some((i64::MIN, i64::MAX)),
        dropped: false,
    };
    derived
        .change(|definitions| {
            definitions.push(definition);
            Ok(())
        })
        .expect("defined");
}

fn values(derived: &Derived, table: &str) -> BTreeMap<(String, u64), f64> {
    let sql = format!("SELECT device, seq, value FROM {table}");
    let answer = query_with(&sql, &[], &derived.tables(), &BTreeMap::new(), 100_000).expect("an answer");
    let row = |row: Vec<serde_json::Value>| {
        (
            (row[0].as_str().expect("a device").to_owned(), row[1].as_u64().expect("a seq")),
            row[2].as_f64().expect("a number"),
        )
    };
    let rows = answer.rows.len();
    let values: BTreeMap<_, _> = answer.rows.into_iter().map(row).collect();
    assert_eq!(values.len(), rows, "no row twice");
    values
}

const LOOKS_BACK: &str = "value_0 - rolling_median(value_0, 4) + previous(value_0, 2)";
const DAY: i64 = 86_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_08_values_are_those_of_a_recompute_after_any_walk_of_late_rows_erasures_compactions_and_kills() {
    for seed in 1..=2_u64 {
        let mut state = seed;
        let mut next = |most: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % most
        };
        let folder = tempfile::tempdir().expect("a folder");
        let (lake, data) = (folder.path().join("lake"), folder.path().join("data"));
        std::fs::create_dir_all(&lake).expect("a folder");
        let mut world = World::new(&lake).await;
        let mut derived = open(&data);
        define(&derived, 1, "value_0 * 2");
        define(&derived, 2, LOOKS_BACK);
        let mut seq = 0;
        for _ in 0..30 {
            match next(8) {
                // Rows of any day: most of them late.
                0..=3 => {
                    let rows: Vec<_> = (0..=next(5))
                        .map(|_| {
                            seq += 1;
                            let device = if next(2) == 0 { "press-1" } else { "pump-2" };
                            (device, seq, (next(6) * DAY as u64 + next(DAY as u64)) as i64, next(100) as f32)
                        })
                        .collect();
                    world.append(&rows).await;
                }
                4 => {
                    let when = Compaction { least_files: 2, small_bytes: 1 << 20, most_bytes: 1 << 30 };
                    world.table.compact(when).await.expect("a compaction");
                }
                5 => {
                    let from = (next(6) * DAY as u64 + next(DAY as u64)) as i64;
                    let range = from..from + DAY / 4;
                    let within = Within {
                        column: "event_time_us".into(),
                        from_us: from * 1_000_000,
                        to_us: (range.end - 1) * 1_000_000,
                    };
                    let subject = Subject { within: Some(within), ..Subject::default() };
                    let audit = Audit { who: "a".into(), why: "b".into(), at_us: 1 };
                    world.table.erase(&subject, &audit).await.expect("an erasure");
                    world.held.retain(|_, (secs, _)| !range.contains(secs));
                    derived.forget(&world.table.snapshot().expect("a snapshot")).expect("forgotten");
                    // What is still told was computed from rows that are there.
                    let (told, wanted) = (values(&derived, "odd_v1"), &world.held);
                    assert!(
                        told.keys()
                            .all(|(device, seq)| wanted.keys().any(|key| (key.0, key.1) == (device.as_str(), *seq)))
                    );
                }
                // Killed half-way, or not.
                6 => derived = open(&data),
                _ => {
                    derived.step(&world.table.snapshot().expect("a snapshot"), derived.epoch()).expect("a step");
                }
            }
        }
        world.settle(&derived);
        let doubled: BTreeMap<_, _> = world
            .held
            .iter()
            .map(|((device, seq), (_, value))| ((device.to_string(), *seq), f64::from(*value) * 2.0))
            .collect();
        assert_eq!(values(&derived, "odd_v1"), doubled, "seed {seed}");
        assert_eq!(values(&derived, "odd_v2"), world.by_hand(), "seed {seed}");
        assert_eq!(values(&derived, "derived WHERE version = 2"), world.by_hand(), "seed {seed}");
        // From nothing, the same; and nothing is left to do afterwards, also in another life.
        let anew = open(&folder.path().join("anew"));
        define(&anew, 2, LOOKS_BACK);
        world.settle(&anew);
        assert_eq!(values(&anew, "odd_v2"), world.by_hand(), "seed {seed}");
        assert_eq!(world.settle(&open(&data)), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_costs_no_day_that_was_computed_and_a_late_row_only_days_that_it_can_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let (lake, data) = (folder.path().join("lake"), folder.path().join("data"));
    std::fs::create_dir_all(&lake).expect("a folder");
    let mut world = World::new(&lake).await;
    let rows: Vec<_> = (0..10)
        .flat_map(|day| (0..6).map(move |k| ("press-1", (day * 6 + k) as u64, day * DAY + k * 100, k as f32)))
        .collect();
    world.append(&rows).await;
    let derived = open(&data);
    define(&derived, 1, LOOKS_BACK);
    let snapshot = world.table.snapshot().expect("a snapshot");
    for _ in 0..4 {
        assert!(derived.step(&snapshot, derived.epoch()).expect("a step"));
    }
    drop(derived);
    // Cut by the kill: values without a mark.
    let left = data.join("lab/derived/odd_v1/1970-01-09.0.tmp");
    std::fs::write(&left, b"half").expect("written");
    let derived = open(&data);
    assert!(!left.exists());
    assert_eq!(world.settle(&derived), 6);
    // A row of the fourth day: that day, and the next one that is handed other values.
    world.append(&[("press-1", 99, 3 * DAY + 86_000, 50.0)]).await;
    assert_eq!(world.settle(&derived), 2);
    assert_eq!(values(&derived, "odd_v1"), world.by_hand());
    // What was computed for rows that are erased meanwhile is not told.
    let (epoch, old) = (derived.epoch(), world.table.snapshot().expect("a snapshot"));
    world.append(&[("press-1", 100, 9 * DAY + 86_000, 50.0)]).await;
    derived.forget(&old).expect("forgotten");
    let before = values(&derived, "odd_v1");
    assert!(derived.step(&world.table.snapshot().expect("a snapshot"), epoch).expect("a step"));
    assert_eq!(values(&derived, "odd_v1"), before);
    world.settle(&derived);
    // Lost: made again, from the first day on.
    for entry in std::fs::read_dir(data.join("lab/derived/odd_v1")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "carry") {
            std::fs::remove_file(path).expect("removed");
        }
    }
    world.append(&[("press-1", 101, 9 * DAY + 86_100, 51.0)]).await;
    world.settle(&derived);
    assert_eq!(values(&open(&data), "odd_v1"), world.by_hand());
}
