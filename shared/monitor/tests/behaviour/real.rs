//! Real recordings through the monitor: the CWRU bearings, when `KILTER_DATA` names the data.

use std::path::{Path, PathBuf};

use kilter_monitor::{ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Output};
use kilter_signal::bearing::Orders;
use kilter_types::{Cause, ChannelId, GroupKind, Hertz, Input, Micros, Rpm, Unit};

use crate::support::*;

fn data() -> Option<PathBuf> {
    std::env::var_os("KILTER_DATA").map(PathBuf::from).filter(|root| root.join("cwru/meta.json").is_file())
}

/// The values of a one-dimensional little-endian f32 array.
fn npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("a recording that meta.json names");
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]])) + 10;
    bytes[header..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn config(rate_hz: f32, rpm: f32) -> MachineConfig {
    let mut config = MachineConfig::new(name("motor"));
    let kind = ChannelKind::Vibration { rate: Hertz(rate_hz) };
    config.channels.push(ChannelConfig { name: name("de"), unit: Unit::G, kind }).expect("room");
    let channels = [ChannelId(0)].into_iter().collect();
    let window = rate_hz as u32;
    let group = GroupConfig { kind: GroupKind::Vibration, point: name("drive-end"), channels, window, hop: window / 2 };
    config.groups.push(group).expect("room");
    config.bearing = Orders::catalogue("6205").ok();
    config.nominal_rpm = Some(Rpm(rpm));
    config.limits.velocity_alarm_mm_s = Some(2.8);
    config.limits.velocity_danger_mm_s = Some(4.5);
    config
}

#[test]
fn cwru_races_are_named_without_a_healthy_history_and_the_normal_record_is_quiet() {
    let Some(root) = data() else {
        println!("not run: 1 (KILTER_DATA is not set)");
        return;
    };
    let meta = std::fs::read_to_string(root.join("cwru/meta.json")).expect("meta.json");
    let meta: serde_json::Value = serde_json::from_str(&meta).expect("meta.json is JSON");
    let mut seen = 0;
    for (file, entry) in meta.as_object().expect("an object of records") {
        let (Some(rate), Some(rpm)) = (entry["fs_hz"].as_f64(), entry["rpm"].as_f64()) else { continue };
        let label = entry["label"].as_str().unwrap_or_default().to_lowercase();
        let path = root.join("cwru").join(if file.ends_with(".npy") { file.clone() } else { format!("{file}.npy") });
        let samples = npy(&path);
        let mut monitor = build(config(rate as f32, rpm as f32));
        let mut said = Vec::new();
        for (i, block) in samples.chunks(1000).enumerate() {
            let position = i as u64 * 1000;
            let t0 = Micros((position as f64 * 1e6 / rate) as i64);
            let input = Input::Block { t0, rate: Hertz(rate as f32), samples: block };
            let sink = &mut |output: Output<'_>| said.push(Said::of(&output));
            monitor.push(ChannelId(0), position, input, sink).expect("a block fits");
        }
        let last = alarms(&said).pop().map(|(_, alarm)| alarm.cause);
        println!("{file} {label}: {last:?} after {} windows", rows(&said).len());
        if label.contains("inner") {
            assert_eq!(last, Some(Cause::InnerRace), "{file}");
            seen += 1;
        } else if label.contains("outer") {
            assert_eq!(last, Some(Cause::OuterRace), "{file}");
            seen += 1;
        } else if label.contains("normal") {
            assert_eq!(last, None, "{file}");
            seen += 1;
        }
    }
    assert!(seen >= 3, "the records of inner race, outer race and normal are there");
}
