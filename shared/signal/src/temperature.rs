//! Temperature: how warm, how fast it climbs, and how far above its reference.
//!
//! Medians throughout, so that a single wild reading moves nothing. The slope is Theil-Sen's over block means, because all
//! pairs of a long window would cost its square.

use crate::{extract::VALUES, reading::Readings};

/// Places of the temperature features in their vector.
pub mod at {
    /// `temperature_level`
    pub const LEVEL: usize = 0;
    /// `temperature_slope`
    pub const SLOPE: usize = 1;
    /// `temperature_difference`
    pub const DIFFERENCE: usize = 2;
}

/// The temperature group's values and their valid mask; `reference` is the ambient's or a peer's channel.
pub fn features(readings: &Readings<'_>, reference: Option<&Readings<'_>>, values: &mut [f32; VALUES]) -> u64 {
    values.fill(0.0);
    let level = median(readings);
    let reference = reference.and_then(median);
    let difference = level.zip(reference).map(|(level, reference)| level - reference);
    let mut valid = 0;
    for (place, value) in [(at::LEVEL, level), (at::SLOPE, slope(readings)), (at::DIFFERENCE, difference)] {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            values[place] = value;
            valid |= 1 << place;
        }
    }
    valid
}

/// Median of the block means (the upper one of an even number).
fn median(readings: &Readings<'_>) -> Option<f32> {
    let (blocks, count) = blocks(readings);
    let mut levels = blocks.map(|b| b.1);
    middle(&mut levels[..count])
}

/// Theil-Sen slope per hour; `None` of fewer than two blocks at different times.
fn slope(readings: &Readings<'_>) -> Option<f32> {
    let (blocks, count) = blocks(readings);
    let mut slopes = [0.0f32; BLOCKS * (BLOCKS - 1) / 2];
    let mut pairs = 0;
    for (i, (t0, x0)) in blocks[..count].iter().enumerate() {
        for (t1, x1) in &blocks[i + 1..count] {
            if t1 > t0 {
                slopes[pairs] = (x1 - x0) / (t1 - t0);
                pairs += 1;
            }
        }
    }
    middle(&mut slopes[..pairs])
}

/// Means of time and value over at most [`BLOCKS`] runs of equally many readings.
fn blocks(readings: &Readings<'_>) -> ([(f32, f32); BLOCKS], usize) {
    let total = readings.present().count();
    let per_block = total.div_ceil(BLOCKS).max(1);
    let mut blocks = [(0.0f32, 0.0f32); BLOCKS];
    for (i, (t, x)) in readings.present().enumerate() {
        let block = &mut blocks[i / per_block];
        let weight = 1.0 / (i % per_block + 1) as f32;
        block.0 += (t - block.0) * weight;
        block.1 += (x - block.1) * weight;
    }
    (blocks, total.div_ceil(per_block))
}

fn middle(values: &mut [f32]) -> Option<f32> {
    if values.is_empty() {
        return None;
    }
    let (_, middle, _) = values.select_nth_unstable_by(values.len() / 2, f32::total_cmp);
    Some(*middle)
}

/// The most block means.
const BLOCKS: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_types::Micros;
    use std::vec::Vec;

    #[test]
    fn one_wild_reading_moves_neither_level_nor_slope() {
        let times: Vec<Micros> = (0..20).map(|i| Micros(i * 360_000_000)).collect();
        let mut warm: Vec<f32> = (0..20).map(|i| 40.0 + 0.5 * i as f32).collect();
        warm[7] = 400.0;
        let ambient = [22.0; 20];
        let mut out = [0.0; VALUES];
        let valid = features(
            &Readings { times: &times, values: &warm },
            Some(&Readings { times: &times, values: &ambient }),
            &mut out,
        );
        assert_eq!(valid, 0b111);
        // 0.5 K every 6 minutes; the upper median of 20 levels with one of them wild is the 12th reading's.
        assert!((out[at::SLOPE] - 5.0).abs() < 1e-3, "{}", out[at::SLOPE]);
        assert!((out[at::LEVEL] - 45.5).abs() <= 0.5, "{}", out[at::LEVEL]);
        assert_eq!(out[at::DIFFERENCE], out[at::LEVEL] - 22.0);
    }

    #[test]
    fn without_reference_or_readings_the_bits_are_clear() {
        let mut out = [0.0; VALUES];
        let none = Readings { times: &[], values: &[] };
        assert_eq!(features(&none, None, &mut out), 0);
        let one = Readings { times: &[Micros(0)], values: &[30.0] };
        assert_eq!(features(&one, None, &mut out), 1);
    }
}
