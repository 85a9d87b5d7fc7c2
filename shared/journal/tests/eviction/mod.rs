//! What gives way when there is no room, and how it is told (J3).

use super::*;

#[test]
fn eviction_takes_the_oldest_of_the_first_class_and_tells_what_it_took() {
    let fs = MemoryFilesystem::new();
    let policy = Drop::OldestOfClass(vec![CLIP, FEATURE]);
    let mut journal = open(&fs, Config { drop_policy: policy, max_bytes: 12_000, ..config() });
    let mut dropped = Vec::<Dropped>::new();
    for seq in 0..45 {
        for (class, size) in [(CLIP, 300), (FEATURE, 100), (ALARM, 50)] {
            journal.append(key(class, seq), &vec![class; size], class == ALARM).expect("something gives way");
            assert!(journal.bytes() <= 12_000);
        }
        dropped.extend(journal.take_dropped());
    }
    journal.sync().expect("syncs");
    let entries = read_all(&journal);
    assert_eq!(seqs(&entries, ALARM), (0..45).collect::<Vec<_>>(), "an alarm never gives way");
    for class in [CLIP, FEATURE] {
        let mut all: Vec<u64> = seqs(&entries, class);
        for gap in dropped.iter().filter(|gap| gap.class == class) {
            assert_eq!((gap.epoch, gap.reason, gap.count), (1, Reason::Evicted, gap.last_seq - gap.first_seq + 1));
            all.extend(gap.first_seq..=gap.last_seq);
        }
        all.sort_unstable();
        assert_eq!(all, (0..45).collect::<Vec<_>>(), "J3: each entry of class {class} is there or named as dropped");
    }
    assert!(seqs(&entries, CLIP).len() < seqs(&entries, FEATURE).len());
    let mut reader = journal.reader(Offset(0));
    while reader.next().expect("reads").is_some() {}
    assert!(reader.take_skipped().iter().any(|skipped| skipped.reason == Reason::Evicted));
}

#[test]
fn what_was_released_gives_way_without_being_a_loss() {
    let fs = MemoryFilesystem::new();
    let mut journal = open(&fs, Config { drop_policy: Drop::OldestOfClass(vec![CLIP]), max_bytes: 2048, ..config() });
    for seq in 0..200 {
        journal.append(key(CLIP, seq), &[0; 100], false).expect("fits");
        let durable = journal.sync().expect("syncs");
        journal.release(durable.upto).expect("releases");
    }
    assert_eq!(journal.take_dropped(), []);
}

#[test]
fn a_loss_is_told_again_after_a_restart_until_its_record_is_durable() {
    let fs = MemoryFilesystem::new();
    let config = Config { drop_policy: Drop::OldestOfClass(vec![CLIP]), max_bytes: 2048, ..config() };
    let mut journal = open(&fs, config.clone());
    for seq in 0..30 {
        journal.append(key(CLIP, seq), &[0; 100], false).expect("something gives way");
    }
    let told = journal.take_dropped();
    assert!(!told.is_empty());
    assert_eq!(journal.take_dropped(), [], "each is told once");
    drop(journal);
    let mut journal = open(&fs, config.clone());
    assert_eq!(journal.take_dropped(), told);
    journal.sync().expect("syncs");
    drop(journal);
    let mut journal = open(&fs, config.clone());
    assert_eq!(journal.take_dropped(), told, "a sync alone tells nobody");
    journal.append(key(ALARM, 0), b"gap record", false).expect("fits");
    journal.told();
    drop(journal);
    let mut journal = open(&fs, config.clone());
    assert_eq!(journal.take_dropped(), told, "what was told and not synced was not told");
    journal.append(key(ALARM, 0), b"gap record", false).expect("fits");
    journal.told();
    journal.sync().expect("syncs");
    drop(journal);
    assert_eq!(open(&fs, config).take_dropped(), []);
}

#[test]
fn j3_a_loss_after_the_last_one_told_is_not_taken_for_told() {
    let fs = MemoryFilesystem::new();
    let config = Config { drop_policy: Drop::OldestOfClass(vec![CLIP]), max_bytes: 2048, ..config() };
    let mut journal = open(&fs, config.clone());
    for seq in 0..30 {
        journal.append(key(CLIP, seq), &[0; 100], false).expect("something gives way");
    }
    let first = journal.take_dropped();
    journal.append(key(ALARM, 0), b"gap record", false).expect("fits");
    journal.told();
    for seq in 30..60 {
        journal.append(key(CLIP, seq), &[0; 100], false).expect("something gives way");
    }
    let second = journal.take_dropped();
    assert!(!first.is_empty() && !second.is_empty());
    journal.sync().expect("syncs");
    drop(journal);
    assert_eq!(open(&fs, config).take_dropped(), second);
}

#[test]
fn a_class_with_a_cap_of_its_own_gives_way_to_itself_while_there_is_room_for_others() {
    let fs = MemoryFilesystem::new();
    let policy = Drop::OldestOfClass(vec![CLIP, FEATURE]);
    let mut journal = open(&fs, Config { drop_policy: policy, max_bytes: 100_000, ..config() });
    journal.cap_class(CLIP, 3000).expect("a good cap");
    assert!(matches!(journal.cap_class(ALARM, 3000), Err(JournalError::Config { .. })), "alarms never give way");
    assert!(matches!(journal.cap_class(CLIP, 1000), Err(JournalError::Config { .. })), "below one segment");
    for seq in 0..60 {
        journal.append(key(CLIP, seq), &[0; 300], false).expect("clips give way");
        journal.append(key(FEATURE, seq), &[0; 100], false).expect("there is room");
    }
    let entries = read_all_synced(&mut journal);
    let clips = seqs(&entries, CLIP);
    assert!(clips.len() * 326 <= 3000 && clips.last() == Some(&59), "{clips:?}");
    assert_eq!(seqs(&entries, FEATURE).len(), 60);
    let dropped: u64 = journal.take_dropped().iter().map(|gap| gap.count).sum();
    assert_eq!(dropped + clips.len() as u64, 60, "J3: each clip is there or told");
}

#[test]
fn what_is_too_old_expires_by_whole_segments_and_is_told() {
    let fs = MemoryFilesystem::new();
    let policy = Drop::OldestOfClass(vec![CLIP]);
    let mut journal = open(&fs, Config { drop_policy: policy, max_bytes: 100_000, ..config() });
    let mut half = Offset(0);
    for seq in 0..40 {
        if seq == 20 {
            journal.sync().expect("syncs");
            half = journal.next_offset();
        }
        journal.append(key(CLIP, seq), &[0; 200], false).expect("fits");
        journal.append(key(ALARM, seq), &[0; 20], false).expect("fits");
    }
    journal.expire(CLIP, half).expect("expires");
    let entries = read_all_synced(&mut journal);
    let (clips, dropped) = (seqs(&entries, CLIP), journal.take_dropped());
    assert_eq!(seqs(&entries, ALARM).len(), 40);
    assert!(clips[0] > 14 && clips[0] <= 20, "{clips:?}");
    assert_eq!((dropped[0].first_seq, dropped.last().map(|gap| gap.last_seq)), (0, Some(clips[0] - 1)));
    let end = journal.next_offset();
    journal.expire(CLIP, end).expect("expires");
    assert_eq!(seqs(&read_all_synced(&mut journal), CLIP), []);
}

fn read_all_synced(journal: &mut Journal<MemoryFilesystem>) -> Vec<Entry> {
    journal.sync().expect("syncs");
    read_all(journal)
}
