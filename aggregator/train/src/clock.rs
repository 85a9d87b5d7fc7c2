//! The only clock here; it tells a person how long is left and decides nothing.
#![expect(clippy::disallowed_methods, reason = "a clock is read in this file only")]

use std::time::Instant;

/// Time since the run began.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn secs(&self) -> f32 {
        self.0.elapsed().as_secs_f32()
    }
}
