//! A model in its slot, heard as it was made.

use kilter_monitor::{ChannelConfig, ChannelKind, GroupConfig};
use kilter_tests::model::artifact;
use kilter_types::{AlarmSource, Digest, Generation, GroupKind, Hertz, MachineEvent, Role, Rpm, Unit};

use super::install::put;
use super::*;

/// Alarms that a model raises which calls every window unusual, on a machine whose own baseline sees nothing.
fn raised_by_model(own: bool) -> usize {
    let name = |text| Name::new(text).expect("a good name");
    let mut config = MachineConfig::new(name("pump"));
    let kind = ChannelKind::Vibration { rate: Hertz(1024.0) };
    config.channels.push(ChannelConfig::new(name("de"), Unit::G, kind)).expect("it fits");
    let channels = heapless::Vec::from_slice(&[ChannelId(0)]).expect("it fits");
    let (kind, point) = (GroupKind::Vibration, name("de"));
    config.groups.push(GroupConfig { kind, point, channels, window: 1024, hop: 1024 }).expect("it fits");
    (config.nominal_rpm, config.commissioning_windows) = (Some(Rpm(1480.0)), 20);
    let mut monitor = build(&config, &[], &mut Vec::new()).expect("a good configuration");
    let mut state = 7_u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut raised = 0;
    for window in 0..60 {
        if window == 40 {
            let bytes = artifact(0.01);
            let digest = Digest::of(&bytes);
            let (role, generation, expires) = (Role::Leader, Generation(1), Micros(i64::MAX));
            let install = Install { role, bytes, digest, generation, expires, own, signed: None };
            put(&mut monitor, &install, &mut |_| {}).expect("a good model");
        }
        let t0 = Micros::from_secs(1_700_000_000 + window);
        let samples: Vec<f32> = (0..1024).map(|_| uniform() + uniform() + uniform()).collect();
        let mut sink = |output: Output<'_>| {
            if let What::Alarm(alarm) = output.what {
                raised += usize::from(alarm.state == AlarmState::Raised && alarm.source == AlarmSource::Model);
            }
        };
        monitor.machine_event(t0, MachineEvent::Speed(Rpm(1480.0)), &mut sink);
        let block = Input::Block { t0, rate: Hertz(1024.0), samples: &samples };
        monitor.push(ChannelId(0), window as u64 * 1024, block, &mut sink).expect("a block fits");
    }
    assert!(monitor.summary().baseline_ready, "the test shows nothing without the machine's own baseline");
    raised
}

#[test]
fn a_model_of_this_very_machine_is_heard_alone_and_one_of_its_class_only_with_the_baseline() {
    assert_eq!((raised_by_model(false), raised_by_model(true)), (0, 1));
}
