//! W1: windows sit on the hop grid, holes close them, nothing is stitched, and positions alone say which rows there are.

use kilter_monitor::{ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Output};
use kilter_types::{ChannelId, FeatureRow, GroupKind, Hertz, Input, MachineEvent, Micros, Quality, Unit};
use proptest::prelude::*;

use crate::support::*;

const RATE: Hertz = Hertz(1000.0);

pub(crate) fn sampled(window: u32, hop: u32) -> MachineConfig {
    let mut config = MachineConfig::new(name("rig"));
    let kind = ChannelKind::Vibration { rate: RATE };
    config.channels.push(ChannelConfig::new(name("x"), Unit::G, kind)).expect("room");
    let channels = [ChannelId(0)].into_iter().collect();
    let group = GroupConfig { kind: GroupKind::Vibration, point: name("p"), channels, window, hop };
    config.groups.push(group).expect("room");
    config
}

fn readings(channels: u8, window: u32, hop: u32) -> MachineConfig {
    let mut config = MachineConfig::new(name("rig"));
    let kind = ChannelKind::Reading { period: Some(Micros::from_secs(1)) };
    for i in 0..channels {
        let channel = ChannelConfig::new(name(&format!("r{i}")), Unit::One, kind);
        config.channels.push(channel).expect("room");
    }
    let channels = (0..channels).map(ChannelId).collect();
    let group = GroupConfig { kind: GroupKind::Reading, point: name("p"), channels, window, hop };
    config.groups.push(group).expect("room");
    config
}

pub(crate) fn sample(position: u64) -> f32 {
    let x = (position.wrapping_mul(2_654_435_761) >> 7) & 0xffff;
    x as f32 / 65_536.0 - 0.5 + 0.2 * libm_sin(position as f32 * 0.3)
}

fn libm_sin(x: f32) -> f32 {
    f64::from(x).sin() as f32
}

fn push(monitor: &mut Heaped, from: u64, to: u64, rows: &mut Vec<FeatureRow>) {
    let samples: Vec<f32> = (from..to).map(sample).collect();
    let block = Input::Block { t0: Micros(from as i64 * 1000), rate: RATE, samples: &samples };
    let mut sink = |output: Output<'_>| {
        if let kilter_monitor::What::Features(row) = output.what {
            rows.push(row.clone());
        }
    };
    monitor.push(ChannelId(0), from, block, &mut sink).expect("a block fits");
}

/// Windows of which every position was delivered.
fn expected(delivered: &[(u64, u64)], window: u64, hop: u64) -> Vec<u64> {
    let mut indices: Vec<u64> = delivered
        .iter()
        .flat_map(|&(from, to)| (from.div_ceil(hop)..).take_while(move |i| i * hop + window <= to))
        .collect();
    indices.dedup();
    indices
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn w1_rows_are_those_whose_every_position_came_whatever_the_blocks(
        start in 0u64..200,
        pieces in proptest::collection::vec((1u64..400, prop_oneof![3 => Just(0u64), 1 => 1u64..150], any::<bool>()), 1..20),
        hop in prop_oneof![Just(16u32), Just(64), Just(100)],
    ) {
        let window = 64u64;
        let mut monitor = build(sampled(window as u32, hop));
        let mut whole = build(sampled(window as u32, hop));
        let (mut rows, mut reference) = (Vec::new(), Vec::new());
        let mut delivered: Vec<(u64, u64)> = Vec::new();
        let mut position = start;
        for (len, hole, told) in pieces {
            push(&mut monitor, position, position + len, &mut rows);
            match delivered.last_mut() {
                Some(last) if last.1 == position => last.1 += len,
                _ => delivered.push((position, position + len)),
            }
            position += len;
            if told && hole > 0 {
                monitor.skipped(ChannelId(0), position, position + hole, &mut |_| {});
            }
            position += hole;
        }
        push(&mut whole, start, position, &mut reference);
        let indices: Vec<u64> = rows.iter().map(|row| row.index).collect();
        prop_assert_eq!(&indices, &expected(&delivered, window, u64::from(hop)));
        for (i, row) in rows.iter().enumerate() {
            let same = reference.iter().find(|r| r.index == row.index).expect("the whole stream has every window");
            prop_assert_eq!(&row.vector, &same.vector);
            prop_assert_eq!((row.start, row.end), (same.start, same.end));
            let gap = row.index != if i == 0 { start.div_ceil(u64::from(hop)) } else { rows[i - 1].index + 1 };
            prop_assert_eq!(row.quality.contains(Quality::GAP), gap, "window {}", row.index);
        }
    }

    #[test]
    fn w1_reading_rows_do_not_depend_on_the_order_in_which_channels_arrive(
        holes in proptest::collection::vec((0usize..3, 5u64..180, 1u64..12), 0..4),
        order in proptest::collection::vec(0u8..3, 600..900),
        hop in prop_oneof![Just(1u32), Just(4), Just(10)],
    ) {
        let window = 10u64;
        let mut monitor = build(readings(3, window as u32, hop));
        let mut rows = Vec::new();
        let mut next = [0u64; 3];
        let missing = |channel: usize, position: u64| {
            holes.iter().any(|(c, from, len)| *c == channel && (*from..from + len).contains(&position))
        };
        let last = 200u64;
        // Random order, but nobody more than 20 behind.
        let mut turn = order.into_iter().cycle();
        while next.iter().any(|n| *n < last) {
            let pick = usize::from(turn.next().expect("cycles for ever"));
            let slowest = (0..3).min_by_key(|c| next[*c]).expect("three channels");
            let channel = if next[pick] >= last || next[pick] > next[slowest] + 20 { slowest } else { pick };
            let position = next[channel];
            next[channel] += 1;
            if missing(channel, position) {
                continue;
            }
            let reading = Input::Reading { t: Micros::from_secs(position as i64), value: sample(position) };
            let sink = &mut |output: Output<'_>| {
                if let kilter_monitor::What::Features(row) = output.what {
                    rows.push(row.clone());
                }
            };
            monitor.push(ChannelId(channel as u8), position, reading, sink).expect("a reading fits");
        }
        let hop = u64::from(hop);
        let whole = |i: &u64| (i * hop..i * hop + window).all(|p| (0..3).all(|c| !missing(c, p)));
        // A hole at the very end is not known before the next reading; there is none after `last`.
        let expected: Vec<u64> = (0..).take_while(|i| i * hop + window <= last).filter(whole).collect();
        let indices: Vec<u64> = rows.iter().map(|row: &FeatureRow| row.index).collect();
        prop_assert_eq!(indices, expected);
    }
}

#[test]
fn an_interruption_closes_the_open_window_although_positions_go_on() {
    let mut monitor = build(sampled(64, 64));
    let mut rows = Vec::new();
    push(&mut monitor, 0, 96, &mut rows);
    monitor.machine_event(Micros(96_000), MachineEvent::Interrupted, &mut |_| {});
    push(&mut monitor, 96, 256, &mut rows);
    let indices: Vec<(u64, bool)> = rows.iter().map(|r| (r.index, r.quality.contains(Quality::GAP))).collect();
    assert_eq!(indices, [(0, false), (2, true), (3, false)]);
}

#[test]
fn a_rate_that_differs_and_samples_that_are_missing_leave_rows_without_values() {
    let mut monitor = build(sampled(64, 64));
    let mut rows = Vec::new();
    let mut sink = |output: Output<'_>| {
        if let kilter_monitor::What::Features(row) = output.what {
            rows.push(row.clone());
        }
    };
    let mut samples: Vec<f32> = (0..64).map(sample).collect();
    let wrong = Input::Block { t0: Micros(0), rate: Hertz(2000.0), samples: &samples };
    monitor.push(ChannelId(0), 0, wrong, &mut sink).expect("a block fits");
    samples[10] = f32::NAN;
    let missing = Input::Block { t0: Micros(64_000), rate: RATE, samples: &samples };
    monitor.push(ChannelId(0), 64, missing, &mut sink).expect("a block fits");
    // The blocks' own times say twice the declared rate.
    samples[10] = 0.0;
    for half in 0..2u64 {
        let t0 = Micros(128_000 + half as i64 * 16_000);
        let block = Input::Block { t0, rate: RATE, samples: &samples[..32] };
        monitor.push(ChannelId(0), 128 + 32 * half, block, &mut sink).expect("a block fits");
    }
    let seen: Vec<(Quality, u64)> = rows.iter().map(|r| (r.quality, r.vector.valid)).collect();
    assert_eq!(seen, [(Quality::WRONG_RATE, 0), (Quality::NON_FINITE, 0), (Quality::WRONG_RATE, 0)]);
    assert!(rows.iter().all(|row| row.vector.values.iter().all(|value| *value == 0.0)));
}

#[test]
fn a_pause_and_a_clock_that_goes_back_are_flagged_and_leave_no_value() {
    let mut monitor = build(readings(1, 4, 4));
    let mut rows = Vec::new();
    let times = [0, 1, 2, 3, 10, 11, 40, 41, 50, 51, 20, 21, 22, 23, 24, 25];
    for (position, t) in times.into_iter().enumerate() {
        let sink = &mut |output: Output<'_>| {
            if let kilter_monitor::What::Features(row) = output.what {
                rows.push(row.clone());
            }
        };
        let reading = Input::Reading { t: Micros::from_secs(t), value: t as f32 };
        monitor.push(ChannelId(0), position as u64, reading, sink).expect("a reading fits");
    }
    let seen: Vec<(Quality, bool)> = rows.iter().map(|r| (r.quality, r.vector.valid != 0)).collect();
    assert_eq!(
        seen,
        [(Quality::GOOD, true), (Quality::GAP, false), (Quality::CLOCK_BACK, false), (Quality::GOOD, true)]
    );
}

#[test]
fn cycles_are_windows_of_one_row_and_a_missing_one_shows_in_the_next() {
    let mut config = MachineConfig::new(name("engine"));
    let kind = ChannelKind::Cycle { width: 3 };
    config.channels.push(ChannelConfig::new(name("c"), Unit::One, kind)).expect("room");
    let channels = [ChannelId(0)].into_iter().collect();
    let group = GroupConfig { kind: GroupKind::Cycle, point: name("p"), channels, window: 1, hop: 1 };
    config.groups.push(group).expect("room");
    let mut monitor = build(config);
    let mut rows = Vec::new();
    for position in [0u64, 1, 1, 3, 4] {
        let row = [1.0, position as f32, f32::NAN];
        let input = Input::Cycle { n: position as u32 + 1, t: None, row: &row };
        let sink = &mut |output: Output<'_>| {
            if let kilter_monitor::What::Features(row) = output.what {
                rows.push((row.index, row.quality.contains(Quality::GAP), row.vector.valid));
            }
        };
        monitor.push(ChannelId(0), position, input, sink).expect("a row fits");
    }
    assert_eq!(rows, [(0, false, 0b11), (1, false, 0b11), (3, true, 0b11), (4, false, 0b11)]);
    let mut dated = None;
    let t = Micros::from_secs(1_700_000_000);
    let input = Input::Cycle { n: 6, t: Some(t), row: &[1.0, 2.0, 3.0] };
    let sink = &mut |output: Output<'_>| {
        if let kilter_monitor::What::Features(row) = output.what {
            dated = Some((row.index, row.start));
        }
    };
    monitor.push(ChannelId(0), 5, input, sink).expect("a row fits");
    assert_eq!(dated, Some((5, t)), "a cycle is when its source says");
    let short = Input::Cycle { n: 9, t: None, row: &[1.0] };
    assert!(monitor.push(ChannelId(0), 6, short, &mut |_| {}).is_err());
}
