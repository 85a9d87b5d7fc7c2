//! The envelope of a band: what beats in time with a fault that rings a resonance.
//!
//! The analytic signal comes straight from the spectrum: lines inside the band doubled, all others zero, moved down to line 0
//! (which the magnitude does not see) and transformed back at half the sampling rate, which holds any band narrower than that.
//! So the envelope has `n/2` values, equal to every second value of the full-rate `|hilbert(band-passed)|`.

use kilter_types::Hertz;

use crate::{
    fft::{Complex, Plan},
    lanes, simd, spectrum,
};

/// The band whose envelope is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    low: Hertz,
    high: Hertz,
}

impl Band {
    /// A band inside `0 < low < high < rate/2`; `None` otherwise.
    pub fn new(low: Hertz, high: Hertz, rate: Hertz) -> Option<Self> {
        let inside = low.0 > 0.0 && low.0 < high.0 && high.0 < 0.5 * rate.0;
        inside.then_some(Self { low, high })
    }

    /// Where housings and races usually ring: 0.15 to 0.45 of the rate, but from no more than 2 kHz and to at most 10 kHz.
    pub fn usual(rate: Hertz) -> Option<Self> {
        let low = f32::min(0.15 * rate.0, 2000.0);
        let high = f32::min(0.45 * rate.0, 10_000.0);
        Self::new(Hertz(low), Hertz(high), rate)
    }

    /// Bands worth trying on a recording whose resonance is not known: the usual one, nearly everything, and the upper part of
    /// the spectrum. The lower part is left out: multiples of the shaft rule there.
    pub fn candidates(rate: Hertz) -> impl Iterator<Item = Self> {
        let share = move |low: f32, high: f32| Self::new(Hertz(low * rate.0), Hertz(high * rate.0), rate);
        let others = [share(0.04, 0.45), share(0.27, 0.45)];
        Self::usual(rate).into_iter().chain(others.into_iter().flatten())
    }

    /// Lower edge.
    pub fn low(&self) -> Hertz {
        self.low
    }

    /// Upper edge.
    pub fn high(&self) -> Hertz {
        self.high
    }

    /// First line inside and the line past the last one.
    pub(crate) fn lines(&self, spacing_hz: f32, count: usize) -> (usize, usize) {
        let first = libm::ceilf(self.low.0 / spacing_hz) as usize;
        let end = libm::floorf(self.high.0 / spacing_hz) as usize + 1;
        (first.clamp(1, count), end.clamp(1, count))
    }
}

/// Size and shape of the envelope `e`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Envelope {
    /// Root of the mean of `e^2`.
    pub(crate) rms: f32,
    /// Pearson kurtosis of `e` less its mean; `None` where `e` does not vary.
    pub(crate) kurtosis: Option<f32>,
    /// Standard deviation of `e`.
    pub(crate) deviation: f32,
}

/// Sizes of complex numbers times a scale, into the real parts.
struct Magnitude<'r, 'i> {
    re: &'r mut [f32],
    im: &'i [f32],
    scale: f32,
}

impl simd::Work for Magnitude<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<const N: usize>(self) {
        let Self { re, im, scale } = self;
        for (re, im) in re.iter_mut().zip(im) {
            *re = *re * *re + im * im;
        }
        simd::sqrt_all(re);
        for e in re {
            *e *= scale;
        }
    }
}

/// The envelope of `band` from the untapered spectrum, and the envelope's own Hann amplitude spectrum.
///
/// `spectrum` is used up. `lines` receives a quarter as many amplitudes as the plan has samples, at the plan's line spacing.
/// `None` where the band holds fewer than four lines.
pub(crate) fn envelope<T: AsRef<[f32]>>(
    band: Band,
    spacing_hz: f32,
    plan: &Plan<T>,
    spectrum: Complex<'_>,
    work: Complex<'_>,
    lines: &mut [f32],
) -> Option<Envelope> {
    let half = plan.len() / 2;
    let (first, end) = band.lines(spacing_hz, half);
    if end < first + 4 {
        return None;
    }
    let count = end - first;
    let Complex { re, im } = work.head(half);
    re[..count].copy_from_slice(&spectrum.re[first..end]);
    im[..count].copy_from_slice(&spectrum.im[first..end]);
    re[count..].fill(0.0);
    im[count..].fill(0.0);
    let mut spectrum = spectrum.head(half);
    // Exchanged parts make the forward transform the inverse one; the magnitude does not see the exchange.
    let exchanged = Complex { re: &mut *im, im: &mut *re };
    plan.complex(half, exchanged, spectrum.reborrow());
    let scale = 1.0 / half as f32;
    simd::widest(Magnitude { re: &mut *re, im: &*im, scale });
    let e = &*re;
    let mean = crate::moment::mean(e);
    let [square, s2, s4] = lanes::sums(e, |e| {
        let y2 = (e - mean) * (e - mean);
        [e * e, y2, y2 * y2]
    });
    let (pairs, _) = e.as_chunks::<2>();
    let quarter = half / 2;
    let mut packed = spectrum.head(quarter);
    for ((pair, re), im) in pairs.iter().zip(&mut *packed.re).zip(&mut *packed.im) {
        *re = pair[0] - mean;
        *im = pair[1] - mean;
    }
    let work = Complex { re: &mut re[..quarter], im: &mut im[..quarter] };
    plan.real(half, packed.reborrow(), work);
    spectrum::hann_power(packed, &mut lines[..quarter]);
    simd::sqrt_all(&mut lines[..quarter]);
    let variance = s2 * scale;
    Some(Envelope {
        rms: libm::sqrtf(square * scale),
        kurtosis: (variance > 0.0).then(|| s4 * scale / (variance * variance)),
        deviation: libm::sqrtf(variance),
    })
}
