//! Who may connect and on which topics: asked by the listener, answered by whoever keeps the credentials.

use kilter_types::Name;

use crate::gateway::Principal;
use crate::topic;

/// The listener's question to the catalogue of devices. It runs on the connection's task, so an answer takes microseconds:
/// credentials are random tokens kept as digests, not passwords under a slow hash.
pub trait Authorise: Send + Sync {
    /// Checks a credential and names who it belongs to.
    fn connect(&self, client_id: &str, username: Option<&str>, password: Option<&[u8]>) -> Result<Principal, Refusal>;

    /// Whether a device may publish to a topic: its own up topic only.
    fn may_publish(&self, device: &Principal, topic: &str) -> bool {
        topic::parse_up(topic).is_some_and(|owner| owner == *device)
    }

    /// Whether a device may subscribe to a filter: its own down topic only. The listener serves no other.
    fn may_subscribe(&self, device: &Principal, filter: &str) -> bool {
        filter == topic::down(device)
    }
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such device, or not its credential: the two look alike from outside.
    BadCredential,
    /// The device is known, but may not connect (revoked).
    NotAuthorized,
    /// The client id is not one that this device may use.
    ClientId,
    /// Not now.
    Busy,
}

/// One open door for everybody who names a device, for tests and loopback demos: the user name is the device, no password.
#[derive(Clone, Debug)]
pub struct AnyDevice {
    /// The tenant that all devices belong to.
    pub tenant: Name,
}

impl Authorise for AnyDevice {
    fn connect(
        &self,
        _client_id: &str,
        username: Option<&str>,
        _password: Option<&[u8]>,
    ) -> Result<Principal, Refusal> {
        let device = username.and_then(|name| kilter_types::DeviceId::new(name).ok()).ok_or(Refusal::BadCredential)?;
        Ok(Principal { tenant: self.tenant.clone(), device })
    }
}
