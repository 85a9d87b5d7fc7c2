//! How features are compared: which as logarithms, from which change on, which not at all; and the tail of a score.

use kilter_signal::{table::at, temperature};
use kilter_types::GroupKind;

/// A feature as the baseline compares it.
pub(super) fn scale(kind: GroupKind, place: usize, value: f32) -> f32 {
    let logarithmic = match kind {
        GroupKind::Vibration => !matches!(place, at::MEAN | at::SKEWNESS),
        // Of the six statistics per channel, the standard deviation.
        GroupKind::Reading => place % 6 == 1,
        GroupKind::Temperature | GroupKind::Cycle => false,
    };
    if logarithmic { libm::logf(value.max(LEAST_SIZE)) } else { value }
}

/// The spread from a variance, not below what counts as a change at all.
pub(super) fn spread(kind: GroupKind, place: usize, location: f32, variance: f32) -> f32 {
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
pub(super) fn counted(kind: GroupKind, features: usize) -> u64 {
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
pub(super) fn wilson_hilferty(mean: f32, variance: f32) -> f32 {
    let spread = variance / (9.0 * mean * mean).max(f32::MIN_POSITIVE);
    let root = 1.0 - spread + SIGMAS * libm::sqrtf(spread);
    mean * root * root * root
}

const SIGMAS: f32 = 5.0;
/// Smallest size whose logarithm is taken.
const LEAST_SIZE: f32 = 1e-9;
