//! `kilter-agent analyze` as a person or a script calls it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kilter_tests::npy;
use serde_json::Value;

fn analyze(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kilter-agent")).arg("analyze").args(arguments).output().expect("it starts")
}

fn json(arguments: &[&str]) -> Value {
    let output = analyze(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let output = analyze(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.starts_with("kilter-agent: failed to "), "{text}");
    text
}

const RATE: usize = 12_000;

/// Rings at 3.1 kHz, struck so many times per second, in noise; a whole number of seconds in g.
fn struck(hits_hz: f64, seconds: usize) -> Vec<f32> {
    let mut state = 9u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    let mut samples: Vec<f32> =
        (0..seconds * RATE).map(|_| ((0..12).map(|_| uniform()).sum::<f32>() - 6.0) * 0.1).collect();
    let mut hit = 0.003;
    while hits_hz > 0.0 && hit < seconds as f64 {
        let first = (hit * RATE as f64).ceil() as usize;
        for (t, x) in samples.iter_mut().enumerate().skip(first).take(150) {
            let age = t as f64 / RATE as f64 - hit;
            *x += ((-age * 800.0).exp() * (std::f64::consts::TAU * 3100.0 * age).sin()) as f32;
        }
        hit += (1.0 + 0.01 * f64::from(uniform() - 0.5)) / hits_hz;
    }
    samples
}

/// Two seconds of 16-bit PCM, full scale 4 g.
fn wav(values: &[f32]) -> Vec<u8> {
    let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    bytes.extend((RATE as u32).to_le_bytes());
    bytes.extend((2 * RATE as u32).to_le_bytes());
    bytes.extend([2, 0, 16, 0]);
    bytes.extend(b"data");
    bytes.extend((2 * values.len() as u32).to_le_bytes());
    bytes.extend(values.iter().flat_map(|x| ((x / 4.0 * 32_767.0) as i16).to_le_bytes()));
    bytes
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, bytes).expect("written");
    path.to_string_lossy().into_owned()
}

fn causes(windows: &Value) -> Vec<&str> {
    let windows = windows.as_array().expect("windows");
    windows.iter().map(|w| w["diagnosis"][0]["cause"].as_str().expect("a cause")).collect()
}

/// 6205 at 1800 rpm: 3.585 and 5.415 times 30 Hz.
const OUTER_HZ: f64 = 107.55;
const INNER_HZ: f64 = 162.45;

#[test]
fn an_npy_a_wav_and_a_csv_of_the_same_signal_say_the_same_by_record_and_by_second() {
    let folder = tempfile::tempdir().expect("a folder");
    let samples = struck(OUTER_HZ, 3);
    let csv: String = std::iter::once("a\n".to_owned()).chain(samples.iter().map(|x| format!("{x}\n"))).collect();
    let files = [
        write(folder.path(), "inner-race.npy", &npy(&samples)),
        write(folder.path(), "x.wav", &wav(&samples)),
        write(folder.path(), "x.csv", csv.as_bytes()),
    ];
    let bearings: [&[&str]; 3] = [
        &["--bearing", "6205"],
        &["--bearing", "balls=9,ball=7.94,pitch=39.04,angle=0"],
        &["--orders", "bpfo=3.585,bpfi=5.415,bsf=2.357,ftf=0.398"],
    ];
    for (file, bearing) in files.iter().zip(bearings) {
        let mut arguments = vec![file.as_str(), "--unit", "g", "--rate", "12000", "--rpm", "1800", "--json"];
        arguments.extend(bearing);
        if file.ends_with("wav") {
            arguments.extend(["--full-scale", "4"]);
        }
        let answer = json(&arguments);
        let records = answer["records"].as_array().expect("records");
        assert_eq!(records.len(), 1);
        let record = &records[0];
        // The first file's name says another race: names are not read.
        assert_eq!(record["diagnosis"][0]["cause"], "outer_race", "{file}: {}", record["diagnosis"]);
        let score = record["diagnosis"][0]["score"].as_f64().expect("a score");
        assert!((0.5..=1.0).contains(&score), "{score}");
        let evidence = record["diagnosis"][0]["evidence"].as_array().expect("evidence");
        assert!(evidence.iter().any(|line| line["feature"] == "bpfo_share"), "{evidence:?}");
        assert_eq!(causes(&record["windows"]), ["outer_race"; 3], "{file}");
        assert_eq!(record["severity_zone"], "A");
        assert_eq!(record["sensor"][0], "ok");
        let beat = record["envelope_peaks"][0]["frequency_hz"].as_f64().expect("a peak");
        assert!((beat - OUTER_HZ).abs() < 1.5, "{beat}");
        let rms = record["features"]["rms"].as_f64().expect("a feature");
        assert!((0.1..0.5).contains(&rms), "{rms}");
    }
}

#[test]
fn a_folder_reads_rate_speed_unit_and_bearing_of_its_meta_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "one.npy", &npy(&struck(INNER_HZ, 2)));
    write(folder.path(), "two.npy", &npy(&struck(0.0, 2)));
    let in_metres: Vec<f32> = struck(OUTER_HZ, 2).iter().map(|x| x * 9.80665).collect();
    write(folder.path(), "three.npy", &npy(&in_metres));
    let meta = r#"{
        "one": {"fs_hz": 12000, "rpm": 1800, "unit": "g", "bearing": "SKF 6205-2RS (DE)", "label": "normal"},
        "two": {"fs_hz": 12000, "rpm": 1800, "unit": "g", "bearing": "6205", "label": "outer_race", "size": [1]},
        "three": {"fs_hz": 12000, "rpm": 1800, "unit": "m/s2", "orders": {"bpfo": 3.585, "bpfi": 5.415, "bsf": 2.357, "ftf": 0.398}}
    }"#;
    write(folder.path(), "meta.json", meta.as_bytes());
    let path = folder.path().to_string_lossy().into_owned();
    let answer = json(&[&path, "--json"]);
    let said: Vec<(&str, &str)> = answer["records"]
        .as_array()
        .expect("records")
        .iter()
        .map(|r| (r["file"].as_str().expect("a file"), r["diagnosis"][0]["cause"].as_str().expect("a cause")))
        .collect();
    assert_eq!(said, [("one.npy", "inner_race"), ("three.npy", "outer_race"), ("two.npy", "no clear fault")]);
    let table = String::from_utf8(analyze(&[&path]).stdout).expect("text");
    assert!(table.contains("one.npy") && table.contains("2 inner race") && table.contains("no clear fault"), "{table}");

    // One damaged record is named and does not hide the others.
    write(folder.path(), "two.npy", b"no array");
    let output = analyze(&[&path, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("two.npy"));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON of the others");
    assert_eq!(answer["records"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_report_is_one_file_with_its_pictures_inside() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = write(folder.path(), "a<b.npy", &npy(&struck(OUTER_HZ, 2)));
    let report = folder.path().join("out.html");
    let report = report.to_string_lossy();
    let output =
        analyze(&[&file, "--rate", "12000", "--unit", "g", "--rpm", "1800", "--bearing", "6205", "--report", &report]);
    assert!(output.status.success());
    let page = std::fs::read_to_string(report.as_ref()).expect("written");
    for part in ["<svg", "Envelope spectrum", "BPFO", "2BPFO", "Severity", "outer race", "a&lt;b.npy", "bpfo_share"] {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(!page.contains("a<b") && !page.contains("<script") && !page.contains("http"), "self-contained");
    assert!(page.matches("<svg").count() >= 5 && page.matches("<svg").count() == page.matches("</svg>").count());
}

#[test]
fn a_column_that_counts_time_is_left_out_and_must_fit_the_rate() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = struck(OUTER_HZ, 2);
    let rows: String = rows.iter().enumerate().map(|(i, x)| format!("{:.6},{x}\n", i as f64 / 12_000.0)).collect();
    let file = write(folder.path(), "timed.csv", format!("t,a\n{rows}").as_bytes());
    let answer = json(&[&file, "--rate", "12000", "--unit", "g", "--rpm", "1800", "--bearing", "6205", "--json"]);
    let records = answer["records"].as_array().expect("records");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["diagnosis"][0]["cause"], "outer_race");
    assert!(records[0]["notes"].to_string().contains("counts time"), "{}", records[0]["notes"]);
    let text = refused(&[&file, "--rate", "10000", "--unit", "g"]);
    assert!(text.contains("1/12000") && text.contains("correct the rate"), "{text}");
}

#[test]
fn short_holes_are_filled_and_said_and_a_dead_sensor_is_no_healthy_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut samples = struck(OUTER_HZ, 3);
    samples[100..105].fill(f32::NAN);
    samples[14_000..14_500].fill(f32::NAN);
    samples[24_000..].fill(0.25);
    let file = write(folder.path(), "x.npy", &npy(&samples));
    let answer = json(&[&file, "--rate", "12000", "--unit", "g", "--rpm", "1800", "--bearing", "6205", "--json"]);
    let record = &answer["records"][0];
    assert_eq!(causes(&record["windows"]), ["outer_race", "sensor", "sensor"]);
    let flags: Vec<&str> = (0..3).map(|i| record["windows"][i]["sensor"][0].as_str().expect("a flag")).collect();
    assert_eq!(flags, ["imputed", "non_finite", "stuck"]);
    assert_eq!(record["diagnosis"][0]["cause"], "outer_race");
}

#[test]
fn what_is_missing_or_cannot_be_is_refused_with_its_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = write(folder.path(), "x.npy", &npy(&struck(0.0, 1)));
    let path = folder.path().to_string_lossy().into_owned();
    let said = |arguments: &[&str], parts: &[&str]| {
        let text = refused(arguments);
        assert!(parts.iter().all(|part| text.contains(part)), "{arguments:?}: {text}");
    };
    said(&[&file], &["rate is not declared", "--rate HZ"]);
    said(&[&file, "--rate", "12000"], &["unit is not declared", "--unit g"]);
    said(&[&file, "--rate", "12000", "--unit", "parsec"], &["parsec", "mm/s"]);
    said(&[&file, "--rate", "12000", "--unit", "degC"], &["degC", "g or m/s2"]);
    said(&[&file, "--rate", "12000", "--unit", "g", "--bearing", "99999"], &["99999", "6205", "--orders"]);
    said(&[&file, "--rate", "12000", "--unit", "g", "--orders", "bpfo=3"], &["bpfi"]);
    said(&[&file, "--rate", "12000", "--unit", "g", "--rpm", "0"], &["--rpm 0"]);
    said(&[&file, "--rate", "100", "--unit", "g"], &["512"]);
    said(&[&file, "--rate", "12000", "--unit", "g", "--channel", "z"], &["channel z", "ch1"]);
    said(&[&path], &["meta.json"]);
    said(&[&write(folder.path(), "x.mat", b"MATLAB"), "--rate", "1", "--unit", "g"], &[".npy", ".csv"]);
    said(&["/nowhere.npy", "--rate", "1", "--unit", "g"], &["/nowhere.npy"]);
}

#[test]
fn the_speed_is_told_from_the_samples_or_doubted_and_a_wrong_declaration_is_contradicted() {
    let folder = tempfile::tempdir().expect("a folder");
    let shaft = |hz: f64, teeth: usize| -> Vec<f32> {
        let tone = |i: usize| -> f64 {
            (1..=teeth).map(|h| (std::f64::consts::TAU * hz * h as f64 * i as f64 / RATE as f64).sin()).sum()
        };
        struck(0.0, 6).iter().enumerate().map(|(i, x)| x + 0.2 * tone(i) as f32).collect()
    };
    let clear = write(folder.path(), "clear.npy", &npy(&shaft(24.5, 4)));
    let single = write(folder.path(), "single.npy", &npy(&shaft(24.5, 1)));
    let ask = |file: &str, more: &[&str]| {
        let mut arguments = vec![file, "--rate", "12000", "--unit", "g", "--json"];
        arguments.extend(more);
        json(&arguments)["records"][0].clone()
    };
    let notes = |record: &Value| record["notes"].to_string();
    let told = ask(&clear, &[]);
    assert_eq!(told["speed_estimate"]["sure"], true, "{}", told["speed_estimate"]);
    assert!((told["speed_estimate"]["rpm"].as_f64().expect("a speed") - 1470.0).abs() < 2.0);
    assert!(notes(&told).contains("turns at 1470 rpm"), "{}", notes(&told));
    let doubted = ask(&single, &[]);
    assert_eq!(doubted["speed_estimate"]["sure"], false);
    assert!(notes(&doubted).contains("unsure of the shaft's speed"), "{}", notes(&doubted));
    let contradicted = ask(&clear, &["--rpm", "1570"]);
    assert!(notes(&contradicted).contains("speed or rate is declared wrongly"), "{}", notes(&contradicted));
    assert_eq!(contradicted["sensor"][0], "ok", "which of the two is wrong is not known");
    assert!(!notes(&ask(&clear, &["--rpm", "1470"])).contains("wrongly"));
}

#[test]
fn a_sensor_slower_than_declared_is_named_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let sound = struck(OUTER_HZ, 3);
    let held: Vec<f32> = (0..sound.len()).map(|i| sound[i / 2]).collect();
    let names = |record: &Value| -> Vec<String> {
        let names = record["sensor"].as_array().expect("names");
        names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
    };
    let held = write(folder.path(), "held.npy", &npy(&held));
    let answer = json(&[&held, "--rate", "12000", "--unit", "g", "--rpm", "1800", "--bearing", "6205", "--json"]);
    let record = &answer["records"][0];
    assert_eq!(names(record), ["wrong_rate"]);
    assert_eq!(record["sensor_reasons"][0]["name"], "wrong_rate");
    assert!(record["notes"].to_string().contains("each value comes 2.0 times"), "{}", record["notes"]);
    assert_eq!(record["diagnosis"][0]["cause"], "sensor");
}
