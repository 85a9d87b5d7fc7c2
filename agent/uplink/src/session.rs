//! The delivery session: decides what to send, when to send it again, and what may be deleted. No IO, no clock.
//!
//! Records lie in the spool; the session holds only offsets of what is in flight. Four lanes feed a batch, in this order:
//! *urgent* (alarms, ahead of everything), *retry* (timed out), *live* (newer than the connection), *back-fill* (the rest,
//! oldest first). A record is skipped wherever it is known to be accepted or in flight already, so lanes may overlap.

use std::collections::{BTreeSet, VecDeque};

use kilter_types::{Class, DeviceId, Epoch, JournalId, Monotonic, Name};
use kilter_wire::frame::{Kind, OVERHEAD_BYTES};
use kilter_wire::up::BatchRecord;
use kilter_wire::{Ack, Batch, Hello, Packed, TimeReply, Up, VERSION, Welcome, frame};

use crate::held::Held;
use crate::marks::Marks;
use crate::pack::Packer;
use crate::{Key, Place, Spool, SpoolError, TimeExchange, TimeSample};

/// Who speaks.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The device.
    pub device: DeviceId,
    /// Version of its software.
    pub software: Name,
}

/// Bounds and timeouts of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Most bytes of records in one batch.
    pub batch_bytes: usize,
    /// Most batches in flight; alarms may use two more.
    pub max_in_flight: usize,
    /// A batch is sent again when it was not accepted for so long; longer each time.
    pub ack_timeout_us: u64,
    /// A link that moved nothing for so long is to be built again.
    pub stall_us: u64,
    /// The node introduces itself again so often while something waits for an ack.
    pub hello_interval_us: u64,
    /// How often the time is asked for.
    pub time_interval_us: u64,
    /// Most records that wait in memory because the journal is dead.
    pub max_unjournaled: usize,
    /// Live records wait so long for company, unless they fill a batch; alarms and back-fill never do.
    pub batch_interval_us: u64,
    /// Back-fill takes at most so many bytes of records a second; 0 for no limit.
    pub back_fill_bytes_per_sec: u64,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            batch_bytes: 48 * 1024,
            max_in_flight: 8,
            ack_timeout_us: 10_000_000,
            stall_us: 60_000_000,
            hello_interval_us: 30_000_000,
            time_interval_us: 60_000_000,
            max_unjournaled: 256,
            batch_interval_us: 0,
            back_fill_bytes_per_sec: 0,
        }
    }
}

/// How urgent a frame is: links with several streams give each its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// What is no batch: hellos, requests, results.
    Talk = 0,
    /// Alarms.
    Alarm = 1,
    /// What is newer than the connection.
    Live = 2,
    /// The rest.
    Back = 3,
}

impl Urgency {
    /// All of them, most urgent first.
    pub const ALL: [Self; 4] = [Self::Talk, Self::Alarm, Self::Live, Self::Back];
}

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
    records: Vec<u8>,
    record: Vec<u8>,
    counters: Counters,
}

/// A session in figures, for status pages and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Is there a link, and has the aggregator answered on it?
    pub connected: bool,
    /// Batches in flight.
    pub in_flight: usize,
    /// Bytes of records in flight.
    pub in_flight_bytes: u64,
    /// What the aggregator allows.
    pub credit_bytes: u32,
    /// Offset up to which everything is committed.
    pub released_to: u64,
    /// Offset of the durable end.
    pub durable_end: u64,
    /// Age of the oldest batch that is not accepted, in microseconds.
    pub oldest_unacked_us: u64,
    /// Batches sent since the start.
    pub batches: u64,
    /// Records sent since the start, repeats included.
    pub records: u64,
    /// Bytes of batches sent since the start.
    pub bytes: u64,
    /// Batches that timed out.
    pub timeouts: u64,
    /// Records that wait in memory because the journal is dead.
    pub unjournaled: usize,
    /// Everything that the spool holds is accepted.
    pub drained: bool,
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

    /// Takes the answer to a time request.
    pub fn handle_time_reply(&mut self, reply: &TimeReply, now: Monotonic) -> Option<TimeSample> {
        self.time.handle_reply(reply, now)
    }

    /// Puts batches that were not accepted in time back into the queue.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        let before = self.flights.len();
        let retry = &mut self.retry;
        self.flights.retain(|flight| {
            let late = flight.due <= now;
            if late {
                retry.extend(flight.places.iter().copied());
            }
            !late
        });
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

    /// The next frame to send, or `None` until something happens.
    pub fn poll_transmit(&mut self, spool: &mut impl Spool, now: Monotonic) -> Result<Option<Vec<u8>>, SpoolError> {
        if self.link == Link::Down {
            return Ok(None);
        }
        self.urgency = Urgency::Talk;
        if self.counters.hello_due <= now {
            self.counters.hello_due = Monotonic(now.0.saturating_add(self.hello_wait_us()));
            return Ok(Some(self.hello()));
        }
        if self.link == Link::Greeting {
            return Ok(None);
        }
        if let Some(request) = self.time.poll(now) {
            return Ok(Some(encode(&Up::TimeRequest(request), 64)));
        }
        if let Some(frame) = self.unjournaled_batch(now) {
            self.urgency = Urgency::Alarm;
            return Ok(Some(frame));
        }
        self.batch(spool, now)
    }

    /// How urgent the frame is that [`poll_transmit`](Self::poll_transmit) gave last.
    pub fn urgency(&self) -> Urgency {
        self.urgency
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and [`poll_transmit`](Self::poll_transmit) next; `None` without a link.
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        if self.link == Link::Down {
            return None;
        }
        let stall = Monotonic(self.progress_at.0.saturating_add(self.config.stall_us));
        let flights = self.flights.iter().map(|flight| flight.due).min();
        let unjournaled = self.unjournaled.iter().filter_map(|kept| kept.sent).min();
        let unjournaled = unjournaled.map(|sent| Monotonic(sent.0.saturating_add(self.config.ack_timeout_us)));
        let time = (self.link == Link::Up).then(|| self.time.due());
        let waits = self.is_waiting().then_some(stall);
        let scan = self.scanning.then_some(Monotonic::default());
        let company = self.in_company.then_some(self.live_due);
        let paced = self.paced.then_some(self.back_due);
        [Some(self.counters.hello_due), flights, unjournaled, time, waits, scan, company, paced]
            .into_iter()
            .flatten()
            .min()
    }

    /// The offset below which everything is committed, when it has moved: the journal may release it (D4).
    pub fn poll_release(&mut self, spool: &mut impl Spool) -> Result<Option<u64>, SpoolError> {
        let before = self.release;
        for _ in 0..RELEASE_STEPS {
            if self.release >= self.durable_end {
                break;
            }
            let Some(place) = spool.read(self.release, &mut self.record)? else { break };
            self.held.note(place.key.epoch, place.offset);
            if !self.marks.is_committed(place.key) {
                self.held.put_first(place.key.epoch);
                break;
            }
            self.release = place.next;
        }
        self.back = self.back.max(self.release);
        self.live = self.live.max(self.release);
        if self.release > before {
            self.let_go();
        }
        Ok((self.release > before).then_some(self.release))
    }

    /// Has the link moved nothing for too long, measured by what is not acked rather than by the socket?
    pub fn is_stalled(&self, now: Monotonic) -> bool {
        self.is_waiting() && now.0.saturating_sub(self.progress_at.0) >= self.config.stall_us
    }

    /// The best time exchange so far.
    pub fn best_time(&self) -> Option<TimeSample> {
        self.time.best()
    }

    /// Everything that the spool holds is accepted and nothing waits.
    pub fn is_drained(&self) -> bool {
        self.flights.is_empty() && self.retry.is_empty() && self.back >= self.back_end && self.live >= self.durable_end
    }

    /// The session in figures.
    pub fn status(&self, now: Monotonic) -> Status {
        let oldest = self.flights.iter().map(|flight| flight.sent).min();
        Status {
            connected: self.link == Link::Up,
            in_flight: self.flights.len(),
            in_flight_bytes: self.in_flight_bytes() as u64,
            credit_bytes: self.credit_bytes,
            released_to: self.release,
            durable_end: self.durable_end,
            oldest_unacked_us: oldest.map_or(0, |sent| now.0.saturating_sub(sent.0)),
            batches: self.counters.batches,
            records: self.counters.records,
            bytes: self.counters.bytes,
            timeouts: self.counters.timeouts,
            unjournaled: self.unjournaled.len(),
            drained: self.is_drained(),
        }
    }

    fn hello(&self) -> Vec<u8> {
        let hello = Hello {
            device: self.identity.device.clone(),
            wire_version: u16::from(VERSION),
            software: self.identity.software.clone(),
            epoch: self.epoch,
            held: self.held.iter().take(MAX_HELD).collect(),
        };
        encode(&Up::Hello(hello), 256)
    }

    fn hello_wait_us(&self) -> u64 {
        match self.link {
            Link::Up => self.config.hello_interval_us,
            Link::Down | Link::Greeting => self.config.ack_timeout_us.min(self.config.hello_interval_us),
        }
    }

    fn is_waiting(&self) -> bool {
        match self.link {
            Link::Down => false,
            Link::Greeting => true,
            Link::Up => !self.flights.is_empty() || !self.retry.is_empty(),
        }
    }

    /// Everything below was accepted: lanes have passed it and it is not in flight.
    fn floor(&self) -> u64 {
        let lanes = if self.back < self.back_end { self.back } else { self.live };
        self.pending.first().map_or(lanes, |pending| lanes.min(*pending)).max(self.release)
    }

    fn start_over(&mut self, from: u64) {
        for place in self.flights.drain(..).flat_map(|flight| flight.places).rev() {
            if place.key.class == Class::Alarm && self.urgent.len() < MAX_URGENT {
                self.urgent.push_front(place.offset);
            }
        }
        (self.in_company, self.paced) = (false, false);
        self.pending.clear();
        self.retry.clear();
        self.back = from;
        self.back_end = self.durable_end;
        self.live = self.durable_end.max(from);
        self.unjournaled.iter_mut().filter(|kept| !self.marks.is_accepted(kept.key)).for_each(|kept| kept.sent = None);
    }

    fn settle_flights(&mut self) -> bool {
        let (marks, pending) = (&self.marks, &mut self.pending);
        let mut moved = false;
        for flight in &mut self.flights {
            flight.places.retain(|place| {
                let accepted = marks.is_accepted(place.key);
                if accepted {
                    pending.remove(&place.offset);
                    moved = true;
                }
                !accepted
            });
        }
        self.flights.retain(|flight| !flight.places.is_empty());
        self.retry.retain(|place| {
            let accepted = marks.is_accepted(place.key);
            if accepted {
                pending.remove(&place.offset);
                moved = true;
            }
            !accepted
        });
        moved
    }

    /// Forgets the epochs of which nothing is held any more.
    fn let_go(&mut self) {
        let before = self.held.len();
        if self.held.release(self.release) {
            if before > MAX_HELD {
                // Epochs that the last introduction had no room for get their marks now.
                self.counters.hello_due = Monotonic::default();
            }
            let kept: Vec<Epoch> = self.held.iter().chain(self.unjournaled.iter().map(|kept| kept.key.epoch)).collect();
            self.marks.retain(&kept);
        }
    }

    fn in_flight_bytes(&self) -> usize {
        self.flights.iter().map(|flight| flight.bytes).sum()
    }

    fn unjournaled_batch(&mut self, now: Monotonic) -> Option<Vec<u8>> {
        let epoch = self.unjournaled.iter().find(|kept| kept.sent.is_none())?.key.epoch;
        let (mut used, mut count) = (0, 0u16);
        for kept in self.unjournaled.iter_mut().filter(|kept| kept.sent.is_none() && kept.key.epoch == epoch) {
            if !Batch::push(&mut self.records, &mut used, outer(kept.key, &kept.bytes)) {
                break;
            }
            kept.sent = Some(now);
            count += 1;
        }
        (count > 0).then(|| self.seal(epoch, count, used))
    }

    fn batch(&mut self, spool: &mut impl Spool, now: Monotonic) -> Result<Option<Vec<u8>>, SpoolError> {
        // Found out anew with every look: a wait that no look renews must not wake anybody.
        (self.in_company, self.paced) = (false, false);
        let credit = usize::try_from(self.credit_bytes).unwrap_or(usize::MAX).saturating_sub(self.in_flight_bytes());
        let alarms_only = self.flights.len() >= self.config.max_in_flight || credit < MIN_CREDIT_BYTES;
        if self.flights.len() >= self.config.max_in_flight + SPARE_FLIGHTS {
            return Ok(None);
        }
        let room =
            if alarms_only { ALARM_BYTES.min(self.config.batch_bytes) } else { self.config.batch_bytes.min(credit) };
        let (mut used, mut places) = (0, Vec::new());
        let mut steps = 0;
        // Offsets count a little more than the bytes of records.
        let enough = self.durable_end.saturating_sub(self.live) >= self.config.batch_bytes as u64;
        let mut live_open = now >= self.live_due || enough;
        self.in_company = !live_open && self.live < self.durable_end;
        let back_open = now >= self.back_due;
        self.paced = !back_open && self.back < self.back_end;
        while steps < BATCH_STEPS && places.len() < MAX_BATCH_RECORDS {
            steps += 1;
            let Some((lane, place)) = self.peek(spool, alarms_only, live_open, back_open)? else { break };
            self.held.note(place.key.epoch, place.offset);
            let other_epoch = places.first().is_some_and(|first: &Place| first.key.epoch != place.key.epoch);
            let known = self.marks.is_accepted(place.key);
            let elsewhere = lane != Lane::Retry && self.pending.contains(&place.offset);
            if known || elsewhere || (alarms_only && place.key.class != Class::Alarm) {
                self.advance(lane, place);
                continue;
            }
            let record_bytes = self.record.len();
            if other_epoch || !Batch::push(&mut self.records[..room], &mut used, outer(place.key, &self.record)) {
                break;
            }
            self.advance(lane, place);
            self.pending.insert(place.offset);
            places.push(place);
            if places.len() == 1 {
                self.urgency = match lane {
                    Lane::Urgent => Urgency::Alarm,
                    Lane::Live => Urgency::Live,
                    Lane::Retry | Lane::Back => Urgency::Back,
                };
            }
            if lane == Lane::Back {
                let pause_us = (record_bytes as u64 * 1_000_000).checked_div(self.config.back_fill_bytes_per_sec);
                self.back_due = Monotonic(self.back_due.0.max(now.0).saturating_add(pause_us.unwrap_or(0)));
            }
            if lane == Lane::Live {
                live_open = true;
                self.live_due = Monotonic(now.0.saturating_add(self.config.batch_interval_us));
            }
        }
        self.scanning = places.is_empty() && steps == BATCH_STEPS;
        let Some(first) = places.first() else {
            return Ok(None);
        };
        let epoch = first.key.epoch;
        let count = places.len() as u16;
        if self.flights.is_empty() && self.retry.is_empty() {
            self.progress_at = now;
        }
        let due = Monotonic(now.0.saturating_add(self.config.ack_timeout_us << self.timeouts));
        self.flights.push_back(Flight { places, bytes: used, sent: now, due });
        Ok(Some(self.seal(epoch, count, used)))
    }

    /// The next record of the first lane that has one.
    fn peek(
        &mut self,
        spool: &mut impl Spool,
        alarms_only: bool,
        live_open: bool,
        back_open: bool,
    ) -> Result<Option<(Lane, Place)>, SpoolError> {
        while let Some(offset) = self.urgent.front().copied() {
            if offset >= self.durable_end {
                break;
            }
            if offset < self.release {
                self.urgent.pop_front();
                continue;
            }
            match spool.read(offset, &mut self.record)? {
                Some(place) if place.offset == offset => return Ok(Some((Lane::Urgent, place))),
                // Evicted meanwhile.
                Some(_) | None => self.urgent.pop_front(),
            };
        }
        if alarms_only {
            return Ok(None);
        }
        while let Some(offset) = self.retry.front().map(|place| place.offset) {
            match spool.read(offset, &mut self.record)? {
                Some(place) if place.offset == offset => return Ok(Some((Lane::Retry, place))),
                Some(_) | None => {
                    self.retry.pop_front();
                    self.pending.remove(&offset);
                }
            }
        }
        if live_open && self.live < self.durable_end {
            match spool.read(self.live, &mut self.record)? {
                Some(place) if place.offset < self.durable_end => return Ok(Some((Lane::Live, place))),
                Some(_) => self.live = self.durable_end,
                // Nothing to read yet.
                None => {}
            }
        }
        if back_open && self.back < self.back_end {
            match spool.read(self.back, &mut self.record)? {
                Some(place) if place.offset < self.back_end => return Ok(Some((Lane::Back, place))),
                Some(_) => self.back = self.back_end,
                None => {}
            }
        }
        Ok(None)
    }

    fn advance(&mut self, lane: Lane, place: Place) {
        match lane {
            Lane::Urgent => drop(self.urgent.pop_front()),
            Lane::Retry => drop(self.retry.pop_front()),
            Lane::Live => self.live = place.next,
            Lane::Back => self.back = place.next,
        }
    }

    fn seal(&mut self, epoch: Epoch, count: u16, used: usize) -> Vec<u8> {
        self.counters.batches += 1;
        self.counters.records += u64::from(count);
        let records = &self.records[..used];
        let packed = if self.peer_version >= PACKED_SINCE { self.packer.pack(records) } else { None };
        let frame = match packed {
            Some((coding, bytes)) => {
                let plain_bytes = used as u32;
                encode(&Up::Packed(Packed { epoch, count, plain_bytes, coding, bytes }), bytes.len() + 64)
            }
            None => encode(&Up::Batch(Batch { epoch, count, records }), used + 64),
        };
        self.counters.bytes += frame.len() as u64;
        frame
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected, no ack yet.
    Greeting,
    Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Urgent,
    Retry,
    Live,
    Back,
}

#[derive(Debug)]
struct Flight {
    places: Vec<Place>,
    bytes: usize,
    sent: Monotonic,
    due: Monotonic,
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

fn outer(key: Key, bytes: &[u8]) -> BatchRecord<'_> {
    BatchRecord { class: key.class as u8, seq: key.seq, bytes }
}

fn encode(message: &Up<'_>, room: usize) -> Vec<u8> {
    let mut out = vec![0; room + OVERHEAD_BYTES];
    let len = frame::encode(Kind::Up, message, &mut out).expect("the room was computed from the message").len();
    out.truncate(len);
    out
}

/// Less credit than this carries no whole record; only alarms go.
const MIN_CREDIT_BYTES: usize = kilter_wire::up::MAX_RECORD_BYTES + Batch::RECORD_OVERHEAD_BYTES;
/// What an alarms-only batch may take.
const ALARM_BYTES: usize = 16 * 1024;
const SPARE_FLIGHTS: usize = 2;
/// The wire version that brought packed batches.
const PACKED_SINCE: u16 = 2;
const MAX_BATCH_RECORDS: usize = 512;
/// Bounds the work of one call when most records are accepted already.
const BATCH_STEPS: usize = 20_000;
const RELEASE_STEPS: usize = 20_000;
const MAX_URGENT: usize = 1024;
const MAX_HELD: usize = 8;
