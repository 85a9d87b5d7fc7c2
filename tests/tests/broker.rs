//! The same plant behind an external broker, Debian's mosquitto, which is killed in between: every window arrives exactly once.
//!
//! The broker asks for the credentials of the agents' bundles and keeps each device to its own two topics, as an installation
//! would. Its configuration here is the one that docs/BROKER.md shows.

mod accepted;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use accepted::{Accepted, counted};
use anyhow::{Context, ensure};
use kilter_tests::{Bins, House, Mosquitto, Options, Ports, Process, Tuning, expected, installed};

const TUNING: Tuning =
    Tuning { commissioning_windows: 20, window: 2048, temperature_window: 5, period_secs: 1.0, report_secs: 1.0 };

/// Two machines on two agents, so that the broker has to tell two devices apart.
const PLANT: &str = r#"
[[machine]]
agent = "edge-1"
class = "pump"
axes = ["vertical"]
[machine.spec]
name = "pump-1"
rate_hz = 6400
nominal_rpm = 1480
bearing = { resonance_hz = 2200 }

[[machine]]
agent = "edge-2"
class = "fan"
axes = ["horizontal"]
[machine.spec]
name = "fan-1"
rate_hz = 3200
nominal_rpm = 980
bearing = { resonance_hz = 1100 }
"#;

#[test]
fn a_broker_between_that_is_killed_loses_and_doubles_nothing() {
    let Some(broker) = Mosquitto::guarded().expect("mosquitto starts") else { return };
    let Some(bins) = Bins::built(&["kilter-agent", "kilter-aggregator", "kilter-sim"]) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    if let Err(error) = tell(bins, dir.path(), broker) {
        let kept = dir.keep();
        panic!("{error:#}\nlogs and data are kept in {}", kept.display());
    }
}

fn tell(bins: Bins, dir: &Path, mut broker: Mosquitto) -> anyhow::Result<()> {
    let spec = dir.join("plant.toml");
    std::fs::write(&spec, PLANT)?;
    let options = Options {
        seed: 7,
        speed: 10.0,
        spec: Some(spec),
        tuning: TUNING,
        probation_secs: 1,
        lab_arguments: Vec::new(),
        broker: broker.address().to_string(),
    };
    let mut house = House::new(bins, &dir.join("house"), Ports { mqtt: broker.address(), ..Ports::free()? }, options)?;
    house.set("lab", "enabled", false)?;

    // Enrolment writes each device's credential into its bundle; the broker learns them from there.
    let agents = house.install_agents()?;
    let devices = broker.take_in(&house, &agents)?;
    house.start_aggregator()?;
    house.start_plant()?;
    let onlooker = look_on(&mut house)?;
    for agent in &agents {
        house.start_agent(agent)?;
    }
    if let Some(onlooker) = onlooker {
        house.wait_for("what the agents say of their messages", PATIENCE, |_| {
            let log = onlooker.log();
            let told = |agent: &String| log.lines().any(|line| line == introduction(agent));
            agents.iter().all(told).then_some(())
        })?;
    }
    let some = arrived(&mut house, 20)?;
    broker.kill();
    println!("kill -9 mosquitto after {some} windows");
    // The plant runs on and the agents keep what they can't deliver.
    let before = produced(&house)?;
    house.wait_for("more windows while the broker is away", PATIENCE, |house| {
        (produced(house).ok()? >= before + 20).then_some(())
    })?;
    ensure!(broker.start_again()?, "the broker has ended");
    let more = arrived(&mut house, some + 40)?;
    broker.kill();
    println!("kill -9 mosquitto again after {more} windows");
    ensure!(broker.start_again()?, "the broker has ended");
    arrived(&mut house, more + 10)?;

    house.control("/end", &serde_json::json!({}))?;
    let last = std::cell::Cell::new((0, None));
    let done = house.wait_for("every window", PATIENCE, |house| {
        let wanted = wanted(house).ok()?.values().sum::<u64>();
        last.set((wanted, counted(house)));
        (last.get().1? >= wanted).then_some(())
    });
    done.with_context(|| format!("expected and counted: {:?}", last.get()))?;
    let wanted = wanted(&house)?;
    Accepted::read(&house.data_dir())?.check(&wanted)?;
    println!("{} series, {} windows, each exactly once", wanted.len(), wanted.values().sum::<u64>());
    strangers_are_kept_out(&house, &devices)?;
    house.stop()
}

/// Anybody's client that the broker lets read what agents publish; it prints topic, content type and user properties of each message.
fn look_on(house: &mut House) -> anyhow::Result<Option<Process>> {
    let (user, password) = Mosquitto::SERVER;
    let Some(subscriber) = installed("mosquitto_sub") else { return Ok(None) };
    let mut command = Command::new("stdbuf");
    command.arg("-oL").arg(subscriber).args(["-h", "127.0.0.1", "-p", &house.ports.mqtt.port().to_string()]);
    command.args(["-V", "mqttv5", "-d", "-i", "onlooker", "-u", user, "-P", password]);
    command.args(["-q", "1", "-t", "kilter/v1/+/+/up", "-F", "%t|%C|%P"]);
    let onlooker = Process::start("the onlooker", &mut command, &house.dir.join("onlooker.log"))?;
    house.wait_for("the onlooker's subscription", PATIENCE, |_| onlooker.log().contains("Subscribed").then_some(()))?;
    Ok(Some(onlooker))
}

/// How an agent's first message looks to it.
fn introduction(agent: &str) -> String {
    format!("kilter/v1/default/{agent}/up|application/vnd.kilter.frame|wire:{}", kilter_wire::VERSION)
}

/// What the broker's access list is for: a device can't write where another one does.
fn strangers_are_kept_out(house: &House, devices: &[(String, String)]) -> anyhow::Result<()> {
    let Some(publisher) = installed("mosquitto_pub") else { return Ok(()) };
    let before = counted_quarantined(house)?;
    let [(device, credential), (other, _)] = devices else { anyhow::bail!("there are not two devices") };
    let port = house.ports.mqtt.port().to_string();
    for (user, password, topic) in [
        (device.as_str(), "guessed", format!("kilter/v1/default/{device}/up")),
        (device.as_str(), credential.as_str(), format!("kilter/v1/default/{other}/up")),
    ] {
        // The id is another than the agent's own, whose connection would end.
        let status = Command::new(&publisher)
            .args(["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-q", "1", "-i", "stranger"])
            .args(["-u", user, "-P", password, "-t", &topic, "-m", "nonsense"])
            .output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&status.stderr), String::from_utf8_lossy(&status.stdout));
        ensure!(!status.status.success() || said.to_lowercase().contains("not authori"), "{topic} was let in: {said}");
    }
    ensure!(counted_quarantined(house)? == before, "a stranger's message reached the aggregator");
    Ok(())
}

fn counted_quarantined(house: &House) -> anyhow::Result<u64> {
    house.fleet()?["quarantined"].as_u64().context("read the quarantine's count")
}

/// Waits for so many windows at the aggregator.
fn arrived(house: &mut House, least: u64) -> anyhow::Result<u64> {
    house.wait_for("windows at the aggregator", PATIENCE, |house| counted(house).filter(|count| *count >= least))
}

fn produced(house: &House) -> anyhow::Result<u64> {
    Ok(wanted(house)?.values().sum())
}

/// The windows that the plant's own log makes expect.
fn wanted(house: &House) -> anyhow::Result<BTreeMap<(String, String), u64>> {
    let produced = expected::produced(&house.dir.join("expected.jsonl"))?;
    let mut wanted = BTreeMap::new();
    for machine in &house.machines {
        for (channel, _, rate) in &machine.channels {
            let (point, window) = match (rate, channel.as_str()) {
                (Some(_), _) => (channel.clone(), TUNING.window),
                (None, "temperature") => ("housing".to_owned(), TUNING.temperature_window),
                (None, _) => continue,
            };
            let samples = produced.get(&(machine.asset.clone(), channel.clone())).copied().unwrap_or_default();
            let windows = expected::windows(samples, window.into(), window.into());
            wanted.insert((machine.asset.clone(), point), windows);
        }
    }
    Ok(wanted)
}

const PATIENCE: Duration = Duration::from_secs(60);
