//! The embedded MQTT listener: connection state of our own over a codec crate (docs/adr/0007-mqtt-crates.md).
//!
//! It is a gateway for devices and no general broker. A device publishes to its own up topic and subscribes to its own down
//! topic; the only other party is the server in the same process. A PUBACK is the server's word that the message is durable.
//!
//! What it does of MQTT 5 and 3.1.1: QoS 0 and 1 both ways, credit through Receive Maximum, sessions with expiry, takeover,
//! keep alive, one topic alias, user properties (let through up to a bound; nothing depends on them). What it does not, and says so in
//! CONNACK: QoS 2, retained messages, wildcard and shared subscriptions, subscription ids, enhanced authentication. A will is accepted and
//! not published: the server sees the connection end.

mod authorise;
mod header;
mod hub;
mod limits;
mod outbox;
mod protocol;
mod reason;
mod serve;
mod session;

pub use authorise::{AnyDevice, Authorise, Refusal};
pub use hub::Hub;
pub use limits::{Limits, LimitsError};
pub use serve::serve;
pub use session::Session;
