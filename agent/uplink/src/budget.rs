//! What a day may cost in bytes: how much is left decides whether more than alarms may go.
//!
//! Days are those of UTC. What was spent is to be kept on disk by whoever owns the session, so that a restart does not refill it; the
//! figure to keep runs a little ahead of the bytes, so that it needs no write for each message and a kill in between gives nothing away.

/// What a day has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Days since 1970 (UTC).
    pub day: i64,
    /// Bytes.
    pub bytes: u64,
}

/// The bytes of one day after the other.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// 0: no bound.
    daily_bytes: u64,
    spent: Spent,
    kept_bytes: u64,
    over_bytes: u64,
}

impl Budget {
    pub(crate) fn new(daily_bytes: u64, spent: Spent) -> Self {
        Self { daily_bytes, spent, kept_bytes: spent.bytes, over_bytes: 0 }
    }

    /// It is this day. A clock that goes back by a day or so opens no second budget; one that comes back from far ahead is believed, or
    /// what is left would have to last until then.
    pub(crate) fn day(&mut self, day: i64) {
        if day > self.spent.day {
            self.spent = Spent { day, bytes: 0 };
            self.kept_bytes = 0;
        } else if day < self.spent.day - 1 {
            self.spent.day = day;
        }
    }

    pub(crate) fn spend(&mut self, bytes: u64) {
        self.over_bytes += bytes.saturating_sub(self.left_bytes());
        self.spent.bytes += bytes;
        let step = (self.daily_bytes / STEPS).max(1);
        if self.daily_bytes > 0 && self.spent.bytes > self.kept_bytes {
            self.kept_bytes = self.spent.bytes + step;
        }
    }

    pub(crate) fn left_bytes(&self) -> u64 {
        if self.daily_bytes == 0 { u64::MAX } else { self.daily_bytes.saturating_sub(self.spent.bytes) }
    }

    pub(crate) fn spent_bytes(&self) -> u64 {
        self.spent.bytes
    }

    /// Bytes of alarms and the like that went beyond the budget since the start.
    pub(crate) fn over_bytes(&self) -> u64 {
        self.over_bytes
    }

    /// What is to be on disk before more goes.
    pub(crate) fn kept(&self) -> Spent {
        Spent { day: self.spent.day, bytes: self.kept_bytes }
    }
}

/// A restart costs at most this part of a day.
const STEPS: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_budget_once_whatever_clock_and_restarts_do() {
        let mut budget = Budget::new(1_000, Spent::default());
        budget.day(20_000);
        budget.spend(990);
        budget.day(19_999);
        assert_eq!(budget.left_bytes(), 10, "yesterday opens no second budget");
        let again = Budget::new(1_000, budget.kept());
        assert!(again.left_bytes() <= 10, "nor does a restart: {}", again.left_bytes());
        budget.day(20_000);
        assert_eq!(budget.left_bytes(), 10, "nor a clock that comes back");
        budget.day(20_001);
        assert_eq!(budget.left_bytes(), 1_000);
        budget.spend(300);
        // Away to 2036 and back: one budget more, and then days go on.
        budget.day(24_300);
        budget.spend(200);
        budget.day(20_001);
        assert_eq!(budget.left_bytes(), 800);
        budget.day(20_002);
        assert_eq!(budget.left_bytes(), 1_000);
    }

    #[test]
    fn what_is_kept_is_never_less_than_what_was_spent_and_little_more() {
        let mut budget = Budget::new(100_000, Spent { day: 3, bytes: 5 });
        let (mut writes, mut kept) = (0, budget.kept());
        for i in 0..1_000 {
            budget.spend(i % 90);
            let now = budget.kept();
            assert!(now.bytes >= budget.spent_bytes() && now.bytes <= budget.spent_bytes() + 100_000 / STEPS);
            writes += u32::from(now != kept);
            kept = now;
        }
        assert!(writes < 100, "{writes} writes for a thousand messages");
        let mut unbounded = Budget::new(0, Spent::default());
        unbounded.spend(1 << 40);
        assert_eq!((unbounded.left_bytes(), unbounded.kept().bytes, unbounded.over_bytes()), (u64::MAX, 0, 0));
    }
}
