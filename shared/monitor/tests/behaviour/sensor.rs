//! The sensor's own faults in the monitor: a few missing samples are filled and marked, a slower sensor and a turned axis are named.

use kilter_machine::{Axis, Machine, MachineSpec};
use kilter_monitor::{Bounds, ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Output};
use kilter_types::{
    Axis as Direction, Cause, ChannelId, Event, GroupKind, Hertz, Input, MachineEvent, Micros, Quality, Rpm, Unit,
};
use proptest::prelude::*;

use crate::support::*;

const WINDOW: usize = 1024;

/// A machine whose windows a test changes before the monitor sees them.
struct Rig {
    machine: Machine,
    monitor: Heaped,
    said: Vec<Said>,
    window: u64,
}

impl Rig {
    fn new(seed: u64, hop: u32) -> Self {
        Self::along(None, seed, hop)
    }

    fn along(axis: Option<Direction>, seed: u64, hop: u32) -> Self {
        let spec = MachineSpec::named("m");
        let mut config = pump(&spec, WINDOW as u32);
        config.groups[0].hop = hop;
        config.commissioning_windows = 12;
        config.channels[0].range = Bounds { low: -16.0, high: 16.0 };
        config.channels[0].axis = axis;
        let mut monitor = build(config);
        monitor.machine_event(Micros(0), MachineEvent::Speed(Rpm(spec.nominal_rpm as f32)), &mut |_| {});
        let machine = Machine::new(spec, seed).expect("a good spec");
        Self { machine, monitor, said: Vec::new(), window: 0 }
    }

    /// So many windows' worth of samples, each changed; the rows that they close.
    fn feed(&mut self, windows: u64, change: impl Fn(&mut [f32])) -> Vec<kilter_types::FeatureRow> {
        let from = self.said.len();
        let rate_hz = self.machine.spec().rate_hz;
        for _ in 0..windows {
            let mut samples = vec![0.0; WINDOW];
            self.machine.vibration(Axis::Vertical, &mut samples);
            change(&mut samples);
            let position = self.window * WINDOW as u64;
            let t0 = Micros((position as f64 / rate_hz * 1e6).round() as i64);
            let block = Input::Block { t0, rate: Hertz(rate_hz as f32), samples: &samples };
            let sink = &mut |output: Output<'_>| self.said.push(Said::of(&output));
            self.monitor.push(VIBRATION, position, block, sink).expect("a block fits");
            self.window += 1;
        }
        rows(&self.said[from..])
    }

    fn commissioned(&self) -> usize {
        events(&self.said).iter().filter(|(_, event)| matches!(event, Event::Commissioned { .. })).count()
    }
}

#[test]
fn a_short_hole_is_filled_and_marked_and_every_window_that_overlaps_it_judges_it_itself() {
    let plain = Rig::new(1, WINDOW as u32 / 2).feed(4, |_| {});
    let holed = Rig::new(1, WINDOW as u32 / 2).feed(4, |samples| {
        samples[100..103].fill(f32::NAN);
        samples[WINDOW / 2] = f32::INFINITY;
    });
    assert_eq!((plain.len(), holed.len()), (7, 7), "no row is lost for missing values");
    for (plain, holed) in plain.iter().zip(&holed) {
        // Windows that begin at half a block have the last hole at their own beginning, where nothing can be filled.
        let expected = if holed.index % 2 == 0 { Quality::IMPUTED } else { Quality::NON_FINITE };
        assert_eq!(holed.quality, expected, "window {}", holed.index);
        assert_eq!(holed.vector.valid, if expected == Quality::IMPUTED { plain.vector.valid } else { 0 });
        if expected == Quality::IMPUTED {
            let (a, b) = (plain.vector.values[1], holed.vector.values[1]);
            assert!((b / a - 1.0).abs() < 0.02, "rms {a} and {b}");
        }
    }
}

#[test]
fn filled_windows_are_scored_and_teach_the_baseline_nothing() {
    let mut rig = Rig::new(2, WINDOW as u32);
    rig.feed(40, |samples| samples[500] = f32::NAN);
    assert_eq!(rig.commissioned(), 0, "nothing was measured whole");
    rig.feed(13, |_| {});
    assert_eq!(rig.commissioned(), 1);
    let threshold = |rig: &Rig| scores(&rig.said).last().map(|(_, score)| score.threshold);
    // A score tells the threshold before its own window is learned from.
    rig.feed(1, |samples| samples[500] = f32::NAN);
    let before = threshold(&rig);
    let scored = scores(&rig.said).len();
    let filled = rig.feed(20, |samples| samples[500] = f32::NAN);
    assert!(filled.iter().all(|row| row.quality == Quality::IMPUTED && row.vector.valid != 0));
    assert_eq!(scores(&rig.said).len(), scored + 20, "a filled window is scored like any other");
    assert_eq!(threshold(&rig), before, "nothing was learned from them");
    rig.feed(20, |_| {});
    assert_ne!(threshold(&rig), before, "whole windows teach");
    assert!(raised(&rig.said).is_empty(), "{:?}", raised(&rig.said));
}

#[test]
fn gravity_along_another_axis_is_named_and_a_mean_that_drifts_is_not() {
    let upright = |samples: &mut [f32]| samples.iter_mut().for_each(|x| *x += 1.0);
    let (mut named, mut falsely, mut healthy) = (0, 0, 0);
    for seed in 0..5 {
        let mut rig = Rig::new(seed, WINDOW as u32);
        let learned = rig.feed(60, upright);
        let drifted = rig.feed(60, |samples| samples.iter_mut().for_each(|x| *x += 0.85));
        for row in learned.iter().chain(&drifted) {
            healthy += 1;
            falsely += usize::from(row.quality.intersects(Quality::SWAPPED_AXIS));
        }
        assert!(raised(&rig.said).is_empty());
        let turned = rig.feed(10, |_| {});
        named += turned.iter().filter(|row| row.quality == Quality::SWAPPED_AXIS).count();
        let alarms = raised(&rig.said);
        assert_eq!(alarms.iter().map(|(_, alarm)| alarm.cause).collect::<Vec<_>>(), [Cause::Sensor]);
        // Somebody mounted it so on purpose: maintenance makes it the new normal.
        rig.monitor.machine_event(Micros::from_secs(100), MachineEvent::Maintenance, &mut |_| {});
        assert!(rig.feed(20, |_| {}).iter().all(|row| row.quality == Quality::GOOD));
    }
    println!("turned axis: {named} of 50 windows named, {falsely} of {healthy} healthy ones falsely");
    assert_eq!((named, falsely), (50, 0));
}

#[test]
fn a_sensor_that_is_read_twice_as_fast_as_it_measures_is_named_and_gives_no_value() {
    let mut rig = Rig::new(3, WINDOW as u32);
    let good = rig.feed(100, |_| {});
    assert!(good.iter().all(|row| row.quality == Quality::GOOD));
    let held = rig.feed(10, |samples| (0..WINDOW / 2).for_each(|i| samples[2 * i + 1] = samples[2 * i]));
    assert!(held.iter().all(|row| row.quality == Quality::WRONG_RATE && row.vector.valid == 0));
    assert_eq!(raised(&rig.said).iter().map(|(_, alarm)| alarm.cause).collect::<Vec<_>>(), [Cause::Sensor]);
}

#[test]
fn a_value_outside_its_channels_range_enters_no_statistic_and_flags_every_window_that_holds_it() {
    let mut config = MachineConfig::new(name("rig"));
    let pressure = ChannelKind::Reading { period: Some(Micros::from_secs(1)) };
    for (channel, unit, kind, high) in [
        ("pressure", Unit::Bar, pressure, 16.0),
        ("shaft", Unit::Rpm, ChannelKind::Speed, 3600.0),
        ("cycle", Unit::One, ChannelKind::Cycle { width: 2 }, 100.0),
    ] {
        let mut channel = ChannelConfig::new(name(channel), unit, kind);
        channel.range = Bounds { low: 0.0, high };
        config.channels.push(channel).expect("room");
    }
    for (kind, channel, window) in [(GroupKind::Reading, 0, 10), (GroupKind::Cycle, 2, 1)] {
        let channels = [ChannelId(channel)].into_iter().collect();
        config
            .groups
            .push(GroupConfig { kind, point: name("p"), channels, window, hop: window.div_ceil(2) })
            .expect("room");
    }
    let (mut monitor, mut said) = (build(config), Vec::new());
    let sink = &mut |output: Output<'_>| said.push(Said::of(&output));
    for second in 0..40u64 {
        let t = Micros::from_secs(second as i64);
        // A broken wire reads as full scale, a broken tacho as whatever sixteen bits hold.
        let (bar, rpm) = if second == 17 { (25.0, 65_535.0) } else { (4.0 + 0.01 * second as f32, 1500.0) };
        monitor.push(ChannelId(1), second, Input::Reading { t, value: rpm }, sink).expect("a speed fits");
        monitor.push(ChannelId(0), second, Input::Reading { t, value: bar }, sink).expect("a reading fits");
        let row = [f32::from(second as u8), if second == 5 { 101.0 } else { 1.0 }];
        monitor
            .push(ChannelId(2), second, Input::Cycle { n: second as u32, t: Some(t), row: &row }, sink)
            .expect("a row");
    }
    let (readings, cycles): (Vec<_>, Vec<_>) = rows(&said).into_iter().partition(|row| row.kind == GroupKind::Reading);
    assert_eq!((readings.len(), cycles.len()), (7, 40));
    for row in readings {
        // Windows of ten from every fifth position: the bad one lies in two of them.
        let holds = (5 * row.index..5 * row.index + 10).contains(&17);
        assert_eq!(row.quality, if holds { Quality::OUT_OF_RANGE } else { Quality::GOOD }, "window {}", row.index);
        assert!(row.vector.get(3) < Some(4.5), "the greatest value is {:?}", row.vector.get(3));
        assert_eq!((row.vector.valid, row.rpm), (0b11_1111, Rpm(1500.0)));
    }
    for row in cycles {
        let expected = if row.index == 5 { (Quality::OUT_OF_RANGE, 0b01) } else { (Quality::GOOD, 0b11) };
        assert_eq!((row.quality, row.vector.valid), expected, "cycle {}", row.index);
    }
}

#[test]
fn gravity_along_an_axis_declared_as_level_is_named_from_the_first_window() {
    let upright = |samples: &mut [f32]| samples.iter_mut().for_each(|x| *x += 1.0);
    for (axis, flag) in [
        (Some(Direction::RadialHorizontal), Quality::SWAPPED_AXIS),
        (Some(Direction::RadialVertical), Quality::GOOD),
        (Some(Direction::Axial), Quality::GOOD),
        (None, Quality::GOOD),
    ] {
        let mut rig = Rig::along(axis, 4, WINDOW as u32);
        let rows = rig.feed(30, upright);
        assert!(rows.iter().all(|row| row.quality == flag), "{axis:?}");
        let causes: Vec<Cause> = raised(&rig.said).iter().map(|(_, alarm)| alarm.cause).collect();
        assert_eq!(causes, if flag == Quality::GOOD { vec![] } else { vec![Cause::Sensor] }, "{axis:?}");
        assert_eq!(rig.commissioned() > 0, flag == Quality::GOOD, "a sensor on the wrong axis teaches nothing");
        // Level as declared.
        assert!(Rig::along(axis, 4, WINDOW as u32).feed(30, |_| {}).iter().all(|row| row.quality == Quality::GOOD));
    }
}

/// What a window must be flagged with, and how it is spoiled.
type Way = (Quality, fn(&mut [f32]));

/// The first two are accepted.
const SPOILED: [Way; 11] = [
    (Quality::GOOD, |_| {}),
    (Quality::IMPUTED, |samples| samples[500] = f32::NAN),
    (Quality::NON_FINITE, |samples| samples[100..300].fill(f32::NAN)),
    (Quality::NON_FINITE, |samples| samples.iter_mut().step_by(50).for_each(|x| *x = f32::INFINITY)),
    (Quality::STUCK, |samples| samples.fill(0.25)),
    (Quality::DROPOUT, |samples| samples[400..500].fill(0.0)),
    (Quality::SATURATED, |samples| samples.iter_mut().for_each(|x| *x = x.clamp(-0.0125, 0.0125))),
    (Quality::NOISE_FLOOR, |samples| samples.iter_mut().for_each(|x| *x *= 1e-6)),
    (Quality::WRONG_RATE, |samples| (0..WINDOW / 2).for_each(|i| samples[2 * i + 1] = samples[2 * i])),
    (Quality::OUT_OF_RANGE, |samples| samples[7] = 40.0),
    (Quality::OUT_OF_RANGE, |samples| samples[WINDOW - 100..].fill(-1e30)),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn every_window_is_accepted_or_refused_with_its_reason_and_the_counts_add_up(
        ways in proptest::collection::vec(prop_oneof![2 => Just(0usize), 3 => 0usize..11], 20..60),
        seed in 0u64..100,
    ) {
        let mut rig = Rig::new(seed, WINDOW as u32);
        let (mut accepted, mut refused) = (0, std::collections::BTreeMap::<&str, usize>::new());
        for way in &ways {
            let (quality, spoil) = SPOILED[*way];
            let index = rig.window;
            let rows = rig.feed(1, spoil);
            prop_assert_eq!(rows.iter().map(|row| (row.index, row.quality)).collect::<Vec<_>>(), [(index, quality)]);
            if rows[0].quality.intersects(Quality(!Quality::IMPUTED.0)) {
                let reasons: Vec<&str> = kilter_signal::health::reasons(rows[0].quality).map(|(name, _)| name).collect();
                prop_assert_eq!(reasons.len(), 1, "one cause, one reason");
                *refused.entry(reasons[0]).or_default() += 1;
                prop_assert!(scores(&rig.said).iter().all(|(scored, _)| *scored != index), "a refused window is judged");
            } else {
                prop_assert!(rows[0].vector.valid != 0);
                accepted += 1;
            }
        }
        let planted = |quality: Quality| ways.iter().filter(|way| SPOILED[**way].0 == quality).count();
        for (quality, _) in &SPOILED[2..] {
            let reason = quality.names().next().expect("a flag has a name");
            prop_assert_eq!(refused.get(reason).copied().unwrap_or(0), planted(*quality), "{}", reason);
        }
        prop_assert_eq!(accepted, planted(Quality::GOOD) + planted(Quality::IMPUTED));
        // All that was received, by the monitor's own count.
        prop_assert_eq!(rig.monitor.summary().windows, (accepted + refused.values().sum::<usize>()) as u64);
        prop_assert_eq!(rig.monitor.summary().windows, ways.len() as u64);
    }
}
