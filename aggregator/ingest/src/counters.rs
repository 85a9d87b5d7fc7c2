//! What a gateway has done, as plain numbers for the server's metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// A snapshot of the counters; all but the `_now` ones only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections open right now.
    pub connections_now: u64,
    /// Connections whose CONNECT was accepted.
    pub connections: u64,
    /// Connections closed because the same device connected again.
    pub takeovers: u64,
    /// Messages from devices.
    pub messages_up: u64,
    /// Their payload bytes.
    pub bytes_up: u64,
    /// Bytes of messages between the first byte read and the verdict, right now.
    pub held_bytes_now: u64,
    /// Times a connection stopped reading because the byte budget was spent.
    pub stalls: u64,
    /// Messages to devices, resends included.
    pub messages_down: u64,
    /// Their payload bytes.
    pub bytes_down: u64,
    /// Messages for devices dropped because their queue was full.
    pub dropped_down: u64,
    /// Messages for devices dropped because the device takes no packet of that size.
    pub oversize_down: u64,
    /// Messages that devices answered with an error.
    pub refused_down: u64,
    /// QoS 0 messages dropped because their topic is not the device's.
    pub dropped_up: u64,
    /// Wills that were offered; they are accepted and not published.
    pub wills_ignored: u64,
    /// Refusals by MQTT 5 reason code, in CONNACK, PUBACK, SUBACK and DISCONNECT together.
    pub refused: BTreeMap<u8, u64>,
}

impl Counters {
    /// Both together.
    pub fn and(mut self, other: Self) -> Self {
        self.connections_now += other.connections_now;
        self.connections += other.connections;
        self.takeovers += other.takeovers;
        self.messages_up += other.messages_up;
        self.bytes_up += other.bytes_up;
        self.held_bytes_now += other.held_bytes_now;
        self.stalls += other.stalls;
        self.messages_down += other.messages_down;
        self.bytes_down += other.bytes_down;
        self.dropped_down += other.dropped_down;
        self.oversize_down += other.oversize_down;
        self.refused_down += other.refused_down;
        self.dropped_up += other.dropped_up;
        self.wills_ignored += other.wills_ignored;
        for (reason, count) in other.refused {
            *self.refused.entry(reason).or_default() += count;
        }
        self
    }
}

/// The live counters behind [`Counters`].
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) connections_now: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) takeovers: AtomicU64,
    pub(crate) messages_up: AtomicU64,
    pub(crate) bytes_up: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) messages_down: AtomicU64,
    pub(crate) bytes_down: AtomicU64,
    pub(crate) dropped_down: AtomicU64,
    pub(crate) oversize_down: AtomicU64,
    pub(crate) refused_down: AtomicU64,
    pub(crate) dropped_up: AtomicU64,
    pub(crate) wills_ignored: AtomicU64,
    refused: [AtomicU64; 256],
}

impl Tally {
    /// Counts one refusal.
    pub(crate) fn refuse(&self, reason: u8) {
        add(&self.refused[usize::from(reason)], 1);
    }

    /// The numbers as they are now.
    pub(crate) fn snapshot(&self, held_bytes: usize) -> Counters {
        Counters {
            connections_now: get(&self.connections_now),
            connections: get(&self.connections),
            takeovers: get(&self.takeovers),
            messages_up: get(&self.messages_up),
            bytes_up: get(&self.bytes_up),
            held_bytes_now: held_bytes as u64,
            stalls: get(&self.stalls),
            messages_down: get(&self.messages_down),
            bytes_down: get(&self.bytes_down),
            dropped_down: get(&self.dropped_down),
            oversize_down: get(&self.oversize_down),
            refused_down: get(&self.refused_down),
            dropped_up: get(&self.dropped_up),
            wills_ignored: get(&self.wills_ignored),
            refused: (0u8..=255)
                .map(|reason| (reason, get(&self.refused[usize::from(reason)])))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            connections_now: AtomicU64::default(),
            connections: AtomicU64::default(),
            takeovers: AtomicU64::default(),
            messages_up: AtomicU64::default(),
            bytes_up: AtomicU64::default(),
            stalls: AtomicU64::default(),
            messages_down: AtomicU64::default(),
            bytes_down: AtomicU64::default(),
            dropped_down: AtomicU64::default(),
            oversize_down: AtomicU64::default(),
            refused_down: AtomicU64::default(),
            dropped_up: AtomicU64::default(),
            wills_ignored: AtomicU64::default(),
            refused: [const { AtomicU64::new(0) }; 256],
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Takes back from a counter of what is there right now.
pub(crate) fn sub(counter: &AtomicU64, by: u64) {
    counter.fetch_sub(by, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
