//! Seals over what a journal holds, through ends of every kind, and what they cost.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Config, Drop, FsyncPolicy, Offset};
use kilter_types::{
    FeatureRow, FeatureVector, GroupKind, Micros, Monotonic, Name, OperatingState, Point, Quality, Rpm, SchemaHash,
    Timeline,
};
use kilter_wire::seal::is_signed;
use kilter_wire::up::{Batch, BatchRecord};
use kilter_wire::{columns, decode_record, encode_record};

use super::*;
use crate::number::{Numbering, Place, Stamp};
use crate::said::Said;
use crate::spooler::Spooler;

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn stamp(us: u64) -> Stamp {
    Stamp { monotonic: Monotonic(us), wall: Some(Micros(us as i64)), ..Stamp::default() }
}

/// A fixed walk of numbers.
struct Walk(u64);

impl Walk {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// A feature row with twenty bits of noise in each of its values: what real ones take.
fn features(index: u64, values: u64) -> Said {
    let mut walk = Walk(index);
    let values: heapless::Vec<f32, { kilter_types::MAX_FEATURES }> =
        (0..values).map(|_| 1.0 + walk.below(1 << 20) as f32 / (1 << 20) as f32).collect();
    let valid = (1_u64 << values.len()) - 1;
    let at = Micros(index as i64 * 1_000_000);
    let row = FeatureRow {
        group: 0,
        kind: GroupKind::Vibration,
        index,
        start: at,
        end: at,
        state: OperatingState::Steady(1),
        rpm: Rpm(1_480.0),
        quality: Quality::GOOD,
        vector: FeatureVector { schema: SchemaHash(0xdead_beef_dead_beef), values, valid },
    };
    let (point, timeline) = (name("drive-end"), Timeline::Source);
    Said { machine: 0, point, group: 0, index, at, timeline, replayable: false, payload: Payload::Features(row) }
}

type Model = Spooler<MemoryFilesystem>;

fn open(fs: &MemoryFilesystem, data: &Path, epoch: u64, max_bytes: u64) -> Model {
    let config = Config {
        segment_bytes: 16 * 1024,
        max_bytes,
        fsync: FsyncPolicy::Group { interval_us: 1000 },
        reserve_bytes: 8 * 1024,
        drop_policy: Drop::OldestOfClass(vec![Class::Feature as u8, Class::Report as u8]),
        keep_bytes: 0,
    };
    let places = vec![Place { site: name("north"), asset: name("pump-1") }];
    let numbering = |suppress| Numbering::new(name("default"), name("edge-1"), places, Epoch(epoch), suppress);
    let sealer = Some(Sealer::load(data).expect("a key"));
    let dir = Path::new("/journal");
    Spooler::open(fs.clone(), dir, config, Vec::new(), name("1.0"), 7, None, sealer, numbering, stamp(0))
        .expect("the model opens")
        .0
}

/// What the journal holds durably.
fn durable(fs: &MemoryFilesystem) -> Vec<Record> {
    let mut reader = kilter_journal::follow(fs.clone(), Path::new("/journal"), Offset(0)).expect("it follows");
    std::iter::from_fn(|| reader.next_durable().expect("it reads"))
        .map(|entry| decode_record(&entry.bytes).expect("a record"))
        .collect()
}

/// Everything that an aggregator may have got.
#[derive(Default)]
struct Lake(BTreeMap<(Epoch, Class, u64), Record>);

impl Lake {
    fn take(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            self.0.entry((record.epoch, record.class(), record.seq)).or_insert(record);
        }
    }

    fn seals(&self) -> Vec<(&Record, &Seal)> {
        let mut seals = Vec::new();
        for record in self.0.values() {
            if let Payload::Seal(seal) = &record.payload {
                seals.push((record, seal));
            }
        }
        seals
    }

    /// Each seal holds as far as its rows are here; says how many ranges were whole, and how many rows they cover.
    fn check(&self) -> (usize, u64) {
        let (mut whole, mut covered) = (0, 0);
        let names = self.seals().into_iter().filter_map(|(record, seal)| named(record.epoch, record.seq, seal));
        let names: Vec<SealBefore> = names.collect();
        for (record, seal) in self.seals() {
            assert!(is_signed(seal));
            if let Some(before) = seal.before {
                let known = names.iter().find(|known| (known.epoch, known.seq) == (before.epoch, before.seq));
                assert!(
                    known.is_none_or(|known| *known == before),
                    "{record:?} names another seal than the one before"
                );
            }
            for range in &seal.ranges {
                let mut hash = RangeHash::default();
                let rows = (range.first_seq..=range.last_seq).map(|seq| self.0.get(&(seal.epoch, range.class, seq)));
                let rows: Option<Vec<&Record>> = rows.collect();
                let Some(rows) = rows else { continue };
                rows.iter().for_each(|row| hash.push(&record_hash(row).expect("a record")));
                assert_eq!(hash.finish(), range.hash, "{range:?} of {record:?}");
                (whole, covered) = (whole + 1, covered + rows.len() as u64);
            }
        }
        (whole, covered)
    }
}

#[test]
fn a_key_is_made_once_for_its_owner_alone_and_its_secret_is_printed_nowhere() {
    let data = tempfile::tempdir().expect("a folder");
    let first = Sealer::load(data.path()).expect("a key");
    let path = data.path().join("seal.key");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = std::fs::read_to_string(&path).expect("text");
    assert!(!format!("{first:?} {}", first.fingerprint()).contains(secret.trim()));
    assert_eq!(Sealer::load(data.path()).expect("the same").fingerprint(), first.fingerprint());
    std::fs::remove_file(&path).expect("removed");
    assert_ne!(Sealer::load(data.path()).expect("another").fingerprint(), first.fingerprint());
    std::fs::write(&path, "no key").expect("written");
    assert!(Sealer::load(data.path()).is_err(), "what is there is never replaced");
}

#[test]
fn a_seal_comes_every_512_records_once_a_day_and_at_the_end_and_never_without_something_new() {
    let (fs, data) = (MemoryFilesystem::default(), tempfile::tempdir().expect("a folder"));
    let mut spooler = open(&fs, data.path(), 1, 1 << 20);
    let seals = |fs: &MemoryFilesystem| {
        let mut lake = Lake::default();
        lake.take(durable(fs));
        lake.check();
        lake.seals().len()
    };
    let sync = |spooler: &mut Model, us: u64| spooler.sync(true, stamp(us));
    // The opening is the first of 512.
    for i in 0..510 {
        spooler.say(features(i, 8), stamp(i));
        sync(&mut spooler, i);
    }
    assert_eq!(seals(&fs), 0);
    spooler.say(features(510, 8), stamp(510));
    sync(&mut spooler, 511);
    assert_eq!(seals(&fs), 1);
    sync(&mut spooler, 2 * A_DAY_US);
    assert_eq!(seals(&fs), 1, "a seal alone is nothing new");
    spooler.say(features(511, 8), stamp(2 * A_DAY_US));
    sync(&mut spooler, 2 * A_DAY_US);
    sync(&mut spooler, 3 * A_DAY_US - 1);
    assert_eq!(seals(&fs), 1);
    sync(&mut spooler, 3 * A_DAY_US);
    assert_eq!(seals(&fs), 2);
    spooler.say(features(512, 8), stamp(3 * A_DAY_US));
    spooler.close(stamp(3 * A_DAY_US + 1));
    sync(&mut spooler, 3 * A_DAY_US + 1);
    assert_eq!(seals(&fs), 3);
    let mut lake = Lake::default();
    lake.take(durable(&fs));
    let rows = lake.0.values().filter(|record| !matches!(record.payload, Payload::Seal(_))).count() as u64;
    assert_eq!(lake.check().1, rows + 2, "each row and each seal but the last");
}

#[test]
fn through_ends_of_every_kind_each_seal_holds_and_the_chain_goes_on_from_what_is_there() {
    let (mut chains, mut covered, mut rows) = (0, 0, 0);
    for seed in 0..6 {
        let (fs, data) = (MemoryFilesystem::default(), tempfile::tempdir().expect("a folder"));
        let (mut walk, mut lake, mut now, mut index) = (Walk(seed), Lake::default(), 0, 0);
        for run in 0..12 {
            // A small journal evicts, also seals.
            let max_bytes = if seed % 2 == 0 { 1 << 20 } else { 96 * 1024 };
            let mut spooler = open(&fs, data.path(), run + 1, max_bytes);
            for _ in 0..walk.below(900) {
                now += 1_000_000;
                spooler.say(features(index, 8), stamp(now));
                index += 1;
                if walk.below(4) == 0 {
                    spooler.sync(walk.below(3) == 0, stamp(now));
                }
                if walk.below(300) == 0 {
                    fs.fail_syncs(1);
                    spooler.sync(true, stamp(now));
                    lake.take(durable(&fs));
                    spooler.revive(Epoch(1000 * (run + 1) + index), 9, stamp(now));
                }
                if walk.below(100) == 0 {
                    lake.take(durable(&fs));
                    // What was committed may go, with the seals in it.
                    spooler.release(spooler.durable());
                }
                drop(spooler.take_effects());
            }
            match walk.below(3) {
                0 => {
                    spooler.close(stamp(now));
                    spooler.sync(true, stamp(now));
                }
                1 => drop(spooler),
                _ => {
                    lake.take(durable(&fs));
                    drop(spooler);
                    fs.crash(walk.below(u64::from(u32::MAX)));
                    continue;
                }
            }
            lake.take(durable(&fs));
            fs.kill();
        }
        let (whole, sealed) = lake.check();
        assert!(whole > 20, "{whole}");
        let seals = lake.seals();
        chains += seals.iter().filter(|(_, seal)| seal.before.is_none()).count();
        (covered, rows) = (covered + sealed, rows + lake.0.len() as u64);
    }
    assert!(chains <= 6, "{chains} chains begin on 6 devices");
    assert!(covered * 10 > rows * 6, "{covered} of {rows} rows are under a whole range");
}

#[test]
fn what_the_lake_could_not_give_back_is_left_out_and_ends_a_range() {
    let data = tempfile::tempdir().expect("a folder");
    let mut sealer = Sealer::load(data.path()).expect("a key");
    let record = |seq: u64, share: f32| Record {
        point: Point::parse("a/b/c/d").expect("a good point"),
        epoch: Epoch(1),
        seq,
        monotonic: Monotonic(0),
        timeline: Timeline::Device,
        wall: None,
        uncertainty: Micros(0),
        payload: Payload::Event(kilter_types::Event::Drift { model: Digest::NONE, share }),
    };
    for (seq, share) in [(0, 0.1), (1, 1e-7), (2, f32::NAN), (3, f32::INFINITY), (4, -0.0), (4, 7.0)] {
        sealer.note(&record(seq, share));
    }
    let seal = sealer.seal(Epoch(1)).expect("a seal");
    let ranges: Vec<_> = seal.ranges.iter().map(|range| (range.first_seq, range.last_seq)).collect();
    assert_eq!(ranges, [(0, 1), (4, 4)]);
}

/// Packed as the uplink packs them.
fn packed(records: &[Record]) -> usize {
    let mut plain = vec![0; records.len() * 2048];
    let (mut used, mut bytes) = (0, [0; 4097]);
    for record in records {
        let bytes = encode_record(record, &mut bytes).expect("it fits");
        assert!(Batch::push(
            &mut plain,
            &mut used,
            BatchRecord { class: record.class() as u8, seq: record.seq, bytes }
        ));
    }
    let (mut words, mut room) = (vec![0; columns::MAX_WORDS], vec![0; used + 1024]);
    columns::pack(&plain[..used], &mut words, &mut room).expect("it fits").len().min(used)
}

#[test]
fn sealing_costs_less_than_a_hundredth_of_the_bytes_at_a_row_a_second_and_at_a_row_in_five_minutes() {
    // One group that measures and nothing that scores it: the fewest bytes that a seal can hide among.
    for (period_us, rows, batch) in [(1_000_000_u64, 8_000, 60_usize), (300_000_000, 20 * 288, 1)] {
        let (fs, data) = (MemoryFilesystem::default(), tempfile::tempdir().expect("a folder"));
        let mut spooler = open(&fs, data.path(), 0x0123_4567_89ab_cdef, 64 << 20);
        for i in 0..rows {
            spooler.say(features(i, 24), stamp(i * period_us));
            spooler.sync(true, stamp(i * period_us));
        }
        let all = durable(&fs);
        let without: Vec<Record> =
            all.iter().filter(|record| !matches!(record.payload, Payload::Seal(_))).cloned().collect();
        let bytes = |records: &[Record]| records.chunks(batch).map(packed).sum::<usize>();
        let (with, plain, seals) = (bytes(&all), bytes(&without), all.len() - without.len());
        let share = (with - plain) as f64 / plain as f64;
        println!(
            "a row in {} s: {rows} rows of {} bytes, {seals} seals, {:.3} %",
            period_us / 1_000_000,
            plain as u64 / rows,
            share * 100.0
        );
        assert!(seals > 10 && share < 0.01, "{share}");
    }
}
