//! What one score costs: `cargo run --release -p kilter-infer --example cost`.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::{hint::black_box, time::Instant};

use kilter_infer::{Artifact, ScoreOf, Scratch, State};

#[path = "../tests/infer/example.rs"]
mod example;

fn main() {
    let mut models = vec![
        ("statistic of 24", example::statistic(24, 12)),
        (
            "autoencoder 24x12, hidden 24, code 8",
            example::autoencoder(example::Counts(24, 12, 24, 8), ScoreOf::Sequence),
        ),
        ("autoencoder 16x8, hidden 16, code 8", example::autoencoder(example::Counts(16, 8, 16, 8), ScoreOf::Sequence)),
    ];
    models.extend(example::all());
    for (name, bytes) in models {
        let artifact = Artifact::parse(&bytes).expect("the example parses");
        let (mut state, mut scratch) = (State::<1024>::new(), Scratch::new());
        let row = example::Numbers(5).take(artifact.inputs(), 3.0);
        let mut nanos: Vec<u128> = (0..20_000)
            .map(|_| {
                let start = Instant::now();
                black_box(artifact.push(black_box(&row), &mut state, &mut scratch)).ok();
                start.elapsed().as_nanos()
            })
            .collect();
        nanos.sort_unstable();
        let start = Instant::now();
        black_box(Artifact::parse(black_box(&bytes))).ok();
        let parse = start.elapsed().as_nanos();
        println!("{name}: {} bytes, p50 {} ns, p99 {} ns, parse {parse} ns", bytes.len(), nanos[10_000], nanos[19_800]);
    }
}
