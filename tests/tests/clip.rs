//! Raw clips from a simulated machine through a real agent, aggregator and lab into the lake, sample by sample, and back to what the device said.
//!
//! A recording of the simulator is what the sensor measures, so the samples in the lake can be compared with those of the simulator itself. One
//! clip comes by itself with an alarm, another because somebody asks the aggregator for it. From the samples in the lake the shared code makes every
//! whole window's features again, and a model's scores: they are the rows that the device sent, bit for bit. The model has no memory, for a clip
//! begins in the middle of a life.

mod recorded;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use kilter_infer::{Artifact, Scratch, State};
use kilter_signal::{
    extract::{self, Vibration, VibrationSetup},
    fft::{self, Plan},
    table::{self, at},
};
use kilter_tests::{
    Bins, House, Options, Ports, Tuning, free_port,
    model::{publish, statistic},
    npy, post, request, story,
};
use kilter_types::{Digest, Hertz, Rpm};
use recorded::{CONFIG, RATE_HZ, simulate};
use serde_json::{Value, json};

const BEFORE_S: usize = 2;
const AFTER_MS: usize = 500;
const TUNING: Tuning =
    Tuning { commissioning_windows: 12, window: 1280, temperature_window: 10, period_secs: 1.0, report_secs: 1.0 };

#[test]
fn an_alarm_brings_the_samples_around_it_into_the_lake_bit_by_bit_and_within_the_days_budget() {
    let Some(bins) = Bins::built(&["kilter-agent", "kilter-aggregator", "kilter-sim", "kilter-lab"]) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    if let Err(error) = tell(bins, dir.path()) {
        panic!("{error:#}\nlogs and data are kept in {}", dir.keep().display());
    }
}

fn tell(bins: Bins, dir: &Path) -> anyhow::Result<()> {
    let samples = simulate(15, &[(4.0, 1.0), (5.5, 0.0), (10.0, 1.0), (11.5, 0.0)])?;
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
    let agent = house.agent_dir("edge-1");
    let page = SocketAddr::from(([127, 0, 0, 1], free_port().context("a free port")?));
    // Of a kind of its own: the model is for the other machine alone.
    let press = CONFIG.replace("class = \"pump\"", "class = \"press\"");
    house.install_agent("edge-1", &press.replace("PAGE", &page.to_string()))?;
    fs::write(agent.join("run.npy"), npy(&samples)).context("write the recording")?;
    house.start_agent("edge-1")?;

    let sql =
        "SELECT clip, cause, channel, \"position\", part, parts, samples, rate_hz FROM clips WHERE asset = 'pump-1'";
    let parts = house.wait_for("the clip", Duration::from_secs(90), |house| {
        let rows = house.query(sql).ok()?;
        let whole = rows.first()?[5].as_u64()?;
        (rows.len() as u64 >= whole).then_some(rows)
    })?;
    let raised = house.wait_for("both alarms", Duration::from_secs(60), |house| {
        let mut raised: Vec<i64> =
            house.alarms().ok()?.iter().filter_map(|alarm| alarm["raised_us"].as_i64()).collect();
        raised.sort_unstable();
        (raised.len() == 2).then_some(raised)
    })?;

    let clip = joined(&parts, "alarm")?;
    let first = clip.position as i64 * 1_000_000 / RATE_HZ as i64;
    ensure!(raised[0] - first == BEFORE_S as i64 * 1_000_000, "it begins {} us before the alarm", raised[0] - first);
    ensure!(clip.samples.len() == (BEFORE_S * 1000 + AFTER_MS) * RATE_HZ / 1000, "{} samples", clip.samples.len());
    let measured = &samples[clip.position..clip.position + clip.samples.len()];
    let same = clip.samples.iter().zip(measured).all(|(kept, measured)| kept.to_bits() == measured.to_bits());
    ensure!(same, "the lake holds other samples than the simulator made");

    // The second alarm had no budget left: not another byte, also once everything is committed.
    let everything = "SELECT count(*) AS n FROM features WHERE asset = 'pump-1'";
    house.wait_for("every window", Duration::from_secs(60), |house| {
        let rows = house.query(everything).ok()?;
        (rows.first()?[0].as_u64()? as usize == samples.len() / TUNING.window as usize).then_some(())
    })?;
    let rows = house.query(sql)?;
    ensure!(rows.len() == parts.len(), "{} parts of clips came after the first clip's {}", rows.len(), parts.len());
    let spent = fs::read_to_string(agent.join("data").join("clips").join("pump-1")).context("read the budget")?;
    ensure!(spent.trim().ends_with(&format!(" {}", clip.samples.len() * 4)), "the budget says {spent:?}");
    decides_within_a_hop(page, samples.len() / TUNING.window as usize)?;
    let again = clip.features(&mut house, "pump-1")?.len();
    println!("{} parts, {} samples from {}, alarms at {raised:?}", parts.len(), clip.samples.len(), clip.position);
    println!("the rows of {again} windows again from the samples in the lake, bit for bit");
    on_demand(&mut house)?;
    house.stop()
}

/// A second agent measures a healthy machine in real time under a model; somebody asks the aggregator for its samples, and for those of nobody.
fn on_demand(house: &mut House) -> anyhow::Result<()> {
    let samples = simulate(120, &[])?;
    let quiet = CONFIG.replace("PAGE", "").replace("pump-1", "pump-2").replace("speed = 0.0", "speed = 1.0");
    house.install_agent("edge-2", &quiet)?;
    fs::write(house.agent_dir("edge-2").join("run.npy"), npy(&samples)).context("write the recording")?;
    house.start_agent("edge-2")?;
    let ask = |asset: &str| json!({ "tenant": "default", "site": "north", "asset": asset });
    let sql = "SELECT COUNT(seq) AS n FROM features WHERE asset = 'pump-2'";
    house.wait_for("the second machine", Duration::from_secs(30), |house| {
        (house.query(sql).ok()?.first()?[0].as_u64()? > 0).then_some(())
    })?;
    let artifact = statistic(1e6, 1.0);
    let model = publish(&house.data_dir(), &artifact, "leader")?;
    house.wait_for("the model on the second machine", Duration::from_secs(60), |house| {
        let fleet = house.fleet().ok()?;
        let row = fleet["machines"].as_array()?.iter().find(|row| row["asset"] == "pump-2")?;
        (story::running(row, "leader")? == model.to_string()).then_some(())
    })?;
    // Asked as soon as the model has seen as much as a clip begins with.
    let sql = format!("SELECT COUNT(seq) AS n FROM scores WHERE asset = 'pump-2' AND model = '{model}'");
    house.wait_for("scores of the second machine", Duration::from_secs(60), |house| {
        let windows = house.query(&sql).ok()?.first()?[0].as_u64()? as usize;
        (windows * TUNING.window as usize > (BEFORE_S + 1) * RATE_HZ).then_some(())
    })?;
    let asked = post(house.ports.http, "/api/clips", &ask("pump-2")).context("ask for a clip")?;
    ensure!(asked["device"] == "edge-2", "somebody else was asked: {asked}");
    let command = asked["command"].as_u64().context("the command's number")?;
    let (status, said) = request(house.ports.http, "POST", "/api/clips", &ask("pump-9").to_string())?;
    ensure!(status == 404, "a clip of a machine that nobody knows: {status} {said}");

    let sql =
        "SELECT clip, cause, channel, \"position\", part, parts, samples, rate_hz FROM clips WHERE asset = 'pump-2'";
    let parts = house.wait_for("the clip that was asked for", Duration::from_secs(60), |house| {
        let rows = house.query(sql).ok()?;
        let whole = rows.first()?[5].as_u64()?;
        (rows.len() as u64 >= whole).then_some(rows)
    })?;
    let clip = joined(&parts, &command.to_string())?;
    let expected = (BEFORE_S * 1000 + AFTER_MS) * RATE_HZ / 1000;
    ensure!(clip.samples.len() == expected, "{} samples of {expected}", clip.samples.len());
    let measured = &samples[clip.position..clip.position + clip.samples.len()];
    let same = clip.samples.iter().zip(measured).all(|(kept, measured)| kept.to_bits() == measured.to_bits());
    ensure!(same, "the lake holds other samples than the simulator made");
    let again = clip.scores(house, "pump-2", &artifact, model)?;
    println!("asked for: {} parts, {} samples from {}", parts.len(), clip.samples.len(), clip.position);
    println!("rows and scores of {again} windows again from the samples in the lake, bit for bit");
    Ok(())
}

/// From a block's arrival to the last output of the window that it closed: 99 of 100 take less than the window itself did.
fn decides_within_a_hop(page: SocketAddr, windows: usize) -> anyhow::Result<()> {
    let (_, text) = request(page, "GET", "/metrics", "")?;
    let histogram = text.lines().filter_map(|line| line.strip_prefix("kilter_agent_machine_decision_seconds_bucket"));
    let counts: Vec<(String, usize)> = histogram
        .filter_map(|line| {
            let bound = line.split("le=\"").nth(1)?.split('"').next()?.to_owned();
            Some((bound, line.split(' ').next_back()?.parse().ok()?))
        })
        .collect();
    let all = counts.iter().find(|(bound, _)| bound == "+Inf").map_or(0, |(_, count)| *count);
    // A block of the recording closes about three windows.
    ensure!(all >= windows / 4, "{all} decisions were timed for {windows} windows:\n{text}");
    let hop_secs = f64::from(TUNING.window) / RATE_HZ as f64;
    let within = counts.iter().filter(|(bound, _)| bound.parse::<f64>().is_ok_and(|bound| bound < hop_secs));
    let within = within.map(|(_, count)| *count).max().unwrap_or(0);
    ensure!(within * 100 >= all * 99, "{within} of {all} decisions within a hop of {hop_secs} s:\n{text}");
    println!("{within} of {all} decisions within a hop of {hop_secs} s: {counts:?}");
    Ok(())
}

struct Joined {
    position: usize,
    rate_hz: f32,
    samples: Vec<f32>,
}

impl Joined {
    /// The features of every whole window again; they must be the rows in the lake to the bit.
    fn features(&self, house: &mut House, asset: &str) -> anyhow::Result<Vec<(u64, Vibration)>> {
        let rows = self.said(house, "features", "rpm, valid, \"values\"", &format!("asset = '{asset}'"))?;
        let window = TUNING.window as usize;
        let plan = Plan::new(window, vec![0.0; fft::table_len(window)]).context("set the extraction up")?;
        let mut scratch = vec![0.0; extract::scratch_len(window)];
        let mut all = Vec::new();
        for row in &rows {
            let index = row[0].as_u64().context("a window")?;
            let (rpm, valid) = (Rpm(float(&row[1])?), row[2].as_u64().context("a mask")?);
            let setup = VibrationSetup::new(Hertz(self.rate_hz)).context("set the extraction up")?.with_shaft(rpm);
            let samples = &self.samples[index as usize * window - self.position..][..window];
            let mut again = Vibration::default();
            extract::vibration(samples, &setup, &plan, &mut scratch, &mut again).context("set the extraction up")?;
            let values: Vec<f32> = row[3].as_array().context("values")?.iter().map(float).collect::<Result<_, _>>()?;
            ensure!(values.len() == table::VIBRATION_LEN, "{} values", values.len());
            ensure!(again.valid & table::mask(values.len()) == valid, "window {index} is valid in {valid:b}");
            let differs = values.iter().zip(&again.values).position(|(sent, again)| sent.to_bits() != again.to_bits());
            ensure!(
                differs.is_none(),
                "window {index}: value {differs:?} of {values:?} is another: {:?}",
                again.values
            );
            all.push((index, again));
        }
        Ok(all)
    }

    /// As the features, and from them the scores of a model without memory.
    fn scores(&self, house: &mut House, asset: &str, artifact: &[u8], model: Digest) -> anyhow::Result<usize> {
        let windows = self.features(house, asset)?;
        let of_model = format!("asset = '{asset}' AND model = '{model}'");
        let rows = self.said(house, "scores", "anomaly, threshold", &of_model)?;
        let artifact = Artifact::parse(artifact).context("read the model")?;
        for (row, (index, window)) in rows.iter().zip(&windows) {
            ensure!(row[0].as_u64() == Some(*index), "the score of window {index} is missing: {row}");
            let inputs = [at::RMS, at::KURTOSIS].map(|place| window.values[place]);
            let (mut state, mut scratch) = (State::<1024>::new(), Scratch::new());
            let scored = artifact.push(&inputs, &mut state, &mut scratch).context("score a window")?;
            let again = scored.context("no score")?.anomaly;
            let (sent, threshold) = (float(&row[1])?, float(&row[2])?);
            ensure!(sent.to_bits() == again.to_bits(), "window {index} scored {sent}, and {again} again");
            ensure!(
                threshold.to_bits() == artifact.threshold().to_bits(),
                "window {index}: a threshold of {threshold}"
            );
        }
        Ok(rows.len())
    }

    /// What the lake holds of each whole window of the clip, by window.
    fn said(&self, house: &mut House, table: &str, columns: &str, of: &str) -> anyhow::Result<Vec<Value>> {
        let window = TUNING.window as usize;
        let (first, behind) = (self.position.div_ceil(window), (self.position + self.samples.len()) / window);
        let sql = format!(
            "SELECT window_index, {columns} FROM {table} WHERE {of} AND window_index >= {first} AND window_index < {behind} \
             ORDER BY window_index"
        );
        let mut found = 0;
        let rows = house.wait_for("every window of the clip", Duration::from_secs(60), |house| {
            let rows = house.query(&sql).ok()?;
            found = rows.len();
            (found >= behind - first).then_some(rows)
        });
        let rows = rows.with_context(|| format!("{found} {table} of windows {first} to {behind}"))?;
        ensure!(rows.len() == behind - first && first + 20 < behind, "{} {table} of {first} to {behind}", rows.len());
        Ok(rows)
    }
}

/// A number of the lake as the 32 bits that were stored.
fn float(value: &Value) -> anyhow::Result<f32> {
    Ok(value.as_f64().with_context(|| format!("{value} is no number"))? as f32)
}

/// Parts as one; they must be of one clip and follow each other.
fn joined(rows: &[Value], cause: &str) -> anyhow::Result<Joined> {
    let mut rows: Vec<&Value> = rows.iter().collect();
    rows.sort_by_key(|row| row[4].as_u64());
    let (head, position) = (rows.first().context("no part")?, rows[0][3].as_u64().context("a position")? as usize);
    let mut samples = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        ensure!(
            (&row[0], &row[1], &row[2], &row[5]) == (&head[0], &head[1], &head[2], &head[5]),
            "of two clips: {row}"
        );
        ensure!(row[1].as_str().is_some_and(|said| said.contains(cause)), "the cause is {}", row[1]);
        ensure!(row[4].as_u64() == Some(i as u64), "part {i} is missing");
        ensure!(row[3].as_u64() == Some((position + samples.len()) as u64), "part {i} does not follow");
        let hex = row[6].as_str().context("samples")?;
        ensure!(hex.len() <= 2048, "a part of {} bytes", hex.len() / 2);
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16)).collect::<Result<_, _>>()?;
        samples.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    }
    ensure!(rows.len() as u64 == head[5].as_u64().unwrap_or_default(), "{} parts of {}", rows.len(), head[5]);
    Ok(Joined { position, rate_hz: float(&head[7])?, samples })
}
