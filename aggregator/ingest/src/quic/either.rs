//! Two links as one: QUIC for who is there, the other for everybody else.

use std::sync::Arc;

use bytes::Bytes;
use quinn::VarInt;
use tokio::time::Duration;

use super::{QuicHub, TAKEN_OVER, TOPIC};
use crate::counters::Counters;
use crate::gateway::{DeviceLink, Presence, Principal, SendError, Sent};

/// QUIC for who is there, the other link for everybody else.
pub struct Either {
    /// QUIC.
    pub quic: QuicHub,
    /// The embedded listener or a broker.
    pub other: Arc<dyn DeviceLink>,
}

impl DeviceLink for Either {
    fn send(&self, device: &Principal, payload: Bytes) -> Result<Sent, SendError> {
        match self.quic.presence(device) {
            Presence::Online => self.quic.send(device, payload),
            Presence::Offline | Presence::Unknown => self.other.send(device, payload),
        }
    }

    fn presence(&self, device: &Principal) -> Presence {
        match self.quic.presence(device) {
            Presence::Online => Presence::Online,
            Presence::Offline | Presence::Unknown => self.other.presence(device),
        }
    }

    fn heard(&self, device: &Principal, topic: &str) {
        if topic == TOPIC {
            return;
        }
        // It came by the other link because QUIC is silent for it; unless it is just changing to QUIC, and this was on its way.
        let mut lines = self.quic.lines();
        if lines.get(device).is_some_and(|line| line.since.elapsed() >= CHANGING)
            && let Some(line) = lines.remove(device)
        {
            line.connection.close(VarInt::from_u32(TAKEN_OVER), b"taken over");
        }
    }

    fn counters(&self) -> Counters {
        self.other.counters().and(self.quic.counters())
    }
}

/// A device that changes to QUIC may still be heard on the other link for so long.
const CHANGING: Duration = Duration::from_secs(1);
