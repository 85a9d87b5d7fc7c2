//! The work on one channel: windows through the production path, their sums, and the record from all of them.
//!
//! Where a housing rings differs from machine to machine. So each window's envelope is taken in several bands and of the whitened
//! spectrum, and in the band where the record's kurtogram stands highest; the clearest sign counts. A window is judged by its own
//! samples alone; only the choice of that one band comes from the record.

use kilter_signal::bearing::Orders;
use kilter_signal::bearing_sign::{self, BearingSign};
use kilter_signal::demodulate::{self, Beats, Demodulation};
use kilter_signal::diagnose::{self, Average, Diagnosis, Limits};
use kilter_signal::extract::{self, Vibration, VibrationSetup};
use kilter_signal::fft::{self, Plan};
use kilter_signal::gear::Mesh;
use kilter_signal::health::{self, HealthLimits};
use kilter_signal::kurtogram::{self, Kurtogram};
use kilter_signal::spectrum::Amplitudes;
use kilter_signal::table::at;
use kilter_signal::verdict::{self, Clear};
use kilter_signal::zone::Zone;
use kilter_types::{Hertz, Quality, Rpm};

use super::Standing;
use super::examine::{Said, Setup, Spectrum, UNREADABLE};

/// Everything that windows share: plan, buffers, and the sums that become the record.
pub(super) struct Engine<'a> {
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
    pub(super) fn new(setup: &'a Setup, window_len: usize) -> anyhow::Result<Self> {
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
    pub(super) fn choose_band(&mut self, samples: &[f32], step: usize) -> Option<kurtogram::Node> {
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

    pub(super) fn window(&mut self, samples: &[f32], filled: Quality, start_s: f64) -> anyhow::Result<Said> {
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
    pub(super) fn whole(&mut self, windows: &[Said], samples: &[f32]) -> anyhow::Result<Said> {
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
        if windows.iter().all(|window| window.quality.intersects(UNREADABLE)) {
            return Ok(said);
        }
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
    pub(super) fn spectra(&self, shown: Option<Demodulation>) -> (Spectrum, Spectrum, Option<Demodulation>) {
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

const PEAKS: usize = 5;
/// Spectral kurtosis from which a band is worth looking at on its own.
const IMPULSIVE: f32 = 0.5;
/// So many windows average out chance.
const MANY: usize = 4;
/// Length of the windows of finest resolution.
const FINE_SECS: f32 = 4.0;
