//! One agent: the production journal on a disk that forgets, the production session over a link that lies.
//!
//! The shell around them does what `kilter-agent` does: appends, syncs in groups, tells losses as gap records, hands the session
//! what is durable, releases what it says is committed.

mod life;
mod talk;
mod write;

use std::collections::BTreeMap;

use kilter_journal::model::{Disk, MemoryFilesystem};
use kilter_journal::{Config, Drop, FsyncPolicy, Journal};
use kilter_types::{Class, DeviceId, Epoch, Gap, Point};
use kilter_uplink::{Backoff, JournalSpool, Key, Session};

pub(crate) use life::{BATCH_BYTES, End};

use super::record::{device, point};
use super::truth::{Ranges, named};
use super::{Context, Event};
use crate::{Link, LinkConfig, Random, VirtualClock};

/// An agent, running or not.
pub(crate) struct Agent {
    /// Place in the fleet; a copy of an agent has one of its own.
    pub(crate) slot: usize,
    /// The device that it says it is.
    pub(crate) index: usize,
    pub(crate) device: DeviceId,
    /// Whose records it makes.
    point: Point,
    pub(crate) up: Link,
    pub(crate) down: Link,
    pub(crate) clock: VirtualClock,
    /// Counts starts: events for an earlier one mean nothing.
    pub(crate) boot: u64,
    pub(crate) run: Option<Run>,
    /// Its address has changed under its connection, which is silent from then on.
    pub(crate) rebound: bool,
    /// Something that is not our server answers its network.
    pub(crate) portal: bool,
    /// What it is connected to is that.
    pub(crate) astray: bool,
    /// Its introduction has come through this connection.
    pub(crate) greeted: bool,
    disk: MemoryFilesystem,
    image: Option<Disk>,
    /// A sync was made to fail, so its journal may die.
    failing: bool,
    config: Config,
    random: Random,
    backoff: Backoff,
    /// Entries of the journal that are not released, by offset.
    held: BTreeMap<u64, Key>,
    /// Everything below was acknowledged.
    acknowledged_to: u64,
    /// Losses that the journal has told.
    told: Ranges,
    said: u64,
    /// A node on a line behind the agent, whose records keep their own epoch.
    node: Option<Node>,
}

/// How far a node has counted since it started.
#[derive(Clone, Debug)]
struct Node {
    epoch: Epoch,
    seqs: [u64; Class::ALL.len()],
}

/// What a restart begins anew.
pub(crate) struct Run {
    pub(crate) journal: Journal<MemoryFilesystem>,
    pub(crate) session: Session,
    pub(crate) connected: bool,
    spool: JournalSpool<MemoryFilesystem>,
    epoch: Epoch,
    seqs: [u64; Class::ALL.len()],
    lost: Vec<Gap>,
    full: bool,
    /// When the timer rings and when the next sync is due: events for other instants mean nothing.
    wake_us: u64,
    sync_us: u64,
}

impl Agent {
    pub(crate) fn new(slot: usize, seed: u64, link: &LinkConfig, journal_bytes: u64, clock: VirtualClock) -> Self {
        let stream = 1_000 + slot as u64 * 10;
        let index = slot;
        let order = vec![Class::Clip as u8, Class::Spectrum as u8, Class::Feature as u8, Class::Score as u8];
        let config = Config {
            segment_bytes: 4096,
            max_bytes: journal_bytes,
            fsync: FsyncPolicy::Group { interval_us: 200_000 },
            reserve_bytes: journal_bytes / 4,
            drop_policy: Drop::OldestOfClass(order),
            // Some keep what is committed: nothing else may come of it.
            keep_bytes: if slot.is_multiple_of(2) { journal_bytes / 4 } else { 0 },
        };
        Self {
            slot,
            index,
            device: device(index),
            point: point(index),
            up: Link::new(link.clone(), Random::new(seed, stream)),
            down: Link::new(link.clone(), Random::new(seed, stream + 1)),
            clock,
            boot: 0,
            run: None,
            rebound: false,
            portal: false,
            astray: false,
            greeted: false,
            disk: MemoryFilesystem::new(),
            image: None,
            failing: false,
            config,
            random: Random::new(seed, stream + 2),
            backoff: Backoff::new(1_000_000, 60_000_000, seed ^ stream),
            held: BTreeMap::new(),
            acknowledged_to: 0,
            told: Ranges::default(),
            said: 0,
            node: None,
        }
    }

    /// A second agent with the same identity, from an image of this one's disk taken now. Each ends the other's connection when it has
    /// one itself; this one waits longer before it does.
    pub(crate) fn copy(&self, slot: usize, seed: u64, link: &LinkConfig) -> Self {
        let mut copy = Self::new(slot, seed, link, self.config.max_bytes, self.clock.clone());
        copy.disk = MemoryFilesystem::from_disk(self.disk.disk());
        copy.disk.crash(seed);
        copy.disk.set_capacity_bytes(None);
        copy.backoff = Backoff::new(120_000_000, 240_000_000, seed ^ slot as u64);
        (copy.index, copy.told) = (self.index, self.told.clone());
        (copy.device, copy.point) = (self.device.clone(), self.point.clone());
        copy
    }

    /// Mistakes that only the disk can make.
    pub(crate) fn plant_unlink_before_ledger(&mut self) {
        self.disk.forget_renames_to("ledger");
    }

    /// Others fill the disk, or make room again.
    pub(crate) fn fill_disk(&mut self, full: bool) {
        let used: u64 = self.disk.files().iter().map(|(_, bytes)| *bytes).sum();
        self.disk.set_capacity_bytes(full.then_some(used));
    }

    /// The next sync fails and what it should have made durable is lost.
    pub(crate) fn fail_sync(&mut self) {
        self.failing = true;
        self.disk.fail_syncs(1);
    }

    /// Keeps an image of the disk for later.
    pub(crate) fn take_image(&mut self) {
        self.image = Some(self.disk.disk());
    }

    /// Everything it has made is in the lake, its journal knows, and no loss is left to be told.
    pub(crate) fn is_drained(&self) -> bool {
        self.run.as_ref().is_some_and(|run| {
            let status = run.session.status(kilter_types::Monotonic(0));
            let told = run.lost.is_empty() && run.journal.sync_due_us().is_none();
            told && status.released_to == run.journal.next_offset().0
        })
    }

    /// What the journal's oldest record is and whether the lake has it, for a person who looks for the reason.
    pub(crate) fn waits_for(&self, world: &Context) -> String {
        let oldest = self.held.values().next().map_or("nothing".into(), |key| {
            let place = if world.lake.accounts_for(self.index, *key) { "in the lake" } else { "not in the lake" };
            format!("{}, {place}", named(*key))
        });
        format!("agent {} holds {} entries, first {oldest}", self.index, self.held.len())
    }
}
