//! Is the sensor itself well? Flags per window of samples, before anything is read from them.
//!
//! A broken sensor must not become a healthy or a faulty machine, so these flags travel with the window's features.

use kilter_types::Quality;

use crate::{lanes, moment};

/// What a live sensor looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HealthLimits {
    /// The sensor's full scale, in the samples' unit; `None` when not known.
    pub full_scale: Option<f32>,
    /// RMS (without mean) below which no live sensor stays, in the samples' unit.
    pub noise_floor: f32,
    /// Share of samples at one extreme value from which it counts as a limit.
    pub saturated_share: f32,
}

impl Default for HealthLimits {
    /// For acceleration in g: no known full scale, 20 µg, 2 %.
    fn default() -> Self {
        Self { full_scale: None, noise_floor: 2.0e-5, saturated_share: 0.02 }
    }
}

/// The sensor's flags for one window, `GOOD` when nothing is wrong.
///
/// * `NON_FINITE`: a sample is NaN or infinite (nothing else is judged then).
/// * `STUCK`: one value repeats for at least a quarter of the window (16 samples or more), or the window never changes.
/// * `DROPOUT`: exact zeros repeat for at least 1/64 of the window (16 samples or more) in a window that otherwise changes.
/// * `SATURATED`: an extreme holds at least `saturated_share` of the window, with a run of four samples or more there or four times as
///   many samples as at the next value (coarse steps alone have as many at the next), or any sample lies at 99.9 % of the full
///   scale or beyond.
/// * `NOISE_FLOOR`: the RMS without mean is below the floor.
pub fn assess(samples: &[f32], limits: &HealthLimits) -> Quality {
    if samples.is_empty() {
        return Quality::GOOD;
    }
    if !lanes::all_finite(samples) {
        return Quality::NON_FINITE;
    }
    let (low, high) = lanes::min_max(samples);
    if low == high {
        return Quality::STUCK;
    }
    let mut quality = Quality::GOOD;
    let runs = Runs::of(samples, low, high);
    let dropout = runs.zero >= 16.max(samples.len() / 64);
    if dropout {
        quality = quality | Quality::DROPOUT;
    }
    if runs.other >= 16.max(samples.len() / 4) {
        quality = quality | Quality::STUCK;
    }
    let many = limits.saturated_share * samples.len() as f32;
    let clipped = |run: usize, count: usize, extreme: f32| {
        count as f32 >= many && (run >= 4 || count >= 4 * at_next_value(samples, extreme))
    };
    let beyond = limits.full_scale.is_some_and(|full| f32::max(high, -low) >= 0.999 * full);
    let flat = clipped(runs.high, runs.at_high, high) || clipped(runs.low, runs.at_low, low);
    if beyond || flat && !dropout {
        quality = quality | Quality::SATURATED;
    }
    let mean = moment::mean(samples);
    let square = lanes::sum(samples, |x| (x - mean) * (x - mean)) / samples.len() as f32;
    if libm::sqrtf(square) < limits.noise_floor {
        quality = quality | Quality::NOISE_FLOOR;
    }
    quality
}

/// How many samples have the value that comes next to an extreme.
fn at_next_value(samples: &[f32], extreme: f32) -> usize {
    let distance = |x: &f32| (*x - extreme).abs();
    let nearest = samples.iter().map(distance).filter(|d| *d > 0.0).fold(f32::INFINITY, f32::min);
    samples.iter().map(distance).filter(|d| *d == nearest).count()
}

/// Longest runs of equal samples, and how often the extremes are met.
#[derive(Default)]
struct Runs {
    zero: usize,
    other: usize,
    low: usize,
    high: usize,
    at_low: usize,
    at_high: usize,
}

impl Runs {
    fn of(samples: &[f32], low: f32, high: f32) -> Self {
        let mut runs = Self::default();
        let (mut last, mut run) = (f32::NAN, 0);
        for &x in samples {
            run = if x == last { run + 1 } else { 1 };
            last = x;
            let longest = if x == 0.0 { &mut runs.zero } else { &mut runs.other };
            *longest = run.max(*longest);
            if x == low {
                runs.at_low += 1;
                runs.low = run.max(runs.low);
            }
            if x == high {
                runs.at_high += 1;
                runs.high = run.max(runs.high);
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn noise() -> Vec<f32> {
        let mut state = 1u32;
        (0..2048)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }

    #[test]
    fn coarse_steps_are_no_saturation() {
        let limits = HealthLimits::default();
        let coarse: Vec<f32> = noise().chunks(4).map(|x| libm::roundf(3.0 * x.iter().sum::<f32>())).collect();
        assert_eq!(assess(&coarse, &limits), Quality::GOOD);
        let sine: Vec<f32> = (0..2048).map(|i| libm::roundf(40.0 * libm::sinf(i as f32 * 0.7))).collect();
        assert_eq!(assess(&sine, &limits), Quality::GOOD);
    }

    #[test]
    fn each_fault_of_a_sensor_is_named_and_noise_is_good() {
        let limits = HealthLimits::default();
        let good = noise();
        assert_eq!(assess(&good, &limits), Quality::GOOD);
        let clipped: Vec<f32> = good.iter().map(|x| (4.0 * x).clamp(-1.0, 1.0)).collect();
        assert_eq!(assess(&clipped, &limits), Quality::SATURATED);
        let mut stuck = good.clone();
        stuck[1000..].fill(0.123);
        assert_eq!(assess(&stuck, &limits), Quality::STUCK);
        let mut dropped = good.clone();
        dropped[500..600].fill(0.0);
        assert_eq!(assess(&dropped, &limits), Quality::DROPOUT);
        let mut broken = good.clone();
        broken[7] = f32::INFINITY;
        assert_eq!(assess(&broken, &limits), Quality::NON_FINITE);
        let faint: Vec<f32> = good.iter().map(|x| x * 1e-6).collect();
        assert_eq!(assess(&faint, &limits), Quality::NOISE_FLOOR);
        assert_eq!(assess(&[0.5; 64], &limits), Quality::STUCK);
        let ranged = HealthLimits { full_scale: Some(0.4), ..limits };
        assert_eq!(assess(&good, &ranged), Quality::SATURATED);
    }
}
