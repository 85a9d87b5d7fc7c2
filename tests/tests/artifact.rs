//! The artifact behind a figure on a real agent: what `evaluate` exported is registered, signed and rolled out by the aggregator, the
//! agent replays the recording, and the lake holds the very scores that the figure was made from, bit for bit.
//!
//! One C-MAPSS engine (a RUL head) and one SKAB file (a quadratic form around the file's own beginning).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use kilter_tests::{Bins, House, Machine, Options, Ports, Tuning, lake, story};
use serde_json::Value;

#[test]
fn a_turbofan_engine_is_scored_by_a_real_agent_with_the_bits_of_the_evaluation() {
    let config = format!(
        "{}[[machine.channel]]\nname = \"engine\"\nkind = \"cycle\"\nunit = \"1\"\nwidth = 24\n{}",
        machine("test_fd001-49", "turbofan", 60),
        group("point", "cycle", &["engine"])
    );
    let case = Case {
        suite: "cmapss",
        // Fewer steps than a figure is made with: what is compared is scores, not how good they are.
        arguments: &["--seeds", "1", "--steps", "150"],
        recording: "test_FD001-49",
        asset: "test_fd001-49",
        columns: &["anomaly", "threshold", "rul_h", "rul_low_h", "rul_high_h", "kernel", "contributions", "rest"],
    };
    run(&case, &config);
}

#[test]
fn a_skab_file_with_holes_is_scored_by_a_real_agent_with_the_bits_of_the_evaluation() {
    let channels = [
        ("accelerometer1", "g"),
        ("accelerometer2", "g"),
        ("current", "A"),
        ("pressure", "bar"),
        ("temperature", "degC"),
        ("thermocouple", "degC"),
        ("voltage", "V"),
        ("flow", "L/min"),
    ];
    let mut config = machine("valve1-2", "rig", 12);
    for (name, unit) in channels {
        config += &format!(
            "[[machine.channel]]\nname = \"{name}\"\nkind = \"reading\"\nunit = \"{unit}\"\nperiod_secs = 1.0\n"
        );
    }
    config += &group("point", "reading", &channels.map(|(name, _)| name));
    let case = Case {
        suite: "skab",
        arguments: &[],
        recording: "valve1-2",
        asset: "valve1-2",
        columns: &["anomaly", "threshold", "kernel", "contributions", "rest"],
    };
    run(&case, &config);
}

/// One recording of one suite.
struct Case<'a> {
    suite: &'a str,
    arguments: &'a [&'a str],
    recording: &'a str,
    asset: &'a str,
    /// What is compared of each score.
    columns: &'a [&'a str],
}

fn run(case: &Case<'_>, config: &str) {
    let bins = Bins::find();
    let built = ["kilter-agent", "kilter-aggregator", "kilter-lab", "kilter-sim"].iter().all(|name| bins.has(name));
    let data = std::env::var_os("KILTER_DATA").map(PathBuf::from);
    let Some(data) = data.filter(|data| built && data.join(case.suite).is_dir()) else {
        assert!(std::env::var_os("CI").is_none(), "CI builds the programs first and sets KILTER_DATA");
        println!("not run: 1 (the programs are not built, or KILTER_DATA names no folder with {})", case.suite);
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    if let Err(error) = compare(bins, dir.path(), &data, case, config) {
        panic!("{}: {error:#}\nlogs and data are kept in {}", case.suite, dir.keep().display());
    }
}

fn compare(bins: Bins, dir: &Path, data: &Path, case: &Case<'_>, config: &str) -> anyhow::Result<()> {
    let exported = dir.join("exported");
    let output = Command::new(bins.path("kilter-lab")?)
        .args(["evaluate", case.suite])
        .args(case.arguments)
        .arg("--data")
        .arg(data)
        .arg("--export")
        .arg(&exported)
        .arg("--json")
        .arg(dir.join("rows.json"))
        .output()
        .context("evaluate")?;
    ensure!(output.status.success(), "evaluate: {}", String::from_utf8_lossy(&output.stderr));
    let scores = scores(&exported, case.recording)?;
    let digest = scores.first().and_then(|score| score["model"].as_str()).context("a score")?.to_owned();
    ensure!(scores.iter().all(|score| score["model"] == digest.as_str()), "one artifact scores one recording");
    every_row_names_an_exported_artifact(&dir.join("rows.json"), &exported, &digest)?;

    let tuning =
        Tuning { commissioning_windows: 60, window: 0, temperature_window: 0, period_secs: 1.0, report_secs: 1.0 };
    let options = Options {
        seed: 1,
        speed: 1.0,
        spec: None,
        tuning,
        probation_secs: 1,
        lab_arguments: Vec::new(),
        broker: String::new(),
    };
    let mut house = House::new(bins, &dir.join("house"), Ports::free()?, options)?;
    house.start_aggregator()?;
    let head =
        "data = \"data\"\nbundle = \"bundle.toml\"\nsite = \"north\"\nreport_secs = 1.0\n[http]\nlisten = \"\"\n";
    house.install_agent("gateway", &format!("{head}{}", config.replace("SENSOR", &house.ports.sensor.to_string())))?;
    house.start_agent("gateway")?;
    // The sensor is silent until the model runs: then the first window is the first for both.
    offer(&house, &exported, &digest)?;
    house.wait_for("the model on the agent", PATIENCE, |house| {
        let fleet = house.fleet().ok()?;
        let rows = fleet["machines"].as_array()?;
        rows.iter().any(|row| story::running(row, "leader").as_deref() == Some(&digest)).then_some(())
    })?;
    house.start_replay(data, case.suite, &["--file", case.recording])?;
    let sql = format!(
        "SELECT window_index, {} FROM scores WHERE asset = '{}' AND model = '{digest}' ORDER BY window_index",
        case.columns.join(", "),
        case.asset
    );
    let mut count = 0;
    let rows = house.wait_for("every score", PATIENCE, |house| {
        let rows = house.query(&sql).ok()?;
        count = rows.len();
        (count >= scores.len()).then_some(rows)
    });
    let rows = rows.with_context(|| format!("{} scores expected, {count} found", scores.len()))?;
    ensure!(rows.len() == scores.len(), "{} scores expected, {} found", scores.len(), rows.len());
    for (score, row) in scores.iter().zip(&rows) {
        ensure!(row[0] == score["window_index"], "expected window {}, found {}", score["window_index"], row[0]);
        for (place, column) in case.columns.iter().enumerate() {
            let (ours, theirs) = (bits(&score[*column])?, bits(&row[place + 1])?);
            ensure!(ours == theirs, "window {}: {column} is {} and {}", row[0], score[*column], row[place + 1]);
        }
    }
    // Committed: another reader of the table finds the same rows.
    house.machines = vec![Machine {
        asset: case.asset.to_owned(),
        agent: "gateway".to_owned(),
        class: String::new(),
        channels: Vec::new(),
        nominal_rpm: 0.0,
        bearing: Value::Null,
    }];
    let wanted = ["window_index", "model", "anomaly", "threshold"];
    let mut last = None;
    let read = house.wait_for("the commit of the last score", PATIENCE, |house| {
        last = Some(lake::equals_query(house, "scores", &wanted));
        last.as_ref()?.as_ref().ok().copied().filter(|read| *read >= scores.len())
    });
    let read = read.with_context(|| format!("the last look: {last:?}"))?;
    println!("{}: {} scores by {digest:.12} with the same bits, {read} rows in the table", case.asset, rows.len());
    house.stop()
}

/// The scores that evaluate made its figures of this recording from, in order.
fn scores(exported: &Path, recording: &str) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(exported.join("scores.jsonl")).context("read the exported scores")?;
    let lines = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let mut scores: Vec<_> = lines.into_iter().filter(|score| score["recording"] == recording).collect();
    scores.sort_by_key(|score| score["window_index"].as_u64());
    ensure!(scores.len() > 30, "{} scores of {recording}", scores.len());
    Ok(scores)
}

/// Every row names artifacts that lie in the folder with their signed manifests, this one among them.
fn every_row_names_an_exported_artifact(rows: &Path, exported: &Path, digest: &str) -> anyhow::Result<()> {
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(rows).context("read the rows")?)?;
    let mut named = false;
    for row in &rows {
        let artifacts = row["artifacts"].as_array().with_context(|| format!("{row} names no artifacts"))?;
        ensure!(!artifacts.is_empty() && row["kernel"].as_u64() > Some(0), "{row} names no artifact or kernel");
        for artifact in artifacts.iter().filter_map(Value::as_str) {
            let there = ["kltm", "signed.json", "card.json"].map(|end| exported.join(format!("{artifact}.{end}")));
            ensure!(there.iter().all(|path| path.is_file()), "{artifact} is not exported");
            let bytes = std::fs::read(&there[0])?;
            ensure!(kilter_types::Digest::of(&bytes).to_string() == *artifact, "{artifact} is another artifact");
            named |= artifact == digest;
        }
    }
    ensure!(named, "no row names {digest}");
    Ok(())
}

/// Puts artifact and card where the lab puts what it has trained, the card last.
fn offer(house: &House, exported: &Path, digest: &str) -> anyhow::Result<()> {
    let outbox = house.data_dir().join("lab").join("outbox");
    std::fs::create_dir_all(&outbox).context("create the outbox")?;
    let name = |end: &str| format!("{digest}.{end}");
    std::fs::copy(exported.join(name("kltm")), outbox.join(name("kltm"))).context("copy the artifact")?;
    std::fs::copy(exported.join(name("card.json")), outbox.join(name("new"))).context("copy the card")?;
    std::fs::rename(outbox.join(name("new")), outbox.join(name("card.json"))).context("finish the card")
}

/// A value of a score: each number as the 32 bits that were stored, lists (which may come as text) part by part.
fn bits(value: &Value) -> anyhow::Result<String> {
    Ok(match value {
        Value::Null => "none".to_owned(),
        Value::Number(number) => {
            let number = number.as_f64().context("a number")?;
            format!("{:08x}", (number as f32).to_bits())
        }
        Value::String(text) => bits(&serde_json::from_str(text).with_context(|| format!("read {text}"))?)?,
        Value::Array(parts) => parts.iter().map(bits).collect::<Result<Vec<_>, _>>()?.join(" "),
        Value::Object(parts) => {
            let part = |(name, value): (&String, &Value)| Ok(format!("{name}={}", bits(value)?));
            parts.iter().map(part).collect::<anyhow::Result<Vec<_>>>()?.join(" ")
        }
        Value::Bool(_) => anyhow::bail!("{value} is no part of a score"),
    })
}

fn machine(asset: &str, class: &str, commissioning: u32) -> String {
    format!(
        "\n[[machine]]\nasset = \"{asset}\"\nclass = \"{class}\"\nsource = {{ kind = \"socket\", address = \"SENSOR\" }}\n\
         commissioning_windows = {commissioning}\n"
    )
}

fn group(point: &str, kind: &str, channels: &[&str]) -> String {
    format!("[[machine.group]]\npoint = \"{point}\"\nkind = \"{kind}\"\nchannels = {channels:?}\nwindow = 1\nhop = 1\n")
}

/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(90);
