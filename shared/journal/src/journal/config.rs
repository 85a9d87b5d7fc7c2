//! How a journal behaves, and which settings make no sense.

use crate::JournalError;

/// How a journal behaves; limits are for the whole folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A segment is closed at this size; space is given back by whole segments.
    pub segment_bytes: u64,
    /// Cap of all segments together.
    pub max_bytes: u64,
    /// When appended entries become durable.
    pub fsync: FsyncPolicy,
    /// Part of `max_bytes` that only urgent entries may use; also held on disk as a file of zeros.
    pub reserve_bytes: u64,
    /// What gives way at the cap.
    pub drop_policy: Drop,
    /// Released segments of so many bytes stay for who asks for them again, as long as nothing else needs the room: they count against
    /// nothing, and the oldest of them is always the first to go. 0: none.
    pub keep_bytes: u64,
}

/// When appended entries become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FsyncPolicy {
    /// Before `append` returns.
    Always,
    /// At most this long after, by [`poll_sync`](crate::Journal::poll_sync).
    Group {
        /// Longest time between two syncs while entries wait.
        interval_us: i64,
    },
    /// When the operating system likes; survives the end of the process only.
    Never,
}

/// What gives way when the cap is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Drop {
    /// Nothing: `append` fails with `Full`.
    Never,
    /// The oldest entries of the first class in this order that has any; a class that is not in it never gives way.
    OldestOfClass(Vec<u8>),
}

impl Config {
    /// A configuration for a device's spool: 4 MB segments, the sync of a group each 200 ms, a sixteenth in reserve.
    pub fn spool(max_bytes: u64, drop_order: Vec<u8>) -> Self {
        Self {
            segment_bytes: (4 << 20).min(max_bytes / 4),
            max_bytes,
            fsync: FsyncPolicy::Group { interval_us: 200_000 },
            reserve_bytes: max_bytes / 16,
            drop_policy: Drop::OldestOfClass(drop_order),
            keep_bytes: 0,
        }
    }

    pub(crate) fn check(&self) -> Result<(), JournalError> {
        let reason = if self.segment_bytes < MIN_SEGMENT_BYTES {
            "segment_bytes is below 128"
        } else if self.segment_bytes > self.max_bytes {
            "segment_bytes is above max_bytes"
        } else if self.reserve_bytes >= self.max_bytes {
            "reserve_bytes leaves nothing of max_bytes"
        } else if matches!(self.fsync, FsyncPolicy::Group { interval_us } if interval_us < 0) {
            "the group interval is negative"
        } else {
            return Ok(());
        };
        Err(JournalError::Config { reason })
    }
}

const MIN_SEGMENT_BYTES: u64 = 128;
