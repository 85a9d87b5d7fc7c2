//! Real recordings through the monitor: the CWRU bearings and the SKAB rig, when `KILTER_DATA` names the data.

use std::path::{Path, PathBuf};

use kilter_monitor::{ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Output};
use kilter_signal::bearing::Orders;
use kilter_types::{Cause, ChannelId, Event, GroupKind, Hertz, Input, Micros, Quality, Rpm, Unit};

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
    config.channels.push(ChannelConfig::new(name("de"), Unit::G, kind)).expect("room");
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

/// Eight readings once a second, with their times as they are: holes in time, no labels read.
fn skab(path: &Path) -> Vec<Said> {
    let text = std::fs::read_to_string(path).expect("a SKAB file");
    let mut config = MachineConfig::new(name("rig"));
    for i in 0..8 {
        let kind = ChannelKind::Reading { period: Some(Micros::from_secs(1)) };
        let channel = ChannelConfig::new(name(&format!("r{i}")), Unit::One, kind);
        config.channels.push(channel).expect("room");
    }
    let channels = (0..8).map(ChannelId).collect();
    let group = GroupConfig { kind: GroupKind::Reading, point: name("rig"), channels, window: 30, hop: 10 };
    config.groups.push(group).expect("room");
    config.commissioning_windows = 30;
    let mut monitor = build(config);
    let mut said = Vec::new();
    for (position, line) in text.lines().skip(1).enumerate() {
        let mut cells = line.split(';');
        let t = seconds(cells.next().expect("a time"));
        for (channel, cell) in cells.take(8).enumerate() {
            let value = cell.parse().unwrap_or(f32::NAN);
            let reading = Input::Reading { t: Micros::from_secs(t), value };
            let sink = &mut |output: Output<'_>| said.push(Said::of(&output));
            monitor.push(ChannelId(channel as u8), position as u64, reading, sink).expect("a reading fits");
        }
    }
    said
}

/// Seconds since some midnight of `2020-03-09 10:14:33`; days count, months do not.
fn seconds(text: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().expect("a number in a time");
    ((number(8..10) * 24 + number(11..13)) * 60 + number(14..16)) * 60 + number(17..19)
}

#[test]
fn skab_readings_give_every_whole_window_and_holes_in_time_leave_rows_without_values() {
    let Some(root) = data() else {
        println!("not run: 1 (KILTER_DATA is not set)");
        return;
    };
    for file in ["valve1/0.csv", "valve1/2.csv", "valve1/4.csv", "valve2/0.csv"] {
        let path = root.join("skab").join(file);
        let lines = std::fs::read_to_string(&path).expect("a SKAB file");
        let times: Vec<i64> = lines.lines().skip(1).map(seconds).collect();
        let said = skab(&path);
        let rows = rows(&said);
        assert_eq!(rows.len(), (times.len() - 30) / 10 + 1, "{file}");
        for row in &rows {
            let first = row.index as usize * 10;
            let hole = times[first..first + 30].windows(2).any(|pair| pair[1] - pair[0] > 3);
            let seen = (row.quality.contains(Quality::GAP), row.vector.valid == 0);
            assert_eq!(seen, (hole, hole), "{file} window {}", row.index);
        }
        let learned = events(&said).into_iter().find(|(_, event)| matches!(event, Event::Commissioned { .. }));
        let (learned, _) = learned.expect("the first windows teach a baseline");
        assert!(alarms(&said).iter().all(|(index, _)| *index > learned), "{file}");
        println!("{file}: {} rows, first alarm {:?}", rows.len(), raised(&said).first().map(|(index, _)| index));
    }
}
