//! Spectral kurtosis over a tree of bands: where in the spectrum impulses stand out (the fast kurtogram's question).
//!
//! The spectrum from 0 to half the rate is cut into 1, 2, 3, 4, 6, 8, 12 and 16 equal bands (the binary-ternary tree). The complex
//! envelope `c` of each comes from the band's own lines by an inverse transform of just that many points, and its kurtosis is
//! `mean |c|^4 / (mean |c|^2)^2 - 2`: 0 for stationary normal noise, below 0 for a tone, large where rare bursts ring.
//! Filters are rectangular in frequency, so neighbouring bands share no line; Antoni's filter bank overlaps a little.
//! The median over many windows ([`Kurtogram::median`]) keeps one chance blow from choosing the band.

use kilter_types::Hertz;

use crate::{
    demodulate,
    envelope::Band,
    extract::Refusal,
    fft::{Complex, Plan},
    lanes,
};

/// Into how many bands each level cuts the spectrum.
pub const LEVELS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];
/// How many bands all levels have together.
pub const NODES: usize = 52;

/// The kurtosis of each band, level by level, from low to high frequency; `None` where a band can't be resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kurtogram {
    /// The values in the order of [`LEVELS`].
    pub nodes: [Option<f32>; NODES],
}

/// One band of the tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// Lower edge.
    pub low: Hertz,
    /// Upper edge.
    pub high: Hertz,
    /// Kurtosis of its envelope.
    pub kurtosis: f32,
}

impl Kurtogram {
    /// The tree of one window. Scratch holds [`scratch_len`] values.
    pub fn of<T: AsRef<[f32]>>(samples: &[f32], plan: &Plan<T>, scratch: &mut [f32]) -> Result<Self, Refusal> {
        let len = plan.len();
        if samples.len() < len {
            return Err(Refusal::Samples { needed: len, got: samples.len() });
        }
        let needed = scratch_len(len);
        if scratch.len() < needed {
            return Err(Refusal::Scratch { needed, got: scratch.len() });
        }
        let mut kurtogram = Self { nodes: [None; NODES] };
        if !lanes::all_finite(&samples[..len]) {
            return Ok(kurtogram);
        }
        let half = len / 2;
        let (a, rest) = scratch.split_at_mut(half);
        let (b, rest) = rest.split_at_mut(half);
        let (c, rest) = rest.split_at_mut(half);
        let (d, rest) = rest.split_at_mut(half);
        let (e, f) = rest.split_at_mut(half);
        let mut spectrum = Complex { re: a, im: b };
        demodulate::pack(&samples[..len], spectrum.reborrow());
        plan.real(len, spectrum.reborrow(), Complex { re: &mut *c, im: &mut *d });
        // Line 0 carries nothing after the mean is gone, and Nyquist stands in its imaginary part.
        (spectrum.re[0], spectrum.im[0]) = (0.0, 0.0);
        let mut place = 0;
        for bands in LEVELS {
            for band in 0..bands {
                if half.is_multiple_of(bands) && half / bands >= LEAST_LINES {
                    let lines = half / bands;
                    let (re, im) = (&mut c[..lines], &mut d[..lines]);
                    re.copy_from_slice(&spectrum.re[band * lines..][..lines]);
                    im.copy_from_slice(&spectrum.im[band * lines..][..lines]);
                    let swapped = Complex { re: &mut *im, im: &mut *re };
                    plan.complex(lines, swapped, Complex { re: &mut e[..lines], im: &mut f[..lines] });
                    kurtogram.nodes[place] = kurtosis(re, im);
                }
                place += 1;
            }
        }
        Ok(kurtogram)
    }

    /// Node by node the median (upper one of an even number) over windows; `None` where no window has a value.
    pub fn median(windows: &[Self], work: &mut [f32]) -> Self {
        let mut nodes = [None; NODES];
        for (place, node) in nodes.iter_mut().enumerate() {
            let values = windows.iter().filter_map(|w| w.nodes[place]);
            let mut count = 0;
            for (to, value) in work.iter_mut().zip(values) {
                *to = value;
                count += 1;
            }
            if count > 0 {
                let (_, middle, _) = work[..count].select_nth_unstable_by(count / 2, f32::total_cmp);
                *node = Some(*middle);
            }
        }
        Self { nodes }
    }

    /// The band with the greatest kurtosis among those at least `least` wide; `None` where none stands above noise.
    pub fn choose(&self, rate: Hertz, least: Hertz) -> Option<Node> {
        let mut best: Option<Node> = None;
        let mut place = 0;
        for bands in LEVELS {
            let width = 0.5 * rate.0 / bands as f32;
            for band in 0..bands {
                if let Some(kurtosis) = self.nodes[place]
                    && width >= least.0
                    && kurtosis > best.map_or(0.0, |b| b.kurtosis)
                {
                    let low = width * band as f32;
                    best = Some(Node { low: Hertz(low), high: Hertz(low + width), kurtosis });
                }
                place += 1;
            }
        }
        best
    }
}

impl Node {
    /// The node as a band to demodulate, kept off both ends of the spectrum.
    pub fn band(&self, rate: Hertz) -> Option<Band> {
        let low = f32::max(self.low.0, 0.005 * rate.0);
        Band::new(Hertz(low), Hertz(f32::min(self.high.0, 0.495 * rate.0)), rate)
    }
}

/// How many values scratch must hold for a plan of this length.
pub const fn scratch_len(plan_len: usize) -> usize {
    3 * plan_len
}

/// `mean |c|^4 / (mean |c|^2)^2 - 2` of a complex envelope less its mean; `None` of one that does not vary.
fn kurtosis(re: &[f32], im: &[f32]) -> Option<f32> {
    let scale = 1.0 / re.len() as f32;
    let (mean_re, mean_im) = (lanes::sum(re, |x| x) * scale, lanes::sum(im, |x| x) * scale);
    let (mut second, mut fourth) = ([0.0f32; lanes::LANES], [0.0f32; lanes::LANES]);
    for (re, im) in re.chunks(lanes::LANES).zip(im.chunks(lanes::LANES)) {
        for (j, (re, im)) in re.iter().zip(im).enumerate() {
            let (re, im) = (re - mean_re, im - mean_im);
            let square = re * re + im * im;
            second[j] += square;
            fourth[j] += square * square;
        }
    }
    let (second, fourth) = (lanes::reduce(second) * scale, lanes::reduce(fourth) * scale);
    let value = fourth / (second * second) - 2.0;
    (second > 0.0 && value.is_finite()).then_some(value)
}

/// Fewer points than this say nothing about a fourth moment.
const LEAST_LINES: usize = 32;

const _: () = {
    let (mut nodes, mut level) = (0, 0);
    while level < LEVELS.len() {
        nodes += LEVELS[level];
        level += 1;
    }
    assert!(nodes == NODES, "levels and nodes agree");
};
