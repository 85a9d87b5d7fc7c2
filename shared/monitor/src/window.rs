//! Windows on the hop grid: window `i` of a group covers the positions `i * hop` up to `i * hop + window` (W1).
//!
//! **The rule.** A window is emitted exactly when every one of its positions was delivered, in order, by every channel that
//! gates the group. A window that overlaps a hole is not emitted, is never stitched, and the first one after it carries
//! [`Quality::GAP`]; a hole between two windows (where the hop is longer) touches neither. So anybody can say from positions alone which rows there must be: those `i` whose range holds no missing
//! position. Where a stream begins at a position off the grid, the first window is the next one on it.
//!
//! A repeated position is dropped, so a conversation that is taken up again gives the same windows. A reading group waits for
//! its slowest channel; one that falls more than `max(hop, 32)` readings behind counts as missing there.
//!
//! **In time.** A clock that goes back sets `CLOCK_BACK`; a sampling rate that differs from the declared one, by word or by the
//! blocks' times, sets `WRONG_RATE`; a pause of more than three nominal periods between two readings sets `GAP`. These windows
//! are emitted, without a valid value, because positions know nothing of time.

use kilter_types::{GroupKind, Hertz, Micros, Quality};
use serde::{Deserialize, Serialize};

use crate::{
    config::GroupConfig,
    config::MAX_GROUP_CHANNELS,
    memory::{Memory, Needed},
    snapshot::{Reader, RestoreError, Writer},
};

/// What is asked for a group's open window.
pub(crate) fn needed(group: &GroupConfig) -> Needed {
    let window = group.window as usize;
    match group.kind {
        GroupKind::Vibration => Needed { floats: window, times: 0 },
        GroupKind::Temperature | GroupKind::Reading => {
            let room = group.channels.len() * reading_room(group);
            Needed { floats: room, times: room }
        }
        GroupKind::Cycle => Needed::default(),
    }
}

/// Where the grid stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Grid {
    /// The open window.
    pub(crate) index: u64,
    /// Has anything arrived yet?
    started: bool,
    /// A hole lies before the open window.
    gap: bool,
    /// Flags of what lies in the open window, from the times.
    flags: Quality,
}

impl Grid {
    fn start(&self, hop: u64) -> u64 {
        self.index.saturating_mul(hop)
    }

    /// Moves to the first window that begins at `position` or later.
    fn move_to(&mut self, position: u64, hop: u64) {
        self.index = self.index.max(position.div_ceil(hop));
        self.flags = Quality::GOOD;
    }
}

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
    pub(crate) samples: &'a mut [f32],
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
        close(Closed { index, start, end, quality, samples });
        self.grid.index += 1;
        let hop = usize::try_from(self.hop).unwrap_or(usize::MAX);
        if hop < self.window {
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

/// The open window of channels that are read one value at a time.
#[derive(Debug)]
pub(crate) struct Readings<M: Memory> {
    pub(crate) grid: Grid,
    hop: u64,
    window: usize,
    room: usize,
    /// The first so many channels gate the window; the others run freely beside it.
    gating: usize,
    filled: heapless::Vec<u32, MAX_GROUP_CHANNELS>,
    values: M::Floats,
    times: M::Times,
}

/// A complete window of readings: per channel its times and values.
pub(crate) struct ClosedReadings<'a> {
    pub(crate) index: u64,
    pub(crate) start: Micros,
    pub(crate) end: Micros,
    pub(crate) quality: Quality,
    /// Flags under which no value is valid.
    pub(crate) broken: bool,
    pub(crate) channels: heapless::Vec<kilter_signal::reading::Readings<'a>, MAX_GROUP_CHANNELS>,
}

/// One value with its place.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) channel: usize,
    pub(crate) position: u64,
    pub(crate) t: Micros,
    pub(crate) value: f32,
    pub(crate) period: Option<Micros>,
}

impl<M: Memory> Readings<M> {
    pub(crate) fn new(group: &GroupConfig, values: M::Floats, times: M::Times) -> Self {
        let gating = match group.kind {
            GroupKind::Temperature => 1,
            GroupKind::Reading | GroupKind::Vibration | GroupKind::Cycle => group.channels.len(),
        };
        Self {
            grid: Grid::default(),
            hop: u64::from(group.hop),
            window: group.window as usize,
            room: reading_room(group),
            gating,
            filled: group.channels.iter().map(|_| 0).collect(),
            values,
            times,
        }
    }

    pub(crate) fn push(&mut self, reading: Reading, close: &mut dyn FnMut(ClosedReadings<'_>)) {
        if reading.channel >= self.gating {
            self.push_free(&reading);
            return;
        }
        if !self.grid.started {
            self.grid.started = true;
            self.grid.move_to(reading.position, self.hop);
        }
        if reading.position > self.expected(reading.channel) {
            self.skip(reading.channel, reading.position, reading.period, close);
        }
        while reading.position == self.expected(reading.channel) && self.is_full(reading.channel) {
            self.abandon(reading.period);
        }
        if reading.position == self.expected(reading.channel) {
            self.check_times(&reading);
            self.store(&reading);
            self.close_complete(reading.period, close);
        }
    }

    /// Positions of this channel below `to` that have not come will never come.
    pub(crate) fn skip(
        &mut self,
        channel: usize,
        to: u64,
        period: Option<Micros>,
        close: &mut dyn FnMut(ClosedReadings<'_>),
    ) {
        if channel >= self.gating {
            return;
        }
        if !self.grid.started {
            self.grid.started = true;
            self.grid.move_to(to, self.hop);
            return;
        }
        while self.expected(channel) < to {
            let missing = to - self.expected(channel);
            if missing > self.room as u64 {
                // All others are then further behind than a window waits for.
                let moved = to.div_ceil(self.hop).saturating_sub(self.grid.index).saturating_mul(self.hop);
                self.grid.gap = true;
                self.grid.move_to(to, self.hop);
                self.shift(usize::try_from(moved).unwrap_or(usize::MAX));
                return;
            }
            if self.is_full(channel) {
                self.abandon(period);
                continue;
            }
            self.store(&Reading { channel, position: 0, t: HOLE, value: f32::NAN, period });
            self.close_complete(period, close);
        }
    }

    /// What follows does not follow in time on what is here.
    pub(crate) fn interrupt(&mut self) {
        if self.grid.started {
            let ahead = self.filled[..self.gating].iter().copied().max().unwrap_or(0);
            let next = self.grid.start(self.hop) + u64::from(ahead);
            self.grid.gap = true;
            self.grid.move_to(next, self.hop);
            self.filled[..self.gating].fill(0);
        }
    }

    fn expected(&self, channel: usize) -> u64 {
        self.grid.start(self.hop) + u64::from(self.filled[channel])
    }

    fn is_full(&self, channel: usize) -> bool {
        self.filled[channel] as usize == self.room
    }

    /// The others are too far behind: their window will not come.
    fn abandon(&mut self, period: Option<Micros>) {
        self.grid.gap = true;
        self.advance();
        self.recheck_times(period);
    }

    fn close_complete(&mut self, period: Option<Micros>, close: &mut dyn FnMut(ClosedReadings<'_>)) {
        while self.filled[..self.gating].iter().all(|filled| *filled as usize >= self.window) {
            if self.has_hole() {
                self.grid.gap = true;
            } else {
                self.close(close);
            }
            self.advance();
            self.recheck_times(period);
        }
    }

    fn has_hole(&self) -> bool {
        let window = |channel: usize| &self.times.as_ref()[channel * self.room..channel * self.room + self.window];
        (0..self.gating).any(|channel| window(channel).contains(&HOLE))
    }

    fn store(&mut self, reading: &Reading) {
        let at = reading.channel * self.room + self.filled[reading.channel] as usize;
        self.values.as_mut()[at] = if reading.value.is_finite() { reading.value } else { f32::NAN };
        self.times.as_mut()[at] = reading.t;
        self.filled[reading.channel] += 1;
    }

    /// A free channel keeps its newest readings.
    fn push_free(&mut self, reading: &Reading) {
        let filled = self.filled[reading.channel] as usize;
        if filled == self.window {
            let at = reading.channel * self.room;
            self.values.as_mut().copy_within(at + 1..at + filled, at);
            self.times.as_mut().copy_within(at + 1..at + filled, at);
            self.filled[reading.channel] -= 1;
        }
        self.store(reading);
    }

    fn check_times(&mut self, reading: &Reading) {
        let filled = self.filled[reading.channel] as usize;
        if filled > 0 {
            let last = self.times.as_ref()[reading.channel * self.room + filled - 1];
            self.grid.flags = self.grid.flags | step_flags(last, reading.t, reading.period);
        }
    }

    /// What of the flags still lies inside the open window after it moved on.
    fn recheck_times(&mut self, period: Option<Micros>) {
        let mut flags = Quality::GOOD;
        for channel in 0..self.gating {
            let at = channel * self.room;
            let times = &self.times.as_ref()[at..at + self.filled[channel] as usize];
            for pair in times.windows(2) {
                flags = flags | step_flags(pair[0], pair[1], period);
            }
        }
        self.grid.flags = flags;
    }

    fn close(&mut self, close: &mut dyn FnMut(ClosedReadings<'_>)) {
        let flags = core::mem::take(&mut self.grid.flags);
        let mut quality = flags;
        if core::mem::take(&mut self.grid.gap) {
            quality = quality | Quality::GAP;
        }
        let (values, times) = (self.values.as_ref(), self.times.as_ref());
        let (start, last) = (times[0], times[self.window - 1]);
        let mut channels = heapless::Vec::new();
        for (c, filled) in self.filled.iter().enumerate() {
            let at = c * self.room;
            let len = (*filled as usize).min(self.window);
            let (mut times, mut values) = (&times[at..at + len], &values[at..at + len]);
            if c >= self.gating {
                let after = times.iter().rposition(|t| *t <= last).map_or(0, |i| i + 1);
                let before = times[..after].iter().position(|t| *t >= start).unwrap_or(after.saturating_sub(1));
                (times, values) = (&times[before..after], &values[before..after]);
            }
            if !values.iter().all(|v| v.is_finite()) {
                quality = quality | Quality::NON_FINITE;
            }
            // As many as the group has channels, which fit.
            let _ = channels.push(kilter_signal::reading::Readings { times, values });
        }
        let broken = flags.intersects(Quality(Quality::GAP.0 | Quality::CLOCK_BACK.0));
        close(ClosedReadings {
            index: self.grid.index,
            start,
            end: Micros(last.0.saturating_add(1)),
            quality,
            broken,
            channels,
        });
    }

    fn advance(&mut self) {
        self.grid.index += 1;
        self.shift(usize::try_from(self.hop).unwrap_or(usize::MAX));
    }

    fn shift(&mut self, by: usize) {
        for channel in 0..self.gating {
            let filled = self.filled[channel] as usize;
            let at = channel * self.room;
            let keep = filled.saturating_sub(by);
            self.values.as_mut().copy_within(at + filled - keep..at + filled, at);
            self.times.as_mut().copy_within(at + filled - keep..at + filled, at);
            self.filled[channel] = keep as u32;
        }
    }

    pub(crate) fn save(&self, out: &mut Writer<'_>) {
        out.value(&(self.grid, &self.filled));
        for (c, filled) in self.filled.iter().enumerate() {
            let range = c * self.room..c * self.room + *filled as usize;
            out.floats(&self.values.as_ref()[range.clone()]);
            out.times(&self.times.as_ref()[range]);
        }
    }

    pub(crate) fn load(&mut self, bytes: &mut Reader<'_>) -> Result<(), RestoreError> {
        let filled: heapless::Vec<u32, MAX_GROUP_CHANNELS>;
        (self.grid, filled) = bytes.value()?;
        let fits = filled.len() == self.filled.len() && filled.iter().all(|f| *f as usize <= self.room);
        if !fits || self.grid.index > MAX_INDEX {
            return Err(RestoreError::Damaged);
        }
        self.filled = filled;
        for (c, filled) in self.filled.iter().enumerate() {
            let range = c * self.room..c * self.room + *filled as usize;
            bytes.floats(&mut self.values.as_mut()[range.clone()])?;
            bytes.times(&mut self.times.as_mut()[range])?;
        }
        Ok(())
    }
}

/// Rows are windows of their own; a hole shows in the next one's flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rows {
    next: u64,
    started: bool,
    gap: bool,
}

impl Rows {
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The row's quality; `None` when it was seen before.
    pub(crate) fn push(&mut self, position: u64) -> Option<Quality> {
        if self.started && position < self.next {
            return None;
        }
        let gap = core::mem::take(&mut self.gap) || self.started && position > self.next;
        self.started = true;
        self.next = position.saturating_add(1);
        Some(if gap { Quality::GAP } else { Quality::GOOD })
    }

    pub(crate) fn interrupt(&mut self) {
        self.gap = self.started;
    }

    pub(crate) fn skip(&mut self, to: u64) {
        if to > self.next {
            self.gap = self.started;
            self.started = true;
            self.next = to;
        }
    }
}

fn step_flags(from: Micros, to: Micros, period: Option<Micros>) -> Quality {
    let step = to.0.saturating_sub(from.0);
    if from == HOLE || to == HOLE {
        Quality::GOOD
    } else if step < 0 {
        Quality::CLOCK_BACK
    } else if period.is_some_and(|period| step > period.0.saturating_mul(3)) {
        Quality::GAP
    } else {
        Quality::GOOD
    }
}

fn reading_room(group: &GroupConfig) -> usize {
    group.window as usize + group.hop.clamp(SLACK, MAX_SLACK) as usize
}

/// Stands where a reading will never come.
const HOLE: Micros = Micros(i64::MIN);
/// Readings that a channel may be ahead of its group.
const SLACK: u32 = 32;
const MAX_SLACK: u32 = 4096;
/// How far a stated rate may be off.
const RATE_TOLERANCE: f32 = 0.005;
/// How far a window's length by the blocks' times may be off.
const CLOCK_TOLERANCE: f64 = 0.05;
/// Beyond it a restored index would make positions overflow.
const MAX_INDEX: u64 = 1 << 38;
