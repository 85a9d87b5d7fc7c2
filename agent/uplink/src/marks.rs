//! What the aggregator is known to hold, per epoch and class: a mark plus ranges, and a second mark for what is committed.

use kilter_types::{Class, Epoch};
use kilter_wire::{ClassAck, SeqRange};

use crate::Key;

/// The marks of one device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    epochs: Vec<(Epoch, [ClassMarks; Class::ALL.len()])>,
}

impl Marks {
    /// Applies one class of an ack; applying it twice, or an older one later, changes nothing (D1).
    pub(crate) fn apply(&mut self, epoch: Epoch, ack: &ClassAck) {
        let marks = self.class(epoch, ack.class);
        marks.committed_to = marks.committed_to.max(ack.committed_to);
        marks.accepted_to = marks.accepted_to.max(ack.accepted_to);
        for range in &ack.beyond {
            marks.add(*range);
        }
        marks.tidy();
    }

    /// Takes only the committed mark: the lake outlives the journal that the ack spoke of.
    pub(crate) fn apply_committed(&mut self, epoch: Epoch, ack: &ClassAck) {
        let marks = self.class(epoch, ack.class);
        marks.committed_to = marks.committed_to.max(ack.committed_to);
    }

    /// Forgets what was accepted: another journal accepts from here on.
    pub(crate) fn forget_accepted(&mut self) {
        for (_, classes) in &mut self.epochs {
            for marks in classes {
                marks.accepted_to = 0;
                marks.beyond.clear();
            }
        }
    }

    /// Forgets the epochs of which nothing is held any more.
    pub(crate) fn retain(&mut self, held: &[Epoch]) {
        self.epochs.retain(|(epoch, _)| held.contains(epoch));
    }

    /// Need it not be sent again?
    pub(crate) fn is_accepted(&self, key: Key) -> bool {
        self.find(key).is_some_and(|marks| {
            let within = |range: &SeqRange| range.first <= key.seq && key.seq <= range.last;
            key.seq < marks.accepted_to.max(marks.committed_to) || marks.beyond.iter().any(within)
        })
    }

    /// May it be deleted here (D4)?
    pub(crate) fn is_committed(&self, key: Key) -> bool {
        self.find(key).is_some_and(|marks| key.seq < marks.committed_to)
    }

    fn find(&self, key: Key) -> Option<&ClassMarks> {
        let (_, classes) = self.epochs.iter().find(|(epoch, _)| *epoch == key.epoch)?;
        classes.get(key.class as usize)
    }

    fn class(&mut self, epoch: Epoch, class: Class) -> &mut ClassMarks {
        let at = self.epochs.iter().position(|(known, _)| *known == epoch).unwrap_or_else(|| {
            self.epochs.push((epoch, Default::default()));
            self.epochs.len() - 1
        });
        &mut self.epochs[at].1[class as usize]
    }
}

#[derive(Clone, Debug, Default)]
struct ClassMarks {
    accepted_to: u64,
    beyond: Vec<SeqRange>,
    committed_to: u64,
}

impl ClassMarks {
    fn add(&mut self, range: SeqRange) {
        if range.first <= range.last {
            self.beyond.push(range);
        }
    }

    /// Sorts, joins and bounds the ranges. Forgetting the highest ones costs a second sending and nothing else.
    fn tidy(&mut self) {
        self.beyond.sort_unstable();
        let mut joined: Vec<SeqRange> = Vec::with_capacity(self.beyond.len());
        for range in self.beyond.drain(..) {
            if range.first <= self.accepted_to {
                self.accepted_to = self.accepted_to.max(range.last.saturating_add(1));
            } else if let Some(last) = joined.last_mut().filter(|last| range.first <= last.last.saturating_add(1)) {
                last.last = last.last.max(range.last);
            } else {
                joined.push(range);
            }
        }
        joined.truncate(MAX_RANGES);
        self.beyond = joined;
    }
}

const MAX_RANGES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(accepted_to: u64, ranges: &[(u64, u64)], committed_to: u64) -> ClassAck {
        let beyond = ranges.iter().map(|(first, last)| SeqRange { first: *first, last: *last }).collect();
        ClassAck { class: Class::Feature, accepted_to, beyond, committed_to }
    }

    fn held(marks: &Marks) -> Vec<u64> {
        (0..20).filter(|seq| marks.is_accepted(Key { epoch: Epoch(1), class: Class::Feature, seq: *seq })).collect()
    }

    #[test]
    fn acks_in_any_order_and_number_leave_the_same_marks() {
        let acks = [ack(3, &[(5, 6)], 1), ack(4, &[(5, 6), (9, 9)], 2), ack(7, &[(9, 9)], 2)];
        let mut expected = None;
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 2, 0]] {
            let mut marks = Marks::default();
            for i in order.into_iter().chain([1]) {
                marks.apply(Epoch(1), &acks[i]);
            }
            let found = held(&marks);
            assert_eq!(found, *expected.get_or_insert(found.clone()), "order {order:?}");
        }
        assert_eq!(expected, Some(vec![0, 1, 2, 3, 4, 5, 6, 9]));
    }

    #[test]
    fn a_lost_journal_leaves_only_what_is_committed() {
        let mut marks = Marks::default();
        marks.apply(Epoch(1), &ack(8, &[(10, 12)], 3));
        marks.forget_accepted();
        assert_eq!(held(&marks), [0, 1, 2]);
    }
}
