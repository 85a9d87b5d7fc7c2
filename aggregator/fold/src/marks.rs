//! Dedup by marks: per device, epoch and class one mark and a few ranges beyond it.
//!
//! A set of all seqs ever seen would grow for ever; a mark alone can't take records out of order. Ranges close the gap and are
//! bounded: a seq that would open one range too many is not taken, and the device sends it again once the hole is filled.

use std::collections::BTreeMap;

use kilter_types::{Class, DeviceId, Epoch, Gap, GapReason};
use kilter_wire::{ClassAck, SeqRange};
use serde::{Deserialize, Serialize};

use crate::MarkState;

/// The most epochs of one device that are remembered; the one that was silent longest goes. A node behind a gateway that starts again
/// and again pushes out its own past epochs, never the gateway's, which goes on speaking. So many that a node may start every two minutes
/// for a day and a half before anything that waits on the edge for its committed mark could be forgotten.
pub const MAX_EPOCHS: usize = 1_024;

/// The most ranges beyond a mark.
pub const MAX_RANGES: usize = 256;

/// What became of a seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is new.
    New,
    /// It was there already.
    Duplicate,
    /// It would open one range too many: not taken.
    TooFar,
}

/// The marks of every device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    devices: BTreeMap<DeviceId, Device>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Device {
    /// In the order of last sight.
    epochs: Vec<(Epoch, BTreeMap<Class, Mark>)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Every seq below is held.
    to: u64,
    /// First to last, beyond the mark, neither touching nor overlapping.
    beyond: BTreeMap<u64, u64>,
}

impl Marks {
    /// Takes a seq, once.
    pub fn take(&mut self, device: &DeviceId, epoch: Epoch, class: Class, seq: u64) -> Taken {
        self.mark(device, epoch, class).take(seq)
    }

    /// Can a gap be counted without one range too many? If not, its record is not taken, and the device sends it again.
    pub fn has_room(&mut self, device: &DeviceId, gap: &Gap) -> bool {
        let mark = self.mark(device, gap.epoch, gap.class);
        let joins = gap.first_seq <= mark.to || mark.touching(gap.first_seq, gap.last_seq).next().is_some();
        joins || mark.beyond.len() < MAX_RANGES
    }

    /// Counts what will never come as held: a hole that nothing fills would keep the device from ever releasing what follows.
    pub fn cover(&mut self, device: &DeviceId, gap: &Gap) {
        match gap.reason {
            // No seq was given to what a source did not say.
            GapReason::SourceSilent => {}
            GapReason::Evicted
            | GapReason::DiskFailed
            | GapReason::TornTail
            | GapReason::Quarantined
            | GapReason::Overrun => self.mark(device, gap.epoch, gap.class).cover(gap.first_seq, gap.last_seq),
        }
    }

    /// Sets a mark as an earlier journal left it.
    pub fn set(&mut self, state: &MarkState) {
        let mark = self.mark(&state.device, state.epoch, state.class);
        mark.to = state.to;
        mark.beyond = state.beyond.iter().copied().collect();
    }

    /// Every mark, in a fixed order.
    pub fn all(&self) -> Vec<MarkState> {
        self.devices.iter().flat_map(|(device, marks)| marks.states(device)).collect()
    }

    /// The marks of one device, in the order in which its epochs were last seen.
    pub fn of(&self, device: &DeviceId) -> Vec<MarkState> {
        self.devices.get(device).into_iter().flat_map(|marks| marks.states(device)).collect()
    }

    /// The marks of one device epoch by epoch, the one that was seen last first.
    pub fn latest(&self, device: &DeviceId) -> impl Iterator<Item = (Epoch, Vec<MarkState>)> {
        let found = self.devices.get_key_value(device);
        let latest =
            found.into_iter().flat_map(|(device, marks)| marks.epochs.iter().rev().map(move |of| (device, of)));
        latest.map(|(device, (epoch, classes))| (*epoch, states(device, *epoch, classes).collect()))
    }

    /// The accepted marks of one epoch, as an ack carries them; committed marks are left at 0.
    pub fn acks(&self, device: &DeviceId, epoch: Epoch) -> Vec<ClassAck> {
        let Some(marks) = self.devices.get(device) else {
            return Vec::new();
        };
        let Some((_, classes)) = marks.epochs.iter().rfind(|(known, _)| *known == epoch) else {
            return Vec::new();
        };
        classes
            .iter()
            .map(|(class, mark)| ClassAck {
                class: *class,
                accepted_to: mark.to,
                beyond: mark
                    .beyond
                    .iter()
                    .take(8)
                    .map(|(first, last)| SeqRange { first: *first, last: *last })
                    .collect(),
                committed_to: 0,
            })
            .collect()
    }

    fn mark(&mut self, device: &DeviceId, epoch: Epoch, class: Class) -> &mut Mark {
        let marks = self.devices.entry(device.clone()).or_default();
        match marks.epochs.iter().rposition(|(known, _)| *known == epoch) {
            // Mostly it stands there already.
            Some(at) => marks.epochs[at..].rotate_left(1),
            None => {
                if marks.epochs.len() >= MAX_EPOCHS {
                    marks.epochs.remove(0);
                }
                marks.epochs.push((epoch, BTreeMap::new()));
            }
        }
        let (_, classes) = marks.epochs.last_mut().expect("it was put there");
        classes.entry(class).or_default()
    }
}

impl Device {
    fn states(&self, device: &DeviceId) -> impl Iterator<Item = MarkState> {
        self.epochs.iter().flat_map(move |(epoch, classes)| states(device, *epoch, classes))
    }
}

fn states(device: &DeviceId, epoch: Epoch, classes: &BTreeMap<Class, Mark>) -> impl Iterator<Item = MarkState> {
    classes.iter().map(move |(class, mark)| MarkState {
        device: device.clone(),
        epoch,
        class: *class,
        to: mark.to,
        beyond: mark.beyond.iter().map(|(first, last)| (*first, *last)).collect(),
    })
}

impl Mark {
    fn take(&mut self, seq: u64) -> Taken {
        if seq < self.to {
            return Taken::Duplicate;
        }
        if seq == u64::MAX {
            // No mark could stand behind it.
            return Taken::TooFar;
        }
        if seq == self.to {
            self.to += 1;
            while let Some(last) = self.beyond.remove(&self.to) {
                self.to = last + 1;
            }
            return Taken::New;
        }
        let before = self.beyond.range(..=seq).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| seq <= last) {
            return Taken::Duplicate;
        }
        let after = self.beyond.get(&(seq + 1)).copied();
        let grown = before.filter(|(_, last)| *last + 1 == seq).map(|(first, _)| first);
        match (grown, after) {
            (Some(first), Some(last)) => {
                self.beyond.remove(&(seq + 1));
                self.beyond.insert(first, last);
            }
            (Some(first), None) => {
                self.beyond.insert(first, seq);
            }
            (None, Some(last)) => {
                self.beyond.remove(&(seq + 1));
                self.beyond.insert(seq, last);
            }
            (None, None) if self.beyond.len() >= MAX_RANGES => return Taken::TooFar,
            (None, None) => {
                self.beyond.insert(seq, seq);
            }
        }
        Taken::New
    }

    /// Ranges that overlap these seqs or border on them.
    fn touching(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        let within = self.beyond.range(..=last.saturating_add(1));
        within.filter(move |(_, held)| **held + 1 >= first).map(|(from, held)| (*from, *held))
    }

    fn cover(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first.max(self.to), last.min(u64::MAX - 1));
        if first > last {
            return;
        }
        let touching: Vec<(u64, u64)> = self.touching(first, last).collect();
        for (from, held) in touching {
            self.beyond.remove(&from);
            (first, last) = (first.min(from), last.max(held));
        }
        if first == self.to {
            self.to = last + 1;
        } else {
            self.beyond.insert(first, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_a_gap_covers_counts_as_held_and_nothing_else_does(
            steps in proptest::collection::vec((0u64..60, 0u64..12, any::<bool>()), 0..60),
        ) {
            let device = DeviceId::new("a").expect("a good name");
            let (mut marks, mut model) = (Marks::default(), BTreeSet::new());
            for (first_seq, more, is_gap) in steps {
                let (epoch, class, last_seq) = (Epoch(1), Class::Feature, first_seq + more);
                if is_gap {
                    marks.cover(&device, &Gap { class, epoch, first_seq, last_seq, reason: GapReason::Evicted });
                    model.extend(first_seq..=last_seq);
                } else {
                    let expected = if model.insert(first_seq) { Taken::New } else { Taken::Duplicate };
                    prop_assert_eq!(marks.take(&device, epoch, class, first_seq), expected);
                }
                let mark = &marks.mark(&device, epoch, class).clone();
                let held = (0..mark.to).chain(mark.beyond.iter().flat_map(|(first, last)| *first..=*last));
                prop_assert_eq!(held.collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                prop_assert!(mark.beyond.keys().all(|first| *first > mark.to));
            }
        }

        #[test]
        fn d2_marks_take_each_seq_once_in_any_order(seqs in proptest::collection::vec(0u64..200, 0..400)) {
            let device = DeviceId::new("a").expect("a good name");
            let mut marks = Marks::default();
            let mut model = BTreeSet::new();
            for seq in seqs {
                let taken = marks.take(&device, Epoch(1), Class::Feature, seq);
                let expected = if model.insert(seq) { Taken::New } else { Taken::Duplicate };
                prop_assert_eq!(taken, expected);
            }
            let mut copy = Marks::default();
            marks.all().iter().for_each(|state| copy.set(state));
            prop_assert_eq!(copy, marks);
        }
    }

    #[test]
    fn the_last_number_there_is_and_a_gap_up_to_it_are_survived() {
        let device = DeviceId::new("a").expect("a good name");
        let (epoch, class) = (Epoch(1), Class::Feature);
        let mut marks = Marks::default();
        assert_eq!(marks.take(&device, epoch, class, u64::MAX), Taken::TooFar);
        let gap = Gap { class, epoch, first_seq: 0, last_seq: u64::MAX, reason: GapReason::Evicted };
        marks.cover(&device, &gap);
        assert_eq!(marks.take(&device, epoch, class, u64::MAX - 1), Taken::Duplicate);
        assert_eq!(marks.take(&device, epoch, class, u64::MAX), Taken::TooFar);
        let silent = Gap { first_seq: 0, last_seq: 9, class: Class::Score, reason: GapReason::SourceSilent, ..gap };
        marks.cover(&device, &silent);
        assert_eq!(marks.take(&device, epoch, Class::Score, 0), Taken::New);
    }

    #[test]
    fn d2_a_node_that_starts_again_and_again_does_not_push_out_the_epoch_of_its_gateway() {
        let device = DeviceId::new("gateway").expect("a good name");
        let (own, class) = (Epoch(u64::MAX), Class::Feature);
        let mut marks = Marks::default();
        for start in 0..3 * MAX_EPOCHS as u64 {
            assert_eq!(marks.take(&device, own, class, start), Taken::New);
            assert_eq!(marks.take(&device, Epoch(start), class, 0), Taken::New);
            // What comes again of either is known, also after the marks went through the lake into a new journal.
            if start % 500 == 499 {
                let mut copy = Marks::default();
                marks.all().iter().for_each(|state| copy.set(state));
                marks = copy;
            }
            assert_eq!(marks.take(&device, own, class, 0), Taken::Duplicate, "after {start} starts of the node");
        }
        assert_eq!(marks.devices[&device].epochs.len(), MAX_EPOCHS, "and memory stays bounded");
    }

    #[test]
    fn a_range_too_many_is_not_taken_and_is_new_when_sent_again() {
        let device = DeviceId::new("a").expect("a good name");
        let mut marks = Marks::default();
        for i in 0..MAX_RANGES as u64 {
            assert_eq!(marks.take(&device, Epoch(1), Class::Feature, 1 + 2 * i), Taken::New);
        }
        let far = 2 * MAX_RANGES as u64 + 1;
        assert_eq!(marks.take(&device, Epoch(1), Class::Feature, far), Taken::TooFar);
        assert_eq!(marks.take(&device, Epoch(1), Class::Feature, 0), Taken::New);
        assert_eq!(marks.take(&device, Epoch(1), Class::Feature, far), Taken::New);
    }
}
