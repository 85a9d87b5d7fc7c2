//! A journal's folder after anything happened to its files: opening repairs it for good, and invents nothing.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kilter_journal::model::{Disk, MemoryFilesystem};
use kilter_journal::{Config, Drop, Entry, Filesystem, FsyncPolicy, Journal, Key, Offset, verify};

/// The bytes say what is done to a good folder: five for each change (what, which file, where, with what).
pub(crate) fn recovery(bytes: &[u8]) {
    let (disk, written) = good();
    let fs = MemoryFilesystem::from_disk(disk.clone());
    for change in bytes.chunks_exact(5).take(40) {
        spoil(&fs, change);
    }
    let _ = verify(fs.clone(), Path::new(DIR));
    // A newer version is refused and nothing is touched: that is an answer too.
    let Ok((mut journal, _)) = Journal::open(fs.clone(), Path::new(DIR), config(), 8) else { return };
    let found = read(&journal);
    // The identity may be gone with the segments, but what is found is what was written, where it was written.
    for entry in &found {
        assert!(written.contains(entry), "an entry that nobody wrote: {:?} at {}", entry.key, entry.offset);
    }
    let key = Key { class: 0, epoch: 9, seq: 0 };
    journal.append(key, b"after", true).expect("a repaired journal takes an entry");
    let before = read(&journal);
    drop(journal);
    let (journal, again) = Journal::open(fs, Path::new(DIR), config(), 8).expect("what was repaired opens");
    assert!(again.quarantined.is_empty(), "repaired twice: {again:?}");
    assert_eq!(read(&journal), before, "the second opening found something else");
}

/// One change of a file.
fn spoil(fs: &MemoryFilesystem, change: &[u8]) {
    let [what, which, low, high, with] = *change else { return };
    let files: Vec<(PathBuf, u64)> = fs.files().into_iter().filter(|(path, _)| !path.ends_with("lock")).collect();
    let Some((path, len)) = files.get(usize::from(which) % files.len().max(1)) else { return };
    let at = u64::from(u16::from_le_bytes([low, high])) % (len + 1);
    let Ok(file) = fs.open_write(path) else { return };
    let done = match what % 5 {
        0 => fs.flip_bit(path, at * 8 + u64::from(with % 8)).then_some(()),
        1 => fs.set_len(&file, at).ok(),
        2 => fs.write_at(&file, at, &[with; 16]).ok(),
        3 => fs.remove(path).ok(),
        _ => fs.rename(path, &Path::new(DIR).join(format!("{:020}.seg", u64::from(with) * 100))).ok(),
    };
    // What can't be done is no change.
    let _ = done;
}

/// A folder with several segments, an eviction and a release, and what was ever written to it.
fn good() -> &'static (Disk, Vec<Entry>) {
    static GOOD: OnceLock<(Disk, Vec<Entry>)> = OnceLock::new();
    GOOD.get_or_init(|| {
        let fs = MemoryFilesystem::new();
        let mut journal = Journal::open(fs.clone(), Path::new(DIR), config(), 7).expect("an empty folder opens").0;
        let mut written = Vec::new();
        for seq in 0..80 {
            let (class, bytes) = ([2, 6, 2, 6, 6, 2, 2, 0][seq as usize % 8], vec![seq as u8; 20 + seq as usize]);
            let key = Key { class, epoch: 1, seq };
            let offset = journal.append(key, &bytes, class == 0).expect("something gives way");
            written.push(Entry { key, offset, bytes });
        }
        journal.sync().expect("the model syncs");
        journal.release(Offset(600)).expect("the model releases");
        drop(journal);
        (fs.disk(), written)
    })
}

fn read(journal: &Journal<MemoryFilesystem>) -> Vec<Entry> {
    let mut reader = journal.reader(Offset(0));
    std::iter::from_fn(|| reader.next().expect("the model reads")).collect()
}

fn config() -> Config {
    Config {
        segment_bytes: 700,
        max_bytes: 6000,
        fsync: FsyncPolicy::Group { interval_us: 0 },
        reserve_bytes: 0,
        drop_policy: Drop::OldestOfClass(vec![6, 2]),
        keep_bytes: 1500,
    }
}

const DIR: &str = "/journal";
