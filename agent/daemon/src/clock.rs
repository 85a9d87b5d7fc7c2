//! The agent's only clocks.
#![expect(clippy::disallowed_methods, reason = "this file is where the agent reads its clocks")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kilter_types::{Clock, Micros, Monotonic};
use kilter_uplink::TimeSample;

/// Time since boot, and the wall clock with what is known about its error.
#[derive(Clone, Debug)]
pub(crate) struct SystemClock {
    start: Instant,
    start_us: u64,
    uncertainty: Micros,
    /// The aggregator's time, once it was asked.
    solved: Arc<Mutex<Option<TimeSample>>>,
}

impl SystemClock {
    /// Without the aggregator's word, the wall clock may be off by `uncertainty`.
    pub(crate) fn new(uncertainty: Micros) -> Self {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let secs: f64 = uptime.split(' ').next().and_then(|secs| secs.parse().ok()).unwrap_or(0.0);
        Self { start: Instant::now(), start_us: (secs * 1e6) as u64, uncertainty, solved: Arc::default() }
    }

    /// The aggregator's time as the uplink knows it now.
    pub(crate) fn solve(&self, sample: Option<TimeSample>) {
        *self.solved.lock().unwrap_or_else(PoisonError::into_inner) = sample;
    }

    /// The best guess of the time, and how far it may be off: the aggregator's where it is known.
    pub(crate) fn best(&self) -> (Micros, Micros) {
        let solved = *self.solved.lock().unwrap_or_else(PoisonError::into_inner);
        solved.map_or_else(|| (system_wall(), self.uncertainty), |sample| sample.wall(self.monotonic()))
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.start_us + u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> Option<Micros> {
        Some(system_wall())
    }

    fn uncertainty(&self) -> Micros {
        let (best, bound) = self.best();
        let off = (system_wall() - best).0.saturating_abs();
        Micros(off) + bound
    }
}

/// Lets this much time pass.
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

fn system_wall() -> Micros {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
        Err(before) => Micros(-i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX)),
    }
}
