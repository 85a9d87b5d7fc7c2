//! The epochs of which the spool holds records: the device's own, and those of nodes whose records it carries between its own.
//!
//! The aggregator is told of them at each introduction, and its acks name each of them: an epoch that is missing there would never hear
//! that its records are committed, and nothing behind them could be released. Records of several epochs lie in the spool in any order,
//! so an epoch is let go only when the release has passed the last record of it that was ever seen here; one that comes again is
//! noted again.

use kilter_types::Epoch;

/// The epochs held.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    own: Epoch,
    /// Each with the offset of its last record seen, in the order in which they were first seen.
    others: Vec<(Epoch, u64)>,
}

impl Held {
    /// `held` were found in the spool below `end`.
    pub(crate) fn new(own: Epoch, held: Vec<Epoch>, end: u64) -> Self {
        let mut others: Vec<(Epoch, u64)> = Vec::new();
        for epoch in held {
            if epoch != own && !others.iter().any(|(known, _)| *known == epoch) {
                others.push((epoch, end));
            }
        }
        Self { own, others }
    }

    /// The device goes on under another epoch; what it has of the one before lies below `end`.
    pub(crate) fn begin(&mut self, own: Epoch, end: u64) {
        let before = std::mem::replace(&mut self.own, own);
        self.others.retain(|(known, _)| *known != own);
        self.note(before, end);
    }

    /// A record of this epoch lies at `offset`.
    pub(crate) fn note(&mut self, epoch: Epoch, offset: u64) {
        if epoch == self.own {
            return;
        }
        match self.others.iter_mut().find(|(known, _)| *known == epoch) {
            Some((_, last)) => *last = (*last).max(offset),
            None => self.others.push((epoch, offset)),
        }
    }

    /// This one is to be named first: an introduction has room for few, and the release waits for its marks.
    pub(crate) fn put_first(&mut self, epoch: Epoch) {
        if let Some(at) = self.others.iter().position(|(known, _)| *known == epoch) {
            self.others[..=at].rotate_right(1);
        }
    }

    /// Everything below `release` is gone; says whether an epoch went with it.
    pub(crate) fn release(&mut self, release: u64) -> bool {
        let before = self.others.len();
        self.others.retain(|(_, last)| *last >= release);
        self.others.len() < before
    }

    /// The device's own comes last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Epoch> + '_ {
        self.others.iter().map(|(epoch, _)| *epoch).chain([self.own])
    }

    pub(crate) fn len(&self) -> usize {
        self.others.len() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(held: &Held) -> Vec<u64> {
        held.iter().map(|epoch| epoch.0).collect()
    }

    #[test]
    fn an_epoch_between_others_stays_until_its_last_record_is_released_and_may_come_again() {
        let mut held = Held::new(Epoch(3), vec![Epoch(1), Epoch(2), Epoch(1), Epoch(3)], 100);
        assert_eq!(epochs(&held), [1, 2, 3]);
        held.note(Epoch(2), 140);
        assert!(!held.release(100), "what lies at the end may be there yet");
        assert!(held.release(101));
        assert_eq!(epochs(&held), [2, 3]);
        assert!(held.release(141) && held.len() == 1);
        held.note(Epoch(2), 200);
        held.note(Epoch(3), 300);
        assert_eq!(epochs(&held), [2, 3]);
        held.begin(Epoch(4), 350);
        held.put_first(Epoch(3));
        assert_eq!(epochs(&held), [3, 2, 4]);
        held.put_first(Epoch(2));
        assert_eq!(epochs(&held), [2, 3, 4]);
        assert!(held.release(351) && epochs(&held) == [4]);
    }
}
