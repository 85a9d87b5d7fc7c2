//! `cargo xt bench`: what an agent costs, how soon an alarm stands on the page and how soon a window can be asked for, measured on
//! real processes.
#![expect(clippy::disallowed_methods, reason = "a benchmark looks at the clock and waits")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use kilter_tests::{Bins, House, Options, Ports, Tuning};

use crate::{build, step};

/// Three axes at 25.6 kHz on one machine.
const PLANT: &str = r#"
[[machine]]
agent = "edge-1"
class = "pump"
axes = ["vertical", "horizontal", "axial"]
[machine.spec]
name = "pump-1"
rate_hz = 25600
nominal_rpm = 1480
bearing = { designation = "6205", balls = 9, ball_mm = 7.94, pitch_mm = 39.04, resonance_hz = 3400, impact_g = 5.0 }
load_changes = [{ at_s = 0, rpm = 1480, load = 0.70 }]
"#;

/// Machines that fail and recover again and again, for the latency of alarms.
const SMALL: &str = r#"
[[machine]]
agent = "edge-2"
class = "fan"
axes = ["vertical"]
[machine.spec]
name = "fan-NUMBER"
rate_hz = 12800
nominal_rpm = 1480
bearing = { designation = "6205", balls = 9, ball_mm = 7.94, pitch_mm = 39.04, resonance_hz = 3400, impact_g = 5.0 }
"#;
const SMALL_COUNT: usize = 6;
const ROUNDS: usize = 4;

/// Measures and prints.
pub(crate) fn run() -> anyhow::Result<()> {
    build::light()?;
    build::lab()?;
    let bins = Bins::in_dir(step::target().join("house"));
    for program in ["kilter-agent", "kilter-aggregator", "kilter-lab", "kilter-sim"] {
        let bytes = std::fs::metadata(bins.path(program)?)?.len();
        println!("{program:<20} {:>8.1} MB (house profile)", bytes as f64 / 1e6);
    }
    let dir = step::target().join("bench");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
    let spec = dir.join("plant.toml");
    let small: String = (1..=SMALL_COUNT).map(|number| SMALL.replace("NUMBER", &number.to_string())).collect();
    std::fs::write(&spec, format!("{PLANT}{small}")).context("failed to write the plant")?;
    let tuning = Tuning {
        commissioning_windows: 40,
        window: 16_384,
        temperature_window: 10,
        period_secs: 1.0,
        report_secs: 30.0,
    };
    let options = Options {
        seed: 1,
        speed: 1.0,
        spec: Some(spec),
        tuning,
        probation_secs: 5,
        lab_arguments: Vec::new(),
        broker: String::new(),
    };
    let mut house = House::new(bins, &dir, Ports::free()?, options)?;
    house.start_aggregator()?;
    let agents = house.install_agents()?;
    house.start_agent(&agents[0])?;
    let pid = house.agent(&agents[0]).context("the agent runs")?.pid();
    std::thread::sleep(Duration::from_secs(5));
    println!("agent without a sensor: {:.1} MB resident", resident_mb(pid)?);
    house.start_plant()?;
    house.wait_for("the lab", Duration::from_secs(60), |house| kilter_tests::get(house.ports.http, "/api/lab").ok())?;
    std::thread::sleep(Duration::from_secs(10));
    let (begin, before) = (Instant::now(), cpu_seconds(pid)?);
    let queryable = queryable(&house, Duration::from_secs(40))?;
    let share = (cpu_seconds(pid)? - before) / begin.elapsed().as_secs_f64();
    println!("agent with 3 axes at 25.6 kHz: {:.1} MB resident, {:.2} % of a core", resident_mb(pid)?, share * 100.0);
    print_quantiles("window close to queryable", queryable);
    house.start_agent(&agents[1])?;
    print_quantiles("window close to alarm on the page", alarms(&mut house)?);
    house.stop()
}

/// Lets the small machines fail and recover; how old each alarm is when the page's API first has it.
fn alarms(house: &mut House) -> anyhow::Result<Vec<f64>> {
    let names: Vec<_> = (1..=SMALL_COUNT).map(|number| format!("fan-{number}")).collect();
    house.wait_for("the baselines", Duration::from_secs(240), |house| {
        let fleet = house.fleet().ok()?;
        let ready = |row: &&serde_json::Value| row["asset_class"] == "fan" && row["commissioned_us"].is_i64();
        (fleet["machines"].as_array()?.iter().filter(ready).count() == SMALL_COUNT).then_some(())
    })?;
    let (mut ages, mut seen) = (Vec::new(), BTreeSet::new());
    for _ in 0..ROUNDS {
        set_faults(house, &names, 0.9)?;
        let begin = Instant::now();
        let mut failed = BTreeSet::new();
        while failed.len() < names.len() && begin.elapsed() < Duration::from_secs(60) {
            for alarm in house.alarms()? {
                let (Some(key), Some(raised)) = (alarm["key"].as_str(), alarm["raised_us"].as_i64()) else { continue };
                if seen.insert(key.to_owned()) {
                    ages.push((now_us()? - raised) as f64 / 1e3);
                }
                if alarm["open"] == true {
                    failed.insert(alarm["asset"].to_string());
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        set_faults(house, &names, 0.0)?;
        house.wait_for("the alarms to clear", Duration::from_secs(120), |house| {
            house.alarms().ok()?.iter().all(|alarm| alarm["open"] == false).then_some(())
        })?;
    }
    Ok(ages)
}

fn set_faults(house: &House, names: &[String], severity: f64) -> anyhow::Result<()> {
    for asset in names {
        let fault = serde_json::json!({ "asset": asset, "kind": "outer_race", "severity": severity, "growth_s": 1 });
        house.control("/fault", &fault)?;
    }
    Ok(())
}

/// Polls the query API and notes how old each new window is when it first shows.
fn queryable(house: &House, span: Duration) -> anyhow::Result<Vec<f64>> {
    let sql = "SELECT max(end_us) AS t FROM features WHERE point = 'vertical'";
    let begin = Instant::now();
    let mut last = 0;
    let mut ages = Vec::new();
    while begin.elapsed() < span {
        let rows = house.query(sql)?;
        let newest = rows.first().and_then(|row| row[0].as_i64()).unwrap_or_default();
        if newest > last {
            if last > 0 {
                ages.push((now_us()? - newest) as f64 / 1e3);
            }
            last = newest;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(ages)
}

fn print_quantiles(what: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |q: f64| values.get(((values.len().max(1) - 1) as f64 * q).round() as usize).copied().unwrap_or(f64::NAN);
    println!("{what}: p50 {:.0} ms, p99 {:.0} ms, n = {}", at(0.5), at(0.99), values.len());
}

fn now_us() -> anyhow::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?)
}

fn resident_mb(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("failed to read VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse().context("failed to read VmRSS")?;
    Ok(kilobytes / 1024.0)
}

/// User and system time; the kernel counts in hundredths of a second.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) / 100.0)
}
