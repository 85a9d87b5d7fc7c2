//! What a kill and a power cut cost under each policy: a record a millisecond for a second, then the end, then what is still there.

use std::path::Path;

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Config, Drop, FsyncPolicy, Journal, Key, Offset};

const DIR: &str = "/journal";
const RECORDS: u64 = 1_000;
const GROUP_US: i64 = 100_000;
const SEEDS: u64 = 11;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// `kill -9`: what was handed to the system stays, what waits for its group in the process is gone.
    Kill,
    /// Each unsynced sector is kept or lost by chance.
    PowerCut,
}

/// Records that are gone: on average over all seeds, and at most.
#[derive(Clone, Copy, Debug)]
struct Loss {
    mean: f64,
    most: u64,
}

fn open(fs: &MemoryFilesystem, fsync: FsyncPolicy) -> Journal<MemoryFilesystem> {
    let config = Config {
        segment_bytes: 64 * 1024,
        max_bytes: 16 << 20,
        fsync,
        reserve_bytes: 0,
        drop_policy: Drop::Never,
        keep_bytes: 0,
    };
    Journal::open(fs.clone(), Path::new(DIR), config, 7).expect("opens").0
}

/// The seqs that a reader finds.
fn held(journal: &Journal<MemoryFilesystem>) -> Vec<u64> {
    let mut reader = journal.reader(Offset(0));
    std::iter::from_fn(|| reader.next().expect("reads")).map(|entry| entry.key.seq).collect()
}

fn loss(fsync: FsyncPolicy, end: End) -> Loss {
    let (mut sum, mut most) = (0, 0);
    for seed in 0..SEEDS {
        let mut offsets = Vec::new();
        let fs = MemoryFilesystem::new();
        let mut journal = open(&fs, fsync);
        // The end comes anywhere within a group.
        let last = RECORDS - 9 * seed;
        for seq in 0..last {
            let key = Key { class: 5, epoch: 1, seq };
            offsets.push(journal.append(key, &[seq as u8; 120], false).expect("fits"));
            journal.poll_sync(seq as i64 * 1_000).expect("syncs");
        }
        let durable = journal.durable();
        let acknowledged = offsets.iter().filter(|offset| **offset < durable).count();
        drop(journal);
        match end {
            End::Kill => fs.kill(),
            End::PowerCut => fs.crash(seed),
        }
        let seqs = held(&open(&fs, fsync));
        // Without a sync nothing is promised: sectors are lost one by one, so anything may be missing.
        if !matches!(fsync, FsyncPolicy::Never) {
            assert!(seqs.iter().copied().eq(0..seqs.len() as u64), "what is left is whole from the beginning (J2)");
            assert!(seqs.len() >= acknowledged, "{} held of {acknowledged} acknowledged (J1)", seqs.len());
        }
        let lost = last - seqs.len() as u64;
        (sum, most) = (sum + lost, most.max(lost));
    }
    Loss { mean: sum as f64 / SEEDS as f64, most }
}

#[test]
fn j1_a_kill_and_a_power_cut_lose_what_the_policy_says_and_nothing_acknowledged() {
    let group = FsyncPolicy::Group { interval_us: GROUP_US };
    let [always, grouped, never] = [FsyncPolicy::Always, group, FsyncPolicy::Never].map(|policy| {
        let (kill, cut) = (loss(policy, End::Kill), loss(policy, End::PowerCut));
        for (end, Loss { mean, most }) in [("a kill", kill), ("a power cut", cut)] {
            println!("{policy:?}: {end} loses {mean:.1} of {RECORDS} on average, {most} at most");
        }
        (kill, cut)
    });
    assert_eq!((always.0.most, always.1.most), (0, 0));
    // A record a millisecond.
    let interval = (GROUP_US / 1_000) as u64;
    for loss in [grouped.0, grouped.1] {
        assert!(loss.most > 0 && loss.most <= interval, "{loss:?} for a group of {interval}");
    }
    assert!(never.0.most <= never.1.most, "a power cut takes what a kill does");
    assert!(never.1.mean > 2.0 * grouped.1.mean, "{:?}: what is never synced is at risk as a whole", never.1);
}
