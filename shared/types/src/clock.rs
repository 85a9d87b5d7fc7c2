//! Time: microseconds, on which timeline, and the trait through which a shell lends its clock.

use core::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Microseconds: since the Unix epoch (UTC) where an instant is meant, a plain span otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// This many seconds.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// This many milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// As seconds, for display and plots.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl Add for Micros {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Micros {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Microseconds since the node booted; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Monotonic(pub u64);

/// Whose clock dates a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timeline {
    /// The device's: the aggregator solves offset and drift.
    #[default]
    Device,
    /// The source's (replay, simulator, OPC UA): event time as given.
    Source,
}

/// The world's time, lent by a shell. Cores take `now` instead.
pub trait Clock {
    /// Microseconds since boot.
    fn monotonic(&self) -> Monotonic;
    /// The wall clock's guess, if the node has one.
    fn wall(&self) -> Option<Micros>;
    /// How far the wall guess may be off.
    fn uncertainty(&self) -> Micros;
}
