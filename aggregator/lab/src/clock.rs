//! The lab's clock and its only place to wait.
#![expect(clippy::disallowed_methods, reason = "this file is where the lab reads clocks and waits")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kilter_types::Micros;

/// The wall clock.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Waits, on the runtime.
pub(crate) async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Waits, on a thread of its own.
pub(crate) fn block(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
