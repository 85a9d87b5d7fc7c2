//! What an agent says, and how it becomes durable in its journal.

use kilter_journal::{JournalError, Key as Outer};
use kilter_types::{Class, Clock as _, Micros, Payload, Record, Timeline};
use kilter_uplink::Key;
use kilter_wire::encode_record;

use super::life::gap_of;
use super::{Agent, Context, Event};
use crate::fleet::Plant;
use crate::fleet::record::payload;
use crate::fleet::truth::{Broken, broken};

/// Whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Agent,
    Node,
}

impl Agent {
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
        let Some(run) = self.run.as_mut().filter(|run| run.sync_us == world.now_us()) else { return Ok(()) };
        run.sync_us = u64::MAX;
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

    /// One record into the journal; `false` if it did not take it and the loss is still to be told.
    pub(super) fn put(&mut self, payload: Payload, world: &mut Context) -> Result<bool, Broken> {
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
        let (point, timeline) = (self.point.clone(), Timeline::Device);
        let record = Record { point, epoch, seq, monotonic: now, timeline, wall, uncertainty, payload };
        let bytes = encode_record(&record, &mut *world.room).or_else(|error| broken("T1", error.to_string()))?;
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

    pub(super) fn sync_later(&mut self, world: &mut Context) {
        if world.plant == Some(Plant::AgentAcksBeforeSync) {
            self.acknowledge(world);
        }
        let Some(run) = &self.run else { return };
        if run.journal.sync_due_us().is_some() || !run.lost.is_empty() {
            // A full journal is tried again now and then, as a full disk is.
            let longest_us = if run.full { 10_000_000 } else { 250_000 };
            let delay_us = self.random.between(1_000, longest_us);
            self.sync_in(delay_us, world);
        }
    }

    /// The next sync comes after so long, if none comes before.
    pub(super) fn sync_in(&mut self, delay_us: u64, world: &mut Context) {
        let at_us = world.now_us() + delay_us;
        let Some(run) = self.run.as_mut().filter(|run| at_us < run.sync_us) else { return };
        run.sync_us = at_us;
        world.schedule.push(at_us, Event::Sync(self.slot, self.boot));
    }
}
