//! A seal: a device vouches for what it has recorded, so that a later change shows wherever it is made.

use serde::{Deserialize, Serialize};

use crate::{Class, Epoch};

/// Vouches for records of one epoch, in ranges without holes. Seals of a device form a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The public half of the device's key.
    pub key: [u8; 32],
    /// The seal that the device made before; `None` in its first.
    pub before: Option<SealBefore>,
    /// The epoch of the records, which may be that of a node behind the device.
    pub epoch: Epoch,
    /// The ranges.
    pub ranges: heapless::Vec<SealedRange, MAX_SEALED_RANGES>,
    /// Ed25519 over all of this, in two halves.
    pub signature: [[u8; 32]; 2],
}

/// A seal as the next one names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealBefore {
    /// The epoch of its record.
    pub epoch: Epoch,
    /// The seq of its record, which is of class report.
    pub seq: u64,
    /// Half of the SHA-256 that it signed.
    pub hash: [u8; 16],
}

/// Records of one class, first to last, each of which was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedRange {
    /// Their class.
    pub class: Class,
    /// Seq of the first.
    pub first_seq: u64,
    /// Seq of the last.
    pub last_seq: u64,
    /// Half of the SHA-256 over the hashes of the records, in the order of their seqs.
    pub hash: [u8; 16],
}

/// The most ranges in one seal: all classes, and some that an eviction cut in two.
pub const MAX_SEALED_RANGES: usize = 12;

/// The most records in one range.
pub const MAX_SEALED_RECORDS: u64 = 512;
