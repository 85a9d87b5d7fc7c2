//! The one place where the server reads the time.
#![expect(clippy::disallowed_methods, reason = "this is the clock that the shells lend to the cores")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kilter_types::Micros;

/// The wall clock.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Waits, in a shell's own loop.
pub(crate) async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
