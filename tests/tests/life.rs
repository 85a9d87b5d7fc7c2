//! From failures that people note on the page to hours on the page, with every program: pumps whose cooling failed, the head that the lab
//! makes of their lives, and another pump that runs under it.
//!
//! Lives of a day and more pass in seconds, for the simulator goes as fast as the agents read.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use kilter_tests::{Bins, Browser, House, Options, Ports, Process, Tuning, free_port, post, story};
use serde_json::{Value, json};

#[test]
fn s0_26_failures_noted_on_the_page_become_hours_with_an_interval_on_the_page_of_another_machine() {
    let Some(bins) = Bins::built(&["kilter-agent", "kilter-aggregator", "kilter-lab", "kilter-sim"]) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    if let Err(error) = walk(bins, dir.path()) {
        panic!("{error:#}\nlogs and data are kept in {}", dir.keep().display());
    }
}

fn walk(bins: Bins, dir: &Path) -> anyhow::Result<()> {
    let failing: Vec<u64> = (0..FAILED).collect();
    let spec = dir.join("failing.toml");
    fs::write(&spec, plant(&failing)).context("write a plant file")?;
    let tuning = Tuning {
        commissioning_windows: 12,
        window: 0,
        temperature_window: READINGS,
        period_secs: PERIOD_S / f64::from(READINGS),
        report_secs: 1.0,
    };
    let options = Options {
        seed: SEED,
        speed: 1.0,
        spec: Some(spec.clone()),
        tuning,
        probation_secs: 1,
        lab_arguments: Vec::new(),
        broker: String::new(),
    };
    let mut house = House::new(bins, &dir.join("house"), Ports::free()?, options)?;
    // Detectors are other journeys' concern: they get few steps here.
    let lab = "[commit]\nmax_wait_ms = 1000\n[training]\nmax_steps = 20\n[drift]\nenabled = false\n";
    fs::write(house.data_dir().join("lab.toml"), lab).context("write the lab's config")?;
    house.start_aggregator()?;
    house.install_agent("line", &agent(&failing, house.ports.sensor))?;
    house.start_agent("line")?;
    let _failing = serve(&house, &spec, house.ports.sensor, WINDOWS)?;
    let windows = FAILED * WINDOWS;
    house.wait_for("every window of the pumps that failed", PATIENCE, |house| {
        let counted = house.query("SELECT count(*) AS n FROM features").ok()?;
        (counted.first()?[0].as_u64()? >= windows).then_some(())
    })?;
    println!("{FAILED} pumps have failed, {windows} windows");

    let host = house.ports.http.to_string();
    let mut browser = Browser::open(&dir.join("browser"), &format!("http://{host}{}", page(0)))?;
    note_on_the_page(&mut browser)?;
    for pump in 1..FAILED {
        let noted = json!({ "point": format!("default/north/pump-{pump}/housing"), "what": "failed-cooling" });
        post(house.ports.http, "/api/maintenance", &noted)?;
    }
    let noted = "SELECT asset FROM events WHERE event = 'maintenance' AND label = 'failed-cooling'";
    house.wait_for("every failure in the lake", PATIENCE, |house| {
        (house.query(noted).ok()?.len() as u64 == FAILED).then_some(())
    })?;
    println!("their failures are noted");

    let done = post(house.ports.http, "/api/train", &json!({ "asset_class": "pump", "seed": 1 }))?;
    let life = &done["life"][0];
    ensure!(life["offered"] == true, "no head for the remaining life: {life}");
    let head = life["digest"].as_str().context("the head's digest")?.to_owned();
    println!("{}", life["why"]);

    // The sensor of another pump is silent until the head runs there.
    let sensor = SocketAddr::from(([127, 0, 0, 1], free_port().context("a port")?));
    house.install_agent("another", &agent(&[ANOTHER], sensor))?;
    house.start_agent("another")?;
    let name = format!("pump-{ANOTHER}");
    house.wait_for("the head on another pump", PATIENCE, |house| {
        let row = row(house, &name)?;
        (story::running(&row, "shadow")? == head).then_some(())
    })?;
    println!("it is signed, rolled out and runs");
    let spec = dir.join("another.toml");
    fs::write(&spec, plant(&[ANOTHER])).context("write a plant file")?;
    let _another = serve(&house, &spec, sensor, SEEN)?;

    let scores = format!(
        "SELECT event_time_us, rul_h, rul_low_h, rul_high_h, window_index FROM scores \
         WHERE asset = '{name}' AND model = '{head}' ORDER BY window_index"
    );
    let scored = house.wait_for("hours with every window", PATIENCE, |house| {
        let rows = house.query(&scores).ok()?;
        (rows.last()?[4].as_u64()? == SEEN - 1).then_some(rows)
    })?;
    let count = scored.len() as u64;
    ensure!((SEEN - SILENT..=SEEN).contains(&count), "{count} scores of {SEEN} windows");
    let newest = judged(&scored)?;
    let shown = house.wait_for("the newest hours in the fleet", PATIENCE, |house| {
        let shown = row(house, &name)?["rul_h"].clone();
        // Low, estimate and high; stored in 32 bits.
        let same = |shown: &Value, stored: &Value| Some(shown.as_f64()? as f32 == stored.as_f64()? as f32);
        (0..3).zip([2, 1, 3]).all(|(ours, theirs)| same(&shown[ours], &newest[theirs]) == Some(true)).then_some(shown)
    })?;
    browser.value(&format!("location.assign({:?})", page(ANOTHER)))?;
    let fact = "[...document.querySelectorAll('.facts div')].map(fact => fact.innerText).find(text => /^Remaining life/.test(text))";
    let said = browser.wait_for("the hours on the machine's page", fact, PATIENCE)?;
    let said = said.as_str().context("a text")?.replace('\n', " ");
    same_hours(&said, &shown)?;
    browser.value("location.assign('/')")?;
    let cell = format!(
        "[...document.querySelectorAll('.body .row')].find(row => row.innerText.includes('{name}'))?.querySelector('.c-life:not(.nothing)')?.innerText"
    );
    let cell = browser.wait_for("the hours in the fleet's table", &cell, PATIENCE)?;
    same_hours(cell.as_str().context("a text")?, &shown)?;
    let complaints = browser.complaints(&host);
    ensure!(complaints.is_empty(), "the page complains: {complaints:?}");
    println!("{name}: {said}");
    house.stop()
}

/// A person opens the machine and records that it failed.
fn note_on_the_page(browser: &mut Browser) -> anyhow::Result<()> {
    let button = "[...document.querySelectorAll('.machine-head button')].find(button => /Record maintenance/.test(button.innerText))";
    browser.wait_for("the machine's page", &format!("{button}?.disabled === false"), PATIENCE)?;
    browser.value(&format!("{button}.click()"))?;
    let answer = "(dialog => dialog && (dialog.querySelector('input').value = 'failed-cooling', \
                  dialog.querySelector('button.primary').click(), true))(document.querySelector('dialog'))";
    browser.wait_for("the question what was done", answer, PATIENCE)?;
    browser.wait_for("the page's word that it is recorded", "/Recorded/.test(document.body.innerText)", PATIENCE)?;
    Ok(())
}

/// Holds what the head said against when the simulator lets that pump fail; the newest row.
fn judged(scored: &[Value]) -> anyhow::Result<Value> {
    let failed_us = START_US + (life(ANOTHER) as f64 * PERIOD_S * 1e6) as i64;
    let cap_h = 0.6 * MEDIAN as f64 * PERIOD_S / 3_600.0;
    let mut words = Vec::new();
    for row in scored {
        let at_us = row[0].as_i64().context("a time")?;
        let [said, low, high] = [1, 2, 3].map(|place| row[place].as_f64().unwrap_or(f64::NAN));
        ensure!(low <= said && said <= high && low < high && low >= 0.0, "hours of {row}");
        words.push((said, low, high, ((failed_us - at_us) as f64 / 3.6e9).min(cap_h)));
    }
    let share = words.len() as f64;
    let mean = words.iter().map(|word| word.3).sum::<f64>() / share;
    let wrong = |of: &dyn Fn(f64) -> f64| {
        (words.iter().map(|(said, .., left)| (of(*said) - left).powi(2)).sum::<f64>() / share).sqrt()
    };
    let (head_h, mean_h) = (wrong(&|said| said), wrong(&|_| mean));
    let held = words.iter().filter(|(_, low, high, left)| (low..=high).contains(&left)).count() as f64 / share;
    println!(
        "wrong by {head_h:.2} h, their own mean by {mean_h:.2} h; the interval held in {held:.2} of {share} windows"
    );
    ensure!(head_h < 0.7 * mean_h, "their own mean, which nobody knows before, is nearly as good");
    ensure!(held > 0.7, "the interval held in {held:.2}");
    scored.last().cloned().context("a score")
}

/// The numbers of a text like `6.1 h (4.9–7.3)` are these, as far as two digits go.
fn same_hours(text: &str, shown: &Value) -> anyhow::Result<()> {
    let numbers =
        text.split(|letter: char| !letter.is_ascii_digit() && letter != '.').filter_map(|part| part.parse().ok());
    let numbers: Vec<f64> = numbers.collect();
    let wanted = [1, 0, 2].map(|place: usize| shown[place].as_f64().unwrap_or(f64::NAN));
    let same = |(found, wanted): (&f64, &f64)| (found - wanted).abs() <= 0.051 * wanted.abs() + 1e-4;
    ensure!(numbers.len() == 3 && numbers.iter().zip(&wanted).all(same) && text.contains(" h"), "{text:?} for {shown}");
    Ok(())
}

/// A machine as the fleet shows it.
fn row(house: &House, asset: &str) -> Option<Value> {
    let fleet = house.fleet().ok()?;
    fleet["machines"].as_array()?.iter().find(|row| row["asset"] == asset).cloned()
}

fn page(pump: u64) -> String {
    format!("/machine/default/north/pump-{pump}")
}

/// Serves these pumps for so many windows, as fast as the agents read; what has failed stands.
fn serve(house: &House, spec: &Path, listen: SocketAddr, windows: u64) -> anyhow::Result<Process> {
    let mut command = Command::new(house.bins().path("kilter-sim")?);
    command
        .arg("plant")
        .arg("--spec")
        .arg(spec)
        .args(["--listen", &listen.to_string(), "--seed", &SEED.to_string(), "--speed", "max", "--linger", "600"])
        .args(["--start", START, "--duration", &(windows as f64 * PERIOD_S).to_string()]);
    Process::start("plant", &mut command, &spec.with_extension("log"))
}

/// Pumps of one kind whose cooling fails slowly at first and fast at the end; before they begin and after they failed they stand.
fn plant(pumps: &[u64]) -> String {
    let mut text = String::new();
    for pump in pumps {
        let (begin_s, lives_s) = (begin(*pump) as f64 * PERIOD_S, life(*pump) as f64 * PERIOD_S);
        let end_s = begin_s + lives_s;
        let (load, rise_c) = (0.55 + 0.05 * (pump * 3 % 7) as f64, 24 + pump * 5 % 9);
        let _ = write!(
            text,
            "[[machine]]\nagent = \"line\"\nclass = \"pump\"\naxes = []\nevery_s = {:?}\n[machine.spec]\nname = \"pump-{pump}\"\n\
             rate_hz = 2\nnominal_rpm = 1480\nload_noise = 0\n\
             bearing = {{ resonance_hz = 1 }}\nthermal = {{ rise_c = {rise_c} }}\n\
             load_changes = [{{ at_s = 0, rpm = 0, load = 0 }}, {{ at_s = {begin_s}, rpm = 1480, load = {load:.2} }}, \
             {{ at_s = {end_s}, rpm = 0, load = 0 }}]\n\
             faults = [{{ kind = \"cooling\", start_s = {begin_s}, growth_s = {lives_s}, severity = 1, growth = \"exponential\" }}]\n",
            PERIOD_S / f64::from(READINGS)
        );
    }
    text
}

/// A gateway that reads the housings' temperatures.
fn agent(pumps: &[u64], sensor: SocketAddr) -> String {
    let mut text =
        "data = \"data\"\nbundle = \"bundle.toml\"\nsite = \"north\"\nreport_secs = 1.0\n[http]\nlisten = \"\"\n"
            .to_owned();
    for pump in pumps {
        let _ = write!(
            text,
            "[[machine]]\nasset = \"pump-{pump}\"\nclass = \"pump\"\nsource = {{ kind = \"socket\", address = \"{sensor}\" }}\n\
             nominal_rpm = 1480.0\ncommissioning_windows = 12\n\
             [[machine.channel]]\nname = \"temperature\"\nkind = \"reading\"\nunit = \"degC\"\nperiod_secs = {:?}\n\
             [[machine.channel]]\nname = \"ambient\"\nkind = \"ambient\"\nunit = \"degC\"\n\
             [[machine.channel]]\nname = \"speed\"\nkind = \"speed\"\nunit = \"rpm\"\n\
             [[machine.channel]]\nname = \"load\"\nkind = \"load\"\nunit = \"1\"\n\
             [[machine.group]]\npoint = \"housing\"\nkind = \"temperature\"\nchannels = [\"temperature\", \"ambient\"]\nwindow = {READINGS}\n",
            PERIOD_S / f64::from(READINGS)
        );
    }
    text
}

/// How many windows a pump lives.
fn life(pump: u64) -> u64 {
    40 + pump * 37 % 41
}

/// The window in which a pump begins to run: those that failed last are neither the oldest nor the youngest.
fn begin(pump: u64) -> u64 {
    if pump == ANOTHER { 0 } else { pump * 5 % 9 * 9 }
}

/// Pumps that failed: one more than a head needs (`[training] least_lives`).
const FAILED: u64 = 9;
/// The pump that is asked about.
const ANOTHER: u64 = 13;
/// What those that failed had left at their first window, in windows.
const MEDIAN: u64 = 60;
/// All of them have failed by then.
const WINDOWS: u64 = 130;
/// Of the life of the other pump so much is seen: it still runs.
const SEEN: u64 = 62;
/// A head says nothing before it has seen so many windows.
const SILENT: u64 = 4;
const PERIOD_S: f64 = 1_200.0;
const READINGS: u32 = 10;
const SEED: u64 = 5;
/// Long ago: a failure is noted after it.
const START: &str = "2020-03-01T06:00:00Z";
const START_US: i64 = 1_583_042_400_000_000;
/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(90);
