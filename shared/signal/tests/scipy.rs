//! All of Set S against numpy and scipy, computed in the test run from the same definitions.
//!
//! `KILTER_PYTHON` names a Python that has numpy and scipy; without it nothing runs here.

mod support;

use std::{
    ffi::OsStr,
    io::Write,
    process::{Command, Stdio},
};

use kilter_signal::{
    bearing::Orders,
    extract::VibrationSetup,
    table::{VIBRATION, VIBRATION_LEN},
};
use kilter_types::{Hertz, Rpm};
use support::Analyser;

#[test]
fn every_feature_agrees_with_scipy_within_one_in_ten_thousand() {
    let Some(python) = std::env::var_os("KILTER_PYTHON") else {
        println!("not run: {VIBRATION_LEN} (KILTER_PYTHON is unset)");
        return;
    };
    let mut cases: Vec<(String, Vec<f32>, f32, f32)> = Vec::new();
    for (len, rate, rpm) in
        [(4096, 12_800.0, 1797.0), (1024, 3200.0, 1797.0), (12_000, 12_000.0, 1450.0), (25_600, 25_600.0, 540.0)]
    {
        let mut samples = support::noise(len, len as u64);
        for (i, x) in samples.iter_mut().enumerate() {
            let turns = i as f32 / rate * rpm / 60.0;
            *x += 0.3 + (std::f32::consts::TAU * turns.fract()).sin();
        }
        cases.push((format!("noise and shaft, {len}"), samples, rate, rpm));
    }
    if let Some(root) = std::env::var_os("KILTER_DATA") {
        let root = std::path::Path::new(&root).join("cwru");
        let meta = support::json(root.join("meta.json"));
        for (name, meta) in meta.as_object().expect("an object") {
            let number = |key: &str| meta[key].as_f64().expect("a number") as f32;
            let samples = support::npy(root.join(format!("{name}.npy")));
            let len = if number("fs_hz") > 20_000.0 { 48_000 } else { 12_000 };
            let (from, to) = (len, 2 * len);
            cases.push((name.clone(), samples[from..to].into(), number("fs_hz"), number("rpm")));
        }
    }
    let bearing = Orders::catalogue("6205").expect("built in");
    let mut question: Vec<u8> = Vec::new();
    let mut windows = Vec::new();
    for (_, samples, rate, rpm) in &cases {
        let setup =
            VibrationSetup::new(Hertz(*rate)).expect("a sound rate").with_shaft(Rpm(*rpm)).with_bearing(bearing);
        windows.push(*Analyser::new(samples.len()).run(samples, &setup));
        let band = setup.band().expect("a usual band");
        let (low, high) = (band.low().0, band.high().0);
        let Orders { bpfo, bpfi, ftf, .. } = bearing;
        let len = samples.len();
        let header = format!("{len} {rate} {rpm} {low} {high} {bpfo} {bpfi} {} {ftf}\n", bearing.twice_bsf());
        question.extend(header.bytes().chain(samples.iter().flat_map(|x| x.to_le_bytes())));
    }
    let answer = ask(&python, question);
    let answers: Vec<&str> = answer.split_terminator("\n\n").collect();
    assert_eq!(answers.len(), cases.len());
    let mut worst = (String::new(), 0.0f64);
    for (((name, ..), window), answer) in cases.iter().zip(&windows).zip(answers) {
        assert_eq!(answer.lines().count(), VIBRATION_LEN, "{name}");
        for line in answer.lines() {
            let (feature, value) = line.split_once(' ').expect("name and value");
            let expected: f64 = value.parse().expect("a number");
            let place = VIBRATION.iter().position(|f| f.name == feature).expect("a feature");
            let Some(got) = window.get(place).map(f64::from) else {
                panic!("{name} {feature} is invalid");
            };
            let scale = f64::from(VIBRATION[place].scale);
            let error = (got - expected).abs() / expected.abs().max(scale);
            assert!(error <= 1e-4, "{name} {feature}: {got} for {expected}");
            if error > worst.1 {
                worst = (format!("{name} {feature}"), error);
            }
        }
    }
    println!("{} windows, greatest error {:.1e} ({})", cases.len(), worst.1, worst.0);
}

fn ask(python: &OsStr, question: Vec<u8>) -> String {
    let mut child = Command::new(python)
        .arg("tests/peer/set_s.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("KILTER_PYTHON starts");
    let mut stdin = child.stdin.take().expect("piped");
    // Written beside the reading, so that neither side waits for the other with a full pipe.
    let writer = std::thread::spawn(move || stdin.write_all(&question));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("the peer reads all");
    assert!(output.status.success(), "the peer failed");
    String::from_utf8(output.stdout).expect("text")
}
