//! What the channels of a record say: which are examined, what is filled in, and what a reader should know beside the figures.

use anyhow::Context as _;
use kilter_signal::bearing::Orders;
use kilter_signal::bearing_sign::BearingSign;
use kilter_signal::demodulate::Demodulation;
use kilter_signal::diagnose::Diagnosis;
use kilter_signal::extract::Vibration;
use kilter_signal::fft;
use kilter_signal::health;
use kilter_signal::impute;
use kilter_signal::zone::Zone;
use kilter_types::{ChannelId, Hertz, Quality, Rpm, Unit};

use super::engine::Engine;
use super::source::Record;
use super::speed::{self, Heard};
use super::{Analyze, Standing};

/// What one channel of a record says.
pub(crate) struct Examined {
    pub(crate) file: String,
    pub(crate) channel: String,
    pub(crate) rate: Hertz,
    pub(crate) rpm: Option<Rpm>,
    /// The speed by the samples themselves.
    pub(crate) heard: Option<Heard>,
    pub(crate) bearing: Option<Orders>,
    pub(crate) samples: Vec<f32>,
    pub(crate) window_len: usize,
    pub(crate) whole: Said,
    pub(crate) windows: Vec<Said>,
    /// What a reader should know: filled samples, what could not be computed and why.
    pub(crate) notes: Vec<String>,
    pub(crate) acceleration: Spectrum,
    pub(crate) envelope: Spectrum,
    /// The demodulation whose envelope spectrum is shown: the one that decided, else the usual one.
    pub(crate) demodulation: Option<Demodulation>,
    pub(crate) standing: Standing,
}

/// What a window, or the whole record, says.
pub(crate) struct Said {
    pub(crate) start_s: f64,
    pub(crate) end_s: f64,
    pub(crate) features: Vibration,
    pub(crate) quality: Quality,
    pub(crate) zone: Option<Zone>,
    pub(crate) diagnosis: Diagnosis,
    /// The sign of the demodulation that decided, else of the one that came nearest.
    pub(crate) sign: Option<(Demodulation, BearingSign)>,
    pub(crate) spectrum_peaks: Vec<(f32, f32)>,
    pub(crate) envelope_peaks: Vec<(f32, f32)>,
}

/// A mean spectrum: amplitudes, 0 to peak.
#[derive(Default)]
pub(crate) struct Spectrum {
    pub(crate) lines: Vec<f32>,
    pub(crate) spacing_hz: f32,
}

/// Every vibration channel of a record.
pub(crate) fn channels(record: &Record, ask: &Analyze, standing: Standing) -> anyhow::Result<Vec<Examined>> {
    let recording = &record.recording;
    let mut all = Vec::new();
    let mut times = Vec::new();
    for (place, channel) in recording.channels.iter().enumerate() {
        let number = place + 1;
        let asked = ask.channel.as_deref();
        if asked.is_some_and(|asked| asked != channel.name.as_str() && asked != number.to_string()) {
            continue;
        }
        let rate = channel.rate.context("find a rate: readings have no spectrum; state --rate")?;
        anyhow::ensure!(
            matches!(channel.unit, Unit::G | Unit::MetrePerSecondSquared),
            "analyse channel {}: its unit is {}, but vibration is in g or m/s2; export acceleration, or declare its real unit",
            channel.name,
            kilter_text::word(&channel.unit)
        );
        let id = ChannelId(u8::try_from(place).context("too many channels")?);
        let samples = recording.samples(id);
        if let Some(stated) = time_axis(&samples) {
            anyhow::ensure!(
                counts_samples(stated, rate),
                "analyse {}: column {number} counts time in steps of 1/{stated:.0} s, but --rate says {}; correct the rate",
                record.file,
                rate.0
            );
            times.push(format!("column {number} ({}) counts time and is left out", channel.name));
            continue;
        }
        let samples = samples.into_iter().map(|x| channel.unit.to_house(x)).collect();
        let setup = Setup { rate, rpm: recording.rpm, bearing: record.bearing, teeth: ask.teeth, standing };
        let examined = one(record.file.clone(), channel.name.to_string(), samples, &setup)
            .with_context(|| format!("analyse {}, channel {}", record.file, channel.name))?;
        all.push(examined);
    }
    all.iter_mut().for_each(|examined: &mut Examined| examined.notes.extend(times.iter().cloned()));
    anyhow::ensure!(
        !all.is_empty(),
        "find channel {}; there are {}",
        ask.channel.as_deref().unwrap_or("1"),
        recording.channels.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
    );
    Ok(all)
}

/// Values per second of a column that rises in even steps from end to end, as seconds do and no vibration does.
fn time_axis(values: &[f32]) -> Option<f32> {
    let (first, last) = (f64::from(*values.first()?), f64::from(*values.last()?));
    let step = (last - first) / (values.len() - 1).max(1) as f64;
    let straight = |(i, x): (usize, &f32)| (f64::from(*x) - first - step * i as f64).abs() <= 1e-3 * (last - first);
    let rises = values.len() >= LEAST_SAMPLES && step > 0.0 && values.iter().enumerate().all(straight);
    rises.then(|| (1.0 / step) as f32)
}

/// Does a straight column fit the rate: as seconds, milliseconds or microseconds, or as the sample's number?
fn counts_samples(per_unit: f32, rate: Hertz) -> bool {
    [1.0, 1e-3, 1e-6, 1.0 / rate.0].iter().any(|unit| (per_unit / (rate.0 * unit) - 1.0).abs() < 0.02)
}

/// What is declared about one channel.
pub(super) struct Setup {
    pub(super) rate: Hertz,
    pub(super) rpm: Option<Rpm>,
    pub(super) bearing: Option<Orders>,
    pub(super) teeth: Option<u16>,
    pub(super) standing: Standing,
}

fn one(file: String, channel: String, mut samples: Vec<f32>, setup: &Setup) -> anyhow::Result<Examined> {
    let window_len = fft::longest_len(samples.len().min(setup.rate.0 as usize)).filter(|len| *len >= LEAST_SAMPLES);
    let window_len = window_len.with_context(|| {
        format!(
            "fill a window: {} samples at {} Hz; at least {LEAST_SAMPLES} within one second are needed",
            samples.len(),
            setup.rate.0
        )
    })?;
    let step = if samples.len() as f32 >= setup.rate.0 { setup.rate.0 as usize } else { window_len };
    let mut notes = Vec::new();
    let missing = samples.iter().filter(|x| !x.is_finite()).count();
    let qualities: Vec<Quality> = samples.chunks_exact_mut(step).map(|window| impute::fill(window).quality()).collect();
    if missing > 0 {
        let left = samples.iter().filter(|x| !x.is_finite()).count();
        notes.push(format!(
            "{missing} samples are missing; {} were filled straight, windows with the other {left} are not judged",
            missing - left
        ));
    }
    if setup.rpm.is_none() {
        notes.push("no speed is declared (--rpm): bearing and shaft faults can't be named".to_owned());
    }
    if setup.bearing.is_none() {
        notes.push("no bearing is declared (--bearing, --orders): its faults can't be named".to_owned());
    }
    let mut engine = Engine::new(setup, window_len)?;
    let band = engine.choose_band(&samples, step);
    let mut windows = Vec::new();
    for (i, (window, quality)) in samples.chunks_exact(step).zip(qualities).enumerate() {
        let start_s = (i * step) as f64 / f64::from(setup.rate.0);
        windows.push(engine.window(window, quality, start_s)?);
    }
    let mut whole = engine.whole(&windows, &samples)?;
    if let Some(repeats) = samples.chunks_exact(step).find_map(health::repeats) {
        notes.push(format!(
            "each value comes {repeats:.1} times: the sensor's own rate is so many times lower than declared"
        ));
    }
    let heard = speed::hear(&samples, setup.rate, setup.rpm);
    notes.extend(heard.and_then(|heard| heard.note()));
    if heard.is_some_and(|heard| heard.rate_factor.is_some()) {
        whole.quality = whole.quality | Quality::WRONG_RATE;
    }
    if whole.features.valid != 0 && whole.zone.is_none() {
        notes.push(
            "no severity zone: the 10 to 1000 Hz band needs a rate above 2000 Hz and a window of 0.2 s".to_owned(),
        );
    }
    let rest = samples.len() % step;
    if rest > 0 {
        notes.push(format!("the last {:.2} s do not fill a window", rest as f64 / f64::from(setup.rate.0)));
    }
    if let Some(node) = band {
        notes.push(format!(
            "kurtogram: impulses stand out most from {:.0} to {:.0} Hz (kurtosis {:.1})",
            node.low.0, node.high.0, node.kurtosis
        ));
    }
    let shown = whole.sign.as_ref().map(|(demodulation, _)| *demodulation);
    let (acceleration, envelope, demodulation) = engine.spectra(shown);
    Ok(Examined {
        file,
        channel,
        rate: setup.rate,
        rpm: setup.rpm,
        heard,
        bearing: setup.bearing,
        samples,
        window_len,
        whole,
        windows,
        notes,
        acceleration,
        envelope,
        demodulation,
        standing: setup.standing,
    })
}

/// Flags under which a window is not judged.
pub(crate) const UNREADABLE: Quality =
    Quality(Quality::NON_FINITE.0 | Quality::STUCK.0 | Quality::DROPOUT.0 | Quality::WRONG_RATE.0);
const LEAST_SAMPLES: usize = 512;
