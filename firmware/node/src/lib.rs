//! The node: an accelerometer's samples through the same monitor as on a gateway, alarms at its own output, records on a line.
//!
//! Boards bring pins and peripherals ([`Hardware`]); everything else is here and is tested on the host. No allocation, no clock:
//! the shell passes `now`. The local alarm is set before anything is sent, so it needs no link (A2).
//!
//! **On the line** the node speaks as a device of its own: frames of [`kilter_wire::frame`] of kind `Up` (hello, records in
//! batches, time requests, fetches, command results) and `NodeUp` (its status), each COBS-encoded and closed by a zero byte;
//! `Down` and `NodeDown` come back the same way. The origin of a record stays the node, whoever carries it on. There is no
//! journal: what the line does not take is counted, and its seq is missing, which the gateway tells as a gap.
//!
//! **In flash** lie two model slots and a log of states ([`slots`]), and the account of faults ([`fault`]), which memory also keeps over a reset.
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(feature = "embassy-boot")]
mod bootslots;
mod cells;
pub mod driver;
pub mod duty;
pub mod fault;
mod hardware;
pub mod image;
mod line;
pub mod log;
mod node;
mod obey;
mod renew;
pub mod ring;
pub mod slots;
mod time;
mod voice;

#[cfg(feature = "embassy-boot")]
pub use bootslots::BootSlots;
pub use duty::{Duty, Meter, Power};
pub use fault::{FaultLog, Faults, KEPT_BYTES, Reset};
pub use hardware::{
    Absent, Accelerometer, AlarmOutput, Filled, Flash, Hardware, Link, Parts, PinAlarm, Thermometer, Watchdog,
};
pub use image::{Booted, Images};
pub use line::Line;
pub use node::{BLOCK, Counters, Identity, Node, Turn};
pub use obey::PROVING_WINDOWS;
pub use ring::{Lend, Ring, Sampler};
pub use slots::Slots;
