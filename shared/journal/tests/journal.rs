//! What a caller of the journal may rely on, on the model disk and on the real one.

mod eviction;
mod support;

use std::path::Path;

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{
    Config, Drop, Dropped, Entry, Filesystem, FsyncPolicy, Journal, JournalError, Key, Offset, RealFilesystem, Reason,
    Skipped, dump, follow, verify,
};
use support::{ALARM, CLIP, DIR, FEATURE, config};

fn open(fs: &MemoryFilesystem, config: Config) -> Journal<MemoryFilesystem> {
    support::open(fs, config).0
}

fn key(class: u8, seq: u64) -> Key {
    Key { class, epoch: 1, seq }
}

fn read_all<F: Filesystem>(journal: &Journal<F>) -> Vec<Entry> {
    let mut reader = journal.reader(Offset(0));
    std::iter::from_fn(|| reader.next().expect("reads")).collect()
}

fn seqs(entries: &[Entry], class: u8) -> Vec<u64> {
    entries.iter().filter(|entry| entry.key.class == class).map(|entry| entry.key.seq).collect()
}

#[test]
fn what_was_appended_is_read_back_across_segments_and_restarts() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, config());
    let offsets: Vec<Offset> =
        (0..50).map(|seq| journal.append(key(FEATURE, seq), &[seq as u8; 100], false).expect("fits")).collect();
    assert!(journal.durable() < journal.next_offset());
    let durable = journal.sync().expect("syncs");
    assert_eq!((durable.upto, durable.policy), (journal.next_offset(), config().fsync));
    let before = read_all(&journal);
    assert_eq!(before.iter().map(|entry| entry.offset).collect::<Vec<_>>(), offsets);
    assert!(before.iter().all(|entry| entry.bytes == [entry.key.seq as u8; 100]));
    let next = journal.next_offset();
    drop(journal);

    let (journal, recovery) = Journal::open(fs.clone(), Path::new(DIR), config(), 99).expect("opens");
    assert_eq!((recovery.journal_id, recovery.entries, recovery.torn_bytes, recovery.next_offset), (7, 50, 0, next));
    assert_eq!((recovery.last, recovery.created), (vec![(1, FEATURE, 49)], false));
    assert_eq!((recovery.gaps, recovery.quarantined), (vec![], vec![]));
    assert_eq!(read_all(&journal), before);
    assert!(verify(fs, Path::new(DIR)).expect("reads").is_sound());
}

#[test]
fn a_journal_is_new_until_its_first_entry_is_durable() {
    let fs = MemoryFilesystem::new();
    let open = || Journal::open(fs.clone(), Path::new(DIR), config(), 7).expect("opens");
    for _ in 0..3 {
        let (mut journal, recovery) = open();
        assert!(recovery.created, "nobody has written the first entry yet");
        journal.append(key(ALARM, 0), b"first", false).expect("fits");
    }
    let (mut journal, _) = open();
    journal.append(key(ALARM, 0), b"first", true).expect("fits");
    let end = journal.next_offset();
    drop(journal);
    let (mut journal, recovery) = open();
    assert!(!recovery.created);
    journal.release(end).expect("releases");
    drop(journal);
    assert!(!open().1.created);
}

#[test]
fn group_commit_syncs_at_most_once_per_interval_and_also_when_the_clock_goes_back() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, config());
    assert_eq!(journal.poll_sync(0).expect("polls"), None);
    journal.append(key(FEATURE, 0), b"a", false).expect("fits");
    assert!(journal.poll_sync(10).expect("syncs").is_some());
    journal.append(key(FEATURE, 1), b"b", false).expect("fits");
    assert_eq!((journal.poll_sync(1009).expect("polls"), journal.sync_due_us()), (None, Some(1010)));
    let syncs = fs.syncs();
    assert!(journal.poll_sync(1010).expect("syncs").is_some());
    assert_eq!(fs.syncs(), syncs + 1);
    journal.append(key(FEATURE, 2), b"c", false).expect("fits");
    assert!(journal.poll_sync(-5).expect("syncs").is_some());
}

#[test]
fn urgent_and_always_are_durable_before_append_returns() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, config());
    journal.append(key(FEATURE, 0), b"a", false).expect("fits");
    let offset = journal.append(key(ALARM, 0), b"alarm", true).expect("fits");
    assert!(journal.durable() > offset);
    drop(journal);
    let mut journal = open(&fs, Config { fsync: FsyncPolicy::Always, ..config() });
    let offset = journal.append(key(FEATURE, 1), b"b", false).expect("fits");
    assert!(journal.durable() > offset);
}

#[test]
fn a_failed_sync_ends_the_journal_for_ever() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, config());
    journal.append(key(FEATURE, 0), b"a", false).expect("fits");
    fs.fail_syncs(1);
    assert!(matches!(journal.sync(), Err(JournalError::Io { action: "sync", .. })));
    assert!(matches!(journal.sync(), Err(JournalError::Dead)));
    assert!(matches!(journal.append(key(FEATURE, 1), b"b", true), Err(JournalError::Dead)));
    assert!(matches!(journal.release(Offset(9)), Err(JournalError::Dead)));
    assert!(journal.is_dead());
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again_before_it_is_vouched_for() {
    for seed in 0..64 {
        let fs = MemoryFilesystem::new();
        let mut journal = open(&fs, config());
        journal.append(key(FEATURE, 0), b"kept in the cache only", false).expect("fits");
        fs.fail_syncs(1);
        assert!(journal.sync().is_err());
        drop(journal);
        // Read from the cache, this entry looks fine; the disk does not have it.
        let journal = open(&fs, config());
        let before = read_all(&journal);
        assert_eq!((before.len(), journal.durable()), (1, journal.next_offset()));
        drop(journal);
        fs.crash(seed);
        assert_eq!(read_all(&open(&fs, config())), before, "seed {seed}");
    }
}

#[test]
fn a_full_journal_refuses_and_goes_on_after_a_release() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, Config { reserve_bytes: 1024, ..config() });
    let mut seq = 0;
    let error = loop {
        match journal.append(key(FEATURE, seq), &[0; 200], false) {
            Ok(_) => seq += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_full() && journal.bytes() <= 8192 - 1024);
    journal.append(key(ALARM, 0), &[0; 200], true).expect("the reserve takes an alarm");
    assert!(matches!(journal.append(key(FEATURE, seq), &[0; 2000], false), Err(JournalError::TooLarge { .. })));
    let (half, bytes) = (Offset(journal.next_offset().0 / 2), journal.bytes());
    let freed = journal.release(half).expect("releases");
    assert!(freed > 0 && journal.bytes() == bytes - freed);
    journal.append(key(FEATURE, seq), &[0; 200], false).expect("there is room again");
    journal.sync().expect("syncs");
    let entries = read_all(&journal);
    assert_eq!(entries.last().map(|entry| entry.key), Some(key(FEATURE, seq)));
    assert!(journal.first_offset() > Offset(0) && journal.first_offset() <= half);
}

#[test]
fn a_journal_that_fits_one_segment_only_goes_on_once_all_is_released() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, Config { max_bytes: 1100, ..config() });
    for seq in 0..500 {
        journal.append(key(FEATURE, seq), &[0; 300], false).expect("fits");
        let durable = journal.sync().expect("syncs");
        journal.release(durable.upto).expect("releases");
        assert!(journal.bytes() <= 1100);
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing_that_was_accepted() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, Config { fsync: FsyncPolicy::Always, ..config() });
    fs.set_capacity_bytes(Some(2000));
    let mut accepted = 0;
    let mut refused = 0;
    for seq in 0..40 {
        match journal.append(key(FEATURE, seq), &[seq as u8; 100], false) {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert!(error.is_full(), "{error}");
                refused += 1;
            }
        }
    }
    assert!(accepted > 5 && refused > 5);
    fs.set_capacity_bytes(None);
    journal.append(key(FEATURE, 100), b"later", false).expect("fits");
    let mut expected: Vec<u64> = (0..accepted).collect();
    expected.push(100);
    assert_eq!(seqs(&read_all(&journal), FEATURE), expected);
    drop(journal);
    assert_eq!(seqs(&read_all(&open(&fs, config())), FEATURE), expected);
}

#[test]
fn the_reserve_on_disk_lets_an_alarm_through_when_others_filled_the_disk() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, Config { reserve_bytes: 1024, ..config() });
    journal.append(key(FEATURE, 0), &[0; 100], false).expect("fits");
    journal.sync().expect("syncs");
    let used: u64 = fs.files().iter().map(|(_, bytes)| bytes).sum();
    fs.set_capacity_bytes(Some(used));
    journal.append(key(FEATURE, 1), &[0; 100], false).expect("buffered");
    assert!(journal.append(key(ALARM, 0), &[0; 300], true).is_ok());
    assert_eq!(seqs(&read_all(&journal), ALARM), [0]);
}

#[test]
fn ordinary_records_on_a_full_disk_leave_the_reserve_to_alarms() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, Config { reserve_bytes: 2048, max_bytes: 1 << 20, ..config() });
    journal.append(key(FEATURE, 0), &[0; 100], false).expect("fits");
    journal.sync().expect("syncs");
    let used: u64 = fs.files().iter().map(|(_, bytes)| bytes).sum();
    fs.set_capacity_bytes(Some(used));
    let mut refused = 0;
    for seq in 1..50 {
        let appended = journal.append(key(FEATURE, seq), &[0; 100], false);
        refused += u64::from(appended.is_err() || journal.sync().is_err());
    }
    assert_eq!(refused, 49, "nothing ordinary gets into the reserve");
    let held =
        |fs: &MemoryFilesystem| fs.files().iter().any(|(path, bytes)| path.ends_with("reserve") && *bytes == 2048);
    assert!(held(&fs));
    journal.append(key(ALARM, 0), &[0; 300], true).expect("the reserve is for alarms");
    assert!(!held(&fs));
}

#[test]
fn one_flipped_bit_costs_one_entry_which_is_named_and_the_original_is_kept() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, config());
    for seq in 0..30 {
        journal.append(key(FEATURE, seq), &[seq as u8; 100], false).expect("fits");
    }
    journal.sync().expect("syncs");
    let target = read_all(&journal)[10].clone();
    drop(journal);
    let (path, _) = fs
        .files()
        .into_iter()
        .rfind(|(path, _)| base(path).is_some_and(|base| base <= target.offset.0))
        .expect("exists");
    assert!(fs.flip_bit(&path, (target.offset.0 - base(&path).expect("a segment") + 40) * 8));
    assert!(!verify(fs.clone(), Path::new(DIR)).expect("reads").is_sound());

    // A reader alone reports the damage and goes on.
    let mut reader = follow(fs.clone(), Path::new(DIR), Offset(0)).expect("opens");
    let mut count = 0;
    while reader.next().expect("reads").is_some() {
        count += 1;
    }
    let skipped = Skipped { from: target.offset, to: Offset(target.offset.0 + 126), reason: Reason::Corrupt };
    assert_eq!((count, reader.take_skipped()), (29, vec![skipped]));

    let (mut journal, recovery) = Journal::open(fs.clone(), Path::new(DIR), config(), 9).expect("opens");
    assert_eq!((recovery.quarantined.len(), recovery.gaps.len(), recovery.entries), (1, 1, 29));
    let lost = Dropped { class: FEATURE, epoch: 1, first_seq: 10, last_seq: 10, count: 1, reason: Reason::Corrupt };
    assert_eq!(journal.take_dropped(), [lost]);
    let expected: Vec<u64> = (0..30).filter(|seq| *seq != 10).collect();
    assert_eq!(seqs(&read_all(&journal), FEATURE), expected);
    drop(journal);
    let report = verify(fs, Path::new(DIR)).expect("reads");
    assert!(report.is_sound() && report.quarantined.len() == 1 && report.entries() == 29);
}

fn base(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".seg")?.parse().ok()
}

#[test]
fn a_lost_segment_in_the_middle_is_a_gap_once() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, config());
    for seq in 0..30 {
        journal.append(key(FEATURE, seq), &[0; 100], false).expect("fits");
    }
    journal.sync().expect("syncs");
    drop(journal);
    let second = fs.files().into_iter().filter(|(path, _)| base(path).is_some()).nth(1).expect("several segments").0;
    fs.remove(&second).expect("is there");
    let (mut journal, recovery) = Journal::open(fs.clone(), Path::new(DIR), config(), 9).expect("opens");
    assert_eq!(recovery.gaps.len(), 1);
    assert_eq!(journal.take_dropped().iter().map(|gap| gap.count).sum::<u64>(), 30 - recovery.entries);
    journal.append(key(ALARM, 0), b"gap record", true).expect("fits");
    journal.told();
    journal.sync().expect("syncs");
    drop(journal);
    assert_eq!(open(&fs, config()).take_dropped(), []);
}

#[test]
fn a_second_writer_is_refused_and_a_newer_format_is_left_alone() {
    let fs = MemoryFilesystem::new();
    let journal = open(&fs, config());
    let second = Journal::open(fs.clone(), Path::new(DIR), config(), 8);
    assert!(matches!(second, Err(JournalError::Locked { .. })));
    drop(journal);
    let path = Path::new(DIR).join("identity");
    let mut newer = b"KilterId\x02\0\0\0\x07\0\0\0\0\0\0\0".to_vec();
    newer.extend_from_slice(&crc32fast::hash(&newer).to_le_bytes());
    let file = fs.create(&path).expect("creates");
    fs.write_at(&file, 0, &newer).expect("writes");
    let newer = Journal::open(fs.clone(), Path::new(DIR), config(), 8);
    assert!(matches!(newer, Err(JournalError::Version { found: 2, .. })));
}

#[test]
fn a_config_that_cannot_work_is_refused() {
    for bad in [
        Config { segment_bytes: 10, ..config() },
        Config { segment_bytes: 10_000, ..config() },
        Config { reserve_bytes: 8192, ..config() },
        Config { fsync: FsyncPolicy::Group { interval_us: -1 }, ..config() },
    ] {
        let refused = Journal::open(MemoryFilesystem::new(), Path::new(DIR), bad, 7);
        assert!(matches!(refused, Err(JournalError::Config { .. })));
    }
}

#[test]
fn the_real_file_system_keeps_the_same_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("deep/journal");
    let config = Config { reserve_bytes: 2048, drop_policy: Drop::OldestOfClass(vec![CLIP]), ..config() };
    let (mut journal, recovery) = Journal::open(RealFilesystem, &dir, config.clone(), 7).expect("opens");
    assert!(recovery.created);
    for seq in 0..40 {
        journal.append(key(CLIP, seq), &[1; 200], false).expect("fits");
        journal.append(key(ALARM, seq), &[2; 20], true).expect("fits");
    }
    let dropped: u64 = journal.take_dropped().iter().map(|gap| gap.count).sum();
    assert!(matches!(Journal::open(RealFilesystem, &dir, config.clone(), 8), Err(JournalError::Locked { .. })));
    let before = read_all(&journal);
    assert_eq!((seqs(&before, ALARM).len(), seqs(&before, CLIP).len() as u64), (40, 40 - dropped));
    drop(journal);
    let (mut journal, _) = Journal::open(RealFilesystem, &dir, config, 8).expect("opens");
    assert_eq!((journal.id(), read_all(&journal)), (7, before));
    let end = journal.next_offset();
    assert!(journal.release(end).expect("releases") > 0);
    let mut text = Vec::new();
    dump(RealFilesystem, &dir, Offset(0), 5, &mut text).expect("prints");
    assert!(String::from_utf8(text).expect("text").contains("Released"));
}
