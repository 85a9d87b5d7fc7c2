//! The binary as agents and tests meet it: over the sensor socket, the control API and its log files.

mod agent;
mod sim;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use agent::{Agent, subscribe};
use serde_json::Value;
use sim::{Sim, run};

#[test]
fn an_agent_that_is_cut_off_and_comes_back_has_every_sample_once_and_the_log_agrees() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("expected.jsonl");
    let truth = folder.path().join("truth.jsonl");
    let sim = Sim::start(&[
        "plant",
        "--speed",
        "max",
        "--duration",
        "20",
        "--seed",
        "3",
        "--start",
        "2026-01-01T00:00:00Z",
        "--log",
        text(&log),
        "--truth",
        text(&truth),
    ]);
    let whole = Agent::default().subscribed(&sim, "pump-1", None).until_end();

    let first = Agent::default().subscribed(&sim, "pump-1", Some(700));
    let again = first.subscribed(&sim, "pump-1", Some(333)).subscribed(&sim, "pump-1", None).until_end();
    assert_eq!(whole.channels, again.channels);
    assert_eq!(whole.channels["vertical"].samples.len(), 20 * 12_800);
    assert_eq!(whole.channels["temperature"].samples.len(), 20);
    assert_eq!(whole.channels["vertical"].t0_us, 1_767_225_600_000_000);
    assert!(again.skipped.is_empty());
    for other in ["pump-2", "pump-3", "fan-1", "fan-2", "motor-1", "motor-2", "motor-3"] {
        Agent::default().subscribed(&sim, other, None).until_end();
    }
    sim.stop();

    let lines = read_lines(&log);
    let mut produced = BTreeMap::<(String, String), u64>::new();
    for line in lines.iter().filter(|line| line["event"] == "produced") {
        let key = (word(&line["asset"]), word(&line["channel"]));
        let next = produced.entry(key).or_default();
        assert_eq!(line["from"].as_u64(), Some(*next), "runs of one channel join: {line}");
        *next = line["to"].as_u64().expect("a position");
    }
    assert_eq!(produced[&("pump-1".to_owned(), "vertical".to_owned())], 256_000);
    assert_eq!(produced[&("fan-1".to_owned(), "horizontal".to_owned())], 128_000);
    assert_eq!(lines.iter().filter(|line| line["event"] == "ended").count(), 8);
    let connections = lines.iter().filter(|line| line["event"] == "connected" && line["asset"] == "pump-1").count();
    assert_eq!(connections, 4);
    let truths = read_lines(&truth);
    assert!(truths.iter().filter(|line| line["asset"] == "pump-1").count() >= 20);
    assert!(truths.iter().all(|line| line["truth"]["faults"] == serde_json::json!([])));
}

#[test]
fn the_same_seed_serves_the_same_bits_and_a_fault_set_live_is_in_truth_and_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("expected.jsonl");
    let run = |fault: bool| {
        let sim =
            Sim::start(&["plant", "--speed", "50", "--seed", "9", "--control", "127.0.0.1:0", "--log", text(&log)]);
        if fault {
            let body = r#"{"asset":"fan-2","kind":"unbalance","severity":1.0}"#;
            let (status, answer) = sim.post("/fault", body);
            assert_eq!(status, 200, "{answer}");
            assert!(answer["starts_us"].as_i64() > Some(0));
            let (status, answer) = sim.post("/load", r#"{"asset":"fan-2","rpm":900,"load":0.9}"#);
            assert_eq!(status, 200, "{answer}");
        }
        let agent = Agent::default().subscribed(&sim, "fan-2", Some(300));
        let (status, _) = sim.post("/end", "");
        assert_eq!(status, 200);
        let (_, truth) = sim.get("/truth");
        (agent.until_end_of(&sim, "fan-2"), truth, sim.stop())
    };
    let (healthy, truth, summary) = run(false);
    assert_eq!(summary["by"], "signal");
    assert!(machine(&truth, "fan-2")["faults"].as_array().is_some_and(Vec::is_empty));
    let (faulty, truth, _) = run(true);
    assert_eq!(machine(&truth, "fan-2")["faults"][0]["kind"], "unbalance");
    assert_eq!(machine(&truth, "fan-2")["rpm"], 900.0);
    let (a, b) = (&healthy.channels["horizontal"].samples, &faulty.channels["horizontal"].samples);
    let onset = a.iter().zip(b).position(|(a, b)| a != b).expect("the fault shows");
    let rms = |x: &[u32]| (x.iter().map(|x| f32::from_bits(*x).powi(2)).sum::<f32>() / x.len() as f32).sqrt();
    assert!(rms(&b[onset..]) > 2.0 * rms(a), "{} against {}", rms(&b[onset..]), rms(a));
    let commanded = read_lines(&log).into_iter().filter(|line| line["event"] == "commanded").count();
    assert_eq!(commanded, 2);
}

#[test]
fn bad_commands_are_refused_with_a_reason_and_change_nothing() {
    let sim = Sim::start(&["plant", "--control", "127.0.0.1:0"]);
    let cases = [
        ("/fault", r#"{"asset":"nobody","kind":"cage","severity":1}"#, 404, "pump-1"),
        ("/fault", r#"{"asset":"pump-1","kind":"gremlin","severity":1}"#, 400, "gremlin"),
        ("/fault", r#"{"asset":"pump-1","kind":"cage","severity":7}"#, 422, "severity"),
        ("/fault", r#"{"asset":"pump-1","kind":"cage","severity":1,"when":3}"#, 400, "when"),
        ("/load", r#"{"asset":"pump-1","rpm":-1,"load":1}"#, 422, "rpm"),
        ("/speed", r#"{"speed":0}"#, 422, "speed"),
        ("/load", "\u{0}", 400, ""),
    ];
    for (path, body, expected, mentioned) in cases {
        let (status, answer) = sim.post(path, body);
        assert_eq!(status, expected, "{path} {body}: {answer}");
        assert!(word(&answer["error"]).contains(mentioned), "{answer}");
    }
    let (_, truth) = sim.get("/truth");
    assert!(machine(&truth, "pump-1")["faults"].as_array().is_some_and(Vec::is_empty));
    sim.stop();
}

#[test]
fn a_real_sensor_drops_what_is_older_than_its_history_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("expected.jsonl");
    let sim = Sim::start(&[
        "plant",
        "--speed",
        "100000",
        "--when-behind",
        "drop",
        "--history",
        "2",
        "--history-kib",
        "0",
        "--duration",
        "30",
        "--log",
        text(&log),
    ]);
    // The first reading of another machine's end shows that nothing waits for readers.
    let agent = Agent::default().subscribed(&sim, "motor-3", None).until_end();
    let produced = 30 * 12_800;
    let held = agent.channels["vertical"].samples.len() as u64;
    let skipped: u64 = agent.skipped.iter().filter(|(channel, _)| channel == "vertical").map(|(_, count)| count).sum();
    assert_eq!(held + skipped, produced);
    sim.stop();
    let told: u64 = read_lines(&log)
        .iter()
        .filter(|line| line["event"] == "skipped" && line["channel"] == "vertical" && line["asset"] == "motor-3")
        .map(|line| line["to"].as_u64().unwrap_or(0) - line["from"].as_u64().unwrap_or(0))
        .sum();
    assert_eq!(told, skipped);
}

#[test]
fn garbage_strangers_and_taken_ports_do_no_harm() {
    let sim = Sim::start(&["plant", "--speed", "max", "--duration", "1"]);
    let mut garbage = TcpStream::connect(sim.listen).expect("connected");
    garbage.write_all(&[0x4b, 1, 4, 0, 255, 255, 255, 255, 1, 2, 3]).expect("written");
    assert_eq!(garbage.read(&mut [0; 8]).unwrap_or(0), 0, "closed");
    let mut stranger = TcpStream::connect(sim.listen).expect("connected");
    subscribe(&mut stranger, "nobody", &[]);
    assert_eq!(stranger.read(&mut [0; 8]).unwrap_or(0), 0, "closed");

    let taken = run(&["plant", "--listen", &sim.listen.to_string()]);
    let error = String::from_utf8_lossy(&taken.stderr);
    assert!(!taken.status.success() && error.contains("is the port taken?"), "{error}");
    assert_eq!(
        Agent::default().subscribed(&sim, "pump-3", None).until_end().channels["vertical"].samples.len(),
        12_800
    );
    sim.stop();
}

#[test]
fn a_plant_whose_end_every_agent_has_had_stops_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = folder.path().join("plant.toml");
    let machine = "[[machine]]\nagent = \"a\"\nclass = \"pump\"\nspec = { name = \"p\", rate_hz = 8000 }";
    std::fs::write(&spec, machine).expect("written");
    let sim = Sim::start(&["plant", "--spec", text(&spec), "--speed", "max", "--duration", "5", "--linger", "0"]);
    let agent = Agent::default().subscribed(&sim, "p", None).until_end();
    assert_eq!(agent.channels["vertical"].samples.len(), 40_000);
    let summary = sim.wait();
    assert_eq!((&summary["by"], &summary["assets"][0]["produced"]["vertical"]), (&"end".into(), &40_000.into()));
}

#[test]
fn wrong_arguments_name_what_is_possible() {
    let cases: [(&[&str], &str); 6] = [
        (&["plant", "--speed", "0"], "0.001 to 1000000"),
        (&["plant", "--speed", "max", "--when-behind", "drop"], "--when-behind hold"),
        (&["plant", "--spec", "/nowhere/plant.toml"], "/nowhere/plant.toml"),
        (&["replay", "--data", "/nowhere", "--set", "mnist"], "cwru, skab"),
        (&["replay", "--data", "/nowhere", "--set", "cwru"], "meta.json"),
        (&["machine", "--out", "/nowhere/x.npy", "--fault", "rust"], "inner_race"),
    ];
    for (args, mentioned) in cases {
        let output = run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(mentioned), "{args:?}: {error}");
    }
}

#[test]
fn a_machine_file_can_be_read_back_as_a_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("inner.npy");
    let output = run(&["machine", "--fault", "inner_race", "--severity", "0.8", "--seconds", "2", "--out", text(&out)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let declaration = kilter_recording::Declaration {
        rate: Some(kilter_types::Hertz(12_800.0)),
        unit: Some(kilter_types::Unit::G),
        ..kilter_recording::Declaration::default()
    };
    let recording = kilter_recording::open(&out, &declaration).expect("a recording");
    assert_eq!(recording.samples(kilter_types::ChannelId(0)).len(), 25_600);
    let truth: Value =
        serde_json::from_str(&std::fs::read_to_string(out.with_extension("json")).expect("text")).expect("JSON");
    assert_eq!(truth["truth"]["faults"][0]["severity"], 0.8);
}

#[test]
fn data_sets_are_replayed_as_they_are() {
    let Some(data) = std::env::var_os("KILTER_DATA") else {
        println!("not run: 4 (KILTER_DATA is not set)");
        return;
    };
    let data = data.to_string_lossy().into_owned();
    let replay = |set: &str, more: &[&str]| {
        let mut args = vec!["replay", "--data", &data, "--set", set, "--speed", "max"];
        args.extend(more);
        Sim::start(&args)
    };
    let sim = replay("nab", &["--asset", "oven"]);
    let nab = Agent::default().subscribed(&sim, "oven", Some(9_000)).subscribed(&sim, "oven", None).until_end();
    assert_eq!((nab.channels["temperature"].samples.len(), nab.clock_back), (11_347, 1));
    sim.stop();

    let sim = replay("skab", &["--file", "valve1-0"]);
    let skab = Agent::default().subscribed(&sim, "valve1-0", None).until_end();
    assert_eq!(skab.channels.len(), 8);
    sim.stop();

    let sim = replay("cwru", &["--file", "105_IR007_0_DE_12k.npy", "--asset", "motor"]);
    let cwru = Agent::default().subscribed(&sim, "motor", None).until_end();
    assert_eq!((cwru.channels["ch1"].samples.len(), cwru.channels["ch1"].rate_hz), (121_265, Some(12_000.0)));
    assert_eq!(cwru.channels["speed"].samples, vec![1797.0f32.to_bits(); 11]);
    sim.stop();

    let sim = replay("cmapss", &["--file", "train_FD001-1"]);
    let engine = Agent::default().subscribed(&sim, "train_fd001-1", None).until_end();
    assert_eq!((engine.channels["engine"].samples.len(), engine.cycles), (192 * 24, 192));
    let cycles = &engine.channels["engine"];
    assert!(cycles.t0_us > 365 * 86_400 * 1_000_000, "a replay begins at its start and not in 1970");
    assert_eq!((cycles.last_us - cycles.t0_us) % 191, 0, "cycles are one declared period apart");
    assert!(cycles.last_us > cycles.t0_us && engine.clock_back == 0);
    sim.stop();
}

fn read_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn machine<'v>(truth: &'v Value, name: &str) -> &'v Value {
    let machines = truth["machines"].as_array().expect("machines");
    &machines.iter().find(|machine| machine["asset"] == name).expect("the machine")["truth"]
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}
