//! A snapshot goes on bit for bit, and nothing but a good one is taken.

use kilter_infer as _;
use kilter_monitor::{
    Carve, ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Monitor, Output, RestoreError, needed,
};
use kilter_types::{ChannelId, GroupKind, Hertz, Input, MachineEvent, Micros, Rpm, Unit};
use proptest::prelude::*;

use crate::support::*;

const RATE: Hertz = Hertz(1000.0);

fn config() -> MachineConfig {
    let mut config = MachineConfig::new(name("rig"));
    for (channel, kind) in [
        ("v", ChannelKind::Vibration { rate: RATE }),
        ("a", ChannelKind::Reading { period: None }),
        ("b", ChannelKind::Reading { period: None }),
        ("c", ChannelKind::Cycle { width: 2 }),
    ] {
        let unit = if channel == "v" { Unit::G } else { Unit::One };
        config.channels.push(ChannelConfig::new(name(channel), unit, kind)).expect("room");
    }
    for (kind, channels, window, hop) in [
        (GroupKind::Vibration, vec![0], 64, 48),
        (GroupKind::Reading, vec![1, 2], 5, 2),
        (GroupKind::Temperature, vec![1, 2], 4, 4),
        (GroupKind::Cycle, vec![3], 1, 1),
    ] {
        let channels = channels.into_iter().map(ChannelId).collect();
        config.groups.push(GroupConfig { kind, point: name("p"), channels, window, hop }).expect("room");
    }
    config.commissioning_windows = 12;
    config.state_every = 5;
    config.spectrum_every = 7;
    config
}

#[derive(Clone, Debug)]
enum Op {
    Block(usize),
    Hole(u64),
    Reading(u8, f32),
    Cycle(f32),
    Speed(f32),
    Interrupted,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (1usize..200).prop_map(Op::Block),
        1 => (1u64..100).prop_map(Op::Hole),
        10 => (1u8..3, -5f32..5.0).prop_map(|(c, v)| Op::Reading(c, v)),
        4 => (-5f32..5.0).prop_map(Op::Cycle),
        1 => (0f32..3000.0).prop_map(Op::Speed),
        1 => Just(Op::Interrupted),
    ]
}

/// Everything outside of the monitor: positions.
#[derive(Clone, Default)]
struct Outside {
    positions: [u64; 4],
}

impl Outside {
    fn play(&mut self, op: &Op, monitor: &mut Heaped, said: &mut Vec<Said>) {
        let sink = &mut |output: Output<'_>| said.push(Said::of(&output));
        let now = Micros(self.positions[0] as i64 * 1000);
        match op {
            Op::Block(len) => {
                let from = self.positions[0];
                let noise = |p: u64| ((p.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32) / 16_777_216.0 - 0.5;
                let samples: Vec<f32> = (from..from + *len as u64).map(noise).collect();
                monitor
                    .push(ChannelId(0), from, Input::Block { t0: now, rate: RATE, samples: &samples }, sink)
                    .expect("fits");
                self.positions[0] += *len as u64;
            }
            Op::Hole(len) => {
                monitor.skipped(ChannelId(0), self.positions[0], self.positions[0] + len, sink);
                self.positions[0] += len;
            }
            Op::Reading(channel, value) => {
                let place = usize::from(*channel);
                let t = Micros::from_secs(self.positions[place] as i64);
                monitor
                    .push(ChannelId(*channel), self.positions[place], Input::Reading { t, value: *value }, sink)
                    .expect("fits");
                self.positions[place] += 1;
            }
            Op::Cycle(value) => {
                let row = [*value, 1.0];
                monitor
                    .push(ChannelId(3), self.positions[3], Input::Cycle { n: 0, t: None, row: &row }, sink)
                    .expect("fits");
                self.positions[3] += 1;
            }
            Op::Speed(rpm) => monitor.machine_event(now, MachineEvent::Speed(Rpm(*rpm)), sink),
            Op::Interrupted => monitor.machine_event(now, MachineEvent::Interrupted, sink),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_restored_monitor_says_what_the_other_one_would_have_said(
        ops in proptest::collection::vec(op(), 1..250),
        cut in 0usize..250,
    ) {
        let cut = cut.min(ops.len());
        let mut monitor = build(config());
        let (mut outside, mut before) = (Outside::default(), Vec::new());
        for op in &ops[..cut] {
            outside.play(op, &mut monitor, &mut before);
        }
        let mut bytes = vec![0; monitor.snapshot_len()];
        prop_assert_eq!(monitor.snapshot(&mut bytes), Ok(bytes.len()));
        let mut restored = build(config());
        prop_assert_eq!(restored.restore(&bytes), Ok(()));
        let mut twin = outside.clone();
        let (mut said, mut again) = (Vec::new(), Vec::new());
        for op in &ops[cut..] {
            outside.play(op, &mut monitor, &mut said);
            twin.play(op, &mut restored, &mut again);
        }
        prop_assert_eq!(said, again);
        prop_assert_eq!(monitor.summary(), restored.summary());
    }

    #[test]
    fn damaged_snapshots_are_refused_or_taken_but_never_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut monitor = build(config());
        let (mut outside, mut said) = (Outside::default(), Vec::new());
        for op in [Op::Block(150), Op::Reading(1, 1.0), Op::Reading(2, 2.0), Op::Cycle(0.5), Op::Speed(1500.0), Op::Block(150)] {
            outside.play(&op, &mut monitor, &mut said);
        }
        let mut bytes = vec![0; monitor.snapshot_len()];
        monitor.snapshot(&mut bytes).expect("it fits");
        prop_assert!(build(config()).restore(&bytes[..cut.index(bytes.len())]).is_err());
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut restored = build(config());
        if restored.restore(&bytes).is_ok() {
            for op in [Op::Block(300), Op::Reading(1, 1.0), Op::Reading(2, 2.0), Op::Cycle(0.5)] {
                outside.play(&op, &mut restored, &mut said);
            }
        }
    }
}

#[test]
fn a_snapshot_of_another_configuration_or_version_is_refused_by_name() {
    let monitor = build(config());
    let mut bytes = vec![0; monitor.snapshot_len()];
    monitor.snapshot(&mut bytes).expect("it fits");
    assert!(monitor.snapshot(&mut [0; 10]).is_err());
    let mut other = config();
    other.groups[0].hop = 32;
    assert_eq!(build(other).restore(&bytes), Err(RestoreError::OtherConfig));
    bytes[4] = 9;
    assert_eq!(build(config()).restore(&bytes), Err(RestoreError::Version(9)));
}

#[test]
fn a_monitor_needs_exactly_the_memory_that_it_announces() {
    let needed = needed(&config()).expect("a good configuration");
    let (mut floats, mut times) = (vec![0.0; needed.floats], vec![Micros(0); needed.times]);
    let mut carve = Carve::new(&mut floats, &mut times);
    let small = Monitor::<Carve<'_>, 4, 64>::new(config(), &mut carve);
    assert!(small.is_ok(), "{:?}", small.err());
    drop(small);
    let mut carve = Carve::new(&mut floats[1..], &mut times);
    assert!(Monitor::<Carve<'_>, 4, 64>::new(config(), &mut carve).is_err(), "one value fewer is too few");
}
