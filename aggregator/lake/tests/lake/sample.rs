//! Rows for tests.

use std::ops::Range;

use kilter_fold::{Output, Row};
use kilter_lake::{Rows, TableName};
use kilter_types::{
    Alarm, AlarmSource, AlarmState, Cause, Class, Clip, ClipCause, Contribution, DeviceId, Digest, Epoch, Event,
    Evidence, FeatureId, FeatureRow, FeatureVector, Gap, GapReason, GroupKind, Hertz, KernelId, Label, Micros,
    Monotonic, Name, OperatingState, Payload, Point, Quality, Record, Role, RowRef, Rpm, SchemaHash, Score, Severity,
    Spectrum, Timeline, Unit,
};

/// Feature rows with these seqs, each at the journal offset that `offset` gives; two devices, two days.
pub(crate) fn feature_rows(seqs: Range<u64>, offset: impl Fn(u64) -> u64) -> Rows {
    let mut rows = Rows::new(TableName::Features);
    seqs.for_each(|seq| rows.push(&output(seq, offset(seq), features(seq))));
    rows
}

pub(crate) fn gap_rows(seqs: Range<u64>) -> Rows {
    let mut rows = Rows::new(TableName::Gaps);
    seqs.for_each(|seq| rows.push(&output(seq, seq, gap())));
    rows
}

/// Which records the rows hold, sorted.
pub(crate) fn keys(rows: &Rows) -> Vec<(String, i64)> {
    let key = |row| (rows.text("device", row).unwrap_or_default().to_owned(), rows.int64("seq", row).unwrap_or(-1));
    let mut keys: Vec<_> = (0..rows.len()).map(key).collect();
    keys.sort_unstable();
    keys
}

/// A row or more of every table, every kind of payload among them.
pub(crate) fn one_of_each() -> Vec<(TableName, Rows)> {
    let input = RowRef { group: 1, index: 9, seq: 4 };
    let contributions = || heapless_of(&[Contribution { feature: FeatureId(3), amount: 1.5 }]);
    let score = Payload::Score(Score {
        input,
        anomaly: 2.5,
        threshold: 1.0,
        rul: None,
        model: Digest([3; 32]),
        kernel: KernelId::PORTABLE_F32,
        role: Role::Shadow,
        contributions: contributions(),
        rest: 1.0,
    });
    let alarm = Payload::Alarm(Alarm {
        id: 5,
        state: AlarmState::Raised,
        severity: Severity::Danger,
        source: AlarmSource::Physics,
        cause: Cause::OuterRace,
        since: Micros(77),
        input,
        model: Digest::NONE,
        evidence: heapless_of(&[Evidence { feature: FeatureId(3), value: 9.0, limit: 4.5 }]),
        contributions: contributions(),
        unjournaled: false,
    });
    let label = Event::Labelled { from: Micros(1), to: Micros(2), label: Label::Faulty(Cause::Cage) };
    let spectrum = Payload::Spectrum(Spectrum {
        group: 0,
        index: 8,
        envelope: true,
        line_hz: 2.0,
        full_scale: 1.5,
        lines: heapless_of(&[1, 2, 65535]),
    });
    let clip = Payload::Clip(Clip {
        id: u64::MAX,
        cause: ClipCause::Alarm(5),
        channel: Name::new("x").expect("a good name"),
        unit: Unit::G,
        rate: Hertz(25_600.0),
        position: 1 << 40,
        t0: Micros(99),
        part: 1,
        parts: 2,
        samples: heapless_of(&1.5_f32.to_le_bytes()),
    });
    let payloads = [features(0), features(u64::MAX), score, alarm, Payload::Event(label), spectrum, gap(), clip];
    let payloads = payloads.into_iter().enumerate();
    let mut outputs: Vec<_> = payloads.map(|(i, payload)| output(i as u64, i as u64, payload)).collect();
    outputs.push(Output::Quarantine {
        device: DeviceId::new("press-1").expect("a good name"),
        received: Micros(5),
        offset: 99,
        reason: "record_body".into(),
        bytes: vec![0, 255, 7],
    });
    TableName::ALL
        .into_iter()
        .map(|table| {
            let mut rows = Rows::new(table);
            outputs.iter().filter(|output| Rows::table_of(output) == table).for_each(|output| rows.push(output));
            assert!(!rows.is_empty(), "{table}");
            (table, rows)
        })
        .collect()
}

pub(crate) fn output(seq: u64, offset: u64, payload: Payload) -> Output {
    let device = if seq.is_multiple_of(2) { "press-1" } else { "pump-2" };
    let record = Record {
        point: Point::parse("acme/north/press/drive-end").expect("a good address"),
        epoch: Epoch(u64::MAX - 3),
        seq,
        monotonic: Monotonic(1_000 * (seq % 1_000)),
        timeline: Timeline::Device,
        wall: seq.is_multiple_of(3).then_some(Micros(12)),
        uncertainty: Micros(34),
        payload,
    };
    Output::Row(Box::new(Row {
        device: DeviceId::new(device).expect("a good name"),
        received: Micros::from_secs(1_798_675_300),
        offset,
        event_time: Micros::from_secs(1_798_675_190 + (seq % 20) as i64),
        event_bound: Micros(500),
        record,
    }))
}

pub(crate) fn features(index: u64) -> Payload {
    let values = heapless_of(&[index as f32, 0.5, -1.0e-9]);
    Payload::Features(FeatureRow {
        group: 0,
        kind: GroupKind::Vibration,
        index,
        start: Micros(10),
        end: Micros(20),
        state: OperatingState::Steady(3),
        rpm: Rpm(1_480.0),
        quality: Quality::GOOD,
        vector: FeatureVector { schema: SchemaHash(0xdead_beef_dead_beef), values, valid: 0b111 },
    })
}

fn gap() -> Payload {
    Payload::Gap(Gap { class: Class::Feature, epoch: Epoch(9), first_seq: 3, last_seq: 5, reason: GapReason::Evicted })
}

fn heapless_of<T: Clone, V: FromIterator<T>>(items: &[T]) -> V {
    items.iter().cloned().collect()
}
