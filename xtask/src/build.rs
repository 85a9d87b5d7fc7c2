//! Builds. Cargo unites features over the packages that are selected: every command selects the whole house and only names other
//! targets of it, so that no dependency is built twice.

use std::process::Command;

use crate::step::{cargo, run};

/// Every program, in one go: the lab's last crates leave a core free for the others.
pub(crate) fn all() -> anyhow::Result<()> {
    run(&mut programs(&["kilter-agent", "kilter-aggregator", "kilter-sim", "kilter-lab"]))
}

/// What the page needs: agent, server and simulator.
pub(crate) fn light() -> anyhow::Result<()> {
    run(&mut programs(&["kilter-agent", "kilter-aggregator", "kilter-sim"]))
}

/// The cold half: Polars, Burn and Delta.
pub(crate) fn lab() -> anyhow::Result<()> {
    run(&mut lab_command())
}

/// Builds the lab.
pub(crate) fn lab_command() -> Command {
    programs(&["kilter-lab"])
}

/// Selects the whole house, but for what is only linked without std.
pub(crate) fn whole(command: &mut Command) -> &mut Command {
    command.args(["--workspace", "--exclude", "kilter-nostd-proof"])
}

fn programs(names: &[&str]) -> Command {
    let mut command = cargo();
    whole(command.args(["build", "--profile", "house"]));
    for name in names {
        command.args(["--bin", name]);
    }
    command
}
