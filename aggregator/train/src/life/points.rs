//! Operating points: a machine that works at a few distinct settings is normalised at each of them by itself.
//!
//! Settings make points only where they keep to a few tight places (six in C-MAPSS FD002 and FD004); where they merely tremble there is
//! one point. Everything is fitted on the rows given, which are training rows.

/// How a row is normalised.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Points {
    /// Columns by which the nearest point is found, each with its weight; none where there is one point.
    pub(crate) settings: Vec<(usize, f32)>,
    /// Per point a centroid over all columns.
    pub(crate) centroids: Vec<Vec<f32>>,
    /// Per point the mean of each column.
    pub(crate) means: Vec<Vec<f32>>,
    /// Per point 1 / scale of each column; nearly 0 where a column does not move.
    pub(crate) inverse_scales: Vec<Vec<f32>>,
}

impl Points {
    /// Rows of `width` values; `settings` are the columns that may tell points apart.
    pub(crate) fn fit(rows: &[f32], width: usize, settings: &[usize]) -> Self {
        let weights = setting_weights(rows, width, settings);
        let members = clusters(rows, width, &weights);
        let (mut centroids, mut means, mut inverse_scales) = (Vec::new(), Vec::new(), Vec::new());
        for rows_of in &members {
            let (mut mean_row, mut inverse_row) = (Vec::new(), Vec::new());
            for column in 0..width {
                let (mean, scale) = moments(rows_of.iter().map(|row| rows[row * width + column]));
                let still = scale <= 1e-5 * mean.abs().max(1e-6) || weights.iter().any(|(c, _)| *c == column);
                mean_row.push(mean as f32);
                // A setting says where the machine is, not how it is.
                inverse_row.push(if still && members.len() > 1 || scale <= 1e-9 {
                    STILL
                } else {
                    (1.0 / scale) as f32
                });
            }
            centroids.push(mean_row.clone());
            means.push(mean_row);
            inverse_scales.push(inverse_row);
        }
        let settings = if members.len() > 1 { weights } else { Vec::new() };
        Self { settings, centroids, means, inverse_scales }
    }

    /// The point of a row, as the kernel finds it: the first of the nearest.
    pub(crate) fn of(&self, row: &[f32]) -> usize {
        let distance = |centroid: &Vec<f32>| {
            let parts = self.settings.iter().map(|(column, weight)| {
                let step = row[*column] - centroid[*column];
                weight * step * step
            });
            parts.fold(0.0f32, |sum, part| sum + part)
        };
        let mut best = (0, f32::INFINITY);
        for (place, centroid) in self.centroids.iter().enumerate() {
            let found = distance(centroid);
            if found < best.1 {
                best = (place, found);
            }
        }
        best.0
    }

    /// A row as the head sees it.
    pub(crate) fn normalise(&self, row: &[f32], clip: f32) -> Vec<f32> {
        let point = self.of(row);
        let figures = self.means[point].iter().zip(&self.inverse_scales[point]);
        row.iter().zip(figures).map(|(x, (mean, inverse))| ((x - mean) * inverse).clamp(-clip, clip)).collect()
    }

    /// The same for some of the columns.
    pub(crate) fn only(&self, columns: &[usize]) -> Self {
        let pick = |rows: &[Vec<f32>]| rows.iter().map(|row| columns.iter().map(|c| row[*c]).collect()).collect();
        let place = |column: usize| columns.iter().position(|c| *c == column);
        Self {
            settings: self.settings.iter().filter_map(|(column, w)| Some((place(*column)?, *w))).collect(),
            centroids: pick(&self.centroids),
            means: pick(&self.means),
            inverse_scales: pick(&self.inverse_scales),
        }
    }
}

/// Each setting that moves, weighted by its range.
fn setting_weights(rows: &[f32], width: usize, settings: &[usize]) -> Vec<(usize, f32)> {
    let weight = |column: &usize| {
        let (low, high) = rows
            .chunks_exact(width)
            .fold((f32::MAX, f32::MIN), |(low, high), row| (low.min(row[*column]), high.max(row[*column])));
        let range = high - low;
        (range > 0.0).then(|| (*column, 1.0 / (range * range)))
    };
    settings.iter().filter_map(weight).collect()
}

/// Row numbers per point: tight and few, or all rows in one.
fn clusters(rows: &[f32], width: usize, weights: &[(usize, f32)]) -> Vec<Vec<usize>> {
    let count = rows.len() / width.max(1);
    let all = || vec![(0..count).collect()];
    let distance = |a: usize, b: usize| -> f32 {
        let step = |column: &usize| rows[a * width + column] - rows[b * width + column];
        weights.iter().map(|(column, weight)| weight * step(column).powi(2)).sum()
    };
    let mut members: Vec<Vec<usize>> = Vec::new();
    for row in 0..count {
        match members.iter().position(|of| distance(of[0], row) < REACH * REACH) {
            Some(place) => members[place].push(row),
            None if members.len() == MOST_POINTS => return all(),
            None => members.push(vec![row]),
        }
    }
    let tight = |of: &Vec<usize>| of.iter().all(|row| distance(of[0], *row) < TIGHT * TIGHT);
    let many = |of: &Vec<usize>| of.len() * LEAST_SHARE >= count;
    if members.len() > 1 && members.iter().all(|of| tight(of) && many(of)) { members } else { all() }
}

pub(crate) fn moments(values: impl Iterator<Item = f32> + Clone) -> (f64, f64) {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().map(f64::from).sum::<f64>() / count;
    let variance = values.map(|v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

const MOST_POINTS: usize = 8;
/// Settings nearer than this part of their range belong together …
const REACH: f32 = 0.1;
/// … and must lie within this part of it, otherwise they tremble rather than step.
const TIGHT: f32 = 0.03;
/// A point holds at least one in so many rows.
const LEAST_SHARE: usize = 100;
/// The inverse scale of a column that does not move.
const STILL: f32 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn settings_that_step_make_points_and_settings_that_tremble_make_one() {
        let mut random = Random::new(1, "points");
        let (mut steps, mut trembles) = (Vec::new(), Vec::new());
        for i in 0..600 {
            let point = [0.0, 20.0, 42.0][i % 3];
            let noise = random.symmetric();
            steps.extend([point + 0.005 * noise, point * 10.0 + random.symmetric()]);
            trembles.extend([0.005 * noise, random.symmetric()]);
        }
        let points = Points::fit(&steps, 2, &[0]);
        assert_eq!((points.centroids.len(), points.settings.len()), (3, 1));
        for row in steps.chunks_exact(2) {
            let normal = points.normalise(row, 6.0);
            // The setting itself says nothing once its point is known.
            assert!(normal[0].abs() < 1e-3 && normal[1].abs() < 2.0, "{normal:?}");
        }
        assert_eq!(Points::fit(&trembles, 2, &[0]).centroids.len(), 1);
    }
}
