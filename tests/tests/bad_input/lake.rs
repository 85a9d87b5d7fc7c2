//! The lab is stopped, killed, or has no room for its lake: ingest, alarms and the page go on, and later nothing is missing there.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use kilter_tests::{House, get, lake, request};
use serde_json::json;

use crate::stage::{self, Mount, PATIENCE, asked, goes_on, lab_asked, nothing_is_lost, open, produced};
use crate::{defined, insider};

#[test]
fn a_lab_that_is_stopped_or_killed_touches_neither_ingest_nor_alarms_nor_the_page() {
    stage::journey_with_lab(8.0, |house| {
        open(house)?;
        stage::baselines(house)?;
        house.wait_for("the lab", PATIENCE, |house| get(house.ports.http, "/api/lab").ok())?;
        let first = lab_of(house)?;
        signal(first, "STOP")?;
        hot_half_goes_on(house)?;
        house.control("/fault", &json!({ "asset": "pump-1", "kind": "outer_race", "severity": 0.9, "growth_s": 4 }))?;
        house.wait_for("the alarm without a lab", PATIENCE, |house| {
            let alarms = house.alarms().ok()?;
            alarms.iter().any(|alarm| alarm["asset"] == "pump-1" && alarm["cause"] == "outer_race").then_some(())
        })?;
        let (status, said) = request(house.ports.http, "GET", "/api/lab", "")?;
        ensure!(status == 503 && said.contains("the lab is away"), "a stopped lab is told as {status} {said}");
        println!("stopped: {said}");
        signal(first, "KILL")?;
        hot_half_goes_on(house)?;
        let second = house.wait_for("another lab", PATIENCE, |house| lab_of(house).ok().filter(|pid| *pid != first))?;
        signal(second, "KILL")?;
        hot_half_goes_on(house)?;
        house.wait_for("the lab", PATIENCE, |house| get(house.ports.http, "/api/lab").ok())?;
        nothing_is_lost(house)?;
        the_lake_holds_each_window_once(house)?;
        defined::are_computed(house)
    });
}

#[test]
fn with_no_room_for_the_lake_ingest_and_alarms_go_on_and_with_room_again_nothing_is_missing_there() {
    if !stage::is_root() {
        return stage::not_run("only root may mount a small disk");
    }
    let mut small = None;
    stage::journey_with_lab(8.0, |house| {
        let lake = house.data_dir().join("lake");
        small = Some(Mount::tmpfs(&lake, "size=400k")?);
        open(house)?;
        stage::baselines(house)?;
        let error = house.wait_for("the full disk", PATIENCE, |house| {
            let status = get(house.ports.http, "/api/lab").ok()?;
            status["error"].as_str().map(str::to_owned)
        })?;
        println!("full: {error}");
        ensure!(error.contains("No space left on device"), "a full disk is told as {error}");
        house.control("/fault", &json!({ "asset": "pump-1", "kind": "outer_race", "severity": 0.9, "growth_s": 4 }))?;
        hot_half_goes_on(house)?;
        house.wait_for("the alarm without a lake", PATIENCE, |house| {
            let alarms = house.alarms().ok()?;
            alarms.iter().any(|alarm| alarm["asset"] == "pump-1" && alarm["cause"] == "outer_race").then_some(())
        })?;
        remount(&lake, "size=64m")?;
        nothing_is_lost(house)?;
        the_lake_holds_each_window_once(house)?;
        let status = get(house.ports.http, "/api/lab")?;
        ensure!(status["error"].is_null(), "with room again it still says {}", status["error"]);
        Ok(())
    });
    drop(small);
}

#[test]
fn s1_01_completeness_as_a_program_says_complete_or_names_each_gap_and_ends_with_what_it_found() {
    stage::journey_with_lab(8.0, |house| {
        house.start_aggregator()?;
        house.start_plant()?;
        let agents = house.install_agents()?;
        for agent in &agents {
            house.start_agent(agent)?;
        }
        goes_on(house, 20)?;
        house.control("/end", &json!({}))?;

        let wanted = produced(house)?;
        let whole = &house.machines[1];
        let vertical = format!("default/north/{}/vertical", whole.asset);
        let (code, said) = house.wait_for("the whole account", PATIENCE, |house| {
            let (code, said) = account(house, &vertical, "0..9223372036854775807", true).ok()?;
            let told: serde_json::Value = serde_json::from_str(&said).ok()?;
            let rows = told["rows"].as_u64()? as usize;
            let windows = wanted[&(house.machines[1].asset.clone(), "vertical".to_owned())].len();
            (code == 0 && rows >= windows).then_some((code, said))
        })?;
        ensure!(code == 0 && said.contains("\"complete\":true"), "{said}");
        let (code, said) = account(house, &vertical, "0..9223372036854775807", false)?;
        ensure!(code == 0 && said.starts_with(&format!("{vertical}: complete, ")), "it ends with {code}: {said}");
        // The program beside the lab says it in the same words, seals included.
        let (code, said) = lab_asked(house, &["completeness", &vertical])?;
        let complete = said.starts_with(&format!("{vertical}: complete, "));
        ensure!(code == 0 && complete && said.contains("\nseals: "), "it ends with {code}: {said}");

        // Data of the other machine is erased, in the middle of what it sent.
        let asset = house.machines[0].asset.clone();
        let cut = format!("default/north/{asset}/vertical");
        house.wait_for("the other account", PATIENCE, |house| {
            account(house, &cut, "0..9223372036854775807", false).ok().filter(|(code, _)| *code == 0)
        })?;
        let sql = "SELECT event_time_us FROM features WHERE point = 'vertical' AND asset = ";
        let times = house.query(&format!("{sql}'{asset}' ORDER BY event_time_us"))?;
        let at = |place: usize| times[place][0].to_string();
        let (from, to) = (at(times.len() / 3), at(times.len() / 2));
        let subject = format!("asset={asset}");
        let erase = ["erase", &subject, "--from", &from, "--to", &to, "--who", "ops", "--why", "a test"];
        let (code, said) = lab_asked(house, &erase)?;
        ensure!(code == 0, "{said}");
        let (code, said) = house.wait_for("the account with gaps", PATIENCE, |house| {
            let (code, said) = account(house, &cut, "0..9223372036854775807", false).ok()?;
            let known = said.lines().skip(1).all(|line| line.ends_with(": erased") || line.starts_with("seals: "));
            (code == 3 && known).then_some((code, said))
        })?;
        println!("ends with {code}: {said}");
        ensure!(said.starts_with(&format!("{cut}: not complete, ")) && said.contains(" feature "), "{said}");
        // And over HTTP, from which the program has it.
        let answer = get(house.ports.http, &format!("/api/completeness?point={cut}&from=0&to=9223372036854775807"))?;
        ensure!(answer["complete"] == false && answer["holes"][0]["cause"] == "erased", "{answer}");
        let asset = house.machines[1].asset.clone();
        insider::is_told(house, &asset)
    });
}

#[test]
fn f11_a_data_file_that_is_gone_comes_again_from_the_agents_when_a_person_asks_for_its_range() {
    stage::journey_with_lab(8.0, |house| {
        house.start_aggregator()?;
        house.start_plant()?;
        for agent in &house.install_agents()? {
            house.start_agent(agent)?;
        }
        goes_on(house, 20)?;
        house.control("/end", &json!({}))?;
        nothing_is_lost(house)?;
        the_lake_holds_each_window_once(house)?;
        // Two things are lost, so that only the agents have it: the aggregator's journal, and the largest data file.
        house.stop_aggregator()?;
        let data = house.data_dir();
        std::fs::remove_dir_all(data.join("journal")).context("lose the journal")?;
        std::fs::remove_file(data.join("live.snapshot")).context("lose the snapshot")?;
        house.start_aggregator()?;
        house.wait_for("the lab", PATIENCE, |house| get(house.ports.http, "/api/lab").ok())?;
        let largest = files(&data.join("lake/features"))?.into_iter().max().context("find a data file")?;
        std::fs::remove_file(&largest.1).context("lose a data file")?;
        let mut ranges = 0;
        for device in house.agent_names() {
            let range = ["--range", "0..9223372036854775807", "--why", "a file is gone"];
            let (code, said) = asked(house, &[&["refetch", "--device", &device][..], &range].concat())?;
            ensure!(code == 0, "{said}");
            println!("{said}");
            ranges += said.lines().filter(|line| line.contains(" feature ")).count();
        }
        ensure!(ranges > 0, "a file is gone and nobody is asked for it");
        the_lake_holds_each_window_once(house)?;
        house.wait_for("the end of asking", PATIENCE, |_| {
            std::fs::read(data.join("lab/refetch.json")).ok().filter(|text| text == b"[]")
        })?;
        the_lake_holds_each_window_once(house)
    });
}

/// Every data file under a folder with its size.
fn files(folder: &Path) -> anyhow::Result<Vec<(u64, std::path::PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(files(&entry.path())?),
            false if entry.path().extension().is_some_and(|kind| kind == "parquet") => {
                found.push((entry.metadata()?.len(), entry.path()));
            }
            false => {}
        }
    }
    Ok(found)
}

/// `kilter-aggregator completeness`: what it ends with, and what it says.
fn account(house: &House, point: &str, range: &str, as_json: bool) -> anyhow::Result<(i32, String)> {
    let ask = ["completeness", "--point", point, "--range", range];
    let more: &[&str] = if as_json { &["--json"] } else { &[] };
    asked(house, &[&ask[..], more].concat())
}

/// New windows reach the journal, the fleet's numbers move, and the page is served.
fn hot_half_goes_on(house: &mut House) -> anyhow::Result<()> {
    let seen = |house: &House| -> Option<i64> {
        let fleet = house.fleet().ok()?;
        fleet["machines"].as_array()?.iter().filter_map(|row| row["last_received_us"].as_i64()).max()
    };
    let before = seen(house);
    ensure!(before.is_some(), "the fleet does not say when it heard last: {}", house.fleet()?);
    goes_on(house, 5)?;
    house.wait_for("a fleet that moves on", PATIENCE, |house| (seen(house) > before).then_some(()))?;
    let (status, page) = request(house.ports.http, "GET", "/", "")?;
    ensure!(status == 200 && page.contains("<html"), "the page is answered with {status}");
    Ok(())
}

/// What another reader than ours finds in the lake is what the simulator's own log expects.
pub(crate) fn the_lake_holds_each_window_once(house: &mut House) -> anyhow::Result<()> {
    let wanted: BTreeMap<_, _> =
        produced(house)?.into_iter().map(|(key, list)| (key, (list.len() as u64, list.len() as u64))).collect();
    let mut last = BTreeMap::new();
    let found = house.wait_for("every window in the lake", PATIENCE, |house| {
        last = lake::counts(house).ok()?;
        (last == wanted).then_some(())
    });
    found.map_err(|error| anyhow::anyhow!("{error:#}\nexpected {wanted:?}\nfound {last:?}"))?;
    println!("in the lake, each exactly once: {last:?}");
    Ok(())
}

/// The process of the lab: the aggregator's child of that name.
fn lab_of(house: &House) -> anyhow::Result<u32> {
    let parent = house.aggregator().context("find the lab: the aggregator does not run")?.pid();
    let output = Command::new("pgrep").args(["-P", &parent.to_string(), "kilter-lab"]).output()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().context("find the lab's process")
}

pub(crate) fn signal(pid: u32, signal: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status()?;
    ensure!(status.success(), "send {signal} to {pid}");
    Ok(())
}

fn remount(at: &Path, options: &str) -> anyhow::Result<()> {
    let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(at).status()?;
    ensure!(status.success(), "remount {}", at.display());
    Ok(())
}
