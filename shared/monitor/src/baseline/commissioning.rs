//! The first healthy windows of a regime: location, spread and directions from two thirds of them, the first threshold from the rest.

use kilter_infer::kernel::within;
use kilter_types::MAX_FEATURES;

use super::{
    Baseline, Figures, Known, LEAST_THRESHOLD, Phase, WINSOR, Window,
    pattern::Pattern,
    scale::{counted, scale, spread, wilson_hilferty},
};

impl<F: AsRef<[f32]> + AsMut<[f32]>> Baseline<F> {
    pub(super) fn learn(&mut self, place: usize, known: &mut Known, window: &Window<'_>) {
        let (kind, count) = (self.kind, known.count as usize);
        let counts = window.valid & counted(kind, self.features);
        let Figures { location, spread: square, origin, directions, .. } = self.figures(place);
        if count == 0 {
            (known.from, known.valid, known.pattern) = (window.start, u64::MAX, Pattern::default());
            directions.fill(0.0);
        }
        known.valid &= counts;
        let mut distances = [0.0f32; MAX_FEATURES];
        for i in 0..location.len() {
            let mut x = scale(kind, i, window.values[i]);
            // The first three lie where location, square and origin will be.
            match count {
                0 => location[i] = x,
                1 => square[i] = x,
                2 => {
                    origin[i] = x;
                    let (median, deviation) = median_of_three(location[i], square[i], x);
                    location[i] = median;
                    square[i] = 2.0 * (deviation * TO_SPREAD) * (deviation * TO_SPREAD);
                }
                _ => {
                    let reach = WINSOR * spread(kind, i, location[i], square[i] / count as f32);
                    if count >= TRUST_SPREAD_FROM {
                        x = within(x, location[i] - reach, location[i] + reach);
                        let taken = known.valid >> i & 1 == 1;
                        distances[i] = if taken { (x - location[i]) / reach * WINSOR } else { 0.0 };
                    }
                    let step = x - location[i];
                    location[i] += step / (count + 1) as f32;
                    square[i] += step * (x - location[i]);
                }
            }
        }
        if count >= TRUST_SPREAD_FROM {
            known.pattern.learn(&mut distances[..location.len()], directions);
        }
        known.count += 1;
        known.to = window.end;
        if known.count >= self.windows * 2 / 3 {
            let (count, features) = (known.count as f32, self.features);
            let Figures { location, spread: square, origin, first_spread, directions } = self.figures(place);
            for i in 0..location.len() {
                square[i] = spread(kind, i, location[i], square[i] / (count - 1.0));
                (origin[i], first_spread[i]) = (location[i], square[i]);
            }
            known.pattern.finish(features, directions);
            *known = Known { phase: Phase::Calibrating, count: 0, mean: 0.0, square: 0.0, worst: 0.0, ..*known };
            self.smoothing.steps = 0;
            self.buffer.as_mut()[..2 * features].fill(0.0);
        }
    }

    /// The plain score follows a scaled chi-square; the smoothed one also shows what wanders slowly.
    pub(super) fn calibrate(&mut self, place: usize, known: &mut Known, window: &Window<'_>, smoothed: f32) {
        let plain = self.plain(place, known, window);
        known.count += 1;
        let step = plain - known.mean;
        known.mean += step / known.count as f32;
        known.square += step * (plain - known.mean);
        known.worst = known.worst.max(smoothed);
        known.to = window.end;
        if known.count >= self.windows - self.windows * 2 / 3 {
            // From here on the variance itself, which goes on being learned.
            known.square /= (known.count - 1).max(1) as f32;
            let quantile = wilson_hilferty(known.mean, known.square);
            known.threshold = quantile.max(WORST_AT_FIRST * known.worst).max(LEAST_THRESHOLD);
            known.commissioned = known.threshold;
            known.phase = Phase::Ready;
            known.count = self.windows;
        }
    }
}

/// The median, and the median of the distances from it: the smaller of the other two.
fn median_of_three(a: f32, b: f32, c: f32) -> (f32, f32) {
    let (low, high) = (a.min(b), a.max(b));
    let median = within(c, low, high);
    let (low, high) = (low.min(c), high.max(c));
    (median, (median - low).min(high - median))
}

const TRUST_SPREAD_FROM: usize = 8;
/// From a median deviation to a spread of normal values.
const TO_SPREAD: f32 = 1.482_6;
const WORST_AT_FIRST: f32 = 2.0;
