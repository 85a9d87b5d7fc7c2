//! `cargo xt`: every check a developer can run, and the demo. `cargo xt --help` lists them.

mod arm64;
mod bench;
mod build;
mod check;
mod ci;
mod demo;
mod firmware;
mod fleets;
mod fuzz;
mod long;
mod setup;
mod step;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every check of this house, one by one or all together.
#[derive(Parser)]
#[command(name = "cargo xt", bin_name = "cargo xt", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that CI runs, in order, with the time that each took.
    Ci,
    /// Installs what the checks need (Debian packages, cargo-nextest, a Python environment), or says what is missing.
    Setup,
    /// Formatting.
    Fmt,
    /// Clippy, warnings denied.
    Clippy,
    /// Documentation, warnings denied.
    Doc,
    /// Builds every program in the `house` profile.
    Build,
    /// Unit, property and crate tests (nextest) and documentation tests.
    Test,
    /// Proves that the shared rooms need neither std nor an allocator.
    Nostd,
    /// Journeys across real processes.
    Journeys,
    /// Builds the agent for ARM64 and starts it under qemu-user.
    Arm64,
    /// Microcontrollers: the same bits as here, image sizes, instructions per window, the node in QEMU, a real board's image.
    Firmware {
        /// The same bits on every core instead, and ten power cuts in QEMU: minutes.
        #[arg(long)]
        every_core: bool,
    },
    /// Breaks rules on purpose and shows that the checks fail.
    Rules,
    /// Whole fleets in virtual time, under faults.
    Fleets(fleets::Options),
    /// Fuzz targets under libFuzzer.
    Fuzz(fuzz::Options),
    /// What takes longer than CI allows; results go to docs/.
    Proof,
    /// What an agent costs and how soon a window can be asked for (docs/BENCHMARKS.md).
    Bench,
    /// The demonstration: a plant of 8 machines, from the first baseline to the retrained model.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Ci => ci::run(),
        Task::Setup => setup::run(),
        Task::Fmt => check::fmt(),
        Task::Clippy => check::clippy(),
        Task::Doc => check::doc(),
        Task::Build => build::all(),
        Task::Test => check::test(),
        Task::Nostd => check::nostd(),
        Task::Journeys => check::journeys(),
        Task::Arm64 => arm64::run(),
        Task::Firmware { every_core: false } => firmware::run(),
        Task::Firmware { every_core: true } => firmware::proof(),
        Task::Rules => check::rules(),
        Task::Fleets(options) => fleets::fleets(&options),
        Task::Fuzz(options) => fuzz::fuzz(&options),
        Task::Proof => ci::proof(),
        Task::Bench => bench::run(),
        Task::Demo(options) => demo::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xt: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  cargo xt ci          what CI runs, and the README's test command
  cargo xt test        unit and crate tests only
  cargo xt demo        the same as `cargo demo`";
