//! Alarms that stand open over a restart: each one ends under the name under which it began.
//!
//! An alarm is known by its point, its id and the sample time since when it stands. Normally a restart goes on from a checkpoint, and the
//! monitor continues or clears what it had raised. Not so when it has to start anew, or when an alarm came after the last checkpoint
//! and the sensor does not send those samples again: the monitor knows nothing of it, and it would stand beside the next one for
//! ever. So what is open is kept in the checkpoint, the journal says what came after it, and an alarm whose window the monitor has passed
//! without raising it again is cleared here, in its name.

use kilter_types::{Alarm, AlarmState, Name, RowRef};
use serde::{Deserialize, Serialize};

/// The open alarms of one machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// The monitor knows them.
    known: Vec<(Name, Alarm)>,
    /// The monitor does not know them, yet.
    orphans: Vec<(Name, Alarm)>,
}

impl Standing {
    /// After a restart: `kept` stood at the checkpoint, `journalled` is what the journal says last of each alarm, and `restored`
    /// that the monitor goes on from the checkpoint.
    pub(crate) fn resume(kept: Self, journalled: &[(Name, Alarm)], restored: bool) -> Self {
        let Self { known, mut orphans } = kept;
        let mut open = known.clone();
        open.append(&mut orphans);
        journalled.iter().for_each(|(point, alarm)| change(&mut open, point, alarm));
        let known = if restored { known } else { Vec::new() };
        open.retain(|(point, alarm)| !known.iter().any(|other| is(other, point, alarm)));
        Self { known, orphans: open }
    }

    /// The monitor says something of an alarm.
    pub(crate) fn note(&mut self, point: &Name, alarm: &Alarm) {
        change(&mut self.known, point, alarm);
        self.orphans.retain(|other| !is(other, point, alarm));
    }

    /// The monitor has come to this window: what it should have raised again before it, and did not, is to be cleared.
    pub(crate) fn passed(&mut self, row: RowRef) -> Vec<(Name, Alarm)> {
        let late = |(_, alarm): &mut (Name, Alarm)| alarm.input.group == row.group && alarm.input.index < row.index;
        let mut gone: Vec<_> = self.orphans.extract_if(.., late).collect();
        for (_, alarm) in &mut gone {
            (alarm.state, alarm.input) = (AlarmState::Cleared, row);
            alarm.evidence.clear();
            alarm.contributions.clear();
        }
        gone
    }

    /// Nothing is open that the monitor does not know.
    pub(crate) fn is_settled(&self) -> bool {
        self.orphans.is_empty()
    }
}

/// Takes an alarm's latest state into a list of open ones.
pub(crate) fn change(open: &mut Vec<(Name, Alarm)>, point: &Name, alarm: &Alarm) {
    let found = open.iter().position(|other| is(other, point, alarm));
    match (found, alarm.state) {
        (Some(at), AlarmState::Cleared) => drop(open.swap_remove(at)),
        (None, AlarmState::Cleared) => {}
        (Some(at), AlarmState::Raised | AlarmState::Changed) => open[at].1 = alarm.clone(),
        (None, AlarmState::Raised | AlarmState::Changed) => open.push((point.clone(), alarm.clone())),
    }
}

/// Is it the same alarm?
pub(crate) fn is((other_point, other): &(Name, Alarm), point: &Name, alarm: &Alarm) -> bool {
    other_point == point && (other.id, other.since) == (alarm.id, alarm.since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_types::{AlarmSource, Cause, Digest, Micros, Severity};

    fn alarm(id: u32, index: u64, state: AlarmState) -> (Name, Alarm) {
        let alarm = Alarm {
            id,
            state,
            severity: Severity::Alarm,
            source: AlarmSource::Rule,
            cause: Cause::Severity,
            since: Micros(i64::from(id) * 10),
            input: row(index),
            model: Digest::NONE,
            evidence: heapless::Vec::new(),
            contributions: heapless::Vec::new(),
            unjournaled: false,
        };
        (Name::new("drive-end").expect("a good name"), alarm)
    }

    const NOTHING: [u32; 0] = [];

    fn row(index: u64) -> RowRef {
        RowRef { group: 0, index, seq: 0 }
    }

    fn cleared(standing: &mut Standing, index: u64) -> Vec<u32> {
        let gone = standing.passed(row(index));
        assert!(gone.iter().all(|(_, alarm)| (alarm.state, alarm.input) == (AlarmState::Cleared, row(index))));
        gone.iter().map(|(_, alarm)| alarm.id).collect()
    }

    #[test]
    fn an_alarm_that_the_monitor_knows_is_left_to_it() {
        let (point, raised) = alarm(1, 5, AlarmState::Raised);
        let mut standing = Standing::default();
        standing.note(&point, &raised);
        let journalled = [(point.clone(), raised)];
        let mut again = Standing::resume(standing.clone(), &journalled, true);
        assert!(again.is_settled());
        assert_eq!(cleared(&mut again, 100), NOTHING);
        // It was cleared after the checkpoint, and comes again from the samples.
        let mut again = Standing::resume(standing, &[alarm(1, 7, AlarmState::Cleared)], true);
        assert_eq!(cleared(&mut again, 100), NOTHING);
    }

    #[test]
    fn a_monitor_that_starts_anew_leaves_its_alarms_to_be_cleared_once_it_has_passed_them() {
        let mut standing = Standing::default();
        for (point, raised) in [alarm(1, 5, AlarmState::Raised), alarm(2, 6, AlarmState::Raised)] {
            standing.note(&point, &raised);
        }
        let mut again = Standing::resume(standing, &[], false);
        assert_eq!(cleared(&mut again, 5), NOTHING);
        // One of them is raised again from the same samples.
        let (point, raised) = alarm(2, 6, AlarmState::Raised);
        again.note(&point, &raised);
        assert_eq!(cleared(&mut again, 7), [1]);
        assert!(again.is_settled());
    }

    #[test]
    fn an_alarm_behind_the_checkpoint_whose_samples_do_not_come_again_is_cleared_and_survives_another_restart_before_that()
     {
        let journalled = [alarm(3, 9, AlarmState::Raised), alarm(4, 9, AlarmState::Cleared)];
        let standing = Standing::resume(Standing::default(), &journalled, true);
        assert!(!standing.is_settled());
        // The next checkpoint holds it, and by then the journal may not.
        let mut again = Standing::resume(standing, &[], true);
        assert_eq!(cleared(&mut again, 10), [3]);
        assert_eq!(cleared(&mut again, 11), NOTHING);
    }
}
