//! kilter-agent: watches machines on the spot, with a network or without.
//!
//! Expected failures end with one clear message and exit code 1 (2 for a wrong command line); anything else is a bug and panics.

mod action;
mod age;
mod analyze;
mod app;
mod board;
mod checkpoint;
mod clip;
mod clock;
mod config;
mod control;
mod exception;
mod file;
mod hole;
mod http;
mod identity;
mod inspect;
mod latency;
mod machine;
mod models;
mod node;
mod number;
mod post;
mod recorder;
mod reset;
mod said;
mod sealer;
mod spent;
mod spooler;
mod standing;
mod suppress;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::identity::Enrolled;

/// Watches machines on the spot: features, scores, alarms and trips, with a network or without.
#[derive(Debug, Parser)]
#[command(name = "kilter-agent", version, arg_required_else_help = true)]
struct Cli {
    /// Print the documented default configuration and end.
    #[arg(long)]
    print_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent.
    Run {
        /// The configuration; `--print-config` shows one.
        #[arg(long)]
        config: PathBuf,
        /// Keep journal, checkpoints and models here instead of where the configuration says.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Write log lines as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Reset latched alarms and the trip of one machine of the running agent.
    Reset(reset::Reset),
    /// Bring another image of its firmware to a node.
    NodeImage(node::NodeImage),
    /// Say what one recording shows, without agent or server.
    Analyze(analyze::Analyze),
    /// Look at a journal without changing it.
    Journal {
        #[command(subcommand)]
        look: inspect::Look,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        _ if cli.print_config => {
            print!("{}", config::DEFAULT_TOML);
            Ok(())
        }
        Some(Command::Run { config, data, json }) => run(&config, data, json),
        Some(Command::Reset(ask)) => reset::run(&ask),
        Some(Command::NodeImage(ask)) => node::hand_over(&ask),
        Some(Command::Analyze(ask)) => analyze::run(&ask),
        Some(Command::Journal { look }) => inspect::journal(&look),
        None => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kilter-agent: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &std::path::Path, data: Option<PathBuf>, json: bool) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let log = log.with_target(false).with_ansi(colours);
    if json {
        log.json().init();
    } else {
        log.init();
    }
    let mut config = Config::load(path)?;
    if let Some(data) = data {
        config.data = data;
    }
    let alone = config.bundle.as_os_str().is_empty();
    let mut enrolled = if alone { None } else { Some(Enrolled::load(&config.bundle)?) };
    let config::Uplink { client_cert, client_key, .. } = &config.uplink;
    if !client_cert.as_os_str().is_empty() {
        enrolled = enrolled.map(|known| known.with_certificate(client_cert, client_key)).transpose()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .max_blocking_threads(4)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()?;
    let app = app::build(&config, enrolled)?;
    runtime.block_on(app.run())
}
