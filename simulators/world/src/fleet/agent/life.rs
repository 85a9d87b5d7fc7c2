//! An agent's starts and ends, and what must be there after each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Journal, JournalError, Reason};
use kilter_types::{Class, Epoch, Gap, GapReason, Opening, Payload, Predecessor};
use kilter_uplink::{Identity, JournalSpool, Key, Session, SessionConfig};

use super::{Agent, Context, Event, Node, Run};
use crate::fleet::record::name;
use crate::fleet::truth::{Broken, broken, named};

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
        let mut session = Session::new(session_config(self.slot), identity, epoch, epochs, first, durable);
        alarms.into_iter().for_each(|offset| session.handle_urgent(offset));
        let spool = JournalSpool::open(&self.disk, Path::new(DIR)).or_else(|error| broken("J2", error.to_string()))?;
        let opening = Opening { journal: journal.id(), predecessor, version: name("world") };
        self.held = found;
        self.acknowledged_to = durable;
        for key in self.held.values() {
            world.truth.acknowledge(self.index, *key);
        }
        let (connected, full, wake_us, sync_us) = (false, false, u64::MAX, u64::MAX);
        let seqs = [0; Class::ALL.len()];
        self.run = Some(Run { journal, session, connected, spool, epoch, seqs, lost, full, wake_us, sync_us });
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

    /// The node behind the agent starts, and counts from nothing.
    pub(crate) fn start_node(&mut self) {
        self.node = Some(Node { epoch: Epoch(self.random.next_u64()), seqs: [0; Class::ALL.len()] });
    }

    /// A full disk is waited out; a failed sync ends the journal, which is opened again under a new epoch; all else must not be.
    pub(super) fn failed(
        &mut self,
        error: &JournalError,
        invariant: &'static str,
        world: &mut Context,
    ) -> Result<(), Broken> {
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

pub(super) fn gap_of(dropped: &kilter_journal::Dropped) -> Option<Gap> {
    let reason = match dropped.reason {
        Reason::Evicted | Reason::Released => GapReason::Evicted,
        Reason::Corrupt => GapReason::Quarantined,
    };
    let (first_seq, last_seq) = (dropped.first_seq, dropped.last_seq);
    Some(Gap { class: Class::from_u8(dropped.class)?, epoch: Epoch(dropped.epoch), first_seq, last_seq, reason })
}

/// Every eighth agent introduces itself as often as a real one. That would take most of a quiet day: the others do so, and all ask for the
/// time, so seldom that a day stays affordable.
fn session_config(slot: usize) -> SessionConfig {
    let real = SessionConfig::default();
    SessionConfig {
        batch_bytes: BATCH_BYTES,
        max_in_flight: MAX_IN_FLIGHT,
        hello_interval_us: if slot.is_multiple_of(8) { real.hello_interval_us } else { 600_000_000 },
        time_interval_us: 300_000_000,
        ..real
    }
}

const DIR: &str = "/agent/journal";
pub(crate) const BATCH_BYTES: usize = 8 * 1024;
const MAX_IN_FLIGHT: usize = 4;
