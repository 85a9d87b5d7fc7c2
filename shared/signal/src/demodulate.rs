//! The envelope spectrum of one window by itself: of a band, or of the whole whitened spectrum.
//!
//! Whitening sets every line to amplitude 1 and keeps its phase. That is cepstrum prewhitening (all quefrencies but zero set to
//! zero): tonal lines and resonances lose their weight, and what stays is how impulses line up in time. One demodulation sees a
//! bearing that rings a clear resonance, another one a bearing under strong tones; [`crate::bearing_sign`] weighs them.

use kilter_types::Hertz;

use crate::{
    envelope::{self, Band},
    extract::Refusal,
    fft::{Complex, Plan},
    lanes, moment,
    spectrum::Amplitudes,
};

/// Which part of the spectrum is demodulated, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Demodulation {
    /// The lines of a band as they are.
    Plain(Band),
    /// The lines of a band, each brought to amplitude 1.
    Whitened(Band),
}

impl Demodulation {
    /// The whole spectrum whitened: 1 % to 49 % of the rate.
    pub fn whitened(rate: Hertz) -> Option<Self> {
        Band::new(Hertz(0.01 * rate.0), Hertz(0.49 * rate.0), rate).map(Self::Whitened)
    }

    /// What is worth trying where the resonance is not known; [`crate::kurtogram`] adds a band of the machine's own.
    pub fn candidates(rate: Hertz) -> impl Iterator<Item = Self> {
        Band::candidates(rate).map(Self::Plain).chain(Self::whitened(rate))
    }

    /// The band.
    pub fn band(&self) -> Band {
        match self {
            Self::Plain(band) | Self::Whitened(band) => *band,
        }
    }
}

/// An envelope's spectrum with the size of what it is a spectrum of.
#[derive(Clone, Copy, Debug)]
pub struct Beats<'a> {
    /// One-sided Hann amplitude spectrum of the envelope less its mean, 0 to peak; `n/4` lines.
    pub amplitudes: Amplitudes<'a>,
    /// Standard deviation of the envelope.
    pub deviation: f32,
}

/// The envelope spectrum of the first `plan.len()` samples; all zero where the window is constant, not finite or the band empty.
pub fn beats<'s, T: AsRef<[f32]>>(
    samples: &[f32],
    rate: Hertz,
    demodulation: &Demodulation,
    plan: &Plan<T>,
    scratch: &'s mut [f32],
) -> Result<Beats<'s>, Refusal> {
    let len = plan.len();
    let (mut spectrum, work, lines) = carve(samples, plan, scratch)?;
    lines.fill(0.0);
    let spacing_hz = rate.0 / len as f32;
    let mut deviation = 0.0;
    if lanes::all_finite(&samples[..len]) {
        pack(&samples[..len], spectrum.reborrow());
        let mut work = work;
        plan.real(len, spectrum.reborrow(), work.reborrow());
        if let Demodulation::Whitened(_) = demodulation {
            whiten(spectrum.reborrow());
        }
        let envelope = envelope::envelope(demodulation.band(), spacing_hz, plan, spectrum, work, lines);
        deviation = envelope.map_or(0.0, |e| e.deviation);
    }
    if !deviation.is_finite() || !lanes::all_finite(lines) {
        deviation = 0.0;
        lines.fill(0.0);
    }
    Ok(Beats { amplitudes: Amplitudes { lines, spacing_hz }, deviation })
}

/// How many values scratch must hold for a plan of this length.
pub const fn scratch_len(plan_len: usize) -> usize {
    2 * plan_len + plan_len / 4
}

type Carved<'s> = (Complex<'s>, Complex<'s>, &'s mut [f32]);

fn carve<'s, T: AsRef<[f32]>>(samples: &[f32], plan: &Plan<T>, scratch: &'s mut [f32]) -> Result<Carved<'s>, Refusal> {
    let len = plan.len();
    if samples.len() < len {
        return Err(Refusal::Samples { needed: len, got: samples.len() });
    }
    let needed = scratch_len(len);
    if scratch.len() < needed {
        return Err(Refusal::Scratch { needed, got: scratch.len() });
    }
    let half = len / 2;
    let (a, rest) = scratch.split_at_mut(half);
    let (b, rest) = rest.split_at_mut(half);
    let (c, rest) = rest.split_at_mut(half);
    let (d, rest) = rest.split_at_mut(half);
    Ok((Complex { re: a, im: b }, Complex { re: c, im: d }, &mut rest[..len / 4]))
}

/// The samples less their mean, even ones as real and odd ones as imaginary parts.
pub(crate) fn pack(samples: &[f32], packed: Complex<'_>) {
    let mean = moment::mean(samples);
    let (pairs, _) = samples.as_chunks::<2>();
    for ((pair, re), im) in pairs.iter().zip(packed.re).zip(packed.im) {
        *re = pair[0] - mean;
        *im = pair[1] - mean;
    }
}

/// Each line to amplitude 1; a line without amplitude stays without.
pub(crate) fn whiten(spectrum: Complex<'_>) {
    for (re, im) in spectrum.re.iter_mut().zip(spectrum.im) {
        let amplitude = libm::sqrtf(*re * *re + *im * *im);
        let gain = if amplitude > 0.0 && amplitude.is_finite() { 1.0 / amplitude } else { 0.0 };
        *re *= gain;
        *im *= gain;
    }
}
