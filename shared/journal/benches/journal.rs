//! Each policy that syncs against bare fdatasync of the same bytes, interleaved in one run; prints the median of the rounds.
//!
//! `cargo bench -p kilter-journal`; `KILTER_BENCH_DIR` names the folder (default: the system's temporary one).
#![expect(clippy::disallowed_methods, reason = "a benchmark is a shell and measures wall time")]

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use kilter_journal::{Config, Drop, FsyncPolicy, Journal, Key, Offset, RealFilesystem};

const ENTRY_BYTES: usize = 150;
const GROUP: FsyncPolicy = FsyncPolicy::Group { interval_us: 0 };
const ROUNDS: usize = 5;
const GROUPS: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = match std::env::var_os("KILTER_BENCH_DIR") {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    println!("a sync covers    fdatasync/s    journal/s    ratio    entries/s");
    for (entries, fsync) in [(1, FsyncPolicy::Always), (1, GROUP), (64, GROUP), (1024, GROUP)] {
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(bare_syncs(folder.path(), entries)?);
            ours.push(commits(folder.path(), entries, fsync)?);
        }
        let (bare, ours) = (median(bare), median(ours));
        let what = if fsync == GROUP { format!("group of {entries}") } else { "always".to_owned() };
        println!("{what:>13} {bare:>14.0} {ours:>12.0} {:>8.2} {:>12.0}", ours / bare, ours * entries as f64);
    }
    let (append, read) = (appends(folder.path())?, reads(folder.path())?);
    println!("without sync: append {append:.0} entries/s, read {read:.0} entries/s");
    Ok(())
}

/// Groups per second: write as many bytes as the journal does, then fdatasync.
fn bare_syncs(dir: &Path, entries: usize) -> std::io::Result<f64> {
    let path = dir.join("bare");
    let file = std::fs::File::create(&path)?;
    let bytes = vec![7; (ENTRY_BYTES + 26) * entries];
    let begin = Instant::now();
    for group in 0..GROUPS {
        file.write_all_at(&bytes, (group * bytes.len()) as u64)?;
        file.sync_data()?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(GROUPS as f64 / seconds)
}

/// Acknowledgements per second: under `always` each entry has its own before `append` returns, a group has one together.
fn commits(dir: &Path, entries: usize, fsync: FsyncPolicy) -> Result<f64, Box<dyn std::error::Error>> {
    let dir = dir.join("journal");
    let mut journal = Journal::open(RealFilesystem, &dir, config(fsync), 7)?.0;
    let payload = [7; ENTRY_BYTES];
    let begin = Instant::now();
    for group in 0..GROUPS {
        for entry in 0..entries {
            let seq = (group * entries + entry) as u64;
            journal.append(Key { class: 2, epoch: 1, seq }, &payload, false)?;
        }
        match fsync {
            FsyncPolicy::Always => assert_eq!(journal.durable(), journal.next_offset(), "append syncs"),
            FsyncPolicy::Group { .. } | FsyncPolicy::Never => drop(black_box(journal.sync()?)),
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    drop(journal);
    std::fs::remove_dir_all(dir)?;
    Ok(GROUPS as f64 / seconds)
}

fn appends(dir: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let mut journal = Journal::open(RealFilesystem, &dir.join("plain"), config(FsyncPolicy::Never), 7)?.0;
    let payload = [7; ENTRY_BYTES];
    let begin = Instant::now();
    for seq in 0..PLAIN_ENTRIES {
        journal.append(Key { class: 2, epoch: 1, seq }, &payload, false)?;
    }
    journal.sync()?;
    Ok(PLAIN_ENTRIES as f64 / begin.elapsed().as_secs_f64())
}

fn reads(dir: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let mut reader = kilter_journal::follow(RealFilesystem, &dir.join("plain"), Offset(0))?;
    let begin = Instant::now();
    let mut entries = 0;
    while let Some(entry) = reader.next()? {
        black_box(entry);
        entries += 1;
    }
    assert_eq!(entries, PLAIN_ENTRIES);
    Ok(PLAIN_ENTRIES as f64 / begin.elapsed().as_secs_f64())
}

fn config(fsync: FsyncPolicy) -> Config {
    Config {
        segment_bytes: 64 << 20,
        max_bytes: 1 << 30,
        fsync,
        reserve_bytes: 0,
        drop_policy: Drop::Never,
        keep_bytes: 0,
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

const PLAIN_ENTRIES: u64 = 500_000;
