//! The node: an accelerometer's samples through the same monitor as on a gateway, alarms at its own output, records on a line.
//!
//! Boards bring pins and peripherals; everything else is here and is tested on the host. No allocation, no clock: the shell
//! passes `now`. The local alarm is set before anything is sent, so it needs no link (A2).
//!
//! **On the line** the node speaks as a device of its own: frames of [`kilter_wire::frame`] of kind `Up` (records in batches,
//! time requests, command results), each COBS-encoded and closed by a zero byte; frames of kind `Down` come back the same way.
//! The origin of a record stays the node, whoever carries it on. There is no journal yet: what the line does not take is
//! counted, and its seq is missing.
#![no_std]

#[cfg(test)]
extern crate std;

mod hardware;
mod line;
mod node;

pub use hardware::{Accelerometer, AlarmOutput, Filled, Link, PinAlarm};
pub use line::Line;
pub use node::{BLOCK, Counters, Identity, Node};
