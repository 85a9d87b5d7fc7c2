//! What goes beyond Set S against scipy, numpy and openconmo, computed in the test run.
//!
//! `KILTER_PYTHON` names a Python that has numpy, scipy and openconmo 0.0.6; without it nothing runs here.

mod support;

use std::{
    f64::consts::TAU,
    io::Write,
    process::{Command, Stdio},
};

use kilter_signal::{
    cepstrum,
    demodulate::{self, Demodulation},
    envelope::Band,
    fft::{self, Plan},
    kurtogram::{self, Kurtogram},
    welch,
};
use kilter_types::Hertz;
use serde_json::Value;

const LEN: usize = 12_000;
const SEGMENT: usize = 2000;
const RATE: Hertz = Hertz(12_000.0);

#[test]
fn welch_cepstrum_kurtogram_and_whitened_envelope_agree_with_their_peers() {
    let Some(python) = std::env::var_os("KILTER_PYTHON") else {
        println!("not run: 4 (KILTER_PYTHON is unset)");
        return;
    };
    let windows: Vec<(f64, Vec<f32>)> =
        [1900.0, 3400.0, 4700.0].into_iter().map(|resonance_hz| (resonance_hz, ringing(resonance_hz))).collect();
    let mut question = Vec::new();
    for (_, samples) in &windows {
        question.extend(format!("{LEN} {} {SEGMENT}\n", RATE.0).bytes());
        question.extend(samples.iter().flat_map(|x| x.to_le_bytes()));
    }
    let answers = ask(&python, question);
    assert_eq!(answers.len(), windows.len());
    for ((resonance_hz, samples), answer) in windows.iter().zip(&answers) {
        compare(*resonance_hz, samples, answer);
    }
}

fn compare(resonance_hz: f64, samples: &[f32], answer: &Value) {
    let plan = |len: usize| Plan::new(len, vec![0.0; fft::fast_table_len(len)]).expect("supported");
    let whole = plan(LEN);
    let mut scratch = vec![0.0; kurtogram::scratch_len(LEN)];

    let mut density = vec![0.0; SEGMENT / 2];
    welch::density(samples, RATE, &plan(SEGMENT), &mut scratch, &mut density).expect("it fits");
    near("welch", &density, &answer["welch"], 1e-6);

    let mut quefrencies = vec![0.0; LEN / 2];
    cepstrum::real(samples, &whole, &mut scratch, &mut quefrencies).expect("it fits");
    // Its stated scale is 1: logarithms of amplitudes.
    near("cepstrum", &quefrencies, &answer["cepstrum"], 1.0);

    let tree = Kurtogram::of(samples, &whole, &mut scratch).expect("it fits");
    let nodes: Vec<f32> = tree.nodes.iter().map(|n| n.expect("12000 is resolved on every level")).collect();
    near("kurtogram", &nodes, &answer["tree"], 1.0);
    let node = tree.choose(RATE, Hertz(300.0)).expect("impulses stand out");
    let (centre, width) = (number(&answer["openconmo_centre_hz"]), number(&answer["openconmo_width_hz"]));
    let (low, high) = (centre - width / 2.0, centre + width / 2.0);
    println!(
        "{resonance_hz} Hz: ours {:.0} to {:.0} Hz, openconmo's {low:.0} to {high:.0} Hz",
        node.low.0, node.high.0
    );
    assert!(f64::from(node.low.0) < high && low < f64::from(node.high.0), "the choices overlap");
    assert!(f64::from(node.low.0) <= resonance_hz && resonance_hz <= f64::from(node.high.0), "{node:?}");

    let whitened = Demodulation::whitened(RATE).expect("a rate");
    let beats = demodulate::beats(samples, RATE, &whitened, &whole, &mut scratch).expect("it fits");
    near("whitened envelope", beats.amplitudes.lines, &answer["whitened"], 0.01);

    let wide = Band::new(Hertz(60.0), Hertz(5940.0), RATE).expect("a band");
    let beats = demodulate::beats(samples, RATE, &Demodulation::Plain(wide), &whole, &mut scratch).expect("it fits");
    let lines = beats.amplitudes.lines;
    let top = (21..600).max_by(|a, b| lines[*a].total_cmp(&lines[*b])).expect("lines");
    // One line is 1 Hz; the squared envelope of the peer may peak at a neighbour.
    assert!((top as f64 - number(&answer["openconmo_beat_hz"])).abs() <= 1.0, "{top}");
}

/// Rings 97.3 times per second in noise.
fn ringing(resonance_hz: f64) -> Vec<f32> {
    let mut samples: Vec<f32> = support::noise(LEN, resonance_hz as u64).iter().map(|x| 0.3 * x).collect();
    let mut hit = 0.01;
    while hit < 1.0 {
        for (t, x) in samples.iter_mut().enumerate().skip((hit * 12_000.0f64).ceil() as usize).take(200) {
            let age = t as f64 / 12_000.0 - hit;
            *x += (2.0 * (-age * 700.0).exp() * (TAU * resonance_hz * age).sin()) as f32;
        }
        hit += 1.0 / 97.3;
    }
    samples
}

#[track_caller]
fn near(what: &str, got: &[f32], expected: &Value, scale: f64) {
    let expected = expected.as_array().expect("a list");
    let count = got.len().min(expected.len());
    assert!(count + 1 >= got.len().max(expected.len()), "{what}: {} for {}", got.len(), expected.len());
    let mut worst = 0.0f64;
    for (k, (got, expected)) in got.iter().zip(expected).enumerate() {
        let expected = number(expected);
        let error = (f64::from(*got) - expected).abs() / expected.abs().max(scale);
        assert!(error <= 1e-4, "{what} {k}: {got} for {expected}");
        worst = worst.max(error);
    }
    println!("{what}: {count} values, greatest error {worst:.1e}");
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn ask(python: &std::ffi::OsStr, question: Vec<u8>) -> Vec<Value> {
    let mut child = Command::new(python)
        .arg("tests/peer/beyond.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("KILTER_PYTHON starts");
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || stdin.write_all(&question));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("the peer reads all");
    assert!(output.status.success(), "the peer failed");
    String::from_utf8(output.stdout).expect("text").lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
}
