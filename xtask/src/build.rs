//! Builds: always the same packages together, so that nothing is built twice with other features.

use std::process::Command;

use crate::step::{cargo, run};

/// Packages that link Polars, Burn or Delta.
pub(crate) const HEAVY: [&str; 4] = ["kilter-lake", "kilter-history", "kilter-train", "kilter-lab"];

/// What the page needs: agent, server and simulator.
pub(crate) fn light() -> anyhow::Result<()> {
    run(&mut light_command())
}

/// The cold half.
pub(crate) fn lab() -> anyhow::Result<()> {
    run(&mut lab_command())
}

/// Builds agent, server and simulator.
pub(crate) fn light_command() -> Command {
    let mut command = cargo();
    command.args(["build", "--profile", "house", "-p", "kilter-agent", "-p", "kilter-aggregator", "-p", "kilter-sim"]);
    command
}

/// Builds the lab.
pub(crate) fn lab_command() -> Command {
    let mut command = cargo();
    command.args(["build", "--profile", "house", "-p", "kilter-lab"]);
    command
}
