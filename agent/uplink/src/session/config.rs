//! Who speaks, within which bounds, and the session in figures.

use kilter_types::{DeviceId, Name};

use crate::budget::Spent;

/// Who speaks.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The device.
    pub device: DeviceId,
    /// Version of its software.
    pub software: Name,
}

/// Bounds and timeouts of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Most bytes of records in one batch.
    pub batch_bytes: usize,
    /// Most batches in flight; alarms may use two more.
    pub max_in_flight: usize,
    /// A batch is sent again when it was not accepted for so long; longer each time.
    pub ack_timeout_us: u64,
    /// A link that moved nothing for so long is to be built again.
    pub stall_us: u64,
    /// The node introduces itself again so often while something waits for an ack.
    pub hello_interval_us: u64,
    /// How often the time is asked for.
    pub time_interval_us: u64,
    /// Most records that wait in memory because the journal is dead.
    pub max_unjournaled: usize,
    /// Live records wait so long for company, unless they fill a batch; alarms and back-fill never do.
    pub batch_interval_us: u64,
    /// Back-fill takes at most so many bytes of records a second; 0 for no limit.
    pub back_fill_bytes_per_sec: u64,
    /// Bytes of messages that a day may cost; 0 for no limit. Alarms, events, gaps and reports go beyond it.
    pub daily_bytes: u64,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            batch_bytes: 48 * 1024,
            max_in_flight: 8,
            ack_timeout_us: 10_000_000,
            stall_us: 60_000_000,
            hello_interval_us: 30_000_000,
            time_interval_us: 60_000_000,
            max_unjournaled: 256,
            batch_interval_us: 0,
            back_fill_bytes_per_sec: 0,
            daily_bytes: 0,
        }
    }
}

/// How urgent a frame is: links with several streams give each its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// What is no batch: hellos, requests, results.
    Talk = 0,
    /// Alarms.
    Alarm = 1,
    /// What is newer than the connection.
    Live = 2,
    /// The rest.
    Back = 3,
}

impl Urgency {
    /// All of them, most urgent first.
    pub const ALL: [Self; 4] = [Self::Talk, Self::Alarm, Self::Live, Self::Back];
}

/// A session in figures, for status pages and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Is there a link, and has the aggregator answered on it?
    pub connected: bool,
    /// Batches in flight.
    pub in_flight: usize,
    /// Bytes of records in flight.
    pub in_flight_bytes: u64,
    /// What the aggregator allows.
    pub credit_bytes: u32,
    /// Offset up to which everything is committed.
    pub released_to: u64,
    /// Offset of the durable end.
    pub durable_end: u64,
    /// Age of the oldest batch that is not accepted, in microseconds.
    pub oldest_unacked_us: u64,
    /// Batches sent since the start.
    pub batches: u64,
    /// Records sent since the start, repeats included.
    pub records: u64,
    /// Bytes of batches sent since the start.
    pub bytes: u64,
    /// Batches that timed out.
    pub timeouts: u64,
    /// Records that wait in memory because the journal is dead.
    pub unjournaled: usize,
    /// Everything that the spool holds is accepted.
    pub drained: bool,
    /// What of the day's budget is to be on disk.
    pub spent: Spent,
    /// Bytes of messages sent today.
    pub day_bytes: u64,
    /// Bytes that went beyond the day's budget since the start.
    pub over_budget_bytes: u64,
    /// The day's budget is used up: what can wait waits.
    pub thin: bool,
}
