//! The bytes of format version 1: what is written equals the golden files, and the golden files are read. Golden files are added, never edited.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{
    Config, Drop, Filesystem, FsyncPolicy, Journal, Key, Offset, RealFilesystem, Reason, follow, verify,
};

const DIR: &str = "/journal";

fn config() -> Config {
    let fsync = FsyncPolicy::Group { interval_us: 0 };
    Config {
        segment_bytes: 256,
        max_bytes: 600,
        fsync,
        reserve_bytes: 0,
        drop_policy: Drop::OldestOfClass(vec![6]),
        keep_bytes: 0,
    }
}

fn golden() -> PathBuf {
    PathBuf::from("tests/golden/v1")
}

/// Plain and urgent entries, an eviction with its skip and loss, a ledger.
fn write() -> MemoryFilesystem {
    let fs = MemoryFilesystem::new();
    let mut journal = Journal::open(fs.clone(), Path::new(DIR), config(), 0x0123_4567_89ab_cdef).expect("opens").0;
    let key = |class, seq| Key { class, epoch: 0xfeed, seq };
    journal.append(key(0, 0), b"alarm", true).expect("fits");
    journal.append(key(6, 0), &[0x66; 85], false).expect("fits");
    journal.append(key(6, 1), &[0x77; 150], false).expect("fits");
    journal.append(key(2, 0), b"feature", false).expect("fits");
    journal.append(key(0, 1), &[0x11; 140], true).expect("clips give way");
    assert_eq!(journal.take_dropped().len(), 2);
    journal.append(key(7, 0), b"gap", false).expect("fits");
    journal.told();
    journal.sync().expect("syncs");
    fs
}

fn bytes(fs: &MemoryFilesystem, name: &str) -> Vec<u8> {
    let file = fs.open(&Path::new(DIR).join(name)).expect("is there");
    let mut bytes = vec![0; fs.len(&file).expect("has a length") as usize];
    fs.read_at(&file, 0, &mut bytes).expect("reads");
    bytes
}

#[test]
fn version_1_is_written_byte_for_byte() {
    let fs = write();
    let names: BTreeSet<String> =
        fs.list(Path::new(DIR)).expect("lists").into_iter().filter(|name| name != "lock").collect();
    for name in &names {
        let (path, written) = (golden().join(name), bytes(&fs, name));
        if std::env::var_os("KILTER_ADD_GOLDEN").is_some() && !path.exists() {
            std::fs::write(&path, &written).expect("writes");
        }
        assert_eq!(std::fs::read(&path).expect("golden file"), written, "{name}");
    }
    assert_eq!(names, RealFilesystem.list(&golden()).expect("lists").into_iter().collect());
}

#[test]
fn version_1_is_read() {
    let mut reader = follow(RealFilesystem, &golden(), Offset(0)).expect("opens");
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_durable().expect("reads") {
        entries.push((entry.key.class, entry.key.seq, entry.bytes));
    }
    assert_eq!(reader.journal_id().expect("reads"), Some(0x0123_4567_89ab_cdef));
    assert_eq!(entries[0], (0, 0, b"alarm".to_vec()));
    assert!(entries.contains(&(2, 0, b"feature".to_vec())) && entries.contains(&(7, 0, b"gap".to_vec())));
    assert!(reader.take_skipped().iter().any(|skipped| skipped.reason == Reason::Evicted));
    assert!(verify(RealFilesystem, &golden()).expect("reads").is_sound());
}
