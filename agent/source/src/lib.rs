//! Where inputs come from: a sensor's socket, a recorded file, messages of a broker or of whoever hands them to a [`Door`], one machine
//! each; and nodes on a serial line, whose records come ready made ([`Nodes`]).
//!
//! A [`Source`] is pulled by the thread that feeds the machine's monitor, so back-pressure needs no queue: a monitor that is
//! busy reads less, TCP fills up and the sensor waits. What comes by itself lies in a short queue, and when that is full whoever
//! sends it waits. Nothing is guessed: a channel whose unit or rate differs from the configuration, or is not declared on either
//! side, is refused with what would put it right.

mod check;
mod conversation;
mod file;
mod line;
mod message;
mod mqtt;
mod node;
mod push;
mod serial;
mod socket;
mod stop;

use kilter_types::{ChannelId, Hertz, Input, MachineEvent, Micros, Name, Timeline, Unit};

pub use check::{Difference, SourceError};
pub use file::{FileConfig, FileSource};
pub use line::Deframer;
pub use message::{Encoding, MAX_MESSAGE_BYTES, MessageError};
pub use mqtt::{MqttConfig, MqttSource};
pub use node::{Heard, Nodes, Now, Offset, encode};
pub use push::{Door, PushError, PushSource, QUEUE};
pub use serial::{LineTurn, SerialLine};
pub use socket::SocketSource;
pub use stop::Stop;

/// A channel as the configuration declares it. Its place in the list is its [`ChannelId`].
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelSpec {
    /// Its name at the source.
    pub name: Name,
    /// The unit of its values.
    pub unit: Unit,
    /// Its rate; `None` for readings and cycles.
    pub rate: Option<Hertz>,
}

/// One machine's inputs, in order.
pub trait Source: Send {
    /// The next item. Waits at most a fraction of a second, then says [`Item::Idle`]. After an error it can be called again: the
    /// source recovers by itself where it can.
    fn next(&mut self) -> Result<Item<'_>, SourceError>;
}

/// What a source hands over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    /// A conversation begins; times are on this timeline.
    Started(Timeline),
    /// An input of one channel.
    Input {
        /// The channel.
        channel: ChannelId,
        /// Position of its first sample since the source's beginning.
        position: u64,
        /// What it says.
        input: Input<'a>,
    },
    /// Something that happened to the machine.
    Event {
        /// When.
        t: Micros,
        /// What.
        event: MachineEvent,
    },
    /// Positions that will never come.
    Skipped {
        /// The channel.
        channel: ChannelId,
        /// First missing position.
        from: u64,
        /// First position that follows.
        to: u64,
    },
    /// Nothing came for a while.
    Idle,
    /// The conversation was cut; it is taken up again where it was.
    Interrupted,
    /// The recording has ended; nothing follows.
    End,
}
