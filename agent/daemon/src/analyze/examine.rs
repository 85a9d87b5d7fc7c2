//! The computation: windows of one second through the production path, and the record from all of them.
//!
//! Where a housing rings differs from machine to machine. So each window's envelope is taken in several bands and of the whitened
//! spectrum, and in the band where the record's kurtogram stands highest; the clearest sign counts. A window is judged by its own
//! samples alone; only the choice of that one band comes from the record.

use anyhow::Context as _;
use kilter_signal::bearing::Orders;
use kilter_signal::bearing_sign::{self, BearingSign};
use kilter_signal::demodulate::{self, Beats, Demodulation};
use kilter_signal::diagnose::{self, Average, Diagnosis, Limits};
use kilter_signal::extract::{self, Vibration, VibrationSetup};
use kilter_signal::fft::{self, Plan};
use kilter_signal::gear::Mesh;
use kilter_signal::health::{self, HealthLimits};
use kilter_signal::impute;
use kilter_signal::kurtogram::{self, Kurtogram};
use kilter_signal::spectrum::Amplitudes;
use kilter_signal::table::at;
use kilter_signal::verdict::{self, Clear};
use kilter_signal::zone::Zone;
use kilter_types::{ChannelId, Hertz, Quality, Rpm, Unit};

use super::source::Record;
use super::{Analyze, Standing};

/// What one channel of a record says.
pub(crate) struct Examined {
    pub(crate) file: String,
    pub(crate) channel: String,
    pub(crate) rate: Hertz,
    pub(crate) rpm: Option<Rpm>,
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
            serde_json::to_value(channel.unit).ok().and_then(|u| u.as_str().map(str::to_owned)).unwrap_or_default()
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
struct Setup {
    rate: Hertz,
    rpm: Option<Rpm>,
    bearing: Option<Orders>,
    teeth: Option<u16>,
    standing: Standing,
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
    let qualities: Vec<Quality> = samples.chunks_exact_mut(step).map(impute::fill).collect();
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
    let whole = engine.whole(&windows, &samples)?;
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

/// Everything that windows share: plan, buffers, and the sums that become the record.
struct Engine<'a> {
    setup: &'a Setup,
    vibration: VibrationSetup,
    plan: Plan<Vec<f32>>,
    scratch: Vec<f32>,
    work: Vec<f32>,
    demodulations: Vec<(Demodulation, Mean)>,
    acceleration: Mean,
    average: Average,
    limits: Limits,
}

/// Mean power over windows.
#[derive(Default)]
struct Mean {
    power: Vec<f32>,
    variance: f32,
    windows: u32,
}

impl Mean {
    fn add(&mut self, lines: &[f32], deviation: f32) {
        self.power.resize(lines.len(), 0.0);
        self.windows += 1;
        let weight = 1.0 / self.windows as f32;
        for (mean, a) in self.power.iter_mut().zip(lines) {
            *mean += (a * a - *mean) * weight;
        }
        self.variance += (deviation * deviation - self.variance) * weight;
    }

    fn amplitudes(&self) -> Vec<f32> {
        self.power.iter().map(|p| p.sqrt()).collect()
    }
}

impl<'a> Engine<'a> {
    fn new(setup: &'a Setup, window_len: usize) -> anyhow::Result<Self> {
        let refused = |refusal: extract::Refusal| anyhow::anyhow!("{refusal}");
        let mut vibration = VibrationSetup::new(setup.rate).map_err(refused)?;
        if let Some(rpm) = setup.rpm {
            vibration = vibration.with_shaft(rpm);
        }
        if let Some(bearing) = setup.bearing {
            vibration = vibration.with_bearing(bearing);
        }
        let demodulations = Demodulation::candidates(setup.rate).map(|d| (d, Mean::default())).collect();
        let scratch = extract::scratch_len(window_len).max(kurtogram::scratch_len(window_len));
        Ok(Self {
            setup,
            vibration,
            plan: plan(window_len)?,
            scratch: vec![0.0; scratch],
            work: vec![0.0; window_len],
            demodulations,
            acceleration: Mean::default(),
            average: Average::default(),
            limits: Limits::default(),
        })
    }

    /// The band of the record's kurtogram joins the candidates where impulses stand out anywhere.
    fn choose_band(&mut self, samples: &[f32], step: usize) -> Option<kurtogram::Node> {
        let trees: Vec<Kurtogram> = samples
            .chunks_exact(step)
            .filter_map(|window| Kurtogram::of(window, &self.plan, &mut self.scratch).ok())
            .collect();
        let mut work = vec![0.0; trees.len()];
        // Room for a few harmonics of the fastest beat on both sides of the resonance.
        let shaft_hz = self.setup.rpm.map_or(30.0, |rpm| rpm.hertz().0);
        let least = Hertz(shaft_hz * self.setup.bearing.map_or(20.0, |b| 4.0 * b.bpfi));
        let node = Kurtogram::median(&trees, &mut work).choose(self.setup.rate, least);
        let node = node.filter(|node| node.kurtosis >= IMPULSIVE)?;
        let band = node.band(self.setup.rate)?;
        self.demodulations.push((Demodulation::Plain(band), Mean::default()));
        Some(node)
    }

    fn window(&mut self, samples: &[f32], filled: Quality, start_s: f64) -> anyhow::Result<Said> {
        let samples = &samples[..self.plan.len()];
        let quality = filled | health::assess(samples, &HealthLimits::default());
        let mut said = Said {
            start_s,
            end_s: start_s + samples.len() as f64 / f64::from(self.setup.rate.0),
            features: Vibration::default(),
            quality,
            zone: None,
            diagnosis: Diagnosis::default(),
            sign: None,
            spectrum_peaks: Vec::new(),
            envelope_peaks: Vec::new(),
        };
        let refused = |refusal: extract::Refusal| anyhow::anyhow!("{refusal}");
        let spectra = extract::vibration(samples, &self.vibration, &self.plan, &mut self.scratch, &mut said.features)
            .map_err(refused)?;
        said.spectrum_peaks = peaks(&spectra.acceleration);
        if !quality.intersects(UNREADABLE) {
            self.acceleration.add(spectra.acceleration.lines, 0.0);
            self.average.add(&said.features);
        }
        let (shaft, teeth) = (self.setup.rpm.map(Rpm::hertz), self.setup.teeth);
        let mesh = shaft.zip(teeth).and_then(|(f, z)| Mesh::read(&spectra.acceleration, f, z, &mut self.work));
        said.zone = zone(&said.features, self.setup.standing);
        if quality.intersects(UNREADABLE) {
            return Ok(said);
        }
        let mut signs = Vec::new();
        for (demodulation, mean) in &mut self.demodulations {
            let beats = demodulate::beats(samples, self.setup.rate, demodulation, &self.plan, &mut self.scratch)
                .map_err(refused)?;
            mean.add(beats.amplitudes.lines, beats.deviation);
            let sign =
                shaft.zip(self.setup.bearing).and_then(|(f, b)| bearing_sign::weigh(&beats, f, &b, &mut self.work));
            signs.push((*demodulation, sign, peaks(&beats.amplitudes)));
        }
        conclude(&mut said, signs, &Clear::default());
        said.diagnosis = said.diagnosis.merge(diagnose::shaft_lines(&said.features, &self.limits));
        if let Some(mesh) = mesh {
            said.diagnosis = said.diagnosis.merge(mesh.diagnose(self.limits.snr));
        }
        Ok(said)
    }

    /// The record: mean spectra of all windows, and the same again at the finest resolution that the record allows.
    fn whole(&mut self, windows: &[Said], samples: &[f32]) -> anyhow::Result<Said> {
        let quality = windows.iter().fold(Quality::GOOD, |all, w| all | w.quality);
        let mut said = Said {
            start_s: 0.0,
            end_s: windows.last().map_or(0.0, |w| w.end_s),
            features: self.average.mean(),
            quality,
            zone: None,
            diagnosis: Diagnosis::default(),
            sign: None,
            spectrum_peaks: Vec::new(),
            envelope_peaks: Vec::new(),
        };
        said.zone = zone(&said.features, self.setup.standing);
        let spacing_hz = self.setup.rate.0 / self.plan.len() as f32;
        let lines = self.acceleration.amplitudes();
        let acceleration = Amplitudes { lines: &lines, spacing_hz };
        said.spectrum_peaks = peaks(&acceleration);
        let shaft = self.setup.rpm.map(Rpm::hertz);
        let mut signs = Vec::new();
        for (demodulation, mean) in &self.demodulations {
            let lines = mean.amplitudes();
            let amplitudes = Amplitudes { lines: &lines, spacing_hz };
            let beats = Beats { amplitudes, deviation: mean.variance.sqrt() };
            let sign =
                shaft.zip(self.setup.bearing).and_then(|(f, b)| bearing_sign::weigh(&beats, f, &b, &mut self.work));
            signs.push((*demodulation, sign, peaks(&amplitudes)));
        }
        if let Some((shaft, bearing)) = shaft.zip(self.setup.bearing) {
            signs.extend(self.fine(samples, shaft, &bearing)?);
        }
        let clear = if windows.len() >= MANY { Clear::averaged() } else { Clear::default() };
        conclude(&mut said, signs, &clear);
        said.diagnosis = said.diagnosis.merge(diagnose::shaft_lines(&said.features, &self.limits));
        if let Some((shaft, teeth)) = shaft.zip(self.setup.teeth)
            && let Some(mesh) = Mesh::read(&acceleration, shaft, teeth, &mut self.work)
        {
            said.diagnosis = said.diagnosis.merge(mesh.diagnose(self.limits.snr));
        }
        Ok(said)
    }

    /// Signs from the longest windows: lines a fraction of a hertz apart, as of a bearing whose order is nearly a whole number.
    fn fine(&self, samples: &[f32], shaft: Hertz, bearing: &Orders) -> anyhow::Result<Vec<Signed>> {
        let wanted = samples.len().min((FINE_SECS * self.setup.rate.0) as usize);
        let Some(len) = fft::longest_len(wanted).filter(|len| *len >= 2 * self.plan.len()) else {
            return Ok(Vec::new());
        };
        let plan = plan(len)?;
        let mut scratch = vec![0.0; demodulate::scratch_len(len)];
        let mut work = vec![0.0; len];
        let mut signs = Vec::new();
        for (demodulation, _) in &self.demodulations {
            let mut mean = Mean::default();
            for window in samples.chunks_exact(len) {
                let beats = demodulate::beats(window, self.setup.rate, demodulation, &plan, &mut scratch)
                    .map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
                if beats.deviation > 0.0 {
                    mean.add(beats.amplitudes.lines, beats.deviation);
                }
            }
            let lines = mean.amplitudes();
            let amplitudes = Amplitudes { lines: &lines, spacing_hz: self.setup.rate.0 / len as f32 };
            let beats = Beats { amplitudes, deviation: mean.variance.sqrt() };
            signs.push((*demodulation, bearing_sign::weigh(&beats, shaft, bearing, &mut work), Vec::new()));
        }
        Ok(signs)
    }

    /// Mean spectrum, and mean envelope spectrum of the demodulation asked for.
    fn spectra(&self, shown: Option<Demodulation>) -> (Spectrum, Spectrum, Option<Demodulation>) {
        let spacing_hz = self.setup.rate.0 / self.plan.len() as f32;
        let chosen = self.demodulations.iter().find(|(d, _)| Some(*d) == shown).or(self.demodulations.first());
        let envelope = chosen.map(|(_, mean)| mean.amplitudes()).unwrap_or_default();
        let acceleration = Spectrum { lines: self.acceleration.amplitudes(), spacing_hz };
        (acceleration, Spectrum { lines: envelope, spacing_hz }, chosen.map(|(d, _)| *d))
    }
}

type Signed = (Demodulation, Option<BearingSign>, Vec<(f32, f32)>);

/// The clearest demodulation decides; of none that is clear, the one with the greatest share is kept to look at.
fn conclude(said: &mut Said, signs: Vec<Signed>, clear: &Clear) {
    let score = |d: &Diagnosis| d.findings().first().map_or(0.0, |f| f.score);
    let mut best: Option<(f32, f32)> = None;
    if let Some((_, _, peaks)) = signs.first() {
        said.envelope_peaks.clone_from(peaks);
    }
    for (demodulation, sign, peaks) in signs {
        let Some(sign) = sign else { continue };
        let found = verdict::of(&sign, &demodulation, clear);
        let share = sign.combs.iter().flatten().map(|c| c.share).fold(0.0, f32::max);
        let rank = (score(&found), share);
        if best.is_none_or(|best| rank > best) {
            best = Some(rank);
            said.sign = Some((demodulation, sign));
            if !peaks.is_empty() {
                said.envelope_peaks = peaks;
            }
        }
        said.diagnosis = std::mem::take(&mut said.diagnosis).clearer(found);
    }
}

fn plan(len: usize) -> anyhow::Result<Plan<Vec<f32>>> {
    Plan::new(len, vec![0.0; fft::fast_table_len(len)]).map_err(|error| anyhow::anyhow!("{error}"))
}

fn zone(features: &Vibration, standing: Standing) -> Option<Zone> {
    features.get(at::VELOCITY_RMS).and_then(|velocity| Zone::of(velocity, standing.group, standing.support))
}

/// The strongest local maxima, frequency and amplitude, strongest first.
fn peaks(amplitudes: &Amplitudes<'_>) -> Vec<(f32, f32)> {
    let lines = amplitudes.lines;
    let mut tops: Vec<usize> =
        (2..lines.len().saturating_sub(1)).filter(|&k| lines[k] > lines[k - 1] && lines[k] >= lines[k + 1]).collect();
    tops.sort_by(|a, b| lines[*b].total_cmp(&lines[*a]));
    tops.into_iter().take(PEAKS).map(|k| (k as f32 * amplitudes.spacing_hz, lines[k])).collect()
}

/// Flags under which a window is not judged.
pub(crate) const UNREADABLE: Quality = Quality(Quality::NON_FINITE.0 | Quality::STUCK.0 | Quality::DROPOUT.0);
const PEAKS: usize = 5;
const LEAST_SAMPLES: usize = 512;
/// Spectral kurtosis from which a band is worth looking at on its own.
const IMPULSIVE: f32 = 0.5;
/// So many windows average out chance.
const MANY: usize = 4;
/// Length of the windows of finest resolution.
const FINE_SECS: f32 = 4.0;
