//! Why a configuration is refused, in words that say what would fit.

use core::fmt;

/// Why a configuration was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A channel.
    Channel {
        /// Its place.
        channel: usize,
        /// What does not fit.
        reason: Reason,
    },
    /// A group.
    Group {
        /// Its place.
        group: usize,
        /// What does not fit.
        reason: Reason,
    },
    /// No group at all.
    NoGroups,
    /// More groups than this build of the monitor holds.
    TooManyGroups,
    /// Commissioning windows, regimes, patience, speed or a limit out of range.
    Figures,
    /// The caller could not lend so many values.
    Memory {
        /// Values of four bytes.
        values: usize,
    },
}

/// What does not fit in a channel or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The unit.
    Unit,
    /// The rate.
    Rate,
    /// The range.
    Range,
    /// The pulses of a tacho.
    Pulses,
    /// Window or hop.
    Window,
    /// Kind or number of the channels.
    Channels,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "its unit does not fit its kind (vibration: g or m/s2, speed: rpm or Hz, tacho: 1, ambient: degC or degF)",
            Self::Rate => "its rate must lie between 1 Hz and 10 MHz",
            Self::Range => "its range must be two different numbers, the lower one first",
            Self::Pulses => "a machine has one tacho at most, of 1 to 1000 pulses per revolution, and with it no other speed",
            Self::Window => {
                "window and hop must be at least 1; a vibration window is a multiple of 4 with prime factors 2, 3, 5 from 16 to \
                 65536, a reading window is at most 4096, a cycle window is 1"
            }
            Self::Channels => {
                "its channels must exist, be of its kind and differ (vibration and cycle: one; temperature: one and perhaps a \
                 reference; readings: up to eight)"
            }
        })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel { channel, reason } => write!(f, "use channel {channel}: {reason}"),
            Self::Group { group, reason } => write!(f, "use feature group {group}: {reason}"),
            Self::NoGroups => f.write_str("monitor a machine without a feature group"),
            Self::TooManyGroups => f.write_str("fit so many feature groups into this monitor"),
            Self::Figures => {
                f.write_str("use the monitor's figures: a limit, patience, regimes or commissioning is out of range")
            }
            Self::Memory { values } => write!(f, "get memory for {values} more values"),
        }
    }
}

impl core::error::Error for ConfigError {}
