//! The aggregator's snapshot is lost after segments of its journal were released: the page shows what it had shown, from the lake.

use anyhow::{Context, ensure};
use kilter_tests::{House, get, post};
use serde_json::{Value, json};

use crate::lake::the_lake_holds_each_window_once;
use crate::stage::{self, PATIENCE, open};

#[test]
fn s4_33_with_the_snapshot_lost_after_a_release_the_api_says_what_it_said() {
    stage::journey_with_lab(8.0, |house| {
        // No smaller than a batch.
        house.set("journal", "segment_bytes", 1 << 16)?;
        let agents = open(house)?;
        stage::baselines(house)?;
        house.control("/fault", &json!({ "asset": "pump-1", "kind": "outer_race", "severity": 0.9, "growth_s": 4 }))?;
        house.wait_for("the alarm", PATIENCE, |house| {
            house.alarms().ok()?.iter().any(|alarm| alarm["cause"] == "outer_race").then_some(())
        })?;
        let key = house.alarms()?[0]["key"].as_str().context("read an alarm's key")?.to_owned();
        post(house.ports.http, &format!("/api/alarms/{key}/ack"), &json!({}))?;
        // More than a segment.
        house.wait_for("a second segment", PATIENCE, |house| (segments(house).ok()?.len() > 2).then_some(()))?;
        house.control("/end", &json!({}))?;
        the_lake_holds_each_window_once(house)?;
        // Nobody says anything any more.
        for agent in &agents {
            house.kill_agent(agent)?;
        }
        house.wait_for("the last commit", PATIENCE, |house| {
            let status = get(house.ports.http, "/api/lab").ok()?;
            (status["rows_waiting"] == 0).then_some(())
        })?;
        house.wait_for("a release", PATIENCE, |house| (segments(house).ok()?.first()? > &begin()).then_some(()))?;
        // Whether a machine has fallen silent is a matter of now.
        house.wait_for("silence", PATIENCE, |house| {
            let fleet = house.fleet().ok()?;
            fleet["machines"].as_array()?.iter().all(|machine| machine["stale"] == true).then_some(())
        })?;
        let before = shown(house)?;
        house.stop_aggregator()?;
        std::fs::remove_file(house.data_dir().join("live.snapshot")).context("lose the snapshot")?;
        house.start_aggregator()?;
        let after = shown(house)?;
        for ((what, before), (_, after)) in before.iter().zip(&after) {
            ensure!(before == after, "{what} was\n{before:#}\nand is\n{after:#}");
        }
        let log = house.aggregator().context("find the aggregator")?.log();
        ensure!(log.contains("the page is drawn again from the lake"), "it was drawn from something else");
        Ok(())
    });
}

/// The names of the segments that the aggregator's journal holds, in its order.
fn segments(house: &House) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(house.data_dir().join("journal"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name.ends_with(".seg"));
    names.sort_unstable();
    Ok(names)
}

/// The first segment of any journal.
fn begin() -> String {
    format!("{:020}.seg", 0)
}

/// What the page is drawn from, without what only the present can say.
fn shown(house: &House) -> anyhow::Result<Vec<(String, Value)>> {
    let mut paths = vec!["/api/fleet".to_owned(), "/api/alarms".to_owned()];
    for machine in &house.machines {
        paths.push(format!("/api/machines/default/north/{}", machine.asset));
    }
    let answers = paths.into_iter().map(|path| {
        let mut answer = get(house.ports.http, &path)?;
        if let Some(fields) = answer.as_object_mut() {
            fields.retain(|name, _| !OF_THE_PRESENT.contains(&name.as_str()));
        }
        Ok((path, answer))
    });
    answers.collect()
}

/// When it is asked, and how much the journal holds by then.
const OF_THE_PRESENT: [&str; 3] = ["now_us", "journal_bytes", "lag_bytes"];
