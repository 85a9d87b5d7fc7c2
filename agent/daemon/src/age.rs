//! How old what lies in the journal is, to a thirty-second of the shortest limit: offsets noted as time passes.
//!
//! The journal knows no time. What was found when it was opened counts as written then, so a restart lets it live longer.

use std::collections::VecDeque;

/// Limits of age and the offsets reached meanwhile.
#[derive(Debug)]
pub(crate) struct Ages {
    /// By class, in microseconds.
    limits: Vec<(u8, u64)>,
    /// When, and everything below which offset was written by then.
    reached: VecDeque<(u64, u64)>,
}

impl Ages {
    pub(crate) fn new(limits: Vec<(u8, u64)>) -> Self {
        Self { limits, reached: VecDeque::new() }
    }

    /// Offsets below which each limited class is too old now; nothing until the next note is due.
    pub(crate) fn due(&mut self, now_us: u64, next_offset: u64) -> Vec<(u8, u64)> {
        let Some(shortest_us) = self.limits.iter().map(|(_, age_us)| *age_us).min() else { return Vec::new() };
        let step_us = shortest_us / NOTES + 1;
        if self.reached.back().is_some_and(|(at_us, _)| now_us < at_us.saturating_add(step_us)) {
            return Vec::new();
        }
        self.reached.push_back((now_us, next_offset));
        let longest_us = self.limits.iter().map(|(_, age_us)| *age_us).max().unwrap_or(shortest_us);
        // One older than every limit stays: it is what the next call goes by.
        while self.reached.get(1).is_some_and(|(at_us, _)| at_us.saturating_add(longest_us) <= now_us) {
            self.reached.pop_front();
        }
        let below = |age_us: u64| {
            let old = self.reached.iter().take_while(|(at_us, _)| at_us.saturating_add(age_us) <= now_us);
            old.last().map(|(_, offset)| *offset)
        };
        self.limits.iter().filter_map(|(class, age_us)| Some((*class, below(*age_us)?))).collect()
    }

    /// The journal was opened again: what was noted may mean nothing.
    pub(crate) fn forget(&mut self) {
        self.reached.clear();
    }
}

const NOTES: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_too_old_below_what_was_written_that_long_ago() {
        let mut ages = Ages::new(vec![(6, 3_200), (2, 32_000)]);
        let mut due = Vec::new();
        for at in 0..1_000 {
            due.push(ages.due(at * 100, at * 10));
        }
        assert_eq!(due[0], []);
        let (class, below) = due.iter().rev().find(|due| !due.is_empty()).expect("some are due")[0];
        assert_eq!(class, 6);
        assert!((9_600..=9_690).contains(&below), "{below}: written 3200 to 3400 before the end");
        let last = due.iter().flatten().rfind(|(class, _)| *class == 2).expect("some are due");
        assert!((6_700..=6_810).contains(&last.1), "{last:?}");
        assert!(ages.reached.len() < 340, "notes are bounded");
        assert_eq!(Ages::new(Vec::new()).due(1, 1), []);
    }
}
