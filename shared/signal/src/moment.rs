//! Moments of a window: level, size and shape of the signal in time.
//!
//! Everything but the mean is taken of `y`, the window less its mean, so that gravity and sensor offsets do not count.
//! Population forms (divided by `n`); kurtosis is Pearson's (3 for normal noise).

use crate::{lanes, simd};

/// The moments of one window, in the signal's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Arithmetic mean.
    pub mean: f32,
    /// Root of the mean square of `y`.
    pub rms: f32,
    /// `max |y|`.
    pub peak: f32,
    /// `max y - min y`.
    pub peak_to_peak: f32,
    /// Mean of `|y|`.
    pub mean_abs: f32,
    /// Mean of `sqrt |y|`.
    pub mean_sqrt: f32,
    /// `mean(y^3) / rms^3`.
    pub skewness: f32,
    /// `mean(y^4) / rms^4`.
    pub kurtosis: f32,
    /// Sign changes between neighbours; zero counts as positive.
    pub zero_crossings: u32,
}

impl Moments {
    /// The moments of finite samples; all zero of none. A constant window has only a mean.
    pub fn of(samples: &[f32]) -> Self {
        if samples.is_empty() {
            return Self::default();
        }
        let (low, high) = lanes::min_max(samples);
        if low == high {
            return Self { mean: low, ..Self::default() };
        }
        let mean = mean(samples);
        let scale = 1.0 / samples.len() as f32;
        let ([s_abs, s2, s3, s4, s_sqrt], crossings) = simd::widest(Powers { samples, mean });
        let square = s2 * scale;
        let rms = libm::sqrtf(square);
        Self {
            mean,
            rms,
            peak: f32::max(high - mean, mean - low),
            peak_to_peak: high - low,
            mean_abs: s_abs * scale,
            mean_sqrt: s_sqrt * scale,
            skewness: s3 * scale / (square * rms),
            kurtosis: s4 * scale / (square * square),
            zero_crossings: crossings,
        }
    }
}

/// Arithmetic mean, corrected once by the mean of what it leaves; 0 of nothing.
pub fn mean(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    let scale = 1.0 / samples.len() as f32;
    let mean = lanes::sum(samples, |x| x) * scale;
    mean + lanes::sum(samples, |x| x - mean) * scale
}

/// The sums of `|y|`, `y^2`, `y^3`, `y^4` and `sqrt |y|` in the order of [`lanes`], and how often the sign of `y` changes.
struct Powers<'a> {
    samples: &'a [f32],
    mean: f32,
}

impl simd::Work for Powers<'_> {
    type Out = ([f32; 5], u32);

    #[inline(always)]
    fn run<const N: usize>(self) -> Self::Out {
        let Self { samples, mean } = self;
        let mut sums = [simd::Sums::zero(); 5];
        let (chunks, rest) = samples.as_chunks::<{ lanes::LANES }>();
        for chunk in chunks {
            let sizes = chunk.map(|x| (x - mean).abs());
            let roots = simd::sqrt(sizes);
            simd::Sums::add_all(&mut sums, |j| {
                let y = chunk[j] - mean;
                let y2 = y * y;
                [sizes[j], y2, y2 * y, y2 * y2, roots[j]]
            });
        }
        let mut sums = sums.map(simd::Sums::lanes);
        for (j, x) in rest.iter().enumerate() {
            let y = x - mean;
            let y2 = y * y;
            let terms = [y.abs(), y2, y2 * y, y2 * y2, libm::sqrtf(y.abs())];
            for k in 0..5 {
                sums[k][j] += terms[k];
            }
        }
        let changes = |count: u32, pair: &[f32]| count + u32::from((pair[0] < mean) != (pair[1] < mean));
        (sums.map(lanes::reduce), samples.windows(2).fold(0, changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_sine_on_an_offset_has_the_known_shape() {
        let samples: Vec<f32> =
            (0..4000).map(|i| 0.5 + 2.0 * libm::sin(core::f64::consts::TAU * (i as f64 + 0.5) / 80.0) as f32).collect();
        let m = Moments::of(&samples);
        for (got, expected) in [
            (m.mean, 0.5),
            (m.rms, 2.0 / core::f32::consts::SQRT_2),
            (m.kurtosis, 1.5),
            (m.skewness, 0.0),
            (m.mean_abs, 4.0 / core::f32::consts::PI),
        ] {
            // Discretisation over 80 points per period leaves a few 1e-4.
            assert!((got - expected).abs() < 1e-3, "{got} for {expected}");
        }
        assert_eq!(m.zero_crossings, 99);
    }

    #[test]
    fn a_constant_window_has_only_a_mean() {
        let m = Moments::of(&[0.1; 100]);
        assert_eq!(m, Moments { mean: 0.1, ..Moments::default() });
    }
}
