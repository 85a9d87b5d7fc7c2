//! Channels in other units and at other rates: the same figures come out, each row at its own event time.

use kilter_monitor::{ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Output, What};
use kilter_signal::{table::at, temperature};
use kilter_types::{ChannelId, FeatureRow, GroupKind, Hertz, Input, Micros, Rpm, Unit};
use proptest::prelude::*;

use crate::support::*;
use crate::window::sample;

const RATE: Hertz = Hertz(12_800.0);

fn machine(channels: &[(Unit, ChannelKind)], groups: &[(GroupKind, u8, u32, u32)]) -> MachineConfig {
    let mut config = MachineConfig::new(name("rig"));
    for (i, (unit, kind)) in channels.iter().enumerate() {
        let channel = ChannelConfig::new(name(&format!("c{i}")), *unit, *kind);
        config.channels.push(channel).expect("room");
    }
    for (kind, channel, window, hop) in groups {
        let channels = [ChannelId(*channel)].into_iter().collect();
        let group = GroupConfig { kind: *kind, point: name("p"), channels, window: *window, hop: *hop };
        config.groups.push(group).expect("room");
    }
    config
}

fn push(monitor: &mut Heaped, channel: u8, position: u64, input: Input<'_>, rows: &mut Vec<FeatureRow>) {
    let sink = &mut |output: Output<'_>| {
        if let What::Features(row) = output.what {
            rows.push(row.clone());
        }
    };
    monitor.push(ChannelId(channel), position, input, sink).expect("it fits");
}

#[test]
fn a_speed_in_hertz_is_the_same_speed_in_rpm() {
    let samples: Vec<f32> = (0..4096).map(sample).collect();
    let row = |unit, value| {
        let channels = [(Unit::G, ChannelKind::Vibration { rate: RATE }), (unit, ChannelKind::Speed)];
        let mut monitor = build(machine(&channels, &[(GroupKind::Vibration, 0, 4096, 4096)]));
        let mut rows = Vec::new();
        push(&mut monitor, 1, 0, Input::Reading { t: Micros(0), value }, &mut rows);
        push(&mut monitor, 0, 0, Input::Block { t0: Micros(0), rate: RATE, samples: &samples }, &mut rows);
        rows.pop().expect("one window")
    };
    let (hertz, rpm) = (row(Unit::Hertz, 25.0), row(Unit::Rpm, 1500.0));
    assert_eq!(hertz.rpm, Rpm(1500.0));
    assert!(hertz.vector.get(at::SHAFT_1X).is_some(), "the speed was used");
    assert_eq!(hertz, rpm);
}

#[test]
fn acceleration_in_g_and_in_metres_per_second_squared_has_one_rms() {
    let rms = |unit, per_g: f32| {
        let samples: Vec<f32> = (0..1024).map(|i| per_g * sample(i)).collect();
        let channels = [(unit, ChannelKind::Vibration { rate: RATE })];
        let mut monitor = build(machine(&channels, &[(GroupKind::Vibration, 0, 1024, 1024)]));
        let mut rows = Vec::new();
        push(&mut monitor, 0, 0, Input::Block { t0: Micros(0), rate: RATE, samples: &samples }, &mut rows);
        rows.pop().and_then(|row| row.vector.get(at::RMS)).expect("one window with an RMS")
    };
    let (g, si) = (rms(Unit::G, 1.0), rms(Unit::MetrePerSecondSquared, 9.806_65));
    assert!(g > 0.3 && (si - g).abs() <= 1e-6, "{g} g and {si} g");
}

#[test]
fn a_temperature_in_fahrenheit_is_a_level_in_celsius() {
    let kind = ChannelKind::Reading { period: Some(Micros::from_secs(1)) };
    let mut monitor = build(machine(&[(Unit::DegreeFahrenheit, kind)], &[(GroupKind::Temperature, 0, 4, 4)]));
    let mut rows = Vec::new();
    for i in 0..4 {
        push(&mut monitor, 0, i, Input::Reading { t: Micros::from_secs(i as i64), value: 176.0 }, &mut rows);
    }
    let level = rows[0].vector.get(temperature::at::LEVEL).expect("a level");
    assert!((level - 80.0).abs() < 1e-5, "{level}");
}

/// Vibration: a second of every two. Temperature: ten readings, one a second. Pressure: three, one in five seconds.
const GROUPS: [(GroupKind, u8, u32, u32); 3] =
    [(GroupKind::Vibration, 0, 12_800, 25_600), (GroupKind::Temperature, 1, 10, 10), (GroupKind::Reading, 2, 3, 3)];
const SECONDS: u64 = 45;
/// Half a second into the step's vibration window, in the middle of its temperature window, before the pressure window's last.
const STEP_S: f64 = 24.5;

/// A channel's next input, with its step: twice the vibration, 50 for 40 degrees, 5 for 3 bar.
fn feed(monitor: &mut Heaped, channel: usize, from: u64, to: u64, rows: &mut Vec<FeatureRow>) {
    let stepped = |t_s: f64, before: f32, after: f32| if t_s < STEP_S { before } else { after };
    if channel == 0 {
        let value = |p: u64| sample(p) * stepped(p as f64 / 12_800.0, 1.0, 2.0);
        let samples: Vec<f32> = (from..to).map(value).collect();
        let t0 = Micros(T0 + from as i64 * 625 / 8);
        push(monitor, 0, from, Input::Block { t0, rate: RATE, samples: &samples }, rows);
        return;
    }
    let (period_s, before, after) = if channel == 1 { (1, 40.0, 50.0) } else { (5, 3.0, 5.0) };
    let t_s = from as i64 * period_s;
    let reading = Input::Reading { t: Micros(T0) + Micros::from_secs(t_s), value: stepped(t_s as f64, before, after) };
    push(monitor, channel as u8, from, reading, rows);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn vibration_temperature_and_pressure_agree_in_event_time_whatever_their_interleaving(
        order in proptest::collection::vec(0usize..3, 20..100),
        blocks in proptest::collection::vec(1u64..2_500, 5..40),
    ) {
        let readings = |s| ChannelKind::Reading { period: Some(Micros::from_secs(s)) };
        let vibration = ChannelKind::Vibration { rate: RATE };
        let channels = [(Unit::G, vibration), (Unit::DegreeCelsius, readings(1)), (Unit::Bar, readings(5))];
        let mut monitor = build(machine(&channels, &GROUPS));
        let mut rows = Vec::new();
        let last = [SECONDS * 12_800, SECONDS, SECONDS / 5];
        let mut next = [0u64; 3];
        let (mut order, mut blocks) = (order.into_iter().cycle(), blocks.into_iter().cycle());
        while next != last {
            let pick = order.next().expect("cycles for ever");
            let open = |channel: &usize| next[*channel] < last[*channel];
            let channel = [pick, 0, 1, 2].into_iter().find(open).expect("one is open");
            // Eight samples last a whole number of microseconds.
            let len = if channel == 0 { 8 * blocks.next().expect("cycles for ever") } else { 1 };
            let to = last[channel].min(next[channel] + len);
            feed(&mut monitor, channel, next[channel], to, &mut rows);
            next[channel] = to;
        }
        let step = T0 + (STEP_S * 1e6) as i64;
        for (group, count, window_s, hop_s, place, values) in [
            (0u8, 23, 1.0, 2.0, at::RMS, (0.321f32, 0.642f32)),
            (1, 4, 9.000_001, 10.0, temperature::at::LEVEL, (40.0, 50.0)),
            (2, 3, 10.000_001, 15.0, 0, (3.0, 5.0)),
        ] {
            let rows: Vec<&FeatureRow> = rows.iter().filter(|row| row.group == group).collect();
            prop_assert_eq!(rows.len(), count);
            let mut covering = 0;
            for (i, row) in rows.into_iter().enumerate() {
                let start = T0 + (i as f64 * hop_s * 1e6) as i64;
                let times = (Micros(start), Micros(start + (window_s * 1e6) as i64));
                prop_assert_eq!((row.index, (row.start, row.end)), (i as u64, times), "group {}", group);
                let value = row.vector.get(place).expect("a whole window has its value");
                let near = |expected: f32| (value / expected - 1.0).abs() < 0.03;
                let seen = if row.end.0 <= step {
                    near(values.0)
                } else if row.start.0 > step {
                    near(values.1)
                } else {
                    covering += 1;
                    value > 1.1 * values.0
                };
                prop_assert!(seen, "group {} window {}: {}", group, i, value);
            }
            prop_assert_eq!(covering, 1, "group {}", group);
        }
    }
}
