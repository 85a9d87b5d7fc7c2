//! What a sensor's frames say, placed on the channels that are configured here: the same for a socket, a broker and a poster.

use kilter_types::{ChannelId, Hertz, Input, MachineEvent, Micros, Timeline};
use kilter_wire::sensor::{Offer, SensorUp, values};

use crate::Item;

/// The sensor's channels: for each, which of ours it is, and its offered rate.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<(Option<ChannelId>, Option<Hertz>)>);

/// What came, without its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ready {
    Idle,
    Started(Timeline),
    Block { channel: ChannelId, position: u64, t0: Micros, rate: Hertz },
    Reading { channel: ChannelId, position: u64, t: Micros, value: f32 },
    Cycle { channel: ChannelId, position: u64, n: u32, t: Option<Micros> },
    Event(Micros, MachineEvent),
    Skipped { channel: ChannelId, from: u64, to: u64 },
    End,
}

impl Places {
    /// By the places that [`crate::check`] found for the offer's channels.
    pub(crate) fn new(map: Vec<Option<ChannelId>>, offer: &Offer) -> Self {
        Self(map.into_iter().zip(offer.channels.iter().map(|channel| channel.rate)).collect())
    }

    /// What the message says, its values in `samples`; `None` for a channel that nobody asked for.
    pub(crate) fn place(&self, message: &SensorUp<'_>, samples: &mut Vec<f32>) -> Option<Ready> {
        let known = |channel: &ChannelId| self.0.get(usize::from(channel.0)).copied();
        let ours = |channel: &ChannelId| known(channel)?.0;
        let mut take = |bytes: &[u8]| {
            samples.clear();
            samples.extend(values(bytes));
        };
        Some(match message {
            SensorUp::Offer(offer) => Ready::Started(offer.timeline),
            SensorUp::Event { t, event } => Ready::Event(*t, *event),
            SensorUp::End => Ready::End,
            SensorUp::Block(block) => {
                let (Some(channel), Some(rate)) = known(&block.channel)? else { return None };
                take(block.samples);
                Ready::Block { channel, position: block.position, t0: block.t0, rate }
            }
            SensorUp::Reading { channel, position, t, value } => {
                Ready::Reading { channel: ours(channel)?, position: *position, t: *t, value: *value }
            }
            SensorUp::Cycle { channel, position, n, row } => {
                let channel = ours(channel)?;
                take(row);
                Ready::Cycle { channel, position: *position, n: *n, t: None }
            }
            SensorUp::CycleAt { channel, position, n, t, row } => {
                let channel = ours(channel)?;
                take(row);
                Ready::Cycle { channel, position: *position, n: *n, t: Some(*t) }
            }
            SensorUp::Skipped { channel, from, to } => Ready::Skipped { channel: ours(channel)?, from: *from, to: *to },
        })
    }
}

impl Ready {
    /// The channel and the position that follows.
    pub(crate) fn reached(&self, samples: usize) -> Option<(ChannelId, u64)> {
        match *self {
            Self::Block { channel, position, .. } => Some((channel, position.saturating_add(samples as u64))),
            Self::Reading { channel, position, .. } | Self::Cycle { channel, position, .. } => {
                Some((channel, position.saturating_add(1)))
            }
            Self::Skipped { channel, to, .. } => Some((channel, to)),
            Self::Idle | Self::Started(_) | Self::Event(..) | Self::End => None,
        }
    }

    /// With its values.
    pub(crate) fn item(self, samples: &[f32]) -> Item<'_> {
        match self {
            Self::Idle => Item::Idle,
            Self::Started(timeline) => Item::Started(timeline),
            Self::Block { channel, position, t0, rate } => {
                Item::Input { channel, position, input: Input::Block { t0, rate, samples } }
            }
            Self::Reading { channel, position, t, value } => {
                Item::Input { channel, position, input: Input::Reading { t, value } }
            }
            Self::Cycle { channel, position, n, t } => {
                Item::Input { channel, position, input: Input::Cycle { n, t, row: samples } }
            }
            Self::Event(t, event) => Item::Event { t, event },
            Self::Skipped { channel, from, to } => Item::Skipped { channel, from, to },
            Self::End => Item::End,
        }
    }
}

/// Moves the positions on to what follows.
pub(crate) fn reach(positions: &mut [u64], reached: Option<(ChannelId, u64)>) {
    if let Some((channel, end)) = reached
        && let Some(position) = positions.get_mut(usize::from(channel.0))
    {
        *position = (*position).max(end);
    }
}
