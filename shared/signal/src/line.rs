//! Single lines of a spectrum: how strong a frequency stands, and how far above what surrounds it.

use kilter_types::Hertz;

use crate::spectrum::{self, Amplitudes};

/// A line where one was looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Line {
    /// Where the greatest line within reach stands.
    pub frequency: Hertz,
    /// Its amplitude, 0 to peak, in the spectrum's unit.
    pub amplitude: f32,
    /// Amplitude over the median of the lines around; at most [`MAX_SNR`].
    pub snr: f32,
    /// Is it higher than both its neighbours, or the flank of something beyond reach?
    pub form: Form,
}

/// What the greatest line within reach looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The flank of a higher line that stands beyond reach.
    #[default]
    Flank,
    /// A line of its own.
    Peak,
    /// A line that stands at a multiple of the shaft's speed, and not where it was looked for.
    Shaft,
}

/// Three harmonics of one fault frequency.
pub type Harmonics = [Line; HARMONICS];

/// The greatest signal-to-noise ratio that is told: a line on silence has no other.
pub const MAX_SNR: f32 = 1.0e6;
/// How many harmonics of a fault frequency are looked at.
pub const HARMONICS: usize = 3;
/// The shaft orders that are looked at.
pub const SHAFT_ORDERS: [f32; 6] = [0.5, 1.0, 2.0, 3.0, 4.0, 5.0];

/// The lines that faults are read from; `None` where speed or bearing is unknown or the window cannot resolve them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lines {
    /// Outer race, in the envelope's spectrum.
    pub bpfo: Option<Harmonics>,
    /// Inner race, in the envelope's spectrum.
    pub bpfi: Option<Harmonics>,
    /// Rolling element (2xBSF), in the envelope's spectrum.
    pub bsf2: Option<Harmonics>,
    /// Cage, in the envelope's spectrum.
    pub ftf: Option<Harmonics>,
    /// Sidebands of BPFI at one shaft frequency below and above.
    pub bpfi_sidebands: Option<[Line; 2]>,
    /// Sidebands of 2xBSF at one cage frequency below and above.
    pub bsf2_sidebands: Option<[Line; 2]>,
    /// The strongest line of the envelope's spectrum between the shaft and the third harmonic of BPFI that is no multiple of the
    /// shaft; a fault that is real is not dwarfed by it.
    pub strongest: Option<[Line; 1]>,
    /// The shaft's own lines ([`SHAFT_ORDERS`]), in the spectrum.
    pub shaft: Option<[Line; SHAFT_ORDERS.len()]>,
}

/// How far a line may stand from where it is expected, and how far around it its background reaches, in lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    pub(crate) line: f32,
    pub(crate) around: f32,
}

impl Amplitudes<'_> {
    /// Three harmonics of `base`; `None` unless all of them and their surroundings can be told apart.
    pub(crate) fn harmonics(&self, base: Hertz, shaft: Hertz, work: &mut [f32]) -> Option<Harmonics> {
        if base.0 < 3.0 * self.spacing_hz {
            return None;
        }
        let mut harmonics = Harmonics::default();
        for (h, line) in harmonics.iter_mut().enumerate() {
            let frequency = base.0 * (h + 1) as f32;
            *line = self.line(Hertz(frequency), self.reach(frequency, base.0), work)?;
            let multiple = libm::roundf(line.frequency.0 / shaft.0) * shaft.0;
            let at_shaft = (line.frequency.0 - multiple).abs() <= self.spacing_hz;
            let apart = (frequency - multiple).abs() > 1.5 * self.spacing_hz;
            if line.form == Form::Peak && at_shaft && apart {
                line.form = Form::Shaft;
            }
        }
        Some(harmonics)
    }

    /// Sidebands of `carrier` at `distance` below and above.
    pub(crate) fn sidebands(&self, carrier: Hertz, distance: Hertz, work: &mut [f32]) -> Option<[Line; 2]> {
        let reach = self.reach(carrier.0, carrier.0);
        if distance.0 < (reach.line + 1.0) * self.spacing_hz {
            return None;
        }
        let below = self.line(Hertz(carrier.0 - distance.0), reach, work)?;
        let above = self.line(Hertz(carrier.0 + distance.0), reach, work)?;
        Some([below, above])
    }

    /// The shaft's lines, amplitudes interpolated.
    pub(crate) fn shaft(&self, shaft: Hertz, work: &mut [f32]) -> Option<[Line; SHAFT_ORDERS.len()]> {
        if 0.5 * shaft.0 < 4.0 * self.spacing_hz {
            return None;
        }
        let mut lines = [Line::default(); SHAFT_ORDERS.len()];
        for (line, order) in lines.iter_mut().zip(SHAFT_ORDERS) {
            let frequency = order * shaft.0;
            let reach = Reach {
                line: f32::max(0.01 * frequency / self.spacing_hz, 1.5),
                around: f32::max(0.4 * shaft.0 / self.spacing_hz, 10.0),
            };
            *line = self.line(Hertz(frequency), reach, work)?;
            let k = libm::roundf(line.frequency.0 / self.spacing_hz) as usize;
            let peak = spectrum::interpolate(self.lines, k);
            let gain = peak.amplitude / f32::max(line.amplitude, f32::MIN_POSITIVE);
            let snr = line.snr * f32::max(gain, 1.0);
            *line = Line {
                frequency: Hertz(peak.place * self.spacing_hz),
                amplitude: peak.amplitude,
                snr: f32::min(snr, MAX_SNR),
                form: line.form,
            };
        }
        Some(lines)
    }

    /// The strongest local maximum between `low` and `high` that stands at no multiple of `shaft`; its ratio is to the median.
    pub(crate) fn strongest(&self, low: Hertz, high: Hertz, shaft: Hertz, work: &mut [f32]) -> Option<[Line; 1]> {
        let first = libm::ceilf(low.0 / self.spacing_hz) as usize;
        let end = libm::floorf(high.0 / self.spacing_hz) as usize;
        let (first, end) = (first.max(2), end.min(self.lines.len().saturating_sub(1)));
        let mut best: Option<(usize, f32)> = None;
        for k in first..end {
            let a = self.lines[k];
            let greatest = best.map_or(0.0, |b| b.1);
            if a > greatest && a > self.lines[k - 1] && a >= self.lines[k + 1] {
                let order = k as f32 * self.spacing_hz / shaft.0;
                let off = (order - libm::roundf(order)).abs() * shaft.0;
                if off > 1.5 * self.spacing_hz {
                    best = Some((k, a));
                }
            }
        }
        let (k, amplitude) = best?;
        let background = median(&self.lines[first..end], &[], work)?;
        Some([Line {
            frequency: Hertz(k as f32 * self.spacing_hz),
            amplitude,
            snr: f32::min(amplitude / f32::max(background, f32::MIN_POSITIVE), MAX_SNR),
            form: Form::Peak,
        }])
    }

    /// The greatest line within reach of `frequency`; `None` beyond the spectrum or without a background.
    pub(crate) fn line(&self, frequency: Hertz, reach: Reach, work: &mut [f32]) -> Option<Line> {
        let place = frequency.0 / self.spacing_hz;
        let (near_low, near_high) = self.range(place, reach.line)?;
        let (far_low, far_high) = self.range(place, f32::max(reach.around, reach.line + 8.0))?;
        if place + reach.line + 1.0 > self.lines.len() as f32 {
            return None;
        }
        let (mut at, mut amplitude) = (near_low, 0.0);
        for k in near_low..=near_high {
            if self.lines[k] > amplitude {
                (at, amplitude) = (k, self.lines[k]);
            }
        }
        let (below, above) = (&self.lines[far_low..near_low], &self.lines[near_high + 1..=far_high]);
        let background = median(below, above, work)?;
        let right = self.lines.get(at + 1).copied().unwrap_or(0.0);
        let peak = amplitude > self.lines[at - 1] && amplitude >= right;
        Some(Line {
            frequency: Hertz(at as f32 * self.spacing_hz),
            amplitude,
            snr: f32::min(amplitude / f32::max(background, f32::MIN_POSITIVE), MAX_SNR),
            form: if peak { Form::Peak } else { Form::Flank },
        })
    }

    fn reach(&self, frequency_hz: f32, base_hz: f32) -> Reach {
        Reach {
            line: f32::max(0.01 * frequency_hz / self.spacing_hz, 2.0),
            around: f32::max(0.4 * base_hz / self.spacing_hz, 10.0),
        }
    }

    /// First and last line within `reach` of `place`, from line 2 on.
    fn range(&self, place: f32, reach: f32) -> Option<(usize, usize)> {
        let low = libm::ceilf(f32::max(place - reach, 2.0)) as usize;
        let high = libm::floorf(place + reach) as usize;
        let high = high.min(self.lines.len().checked_sub(1)?);
        (low <= high).then_some((low, high))
    }
}

/// Median (upper one of an even number) of two runs of lines, thinned to fit `work`; `None` of fewer than four.
pub(crate) fn median(below: &[f32], above: &[f32], work: &mut [f32]) -> Option<f32> {
    let total = below.len() + above.len();
    if total < 4 || work.is_empty() {
        return None;
    }
    if cfg!(target_arch = "x86_64") && total <= work.len() {
        let (first, second) = work[..total].split_at_mut(below.len());
        first.copy_from_slice(below);
        second.copy_from_slice(above);
        return Some(upper_median(&mut work[..total]));
    }
    let step = total.div_ceil(work.len());
    let mut count = 0;
    for (to, from) in work.iter_mut().zip(below.iter().chain(above).step_by(step)) {
        *to = *from;
        count += 1;
    }
    Some(upper_median(&mut work[..count]))
}

/// The value that stands at `len / 2` when sorted.
fn upper_median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    // A vector unit counts few values faster than it orders them: the one with so many below and more not above.
    if cfg!(target_arch = "x86_64") && values.len() <= FEW {
        for x in &*values {
            let (mut below, mut not_above) = (0u32, 0u32);
            for other in &*values {
                below += u32::from(other < x);
                not_above += u32::from(other <= x);
            }
            if below as usize <= middle && middle < not_above as usize {
                return *x;
            }
        }
    }
    let (_, middle, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    *middle
}

/// So many values are counted, not ordered.
const FEW: usize = 48;
