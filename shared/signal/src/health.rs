//! Is the sensor itself well? Flags per window of samples, before anything is read from them.
//!
//! A broken sensor must not become a healthy or a faulty machine, so these flags travel with the window's features. Each has a
//! name ([`Quality::names`]) and a reason ([`reasons`]). What one channel's samples cannot tell stands elsewhere: another axis than
//! was learned in [`crate::axis`], a rate that contradicts the blocks' times in the monitor, one that contradicts the shaft in
//! [`crate::speed`].

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
/// * `WRONG_RATE`: every value comes more than once and as often as any other: the sensor is read faster than it measures, so its own
///   rate is the declared one divided by [`repeats`].
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
    if repeats(samples).is_some() {
        quality = quality | Quality::WRONG_RATE;
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

/// How often each value comes before the next one, where a reader polls a slower sensor: 2 where each comes twice (or four times, where
/// two in a row are equal), 2.5 where by turns twice and three times. `None` where values come once, or as often as chance has it:
/// coarse steps repeat now and then, but in runs of any length.
pub fn repeats(samples: &[f32]) -> Option<f32> {
    let (mut runs, mut held, mut shortest, mut longest) = (0u32, 0u32, u32::MAX, 0u32);
    let (mut run, mut is_first, mut divisor) = (0, true, 0);
    for pair in samples.windows(2) {
        run += 1;
        if pair[0] == pair[1] {
            continue;
        }
        // The first run may have begun before the window, so it does not count; nor does the last.
        if !is_first {
            (runs, held) = (runs + 1, held + run);
            (shortest, longest) = (shortest.min(run), longest.max(run));
            divisor = greatest_common_divisor(divisor, run);
        }
        (run, is_first) = (0, false);
        let uneven = longest > shortest.saturating_add(1);
        let once = runs >= ENOUGH_RUNS && (held as f32) < LEAST_REPEATS * runs as f32;
        if divisor == 1 && (uneven || once) {
            return None;
        }
    }
    let mean = held as f32 / runs.max(1) as f32;
    let repeats = if divisor > 1 { divisor as f32 } else { mean };
    let usual = (LEAST_REPEATS..=MOST_REPEATS).contains(&repeats) && mean <= MOST_EQUAL * repeats;
    (runs >= LEAST_RUNS && usual).then_some(repeats)
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Each flag of the sensor's own that is set, by name and with what it means.
pub fn reasons(quality: Quality) -> impl Iterator<Item = (&'static str, &'static str)> {
    REASONS
        .into_iter()
        .filter(move |(flag, _)| quality.contains(*flag))
        .filter_map(|(flag, reason)| Some((flag.names().next()?, reason)))
}

const REASONS: [(Quality, &str); 10] = [
    (Quality::NON_FINITE, "samples are missing, more than may be filled in"),
    (Quality::STUCK, "one value repeats for a quarter of the window or longer"),
    (Quality::SATURATED, "the signal is cut off at a limit of the sensor"),
    (Quality::DROPOUT, "the signal falls to exact zeros and comes back"),
    (Quality::NOISE_FLOOR, "there is less noise than any live sensor has"),
    (Quality::WRONG_RATE, "the samples do not come at the declared rate"),
    (Quality::SWAPPED_AXIS, "gravity lies along another axis than was learned or declared"),
    (Quality::IMPUTED, "a few missing samples were filled in straight"),
    (Quality::OUT_OF_RANGE, "a value lies outside the range that the channel declares"),
    (Quality::BAD_PULSES, "the tacho's pulses are none that a shaft can give"),
];

/// The fewest runs that show how often values come.
const LEAST_RUNS: u32 = 16;
/// So many runs show that values come once.
const ENOUGH_RUNS: u32 = 64;
/// From here on the sensor is slower than declared. Coarse steps that repeat one value in five make runs of three among 64 or more.
const LEAST_REPEATS: f32 = 1.25;
const MOST_REPEATS: f32 = 8.0;
/// Where more measured values in a row are equal than this, the signal hardly moves and shows nothing.
const MOST_EQUAL: f32 = 3.0;

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

    #[test]
    fn a_sensor_read_faster_than_it_measures_is_named_and_coarse_steps_are_not() {
        let limits = HealthLimits::default();
        let slow = noise();
        for (part, repeats_expected) in [(2.0f32, 2.0f32), (1.5, 1.5), (3.0, 3.0), (2.56, 2.56)] {
            let held: Vec<f32> = (0..2048).map(|i| slow[(i as f32 / part) as usize]).collect();
            assert_eq!(assess(&held, &limits), Quality::WRONG_RATE, "{part}");
            assert!((repeats(&held).expect("held") / repeats_expected - 1.0).abs() < 0.02, "{part}");
        }
        for steps in [2.0f32, 5.0, 20.0, 100.0] {
            let coarse: Vec<f32> = slow.iter().map(|x| libm::roundf(steps * x)).collect();
            assert_eq!(repeats(&coarse), None, "{steps}");
            let tone: Vec<f32> = (0..2048).map(|i| libm::roundf(steps * libm::sinf(i as f32 * 0.07))).collect();
            assert_eq!(repeats(&tone), None, "{steps}");
        }
        assert_eq!(repeats(&[1.0; 100]), None);
    }

    #[test]
    fn every_flag_of_a_sensor_has_a_reason() {
        let all = Quality(u16::MAX);
        let named: Vec<_> = reasons(all).map(|(name, _)| name).collect();
        assert_eq!(
            named,
            [
                "non_finite",
                "stuck",
                "saturated",
                "dropout",
                "noise_floor",
                "wrong_rate",
                "swapped_axis",
                "imputed",
                "out_of_range",
                "bad_pulses"
            ]
        );
        assert_eq!(reasons(Quality::GOOD).count(), 0);
    }
}
