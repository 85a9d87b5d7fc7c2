//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

/// Simulated plants and recorded data sets behind the sensor socket.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve simulated machines, with their truth beside the signal
    #[command(after_help = PLANT_EXAMPLES)]
    Plant(PlantArgs),
    /// Serve the recordings of a data set, on the recordings' own timeline
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Print a plant's machines as JSON: channels, units, rates, bearing and speed, as a commissioning engineer would know them
    Describe(SpecArgs),
    /// Write one machine's vibration to a .npy file, with its truth beside it
    #[command(after_help = MACHINE_EXAMPLES)]
    Machine(MachineArgs),
    /// Run simulated machines through the production monitor in this process and print how it did
    #[command(after_help = EVALUATE_EXAMPLES)]
    Evaluate(EvaluateArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct EvaluateArgs {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) suite: EvaluateSuite,
    /// Healthy machines, a month each
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) machine_months: u64,
    /// Faulty machines per kind of fault; outlook: and speed of growth
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) faulty_machines: u64,
    /// False alarms that each machine may raise per month: its thresholds follow from it
    #[arg(long, value_name = "ALARMS", default_value_t = 0.1)]
    pub(crate) budget: f32,
    /// Severity that the faults reach, 0 to 1: small ones say what goes unseen
    #[arg(long, value_name = "SEVERITY", default_value_t = 0.9)]
    pub(crate) severity: f64,
    /// shift: machines of each kind; covariates: machines; outlook: healthy machines
    #[arg(long, value_name = "N", default_value_t = 36)]
    pub(crate) machines: u64,
    /// shift, covariates, outlook: how many seeds, from the first on
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) seeds: u64,
    /// Samples per window
    #[arg(long, value_name = "SAMPLES", default_value_t = 1024)]
    pub(crate) window: u32,
    /// All random choices follow from it
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Leave the faulty machines out
    #[arg(long)]
    pub(crate) healthy_only: bool,
    /// Write one JSON object per figure here
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[cfg(test)]
impl Default for EvaluateArgs {
    fn default() -> Self {
        Self {
            suite: EvaluateSuite::FalseAlarms,
            machine_months: 200,
            faulty_machines: 5,
            budget: 0.1,
            severity: 0.9,
            machines: 36,
            seeds: 3,
            window: 1024,
            seed: 1,
            healthy_only: false,
            json: None,
        }
    }
}

/// Suites of `evaluate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EvaluateSuite {
    /// Alarms of healthy machines, and how late faults are seen
    FalseAlarms,
    /// What the consent of a machine's own baseline saves where a young model of its kind leads
    Consent,
    /// What ambient temperature, operating hours and service are worth to the word on what is left
    Covariates,
    /// Where scores are heading: what intervals hold, and whether the hour of the limit is told before it comes
    Outlook,
    /// A head meets another kind of machine, notices, and learns it
    Shift,
}

#[derive(Debug, Args)]
pub(crate) struct PlantArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    /// Seed of noise, phases and slip
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Event time at which the simulation starts, like 2026-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<Start>,
    /// Simulated seconds after which the plant ends [default: runs until stopped]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) duration: Option<f64>,
    /// File for the truth: one JSON line per machine and simulated second
    #[arg(long, value_name = "FILE")]
    pub(crate) truth: Option<PathBuf>,
    /// Address of the control API (set faults and loads while it runs)
    #[arg(long, value_name = "ADDR")]
    pub(crate) control: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// Plant file [default: the built-in demonstration of 8 machines]
    #[arg(long, value_name = "FILE")]
    pub(crate) spec: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Folder of the data sets, or of one set [default: the environment's KILTER_DATA]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Which set: cwru (any folder with a meta.json), skab, ims, nab, cmapss, femto
    #[arg(long)]
    pub(crate) set: String,
    /// Only recordings whose name or file name is this (may be given several times)
    #[arg(long)]
    pub(crate) file: Vec<String>,
    /// Name of the asset, where one recording is replayed [default: from the recording]
    #[arg(long, value_name = "NAME")]
    pub(crate) asset: Option<kilter_types::Name>,
    /// Seconds of the timeline that one cycle stands for, in sets that count cycles
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub(crate) cycle: f64,
    /// Event time of recordings without a clock of their own, like 2026-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<Start>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// What plant and replay share.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address on which agents connect; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7100")]
    pub(crate) listen: SocketAddr,
    /// Simulated seconds per second, or max for as fast as the agents read
    #[arg(long, default_value = "1")]
    pub(crate) speed: Speed,
    /// When an agent is behind: hold its machine's time, or drop what is older than the history (a real sensor drops) [default: drop at speed 1, otherwise hold]
    #[arg(long, value_name = "hold|drop")]
    pub(crate) when_behind: Option<WhenBehind>,
    /// Seconds of signal that are kept for an agent that comes back (a replay keeps all)
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    pub(crate) history: f64,
    /// Kilobytes per machine that are kept in any case
    #[arg(long, value_name = "KIB", default_value_t = 8192)]
    pub(crate) history_kib: usize,
    /// File for the log of what was produced, sent and skipped, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// After the end, wait this long for agents that come back
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub(crate) linger: f64,
    /// Print addresses and the summary as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MachineArgs {
    /// Machine of the plant file that is the base [default: a healthy pump with every default]
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    /// Fault: outer_race, inner_race, rolling_element, cage, unbalance, misalignment, looseness, gear, cavitation, cooling
    #[arg(long)]
    pub(crate) fault: Option<String>,
    /// Severity of the fault, 0 to 1
    #[arg(long, default_value_t = 0.5)]
    pub(crate) severity: f64,
    /// Shaft speed [default: the machine's nominal]
    #[arg(long)]
    pub(crate) rpm: Option<f64>,
    /// Load, 1 is full
    #[arg(long, default_value_t = 0.7)]
    pub(crate) load: f64,
    /// Samples per second [default: the machine's]
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Direction: horizontal, vertical, axial
    #[arg(long, default_value = "vertical")]
    pub(crate) axis: String,
    /// Length
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Seed of noise, phases and slip
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// File to write (.npy, float32, g); the truth goes to the same name with .json
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// How fast simulated time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    Times(f64),
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Self::Max),
            Ok(times) if (1e-3..=1e6).contains(&times) => Ok(Self::Times(times)),
            Ok(_) | Err(_) => Err("a speed is a number from 0.001 to 1000000, or max".to_owned()),
        }
    }
}

/// What happens to a machine whose agent does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenBehind {
    Hold,
    Drop,
}

impl FromStr for WhenBehind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "hold" => Ok(Self::Hold),
            "drop" => Ok(Self::Drop),
            _ => Err("either hold or drop".to_owned()),
        }
    }
}

/// An event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start(pub(crate) kilter_types::Micros);

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = kilter_recording::TimeFormat::DateTime.parse(text).map(Self);
        parsed.ok_or_else(|| "a time like 2026-01-31T12:00:00Z".to_owned())
    }
}

const PLANT_EXAMPLES: &str = "\
Examples:
  kilter-sim plant                                          the built-in 8 machines on 127.0.0.1:7100, in real time
  kilter-sim plant --spec plant.toml --speed 20 --seed 7 --truth truth.jsonl --log expected.jsonl
  kilter-sim plant --control 127.0.0.1:7101 &               then, while it runs:
  curl 127.0.0.1:7101/fault -d '{\"asset\":\"pump-1\",\"kind\":\"inner_race\",\"severity\":0.7,\"growth_s\":30}'
  curl 127.0.0.1:7101/load  -d '{\"asset\":\"fan-1\",\"rpm\":1180,\"load\":0.9,\"ramp_s\":5}'
  curl 127.0.0.1:7101/status";

const REPLAY_EXAMPLES: &str = "\
Examples:
  kilter-sim replay --data data --set cwru --speed max
  kilter-sim replay --data data --set cwru --file 105_IR007_0_DE_12k --asset motor-1 --speed 4
  kilter-sim replay --data data --set skab --file valve1-0 --speed 600 --log expected.jsonl";

const MACHINE_EXAMPLES: &str = "\
Examples:
  kilter-sim machine --fault inner_race --severity 0.7 --rpm 1797 --out inner.npy
  kilter-sim machine --name pump-1 --fault unbalance --axis horizontal --seconds 60 --out unbalance.npy";

const EVALUATE_EXAMPLES: &str = "\
Examples:
  kilter-sim evaluate false-alarms --json false-alarms.json
  kilter-sim evaluate false-alarms --machine-months 10 --healthy-only
  kilter-sim evaluate consent --machine-months 20
  kilter-sim evaluate covariates --machines 60
  kilter-sim evaluate outlook --seed 11
  kilter-sim evaluate shift --json shift.json";
