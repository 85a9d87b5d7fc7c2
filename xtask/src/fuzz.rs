//! Fuzz targets under libFuzzer, guided by coverage: a few seconds each in CI, longer by command.
//!
//! Only our own crates are instrumented (`tests/fuzz/instrument` in place of rustc for members of the workspace), so dependencies
//! are not built again. What a run learns stays in the target folder; what it breaks is left there as a file to be run again.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;

use crate::build::whole;
use crate::step::{self, cargo, run};

/// How long, and which.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Only this target.
    target: Option<String>,
    /// Seconds for each.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
}

/// What CI runs.
pub(crate) fn brief() -> anyhow::Result<()> {
    fuzz(&Options { target: None, seconds: 5 })
}

pub(crate) fn fuzz(options: &Options) -> anyhow::Result<()> {
    let room = step::root().join("tests").join("fuzz");
    let mut build = cargo();
    build.env("RUSTC_WORKSPACE_WRAPPER", room.join("instrument")).args(["build", "--profile", "house"]);
    run(whole(&mut build).args(["--bin", "kilter-fuzz", "--features", "kilter-fuzz/engine"]))?;
    let engine = step::target().join("house").join("kilter-fuzz");
    let mut targets = folders(&room.join("corpus"))?;
    if let Some(wanted) = &options.target {
        targets.retain(|target| target == wanted);
    }
    if targets.is_empty() {
        bail!("no such target: see tests/fuzz/corpus");
    }
    // Two cores: two at a time.
    for pair in targets.chunks(2) {
        let started = pair.iter().map(|target| start(&engine, &room, target, options.seconds));
        let started = started.collect::<anyhow::Result<Vec<_>>>()?;
        for (target, mut child) in started {
            let status = child.wait().with_context(|| format!("failed to wait for {target}"))?;
            if !status.success() {
                bail!(
                    "fuzz target {target} broke a promise: run its file again with `KILTER_FUZZ={target} {}`",
                    engine.display()
                );
            }
        }
    }
    Ok(())
}

fn start(engine: &Path, room: &Path, target: &str, seconds: u32) -> anyhow::Result<(String, std::process::Child)> {
    let learned = step::target().join("fuzz").join(target);
    std::fs::create_dir_all(&learned).with_context(|| format!("failed to create {}", learned.display()))?;
    let mut command = Command::new(engine);
    command.env("KILTER_FUZZ", target).arg(&learned).arg(room.join("corpus").join(target));
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", learned.display()));
    command.args(["-max_len=8192", "-timeout=10", "-rss_limit_mb=2048", "-verbosity=0", "-print_final_stats=1"]);
    println!("fuzz {target} for {seconds} s");
    Ok((target.to_owned(), command.spawn().with_context(|| format!("failed to start {}", engine.display()))?))
}

fn folders(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for item in std::fs::read_dir(dir).with_context(|| format!("failed to list {}", dir.display()))? {
        names.push(item?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
