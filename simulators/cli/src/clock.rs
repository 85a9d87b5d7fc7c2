//! The simulator's clock: simulated time as a multiple of the wall's, and the pause of a worker that has nothing to do.

#![expect(clippy::disallowed_methods, reason = "this is the file that reads the clock and waits")]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kilter_types::Micros;

use crate::args::Speed;

/// Simulated time since the start.
#[derive(Debug)]
pub(crate) struct Pace {
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    speed: Speed,
    since: Instant,
    simulated_s: f64,
}

impl Pace {
    pub(crate) fn new(speed: Speed) -> Self {
        Self { state: Mutex::new(State { speed, since: Instant::now(), simulated_s: 0.0 }) }
    }

    /// The moment up to which simulated time may have passed by now.
    pub(crate) fn now_s(&self) -> f64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).now_s()
    }

    /// Goes on at another speed from the present moment.
    pub(crate) fn set_speed(&self, times: f64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.speed != Speed::Max {
            *state = State { speed: Speed::Times(times), since: Instant::now(), simulated_s: state.now_s() };
        }
    }
}

impl State {
    fn now_s(&self) -> f64 {
        match self.speed {
            Speed::Times(times) => self.simulated_s + self.since.elapsed().as_secs_f64() * times,
            Speed::Max => f64::INFINITY,
        }
    }
}

/// The wall's time.
pub(crate) fn wall_now() -> Micros {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

/// A worker's pause.
pub(crate) fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// A task's pause.
pub(crate) async fn wait(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 1e9))).await;
}
