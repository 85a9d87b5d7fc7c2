//! The way to the disk: the buffer into the last segment, a sync, the next segment. After a failed sync the journal is dead.

use std::path::Path;

use super::{Journal, Segment};
use crate::format::{SEGMENT_HEADER_BYTES, WATERMARK_FILE, encode_segment_header, encode_watermark, segment_path};
use crate::{Filesystem, FsyncPolicy, JournalError, Key};

impl<F: Filesystem> Journal<F> {
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
        let (base, path) = (self.next, segment_path(&self.dir, self.next));
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
            self.sync_or_die(synced, Some(&path))?;
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
            self.sync_or_die(synced, Some(&self.dir.join(WATERMARK_FILE)))?;
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
            self.sync_or_die(synced, None)?;
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
    /// Writes the buffer. On a full disk it stays, and the same bytes go to the same place next time.
    pub(super) fn flush(&mut self, urgent: bool) -> Result<(), JournalError> {
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
        let written = written.map_err(|error| {
            let place = self.segments.back().map(|segment| segment_path(&self.dir, segment.base));
            JournalError::io("write", place.as_ref().unwrap_or(&self.dir))(error)
        });
        self.mortal(written)?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// How much gathers before it is written unasked. What waits on a full disk is written before an alarm, so it must leave room in
    /// the reserve.
    pub(super) fn batch_bytes(&self) -> u64 {
        match self.config.reserve_bytes {
            0 => BATCH_BYTES,
            reserve_bytes => BATCH_BYTES.min(reserve_bytes / 2),
        }
    }

    fn sync_or_die(&mut self, synced: std::io::Result<()>, file: Option<&Path>) -> Result<(), JournalError> {
        synced.map_err(|source| {
            self.dead = true;
            JournalError::Io { action: "sync", path: file.unwrap_or(&self.dir).to_owned(), source }
        })
    }

    pub(super) fn account(&mut self, key: Key, size: i64) {
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
    pub(super) fn take_back(&mut self, key: Key, size: u64) {
        let kept = self.buffer.len().saturating_sub(size as usize);
        if !self.dead {
            self.buffer.truncate(kept);
            self.account(key, -(size as i64));
        }
    }
}

fn is_full<T>(result: &std::io::Result<T>) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    result.as_ref().is_err_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
}

/// Entries gather up to this size at most.
const BATCH_BYTES: u64 = 256 * 1024;
