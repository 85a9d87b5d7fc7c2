//! Configurations that an agent must refuse, each by name and with its remedy.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use kilter_tests::{Bins, House};

use crate::stage::{self, Mount, PATIENCE, goes_on, nothing_is_lost, refused, says};

#[test]
fn a_configuration_that_is_wrong_ends_the_agent_with_the_key_and_the_remedy() {
    let Some(bins) = stage::bins() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    write_npy(&dir.path().join("run.npy"));
    let npy = |keys: &str| GOOD.replace(SOURCE, &format!("source = {{ kind = \"file\", path = \"run.npy\"{keys} }}"));
    let cases: [(&str, String, &str, &[&str]); 11] = [
        ("an unknown key", format!("speling = 1\n{GOOD}"), LOCAL, &["speling", "unknown field"]),
        ("an unknown key of a machine", GOOD.replace("class", "clas"), LOCAL, &["clas", "unknown field", "class"]),
        ("no unit", GOOD.replace("unit = \"g\"\n", ""), LOCAL, &["missing field `unit`"]),
        ("an unknown unit", GOOD.replace("\"g\"", "\"gee\""), LOCAL, &["gee", "expected one of"]),
        ("no rate", GOOD.replace("rate_hz = 12800.0\n", ""), LOCAL, &["vertical", "rate_hz is needed"]),
        ("a recording of no unit", npy(", rate_hz = 12800.0"), LOCAL, &["run.npy", "unit is not declared"]),
        ("a recording of no rate", npy(", unit = \"g\""), LOCAL, &["run.npy", "is not declared", "rate_hz"]),
        (
            "a recording of another rate",
            npy(", rate_hz = 6400.0, unit = \"g\""),
            LOCAL,
            &["vertical", "6400 Hz", "12800 Hz", "correct rate_hz"],
        ),
        ("a recording that is not there", npy("").replace("run.npy", "gone.npy"), LOCAL, &["gone.npy", "No such file"]),
        (
            "a taken port",
            format!("{GOOD}\n[http]\nlisten = \"127.0.0.1:{port}\"\n"),
            LOCAL,
            &["http.listen", "another agent running", "in use"],
        ),
        ("plain TCP off loopback", GOOD.to_owned(), "192.0.2.1:18830", &["192.0.2.1:18830", "server_ca", "loopback"]),
    ];
    for (i, (what, config, server, words)) in cases.into_iter().enumerate() {
        write_bundle(&dir.path().join("bundle.toml"), server);
        let said = run(&bins, dir.path(), i, &config).and_then(|said| says(&said, words));
        if let Err(error) = said {
            panic!("{what}: {error:#}");
        }
    }
    write_bundle(&dir.path().join("bundle.toml"), LOCAL);
    let below_a_file = GOOD.replace("\"data\"", "\"run.npy/data\"");
    let said = run(&bins, dir.path(), 97, &below_a_file).and_then(|said| says(&said, &["data folder", "run.npy/data"]));
    said.expect("a folder that can't be is named");
    if stage::is_root() {
        let _read_only = Mount::tmpfs(&dir.path().join("fixed"), "ro,size=64k").expect("root may mount");
        let said = run(&bins, dir.path(), 98, &GOOD.replace("\"data\"", "\"fixed\""));
        let said = said.and_then(|said| says(&said, &["fixed", "Read-only file system"]));
        said.expect("a read-only folder is named");
    } else {
        stage::not_run("only root may mount a read-only folder");
    }
    std::fs::remove_file(dir.path().join("bundle.toml")).expect("the bundle was there");
    let said =
        run(&bins, dir.path(), 99, GOOD).and_then(|said| says(&said, &["bundle.toml", "kilter-aggregator enroll"]));
    said.expect("a missing bundle is named");
}

#[test]
fn a_sensor_of_another_unit_is_named_and_the_other_machines_go_on() {
    stage::journey(4.0, |house| {
        let agents = {
            house.start_aggregator()?;
            house.start_plant()?;
            house.install_agents()?
        };
        let path = house.agent_dir("edge-1").join("agent.toml");
        let good = std::fs::read_to_string(&path).context("read an agent's config")?;
        let wrong = good.replacen("unit = \"g\"", "unit = \"m/s2\"", 1);
        ensure!(wrong != good, "the configuration names no unit");
        std::fs::write(&path, wrong).context("write an agent's config")?;
        for agent in &agents {
            house.start_agent(agent)?;
        }
        house.wait_for("the complaint", PATIENCE, |house| {
            let log = house.agent("edge-1")?.log();
            (log.contains("vertical") && log.contains("correct the unit in the configuration")).then_some(())
        })?;
        house.wait_for("the other machine", PATIENCE, |house| rows_of(house, "pump-2").filter(|rows| *rows > 5))?;
        // With the remedy it runs, and nothing of the time before is lost: the sensor still has it.
        house.kill_agent("edge-1")?;
        std::fs::write(&path, good).context("write an agent's config")?;
        house.start_agent("edge-1")?;
        goes_on(house, 5)?;
        nothing_is_lost(house)
    });
}

fn rows_of(house: &House, asset: &str) -> Option<usize> {
    Some(crate::kept::Kept::read(house).ok()?.rows_of(asset))
}

fn run(bins: &Bins, dir: &Path, number: usize, config: &str) -> anyhow::Result<String> {
    let path: PathBuf = dir.join("agent.toml");
    std::fs::write(&path, config).context("write the configuration")?;
    let mut command = Command::new(bins.path("kilter-agent")?);
    command.arg("run").arg("--config").arg(path);
    refused(&mut command, &dir.join(format!("{number}.log")))
}

fn write_bundle(path: &Path, server: &str) {
    let key = "ab".repeat(32);
    let text = format!(
        "version = 1\ntenant = \"default\"\ndevice = \"edge-1\"\ncredential = \"secret\"\nserver = \"{server}\"\n\
         server_ca = \"\"\nsigning_key = \"{key}\"\n"
    );
    std::fs::write(path, text).expect("the folder can be written");
}

fn write_npy(path: &Path) {
    let samples: Vec<f32> = (0..20_000).map(|i| (i as f32 * 0.3).sin()).collect();
    std::fs::write(path, kilter_tests::npy(&samples)).expect("the folder can be written");
}

const LOCAL: &str = "127.0.0.1:1";

const SOURCE: &str = "source = { kind = \"socket\", address = \"127.0.0.1:1\" }";

const GOOD: &str = r#"data = "data"
bundle = "bundle.toml"

[[machine]]
asset = "pump-1"
class = "pump"
source = { kind = "socket", address = "127.0.0.1:1" }

[[machine.channel]]
name = "vertical"
kind = "vibration"
unit = "g"
rate_hz = 12800.0

[[machine.group]]
point = "vertical"
kind = "vibration"
channels = ["vertical"]
window = 4096
"#;
