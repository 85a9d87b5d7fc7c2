//! `kilter-agent analyze`: what a recording says, without agent, server or model.
//!
//! A record is cut into windows of one second, computed by the code that runs on the machines; the record is what its windows say
//! together. Nothing is guessed: rate and unit must be declared unless the file states them. Of a folder's `meta.json` only rate,
//! speed, unit and bearing are read.

mod engine;
mod examine;
mod json;
mod picture;
mod report;
mod source;
mod speed;
mod text;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use kilter_signal::zone::{Group, Support};

use crate::analyze::examine::Examined;

/// What to analyse.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Analyze {
    /// The recording (.npy, .wav, .csv), or a folder of recordings with a meta.json
    file: PathBuf,
    /// Samples per second; a .wav and a folder's meta.json state their own
    #[arg(long, value_name = "HZ")]
    rate: Option<f32>,
    /// Unit of the values: g or m/s2
    #[arg(long)]
    unit: Option<String>,
    /// Shaft speed in revolutions per minute; needed to name bearing and shaft faults
    #[arg(long, value_name = "RPM")]
    rpm: Option<f32>,
    /// The bearing: a designation (6205) or its geometry (balls=9,ball=7.94,pitch=39.04,angle=0; in mm and degrees)
    #[arg(long, value_name = "BEARING")]
    bearing: Option<String>,
    /// The bearing by its frequencies per revolution: bpfo=3.585,bpfi=5.415,bsf=2.357,ftf=0.398 (bsf: the spin of one element)
    #[arg(long, value_name = "ORDERS", conflicts_with = "bearing")]
    orders: Option<String>,
    /// Teeth of a gear wheel on this shaft, to look at its mesh and sidebands
    #[arg(long, value_name = "TEETH")]
    teeth: Option<u16>,
    /// What full scale of a PCM .wav means in the unit
    #[arg(long, value_name = "VALUE")]
    full_scale: Option<f32>,
    /// Only this channel: its name, or its place from 1 [default: every channel]
    #[arg(long)]
    channel: Option<String>,
    /// ISO 20816-3 group for the severity zone: 1 is above 300 kW, 2 is 15 to 300 kW
    #[arg(long, default_value = "2")]
    group: MachineGroup,
    /// How the machine stands, for the severity zone
    #[arg(long, default_value = "rigid")]
    support: MachineSupport,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the report with its pictures to one HTML file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MachineGroup {
    #[value(name = "1")]
    One,
    #[value(name = "2")]
    Two,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MachineSupport {
    Rigid,
    Flexible,
}

/// The part of ISO 20816-3 that holds for the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) group: Group,
    pub(crate) support: Support,
}

impl Analyze {
    fn standing(&self) -> Standing {
        let group = match self.group {
            MachineGroup::One => Group::One,
            MachineGroup::Two => Group::Two,
        };
        let support = match self.support {
            MachineSupport::Rigid => Support::Rigid,
            MachineSupport::Flexible => Support::Flexible,
        };
        Standing { group, support }
    }
}

/// Analyses and prints.
pub(crate) fn run(ask: &Analyze) -> anyhow::Result<()> {
    let standing = ask.standing();
    let mut all: Vec<Examined> = Vec::new();
    let mut failed = 0;
    for record in source::records(ask)? {
        match record.and_then(|record| examine::channels(&record, ask, standing)) {
            Ok(examined) => all.extend(examined),
            // One damaged file of a folder must not hide what the others say.
            Err(error) if ask.file.is_dir() => {
                eprintln!("kilter-agent: failed to {error:#}");
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(path) = &ask.report {
        let page = report::page(&all);
        std::fs::write(path, page).with_context(|| format!("write the report {}", path.display()))?;
    }
    if ask.json {
        say(&(serde_json::to_string_pretty(&json::records(&all))? + "\n"))?;
    } else if ask.file.is_dir() {
        say(&text::table(&all))?;
    } else {
        all.iter().try_for_each(|examined| say(&text::record(examined)))?;
    }
    if let Some(path) = &ask.report {
        eprintln!("report: {}", path.display());
    }
    anyhow::ensure!(failed == 0, "analyse {failed} of the folder's records; their reasons stand above");
    Ok(())
}

/// Prints; a reader who has seen enough and closes the pipe is no failure.
fn say(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("print"),
        Ok(()) | Err(_) => Ok(()),
    }
}

const EXAMPLES: &str = "\
Examples:
  kilter-agent analyze motor.npy --rate 12000 --unit g --rpm 1797 --bearing 6205
  kilter-agent analyze motor.wav --unit m/s2 --full-scale 50 --rpm 1500 --bearing balls=9,ball=7.94,pitch=39.04,angle=0
  kilter-agent analyze motor.csv --rate 20000 --unit g --rpm 2000 --orders bpfo=3.585,bpfi=5.415,bsf=2.357,ftf=0.398 --report out.html
  kilter-agent analyze recordings/ --json          every record that recordings/meta.json declares";
