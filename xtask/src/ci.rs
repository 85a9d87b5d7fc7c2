//! Everything that CI runs, in the order that fails soonest, with the time that each took.
#![expect(clippy::disallowed_methods, reason = "a build tool may look at the clock")]

use std::time::{Duration, Instant};

use crate::{arm64, build, check, firmware, fleets, fuzz, long, setup};

type Step = (&'static str, fn() -> anyhow::Result<()>);

/// What CI runs.
pub(crate) fn run() -> anyhow::Result<()> {
    timed(&[
        ("setup", setup::run),
        ("fmt", check::fmt),
        ("build", build::all),
        ("clippy", check::clippy),
        ("test", check::test),
        ("nostd proof", check::nostd),
        ("broken rules", check::rules),
        ("fuzz", fuzz::brief),
        ("fleets", fleets::brief),
        ("journeys", check::journeys),
        ("arm64", arm64::run),
        ("firmware", firmware::run),
        ("doc", check::doc),
    ])
}

/// What takes longer.
pub(crate) fn proof() -> anyhow::Result<()> {
    timed(&[
        ("build", build::all),
        ("journeys", check::journeys),
        ("a hundred kills", long::kills),
        ("five minutes without a lab", long::away),
        ("the same bits on every core", firmware::proof),
        ("what quiet costs", long::baseline),
        ("how long engines have left", long::heads),
        ("an isolation forest", long::forest),
    ])
}

fn timed(steps: &[Step]) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let mut failed = None;
    for (name, step) in steps {
        println!("\n═══ {name} ═══");
        let begin = Instant::now();
        let ended = step();
        times.push((*name, begin.elapsed()));
        if let Err(error) = ended {
            failed = Some((*name, error));
            break;
        }
    }
    println!("\n{:<32} {:>8}", "STEP", "SECONDS");
    for (name, time) in &times {
        println!("{name:<32} {:>8.1}", time.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, time)| *time).sum();
    println!("{:<32} {:>8.1}", "total", total.as_secs_f64());
    match failed {
        Some((name, error)) => Err(error.context(format!("{name} failed"))),
        None => Ok(()),
    }
}
