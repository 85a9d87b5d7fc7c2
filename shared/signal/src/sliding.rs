//! A sliding DFT: a few chosen lines of the spectrum of the last `N` samples, up to date after every sample, for a few operations each.
//!
//! Where a whole FFT per window tells all lines once per window, this tells a handful all the time, in `2 N` floats of the caller's and 24 bytes
//! of state per line, without a burst of work at a window's end. On a microcontroller one uses it to follow some orders of a shaft from
//! sample to sample: sampled at even angles ([`crate::order`]), or at a speed that is held, with `N` a whole number of revolutions,
//! order `o` is line `o * revolutions`. A rise of unbalance (1), misalignment (2) or gear mesh (teeth) shows within a part of a
//! revolution, and the phase of a line ([`Line::angle`]) is what balancing needs. Windows and rows stay the FFT's ([`crate::extract`]):
//! no feature is computed here.
//!
//! With `w = exp(-2 pi i / N)` and the samples counted from 0, line `k` of the window that ends with sample `n` is kept as
//!
//! ```text
//! S(n) = S(n-1) + (x(n) - x(n-N)) w^(k (n mod N))        X_k(n) = S(n) conj(w^(k ((n+1) mod N)))
//! ```
//!
//! the modulated form (K. Duda, Accurate, Guaranteed Stable, Sliding Discrete Fourier Transform, IEEE Signal Processing Magazine 27(6), 2010,
//! pp. 124-127): factors are read from a table and never multiplied up, so the recursion's pole is 1 itself and nothing grows or decays. What
//! remains is the rounding of each addition, which a sum over months would gather. So a second sum `F` of `x(n) w^(k (n mod N))` alone begins at
//! every multiple of `N`; after `N` samples it is the DFT of just these, and takes the place of `S`. What is left is
//! the rounding of one such sum and of `N` steps more, however long it runs: `|X - exact| <= (2 N + 16) 2^-24 sqrt(2) A`, with `A` the sum of `|x|` over
//! the last `2 N` samples. That is the worst case; noise stays some hundred times below ([`Sliding::error_bound`] gives it for samples up to a
//! given size).
//!
//! A sample that is not finite enters nothing: lines are unknown (`None`) until it has left the window. A value so large that a sum overflows does
//! the same for at most `2 N` samples. Scaling is the FFT's: unscaled and without taper, [`Line::amplitude`] one-sided. The Hann-tapered line is
//! `X_k / 2 - (X_(k-1) + X_(k+1)) / 4` of three neighbours.

use core::f64::consts::TAU;
use core::fmt;

use crate::fft::MAX_LEN;

/// The shortest window.
pub const MIN_LEN: usize = 4;

/// `B` lines of the spectrum of the last samples, in the caller's memory (`&mut [f32]`, an array, a `Vec`).
#[derive(Clone, Debug)]
pub struct Sliding<T, const B: usize> {
    len: usize,
    /// The samples of the window by their place in it, then the real and imaginary parts of the first half of the roots of unity.
    memory: T,
    bins: [Bin; B],
    /// Where the next sample goes: its number modulo `len`.
    place: usize,
    /// Samples in a row that were finite, up to `len`.
    good: usize,
}

/// One line's sums.
#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    /// Its number: full turns of its factor per window.
    line: u32,
    /// `line * place` modulo the length: which root is its factor now.
    root: u32,
    sliding: [f32; 2],
    fresh: [f32; 2],
}

/// A line of the spectrum, as [`crate::fft::Plan::forward`] has it: unscaled, its phase relative to the window's first sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Real part.
    pub re: f32,
    /// Imaginary part.
    pub im: f32,
    len: usize,
    /// Neither 0 nor half the rate: the other half of its amplitude lies at the negative frequency.
    doubled: bool,
}

impl<T: AsRef<[f32]> + AsMut<[f32]>, const B: usize> Sliding<T, B> {
    /// Follows these lines (each from 0 to half of `len`) of windows of `len` samples, an even number from [`MIN_LEN`] to [`MAX_LEN`]; `memory` must
    /// hold at least [`memory_len`] values, which are overwritten.
    pub fn new(len: usize, lines: [usize; B], mut memory: T) -> Result<Self, SlidingError> {
        if !(MIN_LEN..=MAX_LEN).contains(&len) || !len.is_multiple_of(2) {
            return Err(SlidingError::Length { len });
        }
        let (needed, got) = (memory_len(len), memory.as_mut().len());
        if got < needed {
            return Err(SlidingError::Memory { needed, got });
        }
        if let Some(line) = lines.into_iter().find(|line| *line > len / 2) {
            return Err(SlidingError::Line { line, len });
        }
        let (window, roots) = memory.as_mut()[..needed].split_at_mut(len);
        window.fill(0.0);
        let (re, im) = roots.split_at_mut(len / 2);
        for (j, (re, im)) in re.iter_mut().zip(im).enumerate() {
            let (sin, cos) = libm::sincos(TAU * j as f64 / len as f64);
            *re = cos as f32;
            *im = -sin as f32;
        }
        let bins = lines.map(|line| Bin { line: line as u32, ..Bin::default() });
        Ok(Self { len, memory, bins, place: 0, good: 0 })
    }

    /// Takes the next sample. One that is not finite is refused: it counts as a place in time, and no line is known until it has
    /// left the window.
    pub fn push(&mut self, sample: f32) -> Result<(), SlidingError> {
        let finite = sample.is_finite();
        let new = if finite { sample } else { 0.0 };
        self.good = if finite { (self.good + 1).min(self.len) } else { 0 };
        let (window, roots) = self.memory.as_mut()[..memory_len(self.len)].split_at_mut(self.len);
        let old = core::mem::replace(&mut window[self.place], new);
        let change = new - old;
        self.place += 1;
        let whole = self.place == self.len;
        if whole {
            self.place = 0;
        }
        for bin in &mut self.bins {
            let [re, im] = root(roots, bin.root as usize);
            bin.sliding = [bin.sliding[0] + change * re, bin.sliding[1] + change * im];
            bin.fresh = [bin.fresh[0] + new * re, bin.fresh[1] + new * im];
            bin.root += bin.line;
            if bin.root as usize >= self.len {
                bin.root -= self.len as u32;
            }
            if whole {
                bin.sliding = core::mem::take(&mut bin.fresh);
            }
        }
        if finite { Ok(()) } else { Err(SlidingError::NotFinite) }
    }

    /// The line that stands at this place in the list given to [`Sliding::new`]; `None` before a whole window of finite samples is
    /// there, and for a place that there is not.
    pub fn line(&self, place: usize) -> Option<Line> {
        let bin = self.bins.get(place).filter(|_| self.good == self.len)?;
        let roots = &self.memory.as_ref()[self.len..memory_len(self.len)];
        // The window begins where the next sample goes.
        let [cos, sin] = root(roots, bin.root as usize);
        let [re, im] = bin.sliding;
        let (re, im) = (re * cos + im * sin, im * cos - re * sin);
        let doubled = bin.line != 0 && bin.line as usize != self.len / 2;
        (re.is_finite() && im.is_finite()).then_some(Line { re, im, len: self.len, doubled })
    }

    /// Forgets all samples.
    pub fn reset(&mut self) {
        self.memory.as_mut()[..self.len].fill(0.0);
        for bin in &mut self.bins {
            *bin = Bin { line: bin.line, ..Bin::default() };
        }
        (self.place, self.good) = (0, 0);
    }

    /// How far a line may be off at most after any number of samples that are not larger than `peak`.
    pub fn error_bound(&self, peak: f32) -> f32 {
        let len = self.len as f32;
        (2.0 * len + 16.0) * core::f32::consts::SQRT_2 * 2.0 * len * peak / 16_777_216.0
    }
}

impl Line {
    /// Peak amplitude of the sine at this line, one-sided, in the samples' unit; right for one that makes whole turns in the window.
    pub fn amplitude(&self) -> f32 {
        let scale = if self.doubled { 2.0 } else { 1.0 };
        scale * libm::hypotf(self.re, self.im) / self.len as f32
    }

    /// Phase of its cosine at the window's first sample, in radians from -pi to pi.
    pub fn angle(&self) -> f32 {
        libm::atan2f(self.im, self.re)
    }
}

/// How many values of memory a window of `len` samples takes.
pub const fn memory_len(len: usize) -> usize {
    2 * len
}

/// Root `j` of unity, `exp(-2 pi i j / len)`, from the table of the first half.
fn root(roots: &[f32], j: usize) -> [f32; 2] {
    let half = roots.len() / 2;
    if j < half { [roots[j], roots[half + j]] } else { [-roots[j - half], -roots[j]] }
}

/// Why nothing slides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlidingError {
    /// Not an even number from [`MIN_LEN`] to [`MAX_LEN`].
    Length {
        /// The length asked for.
        len: usize,
    },
    /// Beyond half of the length.
    Line {
        /// The line asked for.
        line: usize,
        /// The length.
        len: usize,
    },
    /// The caller's memory is too short.
    Memory {
        /// Values needed.
        needed: usize,
        /// Values given.
        got: usize,
    },
    /// The sample is no number, or infinite.
    NotFinite,
}

impl fmt::Display for SlidingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { len } => {
                write!(f, "slide over {len} samples: not an even number from {MIN_LEN} to {MAX_LEN}")
            }
            Self::Line { line, len } => {
                write!(f, "follow line {line} of windows of {len} samples: there are {}", len / 2)
            }
            Self::Memory { needed, got } => write!(f, "fit {needed} values into memory for {got}"),
            Self::NotFinite => f.write_str("take a sample that is not finite"),
        }
    }
}

impl core::error::Error for SlidingError {}
