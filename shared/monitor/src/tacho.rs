//! The shaft by its pulses: the speed of a window, the angle of each moment, and pulses that no shaft can give.
//!
//! A tacho channel gives evenly spaced pulses, so many to a revolution; each `pulses_per_rev`-th is a mark of a whole revolution. The speed
//! of a window is the angle between its ends over its length: between two marks by the straight line, behind the newest one by the
//! trend of the last two. So it follows a ramp, and needs no pulse that comes later than the window's samples.
//!
//! **What can't be.** Times that do not rise; more revolutions per minute than three times nominal; intervals that grow by half and
//! shrink by half again within three of them (a pulse was missed) or the other way round (one too many): no shaft turns so.
//! Pulses that break off without getting slower. Each is told as [`Quality::BAD_PULSES`] of the windows it falls into; these have no speed, and
//! what was counted before is forgotten. The machine is judged all the same, as one whose speed is not known.
//!
//! **Standing still.** Pulses that got slower and then stay away are a shaft that stops: after a silence it turns at most once per
//! silence, and where that is less than a twentieth of nominal it is off.

use kilter_types::{Micros, Quality, Rpm};
use serde::{Deserialize, Serialize};

use crate::{
    config::{ChannelKind, MachineConfig},
    snapshot::{Reader, RestoreError, Writer},
};

/// The pulses of one shaft. `T` holds the times of whole revolutions.
#[derive(Debug)]
pub(crate) struct Tacho<T> {
    train: Train,
    per_rev: u16,
    /// The shortest time between two pulses that a shaft can do.
    least_us: i64,
    /// Pulses further apart than this are those of a shaft that stands.
    standing_us: i64,
    marks: T,
}

/// What was seen of the pulses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Train {
    /// The next position; `None` before the first pulse.
    next: Option<u64>,
    newest: Micros,
    /// The newest interval and the one before it.
    interval_us: Option<i64>,
    before_us: Option<i64>,
    /// Which way the interval jumped last, and so many intervals ago.
    jump: i8,
    since_jump: u8,
    /// When there was a pulse that can't be, newest last.
    bad: heapless::Vec<Micros, 8>,
    /// Whole revolutions kept.
    marks: u32,
    /// The speed that was told last.
    told: Rpm,
}

/// What the shaft did in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shaft {
    /// Not known.
    Unknown,
    /// It turned, on average at this speed.
    Turning(Rpm),
    /// It came to a stop, and turns no faster than this now.
    Stopping(Rpm),
}

impl<T: AsRef<[Micros]> + AsMut<[Micros]>> Tacho<T> {
    /// `marks` as long as [`room`] says.
    pub(crate) fn new(config: &MachineConfig, per_rev: u16, marks: T) -> Self {
        let nominal = config.nominal_rpm.map_or(DEFAULT_RPM, |rpm| rpm.0);
        let interval_us = |rpm: f32| (60.0e6 / f64::from(rpm) / f64::from(per_rev.max(1))) as i64;
        let least_us = config.nominal_rpm.map_or(0, |rpm| interval_us(MOST_SPEED * rpm.0));
        let standing_us = interval_us(OFF * nominal);
        Self { train: Train::default(), per_rev: per_rev.max(1), least_us, standing_us, marks }
    }

    /// Takes one pulse; the speed, where it has changed by more than half a per cent.
    pub(crate) fn push(&mut self, position: u64, t: Micros) -> Option<Rpm> {
        let next = self.train.next.replace(position.saturating_add(1).max(self.train.next.unwrap_or(0)));
        let follows = match next {
            Some(next) if position < next => return None,
            Some(next) => position == next,
            None => false,
        };
        let interval_us = t.0.saturating_sub(self.train.newest.0);
        let newest = core::mem::replace(&mut self.train.newest, t);
        if !follows {
            self.begin();
        } else if interval_us <= 0 {
            self.blame(newest);
        } else if interval_us >= self.standing_us {
            self.begin();
            self.train.interval_us = Some(self.standing_us);
        } else if interval_us < self.least_us || self.is_reversal(interval_us) {
            self.blame(t);
        } else {
            self.train.before_us = self.train.interval_us.replace(interval_us);
        }
        if position.is_multiple_of(u64::from(self.per_rev)) { self.mark(t) } else { None }
    }

    /// What the shaft did from `start` to `end`.
    pub(crate) fn shaft(&self, start: Micros, end: Micros) -> Shaft {
        match self.silence(end) {
            Silence::Broken => return Shaft::Unknown,
            Silence::Stopping(rpm) => return Shaft::Stopping(rpm),
            Silence::None => {}
        }
        if self.train.interval_us == Some(self.standing_us) {
            return Shaft::Stopping(self.rpm_of(self.standing_us));
        }
        let marks = self.marks();
        if self.quality(start, end) != Quality::GOOD || marks.len() < 2 {
            return Shaft::Unknown;
        }
        let start = start.max(marks[0]);
        let secs = (end - start).as_secs_f64();
        let revolutions = self.angle(end) - self.angle(start);
        if secs > 0.0 && revolutions > 0.0 {
            Shaft::Turning(Rpm((60.0 * revolutions / secs) as f32))
        } else {
            Shaft::Unknown
        }
    }

    /// [`Quality::BAD_PULSES`] where a pulse of this span can't be a shaft's.
    pub(crate) fn quality(&self, start: Micros, end: Micros) -> Quality {
        let bad = self.train.bad.iter().any(|t| (start..=end).contains(t));
        if bad || self.silence(end) == Silence::Broken { Quality::BAD_PULSES } else { Quality::GOOD }
    }

    /// The times of whole revolutions, oldest first.
    pub(crate) fn marks(&self) -> &[Micros] {
        self.marks.as_ref().get(..self.train.marks as usize).unwrap_or(&[])
    }

    /// Nothing that was counted before goes on.
    pub(crate) fn begin(&mut self) {
        let train = &mut self.train;
        (train.interval_us, train.before_us, train.jump, train.marks) = (None, None, 0, 0);
        train.told = Rpm(0.0);
    }

    pub(crate) fn save(&self, out: &mut Writer<'_>) {
        out.value(&self.train);
        out.times(self.marks());
    }

    pub(crate) fn load(&mut self, bytes: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.train = bytes.value()?;
        let room = self.marks.as_mut().get_mut(..self.train.marks as usize).ok_or(RestoreError::Damaged)?;
        bytes.times(room)
    }

    fn blame(&mut self, t: Micros) {
        if self.train.bad.is_full() {
            self.train.bad.remove(0);
        }
        // There is room now.
        let _ = self.train.bad.push(t);
        self.begin();
    }

    /// Did the interval jump one way and back again?
    fn is_reversal(&mut self, interval_us: i64) -> bool {
        let Some(last_us) = self.train.interval_us else { return false };
        let ratio = interval_us as f32 / last_us as f32;
        let jump = if ratio > JUMP { 1 } else { -i8::from(ratio * JUMP < 1.0) };
        let reversed = jump != 0 && self.train.jump == -jump;
        self.train.since_jump = self.train.since_jump.saturating_add(1);
        if jump != 0 {
            (self.train.jump, self.train.since_jump) = (jump, 0);
        } else if self.train.since_jump >= MEMORY {
            self.train.jump = 0;
        }
        reversed
    }

    fn mark(&mut self, t: Micros) -> Option<Rpm> {
        let (marks, len) = (self.marks.as_mut(), self.train.marks as usize);
        if marks.is_empty() {
            return None;
        }
        let mut len = len.min(marks.len());
        if len == marks.len() {
            let gone = len.div_ceil(4);
            marks.copy_within(gone.., 0);
            len -= gone;
        }
        marks[len] = t;
        self.train.marks = len as u32 + 1;
        let before = len.checked_sub(1).map(|before| marks[before])?;
        let rpm = Rpm((60.0 / (t - before).as_secs_f64()) as f32);
        let changed = (rpm.0 - self.train.told.0).abs() > TOLD * self.train.told.0;
        changed.then(|| {
            self.train.told = rpm;
            rpm
        })
    }

    /// Revolutions from the first mark to `t`.
    fn angle(&self, t: Micros) -> f64 {
        let marks = self.marks();
        let before = marks.partition_point(|mark| *mark <= t);
        let Some(i) = before.checked_sub(1) else { return 0.0 };
        let since = (t - marks[i]).as_secs_f64();
        let turn = match (marks.get(i + 1), i.checked_sub(1)) {
            (Some(next), _) => (*next - marks[i]).as_secs_f64(),
            // Behind the newest mark: as long as the last revolution, longer or shorter as the trend has it.
            (None, Some(j)) => {
                let last = (marks[i] - marks[j]).as_secs_f64();
                let trend = j.checked_sub(1).map_or(1.0, |k| last / (marks[j] - marks[k]).as_secs_f64());
                last * trend.clamp(0.5, 2.0)
            }
            (None, None) => return 0.0,
        };
        i as f64 + since / turn
    }

    /// The speed at which pulses are so far apart.
    fn rpm_of(&self, interval_us: i64) -> Rpm {
        Rpm((60.0e6 / interval_us as f64 / f64::from(self.per_rev)) as f32)
    }

    fn silence(&self, end: Micros) -> Silence {
        let Some(interval_us) = self.train.interval_us else { return Silence::None };
        let silent_us = end.0.saturating_sub(self.train.newest.0);
        if silent_us <= SILENT * interval_us {
            return Silence::None;
        }
        let slowing = self.train.before_us.is_some_and(|before_us| interval_us as f32 > SLOWING * before_us as f32);
        if slowing || interval_us >= self.standing_us / 4 {
            return Silence::Stopping(self.rpm_of(silent_us));
        }
        Silence::Broken
    }
}

/// What the time since the newest pulse says.
#[derive(PartialEq)]
enum Silence {
    None,
    Stopping(Rpm),
    Broken,
}

/// Times of whole revolutions that a machine with a tacho keeps; 0 without.
pub(crate) fn room(config: &MachineConfig) -> usize {
    if pulses_per_rev(config).is_none() {
        return 0;
    }
    let secs = config.groups.iter().filter_map(|group| {
        match config.channels.get(usize::from(group.channels.first()?.0))?.kind {
            ChannelKind::Vibration { rate } => Some(group.window as f32 / rate.0),
            ChannelKind::Reading { .. }
            | ChannelKind::Cycle { .. }
            | ChannelKind::Speed
            | ChannelKind::Tacho { .. }
            | ChannelKind::Load
            | ChannelKind::Ambient => None,
        }
    });
    let longest_s = secs.fold(0.0, f32::max);
    let nominal = config.nominal_rpm.map_or(2.0 * DEFAULT_RPM, |rpm| rpm.0);
    // Half as fast again as nominal, and a quarter that is given up at a time.
    (((2.0 * nominal / 60.0 * longest_s) as usize) + 16).min(MOST_MARKS)
}

/// Pulses to a revolution of the machine's tacho, if it has one.
pub(crate) fn pulses_per_rev(config: &MachineConfig) -> Option<u16> {
    config.channels.iter().find_map(|channel| match channel.kind {
        ChannelKind::Tacho { pulses_per_rev } => Some(pulses_per_rev),
        ChannelKind::Vibration { .. }
        | ChannelKind::Reading { .. }
        | ChannelKind::Cycle { .. }
        | ChannelKind::Speed
        | ChannelKind::Load
        | ChannelKind::Ambient => None,
    })
}

/// The scale of speeds where no nominal one is given.
const DEFAULT_RPM: f32 = 1500.0;
/// Times nominal beyond which pulses are no shaft's.
const MOST_SPEED: f32 = 3.0;
/// Below this share of nominal the shaft stands.
const OFF: f32 = 0.05;
/// An interval so many times the one before, or that part of it, is a jump.
const JUMP: f32 = 1.5;
/// A jump is remembered for so many intervals.
const MEMORY: u8 = 2;
/// So many intervals without a pulse are silence.
const SILENT: i64 = 3;
/// An interval so much longer than the one before is that of a shaft that slows down.
const SLOWING: f32 = 1.15;
/// A smaller change of speed is not told.
const TOLD: f32 = 0.005;
const MOST_MARKS: usize = 4096;

#[cfg(test)]
mod tests;
