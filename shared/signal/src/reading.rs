//! Statistics of slow readings: whatever comes one value at a time, with gaps.

use kilter_types::Micros;

use crate::{
    extract::VALUES,
    lanes,
    table::{MAX_READING_CHANNELS, READING},
};

/// The readings of one channel within a window: equally many times and values.
#[derive(Clone, Copy, Debug)]
pub struct Readings<'a> {
    /// When each value was read, in order.
    pub times: &'a [Micros],
    /// The values; one that is not finite is missing.
    pub values: &'a [f32],
}

impl Readings<'_> {
    /// The values that are there, with their distance from the first time in hours.
    pub(crate) fn present(&self) -> impl Iterator<Item = (f32, f32)> + '_ {
        let start = self.times.first().map_or(0, |t| t.0);
        let times = self.times.iter().map(move |t| hours(t.0.saturating_sub(start)));
        times.zip(self.values.iter().copied()).filter(|(_, value)| value.is_finite())
    }
}

/// The reading group's values (schema of [`crate::table::Schema::of`]) and their valid mask; a channel without readings is invalid.
///
/// Channels beyond [`MAX_READING_CHANNELS`] are ignored.
pub fn features(channels: &[Readings<'_>], values: &mut [f32; VALUES]) -> u64 {
    values.fill(0.0);
    let mut valid = 0;
    for (c, channel) in channels.iter().take(MAX_READING_CHANNELS).enumerate() {
        for (s, value) in statistics(channel).into_iter().enumerate() {
            let place = c * READING.len() + s;
            if let Some(value) = value.filter(|v| v.is_finite()) {
                values[place] = value;
                valid |= 1 << place;
            }
        }
    }
    valid
}

/// A cycle row as it came: values that are not finite are invalid, those beyond 64 are ignored.
pub fn cycle(row: &[f32], values: &mut [f32; VALUES]) -> u64 {
    values.fill(0.0);
    let mut valid = 0;
    for (i, (to, from)) in values.iter_mut().zip(row).enumerate() {
        if from.is_finite() {
            *to = *from;
            valid |= 1 << i;
        }
    }
    valid
}

/// Mean, standard deviation, min, max, slope per hour and last, in the table's order.
fn statistics(readings: &Readings<'_>) -> [Option<f32>; 6] {
    let mut count = 0usize;
    let (mut low, mut high, mut last) = (f32::INFINITY, f32::NEG_INFINITY, 0.0);
    let (mut value_mean, mut time_mean) = (0.0f32, 0.0f32);
    for (t, x) in readings.present() {
        count += 1;
        (low, high, last) = (f32::min(low, x), f32::max(high, x), x);
        let weight = 1.0 / count as f32;
        value_mean += (x - value_mean) * weight;
        time_mean += (t - time_mean) * weight;
    }
    if count == 0 {
        return [None; 6];
    }
    let mut sums = [[0.0f32; lanes::LANES]; 3];
    for (i, (t, x)) in readings.present().enumerate() {
        let (dt, dx) = (t - time_mean, x - value_mean);
        let lane = i % lanes::LANES;
        sums[0][lane] += dx * dx;
        sums[1][lane] += dt * dx;
        sums[2][lane] += dt * dt;
    }
    let [xx, tx, tt] = sums.map(lanes::reduce);
    let deviation = libm::sqrtf(xx / count as f32);
    let slope = (tt > 0.0).then(|| tx / tt);
    [Some(value_mean), Some(deviation), Some(low), Some(high), slope, Some(last)]
}

fn hours(micros: i64) -> f32 {
    (micros as f64 / 3.6e9) as f32
}

const _: () = assert!(READING.len() == 6, "statistics and table agree");

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn statistics_skip_what_is_missing_and_use_the_readings_own_times() {
        // One reading a minute with a hole; 6 per hour steep.
        let times: Vec<Micros> = [0, 1, 2, 10, 11].map(|m| Micros(m * 60_000_000)).into();
        let values = [20.0, 20.1, f32::NAN, 21.0, 21.1];
        let mut out = [0.0; VALUES];
        let valid = features(&[Readings { times: &times, values: &values }], &mut out);
        assert_eq!(valid, 0b11_1111);
        let expected = [20.55, 0.5025, 20.0, 21.1, 6.0, 21.1];
        for (got, expected) in out.iter().zip(expected) {
            // f32 hours resolve a second to 1e-7; the figures are given to four digits.
            assert!((got - expected).abs() < 2e-3, "{got} for {expected}");
        }
    }

    #[test]
    fn a_channel_without_readings_and_a_missing_column_are_invalid() {
        let mut out = [0.0; VALUES];
        let none = Readings { times: &[], values: &[] };
        let one = Readings { times: &[Micros(5)], values: &[3.0] };
        assert_eq!(features(&[none, one], &mut out), 0b10_1111 << 6);
        assert_eq!(cycle(&[1.0, f32::NAN, 3.0], &mut out), 0b101);
        assert_eq!(out[..4], [1.0, 0.0, 3.0, 0.0]);
    }
}
