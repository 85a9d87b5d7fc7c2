//! Alarms that stand open over a restart: each one ends under the name under which it began.
//!
//! An alarm is known by its point, its id and the sample time since when it stands. Normally a restart goes on from a checkpoint, and the
//! monitor continues or clears what it had raised. Not so when it has to start anew, or when an alarm came after the last checkpoint
//! and the sensor does not send those samples again: the monitor knows nothing of it, and it would stand beside the next one for
//! ever. So what is open is kept in the checkpoint, the journal says what came after it, and an alarm whose window the monitor has passed
//! without raising it again is cleared here, in its name. A trip is not: it stands until somebody resets it, also when no monitor knows it
//! any more.

use kilter_types::{Alarm, AlarmSource, AlarmState, Name, RowRef};
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
        let late = |(_, alarm): &mut (Name, Alarm)| {
            !is_trip(alarm) && alarm.input.group == row.group && alarm.input.index < row.index
        };
        let gone = self.orphans.extract_if(.., late);
        gone.map(|(point, alarm)| (point, Alarm { input: row, ..over(alarm) })).collect()
    }

    /// Somebody resets the machine: the trips that the monitor does not know are to be cleared too.
    pub(crate) fn release(&mut self) -> Vec<(Name, Alarm)> {
        let gone = self.orphans.extract_if(.., |(_, alarm)| is_trip(alarm));
        gone.map(|(point, alarm)| (point, over(alarm))).collect()
    }

    /// Has it tripped without the monitor's knowing?
    pub(crate) fn is_tripped(&self) -> bool {
        self.orphans.iter().any(|(_, alarm)| is_trip(alarm))
    }

    /// Nothing is open that a window could clear.
    pub(crate) fn is_settled(&self) -> bool {
        self.orphans.iter().all(|(_, alarm)| is_trip(alarm))
    }
}

/// Only a person ends it.
pub(crate) fn is_trip(alarm: &Alarm) -> bool {
    alarm.source == AlarmSource::Protection
}

/// The same alarm, cleared.
pub(crate) fn over(mut alarm: Alarm) -> Alarm {
    alarm.state = AlarmState::Cleared;
    alarm.evidence.clear();
    alarm.contributions.clear();
    alarm
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
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;

    use kilter_monitor::{ChannelConfig, ChannelKind, ConfigError, GroupConfig, MachineConfig};
    use kilter_source::{Item, Source, SourceError, Stop};
    use kilter_types::{Cause, ChannelId, Digest, GroupKind, Hertz, Input, Micros, Payload, Severity, Timeline, Unit};

    use crate::action::Actions;
    use crate::board::Board;
    use crate::checkpoint::Checkpoint;
    use crate::clip::{ClipConfig, Clips};
    use crate::clock::SystemClock;
    use crate::machine::{Machine, Outlet, Parts};
    use crate::recorder::Message;

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

    #[test]
    fn a_trip_that_no_monitor_knows_stands_until_somebody_resets_it() {
        let (point, raised) = alarm(5, 9, AlarmState::Raised);
        let trip = Alarm { source: AlarmSource::Protection, ..raised };
        // It came after the last checkpoint, and its samples do not come again.
        let mut standing =
            Standing::resume(Standing::default(), &[(point.clone(), trip), alarm(6, 9, AlarmState::Raised)], true);
        assert_eq!(cleared(&mut standing, 100), [6]);
        assert!(standing.is_settled() && standing.is_tripped());
        // Nor does the next restart forget it.
        let mut again = Standing::resume(standing, &[], true);
        assert_eq!(cleared(&mut again, 200), NOTHING);
        assert!(again.is_tripped());
        let released = again.release();
        assert_eq!(released.len(), 1);
        assert_eq!((&released[0].0, released[0].1.id, released[0].1.state), (&point, 5, AlarmState::Cleared));
        assert!(!again.is_tripped() && again.release().is_empty());
    }

    /// A sensor that goes on from where the checkpoint was for four windows, and then has its agent end.
    struct Feed {
        position: u64,
        samples: Vec<f32>,
        stop: Stop,
        started: bool,
    }

    impl Source for Feed {
        fn next(&mut self) -> Result<Item<'_>, SourceError> {
            if !std::mem::replace(&mut self.started, true) {
                return Ok(Item::Started(Timeline::Source));
            }
            if self.position >= 9 * 1024 {
                self.stop.set();
                return Ok(Item::Idle);
            }
            let position = self.position;
            self.position += 1024;
            let t0 = Micros(position as i64 * 1_000_000 / 1024);
            let input = Input::Block { t0, rate: Hertz(1024.0), samples: &self.samples };
            Ok(Item::Input { channel: ChannelId(0), position, input })
        }
    }

    #[test]
    fn a_machine_whose_monitor_starts_anew_clears_the_alarm_of_before_under_its_own_name_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let name = |text: &str| Name::new(text).expect("a good name");
        let (point, raised) = alarm(7, 4, AlarmState::Raised);
        let mut open = Standing::default();
        open.note(&point, &raised);
        // A snapshot that no monitor takes, as after a change of the configuration.
        let checkpoint = Checkpoint { positions: vec![(name("de"), 5 * 1024)], open, snapshot: vec![1, 2, 3] };
        let mut config = MachineConfig::new(name("pump"));
        let kind = ChannelKind::Vibration { rate: Hertz(1024.0) };
        config.channels.push(ChannelConfig::new(name("de"), Unit::G, kind)).expect("it fits");
        let channels = heapless::Vec::from_slice(&[ChannelId(0)]).expect("it fits");
        let group = GroupConfig { kind: GroupKind::Vibration, point: point.clone(), channels, window: 1024, hop: 1024 };
        config.groups.push(group).expect("it fits");
        let board = Board::new(vec![(name("pump-1"), name("pump"))]);
        let actions = Arc::new(Actions::new(crate::config::Alarm::default(), board.clone()));
        let ((recorder, recorded), (_orders, taken)) = (sync_channel(256), sync_channel(1));
        let parts = Parts {
            place: 0,
            asset: name("pump-1"),
            config,
            checkpoint: Some(checkpoint),
            alarms: Vec::new(),
            orders: taken,
            outlet: Outlet { recorder, overruns: Arc::default(), board, actions },
            clock: SystemClock::new(Micros::from_secs(1)),
            checkpoint_us: 1_000_000,
            clips: Clips::new(ClipConfig::default(), Vec::new(), dir.path().join("clips")),
        };
        let stop = Stop::default();
        let samples = (0..1024).map(|i| (i as f32 * 0.7).sin() * 0.1).collect();
        let feed = |positions: &[u64]| {
            let feed = Feed { position: positions[0], samples, stop: stop.clone(), started: false };
            Ok::<Box<dyn Source>, ConfigError>(Box::new(feed))
        };
        let (machine, _) = Machine::new(parts, Vec::new(), feed).expect("a good machine");
        machine.run(&stop);
        let mut alarms = Vec::new();
        let mut last = None;
        for message in recorded.try_iter() {
            match message {
                Message::Said(said) => {
                    if let Payload::Alarm(alarm) = said.payload {
                        alarms.push((said.point, alarm.id, alarm.since, alarm.state, alarm.input.index));
                    }
                }
                Message::Checkpoint { checkpoint: Some(checkpoint), .. } => last = Some(checkpoint),
                _ => {}
            }
        }
        assert_eq!(alarms, [(point, 7, raised.since, AlarmState::Cleared, 5)]);
        assert!(last.is_some_and(|checkpoint| checkpoint.open == Standing::default()), "nothing stands open any more");
    }
}
