//! Does a channel measure the axis that it is said to? Gravity tells, where the sensor sees it.
//!
//! A sensor that measures down to 0 Hz (MEMS, servo) shows the share of gravity along its axis as its mean: ±1 g standing upright, 0
//! lying flat. That share belongs to the mounting and to nothing that the machine does, so a mean that has moved by half a g says that
//! another axis is measured: cables exchanged, or the sensor put back turned. Sensors that block 0 Hz (most piezoelectric ones) show
//! a mean near 0 on every axis, and two axes that both lie flat show the same one: of those nothing is said here.

/// What a channel's name declares about its axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Upright.
    Vertical,
    /// Lying flat, across the shaft or along a shaft that lies.
    Flat,
}

impl Declared {
    /// From one of the words `vertical`, `horizontal`, `axial` in a channel's name; `None` where it has none of them.
    pub fn read(name: &str) -> Option<Self> {
        let has =
            |word: &str| name.split(|c: char| !c.is_ascii_alphabetic()).any(|part| part.eq_ignore_ascii_case(word));
        match (has("vertical"), has("horizontal") || has("axial")) {
            (true, false) => Some(Self::Vertical),
            (false, true) => Some(Self::Flat),
            (true, true) | (false, false) => None,
        }
    }
}

/// Has gravity along a channel's axis changed from what was learned, by more than drift, shocks and a loose foot explain?
pub fn has_turned(learned_mean_g: f32, mean_g: f32) -> bool {
    let moved = (mean_g - learned_mean_g).abs();
    let gravity = f32::max(mean_g.abs(), learned_mean_g.abs());
    // Beyond the last bound the offset is electrical: no axis has two g of gravity.
    moved >= TURNED_G && (TURNED_G..=MOST_G).contains(&gravity)
}

/// Of the channels of one sensor, each with its mean in g: are this one and another one exchanged?
///
/// An upright channel that sees no gravity while a flat one sees all of it, and the other way round.
pub fn is_swapped(channel: (Declared, f32), others: impl Iterator<Item = (Declared, f32)>) -> bool {
    let upright = |(declared, mean_g): (Declared, f32)| declared == Declared::Vertical && mean_g.abs() <= FLAT_G;
    let flat = |(declared, mean_g): (Declared, f32)| {
        declared == Declared::Flat && (UPRIGHT_G..=MOST_G).contains(&mean_g.abs())
    };
    let mut others = others;
    upright(channel) && others.any(flat) || flat(channel) && others.any(upright)
}

/// A mean that moved so far is another axis: a tilt of 30 degrees out of the flat, or of 60 degrees out of the upright.
const TURNED_G: f32 = 0.5;
const MOST_G: f32 = 1.3;
/// What an upright axis has at least, and a flat one at most.
const UPRIGHT_G: f32 = 0.8;
const FLAT_G: f32 = 0.3;

#[cfg(test)]
mod tests {
    use super::*;
    use Declared::{Flat, Vertical};

    #[test]
    fn a_name_declares_an_axis_only_by_a_word_of_its_own() {
        for (name, declared) in [
            ("vertical", Some(Vertical)),
            ("drive-end Vertical", Some(Vertical)),
            ("de_horizontal_g", Some(Flat)),
            ("axial", Some(Flat)),
            ("verticalish", None),
            ("x", None),
            ("vertical-horizontal", None),
        ] {
            assert_eq!(Declared::read(name), declared, "{name}");
        }
    }

    #[test]
    fn exchanged_axes_are_told_and_what_gravity_does_not_tell_is_not() {
        let told = |means: [f32; 3]| {
            let channels = [(Flat, means[0]), (Vertical, means[1]), (Flat, means[2])];
            core::array::from_fn(|i| is_swapped(channels[i], (0..3).filter(|j| *j != i).map(|j| channels[j])))
        };
        assert_eq!(told([1.0, 0.02, -0.01]), [true, true, false]);
        assert_eq!(told([0.05, -0.1, -0.97]), [false, true, true]);
        for healthy in [[0.0, 1.0, 0.0], [0.1, -0.98, 0.1], [0.0, 0.0, 0.0], [0.6, 0.6, 0.5], [5.0, 0.0, 0.0]] {
            assert_eq!(told(healthy), [false; 3], "{healthy:?}");
        }
    }

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
