//! The frame around every message, the same on every link.
//!
//! ```text
//!  0      1         2      3        4..8          8..8+len   8+len..12+len
//! ┌──────┬─────────┬──────┬────────┬─────────────┬──────────┬─────────────┐
//! │ 0x4B │ version │ kind │ 0x00   │ len, u32 LE │ body     │ crc32, LE   │
//! └──────┴─────────┴──────┴────────┴─────────────┴──────────┴─────────────┘
//! ```
//! The CRC (IEEE) covers everything before it. Sizes are checked before they are used; no bytes can cause a panic.

use core::fmt;

use serde::{Deserialize, Serialize};

/// The highest version that this build speaks.
pub const VERSION: u8 = 4;

/// The longest frame in bytes, header and CRC included.
pub const MAX_FRAME_BYTES: usize = 256 * 1024;

/// Bytes that a frame adds to its body.
pub const OVERHEAD_BYTES: usize = HEADER + TRAILER;

/// What a frame's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`crate::Up`]: from a node to the aggregator.
    Up = 1,
    /// [`crate::Down`]: from the aggregator to a node.
    Down = 2,
    /// [`crate::sensor::SensorUp`]: from a sensor to its agent.
    SensorUp = 3,
    /// [`crate::sensor::SensorDown`]: from an agent to its sensor.
    SensorDown = 4,
    /// [`crate::node::NodeUp`]: from a node to the gateway that carries its records.
    NodeUp = 5,
    /// [`crate::node::NodeDown`]: from a gateway to its node.
    NodeDown = 6,
    /// [`crate::link::Greeting`]: the first frame each way on a link that does not know who speaks.
    Link = 7,
}

/// What a frame can carry. A frame says the lowest version whose readers know its message, so that what was said before is said
/// in the same bytes for ever and older readers miss nothing but what is new.
pub trait Message: Serialize {
    /// The version that the message came with.
    fn version(&self) -> u8;
}

/// Writes `message` as one frame into `out` and returns the written part.
pub fn encode<'o, T: Message>(kind: Kind, message: &T, out: &'o mut [u8]) -> Result<&'o [u8], FrameError> {
    let room = out.len().min(MAX_FRAME_BYTES);
    let Some(body_room) = room.checked_sub(OVERHEAD_BYTES) else {
        return Err(FrameError::TooLong);
    };
    let body = postcard::to_slice(message, &mut out[HEADER..HEADER + body_room]).map_err(|_| FrameError::TooLong)?;
    let len = body.len();
    let len_field = u32::try_from(len).map_err(|_| FrameError::TooLong)?;
    out[..4].copy_from_slice(&[MAGIC, message.version(), kind as u8, 0]);
    out[4..HEADER].copy_from_slice(&len_field.to_le_bytes());
    let crc = crate::crc::crc32(&out[..HEADER + len]);
    out[HEADER + len..HEADER + len + TRAILER].copy_from_slice(&crc.to_le_bytes());
    Ok(&out[..HEADER + len + TRAILER])
}

/// Reads one whole frame of the expected kind.
pub fn decode<'a, T: Deserialize<'a>>(kind: Kind, frame: &'a [u8]) -> Result<T, FrameError> {
    let body = open(kind, frame)?;
    let (message, rest) = postcard::take_from_bytes(body).map_err(|_| FrameError::Body)?;
    if rest.is_empty() { Ok(message) } else { Err(FrameError::Body) }
}

/// The length of the frame that starts with these bytes, or `None` while the header is not complete.
///
/// For links that deliver a stream. A bad header is an error: the link has lost its place.
pub fn length(start: &[u8]) -> Result<Option<usize>, FrameError> {
    if start.first().is_some_and(|first| *first != MAGIC) {
        return Err(FrameError::Magic);
    }
    let Some(header) = start.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let total = usize::try_from(len).ok().and_then(|len| len.checked_add(OVERHEAD_BYTES));
    match total {
        Some(total) if total <= MAX_FRAME_BYTES => Ok(Some(total)),
        Some(_) | None => Err(FrameError::TooLong),
    }
}

fn open(kind: Kind, frame: &[u8]) -> Result<&[u8], FrameError> {
    let total = length(frame)?.ok_or(FrameError::Truncated)?;
    if frame.len() < total {
        return Err(FrameError::Truncated);
    }
    if frame.len() > total {
        return Err(FrameError::TooLong);
    }
    let (covered, crc) = frame.split_at(total - TRAILER);
    if crc != crate::crc::crc32(covered).to_le_bytes() {
        return Err(FrameError::Crc);
    }
    if covered[1] == 0 || covered[1] > VERSION {
        return Err(FrameError::Version(covered[1]));
    }
    if covered[2] != kind as u8 {
        return Err(FrameError::Kind(covered[2]));
    }
    Ok(&covered[HEADER..])
}

/// Why bytes are not a frame that can be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The first byte is not a frame's.
    Magic,
    /// A version that this build does not know.
    Version(u8),
    /// Another kind of frame than expected.
    Kind(u8),
    /// Fewer bytes than the header promises.
    Truncated,
    /// More bytes than allowed, or than the header promises.
    TooLong,
    /// The checksum differs.
    Crc,
    /// The body is not what the kind promises.
    Body,
}

impl FrameError {
    /// A word for counters and quarantine tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Magic => "magic",
            Self::Version(_) => "version",
            Self::Kind(_) => "kind",
            Self::Truncated => "truncated",
            Self::TooLong => "too_long",
            Self::Crc => "crc",
            Self::Body => "body",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("not a Kilter frame"),
            Self::Version(version) => write!(f, "frame version {version} is unknown; this build reads 1 to {VERSION}"),
            Self::Kind(kind) => write!(f, "frame kind {kind} does not belong here"),
            Self::Truncated => f.write_str("the frame is cut short"),
            Self::TooLong => write!(f, "the frame is longer than {MAX_FRAME_BYTES} bytes or than its header says"),
            Self::Crc => f.write_str("the frame's checksum differs: it was damaged on the way"),
            Self::Body => f.write_str("the frame's body can't be read"),
        }
    }
}

impl core::error::Error for FrameError {}

const MAGIC: u8 = 0x4B;
/// Bytes in front of a frame's body: enough to know its [`length`].
pub const HEADER_BYTES: usize = HEADER;

const HEADER: usize = 8;
const TRAILER: usize = 4;
