//! Where the samples of a sensor's FIFO stand in time, and how many an overrun cost.

use kilter_types::Monotonic;

use crate::Filled;

/// The pace of one sensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    period_ns: u64,
    /// When the FIFO was looked at last, and how many samples were left in it then.
    last: Option<(Monotonic, u64)>,
}

impl Pace {
    pub(super) fn new(rate_hz: u32) -> Self {
        Self { period_ns: 1_000_000_000 / u64::from(rate_hz), last: None }
    }

    /// The FIFO held `entries` at `now`, of which `taken` were read; after an overrun what is missing is told by the clock.
    pub(super) fn account(&mut self, now: Monotonic, entries: usize, taken: usize, overrun: bool) -> Filled {
        let entries = entries as u64;
        let lost = match self.last {
            Some((at, left)) if overrun => {
                let made = now.0.saturating_sub(at.0).saturating_mul(1000) / self.period_ns;
                (left + made).saturating_sub(entries).max(1)
            }
            Some(_) | None => 0,
        };
        self.last = Some((now, entries - taken as u64));
        let age_us = entries.saturating_sub(1) * self.period_ns / 1000;
        Filled { len: taken, lost, t0: Monotonic(now.0.saturating_sub(age_us)) }
    }

    /// Sampling begins anew.
    pub(super) fn restart(&mut self) {
        self.last = None;
    }
}
