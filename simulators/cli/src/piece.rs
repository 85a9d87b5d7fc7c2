//! What a feed hands out and a history keeps: a block, a reading or a cycle of one channel, with its place.

use kilter_types::{ChannelId, Micros};
use kilter_wire::sensor::{Block, SensorUp};

/// A run of positions of one channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    /// The channel's number.
    pub(crate) channel: usize,
    /// Position of the first sample.
    pub(crate) position: u64,
    /// Simulated time at which the piece is complete.
    pub(crate) end_s: f64,
    /// Event time of the first sample.
    pub(crate) t: Micros,
    /// The values.
    pub(crate) data: Data,
}

/// The values of a piece, floats as little-endian bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    /// Evenly sampled.
    Block { rate_hz: f64, samples: Vec<u8> },
    /// One value.
    Reading(f32),
    /// One row.
    Cycle { n: u32, row: Vec<u8> },
}

impl Piece {
    /// Position behind the last sample.
    pub(crate) fn end(&self) -> u64 {
        match &self.data {
            Data::Block { samples, .. } => self.position + samples.len() as u64 / 4,
            Data::Reading(_) | Data::Cycle { .. } => self.position + 1,
        }
    }

    /// Memory that the values take.
    pub(crate) fn bytes(&self) -> usize {
        let values = match &self.data {
            Data::Block { samples: bytes, .. } | Data::Cycle { row: bytes, .. } => bytes.len(),
            Data::Reading(_) => 4,
        };
        values + size_of::<Self>()
    }

    /// The message for a reader that still needs what lies at `from` and behind.
    pub(crate) fn message(&self, from: u64) -> SensorUp<'_> {
        let channel = ChannelId(u8::try_from(self.channel).expect("an offer has at most 16 channels"));
        match &self.data {
            Data::Block { rate_hz, samples } => {
                let skip = from.saturating_sub(self.position);
                let t0 = Micros(self.t.0 + (skip as f64 * 1e6 / rate_hz).round() as i64);
                let start = usize::try_from(skip * 4).unwrap_or(usize::MAX).min(samples.len());
                SensorUp::Block(Block { channel, position: self.position + skip, t0, samples: &samples[start..] })
            }
            Data::Reading(value) => SensorUp::Reading { channel, position: self.position, t: self.t, value: *value },
            Data::Cycle { n, row } => SensorUp::CycleAt { channel, position: self.position, n: *n, t: self.t, row },
        }
    }
}

/// Floats as they travel.
pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
