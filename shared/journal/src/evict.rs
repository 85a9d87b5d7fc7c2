//! Makes room at the cap: released segments first, kept ones too, then what the drop policy gives up, by rewriting one segment without it.

use crate::format::{
    RESERVE_FILE, SEGMENT_HEADER_BYTES, Skip, encode_entry, encode_segment_header, encode_skip, segment_name,
    segment_path,
};
use crate::journal::{ClassBytes, Drop};
use crate::ledger::{count_dropped, replace};
use crate::recover::add_class;
use crate::scan::{Cursor, Step};
use crate::{Filesystem, Journal, JournalError, Key, Reason};

impl<F: Filesystem> Journal<F> {
    /// Makes an entry of `size` fit under its caps, or fails with `Full` and changes nothing that matters.
    pub(crate) fn make_room(&mut self, class: u8, size: u64, urgent: bool) -> Result<(), JournalError> {
        if let Some((_, cap)) = self.class_caps.iter().copied().find(|(capped, _)| *capped == class) {
            while self.class_bytes(class) + size > cap && self.evict_oldest(&[class], urgent)? {}
        }
        let limit = self.limit_bytes(urgent);
        loop {
            let header = if self.needs_roll(size) { SEGMENT_HEADER_BYTES as u64 } else { 0 };
            let bytes = self.disk_bytes();
            if bytes + size + header > self.limit_bytes(false) && self.give_up_kept()? {
                continue;
            }
            if bytes + size + header <= limit {
                if self.reserve_held && bytes + size + header > self.limit_bytes(false) {
                    self.give_up_reserve();
                }
                return Ok(());
            }
            if self.unlink_released()? > 0 || self.close_released(urgent)? || self.evict_next(urgent)? {
                continue;
            }
            return Err(JournalError::Full { bytes, limit });
        }
    }

    /// Holds disk space for urgent entries, as far as there is any.
    pub(crate) fn hold_reserve(&mut self) {
        let reserve_bytes = self.config.reserve_bytes;
        if self.reserve_held || reserve_bytes == 0 || self.disk_bytes() + reserve_bytes > self.config.max_bytes {
            return;
        }
        let path = self.dir.join(RESERVE_FILE);
        let held = (|| {
            let file = self.fs.create(&path)?;
            let zeros = vec![0; self.config.reserve_bytes.min(64 * 1024) as usize];
            let mut at = 0;
            while at < self.config.reserve_bytes {
                let piece = (self.config.reserve_bytes - at).min(zeros.len() as u64) as usize;
                self.fs.write_at(&file, at, &zeros[..piece])?;
                at += piece as u64;
            }
            // Space may be given out as late as here.
            self.fs.sync_file(&file)
        })();
        match held {
            Ok(()) => self.reserve_held = true,
            Err(_) => self.give_up_reserve(),
        }
    }

    /// Gives the held disk space to whoever needs it now.
    pub(crate) fn give_up_reserve(&mut self) {
        let _ = self.fs.remove(&self.dir.join(RESERVE_FILE));
        self.reserve_held = false;
    }

    /// If everything in the open segment is released, closes it so that it can go.
    fn close_released(&mut self, urgent: bool) -> Result<bool, JournalError> {
        let done = self.segments.len() == 1
            && self.segments.back().is_some_and(|segment| segment.bytes > SEGMENT_HEADER_BYTES as u64)
            && self.ledger.released >= self.next;
        if done {
            self.roll(urgent)?;
        }
        Ok(done)
    }

    /// Evicts the policy's next choice from one segment; `false` when it gives nothing up.
    fn evict_next(&mut self, urgent: bool) -> Result<bool, JournalError> {
        let Drop::OldestOfClass(order) = &self.config.drop_policy else { return Ok(false) };
        let order = order.clone();
        self.evict_oldest(&order, urgent)
    }

    /// Evicts the first of these classes that there is from the oldest segment that has it.
    fn evict_oldest(&mut self, order: &[u8], urgent: bool) -> Result<bool, JournalError> {
        let holds = |index: &usize, class: &u8| self.segments[*index].classes.iter().any(|(held, _)| held == class);
        let first = self.released_segments();
        let choice = order
            .iter()
            .find_map(|class| Some(((first..self.segments.len()).find(|index| holds(index, class))?, *class)));
        let Some((index, class)) = choice else { return Ok(false) };
        if index + 1 == self.segments.len() && self.active.is_some() {
            self.roll(urgent)?;
        }
        self.evict(index, class)?;
        Ok(true)
    }

    fn class_bytes(&self, class: u8) -> u64 {
        let counted = self.segments.iter().skip(self.released_segments());
        let held = counted.flat_map(|segment| &segment.classes).filter(|(held, _)| *held == class);
        held.map(|(_, bytes)| bytes).sum()
    }

    /// Rewrites a closed segment without the entries of `class` and without what is released. The losses are in the new file itself, so
    /// that they become durable in the same rename as the eviction.
    pub(crate) fn evict(&mut self, index: usize, class: u8) -> Result<(), JournalError> {
        let (base, end) = (self.segments[index].base, self.segments[index].end);
        let path = segment_path(&self.dir, base);
        let file = self.fs.open(&path).map_err(JournalError::io("open", &path))?;
        let mut cursor = Cursor::new(self.fs.clone(), file, self.ledger.journal_id, base);
        let mut copy = Rewrite::new(self.ledger.journal_id, base);
        let (mut dropped, mut classes, mut losses) = (Vec::new(), ClassBytes::new(), Vec::new());
        loop {
            match cursor.step().map_err(JournalError::io("read", &path))? {
                Step::Entry { offset, .. } if offset < self.ledger.released => {}
                Step::Entry { key, .. } if key.class == class => {
                    count_dropped(&mut dropped, key.class, key.epoch, key.seq, Reason::Evicted);
                }
                Step::Entry { key, offset, urgent, payload } => {
                    let size = copy.keep(offset, key, urgent, payload);
                    add_class(&mut classes, key.class, size);
                }
                Step::Skip { number, from, skip } => {
                    if skip.reason != Reason::Evicted && skip.to > from {
                        copy.skip_to(from, Reason::Evicted);
                        copy.skip_to(skip.to, skip.reason);
                    }
                    if number > self.ledger.recorded {
                        losses.push((number, skip));
                    }
                }
                Step::End => break,
                Step::Bad => {
                    if !cursor.resync().map_err(JournalError::io("read", &path))? {
                        break;
                    }
                }
            }
        }
        let number = self.ledger.add(&dropped);
        let nothing_left = copy.is_empty() && index == 0 && self.segments.len() > 1;
        let done = if nothing_left {
            self.unlink_front(1).map(|_| None)
        } else {
            losses.push((number, Skip { to: end, reason: Reason::Evicted, dropped }));
            let bytes = copy.finish(end, Reason::Evicted, &losses);
            let replaced = replace(&self.fs, &self.dir, &segment_name(base), &bytes);
            self.mortal(replaced).map(|()| Some(bytes.len() as u64))
        };
        match done {
            Ok(Some(bytes)) => {
                let segment = &mut self.segments[index];
                (segment.bytes, segment.classes) = (bytes, classes);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                self.ledger.losses.retain(|loss| loss.number != number);
                Err(error)
            }
        }
    }
}

/// A segment written anew in memory: entries keep their offsets, skips stand for the rest.
#[derive(Debug)]
pub(crate) struct Rewrite {
    journal_id: u64,
    logical: u64,
    out: Vec<u8>,
    kept: u64,
}

impl Rewrite {
    pub(crate) fn new(journal_id: u64, base: u64) -> Self {
        let header = encode_segment_header(journal_id, base);
        Self { journal_id, logical: base + SEGMENT_HEADER_BYTES as u64, out: header.to_vec(), kept: 0 }
    }

    /// Takes an entry over; returns the bytes it takes.
    pub(crate) fn keep(&mut self, offset: u64, key: Key, urgent: bool, payload: &[u8]) -> u64 {
        self.skip_to(offset, Reason::Evicted);
        let before = self.out.len();
        encode_entry(&mut self.out, self.journal_id, offset, key, urgent, payload);
        let size = (self.out.len() - before) as u64;
        self.logical = offset + size;
        self.kept += 1;
        size
    }

    /// Stands for missing entries up to `to`.
    pub(crate) fn skip_to(&mut self, to: u64, reason: Reason) {
        if to > self.logical {
            encode_skip(&mut self.out, self.journal_id, self.logical, 0, &Skip { to, reason, dropped: Vec::new() });
            self.logical = to;
        }
    }

    /// Whether no entry was kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept == 0
    }

    /// Ends the segment at `end` and puts the losses with their numbers there.
    pub(crate) fn finish(mut self, end: u64, reason: Reason, losses: &[(u64, Skip)]) -> Vec<u8> {
        self.skip_to(end, reason);
        for (number, skip) in losses {
            let skip = Skip { to: self.logical, reason: skip.reason, dropped: skip.dropped.clone() };
            encode_skip(&mut self.out, self.journal_id, self.logical, *number, &skip);
        }
        self.out
    }
}
