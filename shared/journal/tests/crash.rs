//! Every moment at which the power can go, and what a disk may have kept then: what was acknowledged is there (J1), what is there was
//! written and has no hole (J2).
//!
//! `KILTER_CRASH_STATES` sets how many states are tried (default 100,000). The same check must find planted bugs.

mod camera;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Config, Drop, Entry, FsyncPolicy, Journal, Key, Offset, Reason};

use camera::Camera;

const DIR: &str = "/journal";
const CLIP: u8 = 6;
const ALARM: u8 = 0;
const GAP: u8 = 7;

#[test]
fn acknowledged_entries_survive_every_crash_state() {
    let wanted: usize = std::env::var("KILTER_CRASH_STATES").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let mut tried = 0;
    let mut seed = 0;
    while tried < wanted {
        tried +=
            check(Script::from_seed(seed), Plant::Nothing).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        seed += 1;
    }
    println!("{tried} crash states of {seed} scripts");
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    assert_found(Plant::AckBeforeSync);
}

#[test]
fn a_disk_that_only_pretends_to_sync_is_found() {
    assert_found(Plant::PretendedSync);
}

#[test]
fn an_unlink_before_the_ledger_is_durable_is_found() {
    assert_found(Plant::UnlinkBeforeLedger);
}

#[test]
fn a_new_segment_whose_name_is_not_durable_is_found() {
    assert_found(Plant::NoFolderSync);
}

fn assert_found(plant: Plant) {
    let found = (0..50).find_map(|seed| check(Script::from_seed(seed), plant).err().map(|failure| (seed, failure)));
    let (seed, failure) = found.expect("the planted bug is found in under 50 scripts");
    println!("{plant:?} found by seed {seed}: {failure}");
}

/// A bug put in between journal and disk, or between journal and its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plant {
    Nothing,
    AckBeforeSync,
    PretendedSync,
    UnlinkBeforeLedger,
    NoFolderSync,
}

/// What the caller does, by seed.
#[derive(Clone, Debug)]
struct Script {
    config: Config,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append {
        class: u8,
        size: usize,
        urgent: bool,
    },
    Sync,
    /// Releases this many 64ths of what is durable.
    Release(u64),
    Reopen,
}

/// What the caller knows at one moment.
#[derive(Clone, Debug, Default)]
struct Belief {
    /// In order; unacknowledged ones at the end.
    appended: Vec<(u64, Payload)>,
    /// Being appended just now.
    in_flight: Option<Payload>,
    /// Entries below this offset were acknowledged.
    acknowledged: u64,
    /// Entries below this offset may be gone.
    released: u64,
    /// Seqs of clips that gap records below the released offset named.
    settled: Vec<RangeInclusive<u64>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Payload {
    class: u8,
    seq: u64,
    bytes: Vec<u8>,
}

impl Script {
    fn from_seed(seed: u64) -> Self {
        let mut random = Random(seed);
        let evicts = random.below(3) == 0;
        let config = Config {
            segment_bytes: [256, 700, 1500, 4096][random.below(4) as usize],
            max_bytes: if evicts { 5000 } else { 1 << 20 },
            fsync: if random.below(4) == 0 { FsyncPolicy::Always } else { FsyncPolicy::Group { interval_us: 0 } },
            reserve_bytes: 0,
            drop_policy: if evicts { Drop::OldestOfClass(vec![CLIP]) } else { Drop::Never },
            keep_bytes: seed % 3 * 2000,
        };
        let largest = (config.segment_bytes - 58).min(1300);
        let steps = (0..40)
            .map(|_| match random.below(20) {
                0..12 => Step::Append { class: CLIP, size: random.below(largest) as usize, urgent: false },
                12..14 => Step::Append { class: ALARM, size: random.below(60) as usize, urgent: random.below(2) == 0 },
                14..17 => Step::Sync,
                17..19 => Step::Release(random.below(65)),
                _ => Step::Reopen,
            })
            .collect();
        Self { config, steps }
    }
}

/// Runs the script and tries the crash states of every moment of it; the number tried, or what was broken.
fn check(script: Script, plant: Plant) -> Result<usize, String> {
    let camera = Camera { fs: MemoryFilesystem::new(), film: Arc::default(), plant };
    run(&script, &camera);
    let photos = std::mem::take(&mut camera.film().photos);
    let mut random = Random(photos.len() as u64);
    let mut tried = 0;
    for (moment, (disk, belief)) in photos.iter().enumerate() {
        for choice in choices(disk.pieces(), &mut random) {
            let crashed = disk.crashed(|piece| choice[piece]);
            tried += 1;
            let failed = |failure| {
                format!(
                    "moment {moment}, {belief_end} entries, pieces {choice:?}: {failure}",
                    belief_end = belief.appended.len()
                )
            };
            let recovering =
                Camera { fs: MemoryFilesystem::from_disk(crashed), film: Arc::default(), plant: Plant::Nothing };
            inspect(&recovering, &script.config, belief).map_err(failed)?;
            // Power may go again while the journal recovers.
            if tried % 32 == 0 {
                for (disk, _) in std::mem::take(&mut recovering.film().photos) {
                    let again =
                        Camera { fs: MemoryFilesystem::from_disk(disk), film: Arc::default(), plant: Plant::Nothing };
                    again.fs.crash(tried as u64);
                    tried += 1;
                    inspect(&again, &script.config, belief).map_err(failed)?;
                }
            }
        }
    }
    Ok(tried)
}

/// Opens what the crash left and compares it with what the caller believes.
fn inspect(camera: &Camera, config: &Config, belief: &Belief) -> Result<(), String> {
    let opened = Journal::open(camera.clone(), Path::new(DIR), config.clone(), 7);
    let (mut journal, recovery) = opened.map_err(|error| format!("opening failed: {error}"))?;
    // The photos of what follows are of no interest.
    camera.film().belief.released = u64::MAX;
    if !recovery.quarantined.is_empty() || recovery.gaps.iter().any(|gap| gap.reason != Reason::Evicted) {
        return Err(format!("J2: a crash alone was taken for damage: {recovery:?}"));
    }
    if journal.durable().0 < belief.acknowledged {
        return Err(format!("J1: durable to {} of {}", journal.durable(), belief.acknowledged));
    }
    let mut lost = belief.settled.clone();
    lost.extend(journal.take_dropped().iter().map(|dropped| dropped.first_seq..=dropped.last_seq));
    let entries = read_all(&journal);
    lost.extend(entries.iter().filter(|entry| entry.key.class == GAP).flat_map(|entry| decode_gaps(&entry.bytes)));

    let expected: Vec<(u64, &Payload)> = belief.appended.iter().map(|(offset, payload)| (*offset, payload)).collect();
    let mut found = vec![false; expected.len()];
    for entry in &entries {
        let payload = Payload { class: entry.key.class, seq: entry.key.seq, bytes: entry.bytes.clone() };
        match expected.binary_search_by_key(&entry.offset.0, |(offset, _)| *offset) {
            Ok(index) if *expected[index].1 == payload => found[index] = true,
            Err(index) if index == expected.len() && belief.in_flight.as_ref() == Some(&payload) => {}
            _ => return Err(format!("an entry that was not written: {:?} at {}", entry.key, entry.offset)),
        }
    }
    let last = entries.last().map_or(0, |entry| entry.offset.0);
    for ((offset, payload), found) in expected.iter().zip(found) {
        let needed = *offset >= belief.released && (*offset < belief.acknowledged || *offset < last);
        let named = payload.class == CLIP && lost.iter().any(|range| range.contains(&payload.seq));
        if needed && !found && !named {
            let promise = if *offset < belief.acknowledged { "J1" } else { "J2" };
            return Err(format!("{promise}: entry {} of class {} at {offset} is gone", payload.seq, payload.class));
        }
    }
    // What recovery left can be written to and read again.
    let offset = journal.append(Key { class: ALARM, epoch: 2, seq: 0 }, b"after the crash", true);
    let offset = offset.map_err(|error| format!("appending after recovery failed: {error}"))?;
    let again = read_all(&journal);
    match again.last() {
        Some(entry) if entry.offset == offset && entry.bytes == b"after the crash" => Ok(()),
        other => Err(format!("the entry after recovery reads as {other:?}")),
    }
}

fn run(script: &Script, camera: &Camera) {
    let open =
        || Journal::open(camera.clone(), Path::new(DIR), script.config.clone(), 7).expect("opens without a crash");
    let mut journal = open().0;
    let mut seqs = [0_u64; 8];
    for step in &script.steps {
        match *step {
            Step::Append { class, size, urgent } => {
                append(&mut journal, camera, &mut seqs, class, vec![class; size], urgent);
                let dropped = journal.take_dropped();
                if !dropped.is_empty() {
                    let gaps = dropped.iter().flat_map(|gap| [gap.first_seq.to_le_bytes(), gap.last_seq.to_le_bytes()]);
                    append(&mut journal, camera, &mut seqs, GAP, gaps.flatten().collect(), false);
                    journal.told();
                }
            }
            Step::Sync => {
                journal.sync().expect("syncs");
            }
            Step::Release(part) => {
                let upto = journal.durable().0 / 64 * part;
                {
                    let mut film = camera.film();
                    let Belief { appended, settled, released, .. } = &mut film.belief;
                    *released = upto.max(*released);
                    let gaps = appended.iter().filter(|(offset, payload)| payload.class == GAP && *offset < upto);
                    settled.extend(gaps.flat_map(|(_, payload)| decode_gaps(&payload.bytes)));
                }
                journal.release(Offset(upto)).expect("releases");
            }
            Step::Reopen => {
                // Not synced before: what is only in the buffer was never acknowledged.
                drop(journal);
                journal = open().0;
                let next = journal.next_offset().0;
                camera.film().belief.appended.retain(|(offset, _)| *offset < next);
            }
        }
        camera.film().belief.acknowledged = journal.durable().0;
        if camera.plant == Plant::AckBeforeSync {
            camera.film().belief.acknowledged = journal.next_offset().0;
        }
    }
}

fn append(
    journal: &mut Journal<Camera>,
    camera: &Camera,
    seqs: &mut [u64; 8],
    class: u8,
    bytes: Vec<u8>,
    urgent: bool,
) {
    let seq = seqs[usize::from(class)];
    let payload = Payload { class, seq, bytes };
    camera.film().belief.in_flight = Some(payload.clone());
    let appended = journal.append(Key { class, epoch: 1, seq }, &payload.bytes, urgent);
    camera.film().belief.in_flight = None;
    match appended {
        Ok(offset) => {
            seqs[usize::from(class)] += 1;
            camera.film().belief.appended.push((offset.0, payload));
        }
        Err(error) => assert!(error.is_full(), "{error}"),
    }
}

/// Which pieces survive: all sets of few pieces; of many each prefix, each single one missing or alone, and some by chance.
fn choices(pieces: usize, random: &mut Random) -> Vec<Vec<bool>> {
    if pieces <= 4 {
        return (0..1_usize << pieces).map(|set| (0..pieces).map(|piece| set >> piece & 1 == 1).collect()).collect();
    }
    let mut choices = Vec::new();
    for at in 0..pieces.min(24) {
        choices.push((0..pieces).map(|piece| piece < at).collect());
        choices.push((0..pieces).map(|piece| piece != at).collect());
        choices.push((0..pieces).map(|piece| piece == at).collect());
    }
    choices.push(vec![true; pieces]);
    choices.extend((0..16).map(|_| (0..pieces).map(|_| random.below(2) == 0).collect()));
    choices
}

fn read_all(journal: &Journal<Camera>) -> Vec<Entry> {
    let mut reader = journal.reader(Offset(0));
    std::iter::from_fn(|| reader.next().expect("reads")).collect()
}

fn decode_gaps(bytes: &[u8]) -> Vec<RangeInclusive<u64>> {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    bytes.chunks_exact(16).map(|pair| number(&pair[..8])..=number(&pair[8..])).collect()
}

/// Pseudo-random numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}
