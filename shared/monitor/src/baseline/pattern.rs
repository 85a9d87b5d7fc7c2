//! The few directions in which a healthy machine's features move together, found window by window.
//!
//! Candid covariance-free incremental principal components: each direction is a running mean of what the ones before it left of
//! the windows, weighted by how far they lay along it; no matrix is kept. Load, warmth and speed move most features at once; a
//! fault rarely moves them in just that way. With the directions `v_k`, their variances `λ_k` and the variance `r` per feature
//! of what they leave, the squared distance of `e` is T² along the directions plus Q beside them:
//! `Σ (v_k·e)²/λ_k + (|e|² - Σ (v_k·e)²)/r`, a Mahalanobis distance with a covariance of few parameters.

use kilter_types::MAX_FEATURES;
use serde::{Deserialize, Serialize};

/// How many directions a group of so many features keeps: fewer where few features could share them.
pub(crate) fn directions(features: usize) -> usize {
    (features / FEATURES_EACH).min(MOST)
}

/// The variances that go with a regime's directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pattern {
    /// Windows that taught the directions.
    count: u32,
    /// Mean squared length of these windows; once learned, what is left per feature.
    rest: f32,
    along: [f32; MOST],
}

impl Pattern {
    /// Takes in one window's distances; `directions` holds one row of features each.
    pub(super) fn learn(&mut self, distances: &mut [f32], directions: &mut [f32]) {
        let features = distances.len();
        self.count += 1;
        let weight = 1.0 / self.count as f32;
        self.rest += weight * (dot(distances, distances) - self.rest);
        for (number, direction) in directions.chunks_exact_mut(features).enumerate() {
            let length = libm::sqrtf(dot(direction, direction));
            if number + 1 >= self.count as usize || length <= SHORT {
                // The first window that reaches a direction is its beginning.
                direction.copy_from_slice(distances);
                return;
            }
            let along = dot(distances, direction) / length;
            for (direction, distance) in direction.iter_mut().zip(&*distances) {
                *direction += weight * (distance * along - *direction);
            }
            let square = dot(direction, direction).max(SHORT);
            let share = dot(distances, direction) / square;
            for (distance, direction) in distances.iter_mut().zip(&*direction) {
                *distance -= share * direction;
            }
        }
    }

    /// Makes the directions orthogonal and of length 1, and takes what is left per feature.
    pub(super) fn finish(&mut self, features: usize, directions: &mut [f32]) {
        let kept = directions.len() / features.max(1);
        let mut explained = 0.0;
        for number in 0..kept {
            let (before, rest) = directions.split_at_mut(number * features);
            let direction = &mut rest[..features];
            self.along[number] = libm::sqrtf(dot(direction, direction));
            for earlier in before.chunks_exact(features) {
                let share = dot(direction, earlier);
                for (value, earlier) in direction.iter_mut().zip(earlier) {
                    *value -= share * earlier;
                }
            }
            let length = libm::sqrtf(dot(direction, direction));
            let scale = if length > SHORT { 1.0 / length } else { 0.0 };
            direction.iter_mut().for_each(|value| *value *= scale);
            explained += self.along[number];
        }
        let left = (features - kept).max(1) as f32;
        self.rest = ((self.rest - explained) / left).max(LEAST_REST);
        self.along.iter_mut().for_each(|along| *along = along.max(self.rest));
    }

    /// The squared distance and its terms by feature, which sum to it; a term below 0 is given to the others.
    pub(super) fn terms(&self, distances: &[f32], directions: &[f32], terms: &mut [f32; MAX_FEATURES]) -> f32 {
        let features = distances.len();
        let terms = &mut terms[..features];
        for (term, distance) in terms.iter_mut().zip(distances) {
            *term = distance / self.rest;
        }
        for (direction, along) in directions.chunks_exact(features.max(1)).zip(self.along) {
            let share = dot(distances, direction) * (1.0 / self.rest - 1.0 / along);
            for (term, direction) in terms.iter_mut().zip(direction) {
                *term -= share * direction;
            }
        }
        let (mut total, mut positive) = (0.0, 0.0);
        for (term, distance) in terms.iter_mut().zip(distances) {
            *term *= distance;
            total += *term;
            *term = term.max(0.0);
            positive += *term;
        }
        let scale = if positive > 0.0 { total.max(0.0) / positive } else { 0.0 };
        terms.iter_mut().for_each(|term| *term *= scale);
        total.max(0.0)
    }

    /// After commissioning: turns the directions and follows their variances with this weight, by what the smoothed distances show.
    pub(super) fn go_on(&mut self, distances: &mut [f32], directions: &mut [f32], weight: f32) {
        let features = distances.len();
        let kept = directions.len() / features.max(1);
        for number in 0..kept {
            let (before, rest) = directions.split_at_mut(number * features);
            let direction = &mut rest[..features];
            let share = dot(distances, direction);
            let along = self.along[number];
            for (direction, distance) in direction.iter_mut().zip(&*distances) {
                *direction = *direction * along + weight * (distance * share - *direction * along);
            }
            for earlier in before.chunks_exact(features) {
                let share = dot(direction, earlier);
                direction.iter_mut().zip(earlier).for_each(|(value, earlier)| *value -= share * earlier);
            }
            let length = libm::sqrtf(dot(direction, direction));
            if length > SHORT {
                direction.iter_mut().for_each(|value| *value /= length);
            }
            self.along[number] = length.max(self.rest);
            let share = dot(distances, direction);
            distances.iter_mut().zip(&*direction).for_each(|(distance, direction)| *distance -= share * direction);
        }
        let left = (features - kept).max(1) as f32;
        self.rest = (self.rest + weight * (dot(distances, distances) / left - self.rest)).max(LEAST_REST);
    }

    /// Per feature the squared distance beside the directions alone.
    pub(super) fn beside(&self, distances: &[f32], directions: &[f32], terms: &mut [f32; MAX_FEATURES]) {
        let features = distances.len();
        let terms = &mut terms[..features];
        terms.copy_from_slice(distances);
        for direction in directions.chunks_exact(features.max(1)) {
            let share = dot(distances, direction);
            for (term, direction) in terms.iter_mut().zip(direction) {
                *term -= share * direction;
            }
        }
        terms.iter_mut().for_each(|term| *term *= *term / self.rest);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// The most directions.
const MOST: usize = 3;
/// A direction for so many features.
const FEATURES_EACH: usize = 6;
/// A direction shorter than this was not found yet.
const SHORT: f32 = 1e-6;
/// What is left per feature counts as at least this: where a machine is quieter than what counts as a change at all, the
/// pattern takes away from a distance and adds nothing.
const LEAST_REST: f32 = 1.0;
