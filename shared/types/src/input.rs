//! What a sensor hands over: the four kinds of input.

use serde::{Deserialize, Serialize};

use crate::{Hertz, Micros, Rpm};

/// A channel of one machine, by its place in the machine's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelId(pub u8);

/// One thing that a source says about a channel, in sample time.
///
/// Times are microseconds since the Unix epoch on a `source` timeline and microseconds since boot on a `device` timeline.
/// Values are in the unit that the channel declares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input<'a> {
    /// Evenly sampled values; the first at `t0`.
    Block {
        /// Time of the first sample.
        t0: Micros,
        /// Sampling rate as the source states it.
        rate: Hertz,
        /// The samples; NaN marks a missing one.
        samples: &'a [f32],
    },
    /// One value at one time.
    Reading {
        /// When it was measured.
        t: Micros,
        /// The value; NaN marks a missing one.
        value: f32,
    },
    /// One row of a machine that counts cycles instead of seconds.
    Cycle {
        /// Cycle number.
        n: u32,
        /// When the cycle was; `None` from a source that does not know, and then the cycle's position stands for it.
        t: Option<Micros>,
        /// The row's values.
        row: &'a [f32],
    },
    /// Something that happened to the machine.
    Event {
        /// When.
        t: Micros,
        /// What.
        event: MachineEvent,
    },
}

/// What a source can say about the machine itself.
#[derive(Clone, Debug, Copy, PartialEq, Serialize, Deserialize)]
pub enum MachineEvent {
    /// The shaft's speed, from a tacho or a drive.
    Speed(Rpm),
    /// Load in per cent of nominal.
    Load(f32),
    /// The source was interrupted here; the open window closes with a gap flag.
    Interrupted,
    /// Maintenance was done; baselines start again.
    Maintenance,
}
