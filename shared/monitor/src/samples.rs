//! The open window of an evenly sampled channel: blocks in, whole windows out, by the rule of [`crate::window`].

use kilter_signal::{impute, lanes};
use kilter_types::{Hertz, Micros, Quality};
use serde::{Deserialize, Serialize};

use crate::{
    config::{GroupConfig, OUTSIDE},
    snapshot::{Reader, RestoreError, Writer},
    window::{Grid, MAX_INDEX},
};

/// The open window of an evenly sampled channel.
#[derive(Debug)]
pub(crate) struct Samples<F> {
    pub(crate) grid: Grid,
    clock: SampleClock,
    hop: u64,
    window: usize,
    filled: usize,
    buffer: F,
}

/// Times of the open window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct SampleClock {
    /// Time of the open window's first sample.
    start: Micros,
    /// Start of the last block and its position.
    block: Option<(Micros, u64)>,
}

/// A complete window of samples.
pub(crate) struct Closed<'a> {
    pub(crate) index: u64,
    pub(crate) start: Micros,
    pub(crate) end: Micros,
    pub(crate) quality: Quality,
    pub(crate) samples: &'a [f32],
}

impl<F: AsRef<[f32]> + AsMut<[f32]>> Samples<F> {
    pub(crate) fn new(group: &GroupConfig, buffer: F) -> Self {
        Self {
            grid: Grid::default(),
            clock: SampleClock::default(),
            hop: u64::from(group.hop),
            window: group.window as usize,
            filled: 0,
            buffer,
        }
    }

    /// Takes one block, which must be free of the samples already seen; hands out each window that closes.
    pub(crate) fn push(&mut self, block: &Block<'_>, convert: impl Fn(f32) -> f32, close: &mut dyn FnMut(Closed<'_>)) {
        let mut position = block.position;
        let mut samples = block.samples;
        if !self.grid.started {
            self.grid.started = true;
            self.grid.move_to(position, self.hop);
        }
        let expected = self.grid.start(self.hop) + self.filled as u64;
        if position > expected && self.filled > 0 {
            self.skip(position);
        }
        self.check_clock(block);
        loop {
            let start = self.grid.start(self.hop);
            let next = start + self.filled as u64;
            if position < next {
                // Seen before, or between two windows that do not touch.
                let drop = usize::try_from(next - position).unwrap_or(usize::MAX).min(samples.len());
                samples = &samples[drop..];
                position += drop as u64;
            }
            if samples.is_empty() {
                return;
            }
            if position > next {
                self.skip(position);
                continue;
            }
            if self.filled == 0 {
                self.clock.start = block.time_of(position);
            }
            let take = samples.len().min(self.window - self.filled);
            let room = &mut self.buffer.as_mut()[self.filled..self.filled + take];
            for (to, from) in room.iter_mut().zip(samples) {
                *to = convert(*from);
            }
            self.filled += take;
            samples = &samples[take..];
            position += take as u64;
            if self.filled == self.window {
                self.close(block, position, close);
            }
        }
    }

    /// Positions below `to` that have not come will never come.
    pub(crate) fn skip(&mut self, to: u64) {
        let next = self.grid.start(self.hop) + self.filled as u64;
        if self.grid.started && to <= next {
            return;
        }
        self.grid.gap = self.grid.started;
        self.grid.started = true;
        self.grid.move_to(to, self.hop);
        self.filled = 0;
    }

    /// What follows does not follow in time on what is here.
    pub(crate) fn interrupt(&mut self) {
        if self.grid.started {
            let next = self.grid.start(self.hop) + self.filled as u64;
            self.grid.gap = true;
            self.grid.move_to(next, self.hop);
            self.filled = 0;
        }
    }

    fn close(&mut self, block: &Block<'_>, position: u64, close: &mut dyn FnMut(Closed<'_>)) {
        let mut quality = core::mem::take(&mut self.grid.flags);
        if core::mem::take(&mut self.grid.gap) {
            quality = quality | Quality::GAP;
        }
        let end = block.time_of(position);
        let start = self.clock.start;
        let spanned_us = (end.0.saturating_sub(start.0)) as f64;
        let nominal_us = self.window as f64 * 1e6 / f64::from(block.declared.0);
        if spanned_us < 0.0 {
            quality = quality | Quality::CLOCK_BACK;
        } else if (spanned_us - nominal_us).abs() > CLOCK_TOLERANCE * nominal_us {
            quality = quality | Quality::WRONG_RATE;
        }
        let index = self.grid.index;
        let samples = &mut self.buffer.as_mut()[..self.window];
        let outside = !lanes::all_finite(samples) && samples.contains(&OUTSIDE);
        let filled = if outside { None } else { Some(impute::fill(samples)) };
        quality = quality | filled.as_ref().map_or_else(|| unmeasured(samples), impute::Filled::quality);
        close(Closed { index, start, end, quality, samples });
        self.grid.index += 1;
        let hop = usize::try_from(self.hop).unwrap_or(usize::MAX);
        if hop < self.window {
            // The next window judges the holes that it shares by itself, so a row depends on its own samples alone.
            if let Some(filled) = filled {
                filled.undo(&mut self.buffer.as_mut()[..self.window]);
            }
            self.buffer.as_mut().copy_within(hop..self.window, 0);
            self.filled = self.window - hop;
            self.clock.start = block.time_of(self.grid.start(self.hop));
        } else {
            self.filled = 0;
        }
    }

    fn check_clock(&mut self, block: &Block<'_>) {
        let off = (block.rate.0 / block.declared.0 - 1.0).abs();
        if off.is_nan() || off > RATE_TOLERANCE {
            self.grid.flags = self.grid.flags | Quality::WRONG_RATE;
        }
        if self.clock.block.is_some_and(|(t0, position)| block.position > position && block.t0 < t0) {
            self.grid.flags = self.grid.flags | Quality::CLOCK_BACK;
        }
        self.clock.block = Some((block.t0, block.position));
    }

    pub(crate) fn save(&self, out: &mut Writer<'_>) {
        out.value(&(self.grid, self.clock, self.filled as u32));
        out.floats(&self.buffer.as_ref()[..self.filled]);
    }

    pub(crate) fn load(&mut self, bytes: &mut Reader<'_>) -> Result<(), RestoreError> {
        let filled: u32;
        (self.grid, self.clock, filled) = bytes.value()?;
        self.filled = filled as usize;
        if self.filled >= self.window || self.grid.index > MAX_INDEX {
            return Err(RestoreError::Damaged);
        }
        bytes.floats(&mut self.buffer.as_mut()[..self.filled])
    }
}

/// Evenly sampled values with their place.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) position: u64,
    pub(crate) t0: Micros,
    pub(crate) rate: Hertz,
    pub(crate) declared: Hertz,
    pub(crate) samples: &'a [f32],
}

impl Block<'_> {
    /// When the sample at this position was or will be taken.
    fn time_of(&self, position: u64) -> Micros {
        let apart = position as i128 - i128::from(self.position);
        let micros = apart as f64 * 1e6 / f64::from(self.declared.0);
        Micros(self.t0.0.saturating_add(libm::round(micros) as i64))
    }
}

/// The flags of a window with values outside its channel's range: nothing is filled in, nothing is computed.
fn unmeasured(samples: &[f32]) -> Quality {
    let missing = samples.iter().any(|x| x.is_nan());
    Quality::OUT_OF_RANGE | if missing { Quality::NON_FINITE } else { Quality::GOOD }
}

/// How far a stated rate may be off.
const RATE_TOLERANCE: f32 = 0.005;
/// How far a window's length by the blocks' times may be off.
const CLOCK_TOLERANCE: f64 = 0.05;
