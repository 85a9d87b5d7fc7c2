//! What the lake had and lost is sent again, as far as the journal still keeps it: after everything else, one batch at a time.
//!
//! Marks say nothing here, because everything that is asked for was accepted and committed once. So whether it came is not for this
//! session to know: the aggregator asks again for what is still missing. What the journal does not hold is told as gone, once all of
//! it was looked through.

use std::collections::VecDeque;

use kilter_types::{Epoch, Gap, GapReason, Monotonic};
use kilter_wire::{Batch, Refetch, SeqRange};

use super::lanes::{BATCH_STEPS, MAX_BATCH_RECORDS, MIN_CREDIT_BYTES, outer};
use super::{Session, Urgency};
use crate::{Key, Spool, SpoolError};

/// Everything that was asked for.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// The first of them is looked for.
    asked: VecDeque<Asked>,
    flight: Option<Flight>,
    gone: Vec<Gap>,
}

/// One question, and how far the journal was looked through for it.
#[derive(Debug)]
struct Asked {
    refetch: Refetch,
    at: u64,
    end: u64,
    found: Vec<SeqRange>,
}

/// A batch on its way; the next one waits for a word of the aggregator about its epoch.
#[derive(Clone, Copy, Debug)]
struct Flight {
    epoch: Epoch,
    bytes: usize,
    due: Monotonic,
}

impl Session {
    /// The aggregator asks for records that its lake lost.
    pub fn handle_refetch(&mut self, refetch: Refetch) {
        let known = self.again.asked.iter().any(|asked| asked.refetch == refetch);
        if !known && self.again.asked.len() < MOST_ASKED {
            self.again.asked.push_back(Asked { refetch, at: 0, end: self.durable_end, found: Vec::new() });
        }
    }

    /// What was asked for and is not held any more: to be recorded as gaps.
    pub fn take_gone(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.again.gone)
    }

    /// The next batch of what was asked for, when nothing else waits for the link.
    pub(super) fn again_batch(
        &mut self,
        spool: &mut impl Spool,
        now: Monotonic,
    ) -> Result<Option<Vec<u8>>, SpoolError> {
        if self.again.asked.is_empty() || self.thin {
            return Ok(None);
        }
        self.paced |= now < self.back_due;
        self.again.flight = self.again.flight.filter(|flight| now < flight.due);
        let credit = usize::try_from(self.credit_bytes).unwrap_or(usize::MAX).saturating_sub(self.in_flight_bytes());
        let busy = self.again.flight.is_some() || self.flights.len() >= self.config.max_in_flight;
        if busy || self.paced || credit < MIN_CREDIT_BYTES {
            return Ok(None);
        }
        let room = self.config.batch_bytes.min(credit).min(self.within_budget());
        let Some(mut asked) = self.again.asked.pop_front() else { return Ok(None) };
        let epoch = asked.refetch.epoch;
        let filled = self.fill(&mut asked, spool, room);
        if asked.at < asked.end {
            self.again.asked.push_front(asked);
        } else {
            self.again.gone.extend(asked.missing());
        }
        let (used, count) = filled?;
        if count == 0 {
            self.scanning |= !self.again.asked.is_empty();
            return Ok(None);
        }
        let due = Monotonic(now.0.saturating_add(self.config.ack_timeout_us));
        self.again.flight = Some(Flight { epoch, bytes: used, due });
        let pause_us = (used as u64 * 1_000_000).checked_div(self.config.back_fill_bytes_per_sec).unwrap_or(0);
        self.back_due = Monotonic(self.back_due.0.max(now.0).saturating_add(pause_us));
        self.urgency = Urgency::Back;
        Ok(Some(self.seal(epoch, count, used)))
    }

    /// Puts what is asked for into a batch of at most `room` bytes; says how many bytes and records.
    fn fill(&mut self, asked: &mut Asked, spool: &mut impl Spool, room: usize) -> Result<(usize, u16), SpoolError> {
        let (mut used, mut count) = (0, 0);
        for _ in 0..BATCH_STEPS {
            if asked.at >= asked.end || usize::from(count) >= MAX_BATCH_RECORDS {
                break;
            }
            let Some(place) = spool.read(asked.at, &mut self.record)?.filter(|place| place.offset < asked.end) else {
                asked.at = asked.end;
                break;
            };
            if asked.wants(place.key) {
                if !Batch::push(&mut self.records[..room], &mut used, outer(place.key, &self.record)) {
                    break;
                }
                asked.find(place.key.seq);
                count += 1;
            }
            asked.at = place.next;
        }
        Ok((used, count))
    }
}

impl Again {
    /// The aggregator has spoken of this epoch: what was on its way has most likely arrived.
    pub(super) fn handle_ack(&mut self, epoch: Epoch) {
        self.flight = self.flight.filter(|flight| flight.epoch != epoch);
    }

    /// The link is another: what was sent on the one before may not have arrived.
    pub(super) fn start_over(&mut self) {
        self.flight = None;
        for asked in &mut self.asked {
            asked.at = 0;
            asked.found.clear();
        }
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        self.flight.map_or(0, |flight| flight.bytes)
    }

    /// When what is on its way is waited for no longer.
    pub(super) fn due(&self) -> Option<Monotonic> {
        self.flight.filter(|_| !self.asked.is_empty()).map(|flight| flight.due)
    }
}

impl Asked {
    fn wants(&self, key: Key) -> bool {
        let within = |range: &SeqRange| range.first <= key.seq && key.seq <= range.last;
        let Refetch { epoch, class, ranges } = &self.refetch;
        key.epoch == *epoch && key.class == *class && ranges.iter().any(within)
    }

    fn find(&mut self, seq: u64) {
        match self.found.last_mut() {
            Some(last) if last.last.checked_add(1) == Some(seq) => last.last = seq,
            Some(_) | None => self.found.push(SeqRange { first: seq, last: seq }),
        }
    }

    /// What was not found.
    fn missing(&mut self) -> Vec<Gap> {
        self.found.sort_unstable();
        let Refetch { epoch, class, ranges } = &self.refetch;
        let (epoch, class, reason) = (*epoch, *class, GapReason::Evicted);
        let mut missing = Vec::new();
        for range in ranges {
            let mut next = Some(range.first);
            for found in self.found.iter().filter(|found| range.first <= found.last && found.first <= range.last) {
                if let Some(first_seq) = next.filter(|next| *next < found.first) {
                    missing.push(Gap { class, epoch, first_seq, last_seq: found.first - 1, reason });
                }
                next = next.max(found.last.checked_add(1));
            }
            if let Some(first_seq) = next.filter(|next| *next <= range.last) {
                missing.push(Gap { class, epoch, first_seq, last_seq: range.last, reason });
            }
        }
        missing
    }
}

/// Questions that wait; what is not taken is asked again later.
const MOST_ASKED: usize = 64;
