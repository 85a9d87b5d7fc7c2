//! Our side of `benches/peers.py`: writes models for the peers, says what the kernel answers, and times it.
//!
//! `peer write DIR` writes weights, rows and the kernel's answers as raw f32; `peer time` prints a line of JSON per workload.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::{hint::black_box, io::Write, path::Path, time::Instant};

use kilter_infer::{
    Artifact, Body, Dense, Draft, Forecaster, Lstm, Mode, Range, ResetRule, Scratch, State,
    rescore::{Rescorer, SIDE},
    simd::Width,
};
use kilter_types::{FeatureId, FeatureRef, GroupKind};

#[path = "../tests/infer/example.rs"]
#[expect(dead_code, reason = "the peers need only its numbers")]
mod example;
use example::Numbers;

type Room = Box<State<4096>>;

const BATCH: usize = 64;
const SHAPES: [Shape; 4] = [Shape(16, 32, 32), Shape(16, 64, 32), Shape(16, 64, 64), Shape(16, 24, 12)];

/// Inputs, hidden units, rows.
#[derive(Clone, Copy)]
struct Shape(usize, usize, usize);

struct Model {
    shape: Shape,
    weights: [Vec<f32>; 5],
    rows: Vec<f32>,
}

impl Model {
    fn new(shape: Shape) -> Self {
        let Shape(n, h, t) = shape;
        let mut numbers = Numbers(61);
        let scale = 1.0 / (h as f32).sqrt();
        let sizes = [4 * h * n, 4 * h * h, 4 * h, n * h, n];
        let weights = sizes.map(|size| numbers.take(size, scale));
        Self { shape, weights, rows: numbers.take(BATCH * t * n, 2.0) }
    }

    fn artifact(&self, mode: Mode) -> Vec<u8> {
        let Shape(n, h, t) = self.shape;
        let [input, recurrent, bias, output, output_bias] = &self.weights;
        let features: Vec<_> = (0..n).map(|i| FeatureRef { id: FeatureId(i as u16), hash: 0 }).collect();
        let draft = Draft {
            group: GroupKind::Reading,
            features: &features,
            mean: &vec![0.0; n],
            inverse_scale: &vec![1.0; n],
            range: &vec![Range::ANY; n],
            weight: &vec![1.0 / n as f32; n],
            regimes: &[],
            threshold: 1.0,
            input_clip: 6.0,
            residual_clip: 100.0,
            sequence_len: t,
            reset: ResetRule::ALWAYS,
            body: Body::LstmForecaster(Forecaster {
                hidden: h,
                mode,
                ewma: 1.0,
                lstm: Lstm { input, recurrent, bias },
                output: Dense { weight: output, bias: output_bias },
            }),
            golden: &self.rows[..t * n],
        };
        let mut bytes = vec![0; draft.size_bytes()];
        draft.write(&mut bytes, &mut *Room::default(), &mut Scratch::new()).expect("the model is well formed");
        bytes
    }

    fn int8(&self, mode: Mode) -> Vec<u8> {
        let exact = self.artifact(mode);
        let exact = Artifact::parse(&exact).expect("it parses");
        let mut bytes = vec![0; exact.int8_bytes()];
        exact.to_int8(&self.rows, &mut bytes, &mut *Room::default(), &mut Scratch::new()).expect("it has an int8 form");
        bytes
    }

    fn windows(&self) -> impl Iterator<Item = &[f32]> {
        let Shape(n, _, t) = self.shape;
        self.rows.chunks_exact(t * n)
    }

    fn name(&self) -> String {
        let Shape(n, h, t) = self.shape;
        format!("in{n}_h{h}_seq{t}")
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("write") => write(Path::new(arguments.get(2).expect("a folder"))),
        Some("time") => time(),
        _ => eprintln!("peer write DIR | peer time"),
    }
}

fn write(folder: &Path) {
    for model in SHAPES.map(Model::new) {
        let folder = folder.join(model.name());
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        let put = |name: &str, values: &[f32]| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            std::fs::write(folder.join(name), bytes).expect("the file can be written");
        };
        for (name, values) in ["w", "r", "b", "wo", "bo"].into_iter().zip(&model.weights) {
            put(name, values);
        }
        put("rows", &model.rows);
        put("answers", &answers(&model, &model.artifact(Mode::Sequence)));
        put("answers_int8", &answers(&model, &model.int8(Mode::Sequence)));
    }
}

fn answers(model: &Model, bytes: &[u8]) -> Vec<f32> {
    let artifact = Artifact::parse(bytes).expect("it parses");
    let (mut state, mut scratch) = (Room::default(), Scratch::new());
    let mut out = vec![0.0; model.shape.0];
    model
        .windows()
        .flat_map(|window| {
            fill(&artifact, window, &mut state, &mut scratch);
            artifact.forecast(&state, &mut scratch, &mut out).expect("the sequence is full");
            out.clone()
        })
        .collect()
}

fn fill(artifact: &Artifact<'_>, window: &[f32], state: &mut Room, scratch: &mut Scratch) {
    state.reset();
    for row in window.chunks_exact(artifact.inputs()) {
        artifact.push(row, state, scratch).expect("the row is good");
    }
}

fn time() {
    for model in SHAPES.map(Model::new) {
        let name = model.name();
        for (kind, bytes) in [("full", model.artifact(Mode::Sequence)), ("full_int8", model.int8(Mode::Sequence))] {
            let artifact = Artifact::parse(&bytes).expect("it parses");
            let (mut state, mut scratch) = (Room::default(), Scratch::new());
            fill(&artifact, model.windows().next().expect("there are windows"), &mut state, &mut scratch);
            let mut out = vec![0.0; artifact.inputs()];
            report(&name, kind, 1, || {
                black_box(artifact.forecast(black_box(&state), &mut scratch, &mut out));
            });
        }
        for (kind, bytes) in [("step", model.artifact(Mode::Streaming)), ("step_int8", model.int8(Mode::Streaming))] {
            let artifact = Artifact::parse(&bytes).expect("it parses");
            let (mut state, mut scratch) = (Room::default(), Scratch::new());
            let row = &model.rows[..artifact.inputs()];
            report(&name, kind, 1, || {
                black_box(artifact.push(black_box(row), &mut state, &mut scratch)).ok();
            });
        }
        let bytes = model.artifact(Mode::Sequence);
        let artifact = Artifact::parse(&bytes).expect("it parses");
        let mut rescorer = Box::new(Rescorer::new());
        let mut anomalies = vec![0.0; BATCH];
        report(&name, "batch64", BATCH, || {
            let windows = model.rows.chunks(SIDE * model.rows.len() / BATCH);
            for (rows, anomalies) in windows.zip(anomalies.chunks_mut(SIDE)) {
                black_box(rescorer.score(&artifact, black_box(rows), anomalies)).ok();
            }
        });
    }
    println!(r#"{{"width": "{:?}"}}"#, Width::best());
}

/// The median and the fastest over many short runs.
fn report(model: &str, kind: &str, windows: usize, mut run: impl FnMut()) {
    let begin = Instant::now();
    let (mut nanos, repeats) = (Vec::new(), if windows > 1 { 4 } else { 32 });
    while begin.elapsed().as_millis() < 150 {
        let start = Instant::now();
        for _ in 0..repeats {
            run();
        }
        nanos.push(start.elapsed().as_nanos() as f64 / f64::from(repeats));
    }
    nanos.sort_unstable_by(f64::total_cmp);
    let (median, best) = (nanos[nanos.len() / 2], nanos[0]);
    let line = format!(r#"{{"model": "{model}", "kind": "{kind}", "median_ns": {median:.0}, "best_ns": {best:.0}}}"#);
    writeln!(std::io::stdout(), "{line}").ok();
}
