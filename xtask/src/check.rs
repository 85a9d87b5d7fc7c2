//! The checks.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::build::whole;
use crate::step::{self, cargo, run};

pub(crate) fn fmt() -> anyhow::Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))
}

pub(crate) fn clippy() -> anyhow::Result<()> {
    run(whole(cargo().args(["clippy", "--profile", "house", "--all-targets"])).args(["--", "-D", "warnings"]))
}

pub(crate) fn doc() -> anyhow::Result<()> {
    run(whole(cargo().env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--profile", "house", "--no-deps"])))
}

pub(crate) fn test() -> anyhow::Result<()> {
    run(nextest().args(["-E", "not package(kilter-tests)"]))?;
    run(whole(cargo().args(["test", "--profile", "house", "--doc"])))
}

/// Each is a plant of real processes that mostly waits; those that need the whole machine run alone (`.config/nextest.toml`).
pub(crate) fn journeys() -> anyhow::Result<()> {
    crate::build::all()?;
    run(nextest().args(["-E", "package(kilter-tests)", "--success-output", "immediate"]))
}

fn nextest() -> Command {
    let target = step::target();
    let mut command = cargo();
    command
        .env("KILTER_PYTHON", target.join("python").join("bin").join("python"))
        .env("KILTER_BIN", target.join("house"))
        .args(["nextest", "run", "--cargo-profile", "house"]);
    whole(&mut command);
    command
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
