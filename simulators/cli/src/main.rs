//! `kilter-sim`: simulated plants and recorded data sets, served to agents through the sensor socket.
//!
//! A feed (a machine's physics or a recording) fills a bounded history per asset; a connection reads the history from the positions
//! that its agent asks for, so a killed agent that comes back misses nothing that is still held. The simulator's own log says what
//! it has produced, for whoever checks the other end.

mod args;
mod asset;
mod clock;
mod control;
mod evaluate;
mod feed;
mod history;
mod ledger;
mod machine;
mod piece;
mod plant;
mod replay;
mod socket;
mod stage;

use clap::Parser as _;

use crate::args::{Cli, Command};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let colour = std::env::var_os("NO_COLOR").is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
    let outcome = match cli.command {
        Command::Plant(args) => plant::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Describe(args) => plant::describe(&args),
        Command::Machine(args) => machine::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kilter-sim: failed to {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
