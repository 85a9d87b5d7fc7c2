//! The shells against real MQTT peers over loopback.

mod broker;
mod certificate;
mod device;
mod hostile;
mod listener;
mod version;
