//! An enrolled agent whose server goes away and comes back, and a person there who wants to release what it stopped.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use kilter_tests::{House, agent_config, post};
use serde_json::json;

use super::{ALARM, PATIENCE, PROTECTION, TUNING, again, dumped, journey, output, standing, told, velocity};

#[test]
fn a_trip_outlives_its_server_and_a_person_there_releases_it_only_where_the_agent_allows_it() {
    journey(|house, page| {
        house.set("lab", "enabled", false)?;
        house.start_aggregator()?;
        house.start_plant()?;
        let machines: Vec<_> = house.machines.iter().filter(|machine| machine.asset == "pump-1").collect();
        let config = agent_config(&machines, house.ports.sensor, &page.to_string(), &TUNING);
        let config = format!("{config}{PROTECTION}{ALARM}");
        house.install_agent("edge", &config)?;
        house.start_agent("edge")?;
        house.wait_for("the machine at the server", PATIENCE, |house| {
            house.fleet().ok()?["machines"].as_array()?.iter().any(|row| row["asset"] == "pump-1").then_some(())
        })?;

        // The server is gone when the machine must stop.
        house.kill_aggregator()?;
        house.control("/fault", &json!({ "asset": "pump-1", "kind": "unbalance", "severity": 1.0 }))?;
        house.wait_for("the trip", PATIENCE, |house| told(house, "trip").pop())?;
        ensure!(output(house) == "1\n", "the trip was told before the output was set");
        house.control("/fault", &json!({ "asset": "pump-1", "kind": "unbalance", "severity": 0.0 }))?;
        house.wait_for("quiet windows", PATIENCE, |_| (velocity(page, "pump-1")? < super::LIMIT).then_some(()))?;
        house.start_aggregator()?;

        // As delivered the agent lets nobody release it from afar.
        let refused = reset(house)?;
        house.wait_for("the refusal", PATIENCE, |house| ended(house, refused, "Refused"))?;
        ensure!(tripped(page) == Some(true) && output(house) == "1\n", "released from afar without being allowed");

        let path = house.agent_dir("edge").join("agent.toml");
        fs::write(&path, format!("{config}remote_reset = true\n")).context("write the agent's config")?;
        again(house, page)?;
        ensure!(output(house) == "1\n", "released by a restart");
        let done = reset(house)?;
        house.wait_for("the release", PATIENCE, |house| {
            ended(house, done, "Done")?;
            (!tripped(page)? && output(house) == "0\n").then_some(())
        })?;
        let records = house.wait_for("the records of the release", PATIENCE, |house| {
            let mut events = dumped(house, "event").ok()?;
            events.retain(|line| line.contains("Reset"));
            (!events.is_empty()).then_some(events)
        })?;
        ensure!(records.len() == 1 && records[0].contains("local operator"), "the journal says {records:?}");
        let by: Vec<_> = told(house, "reset").iter().map(|line| line["by"].clone()).collect();
        ensure!(by == [json!("local operator")], "the alarm log says {by:?}");
        for (who, what) in [("local operator", "reset"), ("edge", "command ended")] {
            ensure!(audited(house, &format!("{who}{what}"))?, "the audit does not know {what} by {who}");
        }
        Ok(())
    });
}

/// Asks as a person's tool does; the command's id.
fn reset(house: &mut House) -> anyhow::Result<u64> {
    let body = json!({ "tenant": "default", "site": "north", "asset": "pump-1" });
    house.wait_for("the agent at the server", PATIENCE, |house| {
        post(house.ports.http, "/api/reset", &body).ok()?["command"].as_u64()
    })
}

/// Has the agent said how it ended?
fn ended(house: &House, id: u64, outcome: &str) -> Option<()> {
    let log = house.aggregator()?.log();
    let line = log.lines().find(|line| line.contains("command ended") && line.contains(&id.to_string()))?;
    line.contains(outcome).then_some(())
}

fn tripped(page: SocketAddr) -> Option<bool> {
    standing(page, "pump-1")?["tripped"].as_bool()
}

/// Columns of text lie side by side in the catalogue's file or in its log.
fn audited(house: &House, text: &str) -> anyhow::Result<bool> {
    let mut found = false;
    for entry in fs::read_dir(house.data_dir()).context("list the server's data")? {
        let path = entry.context("list the server's data")?.path();
        if path.to_string_lossy().contains("catalogue.sqlite") {
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            found |= bytes.windows(text.len()).any(|part| part == text.as_bytes());
        }
    }
    Ok(found)
}
