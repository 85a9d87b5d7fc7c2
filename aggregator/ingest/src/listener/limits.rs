//! What one listener allows: every queue and every wait has a bound here, and [`Limits::check`] says which ones make no sense.

/// The bounds of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once; more are refused with 0x89.
    pub connections: usize,
    /// Unsettled QoS 1 messages a connection may have: the Receive Maximum, the credit of MQTT 5.
    pub receive_maximum: u16,
    /// Largest packet from a device.
    pub packet_bytes: u32,
    /// Bytes of all messages together between the first byte read and the verdict.
    pub budget_bytes: usize,
    /// How long a connection may take to say CONNECT.
    pub connect_timeout_secs: u32,
    /// Longest keep alive; a device that asks for more, or for none, gets this one.
    pub keep_alive_secs: u16,
    /// Longest life of a session (its subscription) without a connection.
    pub session_expiry_secs: u32,
    /// How long written bytes may stay untaken.
    pub write_timeout_secs: u32,
    /// Unacknowledged messages towards one device.
    pub down_window: u16,
    /// Messages kept for one device; the oldest are dropped and counted.
    pub parked_messages: usize,
    /// Bytes kept for one device; the oldest messages are dropped and counted.
    pub parked_bytes: usize,
    /// Bytes kept for all devices; past it a message is refused to the server.
    pub parked_total_bytes: usize,
}

impl Limits {
    /// The limits, if they fit together.
    pub fn check(self) -> Result<Self, LimitsError> {
        let zero = [
            ("connections", self.connections == 0),
            ("receive_maximum", self.receive_maximum == 0),
            ("connect_timeout_secs", self.connect_timeout_secs == 0),
            ("keep_alive_secs", self.keep_alive_secs == 0),
            ("write_timeout_secs", self.write_timeout_secs == 0),
            ("down_window", self.down_window == 0),
            ("parked_messages", self.parked_messages == 0),
        ];
        if let Some((name, _)) = zero.into_iter().find(|(_, zero)| *zero) {
            return Err(LimitsError::Zero { name });
        }
        if (self.packet_bytes as usize) < LEAST_PACKET_BYTES || self.packet_bytes > LARGEST_PACKET_BYTES {
            return Err(LimitsError::Packet { bytes: self.packet_bytes });
        }
        if self.budget_bytes < self.packet_bytes as usize {
            return Err(LimitsError::Budget { budget_bytes: self.budget_bytes, packet_bytes: self.packet_bytes });
        }
        Ok(self)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            receive_maximum: 64,
            packet_bytes: 1 << 20,
            budget_bytes: 64 << 20,
            connect_timeout_secs: 10,
            keep_alive_secs: 300,
            session_expiry_secs: 24 * 3600,
            write_timeout_secs: 30,
            down_window: 16,
            parked_messages: 256,
            parked_bytes: 1 << 20,
            parked_total_bytes: 64 << 20,
        }
    }
}

/// Limits that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Nothing could ever pass.
    #[error("accept a limit: {name} is zero")]
    Zero {
        /// The limit's name.
        name: &'static str,
    },
    /// MQTT has no packets of that size, or nothing useful fits.
    #[error("accept a limit: packet_bytes is {bytes}, not between {LEAST_PACKET_BYTES} and {LARGEST_PACKET_BYTES}")]
    Packet {
        /// The size asked for.
        bytes: u32,
    },
    /// One packet would never get its reservation.
    #[error("accept a limit: budget_bytes {budget_bytes} is below packet_bytes {packet_bytes}")]
    Budget {
        /// The budget asked for.
        budget_bytes: usize,
        /// The packet size asked for.
        packet_bytes: u32,
    },
}

const LEAST_PACKET_BYTES: usize = 1024;
const LARGEST_PACKET_BYTES: u32 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_would_stop_everything_are_refused() {
        assert!(Limits::default().check().is_ok());
        let limits = Limits { down_window: 0, ..Limits::default() };
        assert_eq!(limits.check(), Err(LimitsError::Zero { name: "down_window" }));
        let limits = Limits { budget_bytes: 4096, ..Limits::default() };
        assert!(matches!(limits.check(), Err(LimitsError::Budget { .. })));
    }
}
