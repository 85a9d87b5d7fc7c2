//! Messages from the aggregator to a node.

use kilter_types::{Class, DeviceId, Digest, Epoch, Event, Generation, JournalId, Micros, Monotonic, Name, Point, Who};
use serde::{Deserialize, Serialize};

use crate::SignedManifest;
use crate::frame::Message;

/// A message down. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Down<'a> {
    /// What is held, what is committed, and how much more may come.
    Ack(Ack),
    /// What the node shall run.
    #[serde(borrow)]
    Plan(Plan<'a>),
    /// A part of an artifact.
    #[serde(borrow)]
    Chunk(Chunk<'a>),
    /// Configuration.
    #[serde(borrow)]
    Config(Config<'a>),
    /// Something to do once.
    Command(Command),
    /// Maintenance or a label, entered by a person at the aggregator.
    Event {
        /// The machine's point.
        point: Point,
        /// What happened.
        event: Event,
    },
    /// The aggregator's time.
    TimeReply(TimeReply),
    /// Answers a hello of version 2 or above. Since version 2.
    Welcome(Welcome),
    /// Asks for records again that were committed and then lost. Since version 4.
    Refetch(Refetch),
}

impl Message for Down<'_> {
    fn version(&self) -> u8 {
        match self {
            Self::Command(command) => match command.kind {
                CommandKind::Flush | CommandKind::Recommission { .. } | CommandKind::Reset { .. } => 1,
                CommandKind::Clip { .. } => 2,
                CommandKind::ResetBy { .. } => 3,
            },
            Self::Ack(_)
            | Self::Plan(_)
            | Self::Chunk(_)
            | Self::Config(_)
            | Self::Event { .. }
            | Self::TimeReply(_) => 1,
            Self::Welcome(_) => 2,
            Self::Refetch(_) => 4,
        }
    }
}

/// What the aggregator can read: until it is here, a node says nothing that came after version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Highest wire version that the aggregator speaks.
    pub wire_version: u16,
    /// Version of its software.
    pub software: Name,
}

/// Records that were committed and then lost: what the node still holds of them it sends again, and what it does not hold it tells as a
/// gap. Asking twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refetch {
    /// Their epoch.
    pub epoch: Epoch,
    /// Their class.
    pub class: Class,
    /// Their seqs, ascending.
    pub ranges: heapless::Vec<SeqRange, 16>,
}

/// Two acks in one: *accepted* (durable in the aggregator's journal) and *committed* (in a durable lake version).
///
/// Idempotent (D1). A `journal_id` that the node has not seen means that accepted records may be gone: it sends again
/// everything that is not committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The journal that accepted.
    pub journal_id: JournalId,
    /// The epoch that the marks belong to.
    pub epoch: Epoch,
    /// One entry per class that has any.
    pub classes: heapless::Vec<ClassAck, 9>,
    /// How many more bytes of records may be in flight.
    pub credit_bytes: u32,
}

/// The marks of one class. Marks are exclusive: everything below is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassAck {
    /// The class.
    pub class: Class,
    /// Every seq below is accepted.
    pub accepted_to: u64,
    /// Accepted beyond the mark.
    pub beyond: heapless::Vec<SeqRange, 8>,
    /// Every seq below is committed.
    pub committed_to: u64,
}

/// Seqs from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeqRange {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// What one node shall run: every model that is not named is to go. A plan not above the last generation is refused (R5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan<'a> {
    /// The node.
    pub device: DeviceId,
    /// Its place in order.
    pub generation: Generation,
    /// The signed models, leader first.
    #[serde(borrow)]
    pub models: heapless::Vec<SignedManifest<'a>, 4>,
    /// Ed25519 signature over [`crate::sign::plan_message`].
    #[serde(borrow)]
    pub signature: &'a [u8],
}

/// A part of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk<'a> {
    /// Which artifact.
    pub digest: Digest,
    /// Where the part begins.
    pub offset: u32,
    /// Size of the whole artifact; 0 when the aggregator does not have it.
    pub total: u32,
    /// The part.
    #[serde(borrow)]
    pub bytes: &'a [u8],
}

/// Configuration for the node, as TOML that replaces the fleet-managed part of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config<'a> {
    /// Its place in order.
    pub generation: Generation,
    /// The text.
    #[serde(borrow)]
    pub toml: &'a str,
}

/// Something to do once, unless it comes too late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Chosen by the aggregator; a node does an id once.
    pub id: u64,
    /// Not to be done after this instant.
    pub expires: Micros,
    /// What to do.
    pub kind: CommandKind,
}

/// What a node can be asked to do. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandKind {
    /// Send everything now.
    Flush,
    /// Start the baseline of a machine again.
    Recommission {
        /// The machine.
        asset: Name,
    },
    /// Reset a latched alarm or trip.
    Reset {
        /// The machine.
        asset: Name,
    },
    /// Take a raw clip of a machine. Since version 2.
    Clip {
        /// The machine.
        asset: Name,
    },
    /// Reset a latched alarm or trip in the name of a person. Since version 3.
    ResetBy {
        /// The machine.
        asset: Name,
        /// Who asks for it.
        by: Who,
    },
}

/// The answer to [`crate::TimeRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeReply {
    /// The request's id.
    pub id: u32,
    /// The request's `sent`.
    pub sent: Monotonic,
    /// When it was received here.
    pub received: Micros,
    /// When this reply left.
    pub replied: Micros,
}
