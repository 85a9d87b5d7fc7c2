//! Whole fleets in virtual time: 200 seeds of 20 agents times 24 hours in CI, as many as wanted by command.

use clap::Args;

use crate::build::whole;
use crate::step::{cargo, run};

/// How many, and how large. Without any, what CI runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Agents in each fleet.
    #[arg(long, default_value_t = 20)]
    agents: u64,
    /// Hours for which they record and things go wrong.
    #[arg(long, default_value_t = 24)]
    hours: u64,
    /// Seconds between two bursts of records of one agent, on average.
    #[arg(long, default_value_t = 300)]
    interval: u64,
    /// How many times more seldom things end and networks fail.
    #[arg(long, default_value_t = 1)]
    calm: u64,
}

/// What CI runs.
pub(crate) fn brief() -> anyhow::Result<()> {
    fleets(&Options { seeds: 200, first: 0, agents: 20, hours: 24, interval: 300, calm: 1 })
}

pub(crate) fn fleets(options: &Options) -> anyhow::Result<()> {
    let Options { seeds, first, agents, hours, interval, calm } = options;
    let mut command = cargo();
    whole(command.args(["build", "--profile", "house"])).args(["--example", "fleets"]);
    run(&mut command)?;
    let program = crate::step::target().join("house").join("examples").join("fleets");
    let mut command = std::process::Command::new(program);
    for (name, value) in [
        ("--seeds", seeds),
        ("--first", first),
        ("--agents", agents),
        ("--hours", hours),
        ("--interval", interval),
        ("--calm", calm),
    ] {
        command.args([name, &value.to_string()]);
    }
    run(&mut command)
}
