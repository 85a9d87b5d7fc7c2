//! Lives that ran to failure in the lake, and the head for the remaining life that the lab makes of them.
//!
//! Simulated pumps wear out by a growing spall on the outer race; what the production monitor sees of them is what lies in the lake.

use std::path::Path;
use std::process::Command;

use kilter_machine::{Axis, FaultChange, FaultKind, Growth, LoadChange, Machine, MachineSpec};
use kilter_monitor::{ChannelConfig, ChannelKind, GroupConfig, Heap, MachineConfig, Monitor, Output, What};
use kilter_signal::bearing::Orders;
use kilter_types::{
    ChannelId, Digest, Event, FeatureRow, Generation, GroupKind, Hertz, Input, MachineEvent, Micros, Name, Payload,
    Role, Rpm, Rul, Score, Unit,
};
use serde_json::{Value, json};

use crate::house::{Lab, Server, ask, config, seqs, within};
use crate::report;

#[test]
fn s0_26_machines_that_ran_to_failure_give_a_head_that_tells_another_machine_its_hours_with_an_interval() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[training]\nmax_steps = 20\n[drift]\nenabled = false\n");
    let mut server = Server::open(data, 9, Vec::new());
    let lives: Vec<Vec<FeatureRow>> = (0..10).map(|number| lived(number, WORN, None).0).collect();
    for (number, rows) in lives.iter().enumerate() {
        record(&mut server, PUMPS[number], rows, "failed-bearing");
    }
    let done = trained(data, lives.iter().map(Vec::len).sum());
    let life = &done["life"][0];
    println!("{}", life["why"]);
    assert_eq!((&life["asset_class"], &life["offered"]), (&json!("pump"), &json!(true)), "{life}");
    let models = done["models"].as_array().expect("models");
    let head = models.iter().find(|model| model["key"]["task"] == "rul").expect("a head");
    assert_eq!((&head["family"], &head["role"]), (&json!("rul_head"), &json!("shadow")));
    let figure = |of: &str, name: &str| head[of][name].as_f64().expect("a figure");
    assert!(figure("metrics", "rmse_h") < figure("baseline", "constant_rmse_h"), "{head}");
    assert!(figure("metrics", "rmse_h") < figure("baseline", "age_rmse_h"), "{head}");
    // A machine has room for one shadow: the leader brings the head with it.
    if let Some(leader) = models.iter().find(|model| model["role"] == "leader") {
        assert_eq!((&leader["pair"], &head["pair"]), (&head["digest"], &leader["digest"]));
    }
    let digest = head["digest"].as_str().expect("a digest");
    let artifact = std::fs::read(data.join(format!("lab/outbox/{digest}.kltm"))).expect("it was handed out");

    // Pumps that the lab never saw, under the production monitor: every window that is judged has its hours and their interval.
    let mut words: Vec<(Rul, f64)> = Vec::new();
    for number in 10..14 {
        let (rows, scores) = lived(number, WORN, Some(artifact.clone()));
        assert!(scores.len() + 3 == rows.len(), "{} of {} windows", scores.len(), rows.len());
        let left = |score: &Score| (rows.len() as u64 - 1 - score.input.index) as f64 * PERIOD_H;
        let word =
            |score: &Score| (score.rul.expect("hours with every window"), left(score).min(figure("metrics", "cap_h")));
        words.extend(scores.iter().map(word));
    }
    let ordered = |rul: &Rul| rul.low.0 <= rul.hours.0 && rul.hours.0 <= rul.high.0 && rul.low.0 < rul.high.0;
    assert!(words.iter().all(|(rul, _)| ordered(rul)), "{words:?}");
    let mean = words.iter().map(|(_, left)| left).sum::<f64>() / words.len() as f64;
    let rmse = |wrong: &dyn Fn(&(Rul, f64)) -> f64| {
        (words.iter().map(|word| wrong(word).powi(2)).sum::<f64>() / words.len() as f64).sqrt()
    };
    let (head_h, mean_h) = (rmse(&|(rul, left)| f64::from(rul.hours.0) - left), rmse(&|(_, left)| mean - left));
    let holds = |(rul, left): &&(Rul, f64)| (f64::from(rul.low.0)..=f64::from(rul.high.0)).contains(left);
    let held = words.iter().filter(holds).count() as f64 / words.len() as f64;
    println!(
        "wrong by {head_h:.2} h, their own mean by {mean_h:.2} h; the interval held in {held:.2} of {} windows",
        words.len()
    );
    assert!(head_h < 0.6 * mean_h, "their own mean, which nobody knows before, is nearly as good");
    assert!(held > 0.7, "{held}");

    // The lake alone is enough to make it again.
    let made = Command::new(env!("CARGO_BIN_EXE_kilter-lab"))
        .arg("reproduce")
        .arg(data.join(format!("lab/outbox/{digest}.card.json")))
        .arg("--data")
        .arg(data)
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&made.stdout).trim(), format!("reproduced {digest}"));
}

#[test]
fn too_few_lives_give_no_head_and_say_how_many_there_are_and_are_needed() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[training]\nmax_steps = 20\n[drift]\nenabled = false\n");
    let mut server = Server::open(data, 9, Vec::new());
    let mut all = 0;
    for (number, word) in (0..).zip(["failed", "failure", "failed_seal", "greased", "replaced"]) {
        let rows = lived(number, 0.0, None).0;
        record(&mut server, PUMPS[number as usize], &rows, word);
        all += rows.len();
    }
    let done = trained(data, all);
    let life = &done["life"][0];
    assert_eq!((&life["offered"], &life["digest"]), (&json!(false), &Value::Null));
    let why = life["why"].as_str().expect("words");
    assert!(why.contains("3 lives of 3 machines") && why.contains("lives of 8 machines are needed"), "{why}");
    assert_eq!(done["models"].as_array().expect("the detectors").len(), 2);
    assert_eq!(handed_out(data), 2);
}

#[test]
fn lives_that_show_nothing_give_a_head_that_is_not_handed_out_and_its_card_says_why() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[training]\nmax_steps = 20\n[drift]\nenabled = false\n");
    let mut server = Server::open(data, 9, Vec::new());
    let lives: Vec<Vec<FeatureRow>> = (0..9).map(|number| lived(number, 0.0, None).0).collect();
    lives.iter().zip(PUMPS).for_each(|(rows, pump)| record(&mut server, pump, rows, "failed"));
    let done = trained(data, lives.iter().map(Vec::len).sum());
    let life = &done["life"][0];
    let why = life["why"].as_str().expect("words");
    assert!(life["offered"] == false && why.starts_with("is not offered"), "{life}");
    let digest = life["digest"].as_str().expect("a digest");
    let card = std::fs::read(data.join(format!("lab/reports/{digest}.card.json"))).expect("its card");
    assert_eq!(serde_json::from_slice::<Value>(&card).expect("JSON")["why"], why);
    let page = std::fs::read_to_string(data.join(format!("lab/reports/{digest}.html"))).expect("its report");
    assert!(page.contains("is not offered"));
    assert_eq!(handed_out(data), 2, "the detectors alone");
}

/// Rows of a pump's life and the word of maintenance after them, as a device named like the pump would send them.
fn record(server: &mut Server, pump: &'static str, rows: &[FeatureRow], word: &str) {
    // They did not all begin at once.
    let begin = 20 * (pump.bytes().map(u64::from).sum::<u64>() * 53 % 10);
    (server.machine, server.apart_s) = (pump, PERIOD_S as i64);
    server.records(pump, [(begin, report("pump"))].into_iter());
    for part in rows.chunks(50) {
        let features = part.iter().map(|row| (begin + row.index, Payload::Features(row.clone())));
        server.records(pump, features);
    }
    let last = rows.iter().map(|row| row.index).max().unwrap_or_default();
    let what = Name::new(word).expect("a good name");
    server.records(pump, [(begin + last + 1, Payload::Event(Event::Maintenance { what }))].into_iter());
}

/// What the lab answers to being asked for models, once it has seen so many rows.
fn trained(data: &Path, rows: usize) -> Value {
    let lab = Lab::start(data);
    within(60, || (seqs(data).len() == rows).then_some(()));
    let done = ask(data, &json!({ "op": "train", "asset_class": "pump", "seed": 1 })).expect("models");
    lab.terminate();
    done
}

fn handed_out(data: &Path) -> usize {
    let names = std::fs::read_dir(data.join("lab/outbox")).expect("a folder");
    names.filter(|name| name.as_ref().is_ok_and(|name| name.path().to_string_lossy().ends_with(".card.json"))).count()
}

/// What a pump's monitor saw until its bearing failed, which shows as much as `worn` at the end; with a model beside, also what that said.
fn lived(number: u64, worn: f64, model: Option<Vec<u8>>) -> (Vec<FeatureRow>, Vec<Score>) {
    let mut spec = MachineSpec::named("pump");
    let vary = |place: u64| 1.0 + 0.2 * ((number * 7 + place * 13) % 11) as f64 / 11.0;
    (spec.unbalance_g, spec.noise_g) = (spec.unbalance_g * vary(1), spec.noise_g * vary(2));
    spec.load_changes = vec![LoadChange { at_s: 0.0, rpm: spec.nominal_rpm, load: 0.7, ramp_s: 0.0 }];
    let mut monitor = Box::new(Monitor::<Heap>::new(watched(&spec), &mut Heap).expect("a good machine"));
    let digest = model.as_ref().map(|bytes| Digest::of(bytes));
    if let (Some(model), Some(digest)) = (model, digest) {
        monitor.install(Role::Shadow, model, digest, Generation(1), &mut |_| {}).expect("it fits");
    }
    let (mut rows, mut scores) = (Vec::new(), Vec::new());
    let life = 40 + number * 37 % 41;
    let mut block = vec![0.0; WINDOW as usize];
    for window in 0..life {
        let severity = worn * (window as f64 / life as f64).powi(3);
        let fault =
            FaultChange { kind: FaultKind::OuterRace, start_s: 0.0, growth_s: 0.0, severity, growth: Growth::Linear };
        let now = MachineSpec { faults: vec![fault], ..spec.clone() };
        let mut machine = Machine::new(now, number * 1_000 + window).expect("a good machine");
        machine.vibration(Axis::Vertical, &mut block);
        let t = Micros((window as f64 * PERIOD_S * 1e6) as i64);
        let mut see = |output: Output<'_>| match output.what {
            What::Features(row) => rows.push(row.clone()),
            What::Score(score) if Some(score.model) == digest => scores.push(score.clone()),
            What::Score(_) | What::Event(_) | What::Alarm(_) | What::Spectrum(_) | What::State(_) | What::Trip(_) => {}
        };
        monitor.machine_event(t, MachineEvent::Speed(Rpm(spec.nominal_rpm as f32)), &mut see);
        monitor.machine_event(t, MachineEvent::Load(70.0), &mut see);
        let input = Input::Block { t0: t, rate: Hertz(spec.rate_hz as f32), samples: &block };
        let position = window * (PERIOD_S * spec.rate_hz) as u64;
        monitor.push(ChannelId(0), position, input, &mut see).expect("a block in its place");
    }
    (rows, scores)
}

/// One sensor, a window every twenty minutes.
fn watched(spec: &MachineSpec) -> MachineConfig {
    let name = |text: &str| Name::new(text).expect("a good name");
    let mut config = MachineConfig::new(name("pump"));
    let kind = ChannelKind::Vibration { rate: Hertz(spec.rate_hz as f32) };
    config.channels.push(ChannelConfig::new(name("vertical"), Unit::G, kind)).expect("room");
    let (channels, hop) = ([ChannelId(0)].into_iter().collect(), (PERIOD_S * spec.rate_hz) as u32);
    let group = GroupConfig { kind: GroupKind::Vibration, point: name("drive-end"), channels, window: WINDOW, hop };
    config.groups.push(group).expect("room");
    config.nominal_rpm = Some(Rpm(spec.nominal_rpm as f32));
    config.bearing = Orders::catalogue("6205").ok();
    config
}

const PUMPS: [&str; 10] =
    ["pump-0", "pump-1", "pump-2", "pump-3", "pump-4", "pump-5", "pump-6", "pump-7", "pump-8", "pump-9"];
/// How bad a bearing is when it fails.
const WORN: f64 = 0.9;
const PERIOD_S: f64 = 1_200.0;
const PERIOD_H: f64 = PERIOD_S / 3_600.0;
const WINDOW: u32 = 2_048;
