//! A1: one fire and one clear, whatever flaps.

use kilter_monitor::{ChannelConfig, ChannelKind, FeatureLimit, GroupConfig, MachineConfig, Output};
use kilter_types::{AlarmSource, AlarmState, Cause, ChannelId, FeatureId, GroupKind, Input, Micros, Severity, Unit};
use proptest::prelude::*;

use crate::support::*;

const LAST: FeatureId = FeatureId(1024 + 5);

/// Every reading is a window; a rule looks at it.
fn config() -> MachineConfig {
    let mut config = MachineConfig::new(name("rig"));
    let kind = ChannelKind::Reading { period: None };
    config.channels.push(ChannelConfig::new(name("r"), Unit::Bar, kind)).expect("room");
    let channels = [ChannelId(0)].into_iter().collect();
    let group = GroupConfig { kind: GroupKind::Reading, point: name("p"), channels, window: 1, hop: 1 };
    config.groups.push(group).expect("room");
    let limit = FeatureLimit { feature: LAST, alarm: 10.0, danger: 20.0, cause: Cause::Severity };
    config.limits.features.push(limit).expect("room");
    config.commissioning_windows = 1_000_000;
    config
}

fn feed(monitor: &mut Heaped, values: &[f32]) -> Vec<(u64, kilter_types::Alarm)> {
    let mut said = Vec::new();
    for (i, value) in values.iter().enumerate() {
        let reading = Input::Reading { t: Micros::from_secs(i as i64), value: *value };
        let sink = &mut |output: Output<'_>| said.push(Said::of(&output));
        monitor.push(ChannelId(0), i as u64, reading, sink).expect("a reading fits");
    }
    alarms(&said)
}

proptest! {
    #[test]
    fn a1_a_flapping_input_fires_once_and_clears_once(
        bursts in proptest::collection::vec((1usize..12, 0usize..19, 0f32..9.9), 1..30),
    ) {
        let mut values = Vec::new();
        for (above, below, quiet) in bursts {
            values.extend(std::iter::repeat_n(11.0, above));
            values.extend(std::iter::repeat_n(quiet, below));
        }
        values.extend(std::iter::repeat_n(1.0, 20));
        let alarms = feed(&mut build(config()), &values);
        let count = |state| alarms.iter().filter(|(_, alarm)| alarm.state == state).count();
        prop_assert!(count(AlarmState::Raised) <= 1);
        prop_assert_eq!(count(AlarmState::Raised), count(AlarmState::Cleared));
    }
}

#[test]
fn a_rule_fires_with_five_of_eight_and_clears_after_twenty_quiet_windows() {
    let mut values = vec![5.0; 10];
    values.extend([11.0, 5.0, 11.0, 11.0, 5.0, 11.0, 11.0]);
    values.extend([9.0; 30]);
    values.extend([5.0; 30]);
    let alarms = feed(&mut build(config()), &values);
    let seen: Vec<_> = alarms.iter().map(|(index, alarm)| (*index, alarm.state)).collect();
    assert_eq!(seen, [(16, AlarmState::Raised), (66, AlarmState::Cleared)]);
    let (_, alarm) = &alarms[0];
    assert_eq!((alarm.source, alarm.cause, alarm.severity), (AlarmSource::Rule, Cause::Severity, Severity::Alarm));
    assert_eq!((alarm.since, alarm.evidence[0].limit), (Micros::from_secs(10), 10.0));
}

#[test]
fn severity_rises_and_falls_with_its_own_hysteresis() {
    let mut values = vec![11.0; 10];
    values.extend([21.0; 10]);
    values.extend([11.0; 30]);
    values.extend([1.0; 30]);
    let alarms = feed(&mut build(config()), &values);
    let seen: Vec<_> = alarms.iter().map(|(index, alarm)| (*index, alarm.state, alarm.severity)).collect();
    assert_eq!(
        seen,
        [
            (4, AlarmState::Raised, Severity::Alarm),
            (14, AlarmState::Changed, Severity::Danger),
            (39, AlarmState::Changed, Severity::Alarm),
            (69, AlarmState::Cleared, Severity::Alarm),
        ]
    );
}

#[test]
fn a_latched_alarm_waits_for_a_reset() {
    let mut latched = config();
    latched.patience.latch = true;
    let mut monitor = build(latched);
    let mut values = vec![11.0; 10];
    values.extend([1.0; 50]);
    assert_eq!(feed(&mut monitor, &values).len(), 1);
    assert_eq!(monitor.summary().severity, Severity::Alarm);
    let mut said = Vec::new();
    monitor.reset(Micros(0), &mut |output| said.push(Said::of(&output)));
    assert_eq!(alarms(&said).len(), 1);
    assert_eq!(monitor.summary().severity, Severity::Healthy);
}

/// The baseline's threshold after 1,500 healthy windows of four readings, one every five minutes.
fn threshold(false_alarms_per_month: f32) -> f32 {
    let mut config = MachineConfig::new(name("rig"));
    let kind = ChannelKind::Reading { period: Some(Micros::from_secs(300)) };
    config.channels.push(ChannelConfig::new(name("r"), Unit::Bar, kind)).expect("room");
    let channels = [ChannelId(0)].into_iter().collect();
    let group = GroupConfig { kind: GroupKind::Reading, point: name("p"), channels, window: 4, hop: 4 };
    config.groups.push(group).expect("room");
    config.false_alarms_per_month = false_alarms_per_month;
    let (mut monitor, mut said) = (build(config), Vec::new());
    let mut bits = 7u64;
    for i in 0..6_000 {
        let mut even = || {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (bits >> 40) as f32 / 16_777_216.0 - 0.5
        };
        let value = 10.0 + even() + even() + even();
        let reading = Input::Reading { t: Micros::from_secs(300 * i as i64), value };
        let sink = &mut |output: Output<'_>| said.push(Said::of(&output));
        monitor.push(ChannelId(0), i, reading, sink).expect("a reading fits");
    }
    // Three weeks at a tenth a month or less: none is to be expected.
    assert!(false_alarms_per_month > 0.1 || raised(&said).is_empty(), "{:?}", raised(&said));
    scores(&said).last().expect("a score").1.threshold
}

#[test]
fn a_larger_budget_of_false_alarms_gives_a_lower_threshold() {
    let [tight, usual, loose] = [0.01, 0.1, 1.0].map(threshold);
    assert!(loose < usual && usual < tight, "{loose}, {usual}, {tight}");
}
