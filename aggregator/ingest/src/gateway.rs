//! The door between devices and the server, the same whichever shell carries the messages.
//!
//! Upwards a shell puts [`Inbound`] messages into one bounded channel: the server journals a batch of them, syncs once and
//! then settles each [`AckHandle`](crate::AckHandle). Downwards the server knows only [`DeviceLink`], so that the embedded
//! listener and an external broker are interchangeable.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kilter_types::{DeviceId, Name};

use crate::ack::AckHandle;
use crate::counters::Counters;

/// Who is at the other end of a connection, after its credential was checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    /// Who owns the device's data.
    pub tenant: Name,
    /// The device itself.
    pub device: DeviceId,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.device)
    }
}

/// One message from a device, not yet durable.
#[derive(Debug)]
pub struct Inbound {
    /// Whose credential (listener) or topic (broker) it came under.
    pub device: Principal,
    /// The topic it was published to.
    pub topic: Arc<str>,
    /// The message, not yet decoded.
    pub payload: Bytes,
    /// To be settled once the message is durable; dropping it closes the connection, so that the device sends it again.
    pub ack: AckHandle,
}

/// The way down to the devices.
pub trait DeviceLink: Send + Sync {
    /// Queues a message for a device. Delivery is at least once and in order while the queue's bound is not exceeded.
    fn send(&self, device: &Principal, payload: Bytes) -> Result<Sent, SendError>;

    /// Whether the device is connected right now.
    fn presence(&self, device: &Principal) -> Presence;

    /// A device introduced itself under this topic: whatever else leads to it is older.
    fn heard(&self, _device: &Principal, _topic: &str) {}

    /// What this link has done since it started.
    fn counters(&self) -> Counters;
}

/// Where a message for a device went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The device is connected and subscribed.
    Online,
    /// Kept for a device that is away; the oldest are dropped, and counted, past the bound.
    Parked,
    /// Handed to a broker, which does not tell.
    Relayed,
}

/// Whether a device is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A connection is open.
    Online,
    /// No connection is open.
    Offline,
    /// The shell can't tell (a broker is between).
    Unknown,
}

/// Why a message for a device was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The bytes kept for all devices together have reached their limit.
    #[error("queue a message of {bytes} bytes: the queues of all devices are full")]
    Full {
        /// Size of the message that was refused.
        bytes: usize,
    },
    /// The message alone is larger than one device's queue or than a packet may be.
    #[error("queue a message of {bytes} bytes: at most {limit} fit")]
    TooLarge {
        /// Size of the message that was refused.
        bytes: usize,
        /// The largest one that is taken.
        limit: usize,
    },
    /// The shell has ended.
    #[error("queue a message: the link has ended")]
    Ended,
}
