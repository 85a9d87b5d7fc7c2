//! From what a commissioning engineer knows of a plant to the agents' configuration files.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::Bins;

/// One machine as `kilter-sim describe` prints it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub asset: String,
    /// The agent that looks after it.
    pub agent: String,
    /// What kind of machine it is.
    pub class: String,
    /// Name, unit and rate of each channel.
    pub channels: Vec<(String, String, Option<f64>)>,
    /// Nominal speed.
    pub nominal_rpm: f64,
    /// Orders of its bearing.
    pub bearing: Value,
}

/// How the agents are set up for a run: short ones learn from fewer windows.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Windows per regime from which a baseline is learned.
    pub commissioning_windows: u32,
    /// Samples of a vibration window.
    pub window: u32,
    /// Readings of a temperature window.
    pub temperature_window: u32,
    /// Seconds between readings.
    pub period_secs: f64,
    /// Seconds between reports.
    pub report_secs: f64,
}

/// The machines of the plant file, or of the built-in plant.
pub fn machines(bins: &Bins, spec: Option<&std::path::Path>) -> anyhow::Result<Vec<Machine>> {
    let mut command = Command::new(bins.path("kilter-sim")?);
    command.arg("describe");
    if let Some(spec) = spec {
        command.arg("--spec").arg(spec);
    }
    let output = command.output().context("describe the plant")?;
    ensure!(output.status.success(), "describe the plant: {}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).context("read the plant's description")?;
    rows.iter().map(machine).collect()
}

/// The configuration of one agent with these machines.
pub fn agent_config(machines: &[&Machine], sensor: SocketAddr, http: &str, tuning: &Tuning) -> String {
    let mut text = format!(
        "data = \"data\"\nbundle = \"bundle.toml\"\nsite = \"north\"\nreport_secs = {:?}\n\n[http]\nlisten = \"{http}\"\n",
        tuning.report_secs
    );
    for machine in machines {
        text.push_str(&machine_config(machine, sensor, tuning));
    }
    text
}

fn machine_config(machine: &Machine, sensor: SocketAddr, tuning: &Tuning) -> String {
    let mut text = String::new();
    let order = |name: &str| machine.bearing[name].as_f64().unwrap_or_default();
    let _ = write!(
        text,
        "\n[[machine]]\nasset = \"{}\"\nclass = \"{}\"\nsource = {{ kind = \"socket\", address = \"{sensor}\" }}\n\
         nominal_rpm = {:?}\nbearing = {{ bpfo = {:?}, bpfi = {:?}, bsf = {:?}, ftf = {:?} }}\n\
         commissioning_windows = {}\nspectrum_every = 20\n",
        machine.asset,
        machine.class,
        machine.nominal_rpm,
        order("bpfo"),
        order("bpfi"),
        order("bsf"),
        order("ftf"),
        tuning.commissioning_windows
    );
    for (name, unit, rate) in &machine.channels {
        let _ = write!(text, "\n[[machine.channel]]\nname = \"{name}\"\nunit = \"{unit}\"\n");
        let _ = match (rate, name.as_str()) {
            (Some(rate), _) => writeln!(text, "kind = \"vibration\"\nrate_hz = {rate:?}"),
            (None, kind @ ("speed" | "load" | "ambient")) => writeln!(text, "kind = \"{kind}\""),
            (None, _) => writeln!(text, "kind = \"reading\"\nperiod_secs = {:?}", tuning.period_secs),
        };
    }
    for (name, unit, rate) in &machine.channels {
        let group = match (rate, unit.as_str()) {
            (Some(_), _) => format!(
                "point = \"{name}\"\nkind = \"vibration\"\nchannels = [\"{name}\"]\nwindow = {}\n",
                tuning.window
            ),
            (None, "degC") if name == "temperature" => format!(
                "point = \"housing\"\nkind = \"temperature\"\nchannels = [\"{name}\"]\nwindow = {}\n",
                tuning.temperature_window
            ),
            (None, _) => continue,
        };
        let _ = write!(text, "\n[[machine.group]]\n{group}");
    }
    text
}

fn machine(row: &Value) -> anyhow::Result<Machine> {
    let text = |name: &str| row[name].as_str().map(str::to_owned).with_context(|| format!("read {name} of {row}"));
    let channels = row["channels"].as_array().context("read the channels")?.iter().map(|channel| {
        let name = channel["name"].as_str().context("read a channel's name")?;
        let unit = channel["unit"].as_str().context("read a channel's unit")?;
        Ok((name.to_owned(), unit.to_owned(), channel["rate"].as_f64()))
    });
    Ok(Machine {
        asset: text("asset")?,
        agent: text("agent")?,
        class: text("class")?,
        channels: channels.collect::<anyhow::Result<_>>()?,
        nominal_rpm: row["nominal_rpm"].as_f64().context("read nominal_rpm")?,
        bearing: row["bearing"].clone(),
    })
}
