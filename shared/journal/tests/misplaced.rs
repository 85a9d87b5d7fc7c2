//! Files that somebody put under a segment's name: set aside once, at no cost to the segments around them.

use std::path::{Path, PathBuf};

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Config, Drop, Entry, Filesystem, FsyncPolicy, Journal, Key, Offset};

#[test]
fn a_file_under_another_segments_name_is_set_aside_once_and_costs_its_neighbours_nothing() {
    let within_the_second = |bases: &[u64]| segment(bases[1] + 50);
    let cases = [
        ("a segment in the middle of another", Some(3), within_the_second(&bases(&filled()))),
        ("a segment over another", Some(3), segment(bases(&filled())[1])),
        ("a segment behind the end", Some(3), segment(1 << 20)),
        ("a late segment over the first", Some(6), segment(0)),
        ("what is no segment in the middle of one", None, within_the_second(&bases(&filled()))),
        ("what is no segment close before another", None, segment(bases(&filled())[2] - 10)),
    ];
    for (case, from, to) in cases {
        let fs = filled();
        let before = bases(&fs);
        let mut expected = read(&Journal::open(fs.clone(), Path::new(DIR), config(), 7).expect("opens").0);
        let path = from.map_or_else(|| Path::new(DIR).join("foreign"), |index: usize| segment(before[index]));
        fs.rename(&path, &to).expect("renames");
        // Lost is what is no longer where it was, and nothing else.
        let gone = |base: &&u64| [&path, &to].contains(&&segment(**base));
        for lost in before.iter().filter(gone) {
            let end = before.iter().find(|base| *base > lost).copied().unwrap_or(u64::MAX);
            expected.retain(|entry| !(*lost..end).contains(&entry.offset.0));
        }

        let (journal, first) = Journal::open(fs.clone(), Path::new(DIR), config(), 7).expect("opens");
        assert_eq!(read(&journal), expected, "{case}");
        assert!(!first.quarantined.is_empty(), "{case}");
        drop(journal);
        let (journal, second) = Journal::open(fs.clone(), Path::new(DIR), config(), 7).expect("opens");
        assert_eq!((second.quarantined, read(&journal)), (vec![], expected), "{case}");
    }
}

/// Seven segments, and a file that is none.
fn filled() -> MemoryFilesystem {
    let fs = MemoryFilesystem::new();
    let mut journal = Journal::open(fs.clone(), Path::new(DIR), config(), 7).expect("opens").0;
    for seq in 0..50 {
        journal.append(Key { class: 2, epoch: 1, seq }, &[seq as u8; 100], false).expect("fits");
    }
    journal.sync().expect("syncs");
    let foreign = fs.create(&Path::new(DIR).join("foreign")).expect("creates");
    fs.write_at(&foreign, 0, &[7; 500]).expect("writes");
    fs
}

fn bases(fs: &MemoryFilesystem) -> Vec<u64> {
    let base = |path: PathBuf| path.file_name()?.to_str()?.strip_suffix(".seg")?.parse().ok();
    let mut bases: Vec<u64> = fs.files().into_iter().filter_map(|(path, _)| base(path)).collect();
    bases.sort_unstable();
    bases
}

fn segment(base: u64) -> PathBuf {
    Path::new(DIR).join(format!("{base:020}.seg"))
}

fn read(journal: &Journal<MemoryFilesystem>) -> Vec<Entry> {
    let mut reader = journal.reader(Offset(0));
    std::iter::from_fn(|| reader.next().expect("reads")).collect()
}

fn config() -> Config {
    let fsync = FsyncPolicy::Group { interval_us: 1000 };
    Config { segment_bytes: 1024, max_bytes: 8192, fsync, reserve_bytes: 0, drop_policy: Drop::Never, keep_bytes: 0 }
}

const DIR: &str = "/journal";
