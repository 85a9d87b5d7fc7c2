//! A recording in memory: its channels, what is known about the machine, and its inputs in order.

use kilter_types::{ChannelId, Hertz, Input, MachineEvent, Micros, Name, Rpm, Unit};
use serde::{Deserialize, Serialize};

/// The most channels of one recording, as many as a sensor may offer.
pub const MAX_CHANNELS: usize = 16;

/// One machine's recorded inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// What people call it; nothing is concluded from it.
    pub name: String,
    /// The channels, by [`ChannelId`].
    pub channels: Vec<Channel>,
    /// Shaft speed, where it is declared.
    pub rpm: Option<Rpm>,
    /// The bearing, where it is declared.
    pub bearing: Option<Bearing>,
    /// The inputs, in the order of the file.
    pub items: Vec<Item>,
    /// What a reader should know about the data.
    pub notes: Notes,
}

impl Recording {
    /// The inputs in order, with their channel and position; [`Item::Skipped`] is left out.
    pub fn inputs(&self) -> impl Iterator<Item = (ChannelId, u64, Input<'_>)> {
        self.items.iter().filter_map(|item| item.input(&self.channels))
    }

    /// Every value of one channel in order, holes left out.
    pub fn samples(&self, channel: ChannelId) -> Vec<f32> {
        let mut samples = Vec::new();
        for item in &self.items {
            match item {
                Item::Block { channel: c, samples: block, .. } if *c == channel => samples.extend_from_slice(block),
                Item::Reading { channel: c, value, .. } if *c == channel => samples.push(*value),
                Item::Block { .. } | Item::Reading { .. } | Item::Cycle { .. } | Item::Event { .. } => {}
                Item::Skipped { .. } => {}
            }
        }
        samples
    }

    /// Evenly sampled channels as blocks that take turns, so that a reader sees all channels advance together.
    pub(crate) fn of_blocks(name: &str, channels: Vec<Channel>, t0: Micros, values: &[Vec<f32>]) -> Self {
        let mut recording = Self::empty(name, channels);
        let longest = values.iter().map(Vec::len).max().unwrap_or(0);
        for start in (0..longest).step_by(BLOCK_SAMPLES) {
            for (index, samples) in values.iter().enumerate() {
                let end = samples.len().min(start + BLOCK_SAMPLES);
                let Some(rate) = recording.channels[index].rate else { continue };
                if let Some(block) = samples.get(start..end).filter(|block| !block.is_empty()) {
                    recording.notes.missing += block.iter().filter(|x| !x.is_finite()).count() as u64;
                    let samples = block.iter().map(|x| if x.is_finite() { *x } else { f32::NAN }).collect();
                    let t0 = t0 + span(start as u64, rate);
                    let channel = channel_id(index);
                    recording.items.push(Item::Block { channel, position: start as u64, t0, samples });
                }
            }
        }
        recording
    }

    pub(crate) fn empty(name: &str, channels: Vec<Channel>) -> Self {
        let name = name.to_owned();
        Self { name, channels, rpm: None, bearing: None, items: Vec::new(), notes: Notes::default() }
    }
}

/// One channel of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Its name.
    pub name: Name,
    /// The unit of its values as they stand in the file.
    pub unit: Unit,
    /// Its rate; `None` for readings and cycles.
    pub rate: Option<Hertz>,
}

/// What a person declares about one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelDeclaration {
    /// Column as the header names it, or `#3` for the third; for `.npy` and `.wav` the order counts.
    pub column: String,
    /// The channel's name; made from the column where it is left out.
    #[serde(default)]
    pub name: Option<Name>,
    /// The unit of the values.
    #[serde(default)]
    pub unit: Option<Unit>,
}

/// One input of a recording. Positions count a channel's samples, readings or cycles from the beginning, holes included.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Evenly sampled values at the channel's rate.
    Block {
        /// The channel.
        channel: ChannelId,
        /// Position of the first sample.
        position: u64,
        /// Time of the first sample.
        t0: Micros,
        /// The samples; NaN is a missing one.
        samples: Vec<f32>,
    },
    /// One value at one time.
    Reading {
        /// The channel.
        channel: ChannelId,
        /// Its position.
        position: u64,
        /// When.
        t: Micros,
        /// The value; NaN is a missing one.
        value: f32,
    },
    /// One row of a machine that counts cycles.
    Cycle {
        /// The channel.
        channel: ChannelId,
        /// Its position.
        position: u64,
        /// Cycle number.
        n: u32,
        /// The row's values.
        row: Vec<f32>,
    },
    /// Something that happened to the machine.
    Event {
        /// When.
        t: Micros,
        /// What.
        event: MachineEvent,
    },
    /// Samples that were not recorded.
    Skipped {
        /// The channel.
        channel: ChannelId,
        /// First missing position.
        from: u64,
        /// First position that follows.
        to: u64,
    },
}

impl Item {
    /// This item as an input, with its channel and position; `None` for [`Item::Skipped`].
    pub fn input<'a>(&'a self, channels: &[Channel]) -> Option<(ChannelId, u64, Input<'a>)> {
        match self {
            Self::Block { channel, position, t0, samples } => {
                let rate = channels.get(usize::from(channel.0))?.rate?;
                Some((*channel, *position, Input::Block { t0: *t0, rate, samples }))
            }
            Self::Reading { channel, position, t, value } => {
                Some((*channel, *position, Input::Reading { t: *t, value: *value }))
            }
            Self::Cycle { channel, position, n, row } => {
                Some((*channel, *position, Input::Cycle { n: *n, t: None, row }))
            }
            Self::Event { t, event } => Some((ChannelId(0), 0, Input::Event { t: *t, event: *event })),
            Self::Skipped { .. } => None,
        }
    }
}

/// A bearing as a recording declares it.
#[derive(Debug, Clone, PartialEq)]
pub enum Bearing {
    /// By name, for a catalogue.
    Designation(String),
    /// By its frequencies per revolution of the shaft; `bsf` is the spin of one element.
    Orders {
        /// Outer race.
        bpfo: f32,
        /// Inner race.
        bpfi: f32,
        /// Rolling element.
        bsf: f32,
        /// Cage.
        ftf: f32,
    },
}

/// What a reader should know about the data; the first [`Notes::KEPT`] are told one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Values that were empty or not finite.
    pub missing: u64,
    /// Rows whose time lies before that of the row above.
    pub clock_back: u64,
    /// Where, in order.
    pub first: Vec<Note>,
}

impl Notes {
    /// How many notes keep their place.
    pub const KEPT: usize = 100;

    pub(crate) fn add(&mut self, note: Note) {
        match note {
            Note::Missing { .. } => self.missing += 1,
            Note::ClockBack { .. } => self.clock_back += 1,
        }
        if self.first.len() < Self::KEPT {
            self.first.push(note);
        }
    }
}

/// Something about one place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A cell without a value.
    Missing {
        /// Line, from 1.
        line: u64,
        /// The channel.
        channel: ChannelId,
    },
    /// The clock went back.
    ClockBack {
        /// Line, from 1.
        line: u64,
        /// How far.
        by: Micros,
    },
}

/// A name from any text: lower case, with what a name can't hold replaced by `-`.
pub(crate) fn name_from(text: &str) -> Name {
    let word: String = text
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if matches!(c, 'a'..='z' | '0'..='9' | '_' | '.') { c } else { '-' })
        .take(kilter_types::MAX_NAME)
        .collect();
    let word = if word.is_empty() { "unnamed" } else { &word };
    Name::new(word).expect("only allowed characters, at least one and at most MAX_NAME")
}

pub(crate) fn channel_id(index: usize) -> ChannelId {
    ChannelId(u8::try_from(index).expect("at most MAX_CHANNELS channels"))
}

/// The time that this many samples take.
pub(crate) fn span(samples: u64, rate: Hertz) -> Micros {
    Micros((samples as f64 * 1e6 / f64::from(rate.0)).round() as i64)
}

const BLOCK_SAMPLES: usize = 4096;
