//! The delivery session: decides what to send, when to send it again, and what may be deleted. No IO, no clock.
//!
//! Records lie in the spool; the session holds only offsets of what is in flight. Lanes feed a batch, in this order:
//! *urgent* (alarms, ahead of everything), *retry* (timed out), *live* (newer than the connection), *back-fill* (the rest,
//! oldest first). A record is skipped wherever it is known to be accepted or in flight already, so lanes may overlap.
//!
//! A day may have a budget of bytes. Within it everything goes; when it is used up, alarms, events, gaps and reports go on (*brief*), and
//! the rest stays in the journal until the next day, where it is back-fill. What the lake lost and asks for *again* goes when nothing else does.

mod again;
mod config;
mod lanes;
mod poll;

use std::collections::{BTreeSet, VecDeque};

use kilter_types::{Class, Epoch, JournalId, Monotonic};
use kilter_wire::frame::{Kind, OVERHEAD_BYTES};
use kilter_wire::{Ack, TimeReply, Up, Welcome, frame};

use again::Again;
pub use config::{Identity, SessionConfig, Status, Urgency};
use lanes::Flight;

use crate::budget::{Budget, Spent};
use crate::held::Held;
use crate::marks::Marks;
use crate::pack::Packer;
use crate::{Key, Place, TimeExchange, TimeSample};

/// One device's delivery.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    identity: Identity,
    epoch: Epoch,
    held: Held,
    link: Link,
    journal: Option<JournalId>,
    /// Journals that this link has already seen replaced: their accepted marks no longer count.
    retired: Vec<JournalId>,
    marks: Marks,
    credit_bytes: u32,
    flights: VecDeque<Flight>,
    /// Offsets in flight or waiting in `retry`.
    pending: BTreeSet<u64>,
    urgent: VecDeque<u64>,
    retry: VecDeque<Place>,
    live: u64,
    back: u64,
    back_end: u64,
    durable_end: u64,
    release: u64,
    unjournaled: VecDeque<Unjournaled>,
    time: TimeExchange,
    progress_at: Monotonic,
    timeouts: u32,
    /// The last look ended before a record was found that is not accepted.
    scanning: bool,
    /// Before then live records wait for company.
    live_due: Monotonic,
    /// The last look found some that do.
    in_company: bool,
    /// What the aggregator reads, as it said on this link.
    peer_version: u16,
    packer: Packer,
    /// Of the frame given last.
    urgency: Urgency,
    /// Before then nothing is back-filled.
    back_due: Monotonic,
    /// The last look found something that waits for that.
    paced: bool,
    budget: Budget,
    /// The day's budget is used up.
    thin: bool,
    again: Again,
    /// While it is: records below were looked at for what goes on.
    brief: u64,
    records: Vec<u8>,
    record: Vec<u8>,
    counters: Counters,
}

impl Session {
    /// A session over a spool whose first record lies at `first` or above, whose durable end is `durable_end` and which holds the epochs
    /// `held`, oldest first; `epoch` is the open one. Others may be of nodes whose records lie between the device's own.
    pub fn new(
        config: SessionConfig,
        identity: Identity,
        epoch: Epoch,
        held: Vec<Epoch>,
        first: u64,
        durable_end: u64,
    ) -> Self {
        let budget = Budget::new(config.daily_bytes, Spent::default());
        Self {
            time: TimeExchange::new(config.time_interval_us),
            records: vec![0; config.batch_bytes],
            config,
            identity,
            epoch,
            held: Held::new(epoch, held, durable_end),
            link: Link::Down,
            journal: None,
            retired: Vec::new(),
            marks: Marks::default(),
            credit_bytes: 0,
            flights: VecDeque::new(),
            pending: BTreeSet::new(),
            urgent: VecDeque::new(),
            retry: VecDeque::new(),
            live: durable_end,
            back: first,
            back_end: durable_end,
            durable_end,
            release: first,
            unjournaled: VecDeque::new(),
            progress_at: Monotonic::default(),
            timeouts: 0,
            scanning: false,
            live_due: Monotonic::default(),
            in_company: false,
            peer_version: 1,
            packer: Packer::new(),
            urgency: Urgency::Talk,
            back_due: Monotonic::default(),
            paced: false,
            budget,
            thin: false,
            again: Again::default(),
            brief: first,
            record: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// A link is up: introduce the node, then go on with what is not known to be accepted.
    pub fn handle_connected(&mut self, now: Monotonic) {
        self.link = Link::Greeting;
        self.peer_version = 1;
        self.retired.clear();
        self.counters.hello_due = now;
        self.progress_at = now;
        self.timeouts = 0;
        self.time.handle_connected(now);
        self.start_over(self.floor());
    }

    /// The link is gone; what was in flight counts as not sent.
    pub fn handle_disconnected(&mut self) {
        self.link = Link::Down;
        self.start_over(self.floor());
    }

    /// Records below `durable_end` can be read.
    pub fn handle_record_available(&mut self, durable_end: u64) {
        self.durable_end = self.durable_end.max(durable_end);
    }

    /// The record at `offset` must not wait behind others.
    pub fn handle_urgent(&mut self, offset: u64) {
        if self.urgent.len() < MAX_URGENT {
            self.urgent.push_back(offset);
        }
    }

    /// The journal was opened again under another epoch.
    pub fn handle_epoch(&mut self, epoch: Epoch, now: Monotonic) {
        self.epoch = epoch;
        self.held.begin(epoch, self.durable_end);
        self.counters.hello_due = now;
    }

    /// A record that could not be journalled is kept in memory until it is committed. When there are too many, the oldest goes: its key is
    /// returned and its loss is to be recorded.
    pub fn handle_unjournaled(&mut self, key: Key, bytes: &[u8]) -> Option<Key> {
        self.unjournaled.push_back(Unjournaled { key, bytes: bytes.to_vec(), sent: None });
        if self.unjournaled.len() <= self.config.max_unjournaled {
            return None;
        }
        let victim = self.unjournaled.iter().position(|kept| kept.key.class != Class::Alarm).unwrap_or(0);
        self.unjournaled.remove(victim).map(|kept| kept.key)
    }

    /// Takes an ack; taking it twice or late changes nothing (D1).
    pub fn handle_ack(&mut self, ack: &Ack, now: Monotonic) {
        self.link = if self.link == Link::Down { Link::Down } else { Link::Up };
        self.again.handle_ack(ack.epoch);
        if self.journal != Some(ack.journal_id) {
            if self.retired.contains(&ack.journal_id) {
                ack.classes.iter().for_each(|class| self.marks.apply_committed(ack.epoch, class));
                self.settle_flights();
                return;
            }
            if let Some(lost) = self.journal.replace(ack.journal_id) {
                self.retired.push(lost);
                self.marks.forget_accepted();
                self.unjournaled.iter_mut().for_each(|kept| kept.sent = None);
                self.start_over(self.release);
            }
        }
        self.credit_bytes = ack.credit_bytes;
        for class in &ack.classes {
            self.marks.apply(ack.epoch, class);
        }
        if self.settle_flights() {
            self.progress_at = now;
            self.timeouts = 0;
        }
        let marks = &self.marks;
        self.unjournaled.retain(|kept| !marks.is_committed(kept.key));
    }

    /// The aggregator says what it can read.
    pub fn handle_welcome(&mut self, welcome: &Welcome) {
        self.peer_version = welcome.wire_version;
    }

    /// What waits for company waits no longer.
    pub fn handle_flush(&mut self) {
        self.live_due = Monotonic::default();
    }

    /// What of the day's budget was spent before a restart, as [`Status::spent`] said it.
    pub fn resume_budget(&mut self, spent: Spent) {
        self.budget = Budget::new(self.config.daily_bytes, spent);
        self.look_at_budget();
    }

    /// Which day it is (UTC), by the best clock that there is. Another day refills the budget.
    pub fn handle_day(&mut self, day: i64) {
        self.budget.day(day);
        self.look_at_budget();
    }

    /// The shell has sent so many bytes that are not the session's.
    pub fn handle_sent(&mut self, bytes: usize) {
        self.spend(bytes);
    }

    /// Takes the answer to a time request.
    pub fn handle_time_reply(&mut self, reply: &TimeReply, now: Monotonic) -> Option<TimeSample> {
        self.time.handle_reply(reply, now)
    }

    /// Puts batches that were not accepted in time back into the queue.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        let before = self.flights.len();
        let (late, waiting) =
            std::mem::take(&mut self.flights).into_iter().partition::<Vec<_>, _>(|flight| flight.due <= now);
        self.flights = waiting.into();
        for place in late.into_iter().flat_map(|flight| flight.places) {
            self.send_again(place);
        }
        if self.flights.len() < before {
            self.counters.timeouts += (before - self.flights.len()) as u64;
            self.timeouts = (self.timeouts + 1).min(4);
        }
        let patience_us = self.config.ack_timeout_us;
        for kept in &mut self.unjournaled {
            if kept
                .sent
                .is_some_and(|sent| sent.0.saturating_add(patience_us) <= now.0 && !self.marks.is_accepted(kept.key))
            {
                kept.sent = None;
            }
        }
    }

    fn in_flight_bytes(&self) -> usize {
        self.flights.iter().map(|flight| flight.bytes).sum::<usize>() + self.again.in_flight_bytes()
    }

    fn spend(&mut self, bytes: usize) {
        self.budget.spend(bytes as u64);
        self.look_at_budget();
    }

    /// Begins or ends to hold back what can wait.
    fn look_at_budget(&mut self) {
        let thin = self.budget.left_bytes() < (lanes::MIN_CREDIT_BYTES + lanes::FRAME_ROOM) as u64;
        match (std::mem::replace(&mut self.thin, thin), thin) {
            (false, true) => self.hold_back(),
            (true, false) => self.hold_no_longer(),
            (false, false) | (true, true) => {}
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected, no ack yet.
    Greeting,
    Up,
}

#[derive(Debug)]
struct Unjournaled {
    key: Key,
    bytes: Vec<u8>,
    sent: Option<Monotonic>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    hello_due: Monotonic,
    batches: u64,
    records: u64,
    bytes: u64,
    timeouts: u64,
}

fn encode(message: &Up<'_>, room: usize) -> Vec<u8> {
    let mut out = vec![0; room + OVERHEAD_BYTES];
    let len = frame::encode(Kind::Up, message, &mut out).expect("the room was computed from the message").len();
    out.truncate(len);
    out
}

const MAX_URGENT: usize = 1024;
