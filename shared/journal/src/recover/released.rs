//! Released segments that are found when a journal opens: those that are whole may stay for who asks again, the others go.

use super::{Recoverer, add_class, remove, segment_header};
use crate::format::{ENTRY_HEADER_BYTES, Framed, segment_name, segment_path};
use crate::journal::{ClassBytes, Segment};
use crate::scan::Step;
use crate::{Filesystem, JournalError};

impl<F: Filesystem> Recoverer<'_, F> {
    /// Segments that lie wholly below the released mark: kept on purpose, or unlinked and brought back by a crash.
    pub(super) fn take_released(&self, bases: &mut Vec<u64>) -> Vec<u64> {
        let released = bases.iter().skip(1).take_while(|next| **next <= self.ledger.released).count();
        bases.drain(..released).collect()
    }

    /// Keeps the newest of the released segments that are whole and join what counts, which begins at `counted_from`, and removes the
    /// others.
    pub(super) fn keep_released(
        &mut self,
        released: &[u64],
        counted_from: Option<u64>,
        keep_bytes: u64,
    ) -> Result<(), JournalError> {
        let (mut next, mut room_bytes) = (counted_from, keep_bytes);
        for base in released.iter().rev() {
            let whole = match next {
                Some(next) if room_bytes > 0 => self.whole(*base, next),
                Some(_) | None => None,
            };
            match whole.filter(|segment| segment.bytes <= room_bytes) {
                Some(segment) => {
                    (next, room_bytes) = (Some(*base), room_bytes - segment.bytes);
                    self.kept.push_front(segment);
                }
                None => {
                    next = None;
                    remove(&self.fs, self.dir, &segment_name(*base))?;
                }
            }
        }
        Ok(())
    }

    /// A segment of which every byte can be read, up to the one that follows it.
    fn whole(&self, base: u64, next: u64) -> Option<Segment> {
        let header = segment_header(&self.fs, &segment_path(self.dir, base)).ok()?;
        if header != Framed::Good((self.ledger.journal_id, base)) {
            return None;
        }
        let mut cursor = self.cursor(base).ok()?;
        let (bytes, mut classes) = (cursor.file_bytes().ok()?, ClassBytes::new());
        loop {
            match cursor.step().ok()? {
                Step::Entry { key, payload, .. } => {
                    add_class(&mut classes, key.class, (ENTRY_HEADER_BYTES + payload.len()) as u64);
                }
                Step::Skip { .. } => {}
                Step::End => break,
                Step::Bad => return None,
            }
        }
        (cursor.logical == next).then_some(Segment { base, end: next, bytes, classes })
    }
}
