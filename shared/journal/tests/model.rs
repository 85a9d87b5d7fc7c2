//! Random histories against a simple model: appends, syncs, releases, crashes, kills, flipped bits, full disks and failing syncs.

use std::path::Path;

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Config, Drop, Filesystem, FsyncPolicy, Journal, Key, Offset, follow, verify};
use proptest::prelude::*;

const DIR: &str = "/journal";

#[derive(Clone, Debug)]
enum Act {
    Append { size: usize, urgent: bool },
    Sync,
    Release(u64),
    Crash(u64),
    Kill,
    Flip(u64),
    FullFor(u8),
    FailSync,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0_usize..400, prop::bool::weighted(0.1)).prop_map(|(size, urgent)| Act::Append { size, urgent }),
        4 => Just(Act::Sync),
        2 => (0_u64..65).prop_map(Act::Release),
        2 => any::<u64>().prop_map(Act::Crash),
        1 => Just(Act::Kill),
        1 => any::<u64>().prop_map(Act::Flip),
        1 => (1_u8..5).prop_map(Act::FullFor),
        1 => Just(Act::FailSync),
    ]
}

fn config() -> Config {
    let fsync = FsyncPolicy::Group { interval_us: 0 };
    Config {
        segment_bytes: 900,
        max_bytes: 1 << 20,
        fsync,
        reserve_bytes: 512,
        drop_policy: Drop::Never,
        keep_bytes: 0,
    }
}

/// The journal and what it owes.
struct World {
    fs: MemoryFilesystem,
    journal: Option<Journal<MemoryFilesystem>>,
    entries: Vec<(u64, u64, Vec<u8>)>,
    /// Refused by a journal that died of it: may be found or not.
    uncertain: Vec<(u64, Vec<u8>)>,
    acknowledged: u64,
    released: u64,
    next_seq: u64,
    /// Acknowledged entries that flipped bits may have cost.
    flips: usize,
    full_for: u8,
}

impl World {
    fn new() -> Self {
        let fs = MemoryFilesystem::new();
        let journal = Some(Journal::open(fs.clone(), Path::new(DIR), config(), 7).expect("opens").0);
        let (entries, uncertain) = (Vec::new(), Vec::new());
        Self { fs, journal, entries, uncertain, acknowledged: 0, released: 0, next_seq: 0, flips: 0, full_for: 0 }
    }

    fn act(&mut self, act: &Act) {
        let journal = self.journal.as_mut().expect("is open between acts");
        if self.full_for > 0 {
            self.full_for -= 1;
            if self.full_for == 0 {
                self.fs.set_capacity_bytes(None);
            }
        }
        match act {
            Act::Append { size, urgent } => {
                let bytes = vec![self.next_seq as u8; *size];
                match journal.append(Key { class: 2, epoch: 1, seq: self.next_seq }, &bytes, *urgent) {
                    Ok(offset) => {
                        assert!(!urgent || journal.durable() > offset, "J1: an urgent entry is durable at once");
                        self.entries.push((offset.0, self.next_seq, bytes));
                        self.next_seq += 1;
                    }
                    Err(_) if journal.is_dead() => {
                        self.uncertain.push((self.next_seq, bytes));
                        self.next_seq += 1;
                    }
                    Err(error) => assert!(error.is_full(), "{error}"),
                }
            }
            Act::Sync => drop(journal.sync()),
            Act::Release(part) => {
                let upto = journal.durable().0 / 64 * part;
                // Allowed to go from here on, whether the unlinking works now or later.
                let _ = journal.release(Offset(upto));
                self.released = self.released.max(upto);
            }
            Act::Crash(seed) => return self.restart(|fs| fs.crash(*seed)),
            Act::Kill => return self.restart(MemoryFilesystem::kill),
            Act::Flip(at) if self.flips == 0 => {
                self.flips = 1;
                return self.restart(|fs| {
                    fs.kill();
                    let files: Vec<_> = fs.files().into_iter().filter(|(_, bytes)| *bytes > 0).collect();
                    let (path, bytes) = &files[(at % files.len() as u64) as usize];
                    assert!(fs.flip_bit(path, (at >> 8) % (bytes * 8)));
                });
            }
            Act::Flip(_) => {}
            Act::FullFor(acts) => {
                let used: u64 = self.fs.files().iter().map(|(_, bytes)| bytes).sum();
                self.fs.set_capacity_bytes(Some(used + 200));
                self.full_for = *acts;
            }
            Act::FailSync => self.fs.fail_syncs(1),
        }
        let journal = self.journal.as_ref().expect("is open between acts");
        self.acknowledged = self.acknowledged.max(journal.durable().0);
        if journal.is_dead() {
            self.restart(MemoryFilesystem::kill);
        }
    }

    fn restart(&mut self, stop: impl FnOnce(&MemoryFilesystem)) {
        stop(&self.fs);
        self.journal = None;
        self.full_for = 0;
        self.fs.set_capacity_bytes(None);
        self.fs.fail_syncs(0);
        let (journal, _) =
            Journal::open(self.fs.clone(), Path::new(DIR), config(), 9).expect("opens whatever happened");
        assert!(journal.durable().0 >= self.acknowledged && journal.durable() == journal.next_offset());
        let mut reader = journal.reader(Offset(0));
        let read: Vec<_> = std::iter::from_fn(|| reader.next().expect("reads"))
            .map(|entry| (entry.offset.0, entry.key.seq, entry.bytes))
            .collect();
        let mut missing = 0;
        for entry in self.entries.iter().filter(|(offset, ..)| *offset >= self.released && *offset < self.acknowledged)
        {
            missing += usize::from(!read.contains(entry));
        }
        assert!(missing <= self.flips, "J1: {missing} acknowledged entries are gone, {} bits were flipped", self.flips);
        let uncertain = |(_, seq, bytes): &(u64, u64, Vec<u8>)| self.uncertain.contains(&(*seq, bytes.clone()));
        let written = |entry: &_| self.entries.contains(entry) || uncertain(entry);
        assert!(read.iter().all(written), "J2: only what was written is read");
        assert!(read.is_sorted_by(|one, other| one.0 < other.0 && one.1 < other.1));
        assert!(verify(self.fs.clone(), Path::new(DIR)).expect("reads").is_sound(), "what was damaged is repaired");
        self.entries = read;
        self.acknowledged = journal.durable().0;
        self.journal = Some(journal);
    }
}

proptest! {
    #[test]
    fn random_histories_keep_the_promises(acts in prop::collection::vec(act(), 1..80)) {
        let mut world = World::new();
        for act in &acts {
            world.act(act);
        }
        world.restart(|fs| fs.crash(1));
    }

    #[test]
    fn no_content_of_any_file_makes_it_panic(
        files in prop::collection::vec((0_usize..6, prop::collection::vec(any::<u8>(), 0..300), 0_usize..40), 1..4),
    ) {
        let fs = MemoryFilesystem::new();
        let mut journal = Journal::open(fs.clone(), Path::new(DIR), config(), 7).expect("opens").0;
        for seq in 0..20 {
            journal.append(Key { class: 2, epoch: 1, seq }, &[1; 90], false).expect("fits");
        }
        journal.sync().expect("syncs");
        drop(journal);
        let last = fs.files().into_iter().filter_map(|(path, _)| path.file_name()?.to_str()?.strip_suffix(".seg").map(str::to_owned)).next_back();
        let names = ["identity", "durable", "ledger", "00000000000000000000.seg", "18446744073709551615.seg"].map(str::to_owned);
        for (which, bytes, at) in files {
            let name = names.get(which).cloned().unwrap_or_else(|| format!("{}.seg", last.as_deref().unwrap_or("0")));
            let path = Path::new(DIR).join(name);
            let file = fs.open_write(&path).or_else(|_| fs.create(&path)).expect("opens");
            fs.write_at(&file, at as u64, &bytes).expect("writes");
        }
        let _ = verify(fs.clone(), Path::new(DIR));
        let mut reader = follow(fs.clone(), Path::new(DIR), Offset(0)).expect("random bytes are no newer version");
        while let Ok(Some(_)) = reader.next() {}
        let (mut journal, _) = Journal::open(fs, Path::new(DIR), config(), 9).expect("opens whatever is there");
        journal.append(Key { class: 2, epoch: 2, seq: 0 }, b"goes on", true).expect("fits");
    }
}
