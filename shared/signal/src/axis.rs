//! Does a channel still measure the axis that was learned, or the one that was declared? Gravity tells, where the sensor sees it.
//!
//! A sensor that measures down to 0 Hz (MEMS, servo) shows the share of gravity along its axis as its mean: ±1 g standing upright, 0
//! lying flat. That share belongs to the mounting and to nothing that the machine does, so a mean that has moved by half a g says that
//! another axis is measured: cables exchanged, or the sensor put back turned. Sensors that block 0 Hz (most piezoelectric ones) show
//! a mean near 0 on every axis, and two axes that both lie flat show the same one: of those nothing is said here.
//!
//! Of the declared axes only the level one can be contradicted: gravity has no part along it. An upright one without gravity may be a sensor
//! that blocks 0 Hz, and the shaft of an axial one may stand upright.

use kilter_types::Axis;

/// Has gravity along a channel's axis changed from what was learned, by more than drift, shocks and a loose foot explain?
pub fn has_turned(learned_mean_g: f32, mean_g: f32) -> bool {
    let moved = (mean_g - learned_mean_g).abs();
    let gravity = f32::max(mean_g.abs(), learned_mean_g.abs());
    moved >= TURNED_G && is_gravity(gravity)
}

/// Does the mean show gravity along an axis that was declared as level?
pub fn contradicts(declared: Axis, mean_g: f32) -> bool {
    match declared {
        Axis::RadialHorizontal => is_gravity(mean_g.abs()),
        Axis::RadialVertical | Axis::Radial | Axis::Axial => false,
    }
}

/// Beyond the upper bound the offset is electrical: no axis has two g of gravity.
fn is_gravity(mean_g: f32) -> bool {
    (TURNED_G..=MOST_G).contains(&mean_g)
}

/// A mean that moved so far is another axis: a tilt of 30 degrees out of the flat, or of 60 degrees out of the upright.
const TURNED_G: f32 = 0.5;
const MOST_G: f32 = 1.3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gravity_that_moved_is_told_and_drift_is_not() {
        for (learned, now) in [(1.0, 0.0), (0.0, 1.0), (0.98, -0.98), (0.02, -0.7)] {
            assert!(has_turned(learned, now), "{learned} {now}");
        }
        for (learned, now) in [(1.0, 0.8), (0.0, 0.3), (0.0, 0.0), (0.0, 4.0), (f32::NAN, 1.0)] {
            assert!(!has_turned(learned, now), "{learned} {now}");
        }
    }

    #[test]
    fn only_a_level_axis_is_contradicted_and_only_by_gravity() {
        for (mean, contradicted) in
            [(1.0, true), (-0.98, true), (0.7, true), (0.3, false), (4.0, false), (f32::NAN, false)]
        {
            assert_eq!(contradicts(Axis::RadialHorizontal, mean), contradicted, "{mean}");
            for axis in [Axis::RadialVertical, Axis::Radial, Axis::Axial] {
                assert!(!contradicts(axis, mean), "{axis:?} {mean}");
            }
        }
    }
}
