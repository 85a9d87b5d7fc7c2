//! One segment read when a journal opens: its entries counted, what is damaged found, and the good part of it written anew.

use super::{Gap, Recoverer, Repair, Tail, add_class, segment_header};
use crate::evict::Rewrite;
use crate::format::{ENTRY_HEADER_BYTES, Framed, SEGMENT_HEADER_BYTES, segment_path};
use crate::journal::ClassBytes;
use crate::scan::Step;
use crate::{Filesystem, JournalError, Offset, Reason};

/// One segment as read.
#[derive(Debug, Default)]
struct Scan {
    damaged: bool,
    end: u64,
    unvouched_from: u64,
    good_bytes: u64,
    file_bytes: u64,
    classes: ClassBytes,
}

impl<F: Filesystem> Recoverer<'_, F> {
    pub(super) fn segment(&mut self, base: u64, next_base: Option<u64>) -> Result<(), JournalError> {
        self.bridge(base);
        let header = segment_header(&self.fs, &segment_path(self.dir, base))?;
        let scan = self.scan(base, next_base)?;
        if scan.damaged || header == Framed::Bad {
            let (content, classes) = self.rewrite(base, scan.end)?;
            self.add_segment(base, scan.end, content.len() as u64, classes);
            let bytes = content.len() as u64;
            self.tail = Some(Tail { unvouched_from: bytes, good_bytes: bytes, file_bytes: bytes });
            self.repairs.push(Repair { base, content, keep_original: true });
        } else {
            self.report.torn_bytes += scan.file_bytes - scan.good_bytes;
            self.add_segment(base, scan.end, scan.good_bytes, scan.classes);
            let Scan { unvouched_from, good_bytes, file_bytes, .. } = scan;
            self.tail = Some(Tail { unvouched_from, good_bytes, file_bytes });
        }
        Ok(())
    }

    /// Stands in for segments that are missing before `base`.
    fn bridge(&mut self, base: u64) {
        if base <= self.end {
            return;
        }
        self.damaged(self.end, base);
        if self.segments.is_empty() {
            self.ledger.released = base;
        } else if base - self.end > SEGMENT_HEADER_BYTES as u64 {
            let content = Rewrite::new(self.ledger.journal_id, self.end).finish(base, Reason::Corrupt, &[]);
            self.repairs.push(Repair { base: self.end, content: content.clone(), keep_original: false });
            self.add_segment(self.end, base, content.len() as u64, Vec::new());
        }
    }

    fn scan(&mut self, base: u64, next_base: Option<u64>) -> Result<Scan, JournalError> {
        let path = segment_path(self.dir, base);
        let mut cursor = self.cursor(base)?;
        let file_bytes = cursor.file_bytes().map_err(JournalError::io("measure", &path))?;
        let mut scan = Scan { file_bytes, ..Scan::default() };
        loop {
            let (at, physical) = (cursor.logical, cursor.physical);
            (scan.end, scan.good_bytes) = (at, physical);
            if at <= self.watermark {
                scan.unvouched_from = physical;
            }
            if next_base.is_some_and(|next| at > next) {
                scan.damaged = true;
                break;
            }
            match cursor.step().map_err(JournalError::io("read", &path))? {
                Step::Entry { key, offset, payload, .. } => {
                    let size = (ENTRY_HEADER_BYTES + payload.len()) as u64;
                    add_class(&mut scan.classes, key.class, size);
                    self.note(key, offset);
                }
                Step::Skip { number, from, skip } => {
                    if skip.to > from {
                        self.report.gaps.push(Gap { from: Offset(from), to: Offset(skip.to), reason: skip.reason });
                    }
                    self.ledger.adopt(number, &skip.dropped);
                }
                Step::End => break,
                Step::Bad if next_base.is_none() && at >= self.watermark => break,
                Step::Bad => {
                    scan.damaged = true;
                    if !cursor.resync().map_err(JournalError::io("read", &path))? {
                        break;
                    }
                    self.damaged(at, cursor.logical);
                }
            }
        }
        // The part that is missing at the end of a segment: up to the next one, or up to what was durable once.
        let wanted_end = next_base.unwrap_or(self.watermark.max(scan.end));
        if scan.end != wanted_end {
            scan.damaged = true;
            self.damaged(scan.end, wanted_end);
            scan.end = wanted_end;
        }
        Ok(scan)
    }

    /// The good entries of a damaged segment below `end`, at their offsets.
    fn rewrite(&self, base: u64, end: u64) -> Result<(Vec<u8>, ClassBytes), JournalError> {
        let path = segment_path(self.dir, base);
        let mut cursor = self.cursor(base)?;
        let mut copy = Rewrite::new(self.ledger.journal_id, base);
        let (mut classes, mut losses) = (Vec::new(), Vec::new());
        loop {
            match cursor.step().map_err(JournalError::io("read", &path))? {
                Step::Entry { payload, offset, .. } if offset + (ENTRY_HEADER_BYTES + payload.len()) as u64 > end => {
                    break;
                }
                Step::Entry { key, offset, urgent, payload } => {
                    copy.skip_to(offset, Reason::Corrupt);
                    add_class(&mut classes, key.class, copy.keep(offset, key, urgent, payload));
                }
                Step::Skip { number, from, skip } if skip.to <= end => {
                    copy.skip_to(from, Reason::Corrupt);
                    copy.skip_to(skip.to, skip.reason);
                    if number > self.ledger.recorded {
                        losses.push((number, skip));
                    }
                }
                Step::Skip { .. } | Step::End => break,
                Step::Bad => {
                    if !cursor.resync().map_err(JournalError::io("read", &path))? {
                        break;
                    }
                }
            }
        }
        Ok((copy.finish(end, Reason::Corrupt, &losses), classes))
    }
}
