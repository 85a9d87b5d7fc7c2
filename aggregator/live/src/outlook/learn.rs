//! How wrong a forecast of this very series was: its errors over the closed bins become intervals.
//!
//! The forecast is that the level stays, moved by what it usually moved by in that time (the median error). A running mean, and a level with a
//! damped slope (Holt 1957; Gardner and McKenzie 1985), were measured against it and did worse where a fault grows (docs/EVALUATION.md).
//!
//! The interval is conformal (Vovk, Gammerman and Shafer 2005): the 5 % and 95 % ranks of the errors at that horizon; nothing is assumed of
//! their shape. Only the newest [`MEMORY`] count, so that a series that begins to move soon widens its own intervals. Errors at a long horizon
//! overlap: where there are fewer than [`LEAST_ERRORS`], or than twice the horizon, nothing is forecast that far.

use serde::{Deserialize, Serialize};

use super::bins::{Bins, MAX_BINS};

/// How far ahead, in bins.
pub(super) const HORIZONS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// What a series has taught.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Learned {
    /// The mean of the last bin that closed with a value.
    level: f32,
    /// Values in a usual bin.
    usual_count: f32,
    /// By horizon; `None` where too few errors are known.
    bands: [Option<Band>; HORIZONS.len()],
}

/// What is forecast at one horizon, as natural logarithms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ahead {
    pub(super) bins: usize,
    pub(super) low: f32,
    pub(super) mid: f32,
    pub(super) high: f32,
}

/// The 5 %, 50 % and 95 % ranks of the errors at one horizon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Band {
    low: f32,
    median: f32,
    high: f32,
}

impl Learned {
    /// From the bins that have closed.
    pub(super) fn of(bins: &Bins) -> Self {
        let Some((closed, _)) = bins.split() else { return Self::default() };
        let len = closed.len();
        let (mut means, mut level, mut values, mut filled) = ([f32::NAN; MAX_BINS], 0.0, 0u32, 0u16);
        for (bin, mean) in closed.zip(&mut means) {
            if let Some(value) = bin.mean() {
                (*mean, level) = (value, value);
                (values, filled) = (values + u32::from(bin.count()), filled + 1);
            }
        }
        let bands = HORIZONS.map(|horizon| band(horizon, &means[..len]));
        Self { level, usual_count: values as f32 / f32::from(filled.max(1)), bands }
    }

    /// The level now, and what is forecast from it; the newest bin holds so many values of this mean so far.
    pub(super) fn ahead(&self, mean: Option<f32>, count: u16) -> (f32, impl Iterator<Item = Ahead>) {
        let weight = (f32::from(count) / self.usual_count.max(1.0)).min(1.0);
        let level = mean.map_or(self.level, |mean| self.level + weight * (mean - self.level));
        let steps = std::iter::zip(HORIZONS, self.bands).filter_map(move |(bins, band)| {
            let Band { low, median, high } = band?;
            // No farther than a score is kept.
            let told = |error: f32| (level + error).clamp(-FAR, FAR);
            Some(Ahead { bins, low: told(low), mid: told(median), high: told(high) })
        });
        (level, steps)
    }

    /// Is there a forecast?
    pub(super) fn knows(&self) -> bool {
        self.bands.iter().any(Option::is_some)
    }
}

/// What the newest errors at one horizon say.
fn band(horizon: usize, means: &[f32]) -> Option<Band> {
    let (mut errors, mut count) = ([0.0f32; MAX_BINS], 0);
    let most = MEMORY.max(2 * horizon);
    // Nothing is told from an empty bin, and of none.
    let came = means.windows(horizon + 1).rev().map(|bins| bins[horizon] - bins[0]);
    for (error, place) in came.filter(|error| !error.is_nan()).zip(&mut errors[..most]) {
        (*place, count) = (error, count + 1);
    }
    if count < LEAST_ERRORS.max(2 * horizon) {
        return None;
    }
    let errors = &mut errors[..count];
    let mut rank = |rank: usize| *errors.select_nth_unstable_by(rank, f32::total_cmp).1;
    // Of these errors and the one to come a twentieth lies beyond on each side.
    let beyond = (0.5 * (1.0 - COVERAGE) * (count + 1) as f32) as usize;
    Some(Band { low: rank(beyond - 1), median: rank(count / 2), high: rank(count - beyond) })
}

/// A score this far from its limit is as good as any farther.
const FAR: f32 = 10.0;

/// What the intervals are to hold.
const COVERAGE: f32 = 0.9;

/// Below so many errors a twentieth on each side can't be told.
const LEAST_ERRORS: usize = 20;

/// The newest errors that count, or twice the horizon.
const MEMORY: usize = 48;
