//! The threshold that a budget of false alarms asks for, followed window by window.
//!
//! What lies beyond the nine tenths of a healthy score is taken for an exponential tail (which a chi-square's is, nearly): peaks over
//! a threshold, with one percentile and one mean excess followed by stochastic approximation. A rate of exceedances per window
//! then names the threshold, far beyond anything that was seen.

use kilter_infer::kernel::within;
use serde::{Deserialize, Serialize};

/// One score's tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tail {
    count: u32,
    /// Nine tenths of the scores lie below.
    at: f32,
    /// How far those above lie above, on average.
    excess: f32,
    /// The two figures once the tail had been followed for a while; 0 before.
    settled: [f32; 2],
}

impl Tail {
    /// Takes in a healthy window's score; memory of at most `slowest` windows.
    pub(super) fn learn(&mut self, score: f32, slowest: f32) {
        self.count = self.count.saturating_add(1);
        if self.count == 1 {
            (self.at, self.excess) = (score, 0.5 * score.max(LEAST_EXCESS));
            return;
        }
        let weight = (1.0 / self.count as f32).max(1.0 / slowest);
        let over = score - self.at;
        if over > 0.0 {
            self.excess += (BEYOND_EACH * weight).min(0.5) * (over.min(REACH * self.excess) - self.excess);
        }
        self.excess = self.excess.max(LEAST_EXCESS);
        let step = if over > 0.0 { BEYOND_EACH - 1.0 } else { -1.0 };
        self.at = (self.at + weight * self.excess * step).max(0.0);
        if self.count as f32 >= slowest && self.settled[1] == 0.0 {
            self.settled = [self.at, self.excess];
        }
    }

    /// Has it seen enough to name a threshold?
    pub(super) fn is_known(&self) -> bool {
        self.count >= ENOUGH
    }

    /// What one healthy window exceeds with this probability.
    pub(super) fn exceeded_by(&self, rate: f32) -> f32 {
        let excesses = libm::logf((1.0 / BEYOND_EACH / rate).max(1.0));
        let beyond = self.at + self.excess * excesses;
        let settled = self.settled[0] + self.settled[1] * excesses;
        if settled > 0.0 { within(beyond, DOWN * settled, UP * settled) } else { beyond }
    }
}

/// One score of so many lies in the tail.
const BEYOND_EACH: f32 = 10.0;
const LEAST_EXCESS: f32 = 0.02;
/// One score far out counts as so many mean excesses.
const REACH: f32 = 5.0;
/// How far a threshold may fall below and rise above what it was when the tail had been followed for a while.
const DOWN: f32 = 0.95;
const UP: f32 = 1.3;
/// Scores after which percentile and excess are known well enough: forty in the tail.
const ENOUGH: u32 = 400;

#[cfg(test)]
mod tests {
    use super::*;

    /// Evenly spread numbers, the same everywhere.
    struct Even(u64);

    impl Even {
        fn next(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 40) as f32 + 0.5) / 16_777_216.0
        }

        /// A chi-square of so many twos, over its mean.
        fn score(&mut self, twos: u32) -> f32 {
            (0..twos).map(|_| -libm::logf(self.next())).sum::<f32>() / twos as f32
        }
    }

    #[test]
    fn a_threshold_for_one_in_ten_thousand_is_exceeded_about_so_often() {
        for twos in [1, 4, 12] {
            let (mut even, mut tail) = (Even(7), Tail::default());
            (0..6_000).for_each(|_| tail.learn(even.score(twos), 2_000.0));
            let threshold = tail.exceeded_by(1e-4);
            let above = (0..400_000).filter(|_| even.score(twos) > threshold).count();
            // 40 are asked for; a tail that falls faster than an exponential one gives fewer.
            assert!((1..=120).contains(&above), "{twos}: {above} above {threshold}");
        }
    }

    #[test]
    fn a_rarer_rate_gives_a_higher_threshold_also_after_the_tail_has_settled() {
        let (mut even, mut tail) = (Even(7), Tail::default());
        for _ in 0..6_000 {
            tail.learn(even.score(4), 2_000.0);
            let [seldom, rare] = [1e-3, 1e-5].map(|rate| tail.exceeded_by(rate));
            assert!(seldom <= rare, "{seldom} and {rare}");
        }
        let (seldom, rare) = (tail.exceeded_by(1e-3), tail.exceeded_by(1e-5));
        assert!(rare > 1.2 * seldom, "{seldom} and {rare}");
    }
}
