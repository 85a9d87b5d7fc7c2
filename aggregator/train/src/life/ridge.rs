//! A linear head by least squares with a penalty: what a network has to beat.

use crate::dense::{Examples, Layers};

/// Weights and bias as one layer, in closed form.
pub(crate) fn ridge(examples: &Examples<'_>, penalty: f64) -> Layers {
    let width = examples.width;
    let size = width + 1;
    let count = examples.wanted.len().max(1) as f64;
    let mut matrix = vec![0.0f64; size * size];
    let mut right = vec![0.0f64; size];
    let mut row_of = vec![1.0f64; size];
    for (row, wanted) in examples.rows.chunks_exact(width.max(1)).zip(examples.wanted) {
        row_of.iter_mut().zip(row).for_each(|(to, from)| *to = f64::from(*from));
        for i in 0..size {
            right[i] += row_of[i] * f64::from(*wanted);
            for j in 0..=i {
                matrix[i * size + j] += row_of[i] * row_of[j];
            }
        }
    }
    for i in 0..size {
        matrix[i * size + i] += if i < width { penalty * count } else { 1e-9 * count };
    }
    let solved = solve(&mut matrix, right, size);
    let weights = solved[..width].iter().map(|w| *w as f32).collect();
    vec![weights, vec![solved[width] as f32]]
}

/// Solves `A x = b` for a symmetric positive matrix given by its lower half, by Cholesky's factors.
fn solve(matrix: &mut [f64], mut right: Vec<f64>, size: usize) -> Vec<f64> {
    for i in 0..size {
        for j in 0..=i {
            let mut sum = matrix[i * size + j];
            for k in 0..j {
                sum -= matrix[i * size + k] * matrix[j * size + k];
            }
            // A direction without weight gets nothing.
            matrix[i * size + j] = if i == j { sum.max(1e-30).sqrt() } else { sum / matrix[j * size + j] };
        }
    }
    for i in 0..size {
        let sum: f64 = (0..i).map(|k| matrix[i * size + k] * right[k]).sum();
        right[i] = (right[i] - sum) / matrix[i * size + i];
    }
    for i in (0..size).rev() {
        let sum: f64 = (i + 1..size).map(|k| matrix[k * size + i] * right[k]).sum();
        right[i] = (right[i] - sum) / matrix[i * size + i];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_plane_is_found_again_and_a_large_penalty_leaves_the_mean() {
        let mut random = Random::new(3, "plane");
        let rows: Vec<f32> = (0..600).map(|_| random.symmetric()).collect();
        let wanted: Vec<f32> = rows.chunks_exact(3).map(|x| 2.0 * x[0] - x[1] + 0.5 * x[2] + 4.0).collect();
        let examples = Examples { width: 3, rows: &rows, wanted: &wanted };
        let found = ridge(&examples, 1e-9);
        for (found, expected) in found.concat().iter().zip([2.0, -1.0, 0.5, 4.0]) {
            assert!((found - expected).abs() < 1e-3, "{found} for {expected}");
        }
        let mean = wanted.iter().sum::<f32>() / 200.0;
        let found = ridge(&examples, 1e6);
        assert!(found[0].iter().all(|w| w.abs() < 1e-3) && (found[1][0] - mean).abs() < 1e-2);
    }
}
