//! Firing and clearing in sample time: one fire and one clear for an input that flaps (A1).
//!
//! A level fires when `raise` of the last `of` windows exceeded it, and clears after `clear` windows in a row that were quiet,
//! that is below the limit by the stated ratio. Windows between the two neither fire nor clear, and windows without a verdict
//! (another operating state, a faulty sensor) do not count at all.

use kilter_types::{Cause, Micros, Severity};
use serde::{Deserialize, Serialize};

use crate::config::Patience;

/// What one source says of one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sign {
    /// [`Severity::Healthy`] when no limit is exceeded.
    pub(crate) severity: Severity,
    /// Below the limit of watch, alarm and danger by the stated ratio.
    pub(crate) quiet: [bool; 3],
}

impl Sign {
    /// A value against its limits, lowest first; `None` of those that are switched off.
    pub(crate) fn of(value: f32, alarm: Option<f32>, danger: Option<f32>, ratio: f32) -> Option<Self> {
        let least = alarm.or(danger)?;
        let over = |limit: Option<f32>| limit.is_some_and(|limit| value > limit);
        let severity = match (over(danger), over(alarm)) {
            (true, _) => Severity::Danger,
            (false, true) => Severity::Alarm,
            (false, false) => Severity::Healthy,
        };
        let quiet = |limit: f32| value < ratio * limit;
        Some(Self { severity, quiet: [quiet(least), quiet(least), danger.is_none_or(quiet)] })
    }

    /// A score against its threshold.
    pub(crate) fn score(anomaly: f32, threshold: f32, ratio: f32) -> Self {
        let severity = if anomaly > SEVERE * threshold {
            Severity::Alarm
        } else if anomaly > threshold {
            Severity::Watch
        } else {
            Severity::Healthy
        };
        let quiet = |limit: f32| anomaly < ratio * limit;
        Self { severity, quiet: [quiet(threshold), quiet(SEVERE * threshold), true] }
    }

    /// Nothing to see, or a plain fault.
    pub(crate) fn plain(faulty: bool) -> Self {
        Self { severity: if faulty { Severity::Alarm } else { Severity::Healthy }, quiet: [!faulty; 3] }
    }

    /// The worse of two.
    pub(crate) fn and(self, other: Self) -> Self {
        let quiet = core::array::from_fn(|level| self.quiet[level] && other.quiet[level]);
        Self { severity: self.severity.max(other.severity), quiet }
    }
}

/// One source over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hysteresis {
    /// Watch or worse, Alarm or worse, Danger.
    levels: [Level; 3],
    /// Start of the first window that exceeded since the source was last quiet.
    since: Option<Micros>,
}

impl Hysteresis {
    pub(crate) fn step(&mut self, sign: Sign, start: Micros, patience: &Patience) {
        let exceeded = |least| sign.severity >= least;
        if self.since.is_none() && exceeded(Severity::Watch) {
            self.since = Some(start);
        }
        let severities = [Severity::Watch, Severity::Alarm, Severity::Danger];
        for ((level, least), quiet) in self.levels.iter_mut().zip(severities).zip(sign.quiet) {
            level.step(exceeded(least), quiet, patience);
        }
        if !self.levels[0].on && self.levels[0].recent == 0 {
            self.since = None;
        }
    }

    /// How bad, and since when; `None` while nothing fired.
    pub(crate) fn active(&self) -> Option<(Severity, Micros)> {
        let severity = match self.levels.map(|level| level.on) {
            [_, _, true] => Severity::Danger,
            [_, true, false] => Severity::Alarm,
            [true, false, false] => Severity::Watch,
            [false, false, false] => return None,
        };
        Some((severity, self.since.unwrap_or_default()))
    }

    /// Did any recent window exceed?
    pub(crate) fn is_suspicious(&self) -> bool {
        self.levels[0].on || self.levels[0].recent != 0
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Level {
    /// The last windows, newest in bit 0.
    recent: u32,
    quiet: u16,
    on: bool,
}

impl Level {
    fn step(&mut self, exceeded: bool, quiet: bool, patience: &Patience) {
        let span = u32::MAX >> (32 - u32::from(patience.of));
        self.recent = (self.recent << 1 | u32::from(exceeded)) & span;
        self.quiet = if quiet { self.quiet.saturating_add(1) } else { 0 };
        if self.recent.count_ones() >= u32::from(patience.raise) {
            self.on = true;
        }
        if self.quiet >= patience.clear {
            (self.on, self.recent) = (false, 0);
        }
    }
}

/// The diagnosis over several windows: a cause counts when it is named again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Naming {
    recent: heapless::Vec<Cause, 32>,
    quiet: u16,
    named: Option<(Cause, Micros)>,
    since: Option<Micros>,
}

impl Default for Naming {
    fn default() -> Self {
        Self { recent: heapless::Vec::new(), quiet: 0, named: None, since: None }
    }
}

impl Naming {
    pub(crate) fn step(&mut self, cause: Cause, start: Micros, patience: &Patience) {
        if self.recent.len() >= usize::from(patience.diagnosis_of) {
            self.recent.remove(0);
        }
        // At most 32 by the checked configuration.
        let _ = self.recent.push(cause);
        if cause == Cause::Unclear {
            self.quiet = self.quiet.saturating_add(1);
        } else {
            self.quiet = 0;
            self.since = self.since.or(Some(start));
            if self.count(cause) >= usize::from(patience.diagnosis_raise) {
                let since = self.named.map_or(self.since.unwrap_or(start), |(_, since)| since);
                self.named = Some((cause, since));
            }
        }
        if self.quiet >= patience.clear || self.named.is_none() && usize::from(self.quiet) >= self.recent.len() {
            (self.named, self.since) = (None, None);
        }
    }

    /// The cause that stands, and since when.
    pub(crate) fn named(&self) -> Option<(Cause, Micros)> {
        self.named
    }

    /// The cause most often named lately, where it was named at least three times.
    pub(crate) fn hint(&self) -> Cause {
        let mut best = (Cause::Unclear, 2);
        for cause in self.recent.iter().rev().filter(|cause| **cause != Cause::Unclear) {
            let count = self.count(*cause);
            if count > best.1 {
                best = (*cause, count);
            }
        }
        best.0
    }

    /// Is any cause named often enough to keep its windows from being learned as healthy?
    pub(crate) fn is_suspicious(&self) -> bool {
        self.named.is_some() || self.recent.iter().filter(|cause| **cause != Cause::Unclear).count() > 1
    }

    fn count(&self, cause: Cause) -> usize {
        self.recent.iter().filter(|other| **other == cause).count()
    }
}

/// From so many times the threshold on, a score is an alarm rather than a matter to watch.
const SEVERE: f32 = 3.0;
