//! The checks.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::build::HEAVY;
use crate::step::{self, cargo, run};

pub(crate) fn fmt() -> anyhow::Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

pub(crate) fn clippy() -> anyhow::Result<()> {
    run(light(cargo().args(["clippy", "--profile", "house", "--all-targets"])).args(["--", "-D", "warnings"]))?;
    run(heavy(cargo().args(["clippy", "--profile", "house", "--all-targets"])).args(["--", "-D", "warnings"]))
}

pub(crate) fn doc() -> anyhow::Result<()> {
    let deny = "-D warnings";
    run(light(cargo().env("RUSTDOCFLAGS", deny).args(["doc", "--profile", "house", "--no-deps"])))?;
    run(heavy(cargo().env("RUSTDOCFLAGS", deny).args(["doc", "--profile", "house", "--no-deps"])))
}

pub(crate) fn test() -> anyhow::Result<()> {
    let python = step::target().join("python").join("bin").join("python");
    run(light(cargo().env("KILTER_PYTHON", &python).args(["nextest", "run", "--cargo-profile", "house"]))
        .args(["--exclude", "kilter-tests"]))?;
    run(heavy(cargo().env("KILTER_PYTHON", &python).args(["nextest", "run", "--cargo-profile", "house"])))?;
    run(light(cargo().args(["test", "--profile", "house", "--doc"])).args(["--exclude", "kilter-tests"]))
}

/// Journeys run one after the other: each is a whole plant on a machine of two cores.
pub(crate) fn journeys() -> anyhow::Result<()> {
    crate::build::light()?;
    crate::build::lab()?;
    let bins = step::target().join("house");
    run(cargo().env("KILTER_BIN", bins).args([
        "nextest",
        "run",
        "--cargo-profile",
        "house",
        "-p",
        "kilter-tests",
        "--test-threads",
        "1",
        "--no-capture",
    ]))
}

/// A binary of the shared rooms without std and without an allocator: it does not link when one creeps in.
pub(crate) fn nostd() -> anyhow::Result<()> {
    run(cargo().args(["build", "--profile", "nostd", "-p", "kilter-nostd-proof", "--features", "proof"]))
}

/// Breaks rules on purpose: a check that can't fail proves nothing.
pub(crate) fn rules() -> anyhow::Result<()> {
    let scratch = step::target().join("rules");
    let source = scratch.join("src");
    std::fs::create_dir_all(&source).with_context(|| format!("failed to create {}", source.display()))?;
    std::fs::write(
        scratch.join("Cargo.toml"),
        "[package]\nname = \"broken\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[lints.clippy]\ndisallowed_methods = \"deny\"\n",
    )?;
    std::fs::copy(step::root().join("clippy.toml"), scratch.join("clippy.toml"))
        .context("failed to copy clippy.toml")?;
    for broken in [
        "std::time::Instant::now();",
        "std::time::SystemTime::now();",
        "std::thread::sleep(std::time::Duration::ZERO);",
    ] {
        std::fs::write(source.join("lib.rs"), format!("pub fn core() {{ let _ = {broken} }}\n"))?;
        let mut command = cargo();
        command.current_dir(&scratch).args(["clippy", "--quiet"]);
        let output = command.output().context("failed to start clippy")?;
        ensure!(!output.status.success(), "clippy lets `{broken}` into a core");
        println!("clippy refuses `{broken}` in a core");
    }
    println!("the architecture test breaks its own rules: the_check_fails_when_a_rule_is_broken");
    Ok(())
}

/// The everyday packages.
fn light(command: &mut Command) -> &mut Command {
    command.arg("--workspace");
    for package in HEAVY.iter().chain(&["kilter-nostd-proof"]) {
        command.args(["--exclude", package]);
    }
    command
}

/// The heavy packages.
fn heavy(command: &mut Command) -> &mut Command {
    for package in HEAVY {
        command.args(["-p", package]);
    }
    command
}
