//! The lab stands still while agents publish on: seconds in CI, five minutes by command. Afterwards it catches up, nobody is started again, and
//! nothing is missing.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kilter_tests::{House, get};

use crate::kept::Kept;
use crate::lake::{signal, the_lake_holds_each_window_once};
use crate::stage::{self, PATIENCE, nothing_is_lost, open};

#[test]
fn s0_02_agents_publish_on_while_the_lab_stands_still_and_it_catches_up_without_loss() {
    stands_still(4);
}

#[test]
#[ignore = "minutes: run by cargo xt proof"]
fn s0_02_agents_publish_on_for_five_minutes_while_the_lab_stands_still_and_it_catches_up_without_loss() {
    stands_still(300);
}

/// `KILTER_SECONDS` asks for another length.
#[expect(clippy::disallowed_methods, reason = "a lab that stands still needs real time")]
fn stands_still(seconds: u64) {
    let seconds = std::env::var("KILTER_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(seconds);
    stage::journey_with_lab(8.0, |house| {
        let agents = open(house)?;
        stage::baselines(house)?;
        house.wait_for("the lab", PATIENCE, |house| get(house.ports.http, "/api/lab").ok())?;
        let processes = pids(house, &agents);
        let lab = house.lab_pid().context("find the lab's process")?;
        let (before, begun) = (end(&Kept::read(house)?), Instant::now());
        signal(lab, "STOP")?;
        std::thread::sleep(Duration::from_secs(seconds));
        let (kept, held) = (Kept::read(house)?, published(house).unwrap_or_default());
        let (stood, last) = (begun.elapsed(), end(&kept));
        let waiting = kept.rows.iter().filter(|row| row.offset >= held).count();
        ensure!(last > before, "the agents stopped publishing at {before:?}");
        signal(lab, "CONT")?;
        let goes_on = Instant::now();
        house.wait_for("the lab's catching up", PATIENCE, |house| (published(house) > last).then_some(()))?;
        println!(
            "{:.0} s without a lab: {waiting} rows waited, all committed {:.2} s after it went on",
            stood.as_secs_f64(),
            goes_on.elapsed().as_secs_f64()
        );
        nothing_is_lost(house)?;
        the_lake_holds_each_window_once(house)?;
        ensure!(pids(house, &agents) == processes, "an agent was started again");
        ensure!(house.lab_pid() == Some(lab), "the lab was started again");
        Ok(())
    });
}

fn pids(house: &House, agents: &[String]) -> Vec<Option<u32>> {
    agents.iter().map(|agent| house.agent(agent).map(|process| process.pid())).collect()
}

/// The last row's offset in the aggregator's journal.
fn end(kept: &Kept) -> Option<u64> {
    kept.rows.iter().map(|row| row.offset).max()
}

/// Up to where the lab has committed and told.
fn published(house: &House) -> Option<u64> {
    let text = std::fs::read(house.data_dir().join("lab/committed.json")).ok()?;
    serde_json::from_slice::<serde_json::Value>(&text).ok()?["offset"].as_u64()
}
