//! Time exchanges: what the aggregator's clock says, and how far the answer may be off.
//!
//! The reply's midpoint against the request's gives the offset; half the round trip bounds its error. The best of the recent
//! exchanges counts, aged by the drift that a cheap oscillator may have.

use kilter_types::{Micros, Monotonic};
use kilter_wire::{TimeReply, TimeRequest};

/// One answered exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSample {
    /// Aggregator's wall time minus this node's monotonic time.
    pub offset: Micros,
    /// Half the round trip without the aggregator's own time.
    pub bound: Micros,
    /// When the reply came.
    pub at: Monotonic,
}

impl TimeSample {
    /// The aggregator's time now, and how far that may be off.
    pub fn wall(&self, now: Monotonic) -> (Micros, Micros) {
        let age_us = now.0.saturating_sub(self.at.0);
        let drift = Micros((age_us / 1_000_000 * DRIFT_PPM).min(i64::MAX as u64) as i64);
        (Micros(self.offset.0.saturating_add_unsigned(now.0)), self.bound + drift)
    }
}

/// Asks for the time every so often.
#[derive(Clone, Debug)]
pub struct TimeExchange {
    interval_us: u64,
    next_id: u32,
    due: Monotonic,
    open: Option<TimeRequest>,
    /// The last request that was answered on this link, and how long that took.
    told: Option<(u32, u32)>,
    best: Option<TimeSample>,
    answered: u32,
}

impl TimeExchange {
    /// Asks every `interval_us`, and three times quickly after a connection.
    pub fn new(interval_us: u64) -> Self {
        let due = Monotonic::default();
        Self { interval_us, next_id: 0, due, open: None, told: None, best: None, answered: 0 }
    }

    /// A new link: ask at once.
    pub fn handle_connected(&mut self, now: Monotonic) {
        self.due = now;
        self.open = None;
        self.told = None;
        self.answered = 0;
    }

    /// The request to send now, if it is time.
    pub fn poll(&mut self, now: Monotonic) -> Option<TimeRequest> {
        if now < self.due {
            return None;
        }
        // The aggregator knows when the request before came in and no other: an older exchange would date it wrongly.
        let before = self.told.take().filter(|(id, _)| *id == self.next_id);
        let last_round_trip_us = before.map_or(0, |(_, round_trip_us)| round_trip_us);
        self.next_id = self.next_id.wrapping_add(1);
        let request = TimeRequest { id: self.next_id, sent: now, last_round_trip_us };
        self.open = Some(request);
        self.due = Monotonic(now.0.saturating_add(self.interval_us));
        Some(request)
    }

    /// Takes a reply; an answer to anything but the open request is ignored.
    pub fn handle_reply(&mut self, reply: &TimeReply, now: Monotonic) -> Option<TimeSample> {
        let request = self.open.take_if(|open| open.id == reply.id && open.sent == reply.sent)?;
        let away_us = now.0.saturating_sub(request.sent.0);
        let there_us = u64::try_from((reply.replied - reply.received).0).unwrap_or(0).min(away_us);
        let round_trip_us = away_us - there_us;
        // Nothing takes no time, and 0 means that there was no answer.
        self.told = Some((request.id, u32::try_from(round_trip_us).unwrap_or(u32::MAX).max(1)));
        let middle = i64::try_from(request.sent.0 + away_us / 2).unwrap_or(i64::MAX);
        let there = Micros(reply.received.0 + (reply.replied - reply.received).0 / 2);
        let bound = Micros(i64::try_from(round_trip_us / 2 + 1).unwrap_or(i64::MAX));
        let sample = TimeSample { offset: there - Micros(middle), bound, at: now };
        self.answered += 1;
        if self.answered < QUICK {
            self.due = Monotonic(now.0 + QUICK_US);
        }
        if self.best.is_none_or(|best| best.wall(now).1 >= sample.bound) {
            self.best = Some(sample);
        }
        Some(sample)
    }

    /// The sample with the tightest bound now.
    pub fn best(&self) -> Option<TimeSample> {
        self.best
    }

    /// When to ask next.
    pub fn due(&self) -> Monotonic {
        self.due
    }
}

const QUICK: u32 = 3;
const QUICK_US: u64 = 200_000;
/// What an uncompensated crystal may drift, in parts per million.
const DRIFT_PPM: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_right_within_half_the_round_trip() {
        let mut exchange = TimeExchange::new(60_000_000);
        let request = exchange.poll(Monotonic(1_000)).expect("asks at once");
        // True offset 5_000_000; 300 µs there, 100 µs thinking, 700 µs back.
        let reply =
            TimeReply { id: request.id, sent: request.sent, received: Micros(5_001_300), replied: Micros(5_001_400) };
        let sample = exchange.handle_reply(&reply, Monotonic(2_100)).expect("the answer fits");
        assert!((sample.offset.0 - 5_000_000).abs() <= sample.bound.0, "{sample:?}");
        assert_eq!(exchange.handle_reply(&reply, Monotonic(2_200)), None, "answered twice");
        let next = exchange.poll(Monotonic(70_000_000)).expect("asks again");
        assert_eq!(
            (next.id, next.last_round_trip_us),
            (request.id + 1, 1_000),
            "the exchange before, and it was answered"
        );
        let unanswered = exchange.poll(Monotonic(140_000_000)).expect("asks again");
        assert_eq!(unanswered.last_round_trip_us, 0, "the request before was not answered");
        let (_, later) = sample.wall(Monotonic(2_100 + 3_600_000_000));
        assert_eq!(later.0, sample.bound.0 + 360_000, "an hour of drift at 100 ppm");
    }
}
