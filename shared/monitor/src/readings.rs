//! The open window of channels that are read one value at a time, by the rule of [`crate::window`].
//!
//! A buffer's place is a position, so a hole is kept as a mark until the slower channels have come past it; only then is the window
//! that holds it given up. So the rows do not depend on the order in which channels arrive.

use kilter_types::{GroupKind, Micros, Quality};

use crate::{
    config::{GroupConfig, MAX_GROUP_CHANNELS, OUTSIDE},
    memory::Memory,
    snapshot::{Reader, RestoreError, Writer},
    window::{Grid, MAX_INDEX},
};

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
    /// As its channel's range admits it.
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
        self.values.as_mut()[at] = reading.value;
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
            if values.iter().any(|v| v.is_nan()) {
                quality = quality | Quality::NON_FINITE;
            }
            if values.contains(&OUTSIDE) {
                quality = quality | Quality::OUT_OF_RANGE;
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

/// Readings per channel that the buffers hold.
pub(crate) fn reading_room(group: &GroupConfig) -> usize {
    group.window as usize + group.hop.clamp(SLACK, MAX_SLACK) as usize
}

/// Stands where a reading will never come.
const HOLE: Micros = Micros(i64::MIN);
/// Readings that a channel may be ahead of its group.
const SLACK: u32 = 32;
const MAX_SLACK: u32 = 4096;
