//! How far recent windows are from those that a model was trained on, feature by feature.

use serde::Serialize;

use crate::Frame;

/// The figures of one feature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FeatureDrift {
    /// Its place in the row.
    pub feature: usize,
    /// How far the mean moved, in standard deviations of the reference.
    pub mean_shift: f32,
    /// The population stability index over ten bins of the reference; above 0.25 counts as a shift.
    pub psi: f32,
}

impl FeatureDrift {
    /// Has it moved, by both figures?
    pub fn moved(&self) -> bool {
        self.psi > MOVED_PSI && self.mean_shift.abs() > MOVED_SIGMA
    }
}

/// Compares `recent` with `reference`; features that are seldom valid, or constant in the reference, are left out.
pub fn drift(reference: &Frame, recent: &Frame, width: usize) -> Vec<FeatureDrift> {
    let column = |frame: &Frame, feature: usize| -> Vec<f32> {
        let rows = frame.values.chunks_exact(width.max(1)).zip(&frame.valid);
        rows.filter(|(_, valid)| feature < 64 && *valid >> feature & 1 == 1).map(|(row, _)| row[feature]).collect()
    };
    (0..width)
        .filter_map(|feature| {
            let (mut old, new) = (column(reference, feature), column(recent, feature));
            if old.len() < LEAST_ROWS || new.len() < LEAST_ROWS {
                return None;
            }
            let (mean, deviation) = moments(&old);
            if deviation <= f64::from(f32::EPSILON) * mean.abs().max(f64::MIN_POSITIVE) {
                return None;
            }
            old.sort_unstable_by(f32::total_cmp);
            let mean_shift = (moments(&new).0 - mean) / deviation;
            Some(FeatureDrift { feature, mean_shift: mean_shift as f32, psi: psi(&old, &new) as f32 })
        })
        .collect()
}

fn moments(values: &[f32]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / n;
    let variance = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

/// Bins at the reference's deciles; empty bins count as half a row.
fn psi(sorted: &[f32], new: &[f32]) -> f64 {
    let edges: Vec<f32> = (1..BINS).map(|bin| sorted[bin * sorted.len() / BINS]).collect();
    let shares = |values: &[f32]| {
        let mut counts = [0.0_f64; BINS];
        values.iter().for_each(|value| counts[edges.partition_point(|edge| edge <= value)] += 1.0);
        counts.map(|count| count.max(0.5) / values.len() as f64)
    };
    let (old, new) = (shares(sorted), shares(new));
    old.iter().zip(new).map(|(old, new)| (new - old) * (new / old).ln()).sum()
}

const BINS: usize = 10;
const LEAST_ROWS: usize = 20;
const MOVED_PSI: f32 = 0.25;
const MOVED_SIGMA: f32 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(values: impl Iterator<Item = f32>) -> Frame {
        let values: Vec<f32> = values.collect();
        Frame { valid: vec![1; values.len()], values, ..Frame::default() }
    }

    #[test]
    fn the_same_distribution_has_not_moved_and_a_shifted_one_has() {
        let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32;
        let reference = frame((0..400).map(noise));
        let same = drift(&reference, &frame((400..700).map(noise)), 1);
        assert!(!same[0].moved() && same[0].psi < 0.1 && same[0].mean_shift.abs() < 0.2, "{same:?}");
        let shifted = drift(&reference, &frame((400..700).map(|i| noise(i) + 1.0)), 1);
        assert!(shifted[0].moved() && shifted[0].mean_shift > 3.0, "{shifted:?}");
    }

    #[test]
    fn a_constant_or_seldom_valid_feature_has_no_figure() {
        let constant = frame(std::iter::repeat_n(3.0, 50));
        assert!(drift(&constant, &constant, 1).is_empty());
        let mut seldom = frame((0..50).map(|i| i as f32));
        seldom.valid[10..].fill(0);
        assert!(drift(&seldom, &seldom, 1).is_empty());
    }
}
