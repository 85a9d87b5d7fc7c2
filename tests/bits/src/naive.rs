//! Set S as one would write it first, straight from its definitions: the yardstick for instructions on a microcontroller.
//!
//! One pass per moment, a radix-2 FFT of complex numbers with sines and cosines computed as they are needed, a taper in time,
//! an analytic signal at the full rate, medians by sorting. No table, no shared transform. It gives the same values within
//! rounding, which [`difference`] tells.

use kilter_signal::extract::Vibration;
use kilter_signal::table::{VIBRATION_LEN, at};
use libm::{cosf, logf, sinf, sqrtf};

use crate::{HEAD, WINDOW};

/// Memory for one window.
#[derive(Debug)]
pub struct Room {
    re: [f32; WINDOW],
    im: [f32; WINDOW],
    lines: [f32; WINDOW / 2],
    sorted: [f32; WINDOW / 2],
}

impl Room {
    /// Empty room.
    pub const fn new() -> Self {
        Self { re: [0.0; WINDOW], im: [0.0; WINDOW], lines: [0.0; WINDOW / 2], sorted: [0.0; WINDOW / 2] }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

/// Set S of one window.
pub fn vibration(head: &[f32; HEAD], samples: &[f32; WINDOW], room: &mut Room) -> [f32; VIBRATION_LEN] {
    let [rate_hz, rpm, bpfo, bpfi, bsf, ftf] = *head;
    let mut out = [0.0; VIBRATION_LEN];
    let mean = mean_of(samples, |x| x);
    moments(samples, mean, rate_hz, &mut out);
    let spacing_hz = rate_hz / WINDOW as f32;
    let shaft_hz = rpm / 60.0;
    // The tapered spectrum.
    let Room { re, im, lines, sorted } = room;
    for (t, ((re, im), x)) in re.iter_mut().zip(im.iter_mut()).zip(samples).enumerate() {
        let taper = 0.5 - 0.5 * cosf(TAU * t as f32 / WINDOW as f32);
        (*re, *im) = ((x - mean) * taper, 0.0);
    }
    fft(re, im, false);
    for (k, line) in lines.iter_mut().enumerate() {
        *line = 4.0 * sqrtf(re[k] * re[k] + im[k] * im[k]) / WINDOW as f32;
    }
    spectrum(lines, spacing_hz, &mut out);
    for (i, order) in [0.5, 1.0, 2.0, 3.0].into_iter().enumerate() {
        let frequency = order * shaft_hz;
        let reach = f32::max(0.01 * frequency / spacing_hz, 1.5);
        let (k, _, _) = line(lines, frequency / spacing_hz, reach, f32::max(0.4 * shaft_hz / spacing_hz, 10.0), sorted);
        out[at::SHAFT_HALF + i] = interpolate(lines, k).1;
    }
    // The untapered spectrum, for the velocity and the envelope.
    for ((re, im), x) in re.iter_mut().zip(im.iter_mut()).zip(samples) {
        (*re, *im) = (x - mean, 0.0);
    }
    fft(re, im, false);
    let mut sum = 0.0;
    for k in 0..WINDOW / 2 {
        let frequency = k as f32 * spacing_hz;
        if (10.0..=1000.0).contains(&frequency) {
            sum += (re[k] * re[k] + im[k] * im[k]) / (frequency * frequency);
        }
    }
    out[at::VELOCITY_RMS] = sqrtf(2.0 * sum) * 9806.65 / (TAU * WINDOW as f32);
    // The analytic signal of the band at the full rate.
    let (low, high) = (f32::min(0.15 * rate_hz, 2000.0), f32::min(0.45 * rate_hz, 10_000.0));
    for k in 0..WINDOW {
        let frequency = k as f32 * spacing_hz;
        let gain = if (low..=high).contains(&frequency) && k < WINDOW / 2 { 2.0 } else { 0.0 };
        re[k] *= gain;
        im[k] *= gain;
    }
    fft(re, im, true);
    for (re, im) in re.iter_mut().zip(im.iter()) {
        *re = sqrtf(*re * *re + im * im) / WINDOW as f32;
    }
    // Every second value says all there is to say.
    let half = WINDOW / 2;
    for t in 0..half {
        re[t] = re[2 * t];
    }
    let envelope = &re[..half];
    let mean = mean_of(envelope, |e| e);
    out[at::ENVELOPE_RMS] = sqrtf(mean_of(envelope, |e| e * e));
    let variance = mean_of(envelope, |e| (e - mean) * (e - mean));
    let fourth = mean_of(envelope, |e| (e - mean) * (e - mean) * (e - mean) * (e - mean));
    out[at::ENVELOPE_KURTOSIS] = fourth / (variance * variance);
    for (t, (re, im)) in re.iter_mut().zip(im.iter_mut()).take(half).enumerate() {
        let taper = 0.5 - 0.5 * cosf(TAU * t as f32 / half as f32);
        (*re, *im) = ((*re - mean) * taper, 0.0);
    }
    fft(&mut re[..half], &mut im[..half], false);
    let lines = &mut lines[..half / 2];
    for (k, line) in lines.iter_mut().enumerate() {
        *line = 4.0 * sqrtf(re[k] * re[k] + im[k] * im[k]) / half as f32;
    }
    for (i, order) in [bpfo, bpfi, 2.0 * bsf, ftf].into_iter().enumerate() {
        let base = order * shaft_hz;
        let (mut amplitude, mut snr) = (0.0, 0.0);
        for harmonic in 1..=3 {
            let frequency = base * harmonic as f32;
            let reach = f32::max(0.01 * frequency / spacing_hz, 2.0);
            let around = f32::max(0.4 * base / spacing_hz, 10.0);
            let (_, a, background) = line(lines, frequency / spacing_hz, reach, around, sorted);
            amplitude += a / 3.0;
            snr += a / f32::max(background, f32::MIN_POSITIVE) / 3.0;
        }
        out[at::BPFO_AMPLITUDE + 2 * i] = amplitude;
        out[at::BPFO_SNR + 2 * i] = snr;
    }
    out
}

/// The greatest difference of two sets of values, relative to the greater of value and 1e-3; what one has not, neither must have.
pub fn difference(ours: &Vibration, naive: &[f32; VIBRATION_LEN]) -> f32 {
    let differ = |(place, naive): (usize, &f32)| {
        ours.get(place).map_or(0.0, |ours| (ours - naive).abs() / f32::max(f32::max(ours.abs(), naive.abs()), 1e-3))
    };
    naive.iter().enumerate().map(differ).fold(0.0, f32::max)
}

fn mean_of(samples: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    samples.iter().map(|x| f(*x)).sum::<f32>() / samples.len() as f32
}

fn moments(samples: &[f32], mean: f32, rate_hz: f32, out: &mut [f32; VIBRATION_LEN]) {
    let rms = sqrtf(mean_of(samples, |x| (x - mean) * (x - mean)));
    let peak = samples.iter().map(|x| (x - mean).abs()).fold(0.0, f32::max);
    let low = samples.iter().copied().fold(f32::MAX, f32::min);
    let high = samples.iter().copied().fold(f32::MIN, f32::max);
    let mean_abs = mean_of(samples, |x| (x - mean).abs());
    let mean_root = mean_of(samples, |x| sqrtf((x - mean).abs()));
    let cube = mean_of(samples, |x| (x - mean) * (x - mean) * (x - mean));
    let fourth = mean_of(samples, |x| (x - mean) * (x - mean) * (x - mean) * (x - mean));
    let crossings = samples.windows(2).filter(|pair| (pair[0] < mean) != (pair[1] < mean)).count();
    out[at::MEAN] = mean;
    out[at::RMS] = rms;
    out[at::PEAK] = peak;
    out[at::PEAK_TO_PEAK] = high - low;
    out[at::CREST_FACTOR] = peak / rms;
    out[at::SHAPE_FACTOR] = rms / mean_abs;
    out[at::IMPULSE_FACTOR] = peak / mean_abs;
    out[at::CLEARANCE_FACTOR] = peak / (mean_root * mean_root);
    out[at::SKEWNESS] = cube / (rms * rms * rms);
    out[at::KURTOSIS] = fourth / (rms * rms * rms * rms);
    out[at::ZERO_CROSSING_RATE] = crossings as f32 * rate_hz / samples.len() as f32;
}

fn spectrum(lines: &[f32], spacing_hz: f32, out: &mut [f32; VIBRATION_LEN]) {
    let count = lines.len();
    for band in 0..16 {
        let (low, high) = ((band * count).div_ceil(16).max(1), ((band + 1) * count).div_ceil(16));
        out[at::BAND_RMS_00 + band] = sqrtf(lines[low..high].iter().map(|a| a * a).sum::<f32>() / 3.0);
    }
    let power = || lines.iter().enumerate().skip(1).map(|(k, a)| (k as f32 * spacing_hz, a * a));
    let total: f32 = power().map(|(_, p)| p).sum();
    let centroid = power().map(|(f, p)| f * p).sum::<f32>() / total;
    let spread = power().map(|(f, p)| (f - centroid) * (f - centroid) * p).sum::<f32>() / total;
    let entropy: f32 =
        power().map(|(_, p)| p / total).filter(|share| *share > 0.0).map(|share| share * logf(share)).sum();
    out[at::SPECTRAL_CENTROID] = centroid;
    out[at::SPECTRAL_SPREAD] = sqrtf(spread);
    out[at::SPECTRAL_ENTROPY] = -entropy / logf((count - 1) as f32);
    let mut above = f32::MAX;
    for peak in 0..3 {
        let (mut best, mut amplitude) = (0, 0.0);
        for k in 2..count - 1 {
            let a = lines[k];
            if a > amplitude && a < above && a > lines[k - 1] && a >= lines[k + 1] {
                (best, amplitude) = (k, a);
            }
        }
        above = amplitude;
        let (place, amplitude) = interpolate(lines, best);
        out[at::PEAK_1_FREQUENCY + 2 * peak] = place * spacing_hz;
        out[at::PEAK_1_AMPLITUDE + 2 * peak] = amplitude;
    }
}

/// The greatest line within reach of a place, its amplitude, and the median of what lies around.
fn line(lines: &[f32], place: f32, reach: f32, around: f32, sorted: &mut [f32]) -> (usize, f32, f32) {
    let range = |reach: f32| {
        let low = libm::ceilf(f32::max(place - reach, 2.0)) as usize;
        (low, (libm::floorf(place + reach) as usize).min(lines.len() - 1))
    };
    let ((low, high), (far_low, far_high)) = (range(reach), range(f32::max(around, reach + 8.0)));
    let (mut best, mut amplitude) = (low, 0.0);
    for (k, a) in lines.iter().enumerate().take(high + 1).skip(low) {
        if *a > amplitude {
            (best, amplitude) = (k, *a);
        }
    }
    let mut count = 0;
    for (k, a) in lines.iter().enumerate().take(far_high + 1).skip(far_low) {
        if k < low || k > high {
            sorted[count] = *a;
            count += 1;
        }
    }
    let sorted = &mut sorted[..count];
    for i in 1..count {
        let mut j = i;
        while j > 0 && sorted[j - 1] > sorted[j] {
            sorted.swap(j - 1, j);
            j -= 1;
        }
    }
    (best, amplitude, sorted.get(count / 2).copied().unwrap_or(0.0))
}

/// Place and amplitude of the sine behind the greatest line of a Hann lobe.
fn interpolate(lines: &[f32], k: usize) -> (f32, f32) {
    let (left, right) = (lines[k.max(1) - 1], lines[(k + 1).min(lines.len() - 1)]);
    let (neighbour, sign) = if right >= left { (right, 1.0) } else { (left, -1.0) };
    let ratio = neighbour / lines[k];
    let d = ((2.0 * ratio - 1.0) / (ratio + 1.0)).clamp(0.0, 0.5);
    let angle = core::f32::consts::PI * d;
    let gain = if d > 1e-3 { angle / sinf(angle) } else { 1.0 };
    (k as f32 + sign * d, lines[k] * (1.0 - d * d) * gain)
}

/// Radix 2, decimation in time, in place; the inverse is not scaled.
fn fft(re: &mut [f32], im: &mut [f32], inverse: bool) {
    let n = re.len();
    let bits = n.trailing_zeros();
    for i in 0..n {
        let j = (i as u32).reverse_bits() as usize >> (32 - bits);
        if i < j {
            re.swap(i, j);
            im.swap(i, j);
        }
    }
    let sign = if inverse { 1.0 } else { -1.0 };
    let mut size = 2;
    while size <= n {
        for j in 0..size / 2 {
            let angle = sign * TAU * j as f32 / size as f32;
            let (w_re, w_im) = (cosf(angle), sinf(angle));
            for even in (j..n).step_by(size) {
                let odd = even + size / 2;
                let (o_re, o_im) = (re[odd] * w_re - im[odd] * w_im, re[odd] * w_im + im[odd] * w_re);
                (re[odd], im[odd]) = (re[even] - o_re, im[even] - o_im);
                (re[even], im[even]) = (re[even] + o_re, im[even] + o_im);
            }
        }
        size *= 2;
    }
}

const TAU: f32 = core::f32::consts::TAU;
