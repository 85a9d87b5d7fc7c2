//! A back-test over a real lake gives the scores that a monitor recorded, bit for bit, and says where it can't.

mod plant;

use std::path::Path;
use std::process::{Command, Output};

use kilter_infer::{Body, Draft, Range, ResetRule, Scratch, State};
use kilter_monitor::{Carve, ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Monitor, What, needed};
use kilter_signal::table::Schema;
use kilter_types::{
    Cause, ChannelId, Digest, Event, FeatureRow, Generation, GroupKind, Input, Label, Micros, Name, Payload, Role, Unit,
};
use serde_json::Value;

use crate::house::{Lab, Server, config, seqs, within};

const WIDTH: usize = 3;
/// The model takes over before this cycle.
const SWITCH: u64 = 60;
/// The machine's own hole: five cycles that never came.
const HOLE: std::ops::Range<u64> = 200..205;
/// A window that the device judged and the lake never got; a hole of the device's own ends the uncertainty.
const LOST: u64 = 260;
const SECOND_HOLE: std::ops::Range<u64> = 290..292;
/// From here on it is faulty.
const FAULT: u64 = 340;
const END: u64 = 400;

#[test]
fn the_incumbent_replayed_says_what_the_device_recorded_and_lead_time_stands_against_false_alarms() {
    let told = live();
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[commit]\nmax_wait_ms = 50\n");
    let mut server = Server::open(data, 9, Vec::new());
    let numbered = |payloads: Vec<Payload>| (0_u64..).zip(payloads).collect::<Vec<_>>();
    let rows = told.rows.iter().filter(|row| row.index != LOST).cloned().map(Payload::Features);
    let rows = numbered(rows.collect());
    let (count, scores) = (rows.len() as u64, numbered(told.scores.into_iter().map(Payload::Score).collect()));
    let recorded = scores.len();
    let (from, to) = (Micros::from_secs(FAULT as i64 - 20), Micros::from_secs(END as i64));
    let label = Event::Labelled { from, to, label: Label::Faulty(Cause::Unclear) };
    let events = numbered(vec![Payload::Event(told.switched), Payload::Event(label)]);
    for payloads in [rows, scores, events] {
        payloads.chunks(40).for_each(|part| server.records("press", part.iter().cloned()));
    }
    let lab = Lab::start(data);
    within(60, || (seqs(data).len() as u64 == count).then_some(()));
    // The way out commits.
    lab.terminate();
    let artifact = data.join("press.kltm");
    std::fs::write(&artifact, &told.artifact).expect("a file");

    let done = backtest(data, &["--model", artifact.to_str().expect("a path")]);
    let compared = &done["compared"];
    assert_eq!(compared["other"], 0, "{done}");
    // Nobody knows what the device remembered from the lost window to the next hole, of which the row itself tells.
    let unknown = SECOND_HOLE.start - LOST - 1;
    assert_eq!(compared["not_comparable"], unknown, "{done}");
    assert_eq!(compared["same"].as_u64(), Some(recorded as u64 - unknown - 1), "{done}");
    let ranges = compared["ranges"].as_array().expect("ranges");
    let lost = ranges.iter().find(|range| range["first"] == LOST + 1).expect("the windows after it are listed");
    assert_eq!(lost["last"], SECOND_HOLE.start - 1);
    assert!(lost["why"].as_str().expect("a cause").contains("rows are missing"), "{lost}");
    // Before its switch the model is replayed too: the device recorded nothing of it.
    assert_eq!(compared["not_recorded"], SWITCH - 2, "{done}");

    let curve = done["curve"].as_array().expect("a curve");
    let of = |key: &str| curve.iter().map(|step| step[key].as_f64().unwrap_or(f64::NAN)).collect::<Vec<_>>();
    let (times, wrong, found) = (of("times"), of("false_alarms"), of("found"));
    assert!(times.is_sorted() && wrong.first() >= wrong.last(), "{curve:?}");
    let own = &curve[times.iter().position(|times| *times == 1.0).expect("the own threshold")];
    assert_eq!((&own["false_alarms"], &own["found"]), (&0.into(), &1.into()), "{own}");
    let lead_h = own["median_lead_h"].as_f64().expect("a lead");
    assert!(lead_h > 0.0 && lead_h < (END - FAULT + 20) as f64 / 3_600.0, "{lead_h}");
    assert!(found.iter().all(|found| *found <= 1.0));
    assert!(done["times_real_time"].as_f64().expect("a rate") > 0.0);

    // Another threshold, and none that is ever reached.
    let high = backtest(data, &["--model", artifact.to_str().expect("a path"), "--threshold", "1e9"]);
    assert!(high["curve"].as_array().expect("a curve").iter().all(|step| step["alarms"] == 0), "{high}");
    // A rule on the column that the fault moves.
    let rule = backtest(data, &["--rule", "c00>3.0"]);
    assert_eq!(rule["curve"][4]["found"], 1, "{rule}");
    // Before anything was committed there was nothing to replay.
    let none = run(data, &["--rule", "c00>3.0", "--as-of", "1"]);
    assert!(!none.status.success());
    let wrong = run(data, &["--rule", "c00=3.0"]);
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("FEATURE>LIMIT"), "{said}");
}

/// What a device said, live.
struct Told {
    artifact: Vec<u8>,
    rows: Vec<FeatureRow>,
    scores: Vec<kilter_types::Score>,
    switched: Event,
}

/// A press on the production monitor: cycles of three columns, a model after a minute, holes, a fault at the end.
fn live() -> Told {
    let config = press();
    let needed = needed(&config).expect("a good configuration");
    let (mut floats, mut times) = (vec![0.0; needed.floats], vec![Micros(0); needed.times]);
    let mut memory = Carve::new(&mut floats, &mut times);
    let artifact = trained(&healthy());
    let digest = Digest::of(&artifact);
    let mut monitor = Box::new(Monitor::<Carve<'_>, 1, 64>::new(config, &mut memory).expect("memory"));
    let (mut rows, mut scores, mut switched) = (Vec::new(), Vec::new(), None);
    for cycle in 0..END {
        let mut sink = |output: kilter_monitor::Output<'_>| match output.what {
            What::Features(row) => rows.push(row.clone()),
            What::Score(score) if score.model == digest => scores.push(score.clone()),
            What::Event(event @ Event::ModelSwitched { .. }) => switched = Some(event.clone()),
            What::Score(_) | What::Event(_) | What::Alarm(_) | What::Spectrum(_) | What::State(_) | What::Trip(_) => {}
        };
        if cycle == SWITCH {
            monitor.install(Role::Leader, &artifact, digest, Generation(1), &mut sink).expect("a good model");
        }
        if !HOLE.contains(&cycle) && !SECOND_HOLE.contains(&cycle) {
            let row = values(cycle);
            let t = Some(Micros::from_secs(cycle as i64));
            let input = Input::Cycle { n: cycle as u32, t, row: &row };
            monitor.push(ChannelId(0), cycle, input, &mut sink).expect("a cycle fits");
        }
    }
    drop(monitor);
    Told { artifact, rows, scores, switched: switched.expect("the switch is told") }
}

fn press() -> MachineConfig {
    let name = |text: &str| Name::new(text).expect("a good name");
    let mut config = MachineConfig::new(name("press"));
    let kind = ChannelKind::Cycle { width: WIDTH as u8 };
    config.channels.push(ChannelConfig::new(name("stroke"), Unit::One, kind)).expect("room");
    let channels = [ChannelId(0)].into_iter().collect();
    let group = GroupConfig { kind: GroupKind::Cycle, point: name("drive-end"), channels, window: 1, hop: 1 };
    config.groups.push(group).expect("room");
    config
}

fn healthy() -> Vec<[f32; WIDTH]> {
    (0..SWITCH).map(values).collect()
}

/// One cycle: noise, and a first column that grows when the press is faulty.
fn values(cycle: u64) -> [f32; WIDTH] {
    let mut bits = (cycle + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    std::array::from_fn(|column| {
        bits = (bits ^ (bits >> 31)).wrapping_mul(0xd1b5_4a32_d192_ed03);
        let noise = (bits >> 40) as f32 / 16_777_216.0 - 0.5;
        let fault = if column == 0 { cycle.saturating_sub(FAULT) as f32 * 0.2 } else { 0.0 };
        1.0 + column as f32 + noise + fault
    })
}

/// A statistic of three rows.
fn trained(rows: &[[f32; WIDTH]]) -> Vec<u8> {
    let count = rows.len() as f32;
    let mean: [f32; WIDTH] = std::array::from_fn(|i| rows.iter().map(|row| row[i]).sum::<f32>() / count);
    let scale = mean.map(|_| 1.0 / 0.29);
    let golden: Vec<f32> = rows[..3].concat();
    let schema = Schema::of(GroupKind::Cycle, WIDTH);
    let draft = Draft {
        group: GroupKind::Cycle,
        features: schema.features(),
        mean: &mean,
        inverse_scale: &scale,
        range: &[Range::ANY; WIDTH],
        weight: &[1.0 / WIDTH as f32; WIDTH],
        regimes: &[],
        threshold: 4.0,
        input_clip: 50.0,
        residual_clip: 50.0,
        sequence_len: 3,
        reset: ResetRule::ALWAYS,
        body: Body::Statistic { ewma: 0.5 },
        golden: &golden,
    };
    let mut bytes = vec![0; draft.size_bytes()];
    draft.write(&mut bytes, &mut State::<64>::new(), &mut Scratch::new()).expect("a good draft");
    bytes
}

fn backtest(data: &Path, arguments: &[&str]) -> Value {
    let json = data.join("backtest.json");
    let output = run(data, &[arguments, &["--json", json.to_str().expect("a path")]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("times real time") && printed.contains("median lead"), "{printed}");
    serde_json::from_slice(&std::fs::read(&json).expect("a file")).expect("JSON")
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kilter-lab"));
    command.arg("backtest").args(arguments).arg("--data").arg(data).output().expect("it runs")
}
