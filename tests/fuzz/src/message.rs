//! What comes over a link: frames, records, batches, topics, MQTT payloads, a sensor's messages; and what the aggregator's journal
//! gives back.

use kilter_fold::{Entry, Fold};
use kilter_ingest::{Admission, Admit, Principal};
use kilter_types::{DeviceId, Micros, Name};
use kilter_wire::frame::{self, Kind};
use kilter_wire::sensor::{SensorDown, SensorUp};
use kilter_wire::topic::Topic;
use kilter_wire::{Batch, Down, Up, decode_record, encode_record};

/// A frame as a node or the aggregator reads it.
pub(crate) fn message(bytes: &[u8]) {
    let _ = frame::length(bytes);
    if let Ok(Up::Batch(inner)) = frame::decode::<Up<'_>>(Kind::Up, bytes) {
        batch(inner.records);
    }
    let _ = frame::decode::<Down<'_>>(Kind::Down, bytes);
}

/// A record: what can be read is written and read back the same.
pub(crate) fn record(bytes: &[u8]) {
    let Ok(record) = decode_record(bytes) else { return };
    let (mut first, mut second) = ([0; 8192], [0; 8192]);
    let Ok(first) = encode_record(&record, &mut first) else { return };
    let again = decode_record(first).expect("what was written can be read");
    let second = encode_record(&again, &mut second).expect("what was written once can be written again");
    assert_eq!(first, second, "a record changed on its way");
}

/// The records of a batch.
pub(crate) fn batch(bytes: &[u8]) {
    let batch = Batch { epoch: kilter_types::Epoch(1), count: 0, records: bytes };
    for one in batch.iter().take(10_000).map_while(Result::ok) {
        record(one.bytes);
    }
}

/// A topic: what is understood is written the same.
pub(crate) fn topic(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(topic) = Topic::parse(text) {
        let again = Topic::parse(&topic.to_string());
        assert_eq!(again.as_ref(), Some(&topic), "{text}");
    }
}

/// An MQTT payload at the aggregator's door, twice under one name.
pub(crate) fn payload(bytes: &[u8]) {
    let name = |text| Name::new(text).expect("a good name");
    let principal = Principal { tenant: name("default"), device: DeviceId(name("edge-1")) };
    let mut admission = Admission::new(64 * 1024);
    for at in 0..2 {
        match admission.admit(&principal, bytes, Micros(at)) {
            Admit::Batch(records) => {
                assert!(records.records.len() <= 1 << 24, "a payload unpacks to {} bytes", records.records.len());
                batch(&records.records);
                admission.settle(&principal, records.records.len());
            }
            Admit::Hello(_)
            | Admit::TimeRequest { .. }
            | Admit::Fetch(_)
            | Admit::CommandResult(_)
            | Admit::Quarantine { .. }
            | Admit::Refuse(_) => {}
        }
    }
    assert!(admission.credit_bytes(&principal) <= 64 * 1024);
}

/// An entry of the aggregator's journal, folded twice, and a snapshot of the fold.
pub(crate) fn entry(bytes: &[u8]) {
    if let Ok(mut fold) = Fold::restore(bytes) {
        let _ = (fold.marks(), fold.snapshot());
        fold.apply(1, Entry::Tick { now: Micros(1) }, &mut drop);
    }
    let Ok(entry) = Entry::decode(bytes) else { return };
    assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(&entry));
    let mut fold = Fold::new();
    let mut rows = 0;
    fold.apply(0, entry.clone(), &mut |_| rows += 1);
    let restored = Fold::restore(&fold.snapshot()).expect("a snapshot of its own is good");
    assert_eq!(restored.marks(), fold.marks());
    fold.apply(1, entry, &mut drop);
}

/// A sensor's message, either way.
pub(crate) fn sensor(bytes: &[u8]) {
    let _ = frame::decode::<SensorUp<'_>>(Kind::SensorUp, bytes);
    let _ = frame::decode::<SensorDown>(Kind::SensorDown, bytes);
}
