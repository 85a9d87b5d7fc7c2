//! What a monitor makes of simulated machines: quiet when healthy, an alarm with its cause when a fault grows.

use crate::support::*;
use kilter_machine::{Axis, FaultChange, FaultKind, Growth, LoadChange, Machine, MachineSpec};
use kilter_monitor::MachineConfig;
use kilter_types::{
    AlarmSource, AlarmState, Cause, Event, FeatureId, GroupKind, Hertz, Input, Micros, OperatingState, Severity,
};

const WINDOW: u32 = 4096;

fn quick(spec: &MachineSpec) -> MachineConfig {
    let mut config = pump(spec, WINDOW);
    config.commissioning_windows = 30;
    config
}

fn fault(kind: FaultKind, start_s: f64, growth_s: f64, severity: f64) -> FaultChange {
    FaultChange { kind, start_s, growth_s, severity, growth: Growth::Linear }
}

/// The alarms of a machine whose fault grows from second 15 on, and the window in which it began.
fn with_fault(kind: FaultKind, severity: f64, seed: u64) -> (Vec<Said>, u64) {
    let mut spec = MachineSpec::named("m");
    spec.faults.push(fault(kind, 15.0, 15.0, severity));
    let mut monitor = build(quick(&spec));
    let mut said = Vec::new();
    Feeder::new(spec, seed).run(36.0, &mut monitor, &mut said);
    (said, 15 * 12_800 / u64::from(WINDOW))
}

#[test]
fn a_growing_fault_is_alarmed_with_its_cause_and_not_before_it_starts() {
    for (kind, cause) in [
        (FaultKind::OuterRace, Cause::OuterRace),
        (FaultKind::InnerRace, Cause::InnerRace),
        (FaultKind::Unbalance, Cause::Unbalance),
        (FaultKind::Misalignment, Cause::Misalignment),
    ] {
        let (said, began) = with_fault(kind, 0.9, 11);
        let raised = raised(&said);
        assert_eq!(raised.len(), 1, "{kind:?}: {raised:?}");
        let (index, first) = &raised[0];
        assert!((began..began + 40).contains(index), "{kind:?} from window {began}, alarm in {index}");
        let (_, last) = alarms(&said).pop().expect("there is one");
        assert_eq!((last.cause, last.id, last.since), (cause, first.id, first.since), "{kind:?}");
        assert!(last.severity >= Severity::Alarm && !last.evidence.is_empty(), "{last:?}");
        assert!(last.source <= AlarmSource::Physics, "{last:?}");
    }
}

#[test]
fn a_healthy_machine_stays_quiet_through_changes_of_load_and_speed() {
    let mut spec = MachineSpec::named("m");
    spec.load_changes.push(LoadChange { at_s: 15.0, rpm: 1500.0, load: 0.95, ramp_s: 1.0 });
    spec.load_changes.push(LoadChange { at_s: 30.0, rpm: 1800.0, load: 0.95, ramp_s: 1.0 });
    spec.load_changes.push(LoadChange { at_s: 45.0, rpm: 1500.0, load: 0.7, ramp_s: 1.0 });
    let mut monitor = build(quick(&spec));
    let mut said = Vec::new();
    Feeder::new(spec, 5).run(55.0, &mut monitor, &mut said);
    assert_eq!(alarms(&said), []);
    let bins: Vec<u8> = events(&said)
        .iter()
        .filter_map(|(_, event)| if let Event::NewRegime { bin } = event { Some(*bin) } else { None })
        .collect();
    assert!(bins.contains(&85) && bins.contains(&101), "{bins:?}");
    let commissioned =
        said.iter().filter(|s| s.group == 0 && matches!(s.what, Words::Event(Event::Commissioned { .. })));
    assert_eq!(commissioned.count(), 3, "one baseline per regime, none twice");
    assert!(rows(&said).iter().any(|row| row.state == OperatingState::Transient));
    assert!(monitor.summary().baseline_ready && monitor.summary().severity == Severity::Healthy);
}

#[test]
fn a_machine_that_is_faulty_from_the_first_window_is_alarmed_by_physics_and_not_learned() {
    let mut spec = MachineSpec::named("m");
    spec.faults.push(fault(FaultKind::OuterRace, 0.0, 0.0, 0.5));
    let mut monitor = build(quick(&spec));
    let mut said = Vec::new();
    Feeder::new(spec, 3).run(15.0, &mut monitor, &mut said);
    let raised = raised(&said);
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!((raised[0].1.source, raised[0].1.cause), (AlarmSource::Physics, Cause::OuterRace));
    assert!(raised[0].0 < 10, "within ten windows, not {}", raised[0].0);
    let learned = said.iter().filter(|s| s.group == 0 && matches!(s.what, Words::Event(Event::Commissioned { .. })));
    assert_eq!(learned.count(), 0, "a baseline was learned from a faulty machine");
}

#[test]
fn an_alarm_clears_once_after_the_repair_and_maintenance_starts_the_baseline_again() {
    let mut spec = MachineSpec::named("m");
    spec.faults.push(fault(FaultKind::OuterRace, 12.0, 0.0, 0.6));
    spec.faults.push(fault(FaultKind::OuterRace, 18.0, 0.0, 0.0));
    let mut monitor = build(quick(&spec));
    let mut said = Vec::new();
    let mut feeder = Feeder::new(spec, 8);
    feeder.run(32.0, &mut monitor, &mut said);
    let states: Vec<AlarmState> = alarms(&said).iter().map(|(_, alarm)| alarm.state).collect();
    assert_eq!(states.iter().filter(|s| **s == AlarmState::Raised).count(), 1, "{states:?}");
    assert_eq!(states.iter().filter(|s| **s == AlarmState::Cleared).count(), 1, "{states:?}");
    assert!(monitor.summary().baseline_ready || monitor.summary().windows > 0);
    said.clear();
    let mut sink = |output: kilter_monitor::Output<'_>| said.push(Said::of(&output));
    monitor.machine_event(kilter_types::Micros(0), kilter_types::MachineEvent::Maintenance, &mut sink);
    assert!(matches!(events(&said)[..], [(_, Event::Maintenance { .. })]));
    assert!(!monitor.summary().baseline_ready);
    feeder.run(12.0, &mut monitor, &mut said);
    let learned = events(&said).iter().filter(|(_, e)| matches!(e, Event::Commissioned { .. })).count();
    assert!(learned >= 1, "the baseline is learned again");
}

#[test]
fn contributions_and_rest_are_the_statistics_anomaly_bit_for_bit_m2() {
    let (said, _) = with_fault(FaultKind::OuterRace, 0.9, 2);
    let scores = scores(&said);
    assert!(scores.len() > 50);
    for (_, score) in &scores {
        let sum = score.contributions.iter().fold(0.0f32, |sum, c| sum + c.amount) + score.rest;
        assert_eq!(sum.to_bits(), score.anomaly.to_bits());
        assert!(score.contributions.is_sorted_by(|a, b| a.amount >= b.amount));
    }
    let (_, worst) = scores.iter().max_by(|a, b| a.1.anomaly.total_cmp(&b.1.anomaly)).expect("there are scores");
    assert!(worst.anomaly > 10.0 * worst.threshold);
}

#[test]
fn a_trip_needs_no_state_and_latches_until_it_is_reset_a2() {
    let mut spec = MachineSpec::named("m");
    spec.faults.push(fault(FaultKind::Unbalance, 5.0, 1.0, 1.0));
    let mut config = quick(&spec);
    let velocity = FeatureId(37);
    config.protection.push(kilter_monitor::Protection { feature: velocity, above: 6.0, windows: 3 }).expect("room");
    let mut monitor = build(config);
    let mut said = Vec::new();
    let mut feeder = Feeder::new(spec, 4);
    feeder.run(12.0, &mut monitor, &mut said);
    let trips: Vec<&Said> = said.iter().filter(|s| matches!(s.what, Words::Trip(_))).collect();
    assert_eq!(trips.len(), 1);
    let protection = alarms(&said).into_iter().filter(|(_, a)| a.source == AlarmSource::Protection).collect::<Vec<_>>();
    assert_eq!(protection.len(), 1, "{protection:?}");
    assert_eq!((protection[0].0, protection[0].1.severity), (trips[0].index, Severity::Danger));
    assert!(monitor.summary().tripped);
    // Maintenance clears what was said of the machine, and no trip.
    said.clear();
    monitor.recommission(kilter_types::Micros(0), &mut |output| said.push(Said::of(&output)));
    assert!(alarms(&said).iter().all(|(_, a)| a.source != AlarmSource::Protection), "{said:?}");
    assert!(monitor.summary().tripped);
    said.clear();
    monitor.reset(kilter_types::Micros(0), &mut |output| said.push(Said::of(&output)));
    assert!(!monitor.summary().tripped);
    assert!(alarms(&said).iter().any(|(_, a)| a.source == AlarmSource::Protection && a.state == AlarmState::Cleared));
}

#[test]
fn every_protection_that_trips_is_told_and_recorded_also_while_another_one_stands() {
    let mut spec = MachineSpec::named("m");
    spec.faults.push(fault(FaultKind::Unbalance, 5.0, 1.0, 1.0));
    let mut config = quick(&spec);
    for (above, windows) in [(6.0, 3), (6.1, 3), (6.2, 10)] {
        let protection = kilter_monitor::Protection { feature: FeatureId(37), above, windows };
        config.protection.push(protection).expect("room");
    }
    let mut monitor = build(config);
    let mut said = Vec::new();
    Feeder::new(spec, 4).run(12.0, &mut monitor, &mut said);
    let told: Vec<(u64, f32)> = said
        .iter()
        .filter_map(|s| if let Words::Trip(trip) = &s.what { Some((s.index, trip.limit)) } else { None })
        .collect();
    let recorded: Vec<(u64, f32)> = alarms(&said)
        .iter()
        .filter(|(_, a)| a.source == AlarmSource::Protection)
        .map(|(index, a)| (*index, a.evidence[0].limit))
        .collect();
    assert_eq!(told, recorded);
    assert_eq!(told.iter().map(|(_, limit)| *limit).collect::<Vec<_>>(), [6.0, 6.1, 6.2]);
}

#[test]
fn a_dead_sensor_is_an_alarm_of_its_own_and_no_machine_fault() {
    use kilter_types::{Hertz, Input, Micros, Quality};
    let spec = MachineSpec::named("m");
    let mut monitor = build(quick(&spec));
    let mut said = Vec::new();
    for i in 0..20u64 {
        let samples = [0.25; WINDOW as usize];
        let t0 = Micros(i as i64 * 320_000);
        let block = Input::Block { t0, rate: Hertz(12_800.0), samples: &samples };
        let sink = &mut |output: kilter_monitor::Output<'_>| said.push(Said::of(&output));
        monitor.push(VIBRATION, i * u64::from(WINDOW), block, sink).expect("a block fits");
    }
    let raised = raised(&said);
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!((raised[0].1.source, raised[0].1.cause), (AlarmSource::Sensor, Cause::Sensor));
    assert!(rows(&said).iter().all(|row| row.quality.intersects(Quality::STUCK)));
    assert_eq!(scores(&said), []);
}

#[test]
fn a_machine_that_starts_and_stops_again_and_again_raises_no_alarm() {
    let mut spec = MachineSpec::named("m");
    for (at_s, rpm, ramp_s) in [
        (0.0, 0.0, 0.0),
        (2.0, 1500.0, 3.0),
        (20.0, 0.0, 2.0),
        (24.0, 1500.0, 1.0),
        (31.0, 0.0, 0.5),
        (34.0, 1500.0, 5.0),
        (45.0, 0.0, 4.0),
    ] {
        let load = if rpm > 0.0 { 0.7 } else { 0.0 };
        spec.load_changes.push(LoadChange { at_s, rpm, load, ramp_s });
    }
    let mut monitor = build(quick(&spec));
    let mut said = Vec::new();
    Feeder::new(spec, 6).run(51.0, &mut monitor, &mut said);
    assert_eq!(alarms(&said), []);
    let learned = said.iter().any(|s| s.group == 0 && matches!(s.what, Words::Event(Event::Commissioned { .. })));
    assert!(learned, "the running machine is known, so its starts could have been judged");
    let mut states: Vec<&str> = rows(&said)
        .iter()
        .filter(|row| row.kind == GroupKind::Vibration)
        .map(|row| match row.state {
            OperatingState::Off => "off",
            OperatingState::Transient => "transient",
            OperatingState::Steady(_) => "steady",
            OperatingState::Unknown => "unknown",
        })
        .collect();
    states.dedup();
    let cycle = ["off", "transient", "steady", "transient"];
    assert_eq!(states, [&cycle[..], &cycle, &cycle, &["off"]].concat());
}

/// A protected pump whose sensor a test spoils, window by window.
struct Protected {
    machine: Machine,
    monitor: Heaped,
    said: Vec<Said>,
    window: u64,
}

impl Protected {
    fn new(seed: u64) -> Self {
        let spec = MachineSpec::named("m");
        let mut config = quick(&spec);
        let velocity = FeatureId(37);
        config.protection.push(kilter_monitor::Protection { feature: velocity, above: 6.0, windows: 3 }).expect("room");
        let machine = Machine::new(spec, seed).expect("a good spec");
        Self { machine, monitor: build(config), said: Vec::new(), window: 0 }
    }

    /// So many windows, each changed; how many trips there were by now.
    fn feed(&mut self, windows: u64, spoil: impl Fn(u64, &mut [f32])) -> usize {
        for _ in 0..windows {
            let mut samples = [0.0; WINDOW as usize];
            self.machine.vibration(Axis::Vertical, &mut samples);
            spoil(self.window, &mut samples);
            let t0 = Micros(T0 + self.window as i64 * 320_000);
            let block = Input::Block { t0, rate: Hertz(12_800.0), samples: &samples };
            let sink = &mut |output: kilter_monitor::Output<'_>| self.said.push(Said::of(&output));
            self.monitor.push(VIBRATION, self.window * u64::from(WINDOW), block, sink).expect("a block fits");
            self.window += 1;
        }
        self.said.iter().filter(|s| matches!(s.what, Words::Trip(_))).count()
    }

    fn causes(&self) -> Vec<Cause> {
        raised(&self.said).iter().map(|(_, alarm)| alarm.cause).collect()
    }
}

#[test]
fn a_stuck_or_missing_sensor_trips_nothing_and_a_real_fault_afterwards_does_a2() {
    for seed in 0..2 {
        let mut rig = Protected::new(seed);
        assert_eq!(rig.feed(10, |_, _| {}), 0);
        // It hangs at a high value for half of each window: as numbers, a violent machine.
        assert_eq!(rig.feed(15, |_, samples| samples[WINDOW as usize / 2..].fill(5.0)), 0);
        let values = rows(&rig.said).pop().expect("a row").vector;
        assert!(values.get(36) > Some(6.0), "only the flag stands between the sensor and a stop: {:?}", values.get(36));
        assert_eq!(rig.feed(15, |_, samples| samples.fill(f32::NAN)), 0);
        assert_eq!(rig.feed(15, |_, samples| samples.fill(5.0)), 0);
        assert_eq!(rig.causes(), [Cause::Sensor], "one alarm of the sensor's own, and nothing else");
        assert_eq!(rig.feed(30, |_, _| {}), 0);
        // Now the machine, under a sensor that blinks.
        rig.machine.set_fault(fault(FaultKind::Unbalance, 0.0, 0.0, 1.0)).expect("a good fault");
        let blink = |window: u64, samples: &mut [f32]| {
            if window.is_multiple_of(2) {
                samples.fill(f32::NAN);
            }
        };
        assert_eq!(rig.feed(7, blink), 1, "three windows of seven had values, and all of them were beyond the limit");
        let protection = alarms(&rig.said).into_iter().filter(|(_, a)| a.source == AlarmSource::Protection).count();
        assert_eq!((protection, rig.monitor.summary().tripped), (1, true));
    }
}
