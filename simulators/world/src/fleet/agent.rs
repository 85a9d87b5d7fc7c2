//! One agent: the production journal on a disk that forgets, the production session over a link that lies.
//!
//! The shell around them does what `kilter-agent` does: appends, syncs in groups, tells losses as gap records, hands the session
//! what is durable, releases what it says is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kilter_journal::model::{Disk, MemoryFilesystem};
use kilter_journal::{Config, Drop, FsyncPolicy, Journal, JournalError, Key as Outer, Offset, Reason};
use kilter_types::{
    Class, Clock as _, DeviceId, Epoch, Gap, GapReason, Micros, Opening, Payload, Predecessor, Record, Timeline,
};
use kilter_uplink::{Backoff, Identity, JournalSpool, Key, Session, SessionConfig};
use kilter_wire::frame::{self, Kind};
use kilter_wire::up::MAX_RECORD_BYTES;
use kilter_wire::{Down, encode_record};

use super::record::{name, payload, point};
use super::truth::{Broken, Ranges, broken, named};
use super::{Context, Event, Plant};
use crate::{Link, LinkConfig, Random, VirtualClock};

/// An agent, running or not.
pub(crate) struct Agent {
    /// Place in the fleet; a copy of an agent has one of its own.
    pub(crate) slot: usize,
    /// The device that it says it is.
    pub(crate) index: usize,
    pub(crate) device: DeviceId,
    pub(crate) up: Link,
    pub(crate) down: Link,
    pub(crate) clock: VirtualClock,
    /// Counts starts: events for an earlier one mean nothing.
    pub(crate) boot: u64,
    pub(crate) run: Option<Run>,
    /// Its address has changed under its connection, which is silent from then on.
    pub(crate) rebound: bool,
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

/// Whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Agent,
    Node,
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
    wake_us: u64,
}

/// How an agent ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// Its process is killed.
    Kill,
    /// Its power is cut.
    PowerCut,
    /// Its power is cut and an older image of its disk is put back.
    OlderImage,
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
            device: DeviceId(name(&format!("edge-{index}"))),
            up: Link::new(link.clone(), Random::new(seed, stream)),
            down: Link::new(link.clone(), Random::new(seed, stream + 1)),
            clock,
            boot: 0,
            run: None,
            rebound: false,
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

    /// A second agent with the same identity, from an image of this one's disk taken now.
    pub(crate) fn copy(&self, slot: usize, seed: u64, link: &LinkConfig) -> Self {
        let mut copy = Self::new(slot, seed, link, self.config.max_bytes, self.clock.clone());
        copy.disk = MemoryFilesystem::from_disk(self.disk.disk());
        copy.disk.crash(seed);
        copy.disk.set_capacity_bytes(None);
        (copy.index, copy.device, copy.told) = (self.index, self.device.clone(), self.told.clone());
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

    /// Opens the journal, checks that nothing acknowledged is missing (J1, J2), begins an epoch and tries to connect.
    pub(crate) fn start(&mut self, world: &mut Context) -> Result<(), Broken> {
        self.boot += 1;
        let opened = Journal::open(self.disk.clone(), Path::new(DIR), self.config.clone(), self.random.next_u64());
        let (mut journal, recovery) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.failed(&error, "J2", world),
        };
        if recovery.gaps.iter().any(|gap| gap.reason == Reason::Corrupt) || !recovery.quarantined.is_empty() {
            return broken("J2", format!("agent {} takes a crash for damage: {recovery:?}", self.index));
        }
        let mut lost = Vec::new();
        for dropped in journal.take_dropped() {
            lost.extend(gap_of(&dropped));
        }
        lost.iter().for_each(|gap| self.told.add(gap));
        let (mut found, mut epochs, mut alarms) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut reader = journal.reader(journal.first_offset());
        while let Some(entry) = reader.next().or_else(|error| broken("J2", error.to_string()))? {
            let Some(class) = Class::from_u8(entry.key.class) else { continue };
            let key = Key { epoch: Epoch(entry.key.epoch), class, seq: entry.key.seq };
            if !epochs.contains(&key.epoch) {
                epochs.push(key.epoch);
            }
            if class == Class::Alarm {
                alarms.push(entry.offset.0);
            }
            found.insert(entry.offset.0, key);
        }
        self.check_kept(&found, world)?;
        if self.node.is_some() {
            // What of its records did not become durable is gone: it counts anew, as a node does that lost its line.
            self.start_node();
        }
        let epoch = Epoch(self.random.next_u64());
        let predecessor = epochs.last().map(|epoch| Predecessor {
            epoch: *epoch,
            last: recovery
                .last
                .iter()
                .filter(|(known, _, _)| *known == epoch.0)
                .filter_map(|(_, class, seq)| Some((Class::from_u8(*class)?, *seq)))
                .collect(),
        });
        let identity = Identity { device: self.device.clone(), software: name("world") };
        let (first, durable) = (journal.first_offset().0, journal.durable().0);
        let mut session = Session::new(session_config(), identity, epoch, epochs, first, durable);
        alarms.into_iter().for_each(|offset| session.handle_urgent(offset));
        let spool = JournalSpool::open(&self.disk, Path::new(DIR)).or_else(|error| broken("J2", error.to_string()))?;
        let opening = Opening { journal: journal.id(), predecessor, version: name("world") };
        self.held = found;
        self.acknowledged_to = durable;
        for key in self.held.values() {
            world.truth.acknowledge(self.index, *key);
        }
        let (connected, wake_us) = (false, u64::MAX);
        self.run = Some(Run { journal, session, connected, spool, epoch, seqs: [0; 9], lost, full: false, wake_us });
        self.put(Payload::Opening(opening), world)?;
        self.sync_later(world);
        let delay_us = self.random.below(2_000_000);
        world.push_in(delay_us, Event::Connect(self.slot, self.boot));
        Ok(())
    }

    /// The process or the power is gone.
    pub(crate) fn end(&mut self, end: End, world: &mut Context) {
        self.run = None;
        self.up.cut();
        self.down.cut();
        match end {
            End::Kill => self.disk.kill(),
            End::PowerCut => {
                self.disk.crash(self.random.next_u64());
                self.clock.reboot();
            }
            End::OlderImage => {
                let Some(image) = self.image.take() else { return self.disk.kill() };
                // An image is taken as a power cut would leave it.
                let older = MemoryFilesystem::from_disk(image);
                older.crash(self.random.next_u64());
                self.disk = older;
                world.older_images += 1;
                self.held.values().for_each(|key| world.truth.void(self.index, *key));
                self.held.clear();
                self.clock.reboot();
            }
        }
    }

    /// Keeps an image of the disk for later.
    pub(crate) fn take_image(&mut self) {
        self.image = Some(self.disk.disk());
    }

    /// The node behind the agent starts, and counts from nothing.
    pub(crate) fn start_node(&mut self) {
        self.node = Some(Node { epoch: Epoch(self.random.next_u64()), seqs: [0; 9] });
    }

    /// The monitors say something: a handful of records at once, the node's among them.
    pub(crate) fn produce(&mut self, world: &mut Context) -> Result<(), Broken> {
        for _ in 0..self.random.between(1, 6) {
            if self.run.is_none() {
                break;
            }
            self.said += 1;
            let payload = payload(&mut self.random, self.said);
            let nodes = self.node.is_some() && self.random.below(3) == 0;
            self.put_from(if nodes { Origin::Node } else { Origin::Agent }, payload, world)?;
        }
        self.sync_later(world);
        self.pump(world)
    }

    /// Gap records, then the group's sync.
    pub(crate) fn sync(&mut self, world: &mut Context) -> Result<(), Broken> {
        let now_us = i64::try_from(self.clock.monotonic().0).unwrap_or(i64::MAX);
        while let Some(gap) = self.run.as_mut().and_then(|run| run.lost.pop()) {
            if !self.put(Payload::Gap(gap), world)? {
                break;
            }
        }
        let Some(run) = &mut self.run else { return Ok(()) };
        if run.lost.is_empty() {
            run.journal.told();
        }
        if let Err(error) = run.journal.poll_sync(now_us) {
            if !error.is_full() {
                return self.failed(&error, "J1", world);
            }
            run.full = true;
        }
        self.acknowledge(world);
        self.sync_later(world);
        self.pump(world)
    }

    /// A link can be tried.
    pub(crate) fn connect(&mut self, reachable: bool, world: &mut Context) -> Result<(), Broken> {
        let now = self.clock.monotonic();
        let Some(run) = self.run.as_mut().filter(|run| !run.connected) else { return Ok(()) };
        if !reachable {
            world.push_in(self.backoff.delay_us(), Event::Connect(self.slot, self.boot));
            return Ok(());
        }
        self.backoff.reset();
        self.rebound = false;
        run.connected = true;
        run.session.handle_connected(now);
        self.pump(world)
    }

    /// The link is gone; another is tried after a while.
    pub(crate) fn disconnect(&mut self, world: &mut Context) {
        self.up.cut();
        self.down.cut();
        if let Some(run) = self.run.as_mut().filter(|run| run.connected) {
            run.connected = false;
            run.session.handle_disconnected();
            world.push_in(self.backoff.delay_us(), Event::Connect(self.slot, self.boot));
        }
    }

    /// Takes what has come down.
    pub(crate) fn receive(&mut self, world: &mut Context) -> Result<(), Broken> {
        let now = self.clock.monotonic();
        while let Some(bytes) = self.down.receive(world.now_us()) {
            let Some(run) = self.run.as_mut().filter(|run| run.connected) else { continue };
            match frame::decode::<Down<'_>>(Kind::Down, &bytes) {
                Ok(Down::Ack(mut ack)) => {
                    if world.plant == Some(Plant::ReleaseOnAccepted) {
                        ack.classes.iter_mut().for_each(|class| class.committed_to = class.accepted_to);
                    }
                    run.session.handle_ack(&ack, now);
                }
                Ok(Down::TimeReply(reply)) => drop(run.session.handle_time_reply(&reply, now)),
                Ok(Down::Welcome(welcome)) => run.session.handle_welcome(&welcome),
                Ok(Down::Refetch(refetch)) => run.session.handle_refetch(refetch),
                Ok(_) => {}
                Err(error) => return broken("D1", format!("agent {} can't read a message: {error}", self.index)),
            }
        }
        self.pump(world)
    }

    /// The session's timer.
    pub(crate) fn wake(&mut self, world: &mut Context) -> Result<(), Broken> {
        let now = self.clock.monotonic();
        if let Some(run) = &mut self.run {
            run.wake_us = u64::MAX;
            run.session.handle_timeout(now);
            if run.connected && run.session.is_stalled(now) {
                self.disconnect(world);
            }
        }
        self.pump(world)
    }

    /// What the journal's oldest record is and whether the lake has it, for a person who looks for the reason.
    pub(crate) fn waits_for(&self, world: &Context) -> String {
        let oldest = self.held.values().next().map_or("nothing".into(), |key| {
            let place = if world.lake.accounts_for(self.index, *key) { "in the lake" } else { "not in the lake" };
            format!("{}, {place}", named(*key))
        });
        format!("agent {} holds {} entries, first {oldest}", self.index, self.held.len())
    }

    /// Sends what may be sent, releases what may go (D4), and asks to be woken.
    fn pump(&mut self, world: &mut Context) -> Result<(), Broken> {
        let (now, index, slot, boot) = (self.clock.monotonic(), self.index, self.slot, self.boot);
        let Some(run) = &mut self.run else { return Ok(()) };
        while run.connected {
            let frame = run.session.poll_transmit(&mut run.spool, now).or_else(|e| broken("D1", e.to_string()))?;
            let Some(frame) = frame else { break };
            for at_us in self.up.send(world.now_us(), &frame) {
                world.schedule.push(at_us, Event::Up(slot));
            }
        }
        let gone = run.session.take_gone();
        if !gone.is_empty() {
            run.lost.extend(gone);
            world.push_in(1_000, Event::Sync(slot, boot));
        }
        let bytes = run.session.status(now).in_flight_bytes;
        if bytes > MOST_IN_FLIGHT_BYTES {
            return broken("D3", format!("agent {index} has {bytes} bytes in flight"));
        }
        while let Some(upto) = run.session.poll_release(&mut run.spool).or_else(|e| broken("D4", e.to_string()))? {
            while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() < upto) {
                let key = entry.remove();
                if !world.lake.has_had(index, key) && !self.told.contains(key) {
                    return broken("D4", format!("agent {index} released {} before it was committed", named(key)));
                }
            }
            if let Err(error) = run.journal.release(Offset(upto)) {
                if error.is_full() {
                    continue;
                }
                return self.failed(&error, "J1", world);
            }
        }
        let due_us = run.session.poll_timeout().map(|due| self.clock.world_us_at(due).max(world.now_us() + 1_000));
        if let Some(due_us) = due_us.filter(|due_us| run.connected && *due_us < run.wake_us) {
            run.wake_us = due_us;
            world.schedule.push(due_us, Event::Wake(slot, boot));
        }
        Ok(())
    }

    /// One record into the journal; `false` if it did not take it and the loss is still to be told.
    fn put(&mut self, payload: Payload, world: &mut Context) -> Result<bool, Broken> {
        self.put_from(Origin::Agent, payload, world)
    }

    fn put_from(&mut self, origin: Origin, payload: Payload, world: &mut Context) -> Result<bool, Broken> {
        let (now, wall) = (self.clock.monotonic(), self.clock.wall());
        let uncertainty = if wall.is_some() { self.clock.uncertainty() } else { Micros(0) };
        let Some(run) = &mut self.run else { return Ok(false) };
        let class = payload.class();
        let (epoch, seqs) = match &mut self.node {
            Some(node) if origin == Origin::Node => (node.epoch, &mut node.seqs),
            Some(_) | None => (run.epoch, &mut run.seqs),
        };
        let seq = seqs[class as usize];
        let gap = if let Payload::Gap(gap) = &payload { Some(*gap) } else { None };
        let (point, timeline) = (point(self.index), Timeline::Device);
        let record = Record { point, epoch, seq, monotonic: now, timeline, wall, uncertainty, payload };
        let mut room = [0; MAX_RECORD_BYTES + 1];
        let bytes = encode_record(&record, &mut room).or_else(|error| broken("T1", error.to_string()))?;
        let (key, urgent) = (Key { epoch, class, seq }, class == Class::Alarm);
        let outer = Outer { class: class as u8, epoch: epoch.0, seq };
        match run.journal.append(outer, bytes, urgent) {
            Ok(offset) => {
                seqs[class as usize] += 1;
                run.full = false;
                world.truth.make(self.index, key, bytes, world.schedule.now_us());
                self.held.insert(offset.0, key);
                self.take_dropped();
                if urgent {
                    self.acknowledge(world);
                    if let Some(run) = &mut self.run {
                        run.session.handle_urgent(offset.0);
                    }
                }
                Ok(true)
            }
            // Nothing was acknowledged and no seq is used up: the monitor's shell says it again or gives it up.
            Err(error) if error.is_full() => {
                world.full += 1;
                run.lost.extend(gap);
                run.full = true;
                self.take_dropped();
                Ok(false)
            }
            Err(error @ JournalError::TooLarge { .. }) => broken("J1", error.to_string()),
            Err(error) => {
                // The sync that the journal died of may have made it durable all the same.
                world.truth.make(self.index, key, bytes, world.schedule.now_us());
                self.failed(&error, "J1", world).map(|()| false)
            }
        }
    }

    /// A full disk is waited out; a failed sync ends the journal, which is opened again under a new epoch; all else must not be.
    fn failed(&mut self, error: &JournalError, invariant: &'static str, world: &mut Context) -> Result<(), Broken> {
        if !error.is_full() && !self.failing {
            return broken(invariant, format!("agent {}: {error}", self.index));
        }
        world.reopened += u64::from(!error.is_full());
        self.failing = false;
        self.run = None;
        self.up.cut();
        self.down.cut();
        world.push_in(10_000_000, Event::Start(self.slot));
        Ok(())
    }

    fn take_dropped(&mut self) {
        let Some(run) = &mut self.run else { return };
        for gap in run.journal.take_dropped().iter().filter_map(gap_of) {
            self.told.add(&gap);
            run.lost.push(gap);
        }
    }

    /// The journal names what is durable; from here on it is promised.
    fn acknowledge(&mut self, world: &mut Context) {
        let Some(run) = &mut self.run else { return };
        let early = world.plant == Some(Plant::AgentAcksBeforeSync);
        let upto = if early { run.journal.next_offset() } else { run.journal.durable() };
        for key in self.held.range(self.acknowledged_to..upto.0.max(self.acknowledged_to)).map(|(_, key)| *key) {
            world.truth.acknowledge(self.index, key);
        }
        self.acknowledged_to = self.acknowledged_to.max(upto.0);
        run.session.handle_record_available(run.journal.durable().0);
    }

    fn sync_later(&mut self, world: &mut Context) {
        if world.plant == Some(Plant::AgentAcksBeforeSync) {
            self.acknowledge(world);
        }
        let Some(run) = &self.run else { return };
        if run.journal.sync_due_us().is_some() || !run.lost.is_empty() {
            // A full journal is tried again now and then, as a full disk is.
            let longest_us = if run.full { 10_000_000 } else { 250_000 };
            world.push_in(self.random.between(1_000, longest_us), Event::Sync(self.slot, self.boot));
        }
    }

    /// J1: what was acknowledged is found again, unless it was dropped and told, or released because the lake has it.
    fn check_kept(&self, found: &BTreeMap<u64, Key>, world: &Context) -> Result<(), Broken> {
        let keys: BTreeSet<Key> = found.values().copied().collect();
        for (_, key) in self.held.range(..self.acknowledged_to) {
            if !keys.contains(key) && !self.told.contains(*key) && !world.lake.has_had(self.index, *key) {
                return broken("J1", format!("{} of agent {} was acknowledged and is gone", named(*key), self.index));
            }
        }
        Ok(())
    }
}

fn gap_of(dropped: &kilter_journal::Dropped) -> Option<Gap> {
    let reason = match dropped.reason {
        Reason::Evicted | Reason::Released => GapReason::Evicted,
        Reason::Corrupt => GapReason::Quarantined,
    };
    let (first_seq, last_seq) = (dropped.first_seq, dropped.last_seq);
    Some(Gap { class: Class::from_u8(dropped.class)?, epoch: Epoch(dropped.epoch), first_seq, last_seq, reason })
}

fn session_config() -> SessionConfig {
    // Asking for the time once in five minutes keeps a day affordable.
    let time_interval_us = 300_000_000;
    SessionConfig {
        batch_bytes: BATCH_BYTES,
        max_in_flight: MAX_IN_FLIGHT,
        time_interval_us,
        ..SessionConfig::default()
    }
}

const DIR: &str = "/agent/journal";
pub(crate) const BATCH_BYTES: usize = 8 * 1024;
const MAX_IN_FLIGHT: usize = 4;
/// The credit, and beyond it what alarms may take: two spare batches and a last one within the window.
const MOST_IN_FLIGHT_BYTES: u64 = super::CREDIT_BYTES as u64 + 6 * BATCH_BYTES as u64;
