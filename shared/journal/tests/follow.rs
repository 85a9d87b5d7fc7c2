//! Readers beside a writer: in this process and in another one, while segments come, go and are replaced.

use std::path::Path;
use std::process::Command;

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{
    Config, Drop, Filesystem, FsyncPolicy, Journal, JournalError, Key, Offset, RealFilesystem, Reason, follow,
};

const DIR: &str = "/journal";

fn config() -> Config {
    let fsync = FsyncPolicy::Group { interval_us: 0 };
    Config { segment_bytes: 1024, max_bytes: 1 << 24, fsync, reserve_bytes: 0, drop_policy: Drop::Never, keep_bytes: 0 }
}

fn key(seq: u64) -> Key {
    Key { class: 2, epoch: 1, seq }
}

fn filled(fs: &MemoryFilesystem, entries: u64) -> Journal<MemoryFilesystem> {
    let mut journal = Journal::open(fs.clone(), Path::new(DIR), config(), 7).expect("opens").0;
    for seq in 0..entries {
        journal.append(key(seq), &[seq as u8; 100], false).expect("fits");
    }
    journal.sync().expect("syncs");
    journal
}

#[test]
fn a_durable_reader_stops_where_a_power_cut_could_take_back() {
    let fs = MemoryFilesystem::new();
    let mut journal = filled(&fs, 3);
    let config = Config { segment_bytes: 4 << 20, ..config() };
    drop(journal);
    journal = Journal::open(fs.clone(), Path::new(DIR), config, 7).expect("opens").0;
    for seq in 3..20 {
        journal.append(key(seq), &[0; 50_000], false).expect("fits");
    }
    let count = |durable: bool| {
        let mut reader = follow(fs.clone(), Path::new(DIR), Offset(0)).expect("opens");
        let mut read = || if durable { reader.next_durable() } else { reader.next() };
        std::iter::from_fn(|| read().expect("reads")).count()
    };
    assert_eq!(count(true), 3);
    assert!(count(false) > 3, "what is written but not synced is seen by a reader that asks for it");
    journal.sync().expect("syncs");
    assert_eq!((count(true), count(false)), (20, 20));
}

#[test]
fn a_reader_goes_on_across_a_roll_and_from_any_offset() {
    let fs = MemoryFilesystem::new();
    let mut reader =
        follow(fs.clone(), Path::new(DIR), Offset(0)).expect("a journal that is not there yet can be followed");
    assert_eq!(reader.next_durable().expect("waits"), None);
    let mut journal = filled(&fs, 0);
    let mut offsets = Vec::new();
    for seq in 0..40 {
        assert_eq!(reader.next_durable().expect("waits"), None);
        offsets.push(journal.append(key(seq), &[1; 100], false).expect("fits"));
        journal.sync().expect("syncs");
        assert_eq!(reader.next_durable().expect("reads").map(|entry| entry.key), Some(key(seq)));
    }
    assert_eq!((reader.offset(), reader.take_skipped()), (journal.next_offset(), vec![]));
    // One after the other, and by strides within a segment and beyond it.
    for stride in [1, 3, 13] {
        for (seq, offset) in offsets.iter().enumerate().step_by(stride) {
            for from in [*offset, Offset(offset.0 - 1)] {
                reader.seek(from);
                assert_eq!(reader.next().expect("reads").map(|entry| entry.key), Some(key(seq as u64)), "from {from}");
            }
        }
    }
    assert_eq!(reader.take_skipped(), vec![]);
}

#[test]
fn a_reader_survives_a_release_and_names_what_it_missed() {
    let fs = MemoryFilesystem::new();
    let mut journal = filled(&fs, 40);
    let mut reader = journal.reader(Offset(0));
    for seq in 0..3 {
        assert_eq!(reader.next().expect("reads").map(|entry| entry.key), Some(key(seq)));
    }
    let upto = Offset(journal.next_offset().0 / 2);
    journal.release(upto).expect("releases");
    let rest: Vec<u64> = std::iter::from_fn(|| reader.next().expect("reads")).map(|entry| entry.key.seq).collect();
    assert_eq!(rest.last(), Some(&39));
    let skipped = reader.take_skipped();
    assert_eq!(skipped.len(), 1);
    assert!(skipped[0].reason != Reason::Evicted && skipped[0].to <= upto);
    let mut late = journal.reader(Offset(0));
    let first = late.next().expect("reads").expect("some are left");
    assert_eq!(late.take_skipped()[0].reason, Reason::Released);
    assert!(first.offset > journal.first_offset());
}

#[test]
fn a_reader_waits_at_an_unfinished_entry_and_goes_on_after_the_writer_recovered() {
    let fs = MemoryFilesystem::new();
    let journal = filled(&fs, 2);
    let mut reader = journal.reader(Offset(0));
    while reader.next().expect("reads").is_some() {}
    let end = journal.next_offset();
    drop(journal);
    let segment = Path::new(DIR).join(format!("{:020}.seg", 0));
    let file = fs.open_write(&segment).expect("opens");
    let unfinished = [100, 0, 0, 0, 1, 2, 3, 4, 2, 0xA0, 1, 0];
    fs.write_at(&file, end.0, &unfinished).expect("writes");
    assert_eq!(reader.next().expect("waits"), None);
    assert_eq!(reader.offset(), end);

    let (mut journal, recovery) = Journal::open(fs.clone(), Path::new(DIR), config(), 7).expect("opens");
    assert_eq!(recovery.torn_bytes, unfinished.len() as u64);
    journal.append(key(2), b"in its place", true).expect("fits");
    assert_eq!(reader.next().expect("reads").map(|entry| entry.bytes), Some(b"in its place".to_vec()));
    assert_eq!(reader.take_skipped(), []);
}

#[test]
fn a_reader_at_the_tail_follows_into_the_repaired_copy() {
    let fs = MemoryFilesystem::new();
    let journal = filled(&fs, 5);
    let mut reader = journal.reader(Offset(0));
    while reader.next().expect("reads").is_some() {}
    drop(journal);
    assert!(fs.flip_bit(&Path::new(DIR).join(format!("{:020}.seg", 0)), 8 * 200));
    let mut journal = Journal::open(fs.clone(), Path::new(DIR), config(), 7).expect("opens").0;
    assert_eq!(journal.take_dropped().len(), 1);
    for seq in 5..9 {
        journal.append(key(seq), &[0; 300], true).expect("fits");
    }
    let rest: Vec<u64> = std::iter::from_fn(|| reader.next().expect("reads")).map(|entry| entry.key.seq).collect();
    assert_eq!((rest, reader.take_skipped()), (vec![5, 6, 7, 8], vec![]));
}

#[test]
fn a_reader_notices_that_the_journal_was_replaced() {
    let fs = MemoryFilesystem::new();
    let journal = filled(&fs, 5);
    let mut reader = journal.reader(Offset(0));
    while reader.next().expect("reads").is_some() {}
    drop(journal);
    for (path, _) in fs.files() {
        fs.remove(&path).expect("is there");
    }
    drop(Journal::open(fs.clone(), Path::new(DIR), config(), 8).expect("opens"));
    assert!(matches!(reader.next(), Err(JournalError::Replaced { expected: 7, found: 8 })));
}

/// Three processes follow at their own offsets while this one writes, rolls and releases what all of them have passed. One of them
/// dies on the way and goes on where it last kept its offset.
#[test]
fn several_processes_follow_at_their_own_offsets_while_this_one_writes_and_releases() {
    const ENTRIES: u64 = 6000;
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("journal");
    let mut journal = Journal::open(RealFilesystem, &dir, config(), 7).expect("opens").0;
    let start = |reader: &str, dies_at: u64| {
        Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "another_process_reads_every_entry_once", "--nocapture"])
            .env(FOLLOW, &dir)
            .env(READER, folder.path().join(reader))
            .env(DIES_AT, dies_at.to_string())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts")
    };
    let kept = |reader: &str| std::fs::read_to_string(folder.path().join(reader)).unwrap_or_default();
    let passed = |reader: &str| kept(reader).split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (steady, slow, mut dying) = (start("steady", u64::MAX), start("slow", u64::MAX), start("dying", 1000));
    for seq in 0..ENTRIES {
        journal.append(key(seq), &seq.to_le_bytes(), false).expect("fits");
        if seq % 50 == 49 {
            journal.sync().expect("syncs");
            let slowest = ["steady", "slow", "dying"].map(passed).into_iter().min().expect("there are three");
            journal.release(Offset(slowest)).expect("releases");
        }
        if seq == ENTRIES / 2 {
            // It has had a thousand entries to read, so it comes to its end.
            assert_eq!(dying.wait().expect("ends").code(), Some(9));
            let seen: u64 = kept("dying").split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a count");
            assert!((900..=1000).contains(&seen), "{seen}");
            dying = start("dying", u64::MAX);
        }
    }
    journal.append(Key { class: 9, epoch: 1, seq: 0 }, b"end", true).expect("fits");
    for child in [steady, slow, dying] {
        let output = child.wait_with_output().expect("ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(&format!("followed to {ENTRIES}")), "{text}");
    }
    let slowest = ["steady", "slow", "dying"].map(passed).into_iter().min().expect("there are three");
    journal.release(Offset(slowest)).expect("releases");
    assert!(journal.first_offset().0 > 0, "what all have passed is gone");
}

/// The other half of the test above; without its folder there is nothing to follow.
#[test]
fn another_process_reads_every_entry_once() {
    let Some(dir) = std::env::var_os(FOLLOW) else { return };
    let file = std::path::PathBuf::from(std::env::var_os(READER).expect("who it is"));
    let dies_at: u64 = std::env::var(DIES_AT).ok().and_then(|text| text.parse().ok()).expect("when it dies");
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    let mut numbers = before.split(' ').map(|text| text.parse::<u64>().unwrap_or(0));
    let (from, mut entries) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let mut reader = follow(RealFilesystem, Path::new(&dir), Offset(from)).expect("opens");
    let mut idle = 0_u64;
    loop {
        match reader.next_durable().expect("reads") {
            Some(entry) if entry.key.class == 9 => break,
            Some(entry) => {
                assert_eq!((entry.key, entry.bytes), (key(entries), entries.to_le_bytes().to_vec()));
                (entries, idle) = (entries + 1, 0);
                if entries.is_multiple_of(64) {
                    let new = file.with_extension("new");
                    std::fs::write(&new, format!("{} {entries}", reader.offset())).expect("writes");
                    std::fs::rename(&new, &file).expect("renames");
                }
                if entries == dies_at {
                    std::process::exit(9);
                }
            }
            None => {
                idle += 1;
                assert!(idle < 50_000_000, "the writer is gone");
                std::thread::yield_now();
            }
        }
    }
    assert_eq!(reader.take_skipped(), []);
    println!("followed to {entries}");
}

const FOLLOW: &str = "KILTER_JOURNAL_FOLLOW";
const READER: &str = "KILTER_JOURNAL_READER";
const DIES_AT: &str = "KILTER_JOURNAL_DIES_AT";
