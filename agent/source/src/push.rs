//! Inputs that come by themselves: whoever receives messages hands them to a [`Door`], and the machine's thread takes them from a
//! [`PushSource`].
//!
//! Between the two lie at most [`QUEUE`] messages. When they are all there, the door says so and whoever pushes waits: nothing is
//! dropped here. A message counts as taken when the next one is asked for; only then its sender hears of it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use kilter_types::{Micros, Name, Timeline};
use thiserror::Error;
use tracing::debug;

use crate::conversation::{Ready, reach};
use crate::message::{self, Encoding, MessageError, Piece};
use crate::{ChannelSpec, Item, Source, SourceError, Stop};

/// Messages that may wait for the machine's thread.
pub const QUEUE: usize = 32;

/// Where messages for one machine are handed in.
#[derive(Clone, Debug)]
pub struct Door {
    asset: Name,
    channels: Arc<[ChannelSpec]>,
    queue: SyncSender<Pushed>,
}

/// Why a message is not taken.
#[derive(Debug, Error)]
pub enum PushError {
    /// It is wrong.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The machine has not come to those before it; try again.
    #[error("{QUEUE} messages wait already: send again in a moment")]
    Full,
    /// The machine is watched no more.
    #[error("nobody takes messages any more")]
    Ended,
}

/// What lies in the queue.
pub(crate) enum Pushed {
    /// What a message says, or what is wrong with it, and whom to tell once it was taken.
    Message(Result<Vec<Piece>, SourceError>, Option<Receipt>),
    /// The way to the sender is open.
    Up,
    /// The way to the sender was cut.
    Down,
}

/// Tells the sender of a message that it was taken.
pub(crate) type Receipt = Box<dyn FnOnce() + Send>;

/// One machine's messages, in the order in which they came.
pub struct PushSource {
    asset: Name,
    queue: Receiver<Pushed>,
    positions: Vec<u64>,
    /// Per channel: the newest reading that was counted here.
    newest: Vec<Option<Micros>>,
    stop: Stop,
    timeline: Option<Timeline>,
    /// What is left of the message, and what was handed over of it last.
    pieces: std::vec::IntoIter<Piece>,
    samples: Vec<f32>,
    receipt: Option<Receipt>,
}

impl Door {
    /// A door and the source behind it, for the machine `asset`, from `positions` on (one per channel).
    pub fn open(asset: Name, channels: Vec<ChannelSpec>, mut positions: Vec<u64>, stop: Stop) -> (Self, PushSource) {
        positions.resize(channels.len(), 0);
        let (sender, queue) = sync_channel(QUEUE);
        let newest = vec![None; channels.len()];
        let door = Self { asset: asset.clone(), channels: channels.into(), queue: sender };
        let pieces = Vec::new().into_iter();
        let (timeline, samples, receipt) = (None, Vec::new(), None);
        (door, PushSource { asset, queue, positions, newest, stop, timeline, pieces, samples, receipt })
    }

    /// Takes a whole message or nothing of it.
    pub fn push(&self, encoding: Encoding, bytes: &[u8]) -> Result<(), PushError> {
        let pieces = self.parse(encoding, bytes)?;
        self.queue.try_send(Pushed::Message(Ok(pieces), None)).map_err(|error| match error {
            TrySendError::Full(_) => PushError::Full,
            TrySendError::Disconnected(_) => PushError::Ended,
        })
    }

    pub(crate) fn parse(&self, encoding: Encoding, bytes: &[u8]) -> Result<Vec<Piece>, MessageError> {
        message::parse(&self.asset, &self.channels, encoding, bytes)
    }

    /// Puts it into the queue as soon as there is room; `false` once nobody takes anything any more.
    pub(crate) fn wait(&self, mut pushed: Pushed, stop: &Stop) -> bool {
        loop {
            pushed = match self.queue.try_send(pushed) {
                Ok(()) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(pushed)) => pushed,
            };
            if stop.wait(ROOM_POLL) {
                return false;
            }
        }
    }
}

impl PushSource {
    /// Counts what was not counted at its origin; `None` for a reading that came before.
    fn count(&mut self, ready: Ready) -> Option<Ready> {
        match ready {
            Ready::Reading { channel, t, value, .. } => {
                let newest = self.newest.get_mut(usize::from(channel.0))?;
                if newest.is_some_and(|newest| t <= newest) {
                    debug!(asset = %self.asset, channel = channel.0, t_us = t.0, "a reading came twice");
                    return None;
                }
                *newest = Some(t);
                let position = self.positions.get(usize::from(channel.0)).copied()?;
                Some(Ready::Reading { channel, position, t, value })
            }
            Ready::Cycle { channel, n, t, .. } => {
                let position = self.positions.get(usize::from(channel.0)).copied()?;
                Some(Ready::Cycle { channel, position, n, t })
            }
            Ready::Idle
            | Ready::Started(_)
            | Ready::Block { .. }
            | Ready::Event(..)
            | Ready::Skipped { .. }
            | Ready::End => Some(ready),
        }
    }

    /// The next piece of the message, its values in `samples`; `None` at its end.
    fn piece(&mut self) -> Option<Ready> {
        loop {
            let Piece { ready, samples, uncounted } = self.pieces.next()?;
            let ready = if uncounted { self.count(ready) } else { Some(ready) };
            match ready {
                None => {}
                // Each message says it; it is news only when it changes.
                Some(Ready::Started(timeline)) if self.timeline == Some(timeline) => {}
                Some(ready) => {
                    if let Ready::Started(timeline) = ready {
                        self.timeline = Some(timeline);
                    }
                    reach(&mut self.positions, ready.reached(samples.len()));
                    self.samples = samples;
                    return Some(ready);
                }
            }
        }
    }
}

impl Source for PushSource {
    fn next(&mut self) -> Result<Item<'_>, SourceError> {
        if self.stop.is_set() {
            return Ok(Item::Idle);
        }
        let ready = loop {
            if let Some(ready) = self.piece() {
                break ready;
            }
            if let Some(receipt) = self.receipt.take() {
                receipt();
            }
            match self.queue.recv_timeout(POLL) {
                Ok(Pushed::Message(Ok(pieces), receipt)) => {
                    (self.pieces, self.receipt) = (pieces.into_iter(), receipt);
                }
                Ok(Pushed::Message(Err(error), receipt)) => {
                    // It would come again for ever.
                    receipt.into_iter().for_each(|receipt| receipt());
                    return Err(error);
                }
                Ok(Pushed::Up) => break Ready::Started(*self.timeline.get_or_insert(Timeline::Source)),
                Ok(Pushed::Down) => return Ok(Item::Interrupted),
                Err(RecvTimeoutError::Timeout) => break Ready::Idle,
                Err(RecvTimeoutError::Disconnected) => {
                    self.stop.wait(POLL);
                    break Ready::Idle;
                }
            }
        };
        Ok(ready.item(&self.samples))
    }
}

const POLL: Duration = Duration::from_millis(200);
const ROOM_POLL: Duration = Duration::from_millis(5);
