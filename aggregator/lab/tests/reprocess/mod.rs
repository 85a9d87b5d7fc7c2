//! A month of rows under two definitions of a feature, side by side.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kilter_signal::table::{Schema, at};
use kilter_types::{FeatureRow, GroupKind, Micros, OperatingState, Payload, Quality, Rpm};
use serde_json::{Value, json};

use crate::house::{Lab, Server, ask, config, within};
use crate::settled::{QUICK, published, settled};

const MACHINES: [&str; 3] = ["press", "pump", "fan"];
const DAYS: u64 = 30;
/// A window an hour.
const WINDOWS: u64 = DAYS * 24;

/// Root mean square and peak of a window of a machine; any numbers will do that no two windows share.
fn signal(machine: usize, window: u64) -> (f32, f32) {
    let level = 1.0 + machine as f32 + (window % 37) as f32 * 0.01;
    (level, level * (3.0 + ((window * 7 + machine as u64) % 23) as f32 * 0.125))
}

fn payload(machine: usize, window: u64) -> Payload {
    let schema = Schema::of(GroupKind::Vibration, 1);
    let (rms, peak) = signal(machine, window);
    let mut values = [0.0; 51];
    (values[at::RMS], values[at::PEAK]) = (rms, peak);
    Payload::Features(FeatureRow {
        group: 0,
        kind: GroupKind::Vibration,
        index: window,
        start: Micros(0),
        end: Micros(1),
        state: OperatingState::Steady(0),
        rpm: Rpm(1_500.0),
        quality: Quality::GOOD,
        vector: schema.vector(&values, u64::MAX),
    })
}

/// Version 1 is peak over rms; version 2 is that less the median of the last 12 windows of the same point.
fn by_hand(windows: &[Vec<u64>]) -> Vec<(String, u64, f64, f64)> {
    let mut out = Vec::new();
    for (machine, windows) in windows.iter().enumerate() {
        let crest = |window: &u64| {
            let (rms, peak) = signal(machine, *window);
            f64::from(peak) / f64::from(rms)
        };
        for (at, window) in windows.iter().enumerate() {
            let mut seen: Vec<f64> = windows[(at + 1).saturating_sub(12)..=at].iter().map(crest).collect();
            seen.sort_by(f64::total_cmp);
            let median = (seen[(seen.len() - 1) / 2] + seen[seen.len() / 2]) / 2.0;
            out.push((MACHINES[machine].to_owned(), *window, crest(window), crest(window) - median));
        }
    }
    out.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    out
}

fn reprocess(data: &Path, wish: &Value) -> Result<Value, String> {
    ask(data, &json!({ "op": "reprocess", "wish": wish, "who": "ops", "why": "a look" }))
}

/// Waits until every definition has come to what is committed, and to the version of the lake that the lab tells.
fn caught_up(data: &Path) {
    within(120, || {
        let status = ask(data, &json!({ "op": "status" })).ok()?;
        let version = &status["tables"]["features"]["version"];
        let there = |told: &Value| told["done"] == told["of"] && told["lake_version"] == *version;
        status["derived"].as_array()?.iter().all(there).then_some(())
    });
}

/// Both versions of each window, in one question.
fn side_by_side(data: &Path) -> Vec<(String, u64, f64, f64)> {
    let sql = "SELECT a.device, a.seq, a.value AS v1, b.value AS v2 FROM crest_v1 a \
               JOIN crest_v2 b ON a.device = b.device AND a.epoch = b.epoch AND a.seq = b.seq ORDER BY a.device, a.seq";
    let answer = ask(data, &json!({ "op": "query", "sql": sql })).expect("an answer");
    let number = |value: &Value| value.as_f64().expect("a number");
    let row = |row: &Value| {
        let device = row[0].as_str().expect("a device").to_owned();
        (device, row[1].as_u64().expect("a seq"), number(&row[2]), number(&row[3]))
    };
    answer["rows"].as_array().expect("rows").iter().map(row).collect()
}

/// To the last digits, which a way through text may change.
fn same(told: &[(String, u64, f64, f64)], wanted: &[(String, u64, f64, f64)]) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
    let pairs = || told.iter().zip(wanted);
    told.len() == wanted.len() && pairs().all(|(a, b)| (&a.0, a.1) == (&b.0, b.1) && near(a.2, b.2) && near(a.3, b.3))
}

/// Files of finished days, and when they were written.
fn made(data: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let listed = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mark = |path: PathBuf| {
        let mark: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        let values = path.with_file_name(mark["values"].as_str()?);
        Some((values.clone(), values.metadata().ok()?.modified().ok()?))
    };
    let folders = listed(&data.join("lab/derived")).into_iter().filter(|path| path.is_dir());
    folders
        .flat_map(|folder| listed(&folder))
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .filter_map(mark)
        .collect()
}

#[test]
fn s4_08_thirty_days_under_two_definitions_are_told_side_by_side_and_follow_what_comes_and_goes() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, &format!("{QUICK}[query]\nmax_rows = 100000\n"));
    let mut server = Server::open(data, 9, Vec::new());
    server.apart_s = 3_600;
    // Three windows of the first machine come late.
    let late = [100, 101, 400];
    let mut windows: Vec<Vec<u64>> = MACHINES.iter().map(|_| (0..WINDOWS).collect()).collect();
    windows[0].retain(|window| !late.contains(window));
    for (machine, windows) in windows.iter().enumerate() {
        server.machine = MACHINES[machine];
        for part in windows.chunks(300) {
            server.records(MACHINES[machine], part.iter().map(|window| (*window, payload(machine, *window))));
        }
    }
    let running = settled(data, &server);

    // Refused before anything is computed: what, where and what would do.
    for (expression, wanted) in [("peek / rms", "character 1: 'peek'"), ("AVG(rms)", "rolling_mean")] {
        let said = reprocess(data, &json!({ "do": "define", "name": "crest", "expression": expression }));
        assert!(said.expect_err("refused").contains(wanted), "{expression}");
    }
    assert!(reprocess(data, &json!({ "do": "define", "name": "Crest!", "expression": "rms" })).is_err());
    assert!(reprocess(data, &json!({ "do": "run", "name": "crest" })).expect_err("none").contains("reprocess list"));
    let first = json!({ "do": "define", "name": "crest", "expression": "peak / rms" });
    let told = reprocess(data, &first).expect("defined");
    assert_eq!(told, json!({ "table": "crest_v1", "version": 1, "reads": ["peak", "rms"] }));
    assert!(reprocess(data, &first).expect_err("again").contains("version 1 says the same"));
    let second = "peak / rms - rolling_median(peak / rms, 12)";
    reprocess(data, &json!({ "do": "define", "name": "crest", "expression": second })).expect("defined");
    assert_eq!(made(data).len(), 0, "a definition alone computes nothing");

    // The second version is computed while the lab is killed; what was done is not done again.
    let rows = WINDOWS * 3 - 3;
    let done = reprocess(data, &json!({ "do": "run", "name": "crest", "version": 1 })).expect("computed");
    assert_eq!((&done["table"], &done["rows"]), (&json!("crest_v1"), &json!(rows)));
    let all = made(data).len();
    let asking = std::thread::spawn({
        let data = data.to_owned();
        move || reprocess(&data, &json!({ "do": "run", "name": "crest" }))
    });
    within(120, || (made(data).len() > all + 2).then_some(()));
    running.kill();
    drop(asking.join().expect("it ends"));
    let before = made(data);
    let running = Lab::start(data);
    caught_up(data);
    assert!(same(&side_by_side(data), &by_hand(&windows)));
    let after = made(data);
    assert!(before.iter().all(|(path, at)| after.get(path) == Some(at)), "a day was computed twice");

    // Late rows change their windows and those that look back at them; an erasure takes its rows out of both.
    server.machine = MACHINES[0];
    server.records(MACHINES[0], late.into_iter().map(|window| (window, payload(0, window))));
    published(data, &server);
    windows[0] = (0..WINDOWS).collect();
    caught_up(data);
    assert!(same(&side_by_side(data), &by_hand(&windows)));
    let (from_us, to_us) = (200 * 3_600_000_000_i64, 300 * 3_600_000_000_i64 - 1);
    let erase = json!({ "op": "erase", "equals": { "device": "pump" }, "from_us": from_us, "to_us": to_us, "who": "a", "why": "b" });
    ask(data, &erase).expect("erased");
    assert!(!side_by_side(data).iter().any(|row| row.0 == "pump" && (200..300).contains(&row.1)), "gone at once");
    windows[1].retain(|window| !(200..300).contains(window));
    caught_up(data);
    assert!(same(&side_by_side(data), &by_hand(&windows)));

    // A part of the past only; and a version that nobody wants any more.
    let range = json!({ "do": "run", "name": "crest", "version": 1, "from_us": 86_400_000_000_i64, "to_us": 2 * 86_400_000_000_i64 - 1 });
    assert_eq!(reprocess(data, &range).expect("computed")["rows"], 3 * 24);
    reprocess(data, &json!({ "do": "drop", "name": "crest", "version": 1 })).expect("dropped");
    let gone = ask(data, &json!({ "op": "query", "sql": "SELECT value FROM crest_v1" }));
    assert!(gone.expect_err("dropped").contains("crest_v1"));
    let list = reprocess(data, &json!({ "do": "list" })).expect("a list");
    let told: Vec<_> =
        list.as_array().expect("a list").iter().map(|told| (&told["table"], &told["expression"])).collect();
    assert_eq!(told, [(&json!("crest_v2"), &json!(second))]);
    let audit = std::fs::read_to_string(data.join("lab/audit.jsonl")).expect("the audit");
    assert!(audit.contains("Define") && audit.contains("Drop") && audit.contains("\"ops\""), "{audit}");
    let past = ask(data, &json!({ "op": "query", "sql": "SELECT value FROM crest_v2", "as_of_us": 1 }));
    assert!(past.expect_err("now only").contains("as they are now"));
    running.terminate();
}
