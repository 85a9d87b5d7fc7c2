//! Released segments that stay for who asks again: they are there as long as nothing else needs their room, and cost nothing.

mod support;

use std::path::{Path, PathBuf};

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Config, Drop, Entry, Journal, JournalError, Key, Offset, verify};
use support::{ALARM, CLIP, DIR, FEATURE, open};

/// Keeps so much of what is released.
fn config(keep_bytes: u64) -> Config {
    Config { keep_bytes, ..support::config() }
}

fn append(journal: &mut Journal<MemoryFilesystem>, class: u8, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        journal.append(Key { class, epoch: 1, seq }, &[seq as u8; 100], false).expect("fits");
    }
    journal.sync().expect("syncs");
}

fn release_all(journal: &mut Journal<MemoryFilesystem>) {
    journal.release(journal.durable()).expect("releases");
}

fn seqs(journal: &Journal<MemoryFilesystem>, from: Offset) -> Vec<u64> {
    let mut reader = journal.reader(from);
    let entries: Vec<Entry> = std::iter::from_fn(|| reader.next().expect("reads")).collect();
    entries.iter().map(|entry| entry.key.seq).collect()
}

fn segments(fs: &MemoryFilesystem) -> Vec<PathBuf> {
    let files = fs.files().into_iter().map(|(path, _)| path);
    let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|kind| kind == "seg")).collect();
    segments.sort();
    segments
}

#[test]
fn the_newest_released_segments_stay_can_be_read_and_count_for_nothing_also_after_a_restart() {
    let fs = MemoryFilesystem::new();
    let (mut journal, _) = open(&fs, config(2200));
    append(&mut journal, FEATURE, 0..40);
    let before = journal.bytes();
    release_all(&mut journal);
    assert_eq!(seqs(&journal, Offset(0)), (21..40).collect::<Vec<_>>(), "two whole segments and the open one");
    assert!(journal.kept_bytes() <= 2200 && journal.bytes() < 1024, "{} of {before}", journal.bytes());
    assert_eq!(seqs(&journal, journal.first_offset()), (35..40).collect::<Vec<_>>());
    let (kept, room) = (journal.kept_bytes(), journal.room_bytes(false));
    drop(journal);

    let (mut journal, recovery) = open(&fs, config(2200));
    assert_eq!((recovery.entries, recovery.gaps, recovery.quarantined), (5, vec![], vec![]));
    assert_eq!((journal.kept_bytes(), journal.room_bytes(false)), (kept, room));
    assert_eq!(seqs(&journal, Offset(0)), (21..40).collect::<Vec<_>>());
    append(&mut journal, FEATURE, 40..60);
    release_all(&mut journal);
    let kept = seqs(&journal, Offset(0));
    assert_eq!(kept, (kept[0]..60).collect::<Vec<_>>());
    assert!(kept[0] > 35 && kept[0] < 50, "the oldest went: {}", kept[0]);
    assert!(journal.take_dropped().is_empty(), "what was released is no loss");
    assert!(verify(fs.clone(), Path::new(DIR)).expect("reads").is_sound());
    drop(journal);

    let (journal, _) = open(&fs, config(0));
    assert_eq!(journal.kept_bytes(), 0, "whoever keeps nothing finds nothing");
    assert_eq!(segments(&fs).len(), 1);
    assert_eq!(seqs(&journal, Offset(0)), seqs(&journal, journal.first_offset()));
}

#[test]
fn what_is_kept_gives_way_before_anything_that_counts() {
    let until_full = |keep_bytes| {
        let fs = MemoryFilesystem::new();
        let (mut journal, _) = open(&fs, config(keep_bytes));
        append(&mut journal, FEATURE, 0..40);
        release_all(&mut journal);
        let mut seq = 40;
        let error = loop {
            match journal.append(Key { class: FEATURE, epoch: 1, seq }, &[0; 100], false) {
                Ok(_) => seq += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, JournalError::Full { .. }), "{error}");
        assert_eq!(journal.kept_bytes(), 0);
        seq
    };
    assert_eq!(until_full(8000), until_full(0));
}

#[test]
fn an_urgent_entry_takes_what_is_kept_before_it_takes_the_reserve() {
    let fs = MemoryFilesystem::new();
    let (mut journal, _) = open(&fs, Config { reserve_bytes: 2048, ..config(8000) });
    for from in [0, 40] {
        append(&mut journal, FEATURE, from..from + 40);
        release_all(&mut journal);
    }
    assert!(journal.kept_bytes() > 4096, "what there is room for beside the reserve");
    for seq in 0..20 {
        journal.append(Key { class: ALARM, epoch: 1, seq }, &[0; 200], true).expect("fits");
    }
    let reserve = fs.files().into_iter().find(|(path, _)| path.ends_with("reserve")).map(|(_, bytes)| bytes);
    assert_eq!(reserve, Some(2048), "still held");
}

#[test]
fn on_a_full_disk_what_is_kept_goes_first_and_needs_no_room_to_go() {
    let fs = MemoryFilesystem::new();
    let (mut journal, _) = open(&fs, config(4000));
    append(&mut journal, FEATURE, 0..40);
    release_all(&mut journal);
    let kept = journal.kept_bytes();
    let used: u64 = fs.files().iter().map(|(_, bytes)| *bytes).sum();
    fs.set_capacity_bytes(Some(used));
    append(&mut journal, FEATURE, 40..60);
    assert!(journal.kept_bytes() < kept);
    let found = seqs(&journal, Offset(0));
    assert_eq!(found, (found[0]..60).collect::<Vec<_>>());
    drop(journal);
    fs.set_capacity_bytes(None);
    let (journal, recovery) = open(&fs, config(4000));
    assert_eq!((recovery.gaps, recovery.quarantined), (vec![], vec![]));
    assert_eq!(seqs(&journal, Offset(0)), found);
}

#[test]
fn what_is_kept_is_in_no_class_cap_and_goes_when_its_class_is_too_old() {
    let fs = MemoryFilesystem::new();
    let policy = Drop::OldestOfClass(vec![CLIP]);
    let (mut journal, _) = open(&fs, Config { drop_policy: policy, ..config(8000) });
    journal.cap_class(CLIP, 3000).expect("a good cap");
    append(&mut journal, CLIP, 0..20);
    release_all(&mut journal);
    let kept = journal.kept_bytes();
    append(&mut journal, CLIP, 20..35);
    assert_eq!((journal.take_dropped(), journal.kept_bytes()), (vec![], kept), "both are below their bounds");
    let below = journal.first_offset();
    journal.expire(CLIP, below).expect("expires");
    assert_eq!((journal.take_dropped(), journal.kept_bytes()), (vec![], 0));
    let found = seqs(&journal, Offset(0));
    assert_eq!(found.last(), Some(&34));
    assert!(found[0] <= 20, "what counts stays");
}

#[test]
fn damage_in_what_is_kept_costs_that_and_what_is_older_and_is_told_nobody() {
    let fs = MemoryFilesystem::new();
    let (mut journal, _) = open(&fs, config(8000));
    append(&mut journal, FEATURE, 0..40);
    release_all(&mut journal);
    assert_eq!(seqs(&journal, Offset(0)), (0..40).collect::<Vec<_>>());
    drop(journal);
    let second = segments(&fs)[1].clone();
    assert!(fs.flip_bit(&second, 8 * 300));
    let (mut journal, recovery) = open(&fs, config(8000));
    assert_eq!((recovery.gaps, recovery.quarantined, journal.take_dropped()), (vec![], vec![], vec![]));
    assert_eq!(seqs(&journal, Offset(0)), (14..40).collect::<Vec<_>>());
    assert_eq!(recovery.last, [(1, FEATURE, 39)]);
    assert!(!segments(&fs).contains(&second));
}
