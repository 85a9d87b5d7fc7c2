//! Series in bounded memory: the last rows whole, a week of the leading features rolled up.

use std::collections::{BTreeMap, VecDeque};

use kilter_types::Micros;
use serde::{Deserialize, Serialize};

/// The most roll-up buckets of one series: a week of ten minutes each.
const MAX_BUCKETS: usize = 1008;

/// Width of a roll-up bucket.
const BUCKET: i64 = 600_000_000;

/// One value at one time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Event time.
    pub t: Micros,
    /// The value.
    pub value: f32,
}

/// A bucket of a roll-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
    /// Sum of the values.
    pub sum: f64,
    /// How many values.
    pub count: u32,
}

impl Bucket {
    /// The mean of the bucket's values.
    pub fn mean(&self) -> f32 {
        (self.sum / f64::from(self.count.max(1))) as f32
    }
}

/// Ten-minute minimum, maximum and mean over the last week of event time; late values go where they belong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RollUp {
    buckets: BTreeMap<i64, Bucket>,
}

impl RollUp {
    /// Adds a value at its event time.
    pub fn add(&mut self, t: Micros, value: f32) {
        let start = t.0.div_euclid(BUCKET) * BUCKET;
        self.buckets
            .entry(start)
            .and_modify(|bucket| {
                bucket.min = bucket.min.min(value);
                bucket.max = bucket.max.max(value);
                bucket.sum += f64::from(value);
                bucket.count += 1;
            })
            .or_insert(Bucket { min: value, max: value, sum: f64::from(value), count: 1 });
        while self.buckets.len() > MAX_BUCKETS {
            self.buckets.pop_first();
        }
    }

    /// The buckets by their start, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Micros, &Bucket)> {
        self.buckets.iter().map(|(start, bucket)| (Micros(*start), bucket))
    }
}

/// Keeps `ring` sorted by event time and no longer than `most`: a late value goes where it belongs.
pub(crate) fn insert<T>(ring: &mut VecDeque<T>, item: T, most: usize, time: impl Fn(&T) -> Micros) {
    let t = time(&item);
    let at = ring.iter().rposition(|other| time(other) <= t).map_or(0, |before| before + 1);
    if at == 0 && ring.len() >= most {
        return;
    }
    ring.insert(at, item);
    if ring.len() > most {
        ring.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_value_goes_where_it_belongs_and_the_oldest_leave() {
        let mut ring = VecDeque::new();
        for t in [5, 1, 3, 9, 2] {
            insert(&mut ring, t, 3, |t| Micros(*t));
        }
        assert_eq!(ring, [3, 5, 9], "1 and 2 are older than what fits");
    }

    #[test]
    fn a_roll_up_is_the_same_in_any_order() {
        let values = [(0, 1.0), (700_000_000, 4.0), (1, 3.0), (599_999_999, 2.0)];
        let mut forward = RollUp::default();
        let mut backward = RollUp::default();
        values.iter().for_each(|(t, v)| forward.add(Micros(*t), *v));
        values.iter().rev().for_each(|(t, v)| backward.add(Micros(*t), *v));
        assert_eq!(forward, backward);
        let (_, first) = forward.iter().next().expect("two buckets");
        assert_eq!((first.min, first.max, first.mean(), first.count), (1.0, 3.0, 2.0, 3));
    }
}
