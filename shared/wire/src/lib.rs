//! What nodes and aggregator say to each other: one set of frames for MQTT, QUIC, UART and the sensor socket.
//!
//! A [`frame`] carries its own version, kind, length and CRC, so that the same bytes are good on a link that checks nothing
//! (UART, where COBS delimits them) and on one that does (MQTT, QUIC). Bodies are postcard: not self-describing, hence the
//! version in the frame, variants that are only ever added at the end, and golden bytes per released version.
//!
//! Nothing here allocates: what is long is borrowed from the frame. Compression belongs to uplink and ingest.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod bundle;
pub mod cobs;
pub mod columns;
pub mod crc;
pub mod down;
pub mod frame;
pub mod image;
pub mod link;
pub mod node;
pub mod seal;
pub mod sensor;
pub mod sign;
pub mod topic;
pub mod up;

pub use down::{Ack, Chunk, ClassAck, Command, CommandKind, Config, Down, Plan, Refetch, SeqRange, TimeReply, Welcome};
pub use frame::{FrameError, MAX_FRAME_BYTES, Message, VERSION};
pub use sign::{SignError, SignedManifest};
pub use up::{
    Batch, BatchRecord, Coding, CommandResult, Fetch, Hello, Outcome, Packed, RecordError, TimeRequest, Up,
    decode_record, encode_record,
};
