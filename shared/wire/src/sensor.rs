//! Between a sensor (a microcontroller node, a simulator, a replay) and its agent: one machine's inputs as frames.
//!
//! The agent opens the conversation with [`SensorDown::Subscribe`]: which machine, and for each channel the first sample it
//! has not yet used. The sensor answers with [`SensorUp::Offer`] and sends from there on. Positions count samples (or
//! readings, or cycles) since the sensor's own beginning; the agent places windows on the grid of positions, so that a
//! conversation that is cut and taken up again gives the same windows. What the sensor no longer holds, it says with
//! [`SensorUp::Skipped`].

use kilter_types::{ChannelId, Hertz, MachineEvent, Micros, Name, Timeline, Unit};
use serde::{Deserialize, Serialize};

use crate::frame::Message;

/// The most samples in one block.
pub const MAX_BLOCK_SAMPLES: usize = 16 * 1024;

/// From the sensor to its agent. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SensorUp<'a> {
    /// What this sensor measures.
    Offer(Offer),
    /// Evenly sampled values.
    #[serde(borrow)]
    Block(Block<'a>),
    /// One value at one time.
    Reading {
        /// The channel.
        channel: ChannelId,
        /// Its place since the sensor's beginning.
        position: u64,
        /// When it was measured.
        t: Micros,
        /// The value; NaN marks a missing one.
        value: f32,
    },
    /// A row of a machine that counts cycles, from a sensor that does not know when they were.
    Cycle {
        /// The channel.
        channel: ChannelId,
        /// Its place since the sensor's beginning.
        position: u64,
        /// Cycle number.
        n: u32,
        /// f32 LE values.
        #[serde(borrow)]
        row: &'a [u8],
    },
    /// Something that happened to the machine.
    Event {
        /// When.
        t: Micros,
        /// What.
        event: MachineEvent,
    },
    /// Samples that will never come.
    Skipped {
        /// The channel.
        channel: ChannelId,
        /// First missing position.
        from: u64,
        /// First position that follows.
        to: u64,
    },
    /// The recording has ended; nothing follows.
    End,
    /// A row of a machine that counts cycles, with its time. Since version 2.
    CycleAt {
        /// The channel.
        channel: ChannelId,
        /// Its place since the sensor's beginning.
        position: u64,
        /// Cycle number.
        n: u32,
        /// When the cycle was.
        t: Micros,
        /// f32 LE values.
        #[serde(borrow)]
        row: &'a [u8],
    },
}

impl Message for SensorUp<'_> {
    fn version(&self) -> u8 {
        match self {
            Self::Offer(_)
            | Self::Block(_)
            | Self::Reading { .. }
            | Self::Cycle { .. }
            | Self::Event { .. }
            | Self::Skipped { .. }
            | Self::End => 1,
            Self::CycleAt { .. } => 2,
        }
    }
}

/// What a sensor measures: the machine and its channels, with declared units and rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The machine.
    pub asset: Name,
    /// Whose clock the times are on.
    pub timeline: Timeline,
    /// The channels, by [`ChannelId`].
    pub channels: heapless::Vec<ChannelOffer, 16>,
}

/// One channel of an offer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelOffer {
    /// Its name.
    pub name: Name,
    /// The unit of its values.
    pub unit: Unit,
    /// Its rate; `None` for readings and cycles.
    pub rate: Option<Hertz>,
    /// The position with which this conversation begins.
    pub position: u64,
}

/// Evenly sampled values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block<'a> {
    /// The channel.
    pub channel: ChannelId,
    /// Position of the first sample.
    pub position: u64,
    /// Time of the first sample.
    pub t0: Micros,
    /// The samples as f32 LE.
    #[serde(borrow)]
    pub samples: &'a [u8],
}

/// From the agent to its sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SensorDown {
    /// Asks for one machine's inputs.
    Subscribe {
        /// The machine.
        asset: Name,
        /// Per channel: the first position that is still needed.
        from: heapless::Vec<(Name, u64), 16>,
    },
}

impl Message for SensorDown {
    fn version(&self) -> u8 {
        match self {
            Self::Subscribe { .. } => 1,
        }
    }
}

/// The f32 values behind little-endian bytes; a last incomplete value is left out.
pub fn values(bytes: &[u8]) -> impl ExactSizeIterator<Item = f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}
