//! The writer: appends, makes durable, releases. One write per batch, one sync per group, and after a failed sync nothing ever again.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::format::{
    ENTRY_HEADER_BYTES, SEGMENT_HEADER_BYTES, WATERMARK_FILE, encode_entry, encode_segment_header, encode_watermark,
    segment_name,
};
use crate::ledger::Ledger;
use crate::{Dropped, Filesystem, JournalError, Key, Offset, Reader, RealFilesystem, Recovery};

/// How a journal behaves; limits are for the whole folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A segment is closed at this size; space is given back by whole segments.
    pub segment_bytes: u64,
    /// Cap of all segments together.
    pub max_bytes: u64,
    /// When appended entries become durable.
    pub fsync: FsyncPolicy,
    /// Part of `max_bytes` that only urgent entries may use; also held on disk as a file of zeros.
    pub reserve_bytes: u64,
    /// What gives way at the cap.
    pub drop_policy: Drop,
    /// Released segments of so many bytes stay for who asks for them again, as long as nothing else needs the room: they count against
    /// nothing, and the oldest of them is always the first to go. 0: none.
    pub keep_bytes: u64,
}

/// When appended entries become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FsyncPolicy {
    /// Before `append` returns.
    Always,
    /// At most this long after, by [`Journal::poll_sync`].
    Group {
        /// Longest time between two syncs while entries wait.
        interval_us: i64,
    },
    /// When the operating system likes; survives the end of the process only.
    Never,
}

/// What gives way when the cap is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Drop {
    /// Nothing: `append` fails with `Full`.
    Never,
    /// The oldest entries of the first class in this order that has any; a class that is not in it never gives way.
    OldestOfClass(Vec<u8>),
}

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

    /// Allows everything below `upto` to go and unlinks segments that lie wholly below it, but for the newest
    /// [`keep_bytes`](Config::keep_bytes) of them; returns the bytes freed. The ledger is durable before the first unlink. The mark holds when the unlinking fails, and the next call tries again; it is
    /// not durable by itself: what counts is kept by whoever releases.
    pub fn release(&mut self, upto: Offset) -> Result<u64, JournalError> {
        self.check_alive()?;
        self.ledger.released = self.ledger.released.max(upto.0.min(self.durable));
        self.unlink_released()
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

    pub(crate) fn needs_roll(&self, size: u64) -> bool {
        match self.segments.back() {
            Some(segment) if self.active.is_some() => {
                segment.bytes > SEGMENT_HEADER_BYTES as u64 && segment.bytes + size > self.config.segment_bytes
            }
            _ => true,
        }
    }

    /// Closes the last segment, durable, and begins the next one, whose header is durable before an entry follows.
    pub(crate) fn roll(&mut self, urgent: bool) -> Result<(), JournalError> {
        if self.active.is_some() {
            self.make_durable(urgent)?;
        }
        let (base, path) = (self.next, self.dir.join(segment_name(self.next)));
        let header = encode_segment_header(self.ledger.journal_id, base);
        let begin = |fs: &F| {
            let file = fs.create(&path)?;
            fs.write_at(&file, 0, &header)?;
            Ok(file)
        };
        let mut begun = begin(&self.fs);
        while is_full(&begun) && self.give_up_kept()? {
            begun = begin(&self.fs);
        }
        if urgent && self.reserve_held && is_full(&begun) {
            self.give_up_reserve();
            begun = begin(&self.fs);
        }
        let file = match begun {
            Ok(file) => file,
            Err(error) => {
                let _ = self.fs.remove(&path);
                return self.mortal(Err(JournalError::io("create", &path)(error)));
            }
        };
        if self.config.fsync != FsyncPolicy::Never {
            let synced = self.fs.sync_file(&file).and_then(|()| self.fs.sync_dir(&self.dir));
            self.sync_or_die(synced, &path)?;
        }
        let header = SEGMENT_HEADER_BYTES as u64;
        let first = base + header;
        self.segments.push_back(Segment { base, end: first, bytes: header, classes: Vec::new() });
        self.active = Some(file);
        self.written_bytes = header;
        self.next = first;
        self.durable = first;
        self.write_watermark();
        if self.config.fsync != FsyncPolicy::Never
            && let Some(watermark) = &self.watermark
        {
            // Damage below the watermark is told from a torn tail, so let a power cut not set it back further than this.
            let synced = self.fs.sync_file(watermark);
            self.sync_or_die(synced, &self.dir.join(WATERMARK_FILE))?;
        }
        Ok(())
    }

    /// Writes and syncs what waits, then moves the watermark.
    pub(crate) fn make_durable(&mut self, urgent: bool) -> Result<(), JournalError> {
        if self.durable >= self.next {
            return Ok(());
        }
        self.flush(urgent)?;
        if self.config.fsync != FsyncPolicy::Never
            && let Some(file) = &self.active
        {
            let synced = self.fs.sync_file(file);
            self.sync_or_die(synced, &self.dir.clone())?;
        }
        self.durable = self.next;
        self.write_watermark();
        Ok(())
    }

    /// Tells readers in other processes; only a hint, so an error costs them delay and nothing else.
    pub(crate) fn write_watermark(&mut self) {
        if self.watermark.is_none() {
            self.watermark = self.fs.create(&self.dir.join(WATERMARK_FILE)).ok();
        }
        if let Some(file) = &self.watermark {
            let _ = self.fs.write_at(file, 0, &encode_watermark(self.ledger.journal_id, self.durable));
        }
    }

    /// A failed ledger or rename leaves the folder consistent, a full disk is waited out, all else is the end.
    pub(crate) fn mortal<T>(&mut self, result: Result<T, JournalError>) -> Result<T, JournalError> {
        if let Err(JournalError::Io { .. }) = &result {
            self.dead = true;
        }
        result
    }

    /// Unlinks closed segments below the released mark, but for those that are kept. Those count as released from here on, also after a
    /// crash: the ledger is durable either way.
    pub(crate) fn unlink_released(&mut self) -> Result<u64, JournalError> {
        let released = self.released_segments();
        let surplus = released - self.segments_to_keep(released);
        if surplus == 0
            && let Some(next) = self.segments.get(released).filter(|_| released > 0)
            && next.base > self.released_durable
        {
            self.speak_for_released()?;
        }
        self.unlink_front(surplus)
    }

    /// Closed segments at the front that are released as a whole.
    pub(crate) fn released_segments(&self) -> usize {
        let released = self.ledger.released;
        self.segments.iter().skip(1).take_while(|next| next.base <= released).count()
    }

    /// How many of the released segments, the newest of them, there is room for beside what counts.
    fn segments_to_keep(&self, released: usize) -> usize {
        let counts: u64 = self.segments.iter().skip(released).map(|segment| segment.bytes).sum();
        let mut room_bytes = self.config.keep_bytes.min(self.limit_bytes(false).saturating_sub(counts));
        let fits = |segment: &&Segment| {
            let left = room_bytes.checked_sub(segment.bytes);
            room_bytes = left.unwrap_or(0);
            left.is_some()
        };
        self.segments.iter().take(released).rev().take_while(fits).count()
    }

    /// Unlinks the oldest kept segment, for which the ledger speaks already: it needs no room to make room. `false` when there is none.
    pub(crate) fn give_up_kept(&mut self) -> Result<bool, JournalError> {
        let kept = self.segments.get(1).is_some_and(|next| next.base <= self.released_durable);
        Ok(kept && self.unlink_front(1)? > 0)
    }

    fn speak_for_released(&mut self) -> Result<(), JournalError> {
        let written = self.write_ledger();
        self.mortal(written)?;
        self.released_durable = self.ledger.released;
        Ok(())
    }

    /// Unlinks the oldest `count` segments once the ledger speaks for them.
    pub(crate) fn unlink_front(&mut self, count: usize) -> Result<u64, JournalError> {
        if count == 0 {
            return Ok(0);
        }
        let bound = self.segments.get(count).map_or(self.durable, |segment| segment.base);
        self.ledger.released = self.ledger.released.max(bound);
        if bound > self.released_durable {
            self.speak_for_released()?;
        }
        let mut freed_bytes = 0;
        for _ in 0..count {
            let Some((base, bytes)) = self.segments.front().map(|segment| (segment.base, segment.bytes)) else { break };
            let path = self.dir.join(segment_name(base));
            let removed = self.fs.remove(&path).map_err(JournalError::io("remove", &path));
            self.mortal(removed)?;
            freed_bytes += bytes;
            self.segments.pop_front();
        }
        self.hold_reserve();
        Ok(freed_bytes)
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

    /// Writes the buffer. On a full disk it stays, and the same bytes go to the same place next time.
    fn flush(&mut self, urgent: bool) -> Result<(), JournalError> {
        let Some(file) = &self.active else { return Ok(()) };
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut written = self.fs.write_at(file, self.written_bytes, &self.buffer);
        while is_full(&written) && self.give_up_kept()? {
            let Some(file) = &self.active else { return Ok(()) };
            written = self.fs.write_at(file, self.written_bytes, &self.buffer);
        }
        if urgent && self.reserve_held && is_full(&written) {
            self.give_up_reserve();
            if let Some(file) = &self.active {
                written = self.fs.write_at(file, self.written_bytes, &self.buffer);
            }
        }
        let path =
            self.segments.back().map_or_else(|| self.dir.clone(), |segment| self.dir.join(segment_name(segment.base)));
        self.mortal(written.map_err(JournalError::io("write", &path)))?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// How much gathers before it is written unasked. What waits on a full disk is written before an alarm, so it must leave room in
    /// the reserve.
    fn batch_bytes(&self) -> u64 {
        match self.config.reserve_bytes {
            0 => BATCH_BYTES,
            reserve_bytes => BATCH_BYTES.min(reserve_bytes / 2),
        }
    }

    fn sync_or_die(&mut self, synced: std::io::Result<()>, path: &Path) -> Result<(), JournalError> {
        synced.map_err(|source| {
            self.dead = true;
            JournalError::Io { action: "sync", path: path.to_owned(), source }
        })
    }

    fn account(&mut self, key: Key, size: i64) {
        self.next = self.next.saturating_add_signed(size);
        if let Some(segment) = self.segments.back_mut() {
            segment.end = self.next;
            segment.bytes = segment.bytes.saturating_add_signed(size);
            match segment.classes.iter_mut().find(|(class, _)| *class == key.class) {
                Some((_, bytes)) => *bytes = bytes.saturating_add_signed(size),
                None => segment.classes.push((key.class, size.max(0) as u64)),
            }
        }
    }

    /// Forgets the entry that was appended last and could not be written.
    fn take_back(&mut self, key: Key, size: u64) {
        let kept = self.buffer.len().saturating_sub(size as usize);
        if !self.dead {
            self.buffer.truncate(kept);
            self.account(key, -(size as i64));
        }
    }
}

impl Config {
    /// A configuration for a device's spool: 4 MB segments, the sync of a group each 200 ms, a sixteenth in reserve.
    pub fn spool(max_bytes: u64, drop_order: Vec<u8>) -> Self {
        Self {
            segment_bytes: (4 << 20).min(max_bytes / 4),
            max_bytes,
            fsync: FsyncPolicy::Group { interval_us: 200_000 },
            reserve_bytes: max_bytes / 16,
            drop_policy: Drop::OldestOfClass(drop_order),
            keep_bytes: 0,
        }
    }

    fn check(&self) -> Result<(), JournalError> {
        let reason = if self.segment_bytes < MIN_SEGMENT_BYTES {
            "segment_bytes is below 128"
        } else if self.segment_bytes > self.max_bytes {
            "segment_bytes is above max_bytes"
        } else if self.reserve_bytes >= self.max_bytes {
            "reserve_bytes leaves nothing of max_bytes"
        } else if matches!(self.fsync, FsyncPolicy::Group { interval_us } if interval_us < 0) {
            "the group interval is negative"
        } else {
            return Ok(());
        };
        Err(JournalError::Config { reason })
    }
}

pub(crate) fn is_full<T>(result: &std::io::Result<T>) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    result.as_ref().is_err_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
}

/// Entries gather up to this size at most.
const BATCH_BYTES: u64 = 256 * 1024;
const MIN_SEGMENT_BYTES: u64 = 128;
