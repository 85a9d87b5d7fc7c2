//! Missing samples of an evenly sampled channel: which are filled, how, and which are not.
//!
//! The policy, the same in the monitor and in `analyze`: a hole of at most [`LONGEST_HOLE`] missing samples between two that are
//! there is filled by the straight line between them, as long as a window has at most [`MOST_HOLES`] holes and at most one sample in
//! [`ONE_IN`] is missing. The window is then marked `IMPUTED`. Longer holes, more of them, and holes at an end of the window are left
//! missing, and the window is `NON_FINITE`: a line through a long hole invents a quiet machine. Slow readings need no filling: their
//! statistics use the readings' own times.

use kilter_types::Quality;

use crate::lanes;

/// The longest hole that is filled, in samples.
pub const LONGEST_HOLE: usize = 8;
/// The most holes that are filled in one window.
pub const MOST_HOLES: usize = 8;
/// One sample in so many may be filled.
pub const ONE_IN: usize = 100;

/// What was filled.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    quality: Quality,
    holes: heapless::Vec<Hole, MOST_HOLES>,
}

/// Missing samples in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Hole {
    start: u32,
    len: u32,
}

impl Hole {
    fn end(&self) -> usize {
        (self.start + self.len) as usize
    }
}

impl Filled {
    /// `GOOD` where nothing was missing, `IMPUTED` where all of it was filled, `NON_FINITE` where nothing was.
    pub fn quality(&self) -> Quality {
        self.quality
    }

    /// How many samples were filled.
    pub fn count(&self) -> usize {
        self.holes.iter().map(|hole| hole.len as usize).sum()
    }

    /// Takes the filled samples out of the same window again (as NaN), for who shares them with another window.
    pub fn undo(&self, samples: &mut [f32]) {
        for hole in &self.holes {
            samples[hole.start as usize..hole.end()].fill(f32::NAN);
        }
    }
}

/// Fills what the policy allows: all that is missing, or nothing.
pub fn fill(samples: &mut [f32]) -> Filled {
    let mut filled = Filled { quality: Quality::GOOD, holes: heapless::Vec::new() };
    if lanes::all_finite(samples) {
        return filled;
    }
    filled.quality = Quality::NON_FINITE;
    let Some(holes) = holes(samples) else { return filled };
    for hole in &holes {
        let (from, to) = (samples[hole.start as usize - 1], samples[hole.end()]);
        let steps = (hole.len + 1) as f32;
        for (step, x) in samples[hole.start as usize..hole.end()].iter_mut().enumerate() {
            *x = from + (to - from) * ((step + 1) as f32 / steps);
        }
    }
    Filled { quality: Quality::IMPUTED, holes }
}

/// Every hole; `None` where the policy leaves them.
fn holes(samples: &[f32]) -> Option<heapless::Vec<Hole, MOST_HOLES>> {
    let mut holes = heapless::Vec::<Hole, MOST_HOLES>::new();
    let mut missing = 0;
    for place in (0..samples.len()).filter(|place| !samples[*place].is_finite()) {
        missing += 1;
        match holes.last_mut() {
            Some(hole) if hole.end() == place => hole.len += 1,
            _ => holes.push(Hole { start: place as u32, len: 1 }).ok()?,
        }
    }
    let inside = |hole: &Hole| hole.start > 0 && hole.end() < samples.len() && hole.len as usize <= LONGEST_HOLE;
    (missing * ONE_IN <= samples.len() && holes.iter().all(inside)).then_some(holes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn ramp() -> Vec<f32> {
        (0..1000).map(|i| i as f32).collect()
    }

    #[test]
    fn a_short_hole_is_filled_straight_and_marked_and_can_be_taken_out_again() {
        let mut samples = ramp();
        samples[500..508].fill(f32::NAN);
        samples[700] = f32::INFINITY;
        let filled = fill(&mut samples);
        assert_eq!((filled.quality(), filled.count()), (Quality::IMPUTED, 9));
        assert_eq!(samples, ramp());
        assert_eq!(fill(&mut samples).quality(), Quality::GOOD);
        filled.undo(&mut samples);
        let missing: Vec<usize> = (0..1000).filter(|i| samples[*i].is_nan()).collect();
        assert_eq!(missing, (500..508).chain([700]).collect::<Vec<_>>());
    }

    #[test]
    fn long_many_or_outer_holes_stay_holes() {
        for hole in [500..509, 0..1, 999..1000] {
            let mut samples = ramp();
            samples[hole.clone()].fill(f32::NAN);
            assert_eq!(fill(&mut samples).quality(), Quality::NON_FINITE, "{hole:?}");
            assert_eq!(samples.iter().filter(|x| x.is_nan()).count(), hole.len());
        }
        for (count, len) in [(9, 1), (2, 6)] {
            let mut samples = ramp();
            (0..count).for_each(|i| samples[50 + 80 * i..][..len].fill(f32::NAN));
            let filled = fill(&mut samples);
            assert_eq!((filled.quality(), filled.count()), (Quality::NON_FINITE, 0), "{count} of {len}");
        }
    }
}
