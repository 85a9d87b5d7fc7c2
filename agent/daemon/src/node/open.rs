//! Alarms of a node that stand open, as its gateway shows them: on the board, at the output, over restarts of either.
//!
//! A node that starts again knows nothing of the alarms before, except that it was tripped. So at its start the others end in their own
//! names; those whose reason stands come back. A trip ends when a person has released it, and then also one of a start before.

use kilter_types::{Alarm, Cause, Name, Severity};

use crate::standing::{change, is_trip, over};

/// The open alarms of one node.
#[derive(Debug, Default)]
pub(super) struct Open(Vec<(Name, Alarm)>);

impl Open {
    /// After a restart of the gateway: `kept` stood at the checkpoint, `journalled` is what the journal says last of each alarm.
    pub(super) fn resume(mut kept: Vec<(Name, Alarm)>, journalled: &[(Name, Alarm)]) -> Self {
        journalled.iter().for_each(|(point, alarm)| change(&mut kept, point, alarm));
        Self(kept)
    }

    /// The node says something of an alarm.
    pub(super) fn note(&mut self, point: &Name, alarm: &Alarm) {
        change(&mut self.0, point, alarm);
    }

    /// The node has started again: its alarms are over, except trips.
    pub(super) fn started(&mut self) -> Vec<(Name, Alarm)> {
        self.0.extract_if(.., |(_, alarm)| !is_trip(alarm)).map(|(point, alarm)| (point, over(alarm))).collect()
    }

    /// A person has released the node: its trips are over.
    pub(super) fn released(&mut self) -> Vec<(Name, Alarm)> {
        self.0.extract_if(.., |(_, alarm)| is_trip(alarm)).map(|(point, alarm)| (point, over(alarm))).collect()
    }

    /// How bad the machine is, why, and whether it was stopped.
    pub(super) fn worst(&self) -> (Severity, Cause, bool) {
        let worst = self.0.iter().map(|(_, alarm)| alarm).max_by_key(|alarm| alarm.severity);
        let tripped = self.0.iter().any(|(_, alarm)| is_trip(alarm));
        worst.map_or((Severity::Healthy, Cause::Unclear, tripped), |alarm| (alarm.severity, alarm.cause, tripped))
    }

    /// What a restart must know.
    pub(super) fn keep(&self) -> Vec<(Name, Alarm)> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_types::{AlarmSource, AlarmState, Digest, Micros, RowRef};

    fn alarm(id: u32, source: AlarmSource, severity: Severity) -> (Name, Alarm) {
        let alarm = Alarm {
            id,
            state: AlarmState::Raised,
            severity,
            source,
            cause: Cause::Severity,
            since: Micros(i64::from(id)),
            input: RowRef { group: 0, index: 1, seq: 1 },
            model: Digest::NONE,
            evidence: heapless::Vec::new(),
            contributions: heapless::Vec::new(),
            unjournaled: true,
        };
        (Name::new("drive-end").expect("a good name"), alarm)
    }

    fn ids(ended: &[(Name, Alarm)]) -> Vec<u32> {
        assert!(ended.iter().all(|(_, alarm)| alarm.state == AlarmState::Cleared));
        ended.iter().map(|(_, alarm)| alarm.id).collect()
    }

    #[test]
    fn one_alarm_that_ends_leaves_the_other_and_a_trip_outlives_every_start() {
        let mut open = Open::default();
        let (rule, trip) =
            (alarm(1, AlarmSource::Rule, Severity::Alarm), alarm(2, AlarmSource::Protection, Severity::Danger));
        let small = alarm(3, AlarmSource::Statistic, Severity::Watch);
        for (point, alarm) in [&rule, &trip, &small] {
            open.note(point, alarm);
        }
        open.note(&rule.0, &over(rule.1.clone()));
        assert_eq!(open.worst(), (Severity::Danger, Cause::Severity, true));
        // The gateway restarts; the journal knows the rule's alarm again.
        let mut open = Open::resume(open.keep(), std::slice::from_ref(&rule));
        assert_eq!(ids(&open.started()), [3, 1]);
        assert_eq!(open.worst(), (Severity::Danger, Cause::Severity, true));
        assert_eq!(ids(&open.released()), [2]);
        assert_eq!(open.worst(), (Severity::Healthy, Cause::Unclear, false));
    }
}
