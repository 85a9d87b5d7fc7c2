//! Solved time: when did it happen, and how sure are we?
//!
//! A `source` timeline is believed as given. On a `device` timeline a node's clock is placed by its time exchanges: the
//! aggregator received the request between `monotonic` and `monotonic + round trip` of the node's clock, so the offset is known
//! to half a round trip, however unlike the ways there and back are, and the bound grows with the round trip and with the age of the exchange at
//! [`DRIFT_PPM`]. It holds as long as the node's clock keeps that pace and the aggregator's own clock is right. Without an exchange the node's own
//! wall guess stands, and without that the time of receipt. What was recorded is never overwritten (T1).

use kilter_types::{Micros, Monotonic, Record, Timeline};
use serde::{Deserialize, Serialize};

/// Event time with its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solved {
    /// When it happened.
    pub event_time: Micros,
    /// How far that may be off.
    pub bound: Micros,
}

/// The best exchange of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Anchor {
    monotonic: Monotonic,
    offset_us: i64,
    /// Half the round trip, and how far the node's clock may have strayed while it measured it.
    least_bound_us: i64,
}

impl Anchor {
    pub(crate) fn new(received: Micros, monotonic: Monotonic, round_trip_us: u32) -> Option<Self> {
        if round_trip_us == 0 {
            return None;
        }
        let half = i64::from(round_trip_us.div_ceil(2));
        let node_us = i64::try_from(monotonic.0).ok()?;
        Some(Self {
            monotonic,
            offset_us: received.0.checked_sub(node_us)?.checked_sub(half)?,
            least_bound_us: half + i64::from(round_trip_us) / (1_000_000 / DRIFT_PPM),
        })
    }

    /// The anchor that dates `monotonic` with the smaller bound.
    pub(crate) fn better(self, other: Self, monotonic: Monotonic) -> Self {
        if self.bound_us(monotonic) <= other.bound_us(monotonic) { self } else { other }
    }

    fn bound_us(self, monotonic: Monotonic) -> i64 {
        let age = i64::try_from(monotonic.0.abs_diff(self.monotonic.0)).unwrap_or(i64::MAX);
        self.least_bound_us.saturating_add(age / (1_000_000 / DRIFT_PPM))
    }

    fn date(self, monotonic: Monotonic) -> Solved {
        let node_us = i64::try_from(monotonic.0).unwrap_or(i64::MAX);
        Solved { event_time: Micros(node_us.saturating_add(self.offset_us)), bound: Micros(self.bound_us(monotonic)) }
    }
}

/// Dates one record.
pub(crate) fn solve(record: &Record, anchor: Option<Anchor>, received: Micros) -> Solved {
    match (record.timeline, record.wall, anchor) {
        (Timeline::Source, Some(wall), _) => Solved { event_time: wall, bound: record.uncertainty },
        (Timeline::Device, _, Some(anchor)) => anchor.date(record.monotonic),
        (Timeline::Device, Some(wall), None) => Solved { event_time: wall, bound: record.uncertainty },
        (_, None, _) => Solved { event_time: received, bound: UNKNOWN },
    }
}

/// How fast a node's clock may drift against ours.
const DRIFT_PPM: i64 = 100;

/// The bound of a record that only its receipt dates: a day.
const UNKNOWN: Micros = Micros::from_secs(86_400);
