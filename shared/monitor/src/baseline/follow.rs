//! Learning goes on after commissioning, from what is taken for healthy and within the guard against learning a fault.

use kilter_infer::kernel::within;
use kilter_types::MAX_FEATURES;

use super::{
    Baseline, Figures, Known, LEAST_KNOWN, LEAST_THRESHOLD, SLOWEST, WINSOR, Window,
    scale::{scale, spread, wilson_hilferty},
};

impl<F: AsRef<[f32]> + AsMut<[f32]>> Baseline<F> {
    /// Learning goes on, from what is taken for healthy and within the guard.
    pub(super) fn follow(&mut self, place: usize, known: &mut Known, window: &Window<'_>, scores: [f32; 2]) {
        let kind = self.kind;
        known.count = known.count.saturating_add(1);
        let weight = 1.0 / (known.count as f32).min(SLOWEST);
        let plain = self.plain(place, known, window);
        let Figures { location, spread: width, origin, first_spread, .. } = self.figures(place);
        for i in 0..location.len() {
            if known.valid & window.valid >> i & 1 == 1 {
                let far = WINSOR * width[i];
                let step = within(scale(kind, i, window.values[i]) - location[i], -far, far);
                let reach = LOCATION_REACH * first_spread[i];
                location[i] = within(location[i] + step * weight, origin[i] - reach, origin[i] + reach);
                let square = width[i] * width[i];
                let wanted = spread(kind, i, location[i], square + weight * (step * step - square));
                width[i] = within(wanted, first_spread[i] * SPREAD_LEAST, first_spread[i] * SPREAD_REACH);
            }
        }
        let step = plain - known.mean;
        known.mean += weight * step;
        known.square += weight * (step * step - known.square);
        if (known.count as f32) < SLOWEST {
            self.turn(place, known, window, weight);
        }
        known.worst = (known.worst * (1.0 - 1.0 / SLOWEST)).max(scores[0]);
        known.tails.iter_mut().zip(scores).for_each(|(tail, score)| tail.learn(score, SLOWEST));
        let wanted = if known.tails[0].is_known() {
            known.tails[0].exceeded_by(self.rate)
        } else {
            wilson_hilferty(known.mean, known.square).max(WORST_LATER * known.worst)
        };
        let first = known.commissioned;
        let least = if known.tails[0].is_known() { LEAST_KNOWN } else { LEAST_THRESHOLD.max(first * THRESHOLD_LEAST) };
        known.threshold = wanted.max(least).min(first * THRESHOLD_REACH);
    }

    /// The directions in which the smoothed distances move, which wander more than single windows do, are found while the baseline
    /// is young.
    fn turn(&mut self, place: usize, known: &mut Known, window: &Window<'_>, weight: f32) {
        let usable = known.valid & window.valid;
        let unit = libm::sqrtf(self.scale_to_unit());
        let mut smoothed = [0.0f32; MAX_FEATURES];
        for (i, smoothed) in smoothed.iter_mut().enumerate().take(self.features) {
            *smoothed = if usable >> i & 1 == 1 { unit * self.buffer.as_ref()[i] } else { 0.0 };
        }
        let features = self.features;
        let Figures { directions, .. } = self.figures(place);
        known.pattern.go_on(&mut smoothed[..features], directions, weight);
    }
}

const WORST_LATER: f32 = 1.5;
/// How far the location may wander, in spreads.
const LOCATION_REACH: f32 = 2.0;
/// How far a spread may wander, as a factor.
const SPREAD_REACH: f32 = 1.5;
const SPREAD_LEAST: f32 = 0.7;
/// How far the threshold may wander, as a factor.
const THRESHOLD_REACH: f32 = 2.0;
const THRESHOLD_LEAST: f32 = 0.7;
