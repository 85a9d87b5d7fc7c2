//! Many fleets in virtual time, as many at once as there are cores: `fleets --seeds 200 --agents 20 --hours 24 --interval 300`.
//!
//! Ends with 1 and the seeds when a promise was broken; each can be run again alone with `--first SEED --seeds 1`.
#![expect(clippy::disallowed_methods, reason = "a command is a shell and measures wall time")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use kilter_world::{Fleet, FleetConfig, Outcome};

fn main() -> ExitCode {
    let Some(asked) = Asked::parse(std::env::args().skip(1)) else {
        eprintln!(
            "fleets [--seeds N] [--first SEED] [--agents N] [--hours H] [--interval SECONDS] [--threads N] [--calm N] [--steady]"
        );
        return ExitCode::from(2);
    };
    let begin = Instant::now();
    let (next, sum, broken) = (AtomicU64::new(asked.first), Mutex::new(Outcome::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..asked.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= asked.first + asked.seeds {
                        break;
                    }
                    match Fleet::new(seed, asked.config.clone()).run() {
                        Ok(outcome) => sum.lock().expect("no thread panics with it").add(&outcome),
                        Err(violation) => {
                            eprintln!("{violation}");
                            broken.lock().expect("no thread panics with it").push(seed);
                        }
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().expect("all threads have ended");
    let broken = broken.into_inner().expect("all threads have ended");
    println!("{sum:#?}");
    let Asked { seeds, config: FleetConfig { agents, weather_us, .. }, .. } = asked;
    println!(
        "{seeds} seeds of {agents} agents times {} h in {:.1} s: {} broken",
        weather_us / HOUR_US,
        begin.elapsed().as_secs_f64(),
        broken.len()
    );
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Asked {
    seeds: u64,
    first: u64,
    threads: usize,
    config: FleetConfig,
}

impl Asked {
    fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let config = FleetConfig {
            agents: 20,
            weather_us: 24 * HOUR_US,
            record_interval_us: 300_000_000,
            steady_links: false,
            calm: 1,
            plant: None,
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut asked = Self { seeds: 200, first: 0, threads, config };
        while let Some(word) = words.next() {
            if word == "--steady" {
                asked.config.steady_links = true;
                continue;
            }
            let number: u64 = words.next()?.parse().ok()?;
            match word.as_str() {
                "--seeds" => asked.seeds = number,
                "--first" => asked.first = number,
                "--threads" => asked.threads = usize::try_from(number).ok()?,
                "--agents" => asked.config.agents = usize::try_from(number).ok()?,
                "--hours" => asked.config.weather_us = number.checked_mul(HOUR_US)?,
                "--calm" => asked.config.calm = u32::try_from(number).ok()?,
                "--interval" => asked.config.record_interval_us = number.checked_mul(1_000_000)?,
                _ => return None,
            }
        }
        Some(asked)
    }
}

const HOUR_US: u64 = 3_600_000_000;
