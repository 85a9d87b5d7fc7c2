//! The real cepstrum: families of evenly spaced lines become single peaks at their period.
//!
//! `c = irfft(ln |rfft(y)|)` of the untapered window less its mean; quefrencies in seconds, `n/2` of them. A gear's sidebands and a
//! bearing's harmonics, spread over the spectrum, add up at one revolution or at one beat. Whitening by the cepstrum (all but
//! quefrency 0 set to zero, phases kept) is in [`crate::demodulate`].

use crate::{
    demodulate,
    extract::Refusal,
    fft::{Complex, Plan},
    lanes, spectrum,
};

/// The cepstrum of the first `plan.len()` samples into `cepstrum` (half as many values); all zero for a constant window.
///
/// Scratch holds twice as many values as the plan has samples.
pub fn real<T: AsRef<[f32]>>(
    samples: &[f32],
    plan: &Plan<T>,
    scratch: &mut [f32],
    cepstrum: &mut [f32],
) -> Result<(), Refusal> {
    let len = plan.len();
    let half = len / 2;
    if samples.len() < len || cepstrum.len() < half {
        return Err(Refusal::Samples { needed: len, got: samples.len().min(2 * cepstrum.len()) });
    }
    if scratch.len() < 2 * len {
        return Err(Refusal::Scratch { needed: 2 * len, got: scratch.len() });
    }
    let cepstrum = &mut cepstrum[..half];
    cepstrum.fill(0.0);
    let (low, high) = lanes::min_max(&samples[..len]);
    if !lanes::all_finite(&samples[..len]) || low == high {
        return Ok(());
    }
    let (a, rest) = scratch.split_at_mut(half);
    let (b, rest) = rest.split_at_mut(half);
    let (c, d) = rest.split_at_mut(half);
    let mut spectrum = Complex { re: &mut *a, im: &mut *b };
    demodulate::pack(&samples[..len], spectrum.reborrow());
    plan.real(len, spectrum.reborrow(), Complex { re: &mut *c, im: &mut d[..half] });
    let nyquist = b[0].abs();
    b[0] = 0.0;
    let largest = a.iter().zip(&*b).map(|(re, im)| re * re + im * im).fold(0.0, f32::max);
    // Line 0 carries only rounding once the mean is off: it takes the value of line 1, so that it adds nothing of its own.
    (a[0], b[0]) = (a[1], b[1]);
    let log = |power: f32| 0.5 * (spectrum::ln(f32::max(power / largest, f32::MIN_POSITIVE)) + libm::logf(largest));
    // The logarithm is real and even, so its inverse transform is its forward one over n: lines 0..n/2, Nyquist, and the mirror.
    for k in 0..half {
        c[k] = log(a[k] * a[k] + b[k] * b[k]);
    }
    let last = log(nyquist * nyquist);
    let at = |k: usize| {
        if k < half {
            c[k]
        } else if k == half {
            last
        } else {
            c[len - k]
        }
    };
    for (j, (re, im)) in a.iter_mut().zip(&mut *b).enumerate() {
        (*re, *im) = (at(2 * j), at(2 * j + 1));
    }
    plan.real(len, Complex { re: &mut *a, im: &mut *b }, Complex { re: &mut *c, im: &mut d[..half] });
    let scale = 1.0 / len as f32;
    for (to, re) in cepstrum.iter_mut().zip(&*a) {
        *to = if re.is_finite() { re * scale } else { 0.0 };
    }
    Ok(())
}
