//! What becomes of records while the disk is well, full, failing or killed.

use super::*;
use crate::number::Place;
use crate::said::sample;
use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Config, Drop, FsyncPolicy};
use kilter_types::{Micros, Monotonic, Timeline};
use kilter_wire::decode_record;

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn said(index: u64, payload: Payload) -> Said {
    let (point, timeline) = (name("drive-end"), Timeline::Source);
    Said { machine: 0, point, group: 0, index, at: Micros(1), timeline, replayable: true, payload }
}

fn score(index: u64) -> Said {
    said(index, sample::score(index, 1.0))
}

fn alarm(index: u64) -> Said {
    said(index, sample::alarm(index))
}

fn stamp(us: u64) -> Stamp {
    Stamp { monotonic: Monotonic(us), ..Stamp::default() }
}

fn open(fs: &MemoryFilesystem, epoch: u64) -> (Spooler<MemoryFilesystem>, Found) {
    let config = Config {
        segment_bytes: 64 * 1024,
        max_bytes: 1 << 20,
        fsync: FsyncPolicy::Group { interval_us: 1000 },
        reserve_bytes: 64 * 1024,
        drop_policy: Drop::OldestOfClass(vec![Class::Spectrum as u8, Class::Score as u8]),
        keep_bytes: 0,
    };
    let caps = vec![Cap { class: Class::Score, max_bytes: None, max_age_us: Some(100_000_000) }];
    let places = vec![Place { site: name("north"), asset: name("pump-1") }];
    let numbering = |suppress| Numbering::new(name("default"), name("edge-1"), places, Epoch(epoch), suppress);
    Spooler::open(fs.clone(), Path::new("/journal"), config, caps, name("1.0"), 7, None, None, numbering, stamp(0))
        .expect("the model opens")
}

fn records(fs: &MemoryFilesystem) -> Vec<Record> {
    let mut reader = kilter_journal::follow(fs.clone(), Path::new("/journal"), Offset(0)).expect("it follows");
    std::iter::from_fn(|| reader.next().expect("it reads"))
        .map(|entry| decode_record(&entry.bytes).expect("a record"))
        .collect()
}

fn gaps(records: &[Record]) -> Vec<Gap> {
    let gap = |record: &Record| match &record.payload {
        Payload::Gap(gap) => Some(*gap),
        _ => None,
    };
    records.iter().filter_map(gap).collect()
}

#[test]
fn an_epoch_begins_with_its_predecessor_and_the_last_seqs_held() {
    let fs = MemoryFilesystem::default();
    let (mut spooler, _) = open(&fs, 1);
    (0..3).for_each(|i| spooler.say(score(i), stamp(i)));
    spooler.sync(true, stamp(10));
    drop(spooler);
    let (mut spooler, found) = open(&fs, 2);
    assert_eq!(found.held, [Epoch(1)]);
    (0..5).for_each(|i| spooler.say(score(i), stamp(i)));
    spooler.sync(true, stamp(10));
    let records = records(&fs);
    let scores: Vec<(Epoch, u64)> =
        records.iter().filter(|r| r.class() == Class::Score).map(|r| (r.epoch, r.seq)).collect();
    let expected = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)].map(|(epoch, seq)| (Epoch(epoch), seq));
    assert_eq!(scores, expected, "windows 0 to 2 were held already");
    let opening = records.iter().find(|r| r.epoch == Epoch(2)).expect("the second epoch");
    let Payload::Opening(opening) = &opening.payload else { panic!("{opening:?} is first") };
    let predecessor = opening.predecessor.as_ref().expect("there was one");
    assert_eq!(predecessor.epoch, Epoch(1));
    assert!(predecessor.last.contains(&(Class::Score, 2)));
}

#[test]
fn the_predecessor_is_the_agents_own_epoch_also_when_a_node_spoke_last() {
    let fs = MemoryFilesystem::default();
    let (mut spooler, _) = open(&fs, 1);
    (0..3).for_each(|i| spooler.say(score(i), stamp(i)));
    let mut carried = spooler.numbering.record(score(9), stamp(9)).expect("it is new");
    (carried.epoch, carried.seq) = (Epoch(77), 5);
    spooler.carry(carried);
    spooler.sync(true, stamp(10));
    drop(spooler);
    let (mut spooler, found) = open(&fs, 2);
    assert_eq!(found.held, [Epoch(1), Epoch(77)]);
    spooler.sync(true, stamp(10));
    let opening = records(&fs).into_iter().find(|r| r.epoch == Epoch(2)).expect("the second epoch");
    let Payload::Opening(opening) = &opening.payload else { panic!("{opening:?} is first") };
    let predecessor = opening.predecessor.as_ref().expect("there was one");
    assert_eq!((predecessor.epoch, predecessor.last.contains(&(Class::Score, 2))), (Epoch(1), true));
    // Nothing of the agent is left in the journal: the epoch file tells.
    let node = Found { held: vec![Epoch(77)], ..Found::default() };
    assert_eq!(node.predecessor(Some(Epoch(1))), Some(Epoch(1)));
    assert_eq!(node.predecessor(None), None);
    let opened_again = Found { held: vec![Epoch(1), Epoch(77), Epoch(3)], own: Some(Epoch(3)), ..Found::default() };
    assert_eq!(
        opened_again.predecessor(Some(Epoch(1))),
        Some(Epoch(3)),
        "begun within a run, after the file was written"
    );
}

#[test]
fn j3_a_full_disk_costs_no_alarm_and_the_rest_leaves_a_gap_with_its_range() {
    let fs = MemoryFilesystem::default();
    let (mut spooler, _) = open(&fs, 1);
    spooler.say(score(0), stamp(0));
    spooler.sync(true, stamp(1));
    let held: u64 = fs.files().iter().map(|(_, bytes)| *bytes).sum();
    fs.set_capacity_bytes(Some(held));
    spooler.take_effects();
    (1..4000).for_each(|i| {
        spooler.say(score(i), stamp(i * 10_000));
        spooler.sync(false, stamp(i * 10_000));
    });
    assert!(spooler.is_dead());
    (0..2000).for_each(|i| spooler.say(alarm(4000 + i), stamp(50_000_000)));
    let effects = spooler.take_effects();
    let urgent = effects.iter().filter(|effect| matches!(effect, Effect::Urgent(_))).count();
    let is_alarm = |effect: &&Effect| matches!(effect, Effect::Unjournaled(key, _) if key.class == Class::Alarm);
    let from_memory = effects.iter().filter(is_alarm).count();
    assert_eq!(urgent + from_memory, 2000, "each alarm leaves, by the reserve or from memory");
    assert!(from_memory > 0, "the reserve is finite");
    fs.set_capacity_bytes(None);
    spooler.sync(true, stamp(60_000_000));
    spooler.say(score(9000), stamp(60_000_001));
    spooler.sync(true, stamp(60_010_000));
    spooler.sync(true, stamp(60_020_000));
    assert!(!spooler.is_dead());
    let records = records(&fs);
    let held: Vec<u64> = records.iter().filter(|r| r.class() == Class::Score).map(|r| r.seq).collect();
    let gaps = gaps(&records);
    for seq in 0..4000 {
        let told = gaps.iter().any(|g| g.class == Class::Score && g.first_seq <= seq && seq <= g.last_seq);
        assert!(held.contains(&seq) != told, "score {seq} is either held or told: {gaps:?}");
    }
}

#[test]
fn j1_a_failed_sync_ends_the_journal_and_opening_it_again_tells_exactly_what_is_missing() {
    let fs = MemoryFilesystem::default();
    let (mut spooler, _) = open(&fs, 1);
    spooler.say(score(0), stamp(0));
    spooler.sync(true, stamp(1));
    spooler.say(score(1), stamp(2));
    fs.fail_syncs(1);
    spooler.sync(true, stamp(3));
    assert!(spooler.needs_revival());
    spooler.say(score(2), stamp(4));
    spooler.say(alarm(2), stamp(4));
    let alarms = spooler.take_effects();
    assert!(matches!(&alarms[..], [.., Effect::Unjournaled(key, _)] if key.class == Class::Alarm), "{alarms:?}");
    spooler.revive(Epoch(2), 8, stamp(5));
    spooler.say(score(3), stamp(6));
    spooler.sync(true, stamp(7));
    let records = records(&fs);
    let gaps = gaps(&records);
    for seq in 0..3 {
        let held = records.iter().any(|r| r.class() == Class::Score && r.epoch == Epoch(1) && r.seq == seq);
        let told = gaps
            .iter()
            .any(|g| g.class == Class::Score && g.epoch == Epoch(1) && g.first_seq <= seq && seq <= g.last_seq);
        assert!(held != told, "score {seq} is either held or told: {gaps:?}");
    }
    assert!(records.iter().any(|r| r.class() == Class::Score && r.epoch == Epoch(2) && r.seq == 0));
    assert!(spooler.take_effects().contains(&Effect::Epoch(Epoch(2))));
}

#[test]
fn j3_alarms_that_left_from_memory_before_a_crash_are_told_by_the_next_run() {
    let fs = MemoryFilesystem::default();
    let (mut spooler, _) = open(&fs, 1);
    spooler.say(alarm(0), stamp(0));
    let held: u64 = fs.files().iter().map(|(_, bytes)| *bytes).sum();
    fs.set_capacity_bytes(Some(held));
    (1..2000).for_each(|i| spooler.say(alarm(i), stamp(i)));
    let unjournaled: Vec<u64> = spooler
        .take_effects()
        .into_iter()
        .filter_map(|effect| if let Effect::Unjournaled(key, _) = effect { Some(key.seq) } else { None })
        .collect();
    assert!(unjournaled.len() > 100, "the reserve is finite");
    fs.set_capacity_bytes(None);
    spooler.say(alarm(2000), stamp(2_000_000));
    drop(spooler);
    fs.kill();

    let (mut spooler, _) = open(&fs, 2);
    spooler.sync(true, stamp(1));
    let told = gaps(&records(&fs));
    let covers = |seq: u64| {
        told.iter().any(|gap| {
            (gap.class, gap.epoch) == (Class::Alarm, Epoch(1)) && gap.first_seq <= seq && seq <= gap.last_seq
        })
    };
    assert!(unjournaled.iter().all(|seq| covers(*seq)), "{told:?}");
    drop(spooler);
    // A third run finds them told.
    let (mut spooler, _) = open(&fs, 3);
    spooler.sync(true, stamp(1));
    assert_eq!(gaps(&records(&fs)), told);
}

#[test]
fn j3_an_eviction_that_no_gap_record_could_tell_is_told_after_a_kill() {
    let fs = MemoryFilesystem::default();
    let (mut spooler, _) = open(&fs, 1);
    let mut last = 0;
    while spooler.dropped() == 0 {
        spooler.say(score(last), stamp(last));
        last += 1;
    }
    let held: u64 = fs.files().iter().map(|(_, bytes)| *bytes).sum();
    fs.set_capacity_bytes(Some(held));
    (0..1000).for_each(|i| {
        spooler.say(score(last + i), stamp(1_000_000 + i * 10_000));
        spooler.sync(false, stamp(1_000_000 + i * 10_000));
    });
    drop(spooler);
    fs.kill();
    fs.set_capacity_bytes(None);
    let (mut spooler, _) = open(&fs, 2);
    spooler.sync(true, stamp(1));
    let records = records(&fs);
    let told = gaps(&records);
    let held: Vec<u64> = records.iter().filter(|r| r.class() == Class::Score).map(|r| r.seq).collect();
    let end = held.iter().max().map_or(0, |seq| seq + 1);
    for seq in 0..end {
        let told = told.iter().any(|g| g.class == Class::Score && g.first_seq <= seq && seq <= g.last_seq);
        assert!(held.contains(&seq) != told, "score {seq} is either held or told");
    }
}

#[test]
fn what_is_older_than_its_class_may_be_goes_and_is_told() {
    let fs = MemoryFilesystem::default();
    let (mut spooler, _) = open(&fs, 1);
    // A score a second for 500 seconds in segments of 64 kB; scores may be 100 s old.
    for i in 0..8000 {
        spooler.say(score(i), stamp(i * 62_500));
        spooler.sync(false, stamp(i * 62_500));
    }
    spooler.sync(true, stamp(500_000_000));
    let records = records(&fs);
    let held: Vec<u64> = records.iter().filter(|r| r.class() == Class::Score).map(|r| r.seq).collect();
    let told: u64 = gaps(&records).iter().map(|gap| gap.last_seq - gap.first_seq + 1).sum();
    assert!(told > 0 && held.len() as u64 + told == 8000, "{} held, {told} told", held.len());
    assert!(held[0] > 3000, "{} is far too old", held[0]);
}
