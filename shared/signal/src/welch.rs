//! Welch's power spectral density: the mean over overlapping Hann windows, one-sided.
//!
//! Segments of the plan's length, half of each overlapping the next, each less nothing but what the caller took off (no detrending),
//! under the periodic Hann taper. Density in unit²/Hz: `P[k] = 2 |X_h[k]|² / (rate * sum w²)` with `sum w² = 3n/8`, so that the sum of
//! `P` times the line spacing over a band is the mean square in it. Line 0 (not doubled) is kept; Nyquist is left out.

use kilter_types::Hertz;

use crate::{
    extract::Refusal,
    fft::{Complex, Plan},
    spectrum,
};

/// The density of all whole segments of `samples` into `density` (half as many lines as the plan has samples); says how many segments.
///
/// Scratch holds [`scratch_len`] values.
pub fn density<T: AsRef<[f32]>>(
    samples: &[f32],
    rate: Hertz,
    plan: &Plan<T>,
    scratch: &mut [f32],
    density: &mut [f32],
) -> Result<u32, Refusal> {
    let len = plan.len();
    let half = len / 2;
    if samples.len() < len || density.len() < half {
        return Err(Refusal::Samples { needed: len, got: samples.len().min(2 * density.len()) });
    }
    let needed = scratch_len(len);
    if scratch.len() < needed {
        return Err(Refusal::Scratch { needed, got: scratch.len() });
    }
    if !(rate.0 > 0.0 && rate.0.is_finite()) {
        return Err(Refusal::Rate);
    }
    let (a, rest) = scratch.split_at_mut(half);
    let (b, rest) = rest.split_at_mut(half);
    let (c, rest) = rest.split_at_mut(half);
    let (d, power) = rest.split_at_mut(half);
    let density = &mut density[..half];
    density.fill(0.0);
    let mut segments = 0u32;
    for start in (0..=samples.len() - len).step_by(half) {
        let segment = &samples[start..start + len];
        if !crate::lanes::all_finite(segment) {
            continue;
        }
        let (pairs, _) = segment.as_chunks::<2>();
        for ((pair, re), im) in pairs.iter().zip(&mut *a).zip(&mut *b) {
            (*re, *im) = (pair[0], pair[1]);
        }
        let mut packed = Complex { re: &mut *a, im: &mut *b };
        plan.real(len, packed.reborrow(), Complex { re: &mut *c, im: &mut *d });
        spectrum::hann_power(packed, &mut power[..half]);
        segments += 1;
        let weight = 1.0 / segments as f32;
        for (mean, p) in density.iter_mut().zip(&power[..half]) {
            *mean += (p - *mean) * weight;
        }
    }
    // A squared amplitude A² = 16|X_h|²/n² becomes 2|X_h|²/(rate 3n/8) = A² n/(3 rate); line 0 is half of that.
    let scale = len as f32 / (3.0 * rate.0);
    for (k, p) in density.iter_mut().enumerate() {
        *p *= if k == 0 { 2.0 * scale } else { scale };
    }
    Ok(segments)
}

/// How many values scratch must hold for a plan of this length.
pub const fn scratch_len(plan_len: usize) -> usize {
    2 * plan_len + plan_len / 2
}
