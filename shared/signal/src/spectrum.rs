//! The one-sided amplitude spectrum under a Hann taper, and what is read from it.
//!
//! The taper is the periodic Hann window `(1 - cos(2 pi t/n))/2`, applied as the three-term convolution of the untapered
//! spectrum (-1/4, 1/2, -1/4), so one FFT serves both. Lines are one-sided amplitudes, 0 to peak: `A[k] = 4|X_h[k]|/n`; a sine of
//! amplitude `a` on a line reads `a`. Noise bandwidth is 1.5 lines: the mean square of a band is `sum A^2 / 3`.

use crate::{fft::Complex, lanes, simd};

/// A spectrum of amplitudes with its line spacing.
#[derive(Clone, Copy, Debug)]
pub struct Amplitudes<'a> {
    /// Amplitude per line, 0 to peak, in the signal's unit; line 0 first, Nyquist left out.
    pub lines: &'a [f32],
    /// Distance of two lines in Hz.
    pub spacing_hz: f32,
}

/// Shape of a spectrum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shape {
    /// Power-weighted mean frequency in lines.
    pub centroid: f32,
    /// Power-weighted standard deviation in lines.
    pub spread: f32,
    /// Shannon entropy of the power, 0 (one line) to 1 (all alike).
    pub entropy: f32,
}

/// A local maximum, interpolated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peak {
    /// Place in lines, with fraction.
    pub place: f32,
    /// Amplitude, 0 to peak.
    pub amplitude: f32,
}

/// Squared amplitudes `A[k]^2` under the Hann taper from a packed untapered spectrum of `2 * lines` samples.
///
/// `spectrum.im[0]` holds the Nyquist line and is set to zero.
pub(crate) fn hann_power(spectrum: Complex<'_>, power: &mut [f32]) {
    simd::widest(Taper { spectrum, power });
}

struct Taper<'s, 'p> {
    spectrum: Complex<'s>,
    power: &'p mut [f32],
}

impl simd::Work for Taper<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<const N: usize>(self) {
        let Self { spectrum, power } = self;
        let lines = power.len();
        let (re, im) = (&spectrum.re[..lines], &mut spectrum.im[..lines]);
        let nyquist = im[0];
        im[0] = 0.0;
        let scale = 2.0 / lines as f32;
        let square = |re: f32, im: f32| (re * re + im * im) * (scale * scale);
        let dc = 0.25 * (re[0] - re[1]);
        power[0] = square(dc, 0.0);
        let inner = power[1..].iter_mut().zip(re.windows(3)).zip(im.windows(3));
        for ((p, re), im) in inner {
            *p = square(0.5 * re[1] - 0.25 * (re[0] + re[2]), 0.5 * im[1] - 0.25 * (im[0] + im[2]));
        }
        let k = lines - 1;
        power[k] = square(0.5 * re[k] - 0.25 * (re[k - 1] + nyquist), 0.5 * im[k] - 0.25 * im[k - 1]);
    }
}

/// RMS in sixteen bands of equal width from 0 to half the rate, line 0 left out.
pub(crate) fn band_rms(power: &[f32]) -> [f32; BANDS] {
    let lines = power.len();
    core::array::from_fn(|i| {
        let (low, high) = ((i * lines).div_ceil(BANDS).max(1), ((i + 1) * lines).div_ceil(BANDS));
        let band = power.get(low..high).unwrap_or(&[]);
        libm::sqrtf(lanes::sum(band, |p| p) * (1.0 / 3.0))
    })
}

/// Centroid, spread and entropy over lines 1 and up; `None` of an empty spectrum.
pub(crate) fn shape(power: &[f32]) -> Option<Shape> {
    let power = &power[1..];
    let [total, first] = simd::widest(First { power });
    if !(total > 0.0 && total.is_finite()) {
        return None;
    }
    let centroid = first / total;
    let [second, entropy] = simd::widest(Second { power, centroid, scale: 1.0 / total });
    Some(Shape { centroid, spread: libm::sqrtf(second / total), entropy: -entropy / libm::logf(power.len() as f32) })
}

/// The power and its first moment over the place.
struct First<'a> {
    power: &'a [f32],
}

impl simd::Work for First<'_> {
    type Out = [f32; 2];

    #[inline(always)]
    fn run<const N: usize>(self) -> [f32; 2] {
        lanes::sums_at(self.power, |k, p| [p, (k + 1.0) * p])
    }
}

/// The second moment about the centroid, and the negative entropy.
struct Second<'a> {
    power: &'a [f32],
    centroid: f32,
    scale: f32,
}

impl simd::Work for Second<'_> {
    type Out = [f32; 2];

    #[inline(always)]
    fn run<const N: usize>(self) -> [f32; 2] {
        lanes::sums_at(self.power, |k, p| {
            let distance = (k + 1.0) - self.centroid;
            let share = p * self.scale;
            [distance * distance * p, share * ln(share)]
        })
    }
}

/// The three strongest local maxima from line 2 on, strongest first.
pub(crate) fn strongest(lines: &[f32]) -> [Option<Peak>; 3] {
    let mut best = [(0usize, 0.0f32); 3];
    let inner = lines.len().saturating_sub(1);
    for from in (2..inner).step_by(lanes::LANES) {
        let end = inner.min(from + lanes::LANES);
        // Most stretches hold nothing that stands so high; a vector unit sees that at once.
        let least = best[2].1;
        if cfg!(target_arch = "x86_64") && !lines[from..end].iter().fold(false, |any, a| any | (*a > least)) {
            continue;
        }
        for k in from..end {
            let a = lines[k];
            if a > best[2].1 && a > lines[k - 1] && a >= lines[k + 1] {
                let rank = best.iter().position(|b| a > b.1).unwrap_or(2);
                best[rank..].rotate_right(1);
                best[rank] = (k, a);
            }
        }
    }
    best.map(|(k, a)| (a > 0.0).then(|| interpolate(lines, k)))
}

/// Place and amplitude of the sine whose Hann lobe has its greatest line at `k`.
///
/// With `r` the greater neighbour over the line, the sine lies `d = (2r-1)/(r+1)` lines towards it and its amplitude is
/// `A (1-d^2) pi d / sin(pi d)`; `d` is kept in 0 to 1/2.
pub(crate) fn interpolate(lines: &[f32], k: usize) -> Peak {
    let a = lines[k];
    let left = if k > 0 { lines[k - 1] } else { 0.0 };
    let right = lines.get(k + 1).copied().unwrap_or(0.0);
    let (neighbour, sign) = if right >= left { (right, 1.0) } else { (left, -1.0) };
    if a <= 0.0 {
        return Peak { place: k as f32, amplitude: 0.0 };
    }
    let ratio = neighbour / a;
    let d = ((2.0 * ratio - 1.0) / (ratio + 1.0)).clamp(0.0, 0.5);
    let angle = core::f32::consts::PI * d;
    let gain = if d > 1e-3 { angle / libm::sinf(angle) } else { 1.0 };
    Peak { place: k as f32 + sign * d, amplitude: a * (1.0 - d * d) * gain }
}

/// RMS velocity in mm/s from the whole untapered spectrum of an acceleration in g, summed over lines `first..=last`.
pub(crate) fn velocity_rms(re: &[f32], im: &[f32], spacing_hz: f32, first: usize, last: usize) -> f32 {
    let samples = 2 * re.len();
    let (re, im) = (&re[first..=last], &im[first..=last]);
    let mut place = first as f32;
    // Lines in groups of eight lanes; each lane's line number is exact in f32.
    let mut lanes = [0.0f32; lanes::LANES];
    for (re, im) in re.chunks(lanes::LANES).zip(im.chunks(lanes::LANES)) {
        for (j, (re, im)) in re.iter().zip(im).enumerate() {
            let k = place + j as f32;
            lanes[j] += (re * re + im * im) / (k * k);
        }
        place += lanes::LANES as f32;
    }
    let per_line = GRAVITY_MM_S2 / (core::f32::consts::TAU * spacing_hz * samples as f32);
    libm::sqrtf(2.0 * lanes::reduce(lanes)) * per_line
}

/// Natural logarithm of a share in 0 to 1, times anything finite at 0: 0 for values below the least normal number.
///
/// `m 2^e` with `m` in [sqrt(1/2), sqrt(2)): `e ln 2 + 2 (s + s^3/3 + ... + s^9/9)`, `s = (m-1)/(m+1)`; error below 3e-7.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = (bits.wrapping_sub(SQRT_HALF) as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub((exponent << 23) as u32));
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let series = s * (2.0 + s2 * (2.0 / 3.0 + s2 * (0.4 + s2 * (2.0 / 7.0 + s2 * (2.0 / 9.0)))));
    let value = exponent as f32 * core::f32::consts::LN_2 + series;
    if x < f32::MIN_POSITIVE { 0.0 } else { value }
}

/// How many bands.
pub const BANDS: usize = 16;

const SQRT_HALF: u32 = 0x3f35_04f3;
const GRAVITY_MM_S2: f32 = 9806.65;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_over_the_whole_range() {
        let mut x = f32::MIN_POSITIVE;
        while x <= 1.0 {
            let expected = libm::log(f64::from(x));
            let bound = 3e-7 * expected.abs().max(1.0);
            assert!((f64::from(ln(x)) - expected).abs() < bound, "{x}");
            x *= 1.000_37;
        }
        assert_eq!(ln(0.0), 0.0);
    }
}
