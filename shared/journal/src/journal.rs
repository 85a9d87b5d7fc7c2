//! The writer: appends, makes durable, releases. One write per batch, one sync per group, and after a failed sync nothing ever again.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::format::{ENTRY_HEADER_BYTES, SEGMENT_HEADER_BYTES, encode_entry};
use crate::ledger::Ledger;
use crate::{Dropped, Filesystem, JournalError, Key, Offset, Reader, RealFilesystem, Recovery};

mod config;
mod release;
mod write;

pub use config::{Config, Drop, FsyncPolicy};

/// An acknowledgement: everything below `upto` is as safe as `policy` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Exclusive.
    pub upto: Offset,
    /// The policy in force.
    pub policy: FsyncPolicy,
}

/// A journal open for writing; see the [crate documentation](crate).
#[derive(Debug)]
pub struct Journal<F: Filesystem = RealFilesystem> {
    pub(crate) fs: F,
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) ledger: Ledger,
    /// The released mark in the ledger on disk: segments below it may go at any time.
    pub(crate) released_durable: u64,
    /// Oldest first; the last one takes appends while `active` is there.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) active: Option<F::File>,
    /// Encoded entries that are not written yet; they belong to the last segment.
    pub(crate) buffer: Vec<u8>,
    /// Bytes of the last segment that are written.
    pub(crate) written_bytes: u64,
    pub(crate) next: u64,
    pub(crate) durable: u64,
    pub(crate) last_sync_us: Option<i64>,
    pub(crate) watermark: Option<F::File>,
    pub(crate) reserve_held: bool,
    /// Most bytes by class.
    pub(crate) class_caps: ClassBytes,
    pub(crate) dead: bool,
    /// Keeps other writers out.
    pub(crate) _lock: F::File,
}

/// Bytes by class.
pub(crate) type ClassBytes = Vec<(u8, u64)>;

/// A segment as the writer knows it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) base: u64,
    /// Offset behind its last entry.
    pub(crate) end: u64,
    /// Size of the file, buffered entries included.
    pub(crate) bytes: u64,
    /// Bytes by class.
    pub(crate) classes: ClassBytes,
}

impl<F: Filesystem> Journal<F> {
    /// Opens or creates the journal in `dir` and recovers what a crash left. `fresh_id` are 64 random bits drawn by the caller; they become
    /// the journal's id if the folder has none.
    pub fn open(fs: F, dir: &Path, config: Config, fresh_id: u64) -> Result<(Self, Recovery), JournalError> {
        config.check()?;
        crate::recover::open(fs, dir, config, fresh_id)
    }

    /// Adds an entry and returns its offset. It is durable once [`durable`](Self::durable) is beyond that offset: at once under
    /// `Always` and for an urgent entry (which may also use the reserve), else after a sync.
    ///
    /// On an error the entry was not added; only if the journal died of it, the next opening may find it or not.
    pub fn append(&mut self, key: Key, bytes: &[u8], urgent: bool) -> Result<Offset, JournalError> {
        self.check_alive()?;
        let size = (ENTRY_HEADER_BYTES + bytes.len()) as u64;
        let limit = (self.config.segment_bytes - SEGMENT_HEADER_BYTES as u64).min(u64::from(u32::MAX));
        if size > limit {
            return Err(JournalError::TooLarge { bytes: size, limit });
        }
        self.make_room(key.class, size, urgent)?;
        if self.needs_roll(size) {
            self.roll(urgent)?;
        }
        if self.buffer.len() as u64 + size > self.batch_bytes() && !self.buffer.is_empty() {
            self.flush(urgent)?;
        }
        let offset = self.next;
        encode_entry(&mut self.buffer, self.ledger.journal_id, offset, key, urgent, bytes);
        self.account(key, size as i64);
        if (urgent || self.config.fsync == FsyncPolicy::Always)
            && let Err(error) = self.make_durable(urgent)
        {
            self.take_back(key, size);
            return Err(error);
        }
        self.ledger.last.insert((key.epoch, key.class), (key.seq, offset));
        Ok(Offset(offset))
    }

    /// Makes everything appended durable by the policy, which the answer names. A failed sync ends this journal for ever (J1).
    ///
    /// On a full disk it fails and leaves the reserve alone: that is for urgent entries, whose `append` syncs by itself.
    pub fn sync(&mut self) -> Result<Durable, JournalError> {
        self.check_alive()?;
        self.make_durable(false)?;
        self.settle_losses()?;
        Ok(Durable { upto: Offset(self.durable), policy: self.config.fsync })
    }

    /// Syncs when entries wait and the group interval is over; `None` when it is not time yet or nothing waits.
    pub fn poll_sync(&mut self, now_us: i64) -> Result<Option<Durable>, JournalError> {
        self.check_alive()?;
        let due = match self.sync_due_us() {
            None => return Ok(None),
            // A clock that went back must not hold the sync up.
            Some(due_us) => now_us >= due_us || self.last_sync_us.is_some_and(|last_us| now_us < last_us),
        };
        if !due {
            return Ok(None);
        }
        self.last_sync_us = Some(now_us);
        self.sync().map(Some)
    }

    /// When [`poll_sync`](Self::poll_sync) wants to be called; `None` while nothing waits.
    pub fn sync_due_us(&self) -> Option<i64> {
        if self.durable >= self.next {
            return None;
        }
        let interval_us = match self.config.fsync {
            FsyncPolicy::Group { interval_us } => interval_us,
            FsyncPolicy::Always | FsyncPolicy::Never => 0,
        };
        Some(self.last_sync_us.map_or(i64::MIN, |last_us| last_us.saturating_add(interval_us)))
    }

    /// What was dropped since the last call (J3). Append a gap record for each and say [`told`](Self::told); until a sync after that,
    /// a restart reports them again.
    pub fn take_dropped(&mut self) -> Vec<Dropped> {
        let already = self.ledger.handed_out.max(self.ledger.recorded);
        let fresh: Vec<_> = self.ledger.losses.iter().filter(|loss| loss.number > already).copied().collect();
        if let Some(number) = fresh.iter().map(|loss| loss.number).max() {
            self.ledger.handed_out = number;
        }
        fresh.into_iter().map(|loss| loss.dropped).collect()
    }

    /// Every loss that is not known to be recorded, handed out or not.
    pub fn losses(&self) -> Vec<Dropped> {
        self.ledger.losses.iter().map(|loss| loss.dropped).collect()
    }

    /// Each loss handed out so far has its gap record among the entries appended: the next sync counts them as recorded.
    pub fn told(&mut self) {
        if self.ledger.handed_out > self.ledger.recorded {
            self.ledger.told = Some((self.ledger.handed_out, self.next));
        }
    }

    /// Limits the bytes of one class; beyond them its oldest entries give way, by whole segments. Refused for a class that the drop
    /// policy spares, and for less than one segment.
    pub fn cap_class(&mut self, class: u8, max_bytes: u64) -> Result<(), JournalError> {
        let gives_way = matches!(&self.config.drop_policy, Drop::OldestOfClass(order) if order.contains(&class));
        if !gives_way {
            return Err(JournalError::Config { reason: "a class that never gives way can't have a cap" });
        }
        if max_bytes < self.config.segment_bytes {
            return Err(JournalError::Config { reason: "the cap of a class is below segment_bytes" });
        }
        self.class_caps.retain(|(capped, _)| *capped != class);
        self.class_caps.push((class, max_bytes));
        Ok(())
    }

    /// Drops the entries of a class in segments that lie wholly below `below`: the caller knows how old they are. The losses are told
    /// by [`take_dropped`](Self::take_dropped).
    pub fn expire(&mut self, class: u8, below: Offset) -> Result<(), JournalError> {
        self.check_alive()?;
        let durable = self.durable;
        let too_old = |segment: &Segment| {
            segment.end <= below.0 && segment.end <= durable && segment.classes.iter().any(|(held, _)| *held == class)
        };
        // What is kept though released goes as a whole, and tells nothing.
        if let Some(last) = self.segments.iter().take(self.released_segments()).rposition(too_old) {
            self.unlink_front(last + 1)?;
        }
        while let Some(index) = self.segments.iter().position(too_old) {
            if index + 1 == self.segments.len() && self.active.is_some() {
                self.roll(false)?;
            }
            self.evict(index, class)?;
        }
        Ok(())
    }

    /// A reader of this journal from `from`; it sees what is written, which is at the latest what is synced.
    pub fn reader(&self, from: Offset) -> Reader<F> {
        Reader::new(self.fs.clone(), self.dir.clone(), Some(self.ledger.journal_id), from)
    }

    /// The journal's id, drawn when the folder was created.
    pub fn id(&self) -> u64 {
        self.ledger.journal_id
    }

    /// Everything below is durable by the policy.
    pub fn durable(&self) -> Offset {
        Offset(self.durable)
    }

    /// The next entry's offset will be this or above.
    pub fn next_offset(&self) -> Offset {
        Offset(self.next)
    }

    /// The oldest entry's offset is this or above; what is kept though it is released lies below.
    pub fn first_offset(&self) -> Offset {
        Offset(self.segments.get(self.released_segments()).map_or(self.next, |segment| segment.base))
    }

    /// The mark given to [`release`](Self::release).
    pub fn released(&self) -> Offset {
        Offset(self.ledger.released)
    }

    /// Bytes of all segments but those that are only kept.
    pub fn bytes(&self) -> u64 {
        self.disk_bytes() - self.kept_bytes()
    }

    /// Bytes of segments that are released and kept all the same.
    pub fn kept_bytes(&self) -> u64 {
        self.segments.iter().take(self.released_segments()).map(|segment| segment.bytes).sum()
    }

    /// Bytes that can still be appended without anything giving way that counts; with `urgent` the reserve counts too.
    pub fn room_bytes(&self, urgent: bool) -> u64 {
        self.limit_bytes(urgent).saturating_sub(self.bytes())
    }

    /// Whether a sync or a write failed: nothing can be appended any more.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of all segments.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(crate) fn check_alive(&self) -> Result<(), JournalError> {
        if self.dead { Err(JournalError::Dead) } else { Ok(()) }
    }

    pub(crate) fn limit_bytes(&self, urgent: bool) -> u64 {
        if urgent { self.config.max_bytes } else { self.config.max_bytes - self.config.reserve_bytes }
    }

    /// A failed ledger or rename leaves the folder consistent, a full disk is waited out, all else is the end.
    pub(crate) fn mortal<T>(&mut self, result: Result<T, JournalError>) -> Result<T, JournalError> {
        if let Err(JournalError::Io { .. }) = &result {
            self.dead = true;
        }
        result
    }

    pub(crate) fn write_ledger(&self) -> Result<(), JournalError> {
        self.ledger.write(&self.fs, &self.dir, Offset(self.durable))
    }

    /// Losses whose gap records are durable now are recorded.
    fn settle_losses(&mut self) -> Result<(), JournalError> {
        match self.ledger.told {
            Some((number, upto)) if self.durable >= upto => {
                self.ledger.recorded = self.ledger.recorded.max(number);
                self.ledger.losses.retain(|loss| loss.number > number);
                self.ledger.told = None;
                let written = self.write_ledger();
                match self.mortal(written) {
                    // Then a restart reports them once more.
                    Err(JournalError::DiskFull { .. }) => Ok(()),
                    other => other,
                }
            }
            _ => Ok(()),
        }
    }
}
