//! Order tracking: a record of varying speed, resampled at even angles of the shaft by its tachometer.
//!
//! One tacho mark falls on each whole revolution. Between pulses the angle is taken as a cubic (Hermite) through the pulse times
//! with slopes from their neighbours, so a steady ramp is followed exactly to third order; samples are read at the times of
//! even angles by a four-point cubic (Lagrange). A line that a ramp smears over the spectrum is one line again in orders.
//! The record should be sampled at least eight times as fast as the highest order of interest turns.

use kilter_types::Hertz;

/// Why nothing was resampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// Fewer than four pulses, or their times do not rise.
    Pulses,
    /// A rate that is not above 0, or no points per revolution.
    Rate,
    /// The pulses within the record hold fewer revolutions than asked for.
    Revolutions {
        /// Whole values that can be had.
        available: usize,
    },
}

impl core::fmt::Display for OrderError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Pulses => f.write_str("follow the shaft: four tacho pulses at rising times are needed"),
            Self::Rate => f.write_str("resample: the rate and the points per revolution must be above 0"),
            Self::Revolutions { available } => write!(f, "fill the window: the pulses hold only {available} values"),
        }
    }
}

impl core::error::Error for OrderError {}

/// Fills `out` with the record's values at even angles, `per_rev` to a revolution, from the second pulse on.
///
/// `pulses_s` are the times of whole revolutions in seconds since the first sample. The result's "rate" is `per_rev` samples per
/// revolution: a spectrum of it counts in orders.
pub fn resample(
    samples: &[f32],
    rate: Hertz,
    pulses_s: &[f64],
    per_rev: usize,
    out: &mut [f32],
) -> Result<(), OrderError> {
    if !(rate.0 > 0.0 && rate.0.is_finite()) || per_rev == 0 {
        return Err(OrderError::Rate);
    }
    let rising = pulses_s.windows(2).all(|pair| pair[1] > pair[0]) && pulses_s.iter().all(|t| t.is_finite());
    if pulses_s.len() < 4 || !rising {
        return Err(OrderError::Pulses);
    }
    let available = available(samples.len(), rate, pulses_s, per_rev);
    if available < out.len() {
        return Err(OrderError::Revolutions { available });
    }
    for (i, value) in out.iter_mut().enumerate() {
        let (turn, part) = (i / per_rev, i % per_rev);
        let time_s = time_of(pulses_s, turn + 1, part as f64 / per_rev as f64);
        *value = read(samples, time_s * f64::from(rate.0));
    }
    Ok(())
}

/// What [`track`] resampled: so many whole revolutions within so much time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tracked {
    /// Whole revolutions.
    pub revolutions: u32,
    /// How long they took.
    pub secs: f64,
}

/// Fills `out` with the record at even angles over all whole revolutions that it holds, so that the shaft's orders fall on lines: order `o`
/// is line `o * revolutions` of its spectrum.
///
/// `mark_s` gives the time of each of `marks` whole revolutions in seconds since the first sample; marks may lie before the record and
/// behind it, and the cubic wants one of them on either side of what is resampled.
pub fn track(
    samples: &[f32],
    rate: Hertz,
    marks: usize,
    mark_s: impl Fn(usize) -> f64,
    out: &mut [f32],
) -> Result<Tracked, OrderError> {
    if !(rate.0 > 0.0 && rate.0.is_finite()) || out.is_empty() {
        return Err(OrderError::Rate);
    }
    let rate_hz = f64::from(rate.0);
    let inside = |mark: &usize| (2.0..=samples.len() as f64 - 3.0).contains(&(mark_s(*mark) * rate_hz));
    let first = (1..marks.saturating_sub(1)).find(inside).ok_or(OrderError::Pulses)?;
    let last = (first..marks - 1).rev().find(inside).ok_or(OrderError::Pulses)?;
    if !(first..=last + 1).all(|mark| mark_s(mark) > mark_s(mark - 1)) {
        return Err(OrderError::Pulses);
    }
    let revolutions = last - first;
    if revolutions < LEAST_REVOLUTIONS {
        return Err(OrderError::Revolutions { available: 0 });
    }
    let step = revolutions as f64 / out.len() as f64;
    for (i, value) in out.iter_mut().enumerate() {
        let angle = i as f64 * step;
        let (turn, part) = (angle as usize, angle - libm::floor(angle));
        let around = [0, 1, 2, 3].map(|k| mark_s(first + turn + k - 1));
        *value = read(samples, between(around, part) * rate_hz);
    }
    Ok(Tracked { revolutions: revolutions as u32, secs: mark_s(last) - mark_s(first) })
}

/// How many values [`resample`] can give.
pub fn available(samples: usize, rate: Hertz, pulses_s: &[f64], per_rev: usize) -> usize {
    let end_s = (samples as f64 - 3.0) / f64::from(rate.0);
    let inside = pulses_s.iter().filter(|t| **t > 2.0 / f64::from(rate.0) && **t < end_s).count();
    let first = pulses_s.first().is_some_and(|t| *t <= 2.0 / f64::from(rate.0));
    // The cubic needs a pulse before and one after; what lies before the second pulse is not used.
    let usable = inside.min(pulses_s.len()).saturating_sub(if first { 2 } else { 3 });
    usable * per_rev
}

/// The time at which the shaft is `part` of a revolution past pulse `turn`.
fn time_of(pulses_s: &[f64], turn: usize, part: f64) -> f64 {
    let at = |i: usize| pulses_s[i.min(pulses_s.len() - 1)];
    between([at(turn - 1), at(turn), at(turn + 1), at(turn + 2)], part)
}

/// The moment at which `part` of the way between the two inner marks is done.
fn between([before, from, to, after]: [f64; 4], part: f64) -> f64 {
    let (slope_from, slope_to) = (0.5 * (to - before), 0.5 * (after - from));
    let (p, p2, p3) = (part, part * part, part * part * part);
    (2.0 * p3 - 3.0 * p2 + 1.0) * from
        + (p3 - 2.0 * p2 + p) * slope_from
        + (3.0 * p2 - 2.0 * p3) * to
        + (p3 - p2) * slope_to
}

/// The record's value between samples, by the cubic through the four around.
fn read(samples: &[f32], place: f64) -> f32 {
    let whole = libm::floor(place);
    let base = (whole as usize).clamp(1, samples.len().saturating_sub(3));
    let x = (place - base as f64) as f32;
    let at = |k: usize| samples.get(k).copied().unwrap_or(0.0);
    let (a, b, c, d) = (at(base - 1), at(base), at(base + 1), at(base + 2));
    let (w_a, w_b) = (-x * (x - 1.0) * (x - 2.0) / 6.0, (x + 1.0) * (x - 1.0) * (x - 2.0) / 2.0);
    let (w_c, w_d) = (-(x + 1.0) * x * (x - 2.0) / 2.0, (x + 1.0) * x * (x - 1.0) / 6.0);
    (w_a * a + w_b * b) + (w_c * c + w_d * d)
}

/// The fewest revolutions of which a spectrum in orders says something.
const LEAST_REVOLUTIONS: usize = 3;
