//! The enrolment bundle: everything an agent needs to be let in, in one file.
//!
//! `kilter-aggregator enroll` writes it as TOML (mode 0600), `kilter-agent` reads it. The text type is the reader's own.

use kilter_types::{DeviceId, Name};
use serde::{Deserialize, Serialize};

/// One agent's identity and what it trusts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle<S> {
    /// Version of this layout.
    pub version: u16,
    /// Who owns the device.
    pub tenant: Name,
    /// The device's id.
    pub device: DeviceId,
    /// Its secret, shown to nobody else; the aggregator keeps only a hash.
    pub credential: S,
    /// `host:port` of the MQTT listener.
    pub server: S,
    /// Certificate authority of the listener in PEM; empty for plain TCP, which is allowed on loopback only.
    pub server_ca: S,
    /// Public key that signs models and plans, 64 hexadecimal digits.
    pub signing_key: S,
}

/// The version of [`Bundle`] that this build writes.
pub const BUNDLE_VERSION: u16 = 1;
