//! What the signs of one group amount to: alarms with cause, severity and evidence.
//!
//! Four sources speak about the machine, each with its own hysteresis. In this order they decide what an alarm says it comes
//! from: rule, physics, model, statistic. The cause is the one that the diagnosis names; else the rule's own; else what the
//! diagnosis named more than once lately; else unclear. A machine's alarm is raised when the first source fires and cleared when the
//! last one clears; in between it changes when severity rises or falls or a better source or cause comes. A faulty sensor is
//! an alarm of its own, and while its windows are bad nothing else is judged.

use kilter_types::{
    Alarm, AlarmSource, AlarmState, Cause, Contribution, Digest, Evidence, MAX_CONTRIBUTIONS, Micros, Quality, RowRef,
    Severity,
};
use serde::{Deserialize, Serialize};

use crate::{
    config::Patience,
    hysteresis::{Hysteresis, Naming, Sign},
};

/// Everything that one window says about machine and sensor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signs {
    /// `None` while the state of the machine or the window gives no verdict.
    pub(crate) rule: Option<(Sign, Cause, Evidence)>,
    pub(crate) physics: Option<(Cause, heapless::Vec<Evidence, 4>)>,
    pub(crate) model: Option<Sign>,
    pub(crate) statistic: Option<Sign>,
    /// Always given.
    pub(crate) quality: Quality,
    /// The deciding score's contributions and model.
    pub(crate) contributions: heapless::Vec<Contribution, MAX_CONTRIBUTIONS>,
    pub(crate) digest: Option<Digest>,
}

/// The decision of one group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decision {
    rule: Hysteresis,
    naming: Naming,
    model: Hysteresis,
    statistic: Hysteresis,
    sensor: Hysteresis,
    rule_cause: Cause,
    machine_alarm: Option<Standing>,
    sensor_alarm: Option<Standing>,
    trip_alarm: Option<Standing>,
}

/// An alarm that is raised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Standing {
    id: u32,
    since: Micros,
    severity: Severity,
    source: AlarmSource,
    cause: Cause,
    /// The cause was named by diagnosis or rule, not only hinted at.
    firm: bool,
}

/// Where and under which policy a window is decided.
pub(crate) struct Bench<'a> {
    pub(crate) patience: &'a Patience,
    pub(crate) next_id: &'a mut u32,
    pub(crate) input: RowRef,
    pub(crate) start: Micros,
    pub(crate) emit: &'a mut dyn FnMut(&Alarm),
}

impl Decision {
    pub(crate) fn step(&mut self, signs: &Signs, bench: &mut Bench<'_>) {
        let patience = bench.patience;
        let bad = signs.quality.intersects(SENSOR_FAULT);
        self.sensor.step(Sign::plain(bad), bench.start, patience);
        if let Some((sign, cause, _)) = &signs.rule {
            self.rule.step(*sign, bench.start, patience);
            if sign.severity > Severity::Healthy {
                self.rule_cause = *cause;
            }
        }
        if let Some((cause, _)) = &signs.physics {
            self.naming.step(*cause, bench.start, patience);
        }
        if let Some(sign) = signs.model {
            self.model.step(sign, bench.start, patience);
        }
        if let Some(sign) = signs.statistic {
            self.statistic.step(sign, bench.start, patience);
        }
        let machine = self.verdict();
        let sensor = self.sensor.active().map(|(severity, since)| Standing {
            id: 0,
            since,
            severity,
            source: AlarmSource::Sensor,
            cause: Cause::Sensor,
            firm: true,
        });
        let latch = Latch::of(patience);
        settle(&mut self.sensor_alarm, sensor, latch, signs, bench);
        settle(&mut self.machine_alarm, machine, latch, signs, bench);
    }

    /// The protection tripped: an alarm that only a reset clears.
    pub(crate) fn trip(&mut self, evidence: Evidence, bench: &mut Bench<'_>) {
        let standing = Standing {
            id: 0,
            since: bench.start,
            severity: Severity::Danger,
            source: AlarmSource::Protection,
            cause: self.cause().0,
            firm: true,
        };
        let sign = Sign { severity: Severity::Danger, quiet: [false; 3] };
        let signs = Signs { rule: Some((sign, standing.cause, evidence)), ..Signs::default() };
        match &mut self.trip_alarm {
            // Another protection trips while the first still stands: the record shows this one too.
            Some(old) => {
                old.cause = standing.cause;
                tell(old, AlarmState::Changed, &signs, bench);
            }
            None => settle(&mut self.trip_alarm, Some(standing), Latch::Hold, &signs, bench),
        }
    }

    /// The baseline starts again and what it said is over; a trip stands, because only a reset releases the machine.
    pub(crate) fn restart(&mut self, bench: &mut Bench<'_>) {
        let trip_alarm = self.trip_alarm.take();
        self.reset(bench);
        self.trip_alarm = trip_alarm;
    }

    /// Somebody acknowledged with a reset: what is latched clears, what goes on fires again by itself.
    pub(crate) fn reset(&mut self, bench: &mut Bench<'_>) {
        let signs = Signs::default();
        for alarm in [&mut self.trip_alarm, &mut self.machine_alarm, &mut self.sensor_alarm] {
            settle(alarm, None, Latch::Release, &signs, bench);
        }
        *self = Self::default();
    }

    /// Does anything speak against taking the newest window for a healthy one?
    pub(crate) fn is_suspicious(&self, signs: &Signs) -> bool {
        let named = signs.physics.as_ref().is_some_and(|(cause, _)| *cause != Cause::Unclear);
        let ruled = signs.rule.as_ref().is_some_and(|(sign, _, _)| sign.severity > Severity::Healthy);
        let standing = self.machine_alarm.is_some() || self.trip_alarm.is_some() || self.sensor_alarm.is_some();
        named || ruled || standing || self.rule.is_suspicious() || self.naming.is_suspicious()
    }

    /// Did a rule or the diagnosis fire?
    pub(crate) fn is_faulty(&self) -> bool {
        self.rule.active().is_some() || self.naming.named().is_some()
    }

    /// The worst standing alarm.
    pub(crate) fn worst(&self) -> Option<(Severity, Cause)> {
        let standing = [&self.machine_alarm, &self.sensor_alarm, &self.trip_alarm];
        standing.into_iter().flatten().map(|s| (s.severity, s.cause)).max_by_key(|(severity, _)| *severity)
    }

    fn verdict(&self) -> Option<Standing> {
        let physics = self.naming.named().map(|(_, since)| (Severity::Alarm, since));
        let sources = [
            (AlarmSource::Rule, self.rule.active()),
            (AlarmSource::Physics, physics),
            (AlarmSource::Model, self.model.active()),
            (AlarmSource::Statistic, self.statistic.active()),
        ];
        let active = || sources.into_iter().filter_map(|(source, active)| Some((source, active?)));
        let (source, _) = active().next()?;
        let severity = active().map(|(_, (severity, _))| severity).max()?;
        let since = active().map(|(_, (_, since))| since).min()?;
        let (cause, firm) = self.cause();
        Some(Standing { id: 0, since, severity, source, cause, firm })
    }

    /// The best supported cause, and whether it is more than a hint.
    fn cause(&self) -> (Cause, bool) {
        if let Some((cause, _)) = self.naming.named() {
            return (cause, true);
        }
        let hint = self.naming.hint();
        match self.rule.active() {
            Some(_) if self.rule_cause != Cause::Severity => (self.rule_cause, true),
            Some(_) if hint == Cause::Unclear => (self.rule_cause, false),
            Some(_) | None => (hint, false),
        }
    }
}

/// May an alarm clear by itself?
#[derive(Clone, Copy, PartialEq)]
enum Latch {
    Hold,
    Release,
}

impl Latch {
    fn of(patience: &Patience) -> Self {
        if patience.latch { Self::Hold } else { Self::Release }
    }
}

/// Precedence, first first.
fn rank(source: AlarmSource) -> u8 {
    match source {
        AlarmSource::Protection => 0,
        AlarmSource::Rule => 1,
        AlarmSource::Physics => 2,
        AlarmSource::Model => 3,
        AlarmSource::Statistic => 4,
        AlarmSource::Sensor => 5,
    }
}

/// Moves an alarm to what it should be now and says so.
fn settle(alarm: &mut Option<Standing>, now: Option<Standing>, latch: Latch, signs: &Signs, bench: &mut Bench<'_>) {
    match (*alarm, now) {
        (None, None) => {}
        (None, Some(new)) => {
            let new = Standing { id: *bench.next_id, ..new };
            *bench.next_id += 1;
            *alarm = Some(new);
            tell(&new, AlarmState::Raised, signs, bench);
        }
        (Some(old), Some(new)) => {
            // A cause once named is not lost because the diagnosis pauses, and hints come and go.
            let keep = !new.firm && !matches!(old.cause, Cause::Unclear | Cause::Severity);
            let cause = if keep { old.cause } else { new.cause };
            let new = Standing { id: old.id, since: old.since, cause, firm: new.firm || old.firm, ..new };
            let better = rank(new.source) < rank(old.source);
            let source = if better { new.source } else { old.source };
            if better || new.severity != old.severity || new.cause != old.cause {
                let new = Standing { source, ..new };
                *alarm = Some(new);
                tell(&new, AlarmState::Changed, signs, bench);
            }
        }
        (Some(old), None) => {
            if latch == Latch::Release {
                *alarm = None;
                tell(&old, AlarmState::Cleared, signs, bench);
            }
        }
    }
}

fn tell(standing: &Standing, state: AlarmState, signs: &Signs, bench: &mut Bench<'_>) {
    let mut evidence = heapless::Vec::<Evidence, 4>::new();
    if let Some((_, named)) = &signs.physics {
        evidence.extend(named.iter().copied());
    }
    if let Some((sign, _, line)) = &signs.rule
        && sign.severity > Severity::Healthy
        && !evidence.is_full()
    {
        evidence.extend([*line]);
    }
    let by_model = standing.source == AlarmSource::Model;
    let alarm = Alarm {
        id: standing.id,
        state,
        severity: standing.severity,
        source: standing.source,
        cause: standing.cause,
        since: standing.since,
        input: bench.input,
        model: signs.digest.filter(|_| by_model).unwrap_or(Digest::NONE),
        evidence,
        contributions: signs.contributions.clone(),
        unjournaled: false,
    };
    (bench.emit)(&alarm);
}

/// Flags under which a window says nothing of the machine.
pub(crate) const UNUSABLE: Quality = Quality(BROKEN.0 | Quality::CLOCK_BACK.0);
/// Flags that speak of a sensor, not of the machine. Bad pulses take the speed away, and what is judged without it is judged.
const SENSOR_FAULT: Quality = Quality(BROKEN.0 | Quality::BAD_PULSES.0);
/// Flags of samples that are none of the machine's.
const BROKEN: Quality = Quality(
    Quality::NON_FINITE.0
        | Quality::STUCK.0
        | Quality::SATURATED.0
        | Quality::DROPOUT.0
        | Quality::NOISE_FLOOR.0
        | Quality::WRONG_RATE.0
        | Quality::SWAPPED_AXIS.0
        | Quality::OUT_OF_RANGE.0,
);
