//! Follows a journal from any offset, in the writer's process or another one, while it grows, shrinks, is repaired or evicted.
//!
//! A reader holds no lock and keeps no state in the folder. It reads segments by name; what it can't read any more it reports as
//! [`Skipped`], what is not complete yet it waits for.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::format::{
    Framed, IDENTITY_FILE, WATERMARK_FILE, parse_identity, parse_watermark, segment_base, segment_path,
};
use crate::ledger::read_whole;
use crate::scan::{Cursor, Peek, Step};
use crate::{Entry, Filesystem, JournalError, Offset, RealFilesystem, Reason};

/// Reads entries in order and without a lock, beside the writer; what it can't read any more it tells by
/// [`take_skipped`](Self::take_skipped), what is not complete yet it waits for.
#[derive(Debug)]
pub struct Reader<F: Filesystem = RealFilesystem> {
    fs: F,
    dir: PathBuf,
    /// Of the watermark, which is read again and again.
    watermark: PathBuf,
    journal_id: Option<u64>,
    position: u64,
    open: Option<Open<F>>,
    /// As last read from the folder.
    durable: u64,
    skipped: VecDeque<Skipped>,
}

/// Offsets that this reader passed without an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// First offset passed.
    pub from: Offset,
    /// Where it goes on.
    pub to: Offset,
    /// Why.
    pub reason: Reason,
}

/// Opens a reader of the journal in `dir`, which may belong to another process or not exist yet.
pub fn follow<F: Filesystem>(fs: F, dir: &Path, from: Offset) -> Result<Reader<F>, JournalError> {
    let mut reader = Reader::new(fs, dir.to_owned(), None, from);
    reader.identify()?;
    Ok(reader)
}

#[derive(Debug)]
struct Open<F: Filesystem> {
    base: u64,
    cursor: Cursor<F>,
    /// This file was opened by name again when the one before had nothing good at this offset.
    reopened_at: Option<u64>,
}

impl<F: Filesystem> Reader<F> {
    pub(crate) fn new(fs: F, dir: PathBuf, journal_id: Option<u64>, from: Offset) -> Self {
        let watermark = dir.join(WATERMARK_FILE);
        Self { fs, dir, watermark, journal_id, position: from.0, open: None, durable: 0, skipped: VecDeque::new() }
    }

    /// The next entry that is written, `None` when there is none yet. It may not be durable: a power cut can take it back and
    /// give its offset to another entry.
    #[expect(
        clippy::should_implement_trait,
        reason = "an end that is not final and an error that can be retried make no iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>, JournalError> {
        self.read(u64::MAX)
    }

    /// The next entry that is durable by the writer's policy, `None` when there is none yet.
    pub fn next_durable(&mut self) -> Result<Option<Entry>, JournalError> {
        if self.position >= self.durable {
            self.refresh_durable()?;
        }
        if self.position >= self.durable {
            return Ok(None);
        }
        let limit = self.durable;
        match self.read(limit)? {
            Some(entry) => Ok(Some(entry)),
            None => {
                self.refresh_durable()?;
                if self.durable > limit { self.read(self.durable) } else { Ok(None) }
            }
        }
    }

    /// Everything below was read or skipped; the place to go on from.
    pub fn offset(&self) -> Offset {
        Offset(self.position)
    }

    /// The journal's id; `None` while the folder has none.
    pub fn journal_id(&mut self) -> Result<Option<u64>, JournalError> {
        self.identify()?;
        Ok(self.journal_id)
    }

    /// Everything below is durable by the writer's policy, as the folder tells now.
    pub fn durable(&mut self) -> Result<Offset, JournalError> {
        self.refresh_durable()?;
        Ok(Offset(self.durable))
    }

    /// Goes on from `offset`, which need not be an entry's.
    pub fn seek(&mut self, offset: Offset) {
        self.position = offset.0;
        // A little further on it is reached sooner by reading than by looking for its segment.
        let near = |open: &Open<F>| offset.0.checked_sub(open.cursor.logical).is_some_and(|ahead| ahead <= NEAR_BYTES);
        self.open = self.open.take().filter(near);
    }

    /// What was passed without an entry since the last call: released, evicted or damaged.
    pub fn take_skipped(&mut self) -> Vec<Skipped> {
        self.skipped.drain(..).collect()
    }

    /// The next entry whose offset is below `limit`.
    fn read(&mut self, limit: u64) -> Result<Option<Entry>, JournalError> {
        if !self.identify()? {
            return Ok(None);
        }
        loop {
            let Some(open) = &mut self.open else {
                if self.open_covering(limit)? { continue } else { return Ok(None) }
            };
            let at = open.cursor.logical;
            if at >= limit {
                return Ok(None);
            }
            let failed = JournalError::io("read", &self.dir);
            match open.cursor.step().map_err(failed)? {
                Step::Entry { offset, .. } if offset < self.position => {}
                Step::Entry { key, offset, payload, .. } => {
                    let entry = Entry { key, offset: Offset(offset), bytes: payload.to_vec() };
                    self.position = open.cursor.logical;
                    return Ok(Some(entry));
                }
                Step::Skip { skip, .. } => self.skip_to(skip.to, skip.reason),
                Step::End | Step::Bad => {
                    if !self.pass_end(at)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// At the end of what the open segment has, or at bytes that are no entry: goes on where there is more, `false` if nothing is.
    fn pass_end(&mut self, at: u64) -> Result<bool, JournalError> {
        self.refresh_durable()?;
        let Some(open) = &self.open else { return Ok(true) };
        let (base, reopened) = (open.base, open.reopened_at == Some(at));
        // Looked up before the segment is read again: a segment with a successor is complete.
        let successor = self.successor(base, at)?;
        let failed = JournalError::io("read", &self.dir);
        let Some(open) = &mut self.open else { return Ok(true) };
        let here = open.cursor.peek().map_err(failed)?;
        match (here, successor) {
            (Peek::Good, _) => Ok(true),
            (Peek::End, Some(next)) if next == at => {
                self.open = None;
                Ok(self.open_at(next, None)?)
            }
            (Peek::End | Peek::Bad, None) if at >= self.durable => Ok(false),
            // There is more, but not in this file: it may have been replaced since it was opened.
            _ if !reopened => {
                self.open = None;
                self.open_at(base, Some(at))
            }
            (Peek::Bad, _) if self.resync()? => Ok(true),
            (_, Some(next)) => {
                self.skip_to(next, Reason::Corrupt);
                self.open = None;
                self.open_at(next, None)
            }
            (_, None) => Ok(false),
        }
    }

    /// Goes on at the next good entry of the open segment, if there is one.
    fn resync(&mut self) -> Result<bool, JournalError> {
        let failed = JournalError::io("read", &self.dir);
        let Some(open) = &mut self.open else { return Ok(false) };
        let found = open.cursor.resync().map_err(failed)?;
        let to = open.cursor.logical;
        if found {
            self.skip_to(to, Reason::Corrupt);
        }
        Ok(found)
    }

    /// Opens the segment at `base`; if it is gone, the loop looks for what covers the position now.
    fn open_at(&mut self, base: u64, reopened_at: Option<u64>) -> Result<bool, JournalError> {
        let path = segment_path(&self.dir, base);
        match self.fs.open(&path) {
            Ok(file) => {
                let cursor = Cursor::new(self.fs.clone(), file, self.journal_id.unwrap_or_default(), base);
                self.open = Some(Open { base, cursor, reopened_at });
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(JournalError::io("open", &path)(error)),
        }
    }

    /// Opens the segment that covers the position, or the first behind it; `false` if there is none.
    fn open_covering(&mut self, limit: u64) -> Result<bool, JournalError> {
        for _ in 0..OPEN_ATTEMPTS {
            let bases = self.bases()?;
            let covering = bases.iter().rev().find(|base| **base <= self.position).or_else(|| bases.first());
            let Some(base) = covering.copied().filter(|base| *base < limit) else { return Ok(false) };
            self.open_at(base, None)?;
            if self.open.is_some() {
                self.skip_to(base, Reason::Released);
                return Ok(true);
            }
            // Released between listing and opening.
        }
        Ok(false)
    }

    /// Base of the segment behind the one at `base`, whose entries end at `at` as far as they can be read.
    fn successor(&self, base: u64, at: u64) -> Result<Option<u64>, JournalError> {
        // Nearly always the next one begins exactly here, and asking for it is much cheaper than listing the folder.
        if at > base && self.fs.open(&segment_path(&self.dir, at)).is_ok() {
            return Ok(Some(at));
        }
        if at >= self.durable {
            return Ok(None);
        }
        Ok(self.bases()?.into_iter().find(|next| *next > base))
    }

    fn bases(&self) -> Result<Vec<u64>, JournalError> {
        let names = match self.fs.list(&self.dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(JournalError::io("list", &self.dir)(error)),
        };
        let mut bases: Vec<u64> = names.iter().filter_map(|name| segment_base(name)).collect();
        bases.sort_unstable();
        Ok(bases)
    }

    fn skip_to(&mut self, to: u64, reason: Reason) {
        if to > self.position {
            self.skipped.push_back(Skipped { from: Offset(self.position), to: Offset(to), reason });
            self.position = to;
        }
    }

    fn identify(&mut self) -> Result<bool, JournalError> {
        if self.journal_id.is_none() {
            let path = self.dir.join(IDENTITY_FILE);
            match read_whole(&self.fs, &path)?.map(|bytes| parse_identity(&bytes)) {
                Some(Framed::Good(id)) => self.journal_id = Some(id),
                Some(Framed::Newer(found)) => return Err(JournalError::Version { path, found }),
                Some(Framed::Bad) | None => {}
            }
        }
        Ok(self.journal_id.is_some())
    }

    fn refresh_durable(&mut self) -> Result<(), JournalError> {
        match (read_whole(&self.fs, &self.watermark)?.map(|bytes| parse_watermark(&bytes)), self.journal_id) {
            (Some(Framed::Good((found, _))), Some(expected)) if found != expected => {
                Err(JournalError::Replaced { expected, found })
            }
            (Some(Framed::Good((_, upto))), _) => {
                self.durable = self.durable.max(upto);
                Ok(())
            }
            (Some(Framed::Newer(found)), _) => Err(JournalError::Version { path: self.watermark.clone(), found }),
            // Caught in the middle of a write: the next call sees it whole.
            (Some(Framed::Bad) | None, _) => Ok(()),
        }
    }
}

const OPEN_ATTEMPTS: usize = 8;
/// Bytes that are read on over rather than looking for a segment anew.
const NEAR_BYTES: u64 = 8 * 1024;
