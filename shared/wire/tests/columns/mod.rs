//! Packing gives back what it was given, whatever that was, and takes any bytes without a panic.

use crate::sample;
use kilter_types::{Epoch, FeatureRow, Payload, Record};
use kilter_wire::columns::{MAX_RECORDS, MAX_WORDS, pack, unpack};
use kilter_wire::{Batch, BatchRecord, encode_record};
use proptest::prelude::*;

fn packed(plain: &[u8]) -> Vec<u8> {
    let mut room = vec![0; plain.len() + 1024];
    pack(plain, &mut vec![0; MAX_WORDS], &mut room).expect("it fits").to_vec()
}

fn unpacked(bytes: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut room = vec![0; most];
    unpack(bytes, &mut vec![0; MAX_WORDS], &mut room).ok().map(<[u8]>::to_vec)
}

fn batch(records: &[(u8, u64, Vec<u8>)]) -> Vec<u8> {
    let mut room = vec![0; records.iter().map(|(_, _, bytes)| bytes.len() + 11).sum()];
    let mut used = 0;
    for (class, seq, bytes) in records {
        assert!(Batch::push(&mut room, &mut used, BatchRecord { class: *class, seq: *seq, bytes }));
    }
    room
}

fn rows(count: usize, value: impl Fn(usize, usize) -> f32) -> Vec<u8> {
    let (_, template) = sample::records().remove(0);
    numbered(template, count, |i| i, value)
}

fn numbered(template: Record, count: usize, seq: impl Fn(u64) -> u64, value: impl Fn(usize, usize) -> f32) -> Vec<u8> {
    let records: Vec<_> = (0..count)
        .map(|i| {
            let mut record = template.clone();
            record.seq = seq(i as u64);
            record.monotonic.0 += i as u64 * 1_000_000 + (i as u64 * 7919) % 900;
            if let Payload::Features(row) = &mut record.payload {
                *row = FeatureRow { index: i as u64, ..row.clone() };
                row.vector.values = (0..32).map(|column| value(i, column)).collect();
            }
            (5, record.seq, bytes_of(&record))
        })
        .collect();
    batch(&records)
}

fn bytes_of(record: &Record) -> Vec<u8> {
    encode_record(record, &mut [0; 4097]).expect("it fits").to_vec()
}

#[test]
fn a_row_of_steady_features_takes_a_fraction_of_its_bytes() {
    let plain = rows(60, |row, column| 1.0 + column as f32 + ((row * 31 + column * 17) % 64) as f32 / 65536.0);
    let small = packed(&plain);
    assert_eq!(unpacked(&small, plain.len()).as_ref(), Some(&plain));
    assert!(small.len() * 5 < plain.len(), "{} of {}", small.len(), plain.len());
}

#[test]
fn numbering_every_record_takes_less_than_a_hundredth_of_a_packed_batch() {
    // Twenty bits of noise in each value: what real features take, and nothing to hide a number behind.
    let noise = |row: usize, column: usize| {
        let mixed = ((row * 32 + column) as u32).wrapping_mul(0x9E37_79B1);
        (mixed ^ (mixed >> 15)).wrapping_mul(0x85EB_CA6B) >> 12
    };
    let value = |row: usize, column: usize| 1.0 + noise(row, column) as f32 / (1 << 20) as f32;
    let (_, mut template) = sample::records().remove(0);
    template.epoch = Epoch(0x0123_4567_89ab_cdef);
    let with = packed(&numbered(template.clone(), 60, |i| 10_000 + i, value)).len() + EPOCH_BYTES;
    template.epoch = Epoch(0);
    let without = packed(&numbered(template, 60, |_| 0, value)).len();
    println!("60 rows: {with} bytes with their numbers, {without} without");
    assert!(with > without && (with - without) * 100 < with, "{with} {without}");
}

#[test]
fn every_kind_of_record_comes_back_byte_for_byte() {
    let mut all = Vec::new();
    for _ in 0..4 {
        all.extend(sample::records().iter().map(|(_, record)| (record.class() as u8, record.seq, bytes_of(record))));
    }
    let plain = batch(&all);
    let small = packed(&plain);
    assert_eq!(unpacked(&small, plain.len()), Some(plain));
}

#[test]
fn more_than_is_promised_never_comes_out() {
    let plain = rows(40, |row, _| row as f32);
    let small = packed(&plain);
    assert_eq!(unpacked(&small, plain.len() - 1), None);
    assert!(unpack(&small, &mut [0; 8], &mut vec![0; plain.len()]).is_err(), "no room for the numbers");
    let many = batch(&vec![(5, 0, vec![1]); MAX_RECORDS + 1]);
    assert_eq!(pack(&many, &mut vec![0; MAX_WORDS], &mut vec![0; 1 << 16]), None);
}

#[test]
fn every_flipped_bit_is_survived() {
    let plain = rows(5, |row, column| (row * column) as f32);
    let small = packed(&plain);
    let (mut words, mut room) = (vec![0; MAX_WORDS], vec![0; 4096]);
    for bit in 0..small.len() * 8 {
        let mut changed = small.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let _ = unpack(&changed, &mut words, &mut room);
    }
    for len in 0..small.len() {
        assert!(unpack(&small[..len], &mut words, &mut room).is_err(), "cut to {len} and believed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_packed_as_they_are(
        records in prop::collection::vec((any::<u8>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..40)), 0..30),
    ) {
        let plain = batch(&records);
        prop_assert_eq!(unpacked(&packed(&plain), plain.len()), Some(plain));
    }

    #[test]
    fn any_floats_come_back_with_every_bit(bits in prop::collection::vec(any::<u32>(), 160)) {
        let plain = rows(5, |row, column| f32::from_bits(bits[row * 32 + column]));
        prop_assert_eq!(unpacked(&packed(&plain), plain.len()), Some(plain));
    }

    #[test]
    fn no_bytes_make_unpacking_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = unpacked(&bytes, 4096);
        let batch = Batch { epoch: Epoch(1), count: 0, records: &bytes };
        prop_assert!(batch.iter().count() <= bytes.len());
    }
}

/// The epoch of a batch, once: 64 random bits as a varint.
const EPOCH_BYTES: usize = 10;
