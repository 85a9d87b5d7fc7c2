//! A small house for each journey: two pumps with an agent each, and a lab where it is asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use kilter_tests::{Bins, House, Machine, Options, Ports, Process, Tuning, expected, free_ports};
use serde_json::json;

use crate::kept::Kept;

/// Short windows and baselines, so that much happens in little time.
pub(crate) const TUNING: Tuning =
    Tuning { commissioning_windows: 12, window: 4096, temperature_window: 10, period_secs: 1.0, report_secs: 1.0 };

/// How long anything may take before it counts as never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs one journey in a house of its own, unless the programs are not built; on failure everything is kept to look at.
pub(crate) fn journey(speed: f64, tell: impl FnOnce(&mut House) -> anyhow::Result<()>) {
    run(speed, |house| {
        house.set("lab", "enabled", false)?;
        tell(house)
    });
}

/// The same with the lab.
pub(crate) fn journey_with_lab(speed: f64, tell: impl FnOnce(&mut House) -> anyhow::Result<()>) {
    run(speed, tell);
}

fn run(speed: f64, tell: impl FnOnce(&mut House) -> anyhow::Result<()>) {
    let Some(bins) = bins() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let told = house(bins, dir.path(), speed).and_then(|mut house| {
        tell(&mut house)?;
        house.stop()
    });
    if let Err(error) = told {
        panic!("{error:#}\nlogs and data are kept in {}", dir.keep().display());
    }
}

/// The programs; `None` once it is said that they are not built.
pub(crate) fn bins() -> Option<Bins> {
    Bins::built(&["kilter-agent", "kilter-aggregator", "kilter-sim", "kilter-lab"])
}

/// Says that a check was left out.
pub(crate) fn not_run(why: &str) {
    println!("not run: 1 ({why})");
}

/// May we mount?
pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// A small file system of its own; gone when dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts a tmpfs with these options.
    pub(crate) fn tmpfs(at: &Path, options: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(at).with_context(|| format!("create {}", at.display()))?;
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).status()?;
        anyhow::ensure!(status.success(), "mount a tmpfs on {}", at.display());
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Runs a command that must end by itself with exit code 1; returns what it said.
pub(crate) fn refused(command: &mut Command, log: &Path) -> anyhow::Result<String> {
    let mut process = Process::start("what must fail", command, log)?;
    let status = process.wait(Duration::from_secs(20))?;
    anyhow::ensure!(status.code() == Some(1), "it ended with {status}:\n{}", process.log());
    Ok(process.log())
}

/// `kilter-aggregator` with these arguments, asked of a house: what it ends with, and what it says.
pub(crate) fn asked(house: &House, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
    let address = house.ports.http.to_string();
    ended(house, "kilter-aggregator", &[arguments, &["--http", &address]].concat())
}

/// `kilter-lab` with these arguments, beside the lab of a house.
pub(crate) fn lab_asked(house: &House, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
    let data = house.data_dir();
    ended(house, "kilter-lab", &[arguments, &["--data", data.to_str().context("a text path")?]].concat())
}

fn ended(house: &House, program: &str, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
    let output = Command::new(house.bins().path(program)?).args(arguments).output();
    let output = output.with_context(|| format!("run {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned()))
}

/// Fails unless the text holds all these words.
pub(crate) fn says(text: &str, words: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    anyhow::ensure!(missing.is_empty(), "it does not say {missing:?}:\n{text}");
    Ok(())
}

/// Starts aggregator, plant and both agents.
pub(crate) fn open(house: &mut House) -> anyhow::Result<Vec<String>> {
    house.start_aggregator()?;
    house.start_plant()?;
    let agents = house.install_agents()?;
    for agent in &agents {
        house.start_agent(agent)?;
    }
    Ok(agents)
}

/// Waits until every machine is commissioned.
pub(crate) fn baselines(house: &mut House) -> anyhow::Result<()> {
    house.wait_for("the baselines", PATIENCE, |house| {
        let fleet = house.fleet().ok()?;
        let machines = fleet["machines"].as_array()?;
        (machines.len() == 2 && machines.iter().all(|row| row["commissioned_us"].is_i64())).then_some(())
    })
}

/// Waits until every machine has so many more windows in the journal than now.
pub(crate) fn goes_on(house: &mut House, windows: usize) -> anyhow::Result<()> {
    let before = Kept::read(house)?;
    let assets: Vec<_> = house.machines.iter().map(|machine| machine.asset.clone()).collect();
    house.wait_for("later good records of every machine", PATIENCE, |house| {
        let now = Kept::read(house).ok()?;
        assets.iter().all(|asset| now.rows_of(asset) >= before.rows_of(asset) + windows).then_some(())
    })
}

/// Ends the plant and waits until every window that it produced is in the aggregator's journal exactly once.
pub(crate) fn nothing_is_lost(house: &mut House) -> anyhow::Result<()> {
    house.control("/end", &json!({}))?;
    let mut last = (BTreeMap::new(), BTreeMap::new());
    let counts = |windows: &Windows| windows.iter().map(|(key, list)| (key.clone(), list.len())).collect();
    let found = house.wait_for("every window in the journal", PATIENCE, |house| {
        let (wanted, found) = (produced(house).ok()?, Kept::read(house).ok()?.windows());
        last = (counts(&wanted), counts(&found));
        (wanted == found).then_some(())
    });
    found.map_err(|error| anyhow::anyhow!("{error:#}\nexpected {:?}\nfound {:?}", last.0, last.1))?;
    println!("each exactly once: {:?}", last.1);
    Ok(())
}

/// Indexes of windows by asset and point.
pub(crate) type Windows = BTreeMap<(String, String), Vec<u64>>;

/// What the simulator's own log demands.
pub(crate) fn produced(house: &House) -> anyhow::Result<Windows> {
    let produced = expected::produced(&house.dir.join("expected.jsonl"))?;
    let mut wanted = Windows::new();
    for Machine { asset, channels, .. } in &house.machines {
        for (channel, _, rate) in channels {
            let samples = produced.get(&(asset.clone(), channel.clone())).copied().unwrap_or_default();
            let (point, window) = match (rate, channel.as_str()) {
                (Some(_), _) => (channel.as_str(), TUNING.window),
                (None, "temperature") => ("housing", TUNING.temperature_window),
                (None, _) => continue,
            };
            let count = expected::windows(samples, window.into(), window.into());
            if count > 0 {
                wanted.insert((asset.clone(), point.to_owned()), (0..count).collect());
            }
        }
    }
    Ok(wanted)
}

fn house(bins: Bins, dir: &Path, speed: f64) -> anyhow::Result<House> {
    let spec = dir.join("plant.toml");
    std::fs::write(&spec, PLANT).context("write the plant")?;
    let options = Options {
        seed: 7,
        speed,
        spec: Some(spec),
        tuning: TUNING,
        probation_secs: 1,
        lab_arguments: Vec::new(),
        broker: String::new(),
    };
    let mut ports = Ports::free()?;
    ports.agents = free_ports(2).context("find two free ports side by side")?;
    House::new(bins, dir, ports, options)
}

const PLANT: &str = r#"
[[machine]]
agent = "edge-1"
class = "pump"
axes = ["vertical"]
[machine.spec]
name = "pump-1"
rate_hz = 12800
nominal_rpm = 1480
bearing = { designation = "6205", balls = 9, ball_mm = 7.94, pitch_mm = 39.04, resonance_hz = 3400, impact_g = 5.0 }

[[machine]]
agent = "edge-2"
class = "pump"
axes = ["vertical"]
[machine.spec]
name = "pump-2"
rate_hz = 12800
nominal_rpm = 1480
bearing = { designation = "6205", balls = 9, ball_mm = 7.94, pitch_mm = 39.04, resonance_hz = 3250, impact_g = 5.0 }
"#;
