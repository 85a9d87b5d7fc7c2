//! The diagnosis on recorded bearings: the right race per record and per one-second window, and nothing on the healthy one.

mod support;

use kilter_signal::{
    bearing::Orders,
    diagnose::{self, Average, Diagnosis, Limits},
    envelope::Band,
    extract::VibrationSetup,
    fft,
};
use kilter_types::{Cause, Hertz, Rpm};
use support::Analyser;

struct Record {
    name: String,
    truth: String,
    rate: Hertz,
    rpm: Rpm,
    bearing: Orders,
    samples: Vec<f32>,
}

impl Record {
    fn second(&self) -> usize {
        self.rate.0 as usize
    }

    fn allowed(&self) -> &'static [Cause] {
        match self.truth.as_str() {
            "inner_race" => &[Cause::InnerRace],
            "outer_race" => &[Cause::OuterRace],
            "ball" => &[Cause::Unclear, Cause::RollingElement],
            _ => &[Cause::Unclear],
        }
    }
}

/// Every record with the usual band and with the clearest of the candidates.
fn both(records: &[Record]) -> impl Iterator<Item = (&Record, Bands)> {
    let bands = [Bands::Usual, Bands::Candidates];
    records.iter().flat_map(move |record| bands.map(|bands| (record, bands)))
}

fn records() -> Option<Vec<Record>> {
    let root = support::data(9)?.join("cwru");
    let meta = support::json(root.join("meta.json"));
    let records = meta.as_object().expect("an object").iter().map(|(name, meta)| {
        let number = |key: &str| meta[key].as_f64().expect("a number") as f32;
        let text = |key: &str| meta[key].as_str().expect("a text").to_owned();
        assert_eq!(text("unit"), "g");
        Record {
            truth: text("label"),
            rate: Hertz(number("fs_hz")),
            rpm: Rpm(number("rpm")),
            bearing: Orders::catalogue(&text("bearing")).expect("a built-in bearing"),
            samples: support::npy(root.join(format!("{name}.npy"))),
            name: name.clone(),
        }
    });
    Some(records.collect())
}

/// The cause of the whole record, and of each window of so many samples.
fn diagnose(record: &Record, bearing: Orders, rpm: Rpm, len: usize, bands: Bands) -> (Cause, Vec<Cause>) {
    let mut analyser = Analyser::new(fft::longest_len(len).expect("long enough"));
    let setup = VibrationSetup::new(record.rate).expect("a sound rate").with_shaft(rpm).with_bearing(bearing);
    let limits = Limits::default();
    let bands: Vec<Band> = match bands {
        Bands::Usual => setup.band().into_iter().collect(),
        Bands::Candidates => Band::candidates(record.rate).collect(),
    };
    let mut whole = Diagnosis::default();
    let mut windows = vec![Diagnosis::default(); record.samples.len() / len];
    for band in bands {
        let setup = setup.with_band(band);
        let mut average = Average::default();
        for (samples, found) in record.samples.chunks_exact(len).zip(&mut windows) {
            let window = analyser.run(samples, &setup);
            average.add(window);
            *found = found.clone().clearer(diagnose::vibration(window, &limits));
        }
        whole = whole.clearer(average.diagnose(&limits));
    }
    (whole.cause(), windows.iter().map(Diagnosis::cause).collect())
}

#[derive(Clone, Copy, Debug)]
enum Bands {
    Usual,
    Candidates,
}

#[test]
fn every_race_is_named_by_record_and_by_second_and_the_healthy_bearing_is_not() {
    let Some(records) = records() else { return };
    for (record, bands) in both(&records) {
        let (cause, windows) = diagnose(record, record.bearing, record.rpm, record.second(), bands);
        println!("{:24} {bands:?} {:16} {windows:?}", record.name, cause.as_str());
        let allowed = record.allowed();
        assert!(allowed.contains(&cause), "{}: {cause:?}", record.name);
        assert!(windows.iter().all(|c| allowed.contains(c)), "{}: {windows:?}", record.name);
    }
}

#[test]
fn windows_of_a_third_of_a_second_name_no_wrong_race_and_the_record_names_the_right_one() {
    let Some(records) = records() else { return };
    let (mut right, mut wrong, mut total) = (0, 0, 0);
    for (record, bands) in both(&records) {
        let len = if record.rate.0 > 20_000.0 { 16_384 } else { 4096 };
        let (cause, windows) = diagnose(record, record.bearing, record.rpm, len, bands);
        let allowed = record.allowed();
        assert!(allowed.contains(&cause), "{}: {cause:?}", record.name);
        let hits = windows.iter().filter(|c| allowed.contains(c)).count();
        let unclear = windows.iter().filter(|c| !allowed.contains(c) && **c == Cause::Unclear);
        let misses = unclear.count();
        println!("{:24} {bands:?} {hits} right, {misses} unclear of {}", record.name, windows.len());
        right += hits;
        wrong += windows.len() - hits - misses;
        total += windows.len();
    }
    println!("right: {right}, wrong: {wrong}, of {total} windows of about 0.34 s");
    assert!(wrong == 0 && right * 10 >= total * 9, "{right} right, {wrong} wrong of {total}");
}

#[test]
fn with_a_bearing_or_a_speed_seven_per_cent_off_no_fault_is_named() {
    let Some(records) = records() else { return };
    let (mut named, mut total, mut named_records) = (0, 0, 0);
    for (record, bands) in both(&records) {
        for factor in [0.93, 1.07] {
            let b = record.bearing;
            let off =
                Orders::new(b.bpfo * factor, b.bpfi * factor, b.bsf * factor, b.ftf * factor).expect("sound orders");
            for (bearing, rpm) in [(off, record.rpm), (b, Rpm(record.rpm.0 * factor))] {
                let (cause, windows) = diagnose(record, bearing, rpm, record.second(), bands);
                total += windows.len();
                named += windows.iter().filter(|c| **c != Cause::Unclear).count();
                named_records += usize::from(cause != Cause::Unclear);
            }
        }
    }
    println!("falsely named: {named} of {total} one-second windows");
    assert_eq!(named_records, 0);
    assert!(named * 50 <= total, "{named} of {total}");
}
