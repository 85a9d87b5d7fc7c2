//! The fold's promises: each record once, the same rows on every replay, nothing unreadable lost.

use kilter_fold::{Entry, Fold, Output};
use kilter_types::{
    Class, DeviceId, Epoch, Gap, GapReason, JournalId, Micros, Monotonic, Payload, Point, Record, Timeline,
};
use kilter_wire::{Batch, BatchRecord, encode_record};
use proptest::prelude::*;

const EPOCH: Epoch = Epoch(7);

fn device() -> DeviceId {
    DeviceId::new("edge-1").expect("a good name")
}

fn record(seq: u64) -> Record {
    Record {
        point: Point::parse("default/north/pump-1/drive-end").expect("a good address"),
        epoch: EPOCH,
        seq,
        monotonic: Monotonic(1_000_000 * seq),
        timeline: Timeline::Device,
        wall: None,
        uncertainty: Micros(0),
        payload: Payload::Gap(Gap {
            class: Class::Feature,
            epoch: EPOCH,
            first_seq: seq,
            last_seq: seq,
            reason: GapReason::Evicted,
        }),
    }
}

fn batch(seqs: &[u64]) -> Entry {
    let mut room = vec![0; 64 * 1024];
    let mut used = 0;
    for &seq in seqs {
        let mut bytes = [0; 512];
        let bytes = encode_record(&record(seq), &mut bytes).expect("a small record");
        assert!(Batch::push(&mut room, &mut used, BatchRecord { class: Class::Gap as u8, seq, bytes }));
    }
    room.truncate(used);
    Entry::Batch { device: device(), received: Micros(5), epoch: EPOCH, records: room }
}

fn rows(entries: &[Entry]) -> (Fold, Vec<Output>) {
    let mut fold = Fold::new();
    let mut out = Vec::new();
    for (offset, entry) in entries.iter().enumerate() {
        let bytes = entry.encode();
        let entry = Entry::decode(&bytes).expect("what was written is read");
        fold.apply(offset as u64, entry, &mut |output| out.push(output));
    }
    (fold, out)
}

proptest! {
    #[test]
    fn d2_any_duplication_and_order_gives_the_same_set_of_rows(
        batches in proptest::collection::vec(proptest::collection::vec(0u64..40, 1..10), 1..20)
    ) {
        let entries: Vec<_> = batches.iter().map(|seqs| batch(seqs)).collect();
        let (_, out) = rows(&entries);
        let mut got: Vec<_> = out
            .iter()
            .map(|output| match output {
                Output::Row(row) => row.record.seq,
                Output::Quarantine { reason, .. } => panic!("quarantined: {reason}"),
            })
            .collect();
        let count = got.len();
        got.sort_unstable();
        got.dedup();
        prop_assert_eq!(count, got.len());
        let mut sent: Vec<_> = batches.concat();
        sent.sort_unstable();
        sent.dedup();
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn a_fold_that_is_snapshotted_anywhere_goes_on_the_same(cut in 0usize..6) {
        let entries = [batch(&[0, 1]), batch(&[1, 5]), Entry::Tick { now: Micros(9) }, batch(&[2]), batch(&[5, 6])];
        let (whole, out) = rows(&entries);
        let (first, mut parts) = rows(&entries[..cut.min(5)]);
        let mut second = Fold::restore(&first.snapshot()).expect("a good snapshot");
        for (offset, entry) in entries.iter().enumerate().skip(cut.min(5)) {
            second.apply(offset as u64, entry.clone(), &mut |output| parts.push(output));
        }
        prop_assert_eq!(second, whole);
        prop_assert_eq!(parts, out);
    }
}

#[test]
fn a_record_that_is_damaged_goes_to_quarantine_and_counts_as_held() {
    let mut room = vec![0; 1024];
    let mut used = 0;
    assert!(Batch::push(&mut room, &mut used, BatchRecord { class: Class::Gap as u8, seq: 0, bytes: &[1, 255, 255] }));
    room.truncate(used);
    let entry = Entry::Batch { device: device(), received: Micros(5), epoch: EPOCH, records: room };
    let (fold, out) = rows(&[entry, batch(&[1])]);
    assert!(matches!(&out[0], Output::Quarantine { reason, .. } if reason == "record_body"));
    assert_eq!(fold.acks(&device(), EPOCH)[0].accepted_to, 2);
}

#[test]
fn a_new_journal_starts_from_the_marks_in_the_lake_and_from_nothing_else() {
    let (fold, _) = rows(&[batch(&[0, 1, 2])]);
    let marks = fold.marks();
    let opened = Entry::Opened { journal_id: JournalId(2), at: Micros(0), marks };
    let (_, out) = rows(&[batch(&[9]), opened, batch(&[2, 3, 9])]);
    let seqs: Vec<_> = out.iter().map(|o| if let Output::Row(row) = o { row.record.seq } else { 0 }).collect();
    assert_eq!(seqs, [9, 3, 9], "9 was held by the old journal alone, so the new one takes it again");
}

#[test]
fn t1_a_time_exchange_dates_a_device_that_has_no_wall_clock() {
    let exchange = Entry::Exchange {
        device: device(),
        epoch: EPOCH,
        received: Micros(1_700_000_000_000_000),
        monotonic: Monotonic(10_000_000),
        round_trip_us: 2_000,
    };
    let (_, out) = rows(&[exchange, batch(&[11])]);
    let Output::Row(row) = &out[0] else { panic!("a row was expected") };
    assert_eq!(row.event_time, Micros(1_700_000_000_000_000 + 1_000_000 - 1_000));
    assert_eq!(row.event_bound, Micros(1_000 + 100), "half a round trip and 100 ppm of one second");
    assert_eq!(row.record.wall, None, "what was recorded stays");
}
