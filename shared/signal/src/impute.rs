//! Missing samples of an evenly sampled channel: which are filled, how, and which are not.
//!
//! The policy: a run of at most [`LONGEST_RUN`] missing samples between two that are there is filled by the straight line between
//! them, as long as all filled ones are at most one in [`ONE_IN`] of the window. The window is then marked `IMPUTED`. Longer runs,
//! more of them, and runs at an end of the window are left missing, and the window is `NON_FINITE`: a line through a long hole
//! invents a quiet machine. Slow readings need no filling: their statistics use the readings' own times.

use kilter_types::Quality;

/// The longest run that is filled.
pub const LONGEST_RUN: usize = 8;
/// One sample in so many may be filled.
pub const ONE_IN: usize = 100;

/// Fills what the policy allows; says `GOOD`, `IMPUTED` or `NON_FINITE`. Where it says `NON_FINITE`, no sample is changed.
pub fn fill(samples: &mut [f32]) -> Quality {
    let mut missing = 0;
    let mut longest = 0;
    let mut run = 0;
    for x in &*samples {
        run = if x.is_finite() { 0 } else { run + 1 };
        missing += usize::from(run > 0);
        longest = run.max(longest);
    }
    if missing == 0 {
        return Quality::GOOD;
    }
    let ends = [samples.first(), samples.last()].into_iter().flatten().all(|x| x.is_finite());
    if !ends || longest > LONGEST_RUN || missing * ONE_IN > samples.len() {
        return Quality::NON_FINITE;
    }
    let mut last = 0;
    for place in 1..samples.len() {
        if !samples[place].is_finite() {
            continue;
        }
        let steps = place - last;
        let (from, to) = (samples[last], samples[place]);
        for step in 1..steps {
            samples[last + step] = from + (to - from) * (step as f32 / steps as f32);
        }
        last = place;
    }
    Quality::IMPUTED
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn ramp() -> Vec<f32> {
        (0..1000).map(|i| i as f32).collect()
    }

    #[test]
    fn a_short_hole_is_filled_straight_and_marked() {
        let mut samples = ramp();
        samples[500..508].fill(f32::NAN);
        samples[700] = f32::INFINITY;
        assert_eq!(fill(&mut samples), Quality::IMPUTED);
        assert_eq!(samples, ramp());
        assert_eq!(fill(&mut samples), Quality::GOOD);
    }

    #[test]
    fn long_many_or_outer_holes_stay_holes() {
        for hole in [500..509, 0..1, 999..1000] {
            let mut samples = ramp();
            samples[hole.clone()].fill(f32::NAN);
            assert_eq!(fill(&mut samples), Quality::NON_FINITE, "{hole:?}");
            assert_eq!(samples.iter().filter(|x| x.is_nan()).count(), hole.len());
        }
        let mut samples = ramp();
        (0..11).for_each(|i| samples[50 + 80 * i] = f32::NAN);
        assert_eq!(fill(&mut samples), Quality::NON_FINITE);
    }
}
