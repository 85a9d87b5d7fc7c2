//! A series in bins of event time that double in width as its history grows, so that the same memory holds half an hour or ten days.
//!
//! A value counts in the bin of its own time whenever it comes. Bins are as wide as values are usually apart, and wider once the history needs
//! it. Means are kept as whole numbers, so that the order of their values makes no difference to a bit.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use kilter_types::Micros;
use serde::{Deserialize, Serialize};

/// The most bins of a series.
pub(super) const MAX_BINS: usize = 256;

/// The narrowest bin: about seven seconds, which double to an hour.
const NARROWEST_US: i64 = WIDEST_US / 512;

/// The widest bin; from here on the oldest leave.
const WIDEST_US: i64 = 3_600_000_000;

/// Farther than any machine will run; sums of times don't overflow on the way there.
const FAR_US: i64 = 1 << 60;

/// From so many spacings on the usual one is known.
const SPACINGS: u8 = 8;

/// Steps of a kept mean in one unit of the value.
const STEPS: f32 = 1024.0;

/// The bins of one series, the oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bins {
    width_us: i64,
    /// The number of the oldest bin, counted from time zero.
    first: i64,
    bins: VecDeque<Bin>,
    newest_us: i64,
    spacing: Spacing,
}

/// How far values are usually apart: about the median, so that a pause moves it little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Spacing {
    usual_us: i64,
    seen: u8,
}

/// One bin: a mean and how many values made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Bin {
    sum: i32,
    count: u16,
}

/// Where a value went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// Into the newest bin, which was there.
    Newest,
    /// Into a new one, or the bins became wider: those before the newest are not what they were.
    Next,
    /// Into a bin that had closed.
    Closed,
    /// Nowhere: it is older than everything that is kept.
    Nowhere,
}

impl Default for Bins {
    fn default() -> Self {
        Self { width_us: NARROWEST_US, first: 0, bins: VecDeque::new(), newest_us: 0, spacing: Spacing::default() }
    }
}

impl Bins {
    /// Takes a value between -10 and 10.
    pub(super) fn add(&mut self, t: Micros, value: f32) -> Went {
        let t_us = t.0.clamp(-FAR_US, FAR_US);
        let most = MAX_BINS as i64;
        if !self.bins.is_empty() {
            let apart = t_us.div_euclid(WIDEST_US) - self.newest_us.div_euclid(WIDEST_US);
            if apart <= -most {
                return Went::Nowhere;
            }
            if apart >= most {
                // All that was there is older than what is kept.
                *self = Self::default();
            }
        }
        let is_first = self.bins.is_empty();
        if is_first {
            self.first = t_us.div_euclid(self.width_us);
            self.bins.push_back(Bin::default());
            self.newest_us = t_us;
        } else if t_us > self.newest_us {
            self.spacing.heed(t_us - self.newest_us);
            self.newest_us = t_us;
        }
        let mut widened = false;
        while self.width_us < WIDEST_US && (self.span_with(t_us) > most || self.spacing.known_us() > self.width_us) {
            self.widen();
            widened = true;
        }
        let at = t_us.div_euclid(self.width_us);
        let newest = self.newest();
        while at < self.first {
            self.bins.push_front(Bin::default());
            self.first -= 1;
        }
        while at > self.newest() {
            if self.bins.len() == MAX_BINS {
                self.bins.pop_front();
                self.first += 1;
            }
            self.bins.push_back(Bin::default());
        }
        let place = usize::try_from(at - self.first).expect("the bins reach back to it");
        self.bins[place].add(value);
        if is_first || widened || at > newest {
            Went::Next
        } else if at == newest {
            Went::Newest
        } else {
            Went::Closed
        }
    }

    /// Their width.
    pub(super) fn width_us(&self) -> i64 {
        self.width_us
    }

    /// The bins that have closed, and the newest, which still fills.
    pub(super) fn split(&self) -> Option<(impl ExactSizeIterator<Item = &Bin>, &Bin)> {
        let newest = self.bins.back()?;
        Some((self.bins.iter().take(self.bins.len() - 1), newest))
    }

    /// The number of the newest bin, counted from time zero.
    fn newest(&self) -> i64 {
        self.first + self.bins.len() as i64 - 1
    }

    /// How many bins of this width there would be with one for this time.
    fn span_with(&self, t_us: i64) -> i64 {
        let at = t_us.div_euclid(self.width_us);
        self.newest().max(at) - self.first.min(at) + 1
    }

    fn widen(&mut self) {
        self.width_us *= 2;
        let first = self.first.div_euclid(2);
        let mut last = 0;
        for place in 0..self.bins.len() {
            last = usize::try_from((self.first + place as i64).div_euclid(2) - first).expect("not before the first");
            if last != place {
                let bin = std::mem::take(&mut self.bins[place]);
                self.bins[last] = self.bins[last].join(bin);
            }
        }
        self.first = first;
        self.bins.truncate(last + 1);
    }
}

impl Spacing {
    fn heed(&mut self, gap_us: i64) {
        if self.seen < SPACINGS {
            self.usual_us = if self.seen == 0 { gap_us } else { self.usual_us.min(gap_us) };
            self.seen += 1;
        } else if gap_us > self.usual_us {
            self.usual_us += (self.usual_us / 4).max(1);
        } else {
            self.usual_us -= self.usual_us / 5;
        }
    }

    /// 0 until enough values have come.
    fn known_us(&self) -> i64 {
        if self.seen < SPACINGS { 0 } else { self.usual_us }
    }
}

impl Bin {
    /// The mean, where there is a value.
    pub(super) fn mean(self) -> Option<f32> {
        (self.count > 0).then(|| self.sum as f32 / (STEPS * f32::from(self.count)))
    }

    /// How many values.
    pub(super) fn count(self) -> u16 {
        self.count
    }

    fn add(&mut self, value: f32) {
        *self = self.join(Self { sum: (value * STEPS).round() as i32, count: 1 });
    }

    /// Both together; where there are more than can be counted, the mean stays.
    fn join(self, other: Self) -> Self {
        let (sum, count) = (self.sum + other.sum, u32::from(self.count) + u32::from(other.count));
        match u16::try_from(count) {
            Ok(count) => Self { sum, count },
            Err(_) => Self { sum: sum / 2, count: u16::try_from(count / 2).expect("half of two of them") },
        }
    }
}
