//! Samples that no healthy sensor gives, through file sources.

use std::path::Path;

use anyhow::{Context, ensure};
use kilter_tests::{House, npy, request};
use kilter_types::{FeatureRow, Quality};
use serde_json::Value;

use crate::kept::Kept;
use crate::stage::{self, PATIENCE};

const WINDOW: usize = 4096;
const WINDOWS: usize = 40;

#[test]
fn nan_infinite_and_constant_samples_become_flags_and_a_sensor_alarm_never_numbers() {
    stage::journey(1.0, |house| {
        house.start_aggregator()?;
        let dir = house.agent_dir("files");
        std::fs::create_dir_all(&dir).context("create the agent's folder")?;
        house.enrol("files", &dir.join("bundle.toml"))?;
        write_recordings(&dir)?;
        let shaking = |asset: &str| SHAKING.replace("ASSET", asset);
        let config = [HEAD, &shaking("broken"), &shaking("stuck"), WARM].concat();
        std::fs::write(dir.join("agent.toml"), config).context("write the agent's config")?;
        house.start_agent("files")?;
        house.wait_for("every window of the recordings", PATIENCE, |house| {
            let kept = Kept::read(house).ok()?;
            let whole = ["broken", "stuck"].iter().all(|asset| kept.rows_of(asset) >= WINDOWS);
            (whole && kept.rows_of("thermo") >= READINGS / 10).then_some(())
        })?;
        let kept = Kept::read(house)?;
        for (key, windows) in kept.windows() {
            let count = if key.0 == "thermo" { READINGS / 10 } else { WINDOWS } as u64;
            ensure!(windows == (0..count).collect::<Vec<_>>(), "{key:?} has the windows {windows:?}");
        }
        for (asset, point, row) in kept.features() {
            ensure!(row.vector.values.iter().all(|value| value.is_finite()), "{asset}/{point} {row:?}");
            let bad = flag(asset, row.index as usize);
            let fits = bad.is_none_or(|bad| row.quality.intersects(bad));
            ensure!(fits, "{asset} window {} is flagged {:?}", row.index, names(row));
            let wrongly = bad.is_none() && row.quality.intersects(Quality::NON_FINITE | Quality::STUCK);
            ensure!(!wrongly, "{asset} window {} is flagged {:?}", row.index, names(row));
        }
        let alarm = house.wait_for("the sensor's alarm", PATIENCE, |house| {
            let alarms = house.alarms().ok()?;
            alarms.into_iter().find(|alarm| alarm["asset"] == "stuck" && alarm["open"] == true)
        })?;
        println!("{} {} {}", alarm["source"], alarm["cause"], alarm["severity"]);
        ensure!(alarm["cause"] == "sensor", "the stuck sensor is called {}", alarm["cause"]);
        pages_are_sound(house)
    });
}

/// What each recording's windows must be flagged with.
fn flag(asset: &str, window: usize) -> Option<Quality> {
    match (asset, window) {
        ("broken", 30 | 32) => Some(Quality::IMPUTED),
        ("broken", 31) => Some(Quality::NON_FINITE),
        ("stuck", 20..) => Some(Quality::STUCK),
        ("thermo", 5 | 6) => Some(Quality::NON_FINITE | Quality::GAP),
        _ => None,
    }
}

/// Every number of every page is one, and every page answers.
fn pages_are_sound(house: &House) -> anyhow::Result<()> {
    let mut paths = vec!["/api/fleet".to_owned(), "/api/alarms".to_owned(), "/metrics".to_owned()];
    paths.extend(["broken", "stuck", "thermo"].map(|asset| format!("/api/machines/default/default/{asset}")));
    for path in paths {
        let (status, body) = request(house.ports.http, "GET", &path, "")?;
        ensure!(status == 200, "{path} answers {status}: {body}");
        ensure!(!body.contains("NaN") && !body.contains("inf,") && !body.contains("Infinity"), "{path}: {body}");
        if path.starts_with("/api") {
            serde_json::from_str::<Value>(&body).with_context(|| format!("read {path}"))?;
        }
    }
    Ok(())
}

fn names(row: &FeatureRow) -> Vec<&'static str> {
    row.quality.names().collect()
}

fn write_recordings(dir: &Path) -> anyhow::Result<()> {
    let healthy = || (0..WINDOW * WINDOWS).map(noise).collect::<Vec<f32>>();
    let mut broken = healthy();
    broken[30 * WINDOW + 7] = f32::NAN;
    broken[31 * WINDOW..32 * WINDOW].fill(f32::NAN);
    broken[32 * WINDOW + 100] = f32::INFINITY;
    let mut stuck = healthy();
    stuck[20 * WINDOW..].fill(0.25);
    std::fs::write(dir.join("broken.npy"), npy(&broken)).context("write a recording")?;
    std::fs::write(dir.join("stuck.npy"), npy(&stuck)).context("write a recording")?;
    let mut csv = "t,temperature\n".to_owned();
    for i in 0..READINGS {
        let value = match i {
            53 | 55 => "nan".to_owned(),
            65 => "inf".to_owned(),
            _ => format!("{:.3}", 40.0 + noise(i)),
        };
        csv.push_str(&format!("{i},{value}\n"));
    }
    std::fs::write(dir.join("thermo.csv"), csv).context("write a recording")
}

/// A shaft with some noise, the same on every run.
fn noise(i: usize) -> f32 {
    let random = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let turn = i as f32 / 12_800.0 * 24.7;
    0.1 * (turn.fract() * std::f32::consts::TAU).sin() + 0.05 * ((random >> 40) as f32 / 8_388_608.0 - 1.0)
}

const READINGS: usize = 200;

const HEAD: &str = r#"data = "data"
bundle = "bundle.toml"
report_secs = 1.0
[http]
listen = ""
"#;

/// A machine with one sensor of vibration.
const SHAKING: &str = r#"
[[machine]]
asset = "ASSET"
class = "pump"
source = { kind = "file", path = "ASSET.npy", rate_hz = 12800.0, unit = "g", rpm = 1480.0 }
commissioning_windows = 12
[[machine.channel]]
name = "x"
kind = "vibration"
unit = "g"
rate_hz = 12800.0
[[machine.group]]
point = "x"
kind = "vibration"
channels = ["x"]
window = 4096
"#;

const WARM: &str = r#"
[[machine]]
asset = "thermo"
class = "pump"
source = { kind = "file", path = "thermo.csv", csv = { time = { column = "t", format = "unix_seconds" }, columns = [{ column = "temperature", name = "temperature", unit = "degC" }] } }
commissioning_windows = 12
[[machine.channel]]
name = "temperature"
kind = "reading"
unit = "degC"
period_secs = 1.0
[[machine.group]]
point = "housing"
kind = "temperature"
channels = ["temperature"]
window = 10
"#;
