//! How a node introduces itself on a link that has no packets of its own for that (QUIC): the first frame each way.

use kilter_types::{DeviceId, Name};
use serde::{Deserialize, Serialize};

use crate::frame::Message;

/// The protocol's name in TLS: a server that speaks something else is told apart before a credential is sent.
pub const ALPN: &[u8] = b"kilter/1";

/// The first frame each way. Variants are only ever added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Greeting<'a> {
    /// The node says who it is.
    #[serde(borrow)]
    Hello(Credential<'a>),
    /// It is let in.
    Accepted,
    /// It is not, and why, as a word.
    Refused(&'a str),
}

/// Who a node is, and its secret.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential<'a> {
    /// Who owns the device.
    pub tenant: &'a str,
    /// The device.
    pub device: &'a str,
    /// Its secret.
    pub secret: &'a str,
}

impl core::fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Credential").field("tenant", &self.tenant).field("device", &self.device).finish_non_exhaustive()
    }
}

impl Credential<'_> {
    /// Tenant and device, if they are names.
    pub fn principal(&self) -> Option<(Name, DeviceId)> {
        Some((Name::new(self.tenant).ok()?, DeviceId::new(self.device).ok()?))
    }
}

impl Message for Greeting<'_> {
    fn version(&self) -> u8 {
        match self {
            Self::Hello(_) | Self::Accepted | Self::Refused(_) => 2,
        }
    }
}
