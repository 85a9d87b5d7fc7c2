//! The agent's disk is full while its server is away.

use std::path::Path;

use anyhow::{Context, ensure};
use kilter_tests::{House, get};
use kilter_types::{Class, GapReason};
use serde_json::{Value, json};

use crate::kept::Kept;
use crate::stage::{self, Mount, PATIENCE, Windows, goes_on, produced};

#[test]
fn with_a_full_disk_and_no_server_the_agent_watches_and_alarms_and_later_tells_what_is_missing() {
    if !stage::is_root() {
        return stage::not_run("only root may mount a small disk");
    }
    let mut small = None;
    stage::journey(8.0, |house| {
        house.start_aggregator()?;
        house.start_plant()?;
        let agents = house.install_agents()?;
        let dir = house.agent_dir("edge-1");
        small = Some(Mount::tmpfs(&dir.join("data"), "size=3m")?);
        let path = dir.join("agent.toml");
        let config = std::fs::read_to_string(&path).context("read an agent's config")?;
        std::fs::write(&path, format!("{config}{SMALL}")).context("write an agent's config")?;
        for agent in &agents {
            house.start_agent(agent)?;
        }
        stage::baselines(house)?;
        house.stop_aggregator()?;
        fill(&dir.join("data").join("ballast"), 192 << 10)?;
        let page = std::net::SocketAddr::from(([127, 0, 0, 1], house.ports.agents));
        let status = move || get(page, "/status").ok();
        house.wait_for("the full disk", PATIENCE, |_| {
            let journal = status()?["journal"].clone();
            (journal["dropped"].as_u64()? > 0 || journal["dead"] == true).then_some(())
        })?;
        println!("full: {}", status().context("the agent's page")?["journal"]);
        watched_and_alarmed(house, &dir, &status)?;
        // The server comes back while the disk is still full: the alarm needs no disk. Then there is room again.
        house.start_aggregator()?;
        house.wait_for("the alarm at the server", PATIENCE, |house| {
            let alarms = house.alarms().ok()?;
            alarms.iter().any(|alarm| alarm["asset"] == "pump-1" && alarm["cause"] == "outer_race").then_some(())
        })?;
        house.wait_for("the first loss, declared", PATIENCE, |house| {
            let gaps = Kept::read(house).ok()?.gaps("edge-1");
            gaps.iter().any(|gap| gap.class == Class::Feature && gap.reason == GapReason::DiskFailed).then_some(())
        })?;
        std::fs::remove_file(dir.join("data").join("ballast")).context("remove the ballast")?;
        goes_on(house, 10)?;
        what_is_missing_is_told(house)
    });
    drop(small);
}

/// The monitor goes on, and the alarm is told on the spot.
fn watched_and_alarmed(house: &mut House, dir: &Path, status: &dyn Fn() -> Option<Value>) -> anyhow::Result<()> {
    let windows = |status: Value| status["machines"][0]["windows"].as_u64();
    let before = status().and_then(windows).context("the agent's page")?;
    house.control("/fault", &json!({ "asset": "pump-1", "kind": "outer_race", "severity": 0.9, "growth_s": 4 }))?;
    let told = dir.join("alarms.jsonl");
    house.wait_for("the alarm on the spot", PATIENCE, |_| {
        let text = std::fs::read_to_string(&told).ok()?;
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.any(|line| line["asset"] == "pump-1" && line["cause"] == "outer_race").then_some(())
    })?;
    let after = status().and_then(windows).context("the agent's page")?;
    ensure!(after > before, "the monitor stands still at {after} windows");
    println!("{} windows on a full disk", after - before);
    Ok(())
}

/// Every record is here or declared missing, and as many windows are missing as were declared.
fn what_is_missing_is_told(house: &mut House) -> anyhow::Result<()> {
    house.control("/end", &json!({}))?;
    let mut last = String::new();
    let told = house.wait_for("every window or its gap", PATIENCE, |house| {
        let (kept, wanted) = (Kept::read(house).ok()?, produced(house).ok()?);
        let windows = kept.windows();
        let whole =
            wanted.iter().filter(|((asset, _), _)| asset == "pump-2").all(|(key, w)| windows.get(key) == Some(w));
        let mine = |windows: &Windows| -> u64 {
            windows.iter().filter(|((asset, _), _)| asset == "pump-1").map(|(_, list)| list.len() as u64).sum()
        };
        let missing = mine(&wanted).checked_sub(mine(&windows))?;
        let gaps = kept.gaps("edge-1");
        let features = gaps.iter().filter(|gap| gap.class == Class::Feature);
        let declared: u64 = features.map(|gap| gap.last_seq - gap.first_seq + 1).sum();
        let unexplained = kept.unexplained("edge-1", Class::Feature);
        last = format!(
            "{missing} windows missing, {declared} declared, unexplained {unexplained:?}, pump-2 whole {whole}"
        );
        (whole && missing == declared && unexplained.is_empty()).then_some(())
    });
    told.map_err(|error| anyhow::anyhow!("{error:#}\n{last}"))?;
    println!("{last}");
    let twice = Kept::read(house)?.windows().into_values().any(|list| list.windows(2).any(|pair| pair[0] == pair[1]));
    ensure!(!twice, "a window is there twice");
    let alarms = Kept::read(house)?.unexplained("edge-1", Class::Alarm);
    ensure!(alarms.is_empty(), "alarms are missing: {alarms:?}");
    Ok(())
}

/// Leaves only so much of the disk.
fn fill(path: &Path, leave_bytes: usize) -> anyhow::Result<()> {
    let (mut whole, piece) = (0, 4096);
    let mut file = std::fs::File::create(path).context("create the ballast")?;
    while std::io::Write::write_all(&mut file, &vec![0; piece]).is_ok() {
        whole += piece;
    }
    file.set_len((whole.saturating_sub(leave_bytes)) as u64).context("cut the ballast")
}

const SMALL: &str = r#"
[journal]
segment_bytes = 65536
reserve_bytes = 65536

[alarm]
log_file = "alarms.jsonl"
"#;
