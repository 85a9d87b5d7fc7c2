//! A plant of real processes, and everything that may happen to it: `kill -9`, SIGSTOP, a bad network, a pulled cable, a lost journal, an
//! older disk, a second copy. Afterwards each window that the simulator's own log makes expect is in the lake exactly once.
//!
//! CI runs it for less than a minute; `KILTER_AGENTS`, `KILTER_SECONDS` and `KILTER_SEED` ask for more (docs/BENCHMARKS.md, Fleets), and
//! `KILTER_BROKER=mosquitto` puts that broker between, which is killed too.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

mod net;
#[path = "../transport/proxy.rs"]
mod proxy;
mod trial;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kilter_tests::{Bins, House, Mosquitto, Options, Ports, Tuning, expected, lake};
use net::{Net, Space, free};
use proxy::Weather;
use trial::Trial;

const TUNING: Tuning =
    Tuning { commissioning_windows: 20, window: 2048, temperature_window: 5, period_secs: 1.0, report_secs: 5.0 };

const WEATHER: Weather = Weather { loss_ppm: 20_000, double_ppm: 20_000, delay_us: 20_000, cut_ppm: 300 };

/// Samples that the simulator produced become windows of these points.
pub(crate) type Windows = BTreeMap<(String, String), u64>;

#[test]
fn d1_d2_l1_whatever_happens_to_real_processes_each_expected_window_is_in_the_lake_once() {
    let Some(bins) = Bins::built(&["kilter-agent", "kilter-aggregator", "kilter-lab", "kilter-sim"]) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    if let Err(error) = tell(bins, dir.path()) {
        let kept = dir.keep();
        panic!("{error:#}\nlogs and data are kept in {}", kept.display());
    }
}

fn tell(bins: Bins, dir: &Path) -> anyhow::Result<()> {
    let (agents, seconds, seed) = (asked("KILTER_AGENTS", 50), asked("KILTER_SECONDS", 20), asked("KILTER_SEED", 1));
    let begun = Instant::now();
    let spec = dir.join("plant.toml");
    std::fs::write(&spec, plant(agents))?;
    let mut broker = match std::env::var("KILTER_BROKER").as_deref() {
        Ok("mosquitto") => Mosquitto::guarded()?,
        Ok(other) => anyhow::bail!("KILTER_BROKER is {other:?}: only mosquitto is known here"),
        Err(_) => None,
    };
    let space = if broker.is_some() { Space::loopback() } else { Space::make() };
    let prefix = space.prefix();
    let ((listener, first), (sensor, second)) = (free(space.ours)?, free(space.ours)?);
    let mqtt = broker.as_ref().map_or(listener, Mosquitto::address);
    let ports = Ports { mqtt, sensor, ..Ports::free()? };
    let net = Net::start(space, ports.mqtt, WEATHER, seed)?;
    drop((first, second));
    let options = Options {
        seed,
        speed: 1.0,
        spec: Some(spec),
        tuning: TUNING,
        probation_secs: 1,
        lab_arguments: Vec::new(),
        broker: broker.as_ref().map(|broker| broker.address().to_string()).unwrap_or_default(),
    };
    let mut house = House::new(bins, &dir.join("house"), ports, options)?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), net.door.ip().to_string()];
    house.set("tls", "names", names)?;
    house.set_network(prefix, net.door);
    std::fs::write(house.data_dir().join("lab.toml"), "[commit]\nmax_wait_ms = 1000\n[drift]\nenabled = false\n")?;
    let installed = house.install_agents()?;
    if let Some(broker) = &mut broker {
        broker.take_in(&house, &installed)?;
    }
    house.start_aggregator()?;
    house.start_plant()?;
    for agent in installed {
        house.start_agent(&agent)?;
    }
    println!("{agents} agents after {:.1} s", begun.elapsed().as_secs_f64());
    house.wait_for("the first windows", PATIENCE, |house| counted(house).filter(|count| *count >= agents))?;
    let mut trial = Trial::new(house, net, broker, seed);
    trial.run(Duration::from_secs(seconds))?;
    let doubled = trial.doubled.clone();
    let house = &mut trial.house;
    house.control("/end", &serde_json::json!({}))?;
    let ended = Instant::now();
    let last = std::cell::RefCell::new(String::new());
    let done = house.wait_for("every window in an answer", PATIENCE, |house| {
        std::thread::sleep(Duration::from_millis(500));
        let wanted = wanted(house).ok()?;
        let seen = seen(house).ok()?;
        let open = wanted.iter().filter(|(key, windows)| {
            let (rows, last) = seen.get(*key).copied().unwrap_or_default();
            if doubled.contains(&key.0) { last < **windows } else { rows < **windows }
        });
        let open: Vec<_> = open.map(|(key, windows)| (key, windows, seen.get(key))).collect();
        *last.borrow_mut() = format!("{open:?}");
        open.is_empty().then_some(())
    });
    done.with_context(|| format!("expected and seen: {}", last.borrow()))?;
    println!("all there {:.1} s after the end; {}", ended.elapsed().as_secs_f64(), trial.memory());
    println!("{:?}", trial.hard_cases()?);
    let wanted = wanted(&trial.house)?;
    accounts(&trial.house, &wanted, &trial.doubled)?;
    if seconds >= 300 {
        trial.memory_is_flat()?;
    }
    let Trial { house, doubled, .. } = trial;
    // What waits is committed on the way out; then another reader looks at the files themselves.
    let read = read_by_python(house)?;
    for (key, windows) in &wanted {
        let (rows, distinct) = read.get(key).copied().unwrap_or_default();
        ensure!(distinct == *windows, "{key:?}: {distinct} windows in the lake, {windows} expected");
        ensure!(rows == *windows || doubled.contains(&key.0), "{key:?}: {rows} rows for {windows} windows");
    }
    ensure!(read.len() == wanted.len(), "the lake holds other series: {:?}", read.keys());
    println!(
        "{} series, {} windows, each in the lake exactly once ({doubled:?} recorded some again under another epoch); {:.0} s in all",
        wanted.len(),
        wanted.values().sum::<u64>(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Nothing doubled, nothing lost below the marks; every hole has a cause.
fn accounts(house: &House, wanted: &Windows, doubled: &std::collections::BTreeSet<String>) -> anyhow::Result<()> {
    let lab = house.bins().path("kilter-lab")?;
    let ask = |arguments: &[&str]| -> anyhow::Result<(bool, String)> {
        let output = Command::new(&lab).args(arguments).arg("--data").arg(house.data_dir()).output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok((output.status.success(), said))
    };
    let (clean, said) = ask(&["reconcile"])?;
    ensure!(clean, "the lake is not what was acknowledged: {said}");
    // A spread of them: each takes a process of its own, and all are counted from the files below.
    let asked = wanted.keys().filter(|(asset, _)| !doubled.contains(asset)).step_by(wanted.len() / 20 + 1);
    for (asset, point) in asked {
        let (answered, said) = ask(&["completeness", &format!("default/north/{asset}/{point}")])?;
        ensure!(answered && !said.contains("unexplained"), "{asset}/{point}: {said}");
    }
    Ok(())
}

/// Rows and distinct windows of each series, by the Python package, after everything has ended.
fn read_by_python(mut house: House) -> anyhow::Result<BTreeMap<(String, String), (u64, u64)>> {
    house.stop_aggregator()?;
    lake::counts(&house)
}

/// The windows that the plant's own log makes expect.
pub(crate) fn wanted(house: &House) -> anyhow::Result<Windows> {
    let produced = expected::produced(&house.dir.join("expected.jsonl"))?;
    let mut wanted = Windows::new();
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

/// Rows of each series and one more than its last window, lake and tail.
fn seen(house: &House) -> anyhow::Result<BTreeMap<(String, String), (u64, u64)>> {
    let sql = "SELECT asset, point, COUNT(seq) AS n, MAX(window_index) AS last FROM features GROUP BY asset, point";
    let mut seen = BTreeMap::new();
    for row in house.query(sql)? {
        let (Some(asset), Some(point), Some(rows), Some(last)) =
            (row[0].as_str(), row[1].as_str(), row[2].as_u64(), row[3].as_u64())
        else {
            continue;
        };
        seen.insert((asset.to_owned(), point.to_owned()), (rows, last + 1));
    }
    Ok(seen)
}

/// Feature rows that the aggregator has accepted since it started.
pub(crate) fn counted(house: &House) -> Option<u64> {
    let (_, text) = kilter_tests::request(house.ports.http, "GET", "/metrics", "").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("kilter_rows_total{class=\"feature\"} "))?;
    line.trim().parse().ok()
}

fn plant(agents: u64) -> String {
    let mut text = String::new();
    for agent in 1..=agents {
        let (rpm, resonance_hz) = (900 + 37 * (agent % 20), 700 + 20 * (agent % 10));
        let _ = write!(
            text,
            "[[machine]]\nagent = \"edge-{agent}\"\nclass = \"pump\"\naxes = [\"vertical\"]\n[machine.spec]\nname = \"pump-{agent}\"\n\
             rate_hz = 3200\nnominal_rpm = {rpm}\nbearing = {{ resonance_hz = {resonance_hz} }}\n\n"
        );
    }
    text
}

fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
