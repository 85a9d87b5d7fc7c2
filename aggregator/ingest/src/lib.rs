//! Devices at the aggregator's door: sessions, authorisation per topic, acknowledgement after durability, admission.
//!
//! The cores ([`listener::Session`], [`listener::Hub`], [`admit`]) do no IO. Three shells carry messages: the embedded MQTT
//! listener ([`listener::serve`]), a client of an external broker ([`broker`]) and QUIC ([`quic`]). The server sees neither: it receives
//! [`Inbound`] messages, settles their [`AckHandle`] once they are durable, and sends through [`DeviceLink`].

mod ack;
pub mod admit;
pub mod broker;
mod budget;
pub mod certificate;
mod counters;
mod gateway;
pub mod listener;
pub mod quic;
mod quota;
pub mod topic;
mod unpack;

pub use ack::{AckHandle, Refuse};
pub use admit::{Admission, Admit, AdmitCounters, Exchange, Intake, Records};
pub use counters::Counters;
pub use gateway::{DeviceLink, Inbound, Presence, Principal, SendError, Sent};
