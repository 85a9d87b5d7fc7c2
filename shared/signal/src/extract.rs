//! Set S: one window of acceleration to the vibration schema's values, the only place where they are computed (F1, F2).
//!
//! One FFT of the window serves spectrum, velocity and envelope; one inverse FFT gives the envelope and one of half the length
//! its spectrum. What cannot be computed (no speed, no bearing, too short a window, a constant or non-finite signal) clears its
//! bit and is 0: no NaN and no infinity leaves here.

use core::fmt;

use kilter_types::{Hertz, Rpm};

use crate::{
    bearing::Orders,
    envelope::{self, Band},
    fft::{Complex, Plan},
    lanes,
    line::{Harmonics, Lines},
    moment::Moments,
    simd,
    spectrum::{self, Amplitudes},
    table::at,
};

/// What is known about the measurement and the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VibrationSetup {
    rate: Hertz,
    band: Option<Band>,
    shaft: Option<Rpm>,
    bearing: Option<Orders>,
}

impl VibrationSetup {
    /// A setup for this rate with the usual envelope band, no speed and no bearing.
    pub fn new(rate: Hertz) -> Result<Self, Refusal> {
        if !(rate.0 >= 1.0 && rate.0 <= 10.0e6) {
            return Err(Refusal::Rate);
        }
        Ok(Self { rate, band: Band::usual(rate), shaft: None, bearing: None })
    }

    /// With this shaft speed; one that is not above 0 and finite counts as unknown.
    pub fn with_shaft(mut self, shaft: Rpm) -> Self {
        self.shaft = (shaft.0 > 0.0 && shaft.0.is_finite()).then_some(shaft);
        self
    }

    /// With this bearing.
    pub fn with_bearing(mut self, bearing: Orders) -> Self {
        self.bearing = Some(bearing);
        self
    }

    /// With this envelope band.
    pub fn with_band(mut self, band: Band) -> Self {
        self.band = Some(band);
        self
    }

    /// The sampling rate.
    pub fn rate(&self) -> Hertz {
        self.rate
    }

    /// The shaft speed, where known.
    pub fn shaft(&self) -> Option<Rpm> {
        self.shaft
    }

    /// The bearing, where known.
    pub fn bearing(&self) -> Option<Orders> {
        self.bearing
    }

    /// The envelope's band.
    pub fn band(&self) -> Option<Band> {
        self.band
    }
}

/// One window's features, and the lines that the diagnosis reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vibration {
    /// Values in the order of [`crate::table::VIBRATION`]; 0 where invalid.
    pub values: [f32; VALUES],
    /// Bit `i` is set when value `i` is valid.
    pub valid: u64,
    /// The lines behind the bearing and shaft features.
    pub lines: Lines,
}

impl Vibration {
    /// Value at this place (see [`crate::table::at`]), if it is valid.
    pub fn get(&self, place: usize) -> Option<f32> {
        (place < VALUES && self.valid >> place & 1 == 1).then(|| self.values[place])
    }

    fn set(&mut self, place: usize, value: f32) {
        if value.is_finite() {
            self.values[place] = value;
            self.valid |= 1 << place;
        }
    }
}

impl Default for Vibration {
    fn default() -> Self {
        Self { values: [0.0; VALUES], valid: 0, lines: Lines::default() }
    }
}

/// The spectra behind the features, in the caller's scratch.
#[derive(Clone, Copy, Debug)]
pub struct Spectra<'a> {
    /// One-sided Hann amplitude spectrum of the window in g, `n/2` lines.
    pub acceleration: Amplitudes<'a>,
    /// The same of the envelope, `n/4` lines.
    pub envelope: Amplitudes<'a>,
}

/// How many values scratch must hold for a plan of this length.
pub const fn scratch_len(plan_len: usize) -> usize {
    2 * plan_len + plan_len / 2 + plan_len / 4
}

/// The features of the first `plan.len()` samples, in g.
pub fn vibration<'s, T: AsRef<[f32]>>(
    samples_g: &[f32],
    setup: &VibrationSetup,
    plan: &Plan<T>,
    scratch: &'s mut [f32],
    out: &mut Vibration,
) -> Result<Spectra<'s>, Refusal> {
    let len = plan.len();
    if samples_g.len() < len {
        return Err(Refusal::Samples { needed: len, got: samples_g.len() });
    }
    let needed = scratch_len(len);
    if scratch.len() < needed {
        return Err(Refusal::Scratch { needed, got: scratch.len() });
    }
    *out = Vibration::default();
    let samples = &samples_g[..len];
    let spacing_hz = setup.rate.0 / len as f32;
    let (mut work, rest) = Work::carve(scratch, len);
    let (power, rest) = rest.split_at_mut(len / 2);
    let beats = &mut rest[..len / 4];
    power.fill(0.0);
    beats.fill(0.0);
    if lanes::all_finite(samples) {
        let moments = Moments::of(samples);
        set_moments(&moments, setup.rate, len, out);
        if moments.rms > 0.0 && moments.rms.is_finite() {
            transform(samples, moments.mean, plan, &mut work);
            set_spectrum(setup, spacing_hz, &mut work, power, out);
            set_envelope(setup, spacing_hz, plan, work, beats, out);
        }
    }
    Ok(Spectra {
        acceleration: Amplitudes { lines: power, spacing_hz },
        envelope: Amplitudes { lines: beats, spacing_hz },
    })
}

/// Why there are no features at all: the caller's arguments do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The rate is not between 1 Hz and 10 MHz.
    Rate,
    /// Fewer samples than the plan transforms.
    Samples {
        /// Samples needed.
        needed: usize,
        /// Samples given.
        got: usize,
    },
    /// Too little scratch.
    Scratch {
        /// Values needed.
        needed: usize,
        /// Values given.
        got: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate => f.write_str("use the sampling rate: it must lie between 1 Hz and 10 MHz"),
            Self::Samples { needed, got } => write!(f, "fill a window of {needed} samples with {got}"),
            Self::Scratch { needed, got } => write!(f, "fit {needed} values into scratch for {got}"),
        }
    }
}

impl core::error::Error for Refusal {}

/// Room for two complex signals of half the window's length.
struct Work<'a> {
    spectrum: Complex<'a>,
    other: Complex<'a>,
}

impl<'a> Work<'a> {
    fn carve(scratch: &'a mut [f32], len: usize) -> (Self, &'a mut [f32]) {
        let half = len / 2;
        let (a, rest) = scratch.split_at_mut(half);
        let (b, rest) = rest.split_at_mut(half);
        let (c, rest) = rest.split_at_mut(half);
        let (d, rest) = rest.split_at_mut(half);
        let work = Self { spectrum: Complex { re: a, im: b }, other: Complex { re: c, im: d } };
        (work, rest)
    }
}

fn set_moments(m: &Moments, rate: Hertz, len: usize, out: &mut Vibration) {
    out.set(at::MEAN, m.mean);
    out.set(at::RMS, m.rms);
    out.set(at::PEAK, m.peak);
    out.set(at::PEAK_TO_PEAK, m.peak_to_peak);
    if m.rms > 0.0 {
        out.set(at::CREST_FACTOR, m.peak / m.rms);
        out.set(at::SHAPE_FACTOR, m.rms / m.mean_abs);
        out.set(at::IMPULSE_FACTOR, m.peak / m.mean_abs);
        out.set(at::CLEARANCE_FACTOR, m.peak / (m.mean_sqrt * m.mean_sqrt));
        out.set(at::SKEWNESS, m.skewness);
        out.set(at::KURTOSIS, m.kurtosis);
        let per_second = rate.0 / len as f32;
        out.set(at::ZERO_CROSSING_RATE, m.zero_crossings as f32 * per_second);
    }
}

fn transform<T: AsRef<[f32]>>(samples: &[f32], mean: f32, plan: &Plan<T>, work: &mut Work<'_>) {
    let (pairs, _) = samples.as_chunks::<2>();
    let spectrum = work.spectrum.reborrow();
    for ((pair, re), im) in pairs.iter().zip(spectrum.re).zip(spectrum.im) {
        *re = pair[0] - mean;
        *im = pair[1] - mean;
    }
    plan.real(plan.len(), work.spectrum.reborrow(), work.other.reborrow());
}

fn set_spectrum(setup: &VibrationSetup, spacing_hz: f32, work: &mut Work<'_>, power: &mut [f32], out: &mut Vibration) {
    spectrum::hann_power(work.spectrum.reborrow(), power);
    if !lanes::all_finite(power) {
        power.fill(0.0);
        return;
    }
    if let Some((first, last)) = velocity_lines(setup, spacing_hz, power.len()) {
        let (re, im) = (&*work.spectrum.re, &*work.spectrum.im);
        out.set(at::VELOCITY_RMS, spectrum::velocity_rms(re, im, spacing_hz, first, last));
    }
    for (i, rms) in spectrum::band_rms(power).into_iter().enumerate() {
        out.set(at::BAND_RMS_00 + i, rms);
    }
    if let Some(shape) = spectrum::shape(power) {
        out.set(at::SPECTRAL_CENTROID, shape.centroid * spacing_hz);
        out.set(at::SPECTRAL_SPREAD, shape.spread * spacing_hz);
        out.set(at::SPECTRAL_ENTROPY, shape.entropy);
    }
    simd::sqrt_all(power);
    for (i, peak) in spectrum::strongest(power).into_iter().enumerate() {
        if let Some(peak) = peak {
            out.set(at::PEAK_1_FREQUENCY + 2 * i, peak.place * spacing_hz);
            out.set(at::PEAK_1_AMPLITUDE + 2 * i, peak.amplitude);
        }
    }
    let amplitudes = Amplitudes { lines: power, spacing_hz };
    let shaft = setup.shaft.map(Rpm::hertz);
    out.lines.shaft = shaft.and_then(|shaft| amplitudes.shaft(shaft, work.other.re));
    if let Some(lines) = out.lines.shaft {
        for (place, line) in (at::SHAFT_HALF..=at::SHAFT_3X).zip(lines) {
            out.set(place, line.amplitude);
        }
    }
}

/// The lines of the velocity band; `None` where rate or window cannot hold it.
fn velocity_lines(setup: &VibrationSetup, spacing_hz: f32, count: usize) -> Option<(usize, usize)> {
    let slow = setup.shaft.is_some_and(|shaft| shaft.0 < 600.0);
    let low_hz = if slow { 2.0 } else { 10.0 };
    let first = libm::ceilf(low_hz / spacing_hz) as usize;
    let last = libm::floorf(1000.0 / spacing_hz) as usize;
    // Two periods of the lowest frequency must fit into the window.
    (first >= 2 && last < count).then_some((first, last))
}

fn set_envelope<T: AsRef<[f32]>>(
    setup: &VibrationSetup,
    spacing_hz: f32,
    plan: &Plan<T>,
    work: Work<'_>,
    beats: &mut [f32],
    out: &mut Vibration,
) {
    let Some(band) = setup.band else { return };
    let Work { mut spectrum, other } = work;
    let Some(envelope) = envelope::envelope(band, spacing_hz, plan, spectrum.reborrow(), other, beats) else {
        return;
    };
    if !lanes::all_finite(beats) {
        beats.fill(0.0);
        return;
    }
    out.set(at::ENVELOPE_RMS, envelope.rms);
    if let Some(kurtosis) = envelope.kurtosis {
        out.set(at::ENVELOPE_KURTOSIS, kurtosis);
    }
    let (Some(shaft), Some(bearing)) = (setup.shaft.map(Rpm::hertz), setup.bearing) else {
        return;
    };
    let amplitudes = Amplitudes { lines: beats, spacing_hz };
    let work = spectrum.re;
    let times = |order: f32| Hertz(order * shaft.0);
    let lines = &mut out.lines;
    lines.bpfo = amplitudes.harmonics(times(bearing.bpfo), shaft, work);
    lines.bpfi = amplitudes.harmonics(times(bearing.bpfi), shaft, work);
    lines.bsf2 = amplitudes.harmonics(times(bearing.twice_bsf()), shaft, work);
    lines.ftf = amplitudes.harmonics(times(bearing.ftf), shaft, work);
    lines.bpfi_sidebands = amplitudes.sidebands(times(bearing.bpfi), shaft, work);
    lines.bsf2_sidebands = amplitudes.sidebands(times(bearing.twice_bsf()), times(bearing.ftf), work);
    let top = times(3.1 * bearing.bpfi);
    lines.strongest = amplitudes.strongest(times(1.1), top, shaft, work);
    let families = [lines.bpfo, lines.bpfi, lines.bsf2, lines.ftf];
    for (i, family) in families.into_iter().enumerate() {
        if let Some(harmonics) = family {
            out.set(at::BPFO_AMPLITUDE + 2 * i, mean(&harmonics, |l| l.amplitude));
            out.set(at::BPFO_SNR + 2 * i, mean(&harmonics, |l| l.snr));
        }
    }
}

fn mean(harmonics: &Harmonics, f: impl Fn(&crate::line::Line) -> f32) -> f32 {
    let [a, b, c] = harmonics;
    ((f(a) + f(b)) + f(c)) / 3.0
}

/// Room for values: as many as a feature vector can hold.
pub const VALUES: usize = kilter_types::MAX_FEATURES;
