//! How an agent and its aggregator talk: what is sent, what is taken, what may be released.

use kilter_journal::Offset;
use kilter_types::Clock as _;
use kilter_wire::Down;
use kilter_wire::frame::{self, Kind};

use super::life::BATCH_BYTES;
use super::{Agent, Context, Event};
use crate::fleet::truth::{Broken, broken, named};
use crate::fleet::{CREDIT_BYTES, Plant};

impl Agent {
    /// A link can be tried.
    pub(crate) fn connect(&mut self, reachable: bool, world: &mut Context) -> Result<(), Broken> {
        let now = self.clock.monotonic();
        let Some(run) = self.run.as_mut().filter(|run| !run.connected) else { return Ok(()) };
        if !reachable {
            world.push_in(self.backoff.delay_us(), Event::Connect(self.slot, self.boot));
            return Ok(());
        }
        self.backoff.reset();
        (self.rebound, self.greeted) = (false, false);
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
                // Not our server: it is left unread, as the real shell does.
                Err(_) if self.astray => world.garbage += 1,
                Err(error) => return broken("D1", format!("agent {} can't read a message: {error}", self.index)),
            }
        }
        self.pump(world)
    }

    /// The session's timer.
    pub(crate) fn wake(&mut self, world: &mut Context) -> Result<(), Broken> {
        let now = self.clock.monotonic();
        let Some(run) = self.run.as_mut().filter(|run| run.wake_us == world.now_us()) else { return Ok(()) };
        run.wake_us = u64::MAX;
        if run.session.poll_timeout().is_some_and(|due| due > now) {
            // What it was set for has come to pass.
            self.wake_later(world);
            return Ok(());
        }
        run.session.handle_timeout(now);
        if run.connected && run.session.is_stalled(now) {
            self.disconnect(world);
        }
        self.pump(world)
    }

    /// Sends what may be sent, releases what may go (D4), and asks to be woken.
    pub(super) fn pump(&mut self, world: &mut Context) -> Result<(), Broken> {
        let (now, index, slot) = (self.clock.monotonic(), self.index, self.slot);
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
            self.sync_in(1_000, world);
        }
        let Some(run) = &mut self.run else { return Ok(()) };
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
        self.wake_later(world);
        Ok(())
    }

    /// The session says when it wants to be woken next.
    fn wake_later(&mut self, world: &mut Context) {
        let Some(run) = &mut self.run else { return };
        let due_us = run.session.poll_timeout().map(|due| self.clock.world_us_at(due).max(world.now_us() + 1_000));
        if let Some(due_us) = due_us.filter(|due_us| run.connected && *due_us < run.wake_us) {
            run.wake_us = due_us;
            world.schedule.push(due_us, Event::Wake(self.slot, self.boot));
        }
    }
}

/// The credit, and beyond it what alarms may take: two spare batches and a last one within the window.
const MOST_IN_FLIGHT_BYTES: u64 = CREDIT_BYTES as u64 + 6 * BATCH_BYTES as u64;
