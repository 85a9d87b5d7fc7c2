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
fn rows_beyond_a_quota_go_to_quarantine_once_and_count_as_held_while_gaps_stay_rows() {
    let Entry::Batch { device: from, received, epoch, records: gaps } = batch(&[0, 1]) else { panic!("a batch") };
    let (mut records, mut used) = (vec![0; 1024], gaps.len());
    records[..used].copy_from_slice(&gaps);
    for class in [Class::Clip as u8, Class::Clip as u8, 99] {
        assert!(Batch::push(&mut records, &mut used, BatchRecord { class, seq: 0, bytes: &[5, 6] }));
    }
    records.truncate(used);
    let (fold, out) = rows(&[Entry::OverQuota { device: from, received, epoch, records }]);
    let said = out.iter().map(|output| match output {
        Output::Row(row) => row.record.class().as_str(),
        Output::Quarantine { reason, bytes, .. } if *bytes == [5, 6] => reason,
        Output::Quarantine { bytes, .. } => panic!("{bytes:?}"),
    });
    assert_eq!(said.collect::<Vec<_>>(), ["gap", "gap", "quota", "quota"], "a clip that came twice is held once");
    let held: Vec<_> = fold.acks(&device(), EPOCH).iter().map(|ack| (ack.class, ack.accepted_to)).collect();
    assert!(held.contains(&(Class::Clip, 1)), "{held:?}");
    assert_eq!(fold.duplicates(), 1);
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

#[test]
fn f11_what_the_lake_lost_is_a_row_again_when_it_comes_again_and_dedup_forgets_nothing_of_it() {
    let (received, monotonic) = (Micros::from_secs(60), Monotonic(1));
    let exchange = Entry::Exchange { device: device(), epoch: EPOCH, received, monotonic, round_trip_us: 400 };
    let entries = [exchange, batch(&[0, 1, 2, 3])];
    let (mut fold, out) = rows(&entries);
    let asked = batch(&[3, 1, 1, 2, 9]);
    let again = |fold: &Fold, entry: &Entry| {
        let mut rows = Vec::new();
        let mut lost = |of: &DeviceId, epoch, class, seq| {
            assert_eq!((of, epoch, class), (&device(), EPOCH, Class::Gap));
            (1..3).contains(&seq)
        };
        fold.again(7, entry, &mut lost, &mut |row| rows.push(row));
        rows
    };
    let before = fold.clone();
    let found = again(&fold, &asked);
    assert_eq!(found.iter().map(|row| row.record.seq).collect::<Vec<_>>(), [1, 1, 2], "who asks takes each once");
    for row in &found {
        let Output::Row(first) = &out[row.record.seq as usize] else { panic!("a row") };
        assert_eq!(
            (row.event_time, row.event_bound, &row.record),
            (first.event_time, first.event_bound, &first.record)
        );
        assert_eq!(row.offset, 7);
    }
    assert_eq!(fold, before);
    let mut new = Vec::new();
    fold.apply(7, asked, &mut |output| new.push(output));
    assert!(matches!(&new[..], [Output::Row(row)] if row.record.seq == 9), "all but what never came is known");
    // A fold that knows nothing of the node's clock can't say when it was.
    let (stranger, _) = rows(&[]);
    assert!(again(&stranger, &batch(&[1])).is_empty());
}
