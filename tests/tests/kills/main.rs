//! `kill -9` of aggregator and lab at random moments while agents deliver a fixed backlog: afterwards every table is, row by row, what a run
//! without a kill makes of the same records.
//!
//! Aggregator and lab are the programs; the agents are production uplinks over records that the seed makes, so that both runs get the
//! same. `KILTER_SEED` draws other moments and other records; `cargo xt proof` kills a hundred times.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

mod backlog;
mod edge;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use backlog::Backlog;
use edge::Edge;
use kilter_tests::{Bins, Chance, House, Options, Ports, Tuning, get, post};
use serde_json::{Value, json};

#[test]
fn s0_19_s4_21_after_kills_at_random_moments_the_tables_are_those_of_a_run_without_kills() {
    trial(6);
}

#[test]
#[ignore = "minutes: run by cargo xt proof"]
fn s0_19_s4_21_after_a_hundred_kills_at_random_moments_the_tables_are_those_of_a_run_without_kills() {
    trial(100);
}

/// Columns that tell of a record's arrival instead of what it says; all others must be equal.
const OF_ARRIVAL: [(&str, &str); 2] = [
    ("received_us", "when the aggregator took it"),
    ("journal_offset", "where it stands in the aggregator's journal, whose batches a kill cuts in other places"),
];

/// What can't be read has no time of its own: its day is that of its receipt.
const OF_QUARANTINE: &str = "day";

const TABLES: [&str; 6] = ["features", "scores", "events", "gaps", "quarantine", "clips"];

/// The rows of each table without what depends on arrival, sorted.
type Tables = BTreeMap<&'static str, (Vec<String>, Vec<String>)>;

fn trial(kills: u64) {
    let Some(bins) = Bins::built(&["kilter-aggregator", "kilter-lab", "kilter-sim"]) else { return };
    let seed = std::env::var("KILTER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let compared = || -> anyhow::Result<()> {
        let run = |name: &str, kills| Run::begin(bins.clone(), &dir.path().join(name), &runtime, seed)?.tell(kills);
        let (wanted, found) = (run("without", 0)?, run("with", kills)?);
        for table in TABLES {
            let ((columns, wanted), (others, found)) = (&wanted[table], &found[table]);
            ensure!(columns == others, "{table} has other columns: {columns:?}, {others:?}");
            let differs = wanted.iter().zip(found).find(|(wanted, found)| wanted != found);
            ensure!(differs.is_none(), "{table} differs: without kills, with them\n{differs:#?}");
            ensure!(wanted.len() == found.len(), "{table}: {} rows, then {}", wanted.len(), found.len());
            println!("{table}: {} rows equal in {} columns", found.len(), columns.len());
        }
        Ok(())
    };
    if let Err(error) = compared() {
        panic!("seed {seed}: {error:#}\nlogs and data are kept in {}", dir.keep().display());
    }
}

/// A house without a plant, and agents with a backlog.
struct Run {
    house: House,
    backlog: Backlog,
    edges: Vec<Edge>,
    chance: Chance,
}

impl Run {
    fn begin(bins: Bins, dir: &Path, runtime: &tokio::runtime::Runtime, seed: u64) -> anyhow::Result<Self> {
        let tuning = Tuning {
            commissioning_windows: 20,
            window: 2048,
            temperature_window: 5,
            period_secs: 1.0,
            report_secs: 5.0,
        };
        let options = Options {
            seed,
            speed: 1.0,
            spec: None,
            tuning,
            probation_secs: 1,
            lab_arguments: Vec::new(),
            broker: String::new(),
        };
        let mut house = House::new(bins, dir, Ports::free()?, options)?;
        let lab = "[commit]\nmax_wait_ms = 100\n[query]\nmax_rows = 1000000\n[drift]\nenabled = false\n";
        std::fs::write(house.data_dir().join("lab.toml"), lab)?;
        house.start_aggregator()?;
        let backlog = Backlog::of(seed);
        let edges = backlog.devices().map(|(device, records)| {
            let bundle = house.dir.join(format!("{device}.toml"));
            house.enrol(device, &bundle)?;
            Edge::start(runtime, &bundle, records.clone(), seed)
        });
        let edges = edges.collect::<anyhow::Result<_>>()?;
        Ok(Self { house, backlog, edges, chance: Chance::new(seed) })
    }

    fn tell(mut self, kills: u64) -> anyhow::Result<Tables> {
        let (begun, rounds, mut labs) = (Instant::now(), kills.max(1), 0);
        for round in 1..=rounds {
            self.edges.iter().for_each(|edge| edge.produce(round, rounds));
            if kills > 0 {
                labs += self.kill().with_context(|| format!("kill {round}"))?;
            }
        }
        let Self { mut house, backlog, edges, .. } = self;
        house.wait_for("the agents' last committed record", PATIENCE, |_| {
            edges.iter().all(Edge::is_released).then_some(())
        })?;
        house.wait_for("the last commit", PATIENCE, |house| {
            let status = get(house.ports.http, "/api/lab").ok()?;
            (status["rows_waiting"] == 0).then_some(())
        })?;
        println!(
            "{kills} kills of the aggregator, {labs} of the lab, {} records, {} sent; {:.1} s",
            backlog.len(),
            edges.iter().map(Edge::sent).sum::<u64>(),
            begun.elapsed().as_secs_f64()
        );
        ensure!(kills < 10 || labs >= kills / 20, "{labs} kills of the lab are no fair share of {kills}");
        let tables = TABLES.into_iter().map(|table| Ok((table, read(&house, table)?)));
        let tables: Tables = tables.collect::<anyhow::Result<_>>()?;
        // Two runs could be wrong in the same way: the backlog itself says how many there must be.
        for (table, count) in backlog.rows() {
            let found = tables[table].1.len();
            ensure!(found == count, "{table} holds {found} rows, the agents had {count} records");
        }
        reconciled(&house, &backlog)?;
        drop(edges);
        house.stop()?;
        Ok(tables)
    }

    /// One kill, at a moment that the seed draws: mostly with agents connected, now and then while the server still opens. In a part of them
    /// the lab is killed by itself before; says whether it was.
    fn kill(&mut self) -> anyhow::Result<u64> {
        if self.chance.below(5) > 0 {
            let edges = &self.edges;
            self.house
                .wait_for("an agent's connection", PATIENCE, |_| edges.iter().any(Edge::is_connected).then_some(()))?;
        }
        self.wait_ms(500);
        let mut labs = 0;
        if self.chance.below(3) == 0
            && let Some(pid) = self.house.lab_pid()
        {
            let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
            labs += u64::from(killed.success());
            self.wait_ms(300);
        }
        self.house.kill_aggregator()?;
        self.house.launch_aggregator()?;
        Ok(labs)
    }

    fn wait_ms(&mut self, most: u64) {
        std::thread::sleep(Duration::from_millis(self.chance.below(most)));
    }
}

/// A table as the lab answers it.
fn read(house: &House, table: &str) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let answer = post(house.ports.http, "/api/query", &json!({ "sql": format!("SELECT * FROM {table}") }))?;
    ensure!(answer["truncated"] == false, "the answer for {table} is cut");
    let columns = answer["columns"].as_array().context("read the columns")?;
    let names: Vec<&str> = columns.iter().filter_map(Value::as_str).collect();
    let told = |name: &&str| OF_ARRIVAL.iter().any(|(column, _)| column == name);
    let kept: Vec<bool> =
        names.iter().map(|name| !told(name) && (table != "quarantine" || *name != OF_QUARANTINE)).collect();
    let rows = answer["rows"].as_array().context("read the rows")?.iter().map(|row| {
        let values = row.as_array().into_iter().flatten().zip(&kept).filter(|(_, kept)| **kept);
        values.map(|(value, _)| value.to_string()).collect::<Vec<_>>().join("|")
    });
    let mut rows: Vec<String> = rows.collect();
    rows.sort_unstable();
    let names = names.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(name, _)| (*name).to_owned());
    Ok((names.collect(), rows))
}

/// Every file is what the log says, nothing is there twice, and nothing that was acknowledged is missing but what is in quarantine, where it has
/// no number.
fn reconciled(house: &House, backlog: &Backlog) -> anyhow::Result<()> {
    let mut command = Command::new(house.bins().path("kilter-lab")?);
    let output = command.arg("reconcile").arg("--data").arg(house.data_dir()).output()?;
    let report: Value = serde_json::from_slice(&output.stdout).context("read the report")?;
    let sound = report["damaged"] == json!([]) && report["doubled"] == json!([]);
    ensure!(sound, "the lake is not what it should be: {report}");
    let mut lost = BTreeSet::new();
    for range in report["lost"].as_array().into_iter().flatten() {
        let name = |field: &str| range[field].as_str().unwrap_or_default().to_owned();
        let seqs = range["first"].as_u64().zip(range["last"].as_u64()).context("read a range")?;
        lost.extend((seqs.0..=seqs.1).map(|seq| (name("device"), name("class"), seq)));
    }
    let broken = backlog.broken();
    ensure!(lost == broken, "missing: {lost:?}, broken on the way in: {broken:?}");
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(90);
