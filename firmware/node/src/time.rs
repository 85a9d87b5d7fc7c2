//! What the gateway said about the time, with its bound.

use kilter_types::{Micros, Monotonic};
use kilter_wire::{TimeReply, TimeRequest};

/// Asks for the time and keeps the best answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    best: Option<Exchange>,
    /// The last request.
    asked: Option<(u32, Monotonic)>,
    /// Its round trip, once answered.
    round_trip_us: u32,
    requests: u32,
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    /// Wall clock less the node's.
    offset_us: i64,
    half_round_trip_us: i64,
    at: Monotonic,
}

impl Clock {
    /// The next request, when it is due.
    pub(crate) fn poll(&mut self, now: Monotonic) -> Option<TimeRequest> {
        let pause_us = if self.requests <= QUICK { QUICK_US } else { SLOW_US };
        if self.asked.is_some_and(|(_, asked)| now.0.saturating_sub(asked.0) < pause_us) {
            return None;
        }
        let id = self.asked.map_or(0, |(id, _)| id.wrapping_add(1));
        let request = TimeRequest { id, sent: now, last_round_trip_us: core::mem::take(&mut self.round_trip_us) };
        self.asked = Some((id, now));
        self.requests = self.requests.saturating_add(1);
        Some(request)
    }

    /// Takes an answer; one that belongs to no request is left.
    pub(crate) fn answer(&mut self, reply: &TimeReply, now: Monotonic) {
        if self.asked != Some((reply.id, reply.sent)) {
            return;
        }
        let Some(exchange) = Exchange::of(reply, now) else { return };
        self.round_trip_us = u32::try_from(2 * exchange.half_round_trip_us).unwrap_or(u32::MAX).max(1);
        let better = self.best.is_none_or(|best| exchange.bound_us(now) <= best.bound_us(now));
        if better {
            self.best = Some(exchange);
        }
    }

    /// The wall clock now, and how far it may be off.
    pub(crate) fn wall(&self, now: Monotonic) -> Option<(Micros, Micros)> {
        let best = self.best?;
        Some((Micros(micros(now).0.saturating_add(best.offset_us)), Micros(best.bound_us(now))))
    }
}

impl Exchange {
    fn of(reply: &TimeReply, now: Monotonic) -> Option<Self> {
        let away = now.0.checked_sub(reply.sent.0)?;
        let there = u64::try_from(reply.replied.0.checked_sub(reply.received.0)?).ok()?;
        let half_round_trip_us = i64::try_from(away.checked_sub(there)?).ok()? / 2;
        let offset_us = reply.replied.0.checked_add(half_round_trip_us)?.checked_sub(micros(now).0)?;
        Some(Self { offset_us, half_round_trip_us, at: now })
    }

    fn bound_us(&self, now: Monotonic) -> i64 {
        let age = i64::try_from(now.0.saturating_sub(self.at.0)).unwrap_or(i64::MAX);
        self.half_round_trip_us.saturating_add(1).saturating_add(age / (1_000_000 / DRIFT_PPM))
    }
}

pub(crate) fn micros(now: Monotonic) -> Micros {
    Micros(i64::try_from(now.0).unwrap_or(i64::MAX))
}

/// The first requests follow one another quickly, because a round trip is told with the next one.
const QUICK: u32 = 4;
const QUICK_US: u64 = 1_000_000;
const SLOW_US: u64 = 60_000_000;
/// How fast the node's clock may drift.
const DRIFT_PPM: i64 = 100;
