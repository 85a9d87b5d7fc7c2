//! The house's own real FFT: mixed radix 4, 2, 3, 5, the same bits on every target.
//!
//! A transform of `n` real samples runs as a complex one of `n/2` points (Stockham's autosort, decimation in frequency: no
//! bit reversal, inner loops run over contiguous memory) followed by one pass that separates even and odd samples. Twiddle
//! factors come from `libm`'s f64 sine and cosine, rounded to f32 once per plan. The table holds the roots of unity
//! `exp(-2*pi*i*j/n)` for `j < n/2`; every pass reads them with a stride, so one table also serves the transform of `n/2`
//! real samples that the envelope needs.
//!
//! Lengths: multiples of 4 whose only prime factors are 2, 3 and 5, from 16 to 131072; one second at 12 kHz, 25.6 kHz and
//! 48 kHz is such a length. Complex numbers are kept as two slices, real and imaginary.

mod pass;
mod transform;

use core::f64::consts::TAU;
use core::fmt;

use pass::Roots;
use transform::{Separate, Transform};

use crate::simd;

/// The shortest transform.
pub const MIN_LEN: usize = 16;
/// The longest transform.
pub const MAX_LEN: usize = 131_072;

/// Lengths, and the roots of unity in the caller's memory (`&[f32]`, an array, a `Vec`).
#[derive(Clone, Debug)]
pub struct Plan<T> {
    len: usize,
    roots: T,
}

impl<T: AsRef<[f32]> + AsMut<[f32]>> Plan<T> {
    /// A plan for `len` real samples; `roots` must hold at least [`table_len`] values, which are overwritten.
    pub fn new(len: usize, mut roots: T) -> Result<Self, PlanError> {
        if !is_supported(len) {
            return Err(PlanError::Length { len });
        }
        let needed = table_len(len);
        let got = roots.as_mut().len();
        if got < needed {
            return Err(PlanError::Table { needed, got });
        }
        let (re, im) = roots.as_mut()[..needed].split_at_mut(len / 2);
        for (j, (re, im)) in re.iter_mut().zip(im).enumerate() {
            let (sin, cos) = libm::sincos(TAU * j as f64 / len as f64);
            *re = cos as f32;
            *im = -sin as f32;
        }
        if got >= fast_table_len(len) && len.is_multiple_of(16) {
            let (roots, copies) = roots.as_mut().split_at_mut(needed);
            copy_first_factors(roots, copies, len / 2);
        }
        Ok(Self { len, roots })
    }
}

impl<T: AsRef<[f32]>> Plan<T> {
    /// How many real samples the plan transforms.
    #[expect(clippy::len_without_is_empty, reason = "a plan is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The spectrum of `len` real samples: lines 0 to `len/2 - 1` in `(re, im)`, unscaled (`X[k] = sum x[t] w^(kt)`).
    ///
    /// Both outputs and both work slices hold `len/2` values. Line `len/2` (Nyquist) is real and is kept in `im[0]`, whose own
    /// value is always zero. Samples beyond `len` are ignored.
    pub fn forward(&self, samples: &[f32], output: Complex<'_>, work: Complex<'_>) -> Result<(), PlanError> {
        let half = self.len / 2;
        if samples.len() < self.len {
            return Err(PlanError::Samples { needed: self.len, got: samples.len() });
        }
        for got in [&output.re, &output.im, &work.re, &work.im].map(|s| s.len()) {
            if got < half {
                return Err(PlanError::Table { needed: half, got });
            }
        }
        let output = output.head(half);
        let work = work.head(half);
        let (pairs, _) = samples[..self.len].as_chunks::<2>();
        for ((pair, re), im) in pairs.iter().zip(&mut *output.re).zip(&mut *output.im) {
            *re = pair[0];
            *im = pair[1];
        }
        self.real(self.len, output, work);
        Ok(())
    }

    /// In place: packed real samples (even ones in `re`, odd ones in `im`) of length `len` or `len/2` to their spectrum.
    pub(crate) fn real(&self, len: usize, mut data: Complex<'_>, mut work: Complex<'_>) {
        let half = len / 2;
        self.complex(half, data.reborrow(), work.reborrow());
        let (root_re, root_im) = self.table();
        let (re, im) = (&mut data.re[..half], &mut data.im[..half]);
        simd::widest(Separate { root_re, root_im, stride: self.len / len, re, im });
    }

    /// Forward complex transform of `len` points (a divisor of half the plan), in place with the help of `work`.
    ///
    /// Exchanging `re` and `im` on the way in and out makes it the inverse, unscaled.
    pub(crate) fn complex(&self, len: usize, data: Complex<'_>, work: Complex<'_>) {
        let (root_re, root_im) = self.table();
        let first = self.first_factors(len);
        let roots = Roots { re: root_re, im: root_im, stride: self.len / len, first };
        simd::widest(Transform { roots, len, data, work });
    }

    /// The first pass's factors for `len` complex points, where the caller gave room for them.
    fn first_factors(&self, len: usize) -> Option<&[f32]> {
        let table = self.roots.as_ref();
        let half = self.len / 2;
        if table.len() < fast_table_len(self.len) || !self.len.is_multiple_of(16) {
            return None;
        }
        let from = match len {
            _ if len == half => 0,
            _ if len == half / 2 => first_len(half),
            _ => return None,
        };
        table[table_len(self.len) + from..].get(..first_len(len))
    }

    fn table(&self) -> (&[f32], &[f32]) {
        self.roots.as_ref()[..self.len].split_at(self.len / 2)
    }
}

/// Complex numbers as two slices of the caller.
#[derive(Debug)]
pub struct Complex<'a> {
    /// Real parts.
    pub re: &'a mut [f32],
    /// Imaginary parts.
    pub im: &'a mut [f32],
}

impl Complex<'_> {
    pub(crate) fn reborrow(&mut self) -> Complex<'_> {
        Complex { re: self.re, im: self.im }
    }
}

impl<'a> Complex<'a> {
    pub(crate) fn head(self, len: usize) -> Complex<'a> {
        Complex { re: &mut self.re[..len], im: &mut self.im[..len] }
    }
}

/// Can a plan have this length?
pub const fn is_supported(len: usize) -> bool {
    if len < MIN_LEN || len > MAX_LEN || !len.is_multiple_of(4) {
        return false;
    }
    let mut rest = len;
    while rest.is_multiple_of(2) {
        rest /= 2;
    }
    while rest.is_multiple_of(3) {
        rest /= 3;
    }
    while rest.is_multiple_of(5) {
        rest /= 5;
    }
    rest == 1
}

/// The longest supported length that `samples` samples fill; `None` below [`MIN_LEN`].
pub const fn longest_len(samples: usize) -> Option<usize> {
    let mut len = if samples > MAX_LEN { MAX_LEN } else { samples };
    while len >= MIN_LEN {
        if is_supported(len) {
            return Some(len);
        }
        len -= 1;
    }
    None
}

/// How many values the table of a plan for `len` samples holds.
pub const fn table_len(len: usize) -> usize {
    len
}

/// How many values a table holds that also keeps the first pass's factors in reading order: the same bits in less time.
pub const fn fast_table_len(len: usize) -> usize {
    table_len(len) + first_len(len / 2) + first_len(len / 4)
}

/// How many values the factors of a first pass over `len` complex points take: three times a quarter, complex.
const fn first_len(len: usize) -> usize {
    6 * (len / 4)
}

/// Copies the factors of both first passes (over `half` and half of that many points) into reading order.
fn copy_first_factors(roots: &[f32], copies: &mut [f32], half: usize) {
    let (re, im) = roots.split_at(half);
    let mut copies = copies;
    for (len, stride) in [(half, 2), (half / 2, 4)] {
        let roots = Roots { re, im, stride, first: None };
        let (mine, rest) = copies.split_at_mut(first_len(len));
        copies = rest;
        for (k, factors) in mine.chunks_exact_mut(len / 2).enumerate() {
            let (re, im) = factors.split_at_mut(len / 4);
            for (p, (re, im)) in re.iter_mut().zip(im).enumerate() {
                (*re, *im) = roots.at((k + 1) * p);
            }
        }
    }
}

/// Why there is no plan, or no transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Not a multiple of 4 with prime factors 2, 3 and 5 between 16 and 131072.
    Length {
        /// The length asked for.
        len: usize,
    },
    /// The caller's memory is too short.
    Table {
        /// Values needed.
        needed: usize,
        /// Values given.
        got: usize,
    },
    /// Fewer samples than the plan transforms.
    Samples {
        /// Samples needed.
        needed: usize,
        /// Samples given.
        got: usize,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { len } => write!(
                f,
                "plan a transform of {len} samples: not a multiple of 4 made of factors 2, 3 and 5 from {MIN_LEN} to {MAX_LEN}"
            ),
            Self::Table { needed, got } => {
                write!(f, "fit {needed} values into memory for {got}")
            }
            Self::Samples { needed, got } => {
                write!(f, "transform {needed} samples of which {got} are there")
            }
        }
    }
}

impl core::error::Error for PlanError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{vec, vec::Vec};

    fn noise(len: usize) -> Vec<f32> {
        let mut state = 7u32;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn spectrum(samples: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let len = samples.len();
        let plan = Plan::new(len, vec![0.0; table_len(len)]).expect("supported");
        let half = || vec![0.0; len / 2];
        let (mut re, mut im, mut a, mut b) = (half(), half(), half(), half());
        let output = Complex { re: &mut re, im: &mut im };
        let work = Complex { re: &mut a, im: &mut b };
        plan.forward(samples, output, work).expect("long enough");
        (re, im)
    }

    #[test]
    fn every_supported_length_agrees_with_the_sum_that_defines_it() {
        for len in (MIN_LEN..=1024).filter(|len| is_supported(*len)) {
            let x = noise(len);
            let (re, im) = spectrum(&x);
            let power: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            // f32 rounding over log2(n) passes.
            let bound = 4e-7 * (power * len as f64).sqrt();
            for k in 0..=len / 2 {
                let (mut sum_re, mut sum_im) = (0.0f64, 0.0f64);
                for (t, x) in x.iter().enumerate() {
                    let (sin, cos) = libm::sincos(TAU * ((k * t) % len) as f64 / len as f64);
                    sum_re += f64::from(*x) * cos;
                    sum_im -= f64::from(*x) * sin;
                }
                let (got_re, got_im) = match k {
                    0 => (re[0], 0.0),
                    _ if k == len / 2 => (im[0], 0.0),
                    _ => (re[k], im[k]),
                };
                let error = (f64::from(got_re) - sum_re).hypot(f64::from(got_im) - sum_im);
                assert!(error <= bound, "length {len} line {k}: {error} above {bound}");
            }
        }
    }

    #[test]
    fn a_longer_table_is_faster_and_changes_no_bit() {
        for len in [64, 960, 1024, 4096, 12_000] {
            let x = noise(len);
            let slow = spectrum(&x);
            let plan = Plan::new(len, vec![0.0; fast_table_len(len)]).expect("supported");
            let half = || vec![0.0; len / 2];
            let (mut re, mut im, mut a, mut b) = (half(), half(), half(), half());
            let output = Complex { re: &mut re, im: &mut im };
            let work = Complex { re: &mut a, im: &mut b };
            plan.forward(&x, output, work).expect("long enough");
            assert_eq!((re, im), slow, "{len}");
        }
    }

    #[test]
    fn parseval_holds_up_to_the_longest_length() {
        for len in [4096, 12_000, 25_600, 48_000, 51_200, MAX_LEN] {
            let x = noise(len);
            let (re, im) = spectrum(&x);
            let time: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            let ends = f64::from(re[0]).powi(2) + f64::from(im[0]).powi(2);
            let lines: f64 =
                re[1..].iter().zip(&im[1..]).map(|(re, im)| f64::from(*re).powi(2) + f64::from(*im).powi(2)).sum();
            let frequency = (ends + 2.0 * lines) / len as f64;
            assert!((frequency / time - 1.0).abs() < 1e-6, "{len}: {frequency} {time}");
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused_and_the_next_shorter_is_named() {
        for len in [0, 8, 14, 18, 28, 44, 131_076, 12_001] {
            assert_eq!(Plan::new(len, [0.0f32; 64]).err(), Some(PlanError::Length { len }));
        }
        assert_eq!(Plan::new(128, [0.0f32; 64]).err(), Some(PlanError::Table { needed: 128, got: 64 }));
        assert_eq!([15, 16, 12_011, 1_000_000].map(longest_len), [None, Some(16), Some(12_000), Some(MAX_LEN)]);
    }
}
