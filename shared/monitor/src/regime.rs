//! What the machine was doing during a window: off, changing, or steady in a bin of speed and load.
//!
//! Bins lie on a fixed grid, so a bin means the same on every machine of a nominal speed: `bin = 8 * speed + load`. `speed` is 0
//! where not known, otherwise the nearest tenth of nominal (1 to 15); `load` is 0 where not known, otherwise 1 + the nearest
//! quarter of full load (1 to 7). A machine keeps its bin until a value is a tenth of a bin beyond the border, so that a value
//! on a border does not flap. Without any word about speed and load the machine counts as steady in bin 0.

use kilter_infer::kernel::within;
use kilter_types::{Micros, OperatingState, Rpm};
use serde::{Deserialize, Serialize};

/// A window's regime.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Regime {
    pub(crate) state: OperatingState,
    pub(crate) rpm: Option<Rpm>,
    pub(crate) load: Option<f32>,
}

/// Speed and load over the recent past.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Operating {
    speed: Trace,
    load: Trace,
    /// The last steady bin's speed and load number.
    bin: (u8, u8),
}

impl Operating {
    pub(crate) fn speed(&mut self, t: Micros, rpm: Rpm) {
        if rpm.0.is_finite() && rpm.0 >= 0.0 {
            self.speed.push(t, rpm.0);
        }
    }

    /// The shaft comes to a stop and turns no faster than this; nothing where something newer is known.
    pub(crate) fn slows(&mut self, t: Micros, most: Rpm) {
        if self.speed.points.last().is_none_or(|(last, _)| *last <= t) {
            self.speed(t, most);
        }
    }

    pub(crate) fn load(&mut self, t: Micros, percent: f32) {
        if percent.is_finite() {
            self.load.push(t, percent);
        }
    }

    /// What the machine did from `start` to `end`; `awaited`: a speed channel exists, so silence is not consent.
    pub(crate) fn regime(&mut self, start: Micros, end: Micros, nominal: Option<Rpm>, awaited: bool) -> Regime {
        let speed = match (self.speed.range(start, end), nominal) {
            (Some(range), _) => Some(range),
            (None, _) if awaited => return Regime::default(),
            (None, Some(nominal)) => Some(Range { low: nominal.0, high: nominal.0, last: nominal.0 }),
            (None, None) => None,
        };
        let load = self.load.range(start, end);
        let scale = nominal.map_or(DEFAULT_RPM, |n| n.0);
        let mut regime =
            Regime { state: OperatingState::Unknown, rpm: speed.map(|s| Rpm(s.last)), load: load.map(|l| l.last) };
        let off = OFF * scale;
        let changing = speed.is_some_and(|s| s.high - s.low > SPEED_CHANGE * s.high)
            || load.is_some_and(|l| l.high - l.low > LOAD_CHANGE);
        regime.state = if speed.is_some_and(|s| s.high < off) {
            OperatingState::Off
        } else if changing || speed.is_some_and(|s| s.low < off) {
            OperatingState::Transient
        } else {
            let speed = speed.map(|s| s.last / scale / SPEED_BIN);
            let load = load.map(|l| l.last / LOAD_BIN + 1.0);
            self.bin = (settle(speed, self.bin.0, 15), settle(load, self.bin.1, 7));
            OperatingState::Steady(8 * self.bin.0 + self.bin.1)
        };
        regime
    }
}

/// The number of the bin whose centre is nearest, unless the old one is still near enough.
fn settle(place: Option<f32>, old: u8, most: u8) -> u8 {
    let Some(place) = place else { return 0 };
    if old != 0 && (place - f32::from(old)).abs() <= 0.5 + STICKY {
        return old;
    }
    within(libm::roundf(place), 1.0, f32::from(most)) as u8
}

/// Changes of a quantity over the recent past.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Trace {
    points: heapless::Vec<(Micros, f32), POINTS>,
}

#[derive(Clone, Copy)]
struct Range {
    low: f32,
    high: f32,
    last: f32,
}

impl Trace {
    fn push(&mut self, t: Micros, value: f32) {
        if self.points.last().is_some_and(|(last, _)| t < *last) {
            self.points.clear();
        }
        let same = |old: f32| (value - old).abs() <= SAME * old.abs();
        if self.points.last().is_some_and(|(_, old)| same(*old)) {
            return;
        }
        if self.points.is_full() {
            self.points.remove(0);
        }
        // There is room now.
        let _ = self.points.push((t, value));
    }

    /// Extremes over the span, and the value that held at its end; the earliest known one holds before it was told.
    fn range(&self, start: Micros, end: Micros) -> Option<Range> {
        let before = self.points.iter().rposition(|(t, _)| *t <= start).unwrap_or(0);
        let mut points = self.points.get(before..)?.iter();
        let first = points.next()?.1;
        let mut range = Range { low: first, high: first, last: first };
        for (_, value) in points.take_while(|(t, _)| *t <= end) {
            range = Range { low: range.low.min(*value), high: range.high.max(*value), last: *value };
        }
        Some(range)
    }
}

/// Remembered changes of speed or load.
const POINTS: usize = 32;
/// A smaller change of a quantity is not remembered.
const SAME: f32 = 0.001;
/// Below this share of nominal speed the machine is off.
const OFF: f32 = 0.05;
/// A greater change of speed within a window is a transient.
const SPEED_CHANGE: f32 = 0.05;
/// A greater change of load within a window, in per cent of nominal, is a transient.
const LOAD_CHANGE: f32 = 10.0;
/// Width of a bin of speed, as a share of nominal.
const SPEED_BIN: f32 = 0.1;
/// Width of a bin of load, in per cent of nominal.
const LOAD_BIN: f32 = 25.0;
/// How far beyond its border a bin holds, in widths.
const STICKY: f32 = 0.1;
/// The scale of speeds where no nominal one is given.
const DEFAULT_RPM: f32 = 1500.0;

#[cfg(test)]
mod tests {
    use super::*;

    const NOMINAL: Option<Rpm> = Some(Rpm(1500.0));

    fn at(operating: &mut Operating, from_s: i64, to_s: i64) -> OperatingState {
        operating.regime(Micros::from_secs(from_s), Micros::from_secs(to_s), NOMINAL, false).state
    }

    #[test]
    fn off_change_and_steady_are_told_apart_by_what_happened_inside_the_window() {
        let mut operating = Operating::default();
        assert_eq!(at(&mut operating, 0, 1), OperatingState::Steady(80));
        operating.speed(Micros::from_secs(2), Rpm(0.0));
        operating.speed(Micros::from_secs(10), Rpm(1500.0));
        operating.load(Micros::from_secs(2), 70.0);
        assert_eq!(at(&mut operating, 3, 4), OperatingState::Off);
        assert_eq!(at(&mut operating, 9, 11), OperatingState::Transient);
        assert_eq!(at(&mut operating, 11, 12), OperatingState::Steady(84));
        operating.load(Micros::from_secs(13), 95.0);
        assert_eq!(at(&mut operating, 12, 14), OperatingState::Transient);
        assert_eq!(at(&mut operating, 14, 15), OperatingState::Steady(85));
    }

    #[test]
    fn a_load_that_wanders_over_a_border_keeps_its_bin() {
        let mut operating = Operating::default();
        operating.load(Micros(0), 61.0);
        let first = at(&mut operating, 0, 1);
        for (i, load) in [63.0, 62.0, 64.5, 60.0].into_iter().enumerate() {
            let t = i as i64 + 1;
            operating.load(Micros::from_secs(t), load);
            assert_eq!(at(&mut operating, t, t + 1), first);
        }
    }

    #[test]
    fn an_awaited_speed_that_has_not_come_is_an_unknown_state() {
        let mut operating = Operating::default();
        let regime = operating.regime(Micros(0), Micros(1), NOMINAL, true);
        assert_eq!(regime.state, OperatingState::Unknown);
    }
}
