//! Fewer bytes by policy: an agent that reports by exception, and one whose day has a budget. Nothing is lost by either.

mod recorded;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use kilter_tests::{Bins, House, Options, Ports, Tuning, free_port, npy, request};
use recorded::{CONFIG, simulate};

const TUNING: Tuning =
    Tuning { commissioning_windows: 12, window: 1280, temperature_window: 10, period_secs: 1.0, report_secs: 1.0 };
const PATIENCE: Duration = Duration::from_secs(60);
/// Windows of a tenth of a second in a recording of a minute and a half.
const SECONDS: usize = 90;
const WINDOWS: u64 = 900;
/// In windows.
const HEARTBEAT: u64 = 50;
const DAILY_BYTES: u64 = 65_536;

#[test]
fn d7_d8_what_is_left_out_is_accounted_for_and_what_a_budget_holds_back_comes_later() {
    let Some(bins) = Bins::built(&["kilter-agent", "kilter-aggregator", "kilter-lab", "kilter-sim"]) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    if let Err(error) = tell(bins, dir.path()) {
        panic!("{error:#}\nlogs and data are kept in {}", dir.keep().display());
    }
}

fn tell(bins: Bins, dir: &Path) -> anyhow::Result<()> {
    let options = Options {
        seed: 1,
        speed: 1.0,
        spec: None,
        tuning: TUNING,
        probation_secs: 1,
        lab_arguments: Vec::new(),
        broker: String::new(),
    };
    let mut house = House::new(bins, dir, Ports::free()?, options)?;
    house.start_aggregator()?;
    let quiet = "[on_change]\nheartbeat_secs = 5.0\nfeature = [{ name = \"velocity_rms\", deadband = 0.5 }]\n\n[clip]";
    let quiet = Agent::install(&house, "edge-1", "pump-1", quiet, &simulate(SECONDS, &[])?)?;
    let budget = format!("[uplink]\ndaily_bytes = {DAILY_BYTES}\n\n[clip]");
    let faulty = simulate(SECONDS, &[(4.0, 1.0), (5.5, 0.0)])?;
    let thrifty = Agent::install(&house, "edge-2", "pump-2", &budget, &faulty)?;
    house.start_agent("edge-1")?;
    house.start_agent("edge-2")?;
    by_exception(&mut house, &quiet)?;
    within_a_budget(&mut house, &thrifty)?;
    house.stop()
}

/// Few rows, which stand for every window; nothing is missing.
fn by_exception(house: &mut House, agent: &Agent) -> anyhow::Result<()> {
    let unchanged = house.wait_for("every window to be judged", PATIENCE, |house| {
        let rows = agent.rows(house)?.len() as u64;
        let unchanged = agent.figure("kilter_agent_windows_unchanged_total")?;
        (rows + unchanged == WINDOWS).then_some(unchanged)
    })?;
    let rows = agent.rows(house).context("the rows")?;
    ensure!(unchanged > WINDOWS * 3 / 4, "{} rows for {WINDOWS} windows", rows.len());
    // The difference of two windows' numbers is how many the second row stands for; a heartbeat bounds it.
    let stands_for = |pair: &[u64]| pair[1] - pair[0];
    let most = rows.windows(2).map(stands_for).max().unwrap_or_default();
    ensure!(rows.first() == Some(&0) && most == HEARTBEAT, "rows of windows {rows:?}");
    ensure!(WINDOWS - 1 - rows.last().copied().unwrap_or_default() < HEARTBEAT, "silent at the end: {rows:?}");
    let lab = house.bins().path("kilter-lab")?;
    let account = house.wait_for("an account without holes", PATIENCE, |house| {
        let ask = ["completeness", "default/north/pump-1/drive-end", "--data"];
        let output = Command::new(&lab).args(ask).arg(house.data_dir()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })?;
    ensure!(account.contains("complete") && !account.contains("unexplained"), "{account}");
    println!("{} rows stand for {WINDOWS} windows: {rows:?}", rows.len());
    Ok(())
}

/// Features stop at the budget and the alarm does not; a kill refills nothing; without a budget all of it comes.
fn within_a_budget(house: &mut House, agent: &Agent) -> anyhow::Result<()> {
    house.wait_for("the alarm", PATIENCE, |house| {
        house.alarms().ok()?.iter().any(|alarm| alarm["asset"] == "pump-2").then_some(())
    })?;
    house.wait_for("the end of the budget", PATIENCE, |_| {
        (agent.figure("kilter_agent_uplink_over_budget")? == 1
            && agent.figure("kilter_agent_machine_windows_total")? == WINDOWS)
            .then_some(())
    })?;
    let day = agent.day()?;
    let before = agent.rows(house).context("the rows")?.len() as u64;
    let (bytes, over) = agent.spent()?;
    ensure!(before < WINDOWS && bytes - over <= DAILY_BYTES, "{before} rows, {bytes} bytes, {over} of them over");
    house.kill_agent("edge-2")?;
    house.start_agent("edge-2")?;
    house.wait_for("the agent that was killed", PATIENCE, |_| {
        (agent.figure("kilter_agent_uplink_connected")? == 1 && agent.figure("kilter_agent_uplink_records_total")? > 0)
            .then_some(())
    })?;
    let again = agent.spent()?.0;
    let after = agent.rows(house).context("the rows")?.len() as u64;
    // A run over midnight has a budget more.
    if agent.day()? == day {
        ensure!(agent.figure("kilter_agent_uplink_over_budget") == Some(1) && again >= bytes, "{again} after {bytes}");
        ensure!(after <= before + 1, "{before} rows, and {after} after a kill: the budget was refilled");
    }
    let config = agent.dir.join("agent.toml");
    let text = fs::read_to_string(&config)?.replace(&format!("daily_bytes = {DAILY_BYTES}"), "daily_bytes = 0");
    fs::write(&config, text)?;
    house.kill_agent("edge-2")?;
    house.start_agent("edge-2")?;
    house.wait_for("every window", PATIENCE, |house| (agent.rows(house)?.len() as u64 == WINDOWS).then_some(()))?;
    let rows = agent.rows(house).context("the rows")?;
    ensure!(rows == (0..WINDOWS).collect::<Vec<_>>(), "each once: {rows:?}");
    println!("{before} rows within {DAILY_BYTES} bytes, the alarm beyond it, {WINDOWS} rows without a budget");
    Ok(())
}

/// An installed agent with one machine.
struct Agent {
    dir: std::path::PathBuf,
    asset: &'static str,
    page: SocketAddr,
}

impl Agent {
    /// With the recording, and this in front of the section for clips.
    fn install(house: &House, name: &str, asset: &'static str, policy: &str, samples: &[f32]) -> anyhow::Result<Self> {
        let page = SocketAddr::from(([127, 0, 0, 1], free_port().context("a free port")?));
        let config = CONFIG.replace("PAGE", &page.to_string()).replace("pump-1", asset).replace("[clip]", policy);
        house.install_agent(name, &config.replace("daily_bytes = 180000", "daily_bytes = 0"))?;
        let dir = house.agent_dir(name);
        fs::write(dir.join("run.npy"), npy(samples)).context("write the recording")?;
        Ok(Self { dir, asset, page })
    }

    /// The numbers of its windows that are in an answer, in order.
    fn rows(&self, house: &House) -> Option<Vec<u64>> {
        let sql = format!("SELECT window_index FROM features WHERE asset = '{}' ORDER BY window_index", self.asset);
        house.query(&sql).ok()?.iter().map(|row| row[0].as_u64()).collect()
    }

    /// One of its own figures, of whatever machine.
    fn figure(&self, name: &str) -> Option<u64> {
        let (_, text) = request(self.page, "GET", "/metrics", "").ok()?;
        let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let line = text.lines().find(of)?;
        line.split(' ').next_back()?.parse().ok()
    }

    /// Bytes of today, and those beyond the budget since the start.
    fn spent(&self) -> anyhow::Result<(u64, u64)> {
        let of = |name: &str| self.figure(name).with_context(|| format!("read {name}"));
        Ok((of("kilter_agent_uplink_day_bytes")?, of("kilter_agent_uplink_over_budget_bytes_total")?))
    }

    /// The day that its budget is of.
    fn day(&self) -> anyhow::Result<String> {
        let text = fs::read_to_string(self.dir.join("data").join("uplink.spent")).context("read what was spent")?;
        Ok(text.split(' ').next().unwrap_or_default().to_owned())
    }
}
