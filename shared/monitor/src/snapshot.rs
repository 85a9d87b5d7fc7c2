//! Everything that a monitor has learned and half-filled, as bytes: restored, it goes on bit for bit.
//!
//! ```text
//!  "KLMS"  version u16 LE  fingerprint of the configuration u64 LE  parts in a fixed order
//! ```
//! Small parts are postcard, buffers are plain little-endian. Model artifacts are not in it: whoever keeps them installs them
//! again before the first window. Restoring bytes that are damaged or of another configuration is refused; the monitor must
//! then be built anew.

use core::fmt;

use kilter_types::Micros;
use postcard::ser_flavors;
use serde::{Deserialize, Serialize};

/// Why a snapshot was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotError {
    /// Bytes that it needs.
    pub needed: usize,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fit a snapshot of {} bytes into the room given", self.needed)
    }
}

impl core::error::Error for SnapshotError {}

/// Why a snapshot was not restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// Not a snapshot, or cut short, or damaged.
    Damaged,
    /// A version that this build does not know.
    Version(u16),
    /// Taken under another configuration.
    OtherConfig,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("restore the monitor: the snapshot is damaged"),
            Self::Version(version) => write!(f, "restore the monitor: snapshot version {version} is unknown"),
            Self::OtherConfig => f.write_str("restore the monitor: the snapshot belongs to another configuration"),
        }
    }
}

impl core::error::Error for RestoreError {}

/// Writes parts one after the other; without room it only counts.
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    used: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        Self { out, used: 0 }
    }

    pub(crate) fn value<T: Serialize>(&mut self, value: &T) {
        let room = self.out.get_mut(self.used..).unwrap_or_default();
        if let Ok(written) = postcard::to_slice(value, room) {
            self.used += written.len();
            return;
        }
        // It does not fit: from here on only the size matters.
        self.out = &mut [];
        self.used += postcard::serialize_with_flavor(value, ser_flavors::Size::default()).unwrap_or(0);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        match self.out.get_mut(self.used..self.used + bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => self.out = &mut [],
        }
        self.used += bytes.len();
    }

    pub(crate) fn floats(&mut self, values: &[f32]) {
        for value in values {
            self.bytes(&value.to_le_bytes());
        }
    }

    pub(crate) fn times(&mut self, times: &[Micros]) {
        for time in times {
            self.bytes(&time.0.to_le_bytes());
        }
    }

    /// A part of known size that somebody else writes, with its size before it.
    pub(crate) fn sized(&mut self, size: usize, write: impl FnOnce(&mut [u8]) -> bool) {
        self.value(&(size as u32));
        let fits = self.out.get_mut(self.used..self.used + size).is_some_and(write);
        if !fits {
            self.out = &mut [];
        }
        self.used += size;
    }

    /// How many bytes were written, or would have been.
    pub(crate) fn finish(self) -> usize {
        self.used
    }
}

/// Reads them back in the same order.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn value<T: Deserialize<'a>>(&mut self) -> Result<T, RestoreError> {
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(|_| RestoreError::Damaged)?;
        self.rest = rest;
        Ok(value)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(RestoreError::Damaged)?;
        self.rest = rest;
        Ok(*array)
    }

    pub(crate) fn sized(&mut self) -> Result<&'a [u8], RestoreError> {
        let size: u32 = self.value()?;
        let (part, rest) = self.rest.split_at_checked(size as usize).ok_or(RestoreError::Damaged)?;
        self.rest = rest;
        Ok(part)
    }

    pub(crate) fn floats(&mut self, out: &mut [f32]) -> Result<(), RestoreError> {
        out.iter_mut().try_for_each(|value| self.array().map(|bytes| *value = f32::from_le_bytes(bytes)))
    }

    pub(crate) fn times(&mut self, out: &mut [Micros]) -> Result<(), RestoreError> {
        out.iter_mut().try_for_each(|time| self.array().map(|bytes| time.0 = i64::from_le_bytes(bytes)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

pub(crate) const MAGIC: [u8; 4] = *b"KLMS";
pub(crate) const VERSION: u16 = 5;
