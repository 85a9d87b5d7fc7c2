//! How clearly each part of a bearing speaks in an envelope spectrum: combs of harmonics within slip tolerance.
//!
//! A damaged part strikes `order` times per revolution, give or take a slip that is the same for all its harmonics. So a family
//! is judged as a comb: the slip that lets the lines at 1, 2, 3 and 4 times the frequency stand highest above their background
//! together. Two figures come out, and both must be large:
//! * **likelihood**: sum over the lines of `ln 2 (line / local median)²`, at most [`LINE_CAP`] each. On normal noise a line's power is
//!   exponential, so each term is as many nats as chance would have to explain;
//! * **share**: the part of the envelope's variance that the lines (with the sidebands that belong to the part) hold. A healthy bearing
//!   has its lines too, small ones, and a long record shows them with any likelihood; damage beats deep.
//!
//! A line counts only if it is a local maximum and stands at no multiple of the shaft. What the strongest family explains (its higher
//! harmonics and sidebands) is struck from the others. The strongest line that no family explains is kept to compare with.

use kilter_types::Hertz;

use crate::{bearing::Orders, demodulate::Beats, line::median, spectrum::Amplitudes};

/// The four parts in the order of all arrays here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Outer race, BPFO.
    Outer,
    /// Inner race, BPFI.
    Inner,
    /// Rolling element, 2xBSF.
    Element,
    /// Cage, FTF.
    Cage,
}

impl Part {
    /// Every part, in order.
    pub const ALL: [Self; 4] = [Self::Outer, Self::Inner, Self::Element, Self::Cage];

    /// How often per revolution this part is struck.
    pub fn order(self, bearing: &Orders) -> f32 {
        match self {
            Self::Outer => bearing.bpfo,
            Self::Inner => bearing.bpfi,
            Self::Element => bearing.twice_bsf(),
            Self::Cage => bearing.ftf,
        }
    }

    /// Per revolution, how often the damage passes the load zone: the distance of its sidebands.
    fn sideband_order(self, bearing: &Orders) -> Option<f32> {
        match self {
            Self::Inner => Some(1.0),
            Self::Element => Some(bearing.ftf),
            Self::Outer | Self::Cage => None,
        }
    }
}

/// How many harmonics a comb has.
pub const TEETH: usize = 4;
/// The most that one line adds to the likelihood.
pub const LINE_CAP: f32 = 14.0;
/// How far all lines of a part may lie from where kinematics puts them, relative.
pub const SLIP: f32 = 0.025;

/// One part's comb at its best slip.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Comb {
    /// The relative distance from the kinematic frequency.
    pub slip: f32,
    /// Where the lines stand; 0 where none counts.
    pub frequency: [Hertz; TEETH],
    /// Their amplitudes, 0 where none counts.
    pub amplitude: [f32; TEETH],
    /// Their ratios to the local median, 0 where none counts.
    pub ratio: [f32; TEETH],
    /// Sum of the lines' capped log-likelihoods against noise, in nats.
    pub likelihood: f32,
    /// Part of the envelope's variance in these lines and their sidebands, 0 to 1.
    pub share: f32,
}

impl Comb {
    /// How many lines stand at least this far above their background.
    pub fn standing(&self, ratio: f32) -> usize {
        self.ratio.iter().filter(|r| **r >= ratio).count()
    }

    /// Are all lines there and about as high as the first, as of impulses? The even swell of a load zone has no such harmonics.
    pub fn is_train(&self) -> bool {
        let least = self.amplitude.iter().copied().fold(f32::INFINITY, f32::min);
        self.standing(3.0) == TEETH && least >= 0.5 * self.greatest()
    }

    /// The greatest amplitude.
    pub fn greatest(&self) -> f32 {
        self.amplitude.iter().copied().fold(0.0, f32::max)
    }
}

/// What one envelope spectrum says about a bearing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BearingSign {
    /// The comb of each [`Part`]; `None` where the spectrum can't resolve it.
    pub combs: [Option<Comb>; 4],
    /// The strongest line up to the third harmonic of BPFI that neither shaft nor bearing explains: frequency and amplitude.
    pub stranger: Option<(Hertz, f32)>,
}

/// Weighs an envelope spectrum; `None` without a shaft speed, or of a spectrum without any fluctuation.
///
/// `work` holds at least twice as many values as the spectrum has lines.
pub fn weigh(beats: &Beats<'_>, shaft: Hertz, bearing: &Orders, work: &mut [f32]) -> Option<BearingSign> {
    let lines = beats.amplitudes.lines;
    let sound = shaft.0 > 0.0 && beats.deviation > 0.0 && work.len() >= 2 * lines.len() && lines.len() >= 64;
    if !sound {
        return None;
    }
    let (background, rest) = work.split_at_mut(lines.len());
    let reach_hz = 0.4 * bearing.bpfo * shaft.0;
    fill_background(&beats.amplitudes, reach_hz, background, rest);
    let field = Field { amplitudes: beats.amplitudes, background, shaft, bearing, deviation: beats.deviation };
    let mut combs = Part::ALL.map(|part| field.comb(part, None));
    let strongest = Part::ALL
        .into_iter()
        .filter_map(|part| Some((part, combs[part as usize]?)))
        .filter(|(part, _)| *part != Part::Cage)
        .max_by(|a, b| a.1.share.total_cmp(&b.1.share));
    // BPFO is a multiple of FTF: a broken cage's impulses have a line there, among many as high.
    let cage = combs[Part::Cage as usize].filter(|cage| cage.is_train());
    let cage = cage.filter(|cage| strongest.is_none_or(|(_, comb)| cage.share >= 0.5 * comb.share));
    if let Some((first, comb)) = cage.map(|comb| (Part::Cage, comb)).or(strongest) {
        let explained = Explained { part: first, base_hz: comb_base(&comb, field.base_hz(first)) };
        for part in Part::ALL {
            if part != first {
                combs[part as usize] = field.comb(part, Some(explained));
            }
        }
    }
    Some(BearingSign { combs, stranger: field.stranger(&combs) })
}

fn comb_base(comb: &Comb, kinematic_hz: f32) -> f32 {
    kinematic_hz * (1.0 + comb.slip)
}

/// The lines that the strongest part explains.
#[derive(Clone, Copy)]
struct Explained {
    part: Part,
    base_hz: f32,
}

/// A spectrum with everything that is known about the machine.
struct Field<'a> {
    amplitudes: Amplitudes<'a>,
    background: &'a [f32],
    shaft: Hertz,
    bearing: &'a Orders,
    deviation: f32,
}

impl Field<'_> {
    fn base_hz(&self, part: Part) -> f32 {
        part.order(self.bearing) * self.shaft.0
    }

    /// The comb of one part at the slip where it stands highest, near slips first.
    fn comb(&self, part: Part, explained: Option<Explained>) -> Option<Comb> {
        let spacing = self.amplitudes.spacing_hz;
        let base_hz = self.base_hz(part);
        if base_hz < 4.0 * spacing || base_hz * 2.2 > spacing * self.amplitudes.lines.len() as f32 {
            return None;
        }
        let step = f32::max(0.4 * spacing / (TEETH as f32 * base_hz), 5.0e-4);
        let steps = libm::floorf(SLIP / step) as i32;
        let (low, high) = self.slip_range(part);
        let mut best = Comb::default();
        for i in 0..=2 * steps {
            // 0, 1, -1, 2, -2, ...: of equals the nearest to kinematics stays.
            let signed = if i % 2 == 1 { (i + 1) / 2 } else { -(i / 2) };
            let slip = step * signed as f32;
            if (low..=high).contains(&slip) {
                let comb = self.at(base_hz, slip, explained);
                if comb.likelihood > best.likelihood {
                    best = comb;
                }
            }
        }
        best.share = self.share(part, &best);
        Some(best)
    }

    /// How far this part may slip: the tolerance, but never nearer to another part's kinematics than to its own.
    fn slip_range(&self, part: Part) -> (f32, f32) {
        let own = part.order(self.bearing);
        let (mut low, mut high) = (-SLIP, SLIP);
        for other in Part::ALL.into_iter().filter(|other| *other != part) {
            let half_way = 0.5 * (other.order(self.bearing) / own - 1.0);
            if half_way > 0.0 {
                high = f32::min(high, half_way);
            } else if half_way < 0.0 {
                low = f32::max(low, half_way);
            }
        }
        (low, high)
    }

    fn at(&self, base_hz: f32, slip: f32, explained: Option<Explained>) -> Comb {
        let mut comb = Comb { slip, ..Comb::default() };
        for tooth in 0..TEETH {
            let expected_hz = base_hz * (1.0 + slip) * (tooth + 1) as f32;
            let Some(place) = self.peak(expected_hz) else { continue };
            let frequency_hz = place as f32 * self.amplitudes.spacing_hz;
            if self.at_shaft(frequency_hz) || explained.is_some_and(|e| self.explains(e, frequency_hz)) {
                continue;
            }
            let amplitude = self.amplitudes.lines[place];
            let ratio = amplitude / f32::max(self.background[place], f32::MIN_POSITIVE);
            comb.frequency[tooth] = Hertz(frequency_hz);
            comb.amplitude[tooth] = amplitude;
            comb.ratio[tooth] = f32::min(ratio, crate::line::MAX_SNR);
            comb.likelihood += f32::min(core::f32::consts::LN_2 * ratio * ratio, LINE_CAP);
        }
        comb
    }

    /// The local maximum at this frequency or at a neighbouring line.
    fn peak(&self, frequency_hz: f32) -> Option<usize> {
        let lines = self.amplitudes.lines;
        let near = libm::roundf(frequency_hz / self.amplitudes.spacing_hz) as usize;
        if near < 3 || near + 3 > lines.len() {
            return None;
        }
        let place = (near - 1..=near + 1).max_by(|a, b| lines[*a].total_cmp(&lines[*b]))?;
        (lines[place] > lines[place - 1] && lines[place] >= lines[place + 1]).then_some(place)
    }

    fn at_shaft(&self, frequency_hz: f32) -> bool {
        let multiple = libm::roundf(frequency_hz / self.shaft.0) * self.shaft.0;
        multiple > 0.0 && (frequency_hz - multiple).abs() <= self.amplitudes.spacing_hz
    }

    /// Does the strongest part explain a line here: one of its harmonics, or a sideband of one?
    fn explains(&self, by: Explained, frequency_hz: f32) -> bool {
        let near = |line_hz: f32| {
            let tolerance = f32::max(1.5 * self.amplitudes.spacing_hz, 0.003 * line_hz);
            (frequency_hz - line_hz).abs() <= tolerance
        };
        let harmonic = |f: f32| f32::max(libm::roundf(f / by.base_hz), 1.0) * by.base_hz;
        if near(harmonic(frequency_hz)) {
            return true;
        }
        let Some(order) = by.part.sideband_order(self.bearing) else { return false };
        let distance = order * self.shaft.0;
        [-2.0, -1.0, 1.0, 2.0].into_iter().any(|k| near(harmonic(frequency_hz - k * distance) + k * distance))
    }

    /// The part of the envelope's variance in a comb: a line of amplitude `a` holds `a²/2`.
    fn share(&self, part: Part, comb: &Comb) -> f32 {
        let mut power: f32 = comb.amplitude.iter().map(|a| 0.5 * a * a).sum();
        if let Some(order) = part.sideband_order(self.bearing) {
            let distance = order * self.shaft.0;
            for (tooth, frequency) in comb.frequency.iter().enumerate() {
                for side in [-distance, distance] {
                    if frequency.0 > 0.0
                        && let Some(place) = self.peak(frequency.0 + side)
                        && !self.at_shaft(place as f32 * self.amplitudes.spacing_hz)
                    {
                        // A sideband speaks for its carrier only as far as the carrier itself stands.
                        let a = f32::min(self.amplitudes.lines[place], comb.amplitude[tooth]);
                        power += 0.5 * a * a;
                    }
                }
            }
        }
        f32::min(power / (self.deviation * self.deviation), 1.0)
    }

    /// The strongest local maximum that neither the shaft nor a comb with its sidebands explains.
    fn stranger(&self, combs: &[Option<Comb>; 4]) -> Option<(Hertz, f32)> {
        let spacing = self.amplitudes.spacing_hz;
        let lines = self.amplitudes.lines;
        let top_hz = 3.1 * self.bearing.bpfi * self.shaft.0;
        let first = libm::ceilf(1.1 * self.shaft.0 / spacing) as usize;
        let end = (libm::floorf(top_hz / spacing) as usize).min(lines.len().saturating_sub(1));
        let mut best: Option<(Hertz, f32)> = None;
        for k in first.max(2)..end {
            let a = lines[k];
            if a <= best.map_or(0.0, |b| b.1) || a <= lines[k - 1] || a < lines[k + 1] {
                continue;
            }
            let frequency_hz = k as f32 * spacing;
            let own = Part::ALL.into_iter().any(|part| {
                combs[part as usize].is_some_and(|comb| {
                    let base_hz = comb_base(&comb, self.base_hz(part));
                    comb.likelihood >= LINE_CAP && self.explains(Explained { part, base_hz }, frequency_hz)
                })
            });
            if !own && !self.at_shaft(frequency_hz) {
                best = Some((Hertz(frequency_hz), a));
            }
        }
        best
    }
}

/// The local median of the lines, computed at knots and straight in between.
fn fill_background(amplitudes: &Amplitudes<'_>, reach_hz: f32, background: &mut [f32], work: &mut [f32]) {
    let lines = amplitudes.lines;
    let count = lines.len();
    let reach = (libm::ceilf(reach_hz / amplitudes.spacing_hz) as usize).clamp(12, count / 2);
    let step = (reach / 2).max(1);
    let knot = |center: usize, work: &mut [f32]| {
        let (low, high) = (center.saturating_sub(reach).max(2), (center + reach).min(count));
        median(&lines[low..high], &[], work).unwrap_or(0.0)
    };
    let mut left = knot(0, work);
    let mut start = 0;
    while start < count {
        let end = (start + step).min(count);
        let right = knot(end, work);
        let slope = (right - left) / (end - start) as f32;
        for (i, value) in background[start..end].iter_mut().enumerate() {
            *value = left + slope * i as f32;
        }
        (left, start) = (right, end);
    }
}
