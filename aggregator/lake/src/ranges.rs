//! Sets of record numbers, kept as ranges: a node numbers its records without holes, so that a month of them is one range.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Rows;

/// Which numbers: a device's of one epoch and one class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stream {
    /// The device.
    pub device: String,
    /// Its epoch.
    pub epoch: u64,
    /// The class of the records.
    pub class: String,
}

/// A set of numbers; ranges neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(BTreeMap<u64, u64>);

/// Sets of numbers by stream.
pub type Streams = BTreeMap<Stream, Ranges>;

impl Ranges {
    /// Adds a number; `false` when it was there.
    pub fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        self.cover(number, number);
        true
    }

    /// Adds every number from `first` to `last`.
    pub fn cover(&mut self, mut first: u64, mut last: u64) {
        if first > last {
            return;
        }
        let near: Vec<(u64, u64)> = self
            .0
            .range(..=last.saturating_add(1))
            .rev()
            .map(|(from, to)| (*from, *to))
            .take_while(|(_, to)| to.saturating_add(1) >= first)
            .collect();
        for (from, to) in near {
            self.0.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        self.0.insert(first, last);
    }

    /// Adds another's numbers.
    pub fn join(&mut self, other: &Self) {
        other.iter().for_each(|(first, last)| self.cover(first, last));
    }

    /// Is this number in it?
    pub fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, last)| number <= *last)
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.iter().map(|(first, last)| (last - first).saturating_add(1)).sum()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// First and last of each range, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(first, last)| (*first, *last))
    }

    /// Least and greatest number.
    pub fn span(&self) -> Option<(u64, u64)> {
        Some((*self.0.first_key_value()?.0, *self.0.last_key_value()?.1))
    }

    /// The numbers that are in both.
    pub fn both(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    /// The numbers here that are not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Self::default();
        for (first, last) in self.iter() {
            let mut from = Some(first);
            let begin = other.0.range(..=first).next_back().map_or(first, |(start, _)| *start);
            for (cut, to) in other.0.range(begin..=last) {
                let Some(start) = from.filter(|_| *to >= first) else { continue };
                if start < *cut {
                    left.cover(start, cut - 1);
                }
                from = to.checked_add(1).map(|next| next.max(start));
            }
            if let Some(start) = from {
                left.cover(start, last);
            }
        }
        left
    }
}

/// Adds the records of these rows; those that were there already are returned.
pub fn collect(rows: &Rows, into: &mut Streams) -> Streams {
    let mut again = Streams::new();
    for row in 0..rows.len() {
        let (Some(device), Some(class)) = (rows.text("device", row), rows.text("class", row)) else { continue };
        let (Some(epoch), Some(seq)) = (rows.int64("epoch", row), rows.int64("seq", row)) else { continue };
        let stream = Stream { device: device.into(), epoch: epoch as u64, class: class.into() };
        if !into.entry(stream.clone()).or_default().insert(seq as u64) {
            again.entry(stream).or_default().insert(seq as u64);
        }
    }
    again
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranges_hold_what_a_set_would_whatever_comes_in_whatever_order() {
        // A fixed walk over small numbers reaches every way in which ranges touch, overlap and cover each other.
        let mut state = 1_u64;
        let mut next = |most: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % most
        };
        for _ in 0..500 {
            let (mut a, mut b) = (Ranges::default(), Ranges::default());
            let (mut in_a, mut in_b) = (BTreeSet::new(), BTreeSet::new());
            for _ in 0..next(30) {
                let (first, more) = (next(60), next(6));
                if next(2) == 0 {
                    assert_eq!(a.insert(first), in_a.insert(first));
                    b.cover(first, first + more);
                    in_b.extend(first..=first + more);
                } else {
                    a.cover(first, first + more);
                    in_a.extend(first..=first + more);
                    assert_eq!(b.insert(first), in_b.insert(first));
                }
            }
            let all = |ranges: &Ranges| ranges.iter().flat_map(|(first, last)| first..=last).collect::<BTreeSet<_>>();
            assert_eq!((all(&a), all(&b), a.count()), (in_a.clone(), in_b.clone(), in_a.len() as u64));
            assert_eq!(all(&a.without(&b)), in_a.difference(&in_b).copied().collect());
            assert_eq!(all(&a.both(&b)), in_a.intersection(&in_b).copied().collect());
            assert!((0..70).all(|number| a.contains(number) == in_a.contains(&number)));
            let ends: Vec<_> = a.iter().collect();
            assert!(ends.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "ranges touch: {ends:?}");
        }
    }

    #[test]
    fn the_last_number_there_is_has_its_place() {
        let mut all = Ranges::default();
        all.cover(5, u64::MAX);
        assert!(all.contains(u64::MAX) && !all.insert(u64::MAX));
        let mut cut = Ranges::default();
        cut.cover(7, u64::MAX);
        assert_eq!(all.without(&cut).iter().collect::<Vec<_>>(), [(5, 6)]);
    }
}
