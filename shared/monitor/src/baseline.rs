//! What is normal, learned on the device from the first healthy windows of each operating regime.
//!
//! Per regime and feature: location and spread. Features that are sizes or ratios are taken as logarithms, so that a machine
//! twice as loud is as far away as one half as loud. Two thirds of the commissioning windows teach location and spread
//! (Welford's sums; from the eighth window on a value beyond four spreads counts as four), the last third calibrates the
//! threshold. After that the location follows slowly, never further than two spreads from where commissioning left it, and
//! only while the score stays below half the threshold and nothing raises suspicion: a fault is not learned.
//!
//! **Score.** `z` is the distance in spreads, clipped to ±8; `e` its exponentially weighted mean (weight 0.4), scaled to unit
//! variance. The anomaly is the mean of `e²` over the features (a diagonal Mahalanobis distance, 1 for a healthy machine), so
//! that each feature's contribution is a term of the sum, and the record's contributions plus rest are the anomaly exactly (M2).
//!
//! **Threshold.** The greatest of: the Wilson-Hilferty quantile at five sigma (one window in 3.5 million) of a scaled chi-square
//! with the calibration windows' mean and variance; twice the worst smoothed score seen while calibrating; 3.

use kilter_signal::{table::at, temperature};
use kilter_types::{Contribution, FeatureRef, GroupKind, MAX_CONTRIBUTIONS, MAX_FEATURES, Micros};
use serde::{Deserialize, Serialize};

use crate::{
    config::MAX_REGIMES,
    snapshot::{Reader, RestoreError, Writer},
};

/// Values that a baseline of so many features and regimes needs.
pub(crate) fn floats(features: usize, regimes: u8) -> usize {
    features * (3 * usize::from(regimes) + 1)
}

/// The baselines of one group.
#[derive(Debug)]
pub(crate) struct Baseline<F> {
    kind: GroupKind,
    features: usize,
    most: usize,
    windows: u32,
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
    worst: f32,
    threshold: f32,
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
    pub(crate) fn new(kind: GroupKind, features: usize, regimes: u8, windows: u32, buffer: F) -> Self {
        Self {
            kind,
            features,
            most: usize::from(regimes),
            windows,
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

    pub(crate) fn push(&mut self, window: &Window<'_>, features: &[FeatureRef]) -> Verdict {
        let (place, new_regime) = self.enter(window.bin);
        let mut verdict = Verdict { new_regime, commissioned: None, distance: None };
        let mut known = self.regimes[place];
        if known.phase == Phase::Learning {
            if window.trusted {
                self.learn(place, &mut known, window);
            }
        } else if let Some(distance) = self.score(place, &known, window, features) {
            match known.phase {
                Phase::Calibrating if window.trusted => {
                    self.calibrate(place, &mut known, window, distance.anomaly);
                    verdict.commissioned = (known.phase == Phase::Ready).then_some((known.from, known.to));
                }
                Phase::Ready => {
                    if window.trusted && distance.anomaly < ADAPT_BELOW * known.threshold {
                        self.follow(place, &known, window);
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
            self.buffer.as_mut()[..features].fill(0.0);
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
            worst: 0.0,
            threshold: 0.0,
        };
        if self.regimes.len() < self.most && self.regimes.push(fresh).is_ok() {
            return (self.regimes.len() - 1, true);
        }
        let oldest = self.regimes.iter().enumerate().min_by_key(|(_, known)| known.used).map_or(0, |(place, _)| place);
        self.regimes[oldest] = fresh;
        (oldest, true)
    }

    fn learn(&mut self, place: usize, known: &mut Known, window: &Window<'_>) {
        let (kind, count) = (self.kind, known.count as usize);
        let [location, square, _] = self.figures(place);
        if count == 0 {
            (known.from, known.valid) = (window.start, u64::MAX);
            location.fill(0.0);
            square.fill(0.0);
        }
        for i in 0..location.len() {
            let mut x = scale(kind, i, window.values[i]);
            if count >= TRUST_SPREAD_FROM {
                let reach = WINSOR * spread(kind, i, location[i], square[i] / count as f32);
                x = x.clamp(location[i] - reach, location[i] + reach);
            }
            let step = x - location[i];
            location[i] += step / (count + 1) as f32;
            square[i] += step * (x - location[i]);
        }
        known.valid &= window.valid & counted(kind, self.features);
        known.count += 1;
        known.to = window.end;
        if known.count >= self.windows * 2 / 3 {
            let count = known.count as f32;
            let [location, square, origin] = self.figures(place);
            for i in 0..location.len() {
                square[i] = spread(kind, i, location[i], square[i] / (count - 1.0));
                origin[i] = location[i];
            }
            *known = Known { phase: Phase::Calibrating, count: 0, mean: 0.0, square: 0.0, worst: 0.0, ..*known };
            self.smoothing.steps = 0;
            let features = self.features;
            self.buffer.as_mut()[..features].fill(0.0);
        }
    }

    /// The plain score follows a scaled chi-square; the smoothed one also shows what wanders slowly.
    fn calibrate(&mut self, place: usize, known: &mut Known, window: &Window<'_>, smoothed: f32) {
        let plain = self.plain(place, known, window);
        known.count += 1;
        let step = plain - known.mean;
        known.mean += step / known.count as f32;
        known.square += step * (plain - known.mean);
        known.worst = known.worst.max(smoothed);
        known.to = window.end;
        if known.count >= self.windows - self.windows * 2 / 3 {
            let variance = known.square / (known.count - 1).max(1) as f32;
            let quantile = wilson_hilferty(known.mean, variance);
            known.threshold = quantile.max(2.0 * known.worst).max(LEAST_THRESHOLD);
            known.phase = Phase::Ready;
        }
    }

    fn follow(&mut self, place: usize, known: &Known, window: &Window<'_>) {
        let kind = self.kind;
        let [location, spread, origin] = self.figures(place);
        for i in 0..location.len() {
            if known.valid & window.valid >> i & 1 == 1 {
                let step = (scale(kind, i, window.values[i]) - location[i]).clamp(-spread[i], spread[i]);
                let reach = 2.0 * spread[i];
                location[i] = (location[i] + step * FOLLOW).clamp(origin[i] - reach, origin[i] + reach);
            }
        }
    }

    fn score(&mut self, place: usize, known: &Known, window: &Window<'_>, features: &[FeatureRef]) -> Option<Distance> {
        let usable = known.valid & window.valid;
        let count = usable.count_ones();
        if count == 0 {
            return None;
        }
        self.smoothing.steps = self.smoothing.steps.saturating_add(1);
        let fade = libm::powf(1.0 - WEIGHT, 2.0 * self.smoothing.steps.min(64) as f32);
        let scale_to_unit = (2.0 - WEIGHT) / (WEIGHT * (1.0 - fade));
        let share = scale_to_unit / count as f32;
        let mut terms = [0.0f32; MAX_FEATURES];
        for (i, term) in terms.iter_mut().enumerate().take(self.features) {
            if usable >> i & 1 == 1 {
                let z = self.distance(place, i, window.values[i]);
                let smooth = &mut self.buffer.as_mut()[i];
                *smooth += WEIGHT * (z - *smooth);
                *term = *smooth * *smooth * share;
            }
        }
        let (contributions, rest) = rank(&terms[..self.features], features);
        let anomaly = contributions.iter().fold(0.0, |sum, c| sum + c.amount) + rest;
        Some(Distance { anomaly, threshold: known.threshold, contributions, rest })
    }

    fn plain(&self, place: usize, known: &Known, window: &Window<'_>) -> f32 {
        let usable = known.valid & window.valid;
        let squares = (0..self.features).filter(|i| usable >> i & 1 == 1).map(|i| {
            let z = self.distance(place, i, window.values[i]);
            z * z
        });
        squares.fold(0.0, |sum, square| sum + square) / usable.count_ones().max(1) as f32
    }

    fn distance(&self, place: usize, i: usize, value: f32) -> f32 {
        let at = self.features * (3 * place + 1) + i;
        let buffer = self.buffer.as_ref();
        let z = (scale(self.kind, i, value) - buffer[at]) / buffer[at + self.features];
        z.clamp(-CLIP, CLIP)
    }

    /// Location, spread (sum of squares while learning) and origin of one regime.
    fn figures(&mut self, place: usize) -> [&mut [f32]; 3] {
        let features = self.features;
        let all = &mut self.buffer.as_mut()[features * (3 * place + 1)..features * (3 * place + 4)];
        let (location, rest) = all.split_at_mut(features);
        let (spread, origin) = rest.split_at_mut(features);
        [location, spread, origin]
    }

    /// The regime's baseline as an opaque record: bin, threshold, then location and spread per feature.
    pub(crate) fn record(&self, bin: u8) -> Option<heapless::Vec<u8, 1024>> {
        let place = self.regimes.iter().position(|known| known.bin == bin && known.phase == Phase::Ready)?;
        let known = &self.regimes[place];
        let at = self.features * (3 * place + 1);
        let mut bytes = heapless::Vec::new();
        bytes.push(bin).ok()?;
        let figures = &self.buffer.as_ref()[at..at + 2 * self.features];
        for value in core::iter::once(&known.threshold).chain(figures) {
            bytes.extend_from_slice(&value.to_le_bytes()).ok()?;
        }
        Some(bytes)
    }

    pub(crate) fn save(&self, out: &mut Writer<'_>) {
        out.value(&(&self.regimes, self.smoothing));
        out.floats(&self.buffer.as_ref()[..self.features * (3 * self.regimes.len() + 1)]);
    }

    pub(crate) fn load(&mut self, bytes: &mut Reader<'_>) -> Result<(), RestoreError> {
        (self.regimes, self.smoothing) = bytes.value()?;
        if self.regimes.len() > self.most {
            return Err(RestoreError::Damaged);
        }
        let used = self.features * (3 * self.regimes.len() + 1);
        bytes.floats(&mut self.buffer.as_mut()[..used])
    }
}

/// The largest terms by name and the sum of the others.
fn rank(terms: &[f32], features: &[FeatureRef]) -> (heapless::Vec<Contribution, MAX_CONTRIBUTIONS>, f32) {
    let mut ranked = heapless::Vec::<(usize, f32), MAX_CONTRIBUTIONS>::new();
    for (i, &term) in terms.iter().enumerate() {
        let place = ranked.iter().position(|(_, other)| term > *other).unwrap_or(ranked.len());
        if ranked.is_full() && place < ranked.len() {
            ranked.pop();
        }
        if term > 0.0 && !ranked.is_full() {
            // There is room, and the place is within it.
            let _ = ranked.insert(place, (i, term));
        }
    }
    let listed = |i: usize| ranked.iter().any(|(place, _)| *place == i);
    let rest = terms.iter().enumerate().filter(|(i, _)| !listed(*i)).fold(0.0, |sum, (_, term)| sum + term);
    let named =
        ranked.iter().filter_map(|(i, amount)| Some(Contribution { feature: features.get(*i)?.id, amount: *amount }));
    (named.collect(), rest)
}

/// A feature as the baseline compares it.
fn scale(kind: GroupKind, place: usize, value: f32) -> f32 {
    let logarithmic = match kind {
        GroupKind::Vibration => !matches!(place, at::MEAN | at::SKEWNESS),
        // Of the six statistics per channel, the standard deviation.
        GroupKind::Reading => place % 6 == 1,
        GroupKind::Temperature | GroupKind::Cycle => false,
    };
    if logarithmic { libm::logf(value.max(LEAST_SIZE)) } else { value }
}

/// The spread from a variance, not below what counts as a change at all.
fn spread(kind: GroupKind, place: usize, location: f32, variance: f32) -> f32 {
    let least = match (kind, place) {
        (GroupKind::Vibration, at::SKEWNESS) => 0.1,
        // Logarithms: 8 %.
        (GroupKind::Vibration, _) => 0.08,
        // Slope in K/h, level in °C, difference in K: a day's swing is not a change.
        (GroupKind::Temperature, temperature::at::SLOPE) => 20.0,
        (GroupKind::Temperature, temperature::at::LEVEL) => 5.0,
        (GroupKind::Temperature, _) => 3.0,
        (GroupKind::Reading, _) if place % 6 == 1 => 0.1,
        (GroupKind::Reading | GroupKind::Cycle, _) => 1e-3 * location.abs() + 1e-6,
    };
    libm::sqrtf(variance.max(0.0)).max(least)
}

/// Features that take part: not those that jump between lines, nor the sensor's offset.
fn counted(kind: GroupKind, features: usize) -> u64 {
    let all = kilter_signal::table::mask(features);
    match kind {
        GroupKind::Vibration => {
            let left_out =
                [at::MEAN, at::PEAK_1_FREQUENCY, at::PEAK_2_FREQUENCY, at::PEAK_3_FREQUENCY, at::ZERO_CROSSING_RATE];
            left_out.into_iter().fold(all, |mask, place| mask & !(1 << place))
        }
        GroupKind::Temperature | GroupKind::Reading | GroupKind::Cycle => all,
    }
}

/// The quantile at [`SIGMAS`] of a scaled chi-square with this mean and variance.
fn wilson_hilferty(mean: f32, variance: f32) -> f32 {
    let spread = variance / (9.0 * mean * mean).max(f32::MIN_POSITIVE);
    let root = 1.0 - spread + SIGMAS * libm::sqrtf(spread);
    mean * root * root * root
}

/// Weight of the newest window in the smoothed distance.
const WEIGHT: f32 = 0.4;
const CLIP: f32 = 8.0;
const WINSOR: f32 = 4.0;
const TRUST_SPREAD_FROM: usize = 8;
const SIGMAS: f32 = 5.0;
const LEAST_THRESHOLD: f32 = 3.0;
const ADAPT_BELOW: f32 = 0.5;
/// How fast the location follows: time constant in windows.
const FOLLOW: f32 = 1.0 / 2000.0;
/// Smallest size whose logarithm is taken.
const LEAST_SIZE: f32 = 1e-9;
