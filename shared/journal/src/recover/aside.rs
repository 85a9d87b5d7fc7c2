//! What is taken out of the way when a journal opens: copies of damaged segments, and files that are no segments of their names.
//!
//! Somebody may have renamed a file, or copied one in. Its neighbours must not be judged by it, so it goes before any segment is
//! read, and what it costs is only what is no longer where it was.

use crate::format::{Framed, SEGMENT_HEADER_BYTES, segment_path};
use crate::ledger::{read_whole, replace};
use crate::scan::Step;
use crate::{Filesystem, JournalError};

use super::{Recoverer, remove, segment_header};

impl<F: Filesystem> Recoverer<'_, F> {
    /// A file that says itself that it is no segment of this name (another journal's, or one that somebody renamed) means nothing here, and
    /// its neighbours must not be judged by it.
    pub(super) fn set_strangers_aside(&mut self, bases: &mut Vec<u64>) -> Result<(), JournalError> {
        let mut own = Vec::with_capacity(bases.len());
        for base in bases.drain(..) {
            match segment_header(&self.fs, &segment_path(self.dir, base))? {
                Framed::Good(found) if found != (self.ledger.journal_id, base) => self.set_aside(base)?,
                Framed::Good(_) | Framed::Bad | Framed::Newer(_) => own.push(base),
            }
        }
        *bases = own;
        Ok(())
    }

    /// A file without a good header may be a segment that lost it, or anything. It is none where another segment lies already.
    pub(super) fn set_intruders_aside(&mut self, bases: &mut Vec<u64>) -> Result<(), JournalError> {
        let mut index = 0;
        while let Some(base) = bases.get(index).copied() {
            let next = bases.get(index + 1).copied();
            if self.has_no_room(base, next)? {
                self.set_aside(base)?;
                bases.remove(index);
                index = index.saturating_sub(1);
            } else if let Some(next) = next.filter(|next| self.is_within(base, *next)) {
                self.set_aside(next)?;
                bases.remove(index + 1);
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    /// Whether a file without a good header lies under a name in the middle of what the segment at `base` holds: then it is none.
    fn is_within(&self, base: u64, next: u64) -> bool {
        let found = (|| {
            if segment_header(&self.fs, &segment_path(self.dir, next))? != Framed::Bad {
                return Ok(false);
            }
            let mut cursor = self.cursor(base)?;
            let failed = || JournalError::io("read", self.dir);
            while cursor.logical < next {
                match cursor.step().map_err(failed())? {
                    Step::Entry { .. } | Step::Skip { .. } => {}
                    Step::End => return Ok(false),
                    Step::Bad => {
                        if !cursor.resync().map_err(failed())? {
                            return Ok(false);
                        }
                    }
                }
            }
            Ok::<_, JournalError>(cursor.logical > next)
        })();
        // What can't be read is told where it is read for good.
        found.unwrap_or(false)
    }

    /// Whether a file without a good header lies so close before the next segment that not even a header has room there.
    fn has_no_room(&self, base: u64, next: Option<u64>) -> Result<bool, JournalError> {
        let tight = next.is_some_and(|next| next < base.saturating_add(SEGMENT_HEADER_BYTES as u64));
        Ok(tight && segment_header(&self.fs, &segment_path(self.dir, base))? == Framed::Bad)
    }

    /// Keeps a copy of a damaged segment, and of such copies the latest few.
    pub(super) fn quarantine(&mut self, base: u64) -> Result<(), JournalError> {
        let path = segment_path(self.dir, base);
        let Some(bytes) = read_whole(&self.fs, &path)? else { return Ok(()) };
        let name = self.bad_name(base)?;
        replace(&self.fs, self.dir, &name, &bytes)?;
        self.report.quarantined.push(name);
        Ok(())
    }

    /// Takes a file that is no segment out of the way, as it is.
    fn set_aside(&mut self, base: u64) -> Result<(), JournalError> {
        let (path, name) = (segment_path(self.dir, base), self.bad_name(base)?);
        self.fs.rename(&path, &self.dir.join(&name)).map_err(JournalError::io("set aside", &path))?;
        self.fs.sync_dir(self.dir).map_err(JournalError::io("sync", self.dir))?;
        self.report.quarantined.push(name);
        Ok(())
    }

    /// A free name for a file that is set aside; of older ones the latest few stay.
    fn bad_name(&self, base: u64) -> Result<String, JournalError> {
        let names = self.fs.list(self.dir).map_err(JournalError::io("list", self.dir))?;
        let mut kept: Vec<_> = names.into_iter().filter(|name| name.ends_with(QUARANTINE_SUFFIX)).collect();
        let free = (0_u32..).map(|n| format!("{base:020}.{n}{QUARANTINE_SUFFIX}")).find(|name| !kept.contains(name));
        kept.sort_unstable();
        for old in kept.iter().take((kept.len() + 1).saturating_sub(QUARANTINED_KEPT)) {
            remove(&self.fs, self.dir, old)?;
        }
        Ok(free.expect("a folder holds fewer files than there are numbers"))
    }
}

pub(crate) const QUARANTINE_SUFFIX: &str = ".bad";
const QUARANTINED_KEPT: usize = 8;
