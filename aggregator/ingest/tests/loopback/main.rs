//! The shells against real MQTT peers over loopback.

mod device;
mod hostile;
mod listener;
