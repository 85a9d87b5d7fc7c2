//! Records for tests.

use std::path::Path;

use kilter_fold::{Output, Row};
use kilter_lake::{DeltaTable, Offset, Rows, TableName, open_gate};
use kilter_types::{
    Alarm, AlarmSource, AlarmState, Cause, DeviceId, Digest, Epoch, Event, FeatureRow, FeatureVector, GroupKind, Label,
    Micros, Monotonic, OperatingState, Payload, Point, Quality, Record, RowRef, Rpm, SchemaHash, Severity, Timeline,
};

pub(crate) const JOURNAL: kilter_types::JournalId = kilter_types::JournalId(7);

pub(crate) fn upto(offset: u64) -> Offset {
    Offset { shard: 0, journal_id: JOURNAL, offset }
}

pub(crate) async fn table(folder: &Path, name: TableName) -> DeltaTable {
    DeltaTable::open(folder, name, 0, JOURNAL, open_gate()).await.expect("a folder that can be written")
}

/// A record of `asset` at `secs`, with seq and journal offset `at`.
pub(crate) fn output(asset: &str, secs: i64, at: u64, payload: Payload) -> Output {
    let record = Record {
        point: Point::parse(&format!("acme/north/{asset}/drive-end")).expect("a good address"),
        epoch: Epoch(1),
        seq: at,
        monotonic: Monotonic(0),
        timeline: Timeline::Source,
        wall: Some(Micros::from_secs(secs)),
        uncertainty: Micros(0),
        payload,
    };
    Output::Row(Box::new(Row {
        device: DeviceId::new("gateway").expect("a good name"),
        received: Micros::from_secs(secs),
        offset: at,
        event_time: Micros::from_secs(secs),
        event_bound: Micros(0),
        record,
    }))
}

pub(crate) fn window(index: u64, state: OperatingState, quality: Quality) -> Payload {
    let vector =
        FeatureVector { schema: SchemaHash(u64::MAX - 1), values: heapless_of(&[index as f32, -0.5]), valid: 0b11 };
    Payload::Features(FeatureRow {
        group: 0,
        kind: GroupKind::Vibration,
        index,
        start: Micros(0),
        end: Micros(1),
        state,
        rpm: Rpm(1_500.0),
        quality,
        vector,
    })
}

pub(crate) fn alarm(id: u32, state: AlarmState) -> Payload {
    Payload::Alarm(Alarm {
        id,
        state,
        severity: Severity::Alarm,
        source: AlarmSource::Rule,
        cause: Cause::Unclear,
        since: Micros(0),
        input: RowRef { group: 0, index: 0, seq: 0 },
        model: Digest::NONE,
        evidence: heapless_of(&[]),
        contributions: heapless_of(&[]),
        unjournaled: false,
    })
}

pub(crate) fn label(from: i64, to: i64, label: Label) -> Payload {
    Payload::Event(Event::Labelled { from: Micros::from_secs(from), to: Micros::from_secs(to), label })
}

pub(crate) fn rows(table: TableName, outputs: &[Output]) -> Rows {
    let mut rows = Rows::new(table);
    outputs.iter().for_each(|output| rows.push(output));
    rows
}

fn heapless_of<T: Clone, V: FromIterator<T>>(items: &[T]) -> V {
    items.iter().cloned().collect()
}
