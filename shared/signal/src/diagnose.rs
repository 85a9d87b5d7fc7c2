//! Ranked causes from one window's features (or from the average of many), each with the evidence that supports it.
//!
//! A bearing fault is named when at least two of its three harmonics stand as lines of their own above the envelope's
//! background, beat deep enough to matter, and are not dwarfed by a line that the fault does not explain. A line that a stronger
//! fault explains does not count.
//! Shaft faults are named only when the velocity passes a limit, because every healthy machine has a line at its speed.
//! An empty list is an answer: no clear fault.

mod average;

use kilter_types::{Cause, Evidence};

use crate::{
    extract::{VALUES, Vibration},
    line::{Form, HARMONICS, Harmonics, Line, Lines},
    table::{TEMPERATURE, THERMAL_RESIDUAL, at, vibration_id},
    temperature,
};

pub use average::{AVERAGE_SNR, Average};

/// From where on a sign counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Median signal-to-noise ratio of a fault's three harmonics.
    pub snr: f32,
    /// Amplitude of a fault's lines (mean of the harmonics) over the envelope's RMS.
    pub depth: f32,
    /// Velocity RMS from which shaft faults are looked for: by default the zone boundary B/C of group 2 on rigid support.
    pub velocity_mm_s: f32,
    /// Temperature level in degrees Celsius.
    pub level_deg_c: f32,
    /// Temperature slope in K/h.
    pub slope_k_per_h: f32,
    /// Temperature above the reference in K.
    pub difference_k: f32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { snr: 5.0, depth: 0.03, velocity_mm_s: 2.8, level_deg_c: 90.0, slope_k_per_h: 20.0, difference_k: 50.0 }
    }
}

/// One cause with what speaks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The cause.
    pub cause: Cause,
    /// How clear it is: 1/2 at the limit, towards 1 far beyond.
    pub score: f32,
    /// The features that passed their limits.
    pub evidence: heapless::Vec<Evidence, 4>,
}

/// Causes, the clearest first; empty when there is no clear fault.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnosis {
    findings: heapless::Vec<Finding, MAX_FINDINGS>,
}

impl Diagnosis {
    /// The findings, the clearest first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The clearest cause; [`Cause::Unclear`] without any.
    pub fn cause(&self) -> Cause {
        self.findings.first().map_or(Cause::Unclear, |f| f.cause)
    }

    /// The clearer of two opinions on the same window, as from two envelope bands.
    pub fn clearer(self, other: Self) -> Self {
        let score = |d: &Self| d.findings.first().map_or(0.0, |f| f.score);
        if score(&other) > score(&self) { other } else { self }
    }

    /// These findings and those, ranked anew; of two with the same cause the clearer stays.
    pub fn merge(mut self, other: Self) -> Self {
        for finding in other.findings {
            match self.findings.iter().position(|f| f.cause == finding.cause) {
                Some(place) if self.findings[place].score >= finding.score => continue,
                Some(place) => drop(self.findings.remove(place)),
                None => {}
            }
            self.insert(finding);
        }
        self
    }

    pub(crate) fn insert(&mut self, finding: Finding) {
        let rank = self.findings.iter().position(|f| finding.score > f.score).unwrap_or(self.findings.len());
        if self.findings.is_full() {
            self.findings.pop();
        }
        // Full only if the new one ranks last of all, which is then the one to leave out.
        let _ = self.findings.insert(rank.min(self.findings.len()), finding);
    }
}

/// What a vibration window, or an [`Average`] of many, speaks for.
pub fn vibration(window: &Vibration, limits: &Limits) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    bearing(window, limits, &mut diagnosis);
    shaft(window, limits, &mut diagnosis);
    diagnosis
}

/// What the shaft's own lines speak for: unbalance, misalignment, looseness.
pub fn shaft_lines(window: &Vibration, limits: &Limits) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    shaft(window, limits, &mut diagnosis);
    diagnosis
}

/// What the temperature group's values speak for.
pub fn temperature(values: &[f32; VALUES], valid: u64, limits: &Limits) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    let limits = [
        (temperature::at::LEVEL, limits.level_deg_c),
        (temperature::at::SLOPE, limits.slope_k_per_h),
        (temperature::at::DIFFERENCE, limits.difference_k),
    ];
    let mut evidence = heapless::Vec::new();
    let mut score = 0.0f32;
    for (place, limit) in limits {
        let value = values[place];
        if valid >> place & 1 == 1 && value > limit && limit > 0.0 {
            score = score.max(clarity(value / limit));
            let feature = TEMPERATURE[place].id;
            // Three signs always fit.
            let _ = evidence.push(Evidence { feature, value, limit });
        }
    }
    if score > 0.0 {
        diagnosis.insert(Finding { cause: Cause::Overheating, score, evidence });
    }
    diagnosis
}

/// What a housing that is so much warmer than its own model expects speaks for.
pub fn thermal(residual_k: f32, limit_k: f32) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    if residual_k > limit_k && limit_k > 0.0 {
        let line = Evidence { feature: THERMAL_RESIDUAL, value: residual_k, limit: limit_k };
        let evidence = [line].into_iter().collect();
        diagnosis.insert(Finding { cause: Cause::Overheating, score: clarity(residual_k / limit_k), evidence });
    }
    diagnosis
}

/// A bearing fault that its lines may speak for.
#[derive(Clone, Copy)]
struct Suspect {
    cause: Cause,
    /// Place of the amplitude feature; the ratio's is the next.
    place: usize,
    harmonics: Harmonics,
    /// Which harmonics still count.
    counts: [bool; HARMONICS],
}

impl Suspect {
    /// The median of the three ratios, those that don't count as 0.
    fn strength(&self) -> f32 {
        let mut snr = [0.0; HARMONICS];
        for (h, snr) in snr.iter_mut().enumerate() {
            if self.counts[h] {
                *snr = self.harmonics[h].snr;
            }
        }
        snr.sort_unstable_by(f32::total_cmp);
        snr[1]
    }
}

fn bearing(window: &Vibration, limits: &Limits, diagnosis: &mut Diagnosis) {
    let lines = &window.lines;
    let families = [
        (Cause::OuterRace, at::BPFO_AMPLITUDE, lines.bpfo),
        (Cause::InnerRace, at::BPFI_AMPLITUDE, lines.bpfi),
        (Cause::RollingElement, at::BSF2_AMPLITUDE, lines.bsf2),
        (Cause::Cage, at::FTF_AMPLITUDE, lines.ftf),
    ];
    let mut suspects: heapless::Vec<Suspect, 4> = families
        .into_iter()
        .filter_map(|(cause, place, harmonics)| {
            let harmonics = harmonics?;
            let counts = harmonics.map(|line| line.form == Form::Peak);
            Some(Suspect { cause, place, harmonics, counts })
        })
        .collect();
    let mut strongest: Option<f32> = None;
    while let Some(best) = take_strongest(&mut suspects) {
        let strength = best.strength();
        let amplitude = window.get(best.place).unwrap_or(0.0);
        let envelope = window.get(at::ENVELOPE_RMS).unwrap_or(0.0);
        if strength < limits.snr {
            break;
        }
        for other in &mut suspects {
            strike_explained(other, &best);
        }
        if amplitude < limits.depth * envelope || is_dwarfed(&best, lines) {
            continue;
        }
        let share = strongest.map_or(1.0, |first| strength / first);
        strongest = strongest.or(Some(strength));
        if share < SECOND_SHARE {
            continue;
        }
        diagnosis.insert(Finding {
            cause: best.cause,
            score: clarity(strength / limits.snr) * share,
            evidence: bearing_evidence(window, &best, limits),
        });
    }
}

fn take_strongest(suspects: &mut heapless::Vec<Suspect, 4>) -> Option<Suspect> {
    let mut best: Option<(usize, f32)> = None;
    for (i, suspect) in suspects.iter().enumerate() {
        let strength = suspect.strength();
        if best.is_none_or(|(_, greatest)| strength > greatest) {
            best = Some((i, strength));
        }
    }
    best.map(|(i, _)| suspects.remove(i))
}

/// Does a line that this fault does not explain stand far above all of its own? Then it is a sideband of something else.
fn is_dwarfed(suspect: &Suspect, lines: &Lines) -> bool {
    let Some([strongest]) = lines.strongest else {
        return false;
    };
    let greatest = suspect.harmonics.iter().map(|line| line.amplitude).fold(0.0, f32::max);
    let sidebands = match suspect.cause {
        // Once per revolution the defect passes the load zone: the sidebands may outgrow the line.
        Cause::InnerRace => lines.bpfi_sidebands,
        _ => None,
    };
    let own = suspect
        .harmonics
        .iter()
        .chain(sidebands.iter().flatten())
        .any(|line| (line.frequency.0 - strongest.frequency.0).abs() <= SAME_LINE * line.frequency.0);
    !own && strongest.amplitude > DWARFING * greatest
}

/// A line at the same place as one of a stronger fault is that fault's.
fn strike_explained(suspect: &mut Suspect, by: &Suspect) {
    for (line, counts) in suspect.harmonics.iter().zip(&mut suspect.counts) {
        let near = |other: &Line| (line.frequency.0 - other.frequency.0).abs() <= SAME_LINE * other.frequency.0;
        if by.harmonics.iter().any(near) {
            *counts = false;
        }
    }
}

fn bearing_evidence(window: &Vibration, suspect: &Suspect, limits: &Limits) -> heapless::Vec<Evidence, 4> {
    let envelope = window.get(at::ENVELOPE_RMS).unwrap_or(0.0);
    evidence(
        window,
        &[
            (suspect.place + 1, limits.snr),
            (suspect.place, limits.depth * envelope),
            (at::ENVELOPE_KURTOSIS, NOISE_KURTOSIS),
        ],
    )
}

fn shaft(window: &Vibration, limits: &Limits, diagnosis: &mut Diagnosis) {
    let (Some(lines), Some(total)) = (window.lines.shaft, window.get(at::VELOCITY_RMS)) else {
        return;
    };
    if total <= limits.velocity_mm_s {
        return;
    }
    let velocity = lines.map(|line| rms_velocity_mm_s(&line));
    let stands = lines.map(|line| line.form == Form::Peak && line.snr >= limits.snr);
    let [half, one, two, ..] = velocity;
    if !stands[1] && !stands[2] {
        return;
    }
    let over = clarity(total / limits.velocity_mm_s);
    let rich = (2..velocity.len()).filter(|&i| stands[i] && velocity[i] >= HARMONIC_SHARE * one).count();
    let loose = stands[0] && half >= HARMONIC_SHARE * one || rich >= 3;
    let mut name = |cause, share: f32, places: &[(usize, f32)]| {
        diagnosis.insert(Finding { cause, score: over * share.min(1.0), evidence: evidence(window, places) });
    };
    let limit = limits.velocity_mm_s;
    if loose {
        let share = f32::max(half / one.max(f32::MIN_POSITIVE), 0.25 * rich as f32);
        name(
            Cause::Looseness,
            0.5 + 0.5 * share.min(1.0),
            &[(at::VELOCITY_RMS, limit), (at::SHAFT_HALF, 0.0), (at::SHAFT_2X, 0.0), (at::SHAFT_3X, 0.0)],
        );
    } else if stands[2] && two >= SECOND_HARMONIC * one {
        let share = two / (one + two);
        name(Cause::Misalignment, 0.5 + 0.5 * share, &[(at::VELOCITY_RMS, limit), (at::SHAFT_2X, 0.0)]);
    } else if stands[1] && one * one >= UNBALANCE_SHARE * total * total {
        name(Cause::Unbalance, f32::min(one / total, 1.0), &[(at::VELOCITY_RMS, limit), (at::SHAFT_1X, 0.0)]);
    }
}

fn rms_velocity_mm_s(line: &Line) -> f32 {
    let omega = core::f32::consts::TAU * f32::max(line.frequency.0, f32::MIN_POSITIVE);
    line.amplitude * 9806.65 / omega * core::f32::consts::FRAC_1_SQRT_2
}

/// The features at these places that are valid and beyond their limits.
fn evidence(window: &Vibration, places: &[(usize, f32)]) -> heapless::Vec<Evidence, 4> {
    places
        .iter()
        .filter_map(|&(place, limit)| {
            let value = window.get(place).filter(|v| *v > limit)?;
            Some(Evidence { feature: vibration_id(place), value, limit })
        })
        .take(4)
        .collect()
}

/// 1/2 at the limit, towards 1 far beyond.
pub(crate) fn clarity(ratio: f32) -> f32 {
    1.0 - 0.5 / f32::max(ratio, 1.0)
}

/// Room for every cause that can stand beside others.
const MAX_FINDINGS: usize = 8;
/// A second bearing fault is named from this share of the first one's strength.
const SECOND_SHARE: f32 = 0.5;
/// A foreign line this many times as high as a fault's highest one speaks against the fault.
const DWARFING: f32 = 1.5;
/// Lines nearer than this share of their frequency are one line.
const SAME_LINE: f32 = 0.012;
/// Kurtosis of the envelope of band-limited normal noise.
const NOISE_KURTOSIS: f32 = 3.245;
/// Velocity of a harmonic over that of the shaft's own line from which looseness is thought of.
const HARMONIC_SHARE: f32 = 0.25;
/// Velocity at twice the shaft over that at the shaft from which it is misalignment.
const SECOND_HARMONIC: f32 = 0.5;
/// Share of the velocity's power at the shaft from which it is unbalance.
const UNBALANCE_SHARE: f32 = 0.6;
