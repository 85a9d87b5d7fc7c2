//! The book of alarms: open ones first, each with its history.

use std::collections::BTreeMap;

use kilter_fold::Row;
use kilter_types::{Alarm, AlarmState, DeviceId, Micros, Point, Severity};
use serde::{Deserialize, Serialize};

/// The most closed alarms that are kept here; all of them are in the lake.
pub const MAX_CLOSED_ALARMS: usize = 2_000;

/// Every alarm that is open, and the last closed ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AlarmBook {
    entries: BTreeMap<String, AlarmEntry>,
}

/// One alarm from its raise to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmEntry {
    /// Who said it.
    pub device: DeviceId,
    /// Where.
    pub point: Point,
    /// Event time of the raise.
    pub raised: Micros,
    /// Event time of the end.
    pub cleared: Option<Micros>,
    /// The worst severity that it reached.
    pub worst: Severity,
    /// What it said last.
    pub alarm: Alarm,
    /// Its states in event time.
    pub history: Vec<AlarmStep>,
    /// Who acknowledged it, and when.
    pub acknowledged: Option<(String, Micros)>,
}

/// One step of an alarm's history.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmStep {
    /// Event time.
    pub t: Micros,
    /// What happened.
    pub state: AlarmState,
    /// How bad it was then.
    pub severity: Severity,
}

impl AlarmBook {
    /// Takes a change of an alarm; returns its key.
    pub fn apply(&mut self, row: &Row, alarm: &Alarm) -> String {
        let key = format!("{}~{}~{}~{}", row.device, row.record.point.asset, row.record.point.point, alarm.since.0);
        let key = format!("{key}~{}", alarm.id);
        let step = AlarmStep { t: row.event_time, state: alarm.state, severity: alarm.severity };
        let entry = self.entries.entry(key.clone()).or_insert_with(|| AlarmEntry {
            device: row.device.clone(),
            point: row.record.point.clone(),
            raised: row.event_time,
            cleared: None,
            worst: alarm.severity,
            alarm: alarm.clone(),
            history: Vec::new(),
            acknowledged: None,
        });
        let newest = entry.history.last().is_none_or(|last| last.t <= step.t);
        let at = entry.history.iter().rposition(|other| other.t <= step.t).map_or(0, |before| before + 1);
        if entry.history.len() < MAX_STEPS {
            entry.history.insert(at, step);
        }
        entry.worst = entry.worst.max(alarm.severity);
        match alarm.state {
            AlarmState::Raised => entry.raised = row.event_time,
            AlarmState::Changed => {}
            AlarmState::Cleared => entry.cleared = Some(row.event_time),
        }
        if newest {
            // The clearing record has no evidence of its own: what raised the alarm stays to be read.
            if alarm.state == AlarmState::Cleared {
                entry.alarm.state = alarm.state;
            } else {
                entry.alarm = alarm.clone();
            }
        }
        self.bound();
        key
    }

    /// Acknowledges an alarm; `false` when it is not here.
    pub fn acknowledge(&mut self, key: &str, who: &str, now: Micros) -> bool {
        match self.entries.get_mut(key) {
            Some(entry) => {
                entry.acknowledged.get_or_insert((who.to_owned(), now));
                true
            }
            None => false,
        }
    }

    /// One alarm by its key.
    pub fn get(&self, key: &str) -> Option<&AlarmEntry> {
        self.entries.get(key)
    }

    /// Every alarm with its key: open before closed, then worst, then newest first.
    pub fn sorted(&self) -> Vec<(&str, &AlarmEntry)> {
        let mut all: Vec<_> = self.entries.iter().map(|(key, entry)| (key.as_str(), entry)).collect();
        all.sort_by_key(|(_, entry)| {
            let order = if entry.cleared.is_none() {
                std::cmp::Reverse(entry.worst)
            } else {
                std::cmp::Reverse(Severity::Healthy)
            };
            (entry.cleared.is_some(), order, std::cmp::Reverse(entry.raised))
        });
        all
    }

    /// The open alarms.
    pub fn open(&self) -> impl Iterator<Item = (&str, &AlarmEntry)> {
        self.entries.iter().filter(|(_, entry)| entry.cleared.is_none()).map(|(key, entry)| (key.as_str(), entry))
    }

    fn bound(&mut self) {
        let closed = self.entries.values().filter(|entry| entry.cleared.is_some()).count();
        if closed > MAX_CLOSED_ALARMS {
            let oldest = self.entries.iter().filter(|(_, e)| e.cleared.is_some()).min_by_key(|(_, e)| e.cleared);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
    }
}

/// The most steps that one alarm's history keeps.
const MAX_STEPS: usize = 64;
