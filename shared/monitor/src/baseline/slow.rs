//! What is small but stays: distances averaged over many windows, beside the directions in which a healthy machine wanders.
//!
//! A load's swing moves all features together and is gone in a slow mean only after days; what breaks the pattern by a little
//! shows there long before any single window says so. So the slow mean is taken without its part along the learned directions,
//! and it has a tail of its own. It speaks once that tail is known.

use kilter_types::MAX_FEATURES;

use super::pattern::Pattern;

/// The slow mean after one window more; distances far out count as [`REACH`].
pub(super) fn follow(slow: &mut f32, distance: f32) {
    *slow += WEIGHT * (distance.clamp(-REACH, REACH) - *slow);
}

/// Its squared distance per feature beside the directions, scaled to unit variance, and the terms that sum to it.
pub(super) fn score(
    pattern: &Pattern,
    slow: &[f32],
    directions: &[f32],
    steps: u32,
    count: u32,
    terms: &mut [f32; MAX_FEATURES],
) -> f32 {
    let fade = libm::powf(1.0 - WEIGHT, 2.0 * steps.min(STEPS) as f32);
    let share = (2.0 - WEIGHT) / (WEIGHT * (1.0 - fade)) / count.max(1) as f32;
    pattern.beside(slow, directions, terms);
    let terms = &mut terms[..slow.len()];
    terms.iter_mut().for_each(|term| *term *= share);
    terms.iter().fold(0.0, |sum, term| sum + term)
}

/// A mean over about forty windows.
const WEIGHT: f32 = 0.05;
/// From so many windows on the mean is full.
const STEPS: u32 = 200;
const REACH: f32 = 4.0;
