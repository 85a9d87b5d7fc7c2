//! Report by exception: a window that says nothing new is left out of the journal, and its scores with it.
//!
//! What is left out is given no number, so nothing is missing and no gap is told: a row stands for the windows of its group since the row
//! before it, as the difference of their `window_index` says. A row goes when a feature has moved by more than its deadband, when state,
//! quality or what is measured has changed, when an alarm, a spectrum or a score above its threshold belongs to its window, and at each
//! heartbeat: who says nothing at all for longer is silent.

use std::collections::BTreeMap;

use kilter_signal::table::{self, Schema};
use kilter_types::{FeatureRow, GroupKind, Micros, Name, Payload, SchemaHash};
use serde::Deserialize;

use crate::said::Said;

/// Which windows say something new; heartbeats of 0 s: all of them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OnChange {
    pub(crate) heartbeat_secs: f64,
    pub(crate) deadband: f32,
    pub(crate) feature: Vec<Deadband>,
}

/// The deadband of one feature.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deadband {
    pub(crate) name: Name,
    pub(crate) deadband: f32,
}

/// Leaves out what says nothing new.
#[derive(Debug, Default)]
pub(crate) struct Exception {
    rule: OnChange,
    groups: BTreeMap<(usize, u8), Group>,
    unchanged: u64,
}

/// One group of one machine.
#[derive(Debug)]
struct Group {
    /// The row that was recorded last.
    last: FeatureRow,
    /// Places of the features that count, each with its deadband.
    watched: Vec<(usize, f32)>,
    schema: SchemaHash,
    /// The row that was left out last, should its window say something else.
    held: Option<Said>,
}

impl Exception {
    pub(crate) fn new(rule: OnChange) -> Self {
        Self { rule, ..Self::default() }
    }

    /// What is to be recorded now: a row that was left out may come before what its window says else.
    pub(crate) fn take(&mut self, said: Said) -> [Option<Said>; 2] {
        if self.rule.heartbeat_secs <= 0.0 {
            return [None, Some(said)];
        }
        let window = match &said.payload {
            Payload::Features(row) => return [None, self.row(row.clone(), said)],
            Payload::Score(score) => (score.input.group, score.input.index),
            Payload::Alarm(alarm) => (alarm.input.group, alarm.input.index),
            Payload::Spectrum(spectrum) => (spectrum.group, spectrum.index),
            Payload::Event(_) | Payload::Gap(_) | Payload::Opening(_) | Payload::Report(_) | Payload::State(_) => {
                return [None, Some(said)];
            }
            Payload::Clip(_) | Payload::Seal(_) => return [None, Some(said)],
        };
        let group = self.groups.get_mut(&(said.machine, window.0));
        let Some(group) = group.filter(|group| group.held.as_ref().is_some_and(|held| held.index == window.1)) else {
            return [None, Some(said)];
        };
        if let Payload::Score(score) = &said.payload
            && score.anomaly <= score.threshold
        {
            return [None, None];
        }
        let held = group.held.take();
        if let Some(Payload::Features(row)) = held.as_ref().map(|held| &held.payload) {
            group.last = row.clone();
            self.unchanged -= 1;
        }
        [held, Some(said)]
    }

    /// Windows that were left out since the start.
    pub(crate) fn unchanged(&self) -> u64 {
        self.unchanged
    }

    fn row(&mut self, row: FeatureRow, said: Said) -> Option<Said> {
        let heartbeat = Micros((self.rule.heartbeat_secs * 1e6) as i64);
        let key = (said.machine, row.group);
        match self.groups.get_mut(&key) {
            Some(group) if group.schema == row.vector.schema => {
                let due = row.end - group.last.end >= heartbeat || row.end < group.last.end;
                if due || group.has_changed(&row) {
                    (group.last, group.held) = (row, None);
                    Some(said)
                } else {
                    group.held = Some(said);
                    self.unchanged += 1;
                    None
                }
            }
            Some(_) | None => {
                let (watched, schema) = (self.rule.watched(&row), row.vector.schema);
                self.groups.insert(key, Group { last: row, watched, schema, held: None });
                Some(said)
            }
        }
    }
}

impl OnChange {
    /// Features that no deadband of this group's kind names count with the common one, unless any is named.
    fn watched(&self, row: &FeatureRow) -> Vec<(usize, f32)> {
        let all = 0..row.vector.values.len();
        if self.feature.is_empty() {
            return all.map(|at| (at, self.deadband)).collect();
        }
        let named: Vec<(usize, f32)> = names(row)
            .enumerate()
            .filter_map(|(at, name)| {
                let known = self.feature.iter().find(|feature| feature.name.as_str() == name)?;
                Some((at, known.deadband))
            })
            .collect();
        if named.is_empty() { all.map(|at| (at, self.deadband)).collect() } else { named }
    }
}

impl Group {
    fn has_changed(&self, row: &FeatureRow) -> bool {
        let FeatureRow { kind, state, quality, vector, .. } = &self.last;
        if (*kind, *state, *quality, vector.valid) != (row.kind, row.state, row.quality, row.vector.valid) {
            return true;
        }
        self.watched.iter().any(|(at, deadband)| {
            let (Some(before), Some(now)) = (vector.get(*at), row.vector.get(*at)) else { return false };
            (now - before).abs() > deadband * before.abs().max(now.abs())
        })
    }
}

/// The names of a row's features in its order.
pub(crate) fn names(row: &FeatureRow) -> impl Iterator<Item = String> {
    // The row's schema is one of few; its width tells which.
    let per_channel = table::READING.len();
    let channels = match row.kind {
        GroupKind::Reading => row.vector.values.len() / per_channel,
        GroupKind::Vibration | GroupKind::Temperature | GroupKind::Cycle => row.vector.values.len(),
    };
    let schema = Schema::of(row.kind, channels);
    let features: Vec<_> = schema.features().iter().map(|feature| feature.id).collect();
    features.into_iter().map(|id| table::describe(id).map_or_else(|| id.0.to_string(), |known| known.name.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::sample;
    use kilter_types::{FeatureVector, OperatingState, Quality, Rpm, Timeline};

    fn name(text: &str) -> Name {
        Name::new(text).expect("a good name")
    }

    fn exception(features: &[(&str, f32)]) -> Exception {
        let feature = features.iter().map(|(text, deadband)| Deadband { name: name(text), deadband: *deadband });
        Exception::new(OnChange { heartbeat_secs: 10.0, deadband: 0.1, feature: feature.collect() })
    }

    fn said(index: u64, payload: Payload) -> Said {
        let (point, timeline, at) = (name("de"), Timeline::Source, Micros::from_secs(index as i64));
        Said { machine: 0, point, group: 0, index, at, timeline, replayable: true, payload }
    }

    /// A window a second of a temperature group, all of whose values are this one.
    fn row(index: u64, value: f32) -> Said {
        let width = Schema::of(GroupKind::Temperature, 1).features().len();
        let values = heapless::Vec::from_slice(&vec![value; width]).expect("it fits");
        let start = Micros::from_secs(index as i64);
        let row = FeatureRow {
            group: 0,
            kind: GroupKind::Temperature,
            index,
            start,
            end: start + Micros::from_secs(1),
            state: OperatingState::Steady(0),
            rpm: Rpm(0.0),
            quality: Quality::GOOD,
            vector: FeatureVector { schema: SchemaHash(1), values, valid: u64::MAX >> (64 - width) },
        };
        said(index, Payload::Features(row))
    }

    fn score(index: u64, anomaly: f32) -> Said {
        said(index, sample::score(index, anomaly))
    }

    fn alarm(index: u64) -> Said {
        said(index, sample::alarm(index))
    }

    /// What was recorded: the first letter of what it is, and its window.
    fn recorded(exception: &mut Exception, all: impl IntoIterator<Item = Said>) -> Vec<(char, u64)> {
        let letter = |said: &Said| said.payload.class().as_str().chars().next().expect("a word");
        all.into_iter()
            .flat_map(|said| exception.take(said))
            .flatten()
            .map(|said| (letter(&said), said.index))
            .collect()
    }

    #[test]
    fn rows_within_the_deadband_wait_for_the_heartbeat_and_their_windows_can_be_counted() {
        let mut exception = exception(&[]);
        let windows = (0..35).flat_map(|i| [row(i, 50.0 + (i % 3) as f32), score(i, 1.0)]);
        let recorded = recorded(&mut exception, windows);
        assert_eq!(recorded, [0, 10, 20, 30].map(|i| [('f', i), ('s', i)]).concat());
        // A row stands for the windows since the row before: 1 + 10 + 10 + 10, and 4 are not told yet.
        assert_eq!(exception.unchanged(), 35 - 4);
    }

    #[test]
    fn what_moves_goes_at_once_and_a_slow_drift_can_not_creep_past() {
        let mut exception = exception(&[]);
        let values = [50.0, 51.0, 52.0, 53.0, 54.0, 55.0, 56.0, 57.0, 49.0];
        let windows = values.iter().enumerate().map(|(i, value)| row(i as u64, *value));
        assert_eq!(recorded(&mut exception, windows), [('f', 0), ('f', 6), ('f', 8)], "56 against 50, 49 against 56");
    }

    #[test]
    fn an_alarm_or_a_loud_score_brings_the_row_of_its_window_first() {
        let mut exception = exception(&[]);
        let windows = [
            vec![row(0, 50.0), score(0, 1.0)],
            vec![row(1, 50.0), score(1, 2.5), score(1, 1.0)],
            vec![row(2, 50.0), score(2, 1.0)],
            vec![row(3, 50.0), score(3, 1.0), alarm(3)],
            // Of a window before: the alarm goes, its row is gone.
            vec![row(4, 50.0), alarm(2)],
        ];
        let expected = [('f', 0), ('s', 0), ('f', 1), ('s', 1), ('s', 1), ('f', 3), ('a', 3), ('a', 2)];
        assert_eq!(recorded(&mut exception, windows.concat()), expected);
        assert_eq!(exception.unchanged(), 2);
    }

    #[test]
    fn another_state_quality_or_measure_goes_and_so_does_what_only_its_own_deadband_judges() {
        let changed = |change: fn(&mut FeatureRow)| {
            let mut second = row(1, 50.0);
            if let Payload::Features(row) = &mut second.payload {
                change(row);
            }
            recorded(&mut exception(&[]), [row(0, 50.0), second]).len() == 2
        };
        assert!(!changed(|_| {}));
        assert!(changed(|row| row.state = OperatingState::Off));
        assert!(changed(|row| row.quality = Quality::GAP));
        assert!(changed(|row| row.vector.valid = 0));
        assert!(changed(|row| row.vector.schema = SchemaHash(2)));

        let Payload::Features(first) = row(0, 50.0).payload else { panic!("a row") };
        let watched = names(&first).next().expect("a feature");
        let mut exception = exception(&[(&watched, 0.5)]);
        assert_eq!(recorded(&mut exception, [row(0, 50.0), row(1, 60.0), row(2, 150.0)]), [('f', 0), ('f', 2)]);
    }

    #[test]
    fn off_everything_goes() {
        let mut exception = Exception::default();
        let windows = (0..5).flat_map(|i| [row(i, 50.0), score(i, 1.0)]);
        assert_eq!(recorded(&mut exception, windows).len(), 10);
        assert_eq!(exception.unchanged(), 0);
    }
}
