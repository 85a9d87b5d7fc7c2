//! Does a channel still measure the axis that was learned? Gravity tells, where the sensor sees it.
//!
//! A sensor that measures down to 0 Hz (MEMS, servo) shows the share of gravity along its axis as its mean: ±1 g standing upright, 0
//! lying flat. That share belongs to the mounting and to nothing that the machine does, so a mean that has moved by half a g says that
//! another axis is measured: cables exchanged, or the sensor put back turned. Sensors that block 0 Hz (most piezoelectric ones) show
//! a mean near 0 on every axis, and two axes that both lie flat show the same one: of those nothing is said here.

/// Has gravity along a channel's axis changed from what was learned, by more than drift, shocks and a loose foot explain?
pub fn has_turned(learned_mean_g: f32, mean_g: f32) -> bool {
    let moved = (mean_g - learned_mean_g).abs();
    let gravity = f32::max(mean_g.abs(), learned_mean_g.abs());
    // Beyond the last bound the offset is electrical: no axis has two g of gravity.
    moved >= TURNED_G && (TURNED_G..=MOST_G).contains(&gravity)
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
}
