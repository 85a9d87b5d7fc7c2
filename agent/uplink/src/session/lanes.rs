//! Which records go next: four lanes feed a batch, and what is known to be accepted or on its way is passed over.

use kilter_types::{Class, Epoch, Monotonic};
use kilter_wire::up::BatchRecord;
use kilter_wire::{Batch, Packed, Up};

use super::{MAX_URGENT, Session, encode};
use crate::{Key, Place, Spool, SpoolError, Urgency};

/// Where a record comes from, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Urgent,
    Retry,
    /// Over the day's budget: what is small and says how things are.
    Brief,
    Live,
    Back,
}

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) places: Vec<Place>,
    pub(super) bytes: usize,
    pub(super) sent: Monotonic,
    pub(super) due: Monotonic,
}

/// Which lanes may give something now.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Credit or flights are used up: only alarms.
    alarms_only: bool,
    live: bool,
    back: bool,
}

impl Session {
    /// Everything below was accepted: lanes have passed it and it is not in flight.
    pub(super) fn floor(&self) -> u64 {
        let lanes = if self.back < self.back_end { self.back } else { self.live };
        self.pending.first().map_or(lanes, |pending| lanes.min(*pending)).max(self.release)
    }

    pub(super) fn start_over(&mut self, from: u64) {
        for place in self.flights.drain(..).flat_map(|flight| flight.places).rev() {
            if place.key.class == Class::Alarm && self.urgent.len() < MAX_URGENT {
                self.urgent.push_front(place.offset);
            }
        }
        (self.in_company, self.paced) = (false, false);
        self.again.start_over();
        self.pending.clear();
        self.retry.clear();
        self.back = from;
        self.back_end = self.durable_end;
        self.live = self.durable_end.max(from);
        self.brief = from;
        self.unjournaled.iter_mut().filter(|kept| !self.marks.is_accepted(kept.key)).for_each(|kept| kept.sent = None);
    }

    /// A batch timed out: alarms go ahead of everything again, the rest in its turn.
    pub(super) fn send_again(&mut self, place: Place) {
        if place.key.class == Class::Alarm && self.urgent.len() < MAX_URGENT {
            self.pending.remove(&place.offset);
            self.urgent.push_back(place.offset);
        } else if self.thin && is_brief(place.key.class) {
            self.pending.remove(&place.offset);
            self.brief = self.brief.min(place.offset);
        } else {
            self.retry.push_back(place);
        }
    }

    /// The day's budget is used up. Whatever is brief is looked for from the first record that is not accepted.
    pub(super) fn hold_back(&mut self) {
        self.brief = self.floor();
        let pending = &mut self.pending;
        self.retry.retain(|place| !is_brief(place.key.class) || !pending.remove(&place.offset));
    }

    /// There is a budget again. What was held is old by now: it follows what is new.
    pub(super) fn hold_no_longer(&mut self) {
        if self.back >= self.back_end {
            self.back = self.live;
        }
        self.back_end = self.durable_end;
        self.live = self.live.max(self.durable_end);
    }

    pub(super) fn settle_flights(&mut self) -> bool {
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

    pub(super) fn unjournaled_batch(&mut self, now: Monotonic) -> Option<Vec<u8>> {
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

    pub(super) fn batch(&mut self, spool: &mut impl Spool, now: Monotonic) -> Result<Option<Vec<u8>>, SpoolError> {
        // Found out anew with every look: a wait that no look renews must not wake anybody.
        (self.in_company, self.paced) = (false, false);
        let credit = usize::try_from(self.credit_bytes).unwrap_or(usize::MAX).saturating_sub(self.in_flight_bytes());
        let alarms_only = self.flights.len() >= self.config.max_in_flight || credit < MIN_CREDIT_BYTES;
        if self.flights.len() >= self.config.max_in_flight + SPARE_FLIGHTS {
            return Ok(None);
        }
        let within = self.within_budget();
        let room = if alarms_only {
            ALARM_BYTES.min(self.config.batch_bytes)
        } else {
            self.config.batch_bytes.min(credit).min(within)
        };
        let (mut used, mut places) = (0, Vec::new());
        let mut steps = 0;
        // Offsets count a little more than the bytes of records.
        let enough = self.durable_end.saturating_sub(self.live) >= self.config.batch_bytes as u64;
        let mut open = Open { alarms_only, live: now >= self.live_due || enough, back: now >= self.back_due };
        if !self.thin {
            self.in_company = !open.live && self.live < self.durable_end;
            self.paced = !open.back && self.back < self.back_end;
        }
        while steps < BATCH_STEPS && places.len() < MAX_BATCH_RECORDS {
            steps += 1;
            let Some((lane, place)) = self.peek(spool, open)? else { break };
            self.held.note(place.key.epoch, place.offset);
            let other_epoch = places.first().is_some_and(|first: &Place| first.key.epoch != place.key.epoch);
            let known = self.marks.is_accepted(place.key);
            let elsewhere = lane != Lane::Retry && self.pending.contains(&place.offset);
            let waits = lane == Lane::Brief && !is_brief(place.key.class);
            if known || elsewhere || waits || (alarms_only && place.key.class != Class::Alarm) {
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
                    Lane::Live | Lane::Brief => Urgency::Live,
                    Lane::Retry | Lane::Back => Urgency::Back,
                };
            }
            if lane == Lane::Back {
                let pause_us = (record_bytes as u64 * 1_000_000).checked_div(self.config.back_fill_bytes_per_sec);
                self.back_due = Monotonic(self.back_due.0.max(now.0).saturating_add(pause_us.unwrap_or(0)));
            }
            if lane == Lane::Live {
                open.live = true;
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
    fn peek(&mut self, spool: &mut impl Spool, open: Open) -> Result<Option<(Lane, Place)>, SpoolError> {
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
        if open.alarms_only {
            return Ok(None);
        }
        if self.thin {
            return Ok(self.read(spool, self.brief, self.durable_end)?.map(|place| (Lane::Brief, place)));
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
        if open.live && self.live < self.durable_end {
            match spool.read(self.live, &mut self.record)? {
                Some(place) if place.offset < self.durable_end => return Ok(Some((Lane::Live, place))),
                Some(_) => self.live = self.durable_end,
                // Nothing to read yet.
                None => {}
            }
        }
        if open.back && self.back < self.back_end {
            match spool.read(self.back, &mut self.record)? {
                Some(place) if place.offset < self.back_end => return Ok(Some((Lane::Back, place))),
                Some(_) => self.back = self.back_end,
                None => {}
            }
        }
        Ok(None)
    }

    /// The first record at or above `from` and below `end`.
    fn read(&mut self, spool: &mut impl Spool, from: u64, end: u64) -> Result<Option<Place>, SpoolError> {
        if from >= end {
            return Ok(None);
        }
        Ok(spool.read(from, &mut self.record)?.filter(|place| place.offset < end))
    }

    fn advance(&mut self, lane: Lane, place: Place) {
        match lane {
            Lane::Urgent => drop(self.urgent.pop_front()),
            Lane::Retry => drop(self.retry.pop_front()),
            Lane::Brief => self.brief = place.next,
            Lane::Live => self.live = place.next,
            Lane::Back => self.back = place.next,
        }
    }

    /// What the day's budget leaves for records; what goes beyond it is brief.
    pub(super) fn within_budget(&self) -> usize {
        match self.thin {
            true => usize::MAX,
            false => usize::try_from(self.budget.left_bytes()).unwrap_or(usize::MAX).saturating_sub(FRAME_ROOM),
        }
    }

    pub(super) fn seal(&mut self, epoch: Epoch, count: u16, used: usize) -> Vec<u8> {
        self.counters.batches += 1;
        self.counters.records += u64::from(count);
        let records = &self.records[..used];
        let packed = if self.peer_version >= PACKED_SINCE { self.packer.pack(records) } else { None };
        let frame = match packed {
            Some((coding, bytes)) => {
                let plain_bytes = used as u32;
                encode(&Up::Packed(Packed { epoch, count, plain_bytes, coding, bytes }), bytes.len() + FRAME_ROOM)
            }
            None => encode(&Up::Batch(Batch { epoch, count, records }), used + FRAME_ROOM),
        };
        self.counters.bytes += frame.len() as u64;
        self.spend(frame.len());
        frame
    }
}

pub(super) fn outer(key: Key, bytes: &[u8]) -> BatchRecord<'_> {
    BatchRecord { class: key.class as u8, seq: key.seq, bytes }
}

/// What goes on when the day's budget is used up: small, and without it nobody knows how things are.
fn is_brief(class: Class) -> bool {
    match class {
        Class::Alarm | Class::Event | Class::Gap | Class::Report => true,
        Class::Score | Class::Feature | Class::State | Class::Spectrum | Class::Clip => false,
    }
}

/// Less credit than this carries no whole record; only alarms go.
pub(super) const MIN_CREDIT_BYTES: usize = kilter_wire::up::MAX_RECORD_BYTES + Batch::RECORD_OVERHEAD_BYTES;
/// What a frame and the head of a batch take at most.
pub(super) const FRAME_ROOM: usize = 64;
/// What an alarms-only batch may take.
const ALARM_BYTES: usize = 16 * 1024;
const SPARE_FLIGHTS: usize = 2;
/// The wire version that brought packed batches.
const PACKED_SINCE: u16 = 2;
pub(super) const MAX_BATCH_RECORDS: usize = 512;
/// Bounds the work of one call when most records are accepted already.
pub(super) const BATCH_STEPS: usize = 20_000;
