//! Which columns a model sees, decided by the rows that it may learn from alone.

use crate::{TrainError, dataset::Dataset};

/// Columns that are valid and alive, without those that say what an earlier one says.
pub(crate) fn choose_columns(dataset: &Dataset, order: &[usize], most: usize) -> Result<Vec<usize>, TrainError> {
    let rows = &dataset.healthy;
    let features = dataset.features.len();
    let standardised = |column: usize| {
        let (mean, scale) = moments_if_alive(dataset, order, column)?;
        let standard = |row: &usize| f64::from((rows.row(*row, features)[column] - mean) / scale).clamp(-8.0, 8.0);
        Some((column, order.iter().map(standard).collect()))
    };
    let alive: Vec<(usize, Vec<f64>)> = (0..features).filter_map(standardised).collect();
    let mut chosen: Vec<(usize, &Vec<f64>)> = Vec::new();
    for (column, values) in &alive {
        let told = chosen.iter().any(|(_, other)| correlation(values, other).abs() > TOO_ALIKE);
        if chosen.len() < most && !told {
            chosen.push((*column, values));
        }
    }
    match chosen.is_empty() {
        true => Err(TrainError::NoFeatures { percent: LEAST_VALID_PERCENT }),
        false => Ok(chosen.into_iter().map(|(column, _)| column).collect()),
    }
}

/// Is the column valid in nearly all of these rows, and does it move?
pub(crate) fn is_alive(dataset: &Dataset, order: &[usize], column: usize) -> bool {
    moments_if_alive(dataset, order, column).is_some()
}

fn moments_if_alive(dataset: &Dataset, order: &[usize], column: usize) -> Option<(f32, f32)> {
    let rows = &dataset.healthy;
    let used: Vec<usize> = order.iter().copied().filter(|row| rows.valid[*row] >> column & 1 == 1).collect();
    if used.len() * 100 < order.len() * usize::from(LEAST_VALID_PERCENT) {
        return None;
    }
    let (mean, scale) = trimmed_moments(&column_values(dataset, &used, column));
    (scale > 1e-6 * mean.abs().max(1e-6)).then_some((mean, scale))
}

/// The values of a column in these rows, sorted.
pub(crate) fn column_values(dataset: &Dataset, rows: &[usize], column: usize) -> Vec<f32> {
    let mut values: Vec<f32> =
        rows.iter().map(|row| dataset.healthy.row(*row, dataset.features.len())[column]).collect();
    values.sort_by(f32::total_cmp);
    values
}

/// Mean and standard deviation of sorted values without the outermost half percent on each side.
pub(crate) fn trimmed_moments(sorted: &[f32]) -> (f32, f32) {
    let trim = sorted.len() / 200;
    let kept = &sorted[trim..sorted.len() - trim];
    let count = kept.len().max(1) as f64;
    let mean = kept.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
    let variance = kept.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count;
    let floor = (1e-4 * mean.abs()).max(1e-12);
    let deviation = variance.sqrt();
    // Constant columns are told by their scale of 0; others get a floor so that no rounding becomes an alarm.
    (mean as f32, if deviation == 0.0 { 0.0 } else { deviation.max(floor) as f32 })
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let count = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / count, b.iter().sum::<f64>() / count);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        ab += (a - mean_a) * (b - mean_b);
        aa += (a - mean_a).powi(2);
        bb += (b - mean_b).powi(2);
    }
    ab / (aa * bb).sqrt().max(f64::MIN_POSITIVE)
}

const LEAST_VALID_PERCENT: u8 = 95;
const TOO_ALIKE: f64 = 0.995;
