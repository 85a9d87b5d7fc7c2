//! Messages from a node to the aggregator.

use core::fmt;

use kilter_types::{DeviceId, Digest, Epoch, Event, Monotonic, Name, Payload, Record};
use serde::{Deserialize, Serialize};

use crate::frame::Message;

/// A message up. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Up<'a> {
    /// The first message on a link.
    Hello(Hello),
    /// Records.
    #[serde(borrow)]
    Batch(Batch<'a>),
    /// Asks for the aggregator's time.
    TimeRequest(TimeRequest),
    /// Asks for a part of an artifact.
    Fetch(Fetch),
    /// How a command ended.
    CommandResult(CommandResult),
    /// Records, packed. Since version 2, and only after [`crate::Down::Welcome`] said that it is understood.
    #[serde(borrow)]
    Packed(Packed<'a>),
}

impl Message for Up<'_> {
    fn version(&self) -> u8 {
        match self {
            Self::Hello(_) | Self::Batch(_) | Self::TimeRequest(_) | Self::Fetch(_) | Self::CommandResult(_) => 1,
            Self::Packed(_) => 2,
        }
    }
}

/// Introduces the node; answered by an ack that says what is held and how much credit there is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The node; must be the one that the link authenticated.
    pub device: DeviceId,
    /// Highest wire version that the node speaks.
    pub wire_version: u16,
    /// Version of its software.
    pub software: Name,
    /// The epoch of its open journal.
    pub epoch: Epoch,
    /// Epochs of which its journal still holds records, oldest first; the ack names each.
    pub held: heapless::Vec<Epoch, 8>,
}

/// Records of one epoch, in the order of the journal.
///
/// Class and seq stand outside the record's own bytes, so that a record which the aggregator can't read is still
/// accounted for: it goes to quarantine and its seq counts as held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch<'a> {
    /// The epoch of every record inside.
    pub epoch: Epoch,
    /// How many there are.
    pub count: u16,
    /// Each record: length as u16 LE, class as u8, seq as u64 LE, then its bytes as [`encode_record`] wrote them.
    #[serde(borrow)]
    pub records: &'a [u8],
}

/// A [`Batch`] in fewer bytes: the same records, byte for byte, once it is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed<'a> {
    /// The epoch of every record inside.
    pub epoch: Epoch,
    /// How many there are.
    pub count: u16,
    /// Bytes of the records once they are unpacked: what they cost in credit.
    pub plain_bytes: u32,
    /// How they are packed.
    pub coding: Coding,
    /// The packed records.
    #[serde(borrow)]
    pub bytes: &'a [u8],
}

/// How records are packed. Variants are only ever added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coding {
    /// [`crate::columns`].
    Columns,
    /// [`crate::columns`], then zstd.
    ColumnsZstd,
    /// A batch's bytes, then zstd.
    Zstd,
}

/// One record of a batch, not yet read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRecord<'a> {
    /// Number of its [`kilter_types::Class`]; may be one that this build does not know.
    pub class: u8,
    /// Its seq within class and epoch.
    pub seq: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Bytes that a batch adds to each record.
    pub const RECORD_OVERHEAD_BYTES: usize = HEAD_BYTES;

    /// The records one by one; the first damaged length ends it with an error.
    pub fn iter(&self) -> impl Iterator<Item = Result<BatchRecord<'a>, RecordError>> + use<'a> {
        let mut rest = self.records;
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let Some((record, tail)) = split_record(rest) else {
                rest = &[];
                return Some(Err(RecordError::Truncated));
            };
            rest = tail;
            Some(Ok(record))
        })
    }

    /// Appends one record to the bytes of a batch under construction; `false` when it does not fit.
    pub fn push(room: &mut [u8], used: &mut usize, record: BatchRecord<'_>) -> bool {
        let end = *used + Self::RECORD_OVERHEAD_BYTES + record.bytes.len();
        let Some((head, body)) =
            room.get_mut(*used..end).and_then(|room| room.split_at_mut_checked(Self::RECORD_OVERHEAD_BYTES))
        else {
            return false;
        };
        body.copy_from_slice(record.bytes);
        let fits = Self::head(head, record.class, record.seq, record.bytes.len()).is_some();
        *used = if fits { end } else { *used };
        fits
    }

    /// Writes what stands in front of a record of so many bytes; `None` when it is too long for a batch.
    pub(crate) fn head(room: &mut [u8], class: u8, seq: u64, len: usize) -> Option<()> {
        let len = u16::try_from(len).ok()?;
        let room = room.first_chunk_mut::<HEAD_BYTES>()?;
        room[..2].copy_from_slice(&len.to_le_bytes());
        room[2] = class;
        room[3..].copy_from_slice(&seq.to_le_bytes());
        Some(())
    }
}

fn split_record(bytes: &[u8]) -> Option<(BatchRecord<'_>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let (class, rest) = rest.split_first()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    Some((BatchRecord { class: *class, seq: u64::from_le_bytes(*seq), bytes }, rest))
}

/// Asks for the time; the reply gives the aggregator's at receipt and at reply.
///
/// A request also tells how long the exchange before it took, and only that one: the aggregator remembers when the request
/// with the id before came in, and the two together date the node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRequest {
    /// Chosen by the node, echoed in the reply.
    pub id: u32,
    /// The node's clock when it asked.
    pub sent: Monotonic,
    /// The round trip of the exchange with the id before this one, in microseconds; 0 when that was not answered on this link.
    pub last_round_trip_us: u32,
}

/// Asks for a part of an artifact, so that a download resumes where it was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Which artifact.
    pub digest: Digest,
    /// From which byte.
    pub offset: u32,
    /// At most so many bytes.
    pub len: u32,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    /// The command.
    pub id: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Done,
    /// It had expired.
    Expired,
    /// It can't be done here.
    Refused,
}

/// Writes a record as it is journalled and shipped: version byte, then postcard.
pub fn encode_record<'o>(record: &Record, out: &'o mut [u8]) -> Result<&'o [u8], RecordError> {
    let (version, body) = out.split_first_mut().ok_or(RecordError::TooLong)?;
    *version = match record.payload {
        Payload::Clip(_) => 2,
        Payload::Event(Event::Reset { .. }) => 3,
        Payload::Seal(_) => 4,
        _ => 1,
    };
    let len = postcard::to_slice(record, body).map_err(|_| RecordError::TooLong)?.len();
    if len + 1 > MAX_RECORD_BYTES {
        return Err(RecordError::TooLong);
    }
    Ok(&out[..=len])
}

/// Reads a record back.
pub fn decode_record(bytes: &[u8]) -> Result<Record, RecordError> {
    match bytes.split_first() {
        None => Err(RecordError::Truncated),
        Some((1..=RECORD_VERSION, body)) => match postcard::take_from_bytes::<Record>(body) {
            Ok((record, [])) => Ok(record),
            Ok(_) | Err(_) => Err(RecordError::Body),
        },
        Some((&version, _)) => Err(RecordError::Version(version)),
    }
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// A version that this build does not know.
    Version(u8),
    /// Cut short.
    Truncated,
    /// Longer than [`MAX_RECORD_BYTES`], or than the room given.
    TooLong,
    /// Not readable.
    Body,
}

impl RecordError {
    /// A word for counters and quarantine tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Version(_) => "record_version",
            Self::Truncated => "record_truncated",
            Self::TooLong => "record_too_long",
            Self::Body => "record_body",
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "record version {version} is unknown; this build reads 1 to {RECORD_VERSION}")
            }
            Self::Truncated => f.write_str("the record is cut short"),
            Self::TooLong => write!(f, "the record is longer than {MAX_RECORD_BYTES} bytes"),
            Self::Body => f.write_str("the record can't be read"),
        }
    }
}

impl core::error::Error for RecordError {}

/// The longest encoded record in bytes.
pub const MAX_RECORD_BYTES: usize = 4096;

const RECORD_VERSION: u8 = 4;

/// Length, class and seq in front of each record of a batch.
const HEAD_BYTES: usize = 2 + 1 + 8;
