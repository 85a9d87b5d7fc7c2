//! The whole story with real processes, faster than the demo and with kills: nothing lost, nothing doubled, every fault found.

use std::collections::BTreeMap;
use std::time::Duration;

use kilter_tests::story::{self, FAULTS, Pace};
use kilter_tests::{Bins, House, Options, Ports, Tuning, expected, lake};
use serde_json::Value;

const TUNING: Tuning =
    Tuning { commissioning_windows: 40, window: 4096, temperature_window: 10, period_secs: 1.0, report_secs: 1.0 };

const FEATURES: [&str; 11] =
    ["point", "device", "epoch", "seq", "window_index", "start_us", "end_us", "rpm", "quality", "valid", "values"];
/// Ten to twenty microseconds are usual; a window of the story comes every third of a second.
const MOST_COST_US: f64 = 3_000.0;
/// An agent of the story has two machines with two models each.
const MOST_RESIDENT_KB: u64 = 64 << 10;
const SCORES: [&str; 8] = ["point", "epoch", "seq", "window_index", "anomaly", "threshold", "model", "role"];

#[test]
fn the_whole_story_holds_with_kills_at_random_moments() {
    let Some(bins) = Bins::built(&["kilter-lab"]) else { return };
    let seed = seed();
    println!("seed {seed} (KILTER_SEED={seed} repeats it)");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let options = Options {
        seed,
        speed: 3.0,
        spec: None,
        tuning: TUNING,
        probation_secs: 2,
        lab_arguments: Vec::new(),
        broker: String::new(),
    };
    let ports = Ports::free().expect("free ports");
    let mut house = House::new(bins, dir.path(), ports, options).expect("a house");
    let told = tell(&mut house, seed);
    if let Err(error) = told {
        let kept = dir.keep();
        panic!("seed {seed}: {error:#}\nlogs and data are kept in {}", kept.display());
    }
    house.stop().expect("a clean end");
}

fn tell(house: &mut House, seed: u64) -> anyhow::Result<()> {
    let pace = Pace { patience: Duration::from_secs(90), growth_s: 40.0 };
    let mut chance = seed;
    house.start_aggregator()?;
    house.start_plant()?;
    let agents = house.install_agents()?;
    for agent in &agents {
        house.start_agent(agent)?;
    }
    story::baselines(house, &pace)?;
    println!("baselines stand");
    kill_one(house, &agents, &mut chance)?;
    let first = story::first_models(house, &pace, seed)?;
    println!("first models lead: {first:?}");
    both_models_score(house)?;
    story::faults(house, &pace)?;
    kill_aggregator(house)?;
    story::alarms(house, &pace)?;
    println!("both faults are named");
    kill_one(house, &agents, &mut chance)?;
    story::load_change(house)?;
    story::drift(house, &pace)?;
    println!("drift is noticed");
    story::new_models(house, &pace, seed, &first)?;
    println!("the new version is everywhere");
    story::verdict(house)?;
    no_alarm_before_its_fault(house)?;
    each_window_is_in_the_lake_exactly_once(house)
}

/// On every machine the one that lost scores beside the leader, and each says what a score costs there.
fn both_models_score(house: &mut House) -> anyhow::Result<()> {
    let sql =
        "SELECT asset, role, model, count(*) AS n FROM scores WHERE model IS NOT NULL GROUP BY asset, role, model";
    let machines = house.machines.len();
    let patience = Duration::from_secs(60);
    let networks = house.wait_for("a score of each model in its role on every machine", patience, |house| {
        let rows = house.query(sql).ok()?;
        let families = families(&house.models().ok()?);
        let fleet = house.fleet().ok()?;
        let mut networks = BTreeMap::new();
        for machine in fleet["machines"].as_array()? {
            for model in machine["models"].as_array()? {
                let is_it =
                    |row: &&Value| row[0] == machine["asset"] && row[1] == model["role"] && row[2] == model["digest"];
                let (scores, cost_us) = (rows.iter().find(is_it)?[3].as_u64()?, model["cost_us"].as_f64()?);
                if scores == 0 || cost_us <= 0.0 {
                    return None;
                }
                let family = families.get(model["digest"].as_str()?)?;
                let line = format!("{} {family}: {scores} scores, {cost_us:.1} us each", model["role"]);
                if family.starts_with("lstm_") {
                    networks.insert(text(&machine["asset"])?, line);
                }
            }
        }
        (networks.len() == machines).then_some(networks)
    })?;
    for (asset, line) in networks {
        println!("{asset} {line}");
    }
    models_are_cheap(house)
}

/// While leader and network run, a score costs little of the time between two windows and an agent stays small (C1).
fn models_are_cheap(house: &House) -> anyhow::Result<()> {
    let fleet = house.fleet()?;
    for machine in fleet["machines"].as_array().into_iter().flatten() {
        for model in machine["models"].as_array().into_iter().flatten() {
            let cost_us = model["cost_us"].as_f64().unwrap_or(f64::INFINITY);
            anyhow::ensure!(cost_us < MOST_COST_US, "{}: {} takes {cost_us} us", machine["asset"], model["digest"]);
        }
    }
    for name in house.agent_names() {
        let pid = house.agent(&name).map(|process| process.pid());
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.unwrap_or_default()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident_kb: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(u64::MAX);
        println!("{name} holds {resident_kb} kB with its models");
        anyhow::ensure!(resident_kb < MOST_RESIDENT_KB, "{name} holds {resident_kb} kB");
    }
    Ok(())
}

/// The family of each model by its digest.
fn families(models: &Value) -> BTreeMap<String, String> {
    let cards = models["models"].as_array().map(Vec::as_slice).unwrap_or_default();
    let card = |model: &Value| Some((text(&model["card"]["digest"])?, text(&model["card"]["family"])?));
    cards.iter().filter_map(card).collect()
}

/// Which agent dies is drawn from the seed.
fn kill_one(house: &mut House, agents: &[String], chance: &mut u64) -> anyhow::Result<()> {
    *chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let name = &agents[(*chance >> 33) as usize % agents.len()];
    println!("kill -9 {name}");
    house.kill_agent(name)?;
    house.start_agent(name)
}

fn kill_aggregator(house: &mut House) -> anyhow::Result<()> {
    println!("kill -9 aggregator");
    house.kill_aggregator()?;
    house.start_aggregator()
}

fn no_alarm_before_its_fault(house: &House) -> anyhow::Result<()> {
    let began = commanded(house)?;
    for alarm in house.alarms()? {
        let asset = alarm["asset"].as_str().unwrap_or_default().to_owned();
        let since = began.get(&asset).copied();
        let raised = alarm["raised_us"].as_i64().unwrap_or_default();
        anyhow::ensure!(
            since.is_some_and(|since| raised >= since),
            "{asset} alarmed at {raised}, its fault began at {since:?}"
        );
    }
    Ok(())
}

/// When each fault began, from the simulator's own log.
fn commanded(house: &House) -> anyhow::Result<BTreeMap<String, i64>> {
    let text = std::fs::read_to_string(house.dir.join("expected.jsonl"))?;
    let faulty = FAULTS.map(|(asset, ..)| asset);
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines
        .filter(|line| line["event"] == "commanded" && faulty.iter().any(|asset| line["asset"] == *asset))
        .filter_map(|line| Some((line["asset"].as_str()?.to_owned(), line["t_us"].as_i64()?)))
        .collect())
}

/// Ends the plant, waits until everything it produced is committed, and counts with another reader than ours.
fn each_window_is_in_the_lake_exactly_once(house: &mut House) -> anyhow::Result<()> {
    house.control("/end", &serde_json::json!({}))?;
    let wanted = |house: &House| -> anyhow::Result<BTreeMap<(String, String), u64>> {
        let produced = expected::produced(&house.dir.join("expected.jsonl"))?;
        let mut wanted = BTreeMap::new();
        for machine in &house.machines {
            for (channel, unit, rate) in &machine.channels {
                let samples = produced.get(&(machine.asset.clone(), channel.clone())).copied().unwrap_or_default();
                let (point, window) = match (rate, channel.as_str(), unit.as_str()) {
                    (Some(_), ..) => (channel.clone(), TUNING.window),
                    (None, "temperature", _) => ("housing".to_owned(), TUNING.temperature_window),
                    (None, ..) => continue,
                };
                let count = expected::windows(samples, window.into(), window.into());
                wanted.insert((machine.asset.clone(), point), count);
            }
        }
        Ok(wanted)
    };
    let sql = "SELECT asset, point, count(*) AS n FROM features GROUP BY asset, point";
    let mut last = (BTreeMap::new(), BTreeMap::new());
    let seen = house.wait_for("every window in the lake", Duration::from_secs(90), |house| {
        let wanted = wanted(house).ok()?;
        let rows = house.query(sql).ok()?;
        let got = rows
            .iter()
            .filter_map(|row| Some(((text(&row[0])?, text(&row[1])?), row[2].as_u64()?)))
            .collect::<BTreeMap<_, _>>();
        last = (wanted.clone(), got.clone());
        (got == wanted).then_some(got)
    });
    let seen = seen.map_err(|error| anyhow::anyhow!("{error:#}\nexpected {:?}\nfound {:?}", last.0, last.1))?;
    // Committed means that another reader of the table sees the same, each window once.
    let mut last = None;
    let committed = house.wait_for("the commit of the last window", Duration::from_secs(60), |house| {
        let counts = lake::counts(house);
        let complete =
            counts.as_ref().is_ok_and(|counts| seen.iter().all(|(key, n)| counts.get(key) == Some(&(*n, *n))));
        last = Some(counts);
        complete.then_some(())
    });
    committed.map_err(|error| anyhow::anyhow!("{error:#}\nexpected {seen:?}\nfound {last:?}"))?;
    println!("{} series, {} windows, each exactly once", seen.len(), seen.values().sum::<u64>());
    let features = lake::equals_query(house, "features", &FEATURES)?;
    let scores = lake::equals_query(house, "scores", &SCORES)?;
    println!("query and table agree on {features} rows of features and {scores} of scores");
    Ok(())
}

fn seed() -> u64 {
    let given = std::env::var("KILTER_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
