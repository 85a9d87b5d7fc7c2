//! Somebody who may write the lake changes a value as the lab itself would, and wipes the audit: the seal over the row tells.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use kilter_tests::{House, get};
use serde_json::{Value, json};

use crate::stage::{PATIENCE, lab_asked};

/// At the end of a journey, when all that was produced is in the lake.
pub(crate) fn is_told(house: &mut House, asset: &str) -> anyhow::Result<()> {
    // Killed agents seal nothing; their next runs seal what they find.
    for name in house.agent_names() {
        house.kill_agent(&name)?;
        house.start_agent(&name)?;
    }
    let path = format!("/api/completeness?point=default/north/{asset}/vertical&from=0&to={}", i64::MAX);
    let told = house.wait_for("the seals", PATIENCE, |house| {
        let told = get(house.ports.http, &path).ok()?;
        let sealed = features(&told).any(|range| pieces(range).all(|piece| piece["state"] == "sealed"));
        sealed.then_some(told)
    })?;
    ensure!(told["broken"] == json!([]) && told["complete"] == true, "nobody has changed anything: {told}");
    let sql = format!("SELECT device, epoch, seq FROM features WHERE asset = '{asset}' ORDER BY event_time_us LIMIT 1");
    let rows = house.query(&sql)?;
    let row = rows.first().context("a row")?;
    let device = row[0].as_str().context("a device")?.to_owned();
    let (epoch, seq) = (row[1].as_i64().context("an epoch")? as u64, row[2].as_u64().context("a seq")?);
    let pages =
        (0..house.agent_names().len() as u16).map(|at| SocketAddr::from(([127, 0, 0, 1], house.ports.agents + at)));
    let mut pages = pages.filter_map(|page| get(page, "/status").ok());
    let own = pages.find(|status| status["device"] == device.as_str()).context("the agent's own page")?;
    let seen = &told["keys"][&device];
    ensure!(seen == &json!([{ "key": own["seal_key"], "accepted": true }]), "{seen} is not {}", own["seal_key"]);
    let (epoch, number) = (epoch.to_string(), seq.to_string());
    let record = ["--device", &device, "--epoch", &epoch, "--class", "feature", "--seq", &number];
    let correct = [&["correct", "rpm=1"][..], &record, &["--who", "nobody", "--why", "to hide it"]].concat();
    let (code, said) = lab_asked(house, &correct)?;
    ensure!(code == 0, "{said}");
    std::fs::remove_file(house.data_dir().join("lab/audit.jsonl")).context("wipe the audit")?;
    let told = get(house.ports.http, &path)?;
    let hit = told["broken"].as_array().into_iter().flatten().find(|broken| {
        let within = broken["first"].as_u64() <= Some(seq) && Some(seq) <= broken["last"].as_u64();
        broken["class"] == "feature" && within && broken["what"].as_str().is_some_and(|what| what.starts_with("hash"))
    });
    println!("told: {}", hit.with_context(|| format!("nobody tells that row {seq} was changed: {told}"))?);
    ensure!(told["complete"] == false, "{told}");
    let (code, said) = lab_asked(house, &["reconcile"])?;
    ensure!(code == 1 && said.contains("hash: the rows are not what the device recorded"), "{said}");
    Ok(())
}

fn features(told: &Value) -> impl Iterator<Item = &Value> {
    told["ranges"].as_array().into_iter().flatten().filter(|range| range["class"] == "feature")
}

fn pieces(range: &Value) -> impl Iterator<Item = &Value> {
    range["seals"].as_array().into_iter().flatten()
}
