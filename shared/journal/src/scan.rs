//! Reads one segment entry by entry, tells damage from the end, and finds the next good entry behind damage.

use std::io;

use crate::format::{ENTRY_HEADER_BYTES, SEGMENT_HEADER_BYTES, Skip, entry_crc, parse_entry_header, parse_skip};
use crate::{Filesystem, Key};

/// Position in a segment file, physical and logical at once.
#[derive(Debug)]
pub(crate) struct Cursor<F: Filesystem> {
    fs: F,
    file: F::File,
    journal_id: u64,
    /// Position in the file.
    pub(crate) physical: u64,
    /// Offset of what lies there.
    pub(crate) logical: u64,
    /// File content from `buffer_at`.
    buffer: Vec<u8>,
    buffer_at: u64,
}

/// What lies at the cursor.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A good entry; the cursor is now behind it.
    Entry { key: Key, offset: u64, urgent: bool, payload: &'a [u8] },
    /// Entries up to `skip.to` are not here; the cursor is there now.
    Skip { number: u64, from: u64, skip: Skip },
    /// The file ends here.
    End,
    /// Bytes that are no entry, or not yet one; the cursor stays.
    Bad,
}

/// What [`Cursor::peek`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peek {
    Good,
    End,
    Bad,
}

impl<F: Filesystem> Cursor<F> {
    /// Starts behind the segment's header.
    pub(crate) fn new(fs: F, file: F::File, journal_id: u64, base: u64) -> Self {
        let header = SEGMENT_HEADER_BYTES as u64;
        Self {
            fs,
            file,
            journal_id,
            physical: header,
            logical: base.saturating_add(header),
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    /// Reads on. After `End` and `Bad` the file is read afresh, so that a growing file can be polled.
    pub(crate) fn step(&mut self) -> io::Result<Step<'_>> {
        match self.parse()? {
            Parsed::Entry { key, urgent, skip: None, size } => {
                let (offset, at) = (self.logical, (self.physical - self.buffer_at) as usize);
                self.physical += size as u64;
                self.logical += size as u64;
                Ok(Step::Entry { key, offset, urgent, payload: &self.buffer[at + ENTRY_HEADER_BYTES..at + size] })
            }
            Parsed::Entry { key, skip: Some(skip), size, .. } => {
                let from = self.logical;
                self.physical += size as u64;
                self.logical = skip.to;
                Ok(Step::Skip { number: key.seq, from, skip })
            }
            Parsed::End => {
                self.buffer.clear();
                Ok(Step::End)
            }
            Parsed::Bad => {
                self.buffer.clear();
                Ok(Step::Bad)
            }
        }
    }

    /// What lies at the cursor as the file is now, without moving.
    pub(crate) fn peek(&mut self) -> io::Result<Peek> {
        self.buffer.clear();
        Ok(match self.parse()? {
            Parsed::Entry { .. } => Peek::Good,
            Parsed::End => Peek::End,
            Parsed::Bad => Peek::Bad,
        })
    }

    /// Moves to the next good entry behind damage; `false` (and no move) if there is none.
    ///
    /// Work is bounded: what a wild length makes the checksum read is limited per segment, then the rest counts as damaged.
    pub(crate) fn resync(&mut self) -> io::Result<bool> {
        let len = self.fs.len(&self.file)?;
        let mut rest = vec![0; len.saturating_sub(self.physical) as usize];
        let read = self.fs.read_at(&self.file, self.physical, &mut rest)?;
        rest.truncate(read);
        let mut budget_bytes = RESYNC_BUDGET_BYTES;
        for at in 1..rest.len() {
            let Some(header) = parse_entry_header(&rest[at..]) else { continue };
            let size = ENTRY_HEADER_BYTES.saturating_add(header.length as usize);
            let Some(entry) = rest[at..].get(..size) else { continue };
            if budget_bytes < size {
                return Ok(false);
            }
            budget_bytes -= size;
            let logical = self.logical.saturating_add(at as u64);
            if entry_crc(self.journal_id, logical, entry) == header.crc {
                self.physical += at as u64;
                self.logical = logical;
                self.buffer.clear();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Bytes in the file now.
    pub(crate) fn file_bytes(&self) -> io::Result<u64> {
        self.fs.len(&self.file)
    }

    fn parse(&mut self) -> io::Result<Parsed> {
        let available = self.fill(ENTRY_HEADER_BYTES)?;
        if available == 0 {
            return Ok(Parsed::End);
        }
        let Some(header) = parse_entry_header(self.view(available)) else { return Ok(Parsed::Bad) };
        let size = ENTRY_HEADER_BYTES.saturating_add(header.length as usize);
        // A length is believed only as far as the file goes.
        if size > available && size as u64 > self.fs.len(&self.file)?.saturating_sub(self.physical) {
            return Ok(Parsed::Bad);
        }
        let available = self.fill(size)?;
        let Some(entry) = self.view(available).get(..size) else { return Ok(Parsed::Bad) };
        if entry_crc(self.journal_id, self.logical, entry) != header.crc {
            return Ok(Parsed::Bad);
        }
        let skip = match header.skip {
            false => None,
            true => match parse_skip(&entry[ENTRY_HEADER_BYTES..]) {
                Some(skip) if skip.to >= self.logical => Some(skip),
                _ => return Ok(Parsed::Bad),
            },
        };
        Ok(Parsed::Entry { key: header.key, urgent: header.urgent, skip, size })
    }

    fn view(&self, available: usize) -> &[u8] {
        let at = (self.physical - self.buffer_at) as usize;
        &self.buffer[at..at + available]
    }

    /// Makes `wanted` bytes from the cursor available if the file has them; returns how many are.
    fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        let end = self.buffer_at + self.buffer.len() as u64;
        let in_buffer = self.physical >= self.buffer_at && self.physical <= end;
        let have = if in_buffer { (end - self.physical) as usize } else { 0 };
        if have >= wanted {
            return Ok(have);
        }
        let keep_from = self.buffer.len() - have;
        self.buffer.drain(..keep_from);
        self.buffer_at = self.physical;
        let rest = self.fs.len(&self.file)?.saturating_sub(self.physical);
        let target = rest.min(wanted.max(READ_BYTES) as u64) as usize;
        if target <= have {
            return Ok(have);
        }
        self.buffer.resize(target, 0);
        let read = self.fs.read_at(&self.file, self.physical + have as u64, &mut self.buffer[have..])?;
        self.buffer.truncate(have + read);
        Ok(have + read)
    }
}

enum Parsed {
    Entry { key: Key, urgent: bool, skip: Option<Skip>, size: usize },
    End,
    Bad,
}

const READ_BYTES: usize = 64 * 1024;
const RESYNC_BUDGET_BYTES: usize = 256 * 1024 * 1024;
