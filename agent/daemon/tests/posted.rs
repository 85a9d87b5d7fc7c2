//! An agent whose inputs are posted: they become windows, a trip sets the level, and a restart goes on where it was.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kilter_source::Stop;
use kilter_tests::{Process, get, send};
use serde_json::Value;

const CONFIG: &str = r#"
bundle = ""
[http]
listen = "127.0.0.1:0"
[alarm]
log_file = "lines"
[[machine]]
asset = "pump-1"
class = "pump"
source = { kind = "http", token_file = "token" }
[[machine.channel]]
name = "housing"
kind = "reading"
unit = "degC"
period_secs = 1.0
[[machine.group]]
point = "drive-end"
kind = "temperature"
channels = ["housing"]
window = 4
[[machine.protection]]
feature = "temperature_level"
above = 90.0
windows = 1
[machine.derate]
file = "level"
healthy = 100.0
trip = 20.0
"#;

#[test]
fn posted_readings_become_windows_each_once_over_a_restart_and_a_trip_sets_the_level() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).expect("written");
    write("agent.toml", CONFIG);
    write("token", "a-token-of-the-plant");
    let level = || std::fs::read_to_string(dir.path().join("level")).unwrap_or_default();

    let agent = Agent::start(dir.path(), "first.log");
    agent.post(0..8, 40.0);
    agent.until("two windows", |machine| machine["windows"] == 2);
    assert_eq!(level(), "100\n");
    agent.post(8..12, 95.0);
    agent.until("a trip", |machine| machine["tripped"] == true);
    assert_eq!(level(), "20\n");
    let status = agent.process.stop(Duration::from_secs(20)).expect("it ends");
    assert!(status.success(), "{status}");

    let agent = Agent::start(dir.path(), "second.log");
    agent.until("its positions", |machine| machine["positions"]["housing"] == 12);
    // The poster does not remember what it sent.
    agent.post(6..16, 50.0);
    let machine = agent.until("the rest", |machine| machine["positions"]["housing"] == 16);
    assert_eq!((&machine["windows"], &machine["tripped"]), (&4.into(), &true.into()), "{machine}");
    assert_eq!(level(), "20\n", "nothing lets it go but a reset");
    let lines = std::fs::read_to_string(dir.path().join("lines")).expect("lines");
    let kinds: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["kind"].take())
        .filter(|kind| kind == "derate" || kind == "trip")
        .collect();
    assert_eq!(kinds, ["derate", "derate", "trip", "derate"], "the level first; and set again at the start\n{lines}");
}

/// A running agent and where its page is.
struct Agent {
    process: Process,
    address: SocketAddr,
}

impl Agent {
    fn start(dir: &Path, log: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kilter-agent"));
        command.args(["run", "--config"]).arg(dir.join("agent.toml"));
        let mut process = Process::start("kilter-agent", &mut command, &dir.join(log)).expect("it starts");
        let address = wait("the local page", || {
            assert!(!process.has_ended(), "{}", process.log());
            let log = process.log();
            let (_, rest) = log.split_once("local page address=")?;
            rest.split_whitespace().next()?.parse().ok()
        });
        Self { process, address }
    }

    /// One message of readings, at these positions and seconds.
    fn post(&self, positions: std::ops::Range<u64>, celsius: f32) {
        let reading = |at: u64| {
            format!(
                "{{\"channel\":\"housing\",\"position\":{at},\"t_us\":{},\"unit\":\"degC\",\"value\":{celsius}}}",
                at * 1_000_000
            )
        };
        let body = format!("[{}]", positions.map(reading).collect::<Vec<_>>().join(","));
        let head = "POST /machines/pump-1/samples HTTP/1.1\r\nAuthorization: Bearer a-token-of-the-plant\r\n\
                    Content-Type: application/json";
        assert_eq!(send(self.address, head, body.as_bytes()).expect("an answer").0, 202);
    }

    /// Its machine, once it is so.
    fn until(&self, what: &str, mut so: impl FnMut(&Value) -> bool) -> Value {
        wait(what, || {
            let machine = get(self.address, "/status").ok()?["machines"][0].take();
            so(&machine).then_some(machine)
        })
    }
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let patience = Stop::default();
    for _ in 0..1500 {
        if let Some(found) = look() {
            return found;
        }
        patience.wait(Duration::from_millis(20));
    }
    panic!("waited for {what} in vain");
}
