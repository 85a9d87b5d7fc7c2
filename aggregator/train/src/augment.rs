//! Augmentation: training windows are changed a little each time they are drawn, so that a network does not learn them by heart.
//!
//! Three changes that a healthy machine makes by itself: its features tremble, its windows begin a little earlier, and it works a
//! little harder or less. Only windows that train pass here; what stops, calibrates, tests or judges stays as it was measured.

use std::borrow::Cow;

use crate::random::Random;

/// How much a training window is changed; by default not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augmentation {
    /// Standard deviation of what is added to each value, in healthy scales, 0 to 1.
    pub noise: f32,
    /// The most that a window is moved back in time, in rows, 0 to 1; values between rows are interpolated.
    pub shift: f32,
    /// The most that all deviations from the healthy mean grow or shrink, as a share, 0 to 1.
    pub load: f32,
}

impl Augmentation {
    pub(crate) fn is_sensible(&self) -> bool {
        [self.noise, self.shift, self.load].iter().all(|amount| (0.0..=1.0).contains(amount))
    }

    /// A window of normalised rows, changed.
    pub(crate) fn apply<'w>(&self, window: &'w [f32], inputs: usize, random: &mut Random) -> Cow<'w, [f32]> {
        if *self == Self::default() {
            return Cow::Borrowed(window);
        }
        let mut drawn = |most: f32| if most > 0.0 { most * random.symmetric() } else { 0.0 };
        let (back, load) = (drawn(self.shift).abs(), 1.0 + drawn(self.load));
        let mut changed = window.to_vec();
        for place in inputs..window.len() {
            changed[place] = window[place] + back * (window[place - inputs] - window[place]);
        }
        for value in &mut changed {
            *value *= load;
            if self.noise > 0.0 {
                *value += self.noise * random.normal();
            }
        }
        Cow::Owned(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_does_what_it_says_and_none_does_nothing() {
        let window: Vec<f32> = (0..40).map(|i| (i / 2) as f32 * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let mut random = Random::new(1, "windows");
        let of = |augment: Augmentation, random: &mut Random| augment.apply(&window, 2, random).into_owned();
        let none = Augmentation::default();
        assert_eq!(of(none, &mut random), window);
        let shifted = of(Augmentation { shift: 1.0, ..none }, &mut random);
        let back = window[2] - shifted[2];
        assert!((0.0..1.0).contains(&back) && back > 0.0, "{back}");
        // Every row moves by the same time, and each feature along its own course.
        for (place, (shifted, value)) in shifted.iter().zip(&window).enumerate().skip(2) {
            let expected = if place % 2 == 0 { value - back } else { value + back };
            assert!((shifted - expected).abs() < 1e-4, "{place}: {shifted} {expected}");
        }
        let loaded = of(Augmentation { load: 0.2, ..none }, &mut random);
        let factor = loaded[2] / window[2];
        assert!(factor != 1.0 && (0.8..=1.2).contains(&factor));
        assert!(loaded.iter().zip(&window).all(|(l, w)| (l - factor * w).abs() < 1e-4));
        let noisy = of(Augmentation { noise: 0.1, ..none }, &mut random);
        let off: Vec<f32> = noisy.iter().zip(&window).map(|(n, w)| n - w).collect();
        let spread = (off.iter().map(|d| d * d).sum::<f32>() / off.len() as f32).sqrt();
        assert!((0.05..0.2).contains(&spread), "{spread}");
    }
}
