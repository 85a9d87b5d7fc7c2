//! The interlock: an agent alone, without any server, trips a machine on time, holds it over a `kill -9` and lets only a person release it.

mod afar;

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, ensure};
use kilter_tests::{Bins, House, Options, Ports, Tuning, agent_config, free_port, get, npy};
use serde_json::{Value, json};

const RATE_HZ: usize = 12_800;
/// Velocity needs two turns at 10 Hz.
const WINDOW: usize = 2560;
const TUNING: Tuning = Tuning {
    commissioning_windows: 12,
    window: WINDOW as u32,
    temperature_window: 10,
    period_secs: 1.0,
    report_secs: 1.0,
};
/// From the end of the deciding window until the trip is told, on a machine that builds and tests beside it.
const TRIP_MS: f64 = 1000.0;
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_trip_is_on_time_without_a_server_holds_over_a_kill_and_only_a_person_releases_it() {
    journey(|house, page| {
        house.start_plant()?;
        let mut machines: Vec<_> = house.machines.iter().collect();
        // The protection is written behind the last one: pump-1.
        machines.reverse();
        let config = agent_config(&machines, house.ports.sensor, &page.to_string(), &TUNING);
        let config = config.replace("bundle = \"bundle.toml\"", "bundle = \"\"\ncheckpoint_secs = 3600.0");
        install(house, &format!("{config}{PROTECTION}{ALARM}"))?;
        house.start_agent("edge")?;
        house.wait_for("the first windows of both", PATIENCE, |house| {
            let running = ["pump-1", "pump-2"].iter().all(|asset| velocity(page, asset).is_some());
            (running && output(house) == "0\n").then_some(())
        })?;
        ensure!(told(house, "trip").is_empty(), "tripped before anything happened");

        for asset in ["pump-1", "pump-2"] {
            house.control("/fault", &json!({ "asset": asset, "kind": "unbalance", "severity": 1.0 }))?;
        }
        let trip = house.wait_for("the trip", PATIENCE, |house| told(house, "trip").pop())?;
        ensure!(output(house) == "1\n", "the trip was told before the output was set");
        on_time(house, &trip)?;
        let trips = "by Protection";
        let record = house.wait_for("the trip's record", PATIENCE, |house| {
            journalled(house).ok()?.into_iter().find(|line| line.contains(trips))
        })?;
        ensure!(record.contains("Raised Danger") && record.contains("/pump-1/"), "the record says {record}");
        house.wait_for("pump-2 as bad, and not tripped", PATIENCE, |_| {
            let bad = velocity(page, "pump-2")? > LIMIT;
            (bad && standing(page, "pump-2")?["tripped"] == false).then_some(())
        })?;

        // The machine is well again, the agent is killed: it stays tripped, and is not tripped a second time.
        for asset in ["pump-1", "pump-2"] {
            house.control("/fault", &json!({ "asset": asset, "kind": "unbalance", "severity": 0.0 }))?;
        }
        house.wait_for("quiet windows", PATIENCE, |_| (velocity(page, "pump-1")? < LIMIT).then_some(()))?;
        ensure!(output(house) == "1\n", "released by itself");
        again(house, page)?;
        house.wait_for("quiet windows after the restart", PATIENCE, |_| {
            (velocity(page, "pump-1")? < LIMIT).then_some(())
        })?;
        let now = standing(page, "pump-1").context("the agent's page")?;
        ensure!(now["tripped"] == true && now["trips"] == 0, "after the restart: {now}");
        ensure!(output(house) == "1\n", "released by a restart");

        // Only the command releases it, and only for the machine that it names.
        let wrong = reset(house, "pump-3")?;
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        ensure!(wrong.status.code() == Some(1) && said.contains("pump-2, pump-1"), "a wrong name: {said}");
        ensure!(reset(house, "pump-2")?.status.success(), "the reset of pump-2 was not taken");
        let before = windows(page).context("the agent's page")?;
        house.wait_for("two windows after that", PATIENCE, |_| (windows(page)? >= before + 2).then_some(()))?;
        let now = standing(page, "pump-1").context("the agent's page")?;
        ensure!(now["tripped"] == true && output(house) == "1\n", "released by another machine's reset: {now}");
        ensure!(reset(house, "pump-1")?.status.success(), "the reset of pump-1 was not taken");
        house.wait_for("the release", PATIENCE, |house| {
            (standing(page, "pump-1")?["tripped"] == false && output(house) == "0\n").then_some(())
        })?;
        let records = house.wait_for("the reset's record", PATIENCE, |house| {
            let mut records = journalled(house).ok()?;
            records.retain(|line| line.contains(trips));
            (records.len() == 2).then_some(records)
        })?;
        ensure!(records[1].contains("Cleared") && records[1].contains("/pump-1/"), "the reset left {records:?}");
        let named = house.wait_for("the records of both resets", PATIENCE, |house| {
            let mut events = dumped(house, "event").ok()?;
            events.retain(|line| line.contains("Reset"));
            (events.len() == 2).then_some(events)
        })?;
        let whose = named.iter().all(|line| line.contains("r. meier"));
        ensure!(whose && named[1].contains("/pump-1/"), "the resets left {named:?}");
        let resets = told(house, "reset");
        let by: Vec<_> = resets.iter().map(|line| (&line["asset"], &line["by"])).collect();
        ensure!(by == [(&json!("pump-2"), &json!("r. meier")), (&json!("pump-1"), &json!("r. meier"))], "{resets:?}");
        again(house, page)?;
        house.wait_for("a window after the second restart", PATIENCE, |_| velocity(page, "pump-1"))?;
        let now = standing(page, "pump-1").context("the agent's page")?;
        ensure!(now["tripped"] == false && output(house) == "0\n", "tripped again by a restart: {now}");
        ensure!(told(house, "trip") == [trip], "told {:?}", told(house, "trip"));
        Ok(())
    });
}

#[test]
fn a_stuck_or_mute_sensor_neither_trips_nor_releases_and_without_the_section_nothing_trips() {
    journey(|house, page| {
        let mut config = format!("data = \"data\"\nbundle = \"\"\n[http]\nlisten = \"{page}\"\n");
        for (asset, protected) in [("bad", true), ("loud", true), ("open", false)] {
            config.push_str(
                &RECORDED.replace("NAME", asset).replace("FILE", if asset == "bad" { "bad" } else { "loud" }),
            );
            config.push_str(if protected { PROTECTION } else { "" });
        }
        install(house, &format!("{config}{}", ALARM.replace("danger", "alarm")))?;
        let (healthy, loud) = (|i| wave(i, 0.1), |i| wave(i, 1.0));
        let (mute, stuck) = (|_| f32::NAN, |_| 50.0);
        let bad: [(usize, &dyn Fn(usize) -> f32); 4] = [(10, &healthy), (10, &mute), (10, &stuck), (5, &healthy)];
        // One window in three is loud and the others say nothing: the third loud one trips, and what follows releases nothing.
        let mut noisy: Vec<(usize, &dyn Fn(usize) -> f32)> = vec![(10, &healthy)];
        for _ in 0..4 {
            noisy.extend([(1, &loud as &dyn Fn(usize) -> f32), (2, &mute)]);
        }
        noisy.extend(bad);
        for (name, pieces) in [("bad", &bad[..]), ("loud", &noisy)] {
            fs::write(house.agent_dir("edge").join(format!("{name}.npy")), npy(&record(pieces)))?;
        }
        house.start_agent("edge")?;
        house.wait_for("the ends of the recordings", PATIENCE, |_| {
            ["bad", "loud", "open"]
                .iter()
                .all(|asset| standing(page, asset).is_some_and(|m| m["ended"] == true))
                .then_some(())
        })?;
        let sensor = house.wait_for("the sensor's alarm", PATIENCE, |house| {
            told(house, "alarm").into_iter().find(|line| line["asset"] == "bad" && line["cause"] == "sensor")
        })?;
        println!("{sensor}");
        house.wait_for("the output", PATIENCE, |house| (output(house) == "1\n").then_some(()))?;
        for (asset, trips) in [("bad", 0), ("loud", 1), ("open", 0)] {
            let now = standing(page, asset).context("the agent's page")?;
            ensure!(now["trips"] == trips && now["tripped"] == (trips == 1), "{asset}: {now}");
        }
        let lines = told(house, "trip");
        ensure!(lines.len() == 1 && lines[0]["asset"] == "loud", "{lines:?}");
        // The third loud window: ten healthy ones, then the seventh.
        let end_us = 17 * (WINDOW * 1_000_000 / RATE_HZ) as i64;
        ensure!(lines[0]["at_us"] == end_us, "{} and not at {end_us}", lines[0]);
        Ok(())
    });
}

/// Runs one journey with an address for the agent's page; on failure everything is kept to look at.
fn journey(tell: impl FnOnce(&mut House, SocketAddr) -> anyhow::Result<()>) {
    let Some(bins) = Bins::built(&["kilter-agent", "kilter-aggregator", "kilter-sim"]) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let run = || {
        let spec = dir.path().join("plant.toml");
        fs::write(&spec, PLANT).context("write the plant")?;
        let options = Options {
            seed: 3,
            speed: 1.0,
            spec: Some(spec),
            tuning: TUNING,
            probation_secs: 1,
            lab_arguments: Vec::new(),
            broker: String::new(),
        };
        let mut house = House::new(bins, dir.path(), Ports::free()?, options)?;
        let page = SocketAddr::from(([127, 0, 0, 1], free_port().context("a free port")?));
        tell(&mut house, page)?;
        house.stop()
    };
    if let Err(error) = run() {
        panic!("{error:#}\nlogs and data are kept in {}", dir.keep().display());
    }
}

fn install(house: &House, config: &str) -> anyhow::Result<()> {
    let dir = house.agent_dir("edge");
    fs::create_dir_all(&dir).context("create the agent's folder")?;
    fs::write(dir.join("agent.toml"), config).context("write the agent's config")
}

/// `kill -9`, and the agent again.
fn again(house: &mut House, page: SocketAddr) -> anyhow::Result<()> {
    house.kill_agent("edge")?;
    house.start_agent("edge")?;
    house
        .wait_for("the agent again", PATIENCE, |_| standing(page, "pump-1").filter(|now| now["connected"] == true))
        .map(drop)
}

/// Line and output within the bound after the end of the deciding window.
fn on_time(house: &House, trip: &Value) -> anyhow::Result<()> {
    let due_us = trip["at_us"].as_i64().context("when the window ended")?;
    let told_us = trip["told_us"].as_i64().context("when it was told")?;
    let set = fs::metadata(house.agent_dir("edge").join("output")).and_then(|file| file.modified());
    let set_us = set.context("when the output was set")?.duration_since(UNIX_EPOCH)?.as_micros() as i64;
    let late_ms = |us: i64| (us - due_us) as f64 / 1000.0;
    println!("output {:.1} ms and line {:.1} ms after the window's end: {trip}", late_ms(set_us), late_ms(told_us));
    for late_ms in [late_ms(set_us), late_ms(told_us)] {
        // A file's time may be a tick of the system's clock early.
        ensure!((-20.0..TRIP_MS).contains(&late_ms), "{late_ms} ms after the window's end");
    }
    ensure!(trip["asset"] == "pump-1" && trip["feature"] == "velocity_rms", "{trip}");
    ensure!(trip["value"].as_f64().is_some_and(|value| value > LIMIT) && trip["limit"] == LIMIT, "{trip}");
    Ok(())
}

fn reset(house: &House, asset: &str) -> anyhow::Result<Output> {
    let config = house.agent_dir("edge").join("agent.toml");
    let mut command = Command::new(house.bins().path("kilter-agent")?);
    command.args(["reset", asset, "--by", "r. meier", "--config"]).arg(config).output().context("reset")
}

/// The alarms in the agent's journal, as `kilter-agent journal` shows them.
fn journalled(house: &House) -> anyhow::Result<Vec<String>> {
    dumped(house, "alarm")
}

/// Records of one class in the agent's journal.
fn dumped(house: &House, class: &str) -> anyhow::Result<Vec<String>> {
    let mut command = Command::new(house.bins().path("kilter-agent")?);
    let dir = house.agent_dir("edge").join("data").join("journal");
    let output = command.args(["journal", "dump", "--class", class]).arg(dir).output().context("read the journal")?;
    ensure!(output.status.success(), "read the journal: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Whole lines of the alarm log.
fn told(house: &House, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(house.agent_dir("edge").join("alarms.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["kind"] == kind).collect()
}

fn output(house: &House) -> String {
    fs::read_to_string(house.agent_dir("edge").join("output")).unwrap_or_default()
}

fn standing(page: SocketAddr, asset: &str) -> Option<Value> {
    let status = get(page, "/status").ok()?;
    status["machines"].as_array()?.iter().find(|machine| machine["asset"] == asset).cloned()
}

fn windows(page: SocketAddr) -> Option<u64> {
    standing(page, "pump-1")?["windows"].as_u64()
}

/// The newest window's velocity.
fn velocity(page: SocketAddr, asset: &str) -> Option<f64> {
    let machines = get(page, "/windows").ok()?;
    let machine = machines.as_array()?.iter().find(|machine| machine["asset"] == asset)?;
    machine["rows"].as_array()?.iter().filter_map(|row| row["values"]["velocity_rms"].as_f64()).next_back()
}

/// Fifty hertz: 22 mm/s at one g.
fn wave(i: usize, g: f32) -> f32 {
    let random = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let turn = (i % (RATE_HZ / 50)) as f32 / (RATE_HZ / 50) as f32;
    g * (turn * std::f32::consts::TAU).sin() + 0.05 * ((random >> 40) as f32 / 8_388_608.0 - 1.0)
}

fn record(pieces: &[(usize, &dyn Fn(usize) -> f32)]) -> Vec<f32> {
    let mut samples = Vec::new();
    for (windows, sample) in pieces {
        let from = samples.len();
        samples.extend((from..from + windows * WINDOW).map(sample));
    }
    samples
}

const LIMIT: f64 = 6.0;

const PROTECTION: &str = r#"
[[machine.protection]]
feature = "velocity_rms"
above = 6.0
windows = 3
"#;

// The output is for what needs a hand at once.
const ALARM: &str = r#"
[alarm]
severity = "danger"
log_file = "alarms.jsonl"
output_file = "output"
"#;

const RECORDED: &str = r#"
[[machine]]
asset = "NAME"
class = "pump"
source = { kind = "file", path = "FILE.npy", rate_hz = 12800.0, unit = "g", rpm = 3000.0, t0_us = 0, speed = 0.0 }
nominal_rpm = 3000.0
[[machine.channel]]
name = "x"
kind = "vibration"
unit = "g"
rate_hz = 12800.0
[[machine.group]]
point = "x"
kind = "vibration"
channels = ["x"]
window = 2560
"#;

const PLANT: &str = r#"
[[machine]]
agent = "edge"
class = "pump"
axes = ["vertical"]
[machine.spec]
name = "pump-1"
rate_hz = 12800
nominal_rpm = 1480

[[machine]]
agent = "edge"
class = "pump"
axes = ["vertical"]
[machine.spec]
name = "pump-2"
rate_hz = 12800
nominal_rpm = 1480
"#;
