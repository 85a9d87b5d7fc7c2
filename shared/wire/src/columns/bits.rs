//! Bytes, varints and single bits in a slice. A writer that is full and a reader that is empty say so; neither panics.

use super::UnpackError;

/// Writes into a slice.
pub(super) struct Writer<'o> {
    out: &'o mut [u8],
    at: usize,
    /// Bits not yet written, lowest first.
    open: u64,
    count: u32,
}

impl<'o> Writer<'o> {
    pub(super) fn new(out: &'o mut [u8]) -> Self {
        Self { out, at: 0, open: 0, count: 0 }
    }

    pub(super) fn byte(&mut self, byte: u8) -> Option<()> {
        *self.out.get_mut(self.at)? = byte;
        self.at += 1;
        Some(())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.out.get_mut(self.at..self.at + bytes.len())?.copy_from_slice(bytes);
        self.at += bytes.len();
        Some(())
    }

    pub(super) fn varint(&mut self, mut value: u64) -> Option<()> {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80)?;
            value >>= 7;
        }
        self.byte(value as u8)
    }

    /// The lowest `count` bits of `value`, at most 32.
    pub(super) fn bits(&mut self, value: u64, count: u32) -> Option<()> {
        self.open |= (value & ((1 << count) - 1)) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.byte(self.open as u8)?;
            self.open >>= 8;
            self.count -= 8;
        }
        Some(())
    }

    /// Fills the last byte of a run of bits.
    pub(super) fn align(&mut self) -> Option<()> {
        if self.count > 0 {
            self.bits(0, 8 - self.count)?;
        }
        Some(())
    }

    pub(super) fn rest(&mut self) -> &mut [u8] {
        &mut self.out[self.at..]
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    pub(super) fn finish(self) -> &'o [u8] {
        &self.out[..self.at]
    }
}

/// Reads from a slice.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    open: u64,
    count: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, open: 0, count: 0 }
    }

    pub(super) fn byte(&mut self) -> Result<u8, UnpackError> {
        let (first, rest) = self.bytes.split_first().ok_or(UnpackError::Damaged)?;
        self.bytes = rest;
        Ok(*first)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], UnpackError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(UnpackError::Damaged)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn varint(&mut self) -> Result<u64, UnpackError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(UnpackError::Damaged)
    }

    /// A varint that must not be above `most`.
    pub(super) fn length(&mut self, most: usize) -> Result<usize, UnpackError> {
        usize::try_from(self.varint()?).ok().filter(|len| *len <= most).ok_or(UnpackError::Damaged)
    }

    /// At most 32 bits.
    pub(super) fn bits(&mut self, count: u32) -> Result<u64, UnpackError> {
        while self.count < count {
            let byte = self.byte()?;
            self.open |= u64::from(byte) << self.count;
            self.count += 8;
        }
        let value = self.open & ((1 << count) - 1);
        self.open >>= count;
        self.count -= count;
        Ok(value)
    }

    /// How many ones come next, and past the zero that ends them; `most` ones, at most 32, end by themselves.
    pub(super) fn ones(&mut self, most: u32) -> Result<u32, UnpackError> {
        let mut ones = 0;
        while ones < most {
            if self.count == 0 {
                (self.open, self.count) = (u64::from(self.byte()?), 8);
            }
            let run = self.open.trailing_ones().min(self.count).min(most - ones);
            ones += run;
            self.open >>= run;
            self.count -= run;
            if self.count > 0 && ones < most {
                self.open >>= 1;
                self.count -= 1;
                break;
            }
        }
        Ok(ones)
    }

    /// Drops what is left of the last byte of a run of bits.
    pub(super) fn align(&mut self) {
        (self.open, self.count) = (0, 0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
