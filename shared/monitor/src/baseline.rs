//! What is normal, learned on the device from the first healthy windows of each operating regime.
//!
//! Per regime and feature: location and spread. Features that are sizes or ratios are taken as logarithms, so that a machine
//! twice as loud is as far away as one half as loud. Two thirds of the commissioning windows teach location and spread
//! (they start from the median of the first three windows and their median deviation; then Welford's sums, in which from the
//! eighth window on a value beyond four spreads counts as four) and the directions in which features move together
//! ([`pattern`]); the last third calibrates the threshold.
//!
//! **Learning goes on**, slower and slower down to a time constant of [`SLOWEST`] windows, from windows that score below the
//! threshold and raise no suspicion: location, spread, and the calibration that the threshold follows from. The guard against
//! learning a fault: the location never leaves the place where commissioning left it by more than two spreads, a spread never by
//! more than a factor of 1.5, the threshold of 2.
//!
//! **Score.** `z` is the distance in spreads, clipped to ±8; `e` its exponentially weighted mean (weight 0.4), scaled to unit
//! variance. The anomaly is the squared distance of `e` by T² along the directions and Q beside them, per feature (about 1
//! for a healthy machine); each feature's contribution is a term of the sum, and the record's contributions plus rest
//! are the anomaly exactly (M2). Groups of few features have no directions: for them it is the mean of `e²`.
//!
//! **Slow score.** What is small but stays shows in a mean over some forty windows, beside the directions ([`slow`]). Of the two
//! scores the one further beyond its threshold is told, in units of the first.
//!
//! **Threshold.** At first the greatest of: the Wilson-Hilferty quantile at five sigma (one window in 3.5 million) of a scaled
//! chi-square with the calibration windows' mean and variance; a multiple of the worst smoothed score lately, 2 while commissioning
//! and 1.5 afterwards; 3. Once the scores' tails are known, what a healthy window exceeds as
//! seldom as the budget of false alarms asks for ([`crate::budget`], [`tail`]). Guard: such a threshold stays within 0.95 and 1.3 of
//! what it was when the tail was first known well, and only windows below [`LEARNED_BELOW`] of it are learned.

mod commissioning;
mod follow;
mod keep;
mod pattern;
mod rank;
mod scale;
mod slow;
mod tail;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trade;

use kilter_types::{Contribution, FeatureRef, GroupKind, MAX_CONTRIBUTIONS, MAX_FEATURES, Micros};
use serde::{Deserialize, Serialize};

use self::{
    pattern::{Pattern, directions},
    rank::rank,
    scale::scale,
    tail::Tail,
};
use crate::config::MAX_REGIMES;

/// Values that a baseline of so many features and regimes needs.
pub(crate) fn floats(features: usize, regimes: u8) -> usize {
    features * (rows(features) * usize::from(regimes) + 2)
}

/// Rows of one value per feature that a regime keeps: location, spread, both as commissioning left them, its directions.
fn rows(features: usize) -> usize {
    4 + directions(features)
}

/// The baselines of one group.
#[derive(Debug)]
pub(crate) struct Baseline<F> {
    kind: GroupKind,
    features: usize,
    most: usize,
    windows: u32,
    rate: f32,
    regimes: heapless::Vec<Known, MAX_REGIMES>,
    smoothing: Smoothing,
    buffer: F,
}

/// The smoothed distances belong to one regime and start anew with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Smoothing {
    bin: Option<u8>,
    steps: u32,
    /// Counts windows, to find the least recently used regime.
    now: u64,
}

/// What is known of one regime, beside its figures in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    bin: u8,
    phase: Phase,
    count: u32,
    used: u64,
    from: Micros,
    to: Micros,
    /// Features that were valid in every window so far.
    valid: u64,
    mean: f32,
    square: f32,
    /// Of the smoothed and of the slow score, from healthy windows after commissioning.
    tails: [Tail; 2],
    worst: f32,
    threshold: f32,
    /// The threshold that commissioning left.
    commissioned: f32,
    pattern: Pattern,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Phase {
    Learning,
    Calibrating,
    Ready,
}

/// One window as the baseline sees it.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) bin: u8,
    pub(crate) start: Micros,
    pub(crate) end: Micros,
    pub(crate) values: &'a [f32],
    pub(crate) valid: u64,
    /// Nothing speaks against learning from it.
    pub(crate) trusted: bool,
}

/// What the baseline says of a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// The regime was met for the first time.
    pub(crate) new_regime: bool,
    /// The regime is learned, from and to these times.
    pub(crate) commissioned: Option<(Micros, Micros)>,
    pub(crate) distance: Option<Distance>,
}

/// How far a window is from normal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Distance {
    pub(crate) anomaly: f32,
    pub(crate) threshold: f32,
    pub(crate) contributions: heapless::Vec<Contribution, MAX_CONTRIBUTIONS>,
    pub(crate) rest: f32,
}

impl<F: AsRef<[f32]> + AsMut<[f32]>> Baseline<F> {
    pub(crate) fn new(kind: GroupKind, features: usize, regimes: u8, windows: u32, rate: f32, buffer: F) -> Self {
        Self {
            kind,
            features,
            most: usize::from(regimes),
            windows,
            rate,
            regimes: heapless::Vec::new(),
            smoothing: Smoothing::default(),
            buffer,
        }
    }

    /// Forgets everything: after maintenance or on command.
    pub(crate) fn restart(&mut self) {
        self.regimes.clear();
        self.smoothing = Smoothing::default();
    }

    /// Forgets regimes that are still being learned: what they saw is under suspicion.
    pub(crate) fn distrust(&mut self) {
        for known in &mut self.regimes {
            if known.phase != Phase::Ready {
                (known.phase, known.count) = (Phase::Learning, 0);
            }
        }
    }

    /// How many regimes are known or being learned.
    pub(crate) fn regimes(&self) -> usize {
        self.regimes.len()
    }

    pub(crate) fn is_ready(&self, bin: u8) -> bool {
        self.regimes.iter().any(|known| known.bin == bin && known.phase == Phase::Ready)
    }

    /// The location of a feature that no regime moves, as the first regime that is learned has it.
    pub(crate) fn first_location(&self, feature: usize) -> Option<f32> {
        let place = self.regimes.iter().position(|known| known.phase == Phase::Ready)?;
        self.buffer.as_ref().get(self.place_of(place) + feature).copied()
    }

    pub(crate) fn push(&mut self, window: &Window<'_>, features: &[FeatureRef]) -> Verdict {
        let (place, new_regime) = self.enter(window.bin);
        let mut verdict = Verdict { new_regime, commissioned: None, distance: None };
        let mut known = self.regimes[place];
        if known.phase == Phase::Learning {
            if window.trusted {
                self.learn(place, &mut known, window);
            }
        } else if let Some((scores, distance)) = self.score(place, &known, window, features) {
            match known.phase {
                Phase::Calibrating if window.trusted => {
                    self.calibrate(place, &mut known, window, scores[0]);
                    verdict.commissioned = (known.phase == Phase::Ready).then_some((known.from, known.to));
                }
                Phase::Ready => {
                    let learned_below = if known.tails[1].is_known() { LEARNED_BELOW } else { 1.0 };
                    if window.trusted && distance.anomaly < learned_below * known.threshold {
                        self.follow(place, &mut known, window, scores);
                    }
                    verdict.distance = Some(distance);
                }
                Phase::Learning | Phase::Calibrating => {}
            }
        }
        self.regimes[place] = known;
        verdict
    }

    /// Where this regime's figures lie; the least recently used one makes room.
    fn enter(&mut self, bin: u8) -> (usize, bool) {
        self.smoothing.now += 1;
        if self.smoothing.bin != Some(bin) {
            self.smoothing.bin = Some(bin);
            self.smoothing.steps = 0;
            let features = self.features;
            self.buffer.as_mut()[..2 * features].fill(0.0);
        }
        let now = self.smoothing.now;
        if let Some(place) = self.regimes.iter().position(|known| known.bin == bin) {
            self.regimes[place].used = now;
            return (place, false);
        }
        let fresh = Known {
            bin,
            phase: Phase::Learning,
            count: 0,
            used: now,
            from: Micros(0),
            to: Micros(0),
            valid: u64::MAX,
            mean: 0.0,
            square: 0.0,
            tails: [Tail::default(); 2],
            worst: 0.0,
            threshold: 0.0,
            commissioned: 0.0,
            pattern: Pattern::default(),
        };
        if self.regimes.len() < self.most && self.regimes.push(fresh).is_ok() {
            return (self.regimes.len() - 1, true);
        }
        let oldest = self.regimes.iter().enumerate().min_by_key(|(_, known)| known.used).map_or(0, |(place, _)| place);
        self.regimes[oldest] = fresh;
        (oldest, true)
    }

    fn scale_to_unit(&self) -> f32 {
        let fade = libm::powf(1.0 - WEIGHT, 2.0 * self.smoothing.steps.min(64) as f32);
        (2.0 - WEIGHT) / (WEIGHT * (1.0 - fade))
    }

    /// The smoothed and the slow score, and of the two what lies further beyond its threshold, in units of the first.
    fn score(
        &mut self,
        place: usize,
        known: &Known,
        window: &Window<'_>,
        features: &[FeatureRef],
    ) -> Option<([f32; 2], Distance)> {
        let usable = known.valid & window.valid;
        let count = usable.count_ones();
        if count == 0 {
            return None;
        }
        self.smoothing.steps = self.smoothing.steps.saturating_add(1);
        let share = self.scale_to_unit() / count as f32;
        let (mut smoothed, mut slow) = ([0.0f32; MAX_FEATURES], [0.0f32; MAX_FEATURES]);
        for i in (0..self.features).filter(|i| usable >> i & 1 == 1) {
            let z = self.distance(place, i, window.values[i]);
            let (quick, rest) = self.buffer.as_mut()[..2 * self.features].split_at_mut(self.features);
            quick[i] += WEIGHT * (z - quick[i]);
            slow::follow(&mut rest[i], z);
            (smoothed[i], slow[i]) = (quick[i], rest[i]);
        }
        let mut terms = [0.0f32; MAX_FEATURES];
        known.pattern.terms(&smoothed[..self.features], self.directions(place), &mut terms);
        terms.iter_mut().for_each(|term| *term *= share);
        let quick = terms.iter().fold(0.0, |sum, term| sum + term);
        let mut slow_terms = [0.0f32; MAX_FEATURES];
        let (directions, steps) = (self.directions(place), self.smoothing.steps);
        let slow = slow::score(&known.pattern, &slow[..self.features], directions, steps, count, &mut slow_terms);
        let to_quick = known.threshold / known.tails[1].exceeded_by(self.rate).max(LEAST_KNOWN);
        if known.tails[1].is_known() && slow * to_quick > quick {
            terms = slow_terms.map(|term| term * to_quick);
        }
        let (contributions, rest) = rank(&terms[..self.features], features);
        let anomaly = contributions.iter().fold(0.0, |sum, c| sum + c.amount) + rest;
        Some(([quick, slow], Distance { anomaly, threshold: known.threshold, contributions, rest }))
    }

    fn plain(&self, place: usize, known: &Known, window: &Window<'_>) -> f32 {
        let usable = known.valid & window.valid;
        let mut distances = [0.0f32; MAX_FEATURES];
        for (i, distance) in distances.iter_mut().enumerate().take(self.features) {
            if usable >> i & 1 == 1 {
                *distance = self.distance(place, i, window.values[i]);
            }
        }
        let mut terms = [0.0f32; MAX_FEATURES];
        let square = known.pattern.terms(&distances[..self.features], self.directions(place), &mut terms);
        square / usable.count_ones().max(1) as f32
    }

    fn distance(&self, place: usize, i: usize, value: f32) -> f32 {
        let at = self.place_of(place) + i;
        let buffer = self.buffer.as_ref();
        let z = (scale(self.kind, i, value) - buffer[at]) / buffer[at + self.features];
        z.clamp(-CLIP, CLIP)
    }

    /// Where a regime's figures begin, behind the smoothed distances.
    fn place_of(&self, place: usize) -> usize {
        self.features * (rows(self.features) * place + 2)
    }

    fn figures(&mut self, place: usize) -> Figures<'_> {
        let (features, start) = (self.features, self.place_of(place));
        let all = &mut self.buffer.as_mut()[start..start + features * rows(features)];
        let (location, rest) = all.split_at_mut(features);
        let (spread, rest) = rest.split_at_mut(features);
        let (origin, rest) = rest.split_at_mut(features);
        let (first_spread, directions) = rest.split_at_mut(features);
        Figures { location, spread, origin, first_spread, directions }
    }

    fn directions(&self, place: usize) -> &[f32] {
        let start = self.place_of(place);
        &self.buffer.as_ref()[start + 4 * self.features..start + rows(self.features) * self.features]
    }
}

/// One regime's figures.
struct Figures<'f> {
    location: &'f mut [f32],
    /// While learning: the sum of squares.
    spread: &'f mut [f32],
    /// Location and spread that commissioning left.
    origin: &'f mut [f32],
    first_spread: &'f mut [f32],
    directions: &'f mut [f32],
}

/// Weight of the newest window in the smoothed distance.
const WEIGHT: f32 = 0.4;
const CLIP: f32 = 8.0;
const WINSOR: f32 = 4.0;
const LEAST_THRESHOLD: f32 = 3.0;
/// Once the tails are known, only what lies below this share of the threshold is learned: the guard against learning a fault.
const LEARNED_BELOW: f32 = 0.8;
/// The least threshold of a score whose tail is known.
const LEAST_KNOWN: f32 = 1.5;
/// How slowly a baseline follows in the end: time constant in windows.
const SLOWEST: f32 = 2000.0;
