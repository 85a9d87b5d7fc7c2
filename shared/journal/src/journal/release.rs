//! What is released goes: whole segments from the front, the ledger first, and the newest of them may stay for who asks again.

use super::{Journal, Segment};
use crate::format::segment_path;
use crate::{Filesystem, JournalError, Offset};

impl<F: Filesystem> Journal<F> {
    /// Allows everything below `upto` to go and unlinks segments that lie wholly below it, but for the newest
    /// [`keep_bytes`](crate::Config::keep_bytes) of them; returns the bytes freed. The ledger is durable before the first unlink. The mark
    /// holds when the unlinking fails, and the next call tries again; it is not durable by itself: what counts is kept by whoever releases.
    pub fn release(&mut self, upto: Offset) -> Result<u64, JournalError> {
        self.check_alive()?;
        self.ledger.released = self.ledger.released.max(upto.0.min(self.durable));
        self.unlink_released()
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
            let path = segment_path(&self.dir, base);
            let removed = self.fs.remove(&path).map_err(JournalError::io("remove", &path));
            self.mortal(removed)?;
            freed_bytes += bytes;
            self.segments.pop_front();
        }
        self.hold_reserve();
        Ok(freed_bytes)
    }
}
