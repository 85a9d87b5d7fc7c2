//! The shaft's speed from its own vibration, without a tachometer, and whether to believe it.
//!
//! A shaft shows as a comb: lines at once, twice, three times … its speed. Every line of the spectrum that stands clearly above what
//! surrounds it and lies where the speed may be is taken for the first tooth in turn; the comb whose teeth stand with the greatest
//! likelihood wins. Its teeth also refine the speed: the fifth tells five times as closely as the first.
//!
//! A comb alone is no proof, so the answer carries its doubt ([`Doubt`]), and only an answer without any is [`Estimate::sure`]:
//! * **too few lines**: three teeth, and of the odd ones another than the first, else twice the speed fits as well, far beyond
//!   chance together. Where the possible speeds span less than an octave two teeth will do: there is nothing to be confused with;
//! * **a slower comb**: lines at halves or thirds of the speed stand, or the even teeth tower above the odd ones. A loose machine at
//!   full speed and a sound one at half speed look alike. Not within an octave: the slower speed is impossible there;
//! * **impacts**: each tooth stands above the one before. A shaft's forces fade along the comb; what strikes a housing that rings far
//!   above, a bearing's damage above all, rises. Not within an octave either;
//! * **a rival**: another comb, no multiple of the best, stands a third as high, as of a second shaft, a bearing or a gear;
//! * **the mains**: the comb lies on 50 or 60 Hz, where every motor hums.
//!
//! Speeds that change within the spectrum smear its lines and end as too few of them.

use kilter_types::Hertz;

use crate::{
    line::median,
    spectrum::{self, Amplitudes},
};

/// Where the speed may lie, from the nameplate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    low: Hertz,
    high: Hertz,
}

impl Range {
    /// `None` unless `0 < low < high`.
    pub fn new(low: Hertz, high: Hertz) -> Option<Self> {
        (low.0 > 0.0 && low.0 < high.0 && high.0.is_finite()).then_some(Self { low, high })
    }

    /// Motors and what they drive: 600 to 3600 rpm.
    pub fn usual() -> Self {
        Self { low: Hertz(10.0), high: Hertz(60.5) }
    }

    /// Does it lie inside?
    pub fn contains(&self, shaft: Hertz) -> bool {
        (self.low.0..=self.high.0).contains(&shaft.0)
    }

    fn is_within_octave(&self) -> bool {
        self.high.0 < 1.9 * self.low.0
    }
}

/// The best comb, and what speaks against it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The shaft's speed by the best comb.
    pub shaft: Hertz,
    /// How many of the comb's first [`TEETH`] teeth stand.
    pub lines: u8,
    /// Likelihood of the comb against chance in nats.
    pub likelihood: f32,
    /// What speaks against it.
    pub doubt: Option<Doubt>,
}

impl Estimate {
    /// The speed where nothing speaks against it.
    pub fn sure(&self) -> Option<Hertz> {
        self.doubt.is_none().then_some(self.shaft)
    }
}

/// Why an estimate is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Too few teeth stand.
    Lines,
    /// A slower comb may hold this one.
    Slower,
    /// Its lines rise with frequency.
    Impacts,
    /// Another comb stands nearly as high.
    Rival,
    /// It lies on the mains.
    Mains,
}

impl Doubt {
    /// In words that read after "unsure: ".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "too few lines of one comb stand out",
            Self::Slower => "lines between its own point to a slower shaft, or to looseness",
            Self::Impacts => "its lines rise with frequency, as those of a bearing's impacts do",
            Self::Rival => "another comb stands nearly as high",
            Self::Mains => "it lies on the frequency of the mains",
        }
    }
}

/// How many teeth a comb has.
pub const TEETH: usize = 5;

/// How many values `work` must hold.
pub fn work_len(amplitudes: &Amplitudes<'_>, range: Range) -> usize {
    reach(amplitudes, range) + amplitudes.lines.len()
}

/// The speed by an amplitude spectrum of acceleration, best a mean over windows of a few seconds.
///
/// `None` where nothing stands in the range, where twenty lines do not fit below it, or where `work` holds less than [`work_len`].
pub fn estimate(amplitudes: &Amplitudes<'_>, range: Range, work: &mut [f32]) -> Option<Estimate> {
    if range.low.0 < LEAST_LINES * amplitudes.spacing_hz || work.len() < work_len(amplitudes, range) {
        return None;
    }
    let (nats, work) = work.split_at_mut(reach(amplitudes, range));
    weigh_lines(amplitudes, range, nats, work);
    let spectrum = Weighed { amplitudes, nats };
    let first = libm::ceilf(range.low.0 / amplitudes.spacing_hz) as usize;
    let candidates = (first..nats.len()).filter(|k| spectrum.nats[*k] >= STANDS).map(|k| spectrum.comb(k));
    let mut best: Option<Comb> = None;
    for comb in candidates.filter(|comb| range.contains(Hertz(comb.shaft_hz))) {
        if best.is_none_or(|best| comb.likelihood > best.likelihood) {
            best = Some(comb);
        }
    }
    let best = best?;
    let rival = (first..nats.len())
        .filter(|k| spectrum.nats[*k] >= STANDS)
        .map(|k| spectrum.comb(k))
        .filter(|comb| range.contains(Hertz(comb.shaft_hz)) && !is_multiple(comb.shaft_hz, best.shaft_hz))
        .any(|comb| comb.lines() >= 2 && comb.likelihood >= RIVAL * best.likelihood);
    let doubt = if !best.is_enough(range) {
        Some(Doubt::Lines)
    } else if !range.is_within_octave() && spectrum.has_slower(&best) {
        Some(Doubt::Slower)
    } else if !range.is_within_octave() && best.rises() {
        Some(Doubt::Impacts)
    } else if rival {
        Some(Doubt::Rival)
    } else if MAINS_HZ.iter().any(|mains| (best.shaft_hz / mains - 1.0).abs() < ON_MAINS) {
        Some(Doubt::Mains)
    } else {
        None
    };
    Some(Estimate { shaft: Hertz(best.shaft_hz), lines: best.lines() as u8, likelihood: best.likelihood, doubt })
}

/// How many times too great the declared rate is: where the shaft's comb and the hum of the mains are both off by one factor.
///
/// The shaft alone can't tell a wrong rate from a wrong speed; the mains can, because they have 50 or 60 Hz. `None` where speed and rate
/// fit, where the estimate is unsure, and where no hum (at twice the mains) decides.
pub fn rate_factor(amplitudes: &Amplitudes<'_>, declared_shaft: Hertz, range: Range, work: &mut [f32]) -> Option<f32> {
    let shaft_hz = estimate(amplitudes, range, work)?.sure()?.0;
    let factor = shaft_hz / declared_shaft.0;
    let spectrum = Weighed { amplitudes, nats: &work[..reach(amplitudes, range)] };
    let stands = |frequency_hz: f32| spectrum.near(frequency_hz).is_some_and(|near| near.1 >= STANDS);
    let is_apart = |frequency_hz: f32| {
        let order = frequency_hz / shaft_hz;
        (order - libm::roundf(order)).abs() * shaft_hz > 3.0 * amplitudes.spacing_hz
    };
    let hums = MAINS_HZ.map(|mains| 2.0 * mains);
    let off = hums.iter().any(|hum| stands(factor * hum) && is_apart(factor * hum));
    let differs = (factor - 1.0).abs() >= LEAST_FACTOR;
    (differs && off && !hums.iter().any(|hum| stands(*hum) && is_apart(*hum))).then_some(factor)
}

/// Lines up to the last tooth and half an order more.
fn reach(amplitudes: &Amplitudes<'_>, range: Range) -> usize {
    let top = (TEETH as f32 + 0.5) * range.high.0 / amplitudes.spacing_hz;
    (libm::ceilf(top) as usize).min(amplitudes.lines.len().saturating_sub(1))
}

/// Of every local maximum, how many nats chance would have to explain; 0 of all other lines.
fn weigh_lines(amplitudes: &Amplitudes<'_>, range: Range, nats: &mut [f32], work: &mut [f32]) {
    let lines = amplitudes.lines;
    let around = f32::max(AROUND * range.low.0 / amplitudes.spacing_hz, 12.0) as usize;
    nats.fill(0.0);
    for k in 2..nats.len() {
        if lines[k] <= lines[k - 1] || lines[k] < lines[k + 1] {
            continue;
        }
        let below = &lines[k.saturating_sub(around).max(2)..k.saturating_sub(2).max(2)];
        let above = &lines[(k + 3).min(lines.len())..(k + around).min(lines.len())];
        if let Some(background) = median(below, above, work) {
            let ratio = lines[k] / f32::max(background, f32::MIN_POSITIVE);
            nats[k] = f32::min(core::f32::consts::LN_2 * ratio * ratio, MOST);
        }
    }
}

/// A spectrum with the weight of its lines.
struct Weighed<'a> {
    amplitudes: &'a Amplitudes<'a>,
    nats: &'a [f32],
}

/// Teeth at multiples of a speed.
#[derive(Clone, Copy)]
struct Comb {
    shaft_hz: f32,
    likelihood: f32,
    nats: [f32; TEETH],
    amplitude: [f32; TEETH],
}

impl Comb {
    fn stands(&self, tooth: usize) -> bool {
        self.nats[tooth] >= STANDS
    }

    fn lines(&self) -> usize {
        (0..TEETH).filter(|tooth| self.stands(*tooth)).count()
    }

    fn is_enough(&self, range: Range) -> bool {
        let odd = f32::max(self.nats[2], self.nats[4]) >= STANDS_FIRMLY;
        let few = range.is_within_octave() && self.lines() >= 2 && self.likelihood >= LEAST_OF_TWO;
        self.stands(0) && (few || self.lines() >= 3 && odd && self.likelihood >= LEAST_OF_THREE)
    }

    fn rises(&self) -> bool {
        self.amplitude.is_sorted() && self.lines() == TEETH
    }

    /// Mean amplitude of the teeth that stand.
    fn height(&self) -> f32 {
        let standing = (0..TEETH).filter(|tooth| self.stands(*tooth)).map(|tooth| self.amplitude[tooth]);
        standing.sum::<f32>() / self.lines().max(1) as f32
    }
}

impl Weighed<'_> {
    /// The comb whose first tooth is this line; each tooth that stands says better where the next one is.
    fn comb(&self, first: usize) -> Comb {
        let spacing_hz = self.amplitudes.spacing_hz;
        let mut comb = Comb {
            shaft_hz: self.place(first) * spacing_hz,
            likelihood: 0.0,
            nats: [0.0; TEETH],
            amplitude: [0.0; TEETH],
        };
        for tooth in 0..TEETH {
            let order = (tooth + 1) as f32;
            let Some((k, nats)) = self.near(order * comb.shaft_hz) else { continue };
            comb.amplitude[tooth] = self.amplitudes.lines[k];
            comb.nats[tooth] = nats;
            if nats >= STANDS {
                comb.likelihood += nats;
                comb.shaft_hz = self.place(k) * spacing_hz / order;
            }
        }
        comb
    }

    /// Do lines stand between the teeth at halves or thirds, or do the even teeth tower above the odd ones?
    fn has_slower(&self, comb: &Comb) -> bool {
        // Chance puts a small line at one of these places now and then, but hardly at two.
        let between = BETWEEN.iter().any(|orders| {
            let standing =
                orders.iter().filter_map(|order| self.near(order * comb.shaft_hz)).filter(|near| near.1 >= STANDS);
            let mut count = 0;
            let high = |(k, _): (usize, f32)| self.amplitudes.lines[k] >= BETWEEN_SHARE * comb.height();
            let any_high = standing.inspect(|_| count += 1).fold(false, |any, near| any | high(near));
            any_high || count >= 2
        });
        let [one, two, three, four, _] = comb.amplitude;
        let towers = comb.stands(1) && comb.stands(3) && two > TOWERS * one && four > TOWERS * three;
        between || towers
    }

    /// The weightiest line where a tooth is looked for.
    fn near(&self, frequency_hz: f32) -> Option<(usize, f32)> {
        let place = frequency_hz / self.amplitudes.spacing_hz;
        let low = libm::ceilf(place - NEAR).max(2.0) as usize;
        let high = (libm::floorf(place + NEAR) as usize).min(self.nats.len().checked_sub(1)?);
        (low..=high).map(|k| (k, self.nats[k])).max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Where a line really stands, in lines.
    fn place(&self, k: usize) -> f32 {
        spectrum::interpolate(self.amplitudes.lines, k).place
    }
}

/// Is one of the two (nearly) a whole multiple of the other?
fn is_multiple(a_hz: f32, b_hz: f32) -> bool {
    let ratio = f32::max(a_hz / b_hz, b_hz / a_hz);
    (ratio - libm::roundf(ratio)).abs() < 0.01 * ratio
}

/// Nats from which a line stands: three times what surrounds it.
const STANDS: f32 = 6.2;
/// The same for the one that decides between octaves: nearly four times.
const STANDS_FIRMLY: f32 = 10.0;
/// The most that one line is worth: chance has no smaller probability that is worth telling apart.
const MOST: f32 = 14.0;
/// How far the surroundings of a line reach, in parts of the lowest speed.
const AROUND: f32 = 0.4;
/// So many lines lie below the lowest speed at least.
const LEAST_LINES: f32 = 20.0;
/// How far from where it is looked for a tooth may stand, in lines.
const NEAR: f32 = 1.6;
/// Where a slower shaft's lines would stand, in multiples of the speed.
const BETWEEN: [&[f32]; 2] = [&[0.5, 1.5, 2.5], &[1.0 / 3.0, 2.0 / 3.0, 4.0 / 3.0, 5.0 / 3.0]];
/// One of them alone counts from this share of the comb's height.
const BETWEEN_SHARE: f32 = 0.2;
/// Nats of all teeth together, of which two or three stand at least: chance has many places to try.
const LEAST_OF_TWO: f32 = 22.0;
const LEAST_OF_THREE: f32 = 30.0;
/// Even teeth so many times as high as the odd ones below them belong to twice the speed.
const TOWERS: f32 = 1.2;
/// A comb of so much of the best one's likelihood is a rival.
const RIVAL: f32 = 0.33;
const MAINS_HZ: [f32; 2] = [50.0, 60.0];
/// A rate that is off by less is not told: speeds are not declared more closely.
const LEAST_FACTOR: f32 = 0.02;
/// Motors slip: nearer than this to the mains is the mains.
const ON_MAINS: f32 = 0.002;
