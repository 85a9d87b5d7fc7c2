//! Durable segment log: the agent's spool and the aggregator's local log are this one crate.
//!
//! A journal is a folder of append-only segments that carries opaque payloads under a `(class, epoch, seq)` key. It exists to
//! keep three promises: **J1** what was acknowledged survives power loss, and the acknowledgement names the policy; **J2** a torn
//! tail is cut and nothing else is lost; **J3** whatever is dropped on purpose is handed back as data ([`Dropped`]).
//!
//! # Offsets
//!
//! An [`Offset`] is a logical byte position that only grows and never names another entry once it was durable. `upto` and
//! `next` offsets are exclusive. An entry's bytes lie at `offset - base` of the segment that covers it, until a segment is
//! rewritten (eviction, repair); then *skips* stand for what is missing and the remaining entries keep their offsets.
//!
//! # Folder
//!
//! ```text
//! 00000000000000000000.seg   segments, named by the logical offset of their first byte
//! 00000000000000004096.seg
//! 00000000000000000000.0.bad the original of a damaged segment, kept for a person to look at (8 at most)
//! identity                   journal id, written once
//! ledger                     released mark, losses not yet recorded, last seqs; durable before a segment is unlinked
//! durable                    watermark for readers in other processes; written after each successful sync, itself never
//!                            synced: any version of it that survives was true when it was written
//! lock                       held by the one writer
//! reserve                    zeros that hold disk space for urgent entries
//! ```
//!
//! # Bytes (version 1, little-endian)
//!
//! ```text
//! segment   0        8         12          20         28       32
//!           | magic  | version | journal   | base     | crc32  | entries …
//!           | [u8;8] | u32     | id u64    | u64      | u32    |
//!
//! entry     0         4        8       9       10        18       26
//!           | length  | crc32  | class | flags | epoch   | seq    | payload (length bytes)
//!           | u32     | u32    | u8    | u8    | u64     | u64    |
//!
//! flags     high nibble 0xA marks an entry; bit 0: skip, bit 1: urgent
//! skip      payload = | to u64 | reason u8 | n u32 | n × (class u8, epoch u64, first u64, last u64, count u64) |
//!           the next entry's offset is `to`; seq is the number of the loss; epoch and class are 0
//!
//! identity  | magic [u8;8] | version u32 | journal id u64 | crc32 |
//! durable   | magic [u8;8] | version u32 | journal id u64 | upto u64 | crc32 |
//! ledger    | magic [u8;8] | version u32 | journal id u64 | released u64 | durable u64 | recorded u64 |
//!           | n u32 | n × (number u64, reason u8, loss as in a skip) | n u32 | n × (epoch u64, class u8, seq u64) | crc32 |
//! ```
//!
//! An entry's crc covers journal id and its own offset, then every byte of it but the crc: a stale or misplaced block, or a payload that
//! happens to contain an entry, never passes for one.
//!
//! # Limits
//!
//! One writer per folder. Opening reads every segment once, because only reading tells whether a disk still gives back what was written,
//! and damage has to be told at once (J3); so it takes as long as the caps allow. Space is given back by whole segments; eviction rewrites one
//! segment at a time and needs room for the rewritten copy. A reader that is inside a segment when it is rewritten still sees the old content.

mod error;
mod evict;
mod filesystem;
mod format;
mod journal;
mod ledger;
pub mod model;
mod reader;
mod recover;
mod report;
mod scan;

pub use error::JournalError;
pub use filesystem::{Filesystem, RealFilesystem};
pub use journal::{Config, Drop, Durable, FsyncPolicy, Journal};
pub use ledger::{Dropped, Reason};
pub use reader::{Reader, Skipped, follow};
pub use recover::{Gap, Recovery};
pub use report::{Report, SegmentReport, dump, verify};

/// The released format version; older versions stay readable, newer ones are refused untouched.
pub const FORMAT_VERSION: u32 = 1;

/// Logical byte position in a journal; see the [crate documentation](crate).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

/// Header of an entry. Seqs are contiguous per `(epoch, class)` where the caller makes them so; the journal only keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Record class; the drop policy works by class.
    pub class: u8,
    /// Random number of the run that wrote the record.
    pub epoch: u64,
    /// Running number within epoch and class.
    pub seq: u64,
}

/// One entry as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// Where it lies.
    pub offset: Offset,
    /// Its payload.
    pub bytes: Vec<u8>,
}

impl Offset {
    /// The plain number, for acks and tables.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Offset {
    fn from(offset: u64) -> Self {
        Self(offset)
    }
}

impl From<Offset> for u64 {
    fn from(offset: Offset) -> Self {
        offset.0
    }
}

impl std::fmt::Display for Offset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
