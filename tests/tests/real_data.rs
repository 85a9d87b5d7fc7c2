//! Public data sets through real processes: a replay, an agent, an aggregator. Nothing lost, the right race named, no false alarm.
//!
//! What is expected comes from the replay's own log and from the files; what was accepted is read from the aggregator's journal. No
//! label is read before the verdict.

mod accepted;
mod replayed;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use kilter_tests::Bins;
use kilter_types::Quality;
use replayed::{Grid, replay, times};
use serde_json::Value;

/// Windows of about a second that overlap by three quarters: the shortest record still holds more of them than an alarm needs.
const OVERLAP: u64 = 4;

#[test]
fn cwru_names_the_right_race_and_the_normal_record_raises_nothing() {
    let Some(data) = data("cwru") else { return };
    let meta = std::fs::read_to_string(data.join("meta.json")).expect("meta.json");
    let meta: BTreeMap<String, Value> = serde_json::from_str(&meta).expect("meta.json is JSON");
    let mut config = String::new();
    let mut windows = BTreeMap::new();
    for (record, entry) in &meta {
        let (rate, rpm) = (entry["fs_hz"].as_f64().expect("a rate"), entry["rpm"].as_f64().expect("a speed"));
        let (unit, bearing) = (text(&entry["unit"]), text(&entry["bearing"]));
        // The longest that the transform takes and that fits: for these rates a second.
        let window = kilter_signal::fft::longest_len(rate as usize).expect("a supported length") as u64;
        let asset = asset(record);
        config += &format!(
            "{}nominal_rpm = {rpm:?}\nbearing = {{ designation = {bearing:?} }}\n\
             [[machine.channel]]\nname = \"ch1\"\nkind = \"vibration\"\nunit = {unit:?}\nrate_hz = {rate:?}\n\
             [[machine.channel]]\nname = \"speed\"\nkind = \"speed\"\nunit = \"rpm\"\n{}",
            machine(&asset, "motor"),
            group("drive-end", "vibration", &["ch1"], window, window / OVERLAP),
        );
        windows.insert((asset, "drive-end".to_owned()), Grid { channel: "ch1", window, hop: window / OVERLAP });
    }
    let run = replay(&data, "cwru", &[], &config, &windows);
    for (record, entry) in &meta {
        let asset = asset(record);
        let alarms = run.alarms(&asset);
        let causes: BTreeSet<_> = alarms.iter().map(|alarm| alarm.cause).collect();
        println!("{record}: {} windows of a second, alarms {alarms:?}", run.count(&asset));
        // The verdict, and only here the label.
        match entry["label"].as_str().expect("a label") {
            race @ ("inner_race" | "outer_race") => {
                assert_eq!(causes, BTreeSet::from([race]), "{record}");
                let shown = run.shown.iter().filter(|alarm| alarm["asset"] == asset.as_str());
                let shown: Vec<_> = shown.map(|alarm| (&alarm["cause"], &alarm["open"])).collect();
                assert_eq!(shown, [(&Value::from(race), &Value::from(true))], "{record} on the page");
            }
            "normal" => assert!(alarms.is_empty(), "{record}: {alarms:?}"),
            // A ball fault of this size is known not to show; wrong would be a race.
            _ => assert!(causes.is_disjoint(&BTreeSet::from(["inner_race", "outer_race"])), "{record}: {alarms:?}"),
        }
    }
}

#[test]
fn skab_readings_arrive_with_every_hole_in_their_time() {
    let Some(data) = data("skab") else { return };
    let files = [
        ("valve1-2", "valve1/2.csv"),
        ("valve2-0", "valve2/0.csv"),
        ("other-2", "other/2.csv"),
        ("other-12", "other/12.csv"),
    ];
    let channels = [
        ("accelerometer1", "g"),
        ("accelerometer2", "g"),
        ("current", "A"),
        ("pressure", "bar"),
        ("temperature", "degC"),
        ("thermocouple", "degC"),
        ("voltage", "V"),
        ("flow", "L/min"),
    ];
    let names = channels.map(|(name, _)| name);
    let mut config = String::new();
    let mut windows = BTreeMap::new();
    for (name, _) in files {
        let _ = write!(config, "{}commissioning_windows = 30\n{}", machine(name, "rig"), readings(&channels, 1.0));
        config += &group("rig", "reading", &names, 30, 10);
        windows.insert((name.to_owned(), "rig".to_owned()), Grid { channel: "flow", window: 30, hop: 10 });
    }
    let arguments: Vec<_> = files.iter().flat_map(|(name, _)| ["--file", name]).collect();
    let run = replay(&data, "skab", &arguments, &config, &windows);
    for (name, file) in files {
        let times = times(&data.join(file), ';', 0);
        let holes = run.compare_with_times((name, "rig"), &times, (30, 10), |step| step > 3, Quality::GAP);
        println!(
            "{name}: {} readings, {} windows, {holes} of them with a hole{}",
            times.len(),
            run.count(name),
            run.story(name)
        );
    }
}

#[test]
fn the_ims_trend_arrives_whole() {
    let Some(data) = data("ims") else { return };
    let channels = ["bearing1", "bearing2", "bearing3", "bearing4"].map(|name| (name, "g"));
    let name = "ims_test2_meanabs";
    let mut config = format!("{}{}", machine(name, "test-rig"), readings(&channels, 600.0));
    let mut windows = BTreeMap::new();
    for (channel, _) in channels {
        config += &group(channel, "reading", &[channel], 6, 3);
        windows.insert((name.to_owned(), channel.to_owned()), Grid { channel, window: 6, hop: 3 });
    }
    let run = replay(&data, "ims", &[], &config, &windows);
    let times = times(&data.join("ims_test2_meanabs.csv"), ',', 1);
    for (channel, _) in channels {
        run.compare_with_times((name, channel), &times, (6, 3), |step| step > 1800, Quality::GAP);
    }
    println!("{} readings of 4 bearings, {} windows{}", times.len(), run.count(name), run.story(name));
}

#[test]
fn nab_goes_on_when_its_clock_goes_back() {
    let Some(data) = data("nab") else { return };
    let file = "machine_temperature_first_half";
    let config = format!(
        "{}{}{}",
        machine(file, "machine"),
        readings(&[("temperature", "1")], 300.0),
        group("machine", "reading", &["temperature"], 12, 12)
    );
    let grid = Grid { channel: "temperature", window: 12, hop: 12 };
    let windows = BTreeMap::from([((file.to_owned(), "machine".to_owned()), grid)]);
    let run = replay(&data, "nab", &[], &config, &windows);
    let times = times(&data.join(format!("{file}.csv")), ',', 0);
    let back = run.compare_with_times((file, "machine"), &times, (12, 12), |step| step < 0, Quality::CLOCK_BACK);
    assert!(back > 0, "the clock goes back somewhere in this file");
    println!(
        "{} readings, {} windows, {back} in which the clock goes back{}",
        times.len(),
        run.count(file),
        run.story(file)
    );
}

#[test]
fn cmapss_engines_arrive_cycle_by_cycle() {
    let Some(data) = data("cmapss") else { return };
    let engines = ["train_FD001-1", "train_FD001-2", "train_FD001-3"];
    let mut config = String::new();
    let mut windows = BTreeMap::new();
    for engine in engines {
        let _ = write!(
            config,
            "{}[[machine.channel]]\nname = \"engine\"\nkind = \"cycle\"\nunit = \"1\"\nwidth = 24\n{}",
            machine(&asset(engine), "turbofan"),
            group("engine", "cycle", &["engine"], 1, 1)
        );
        let grid = Grid { channel: "engine", window: 1, hop: 1 };
        windows.insert((asset(engine), "engine".to_owned()), grid);
    }
    let arguments: Vec<_> = engines.iter().flat_map(|name| ["--file", name]).collect();
    let run = replay(&data, "cmapss", &arguments, &config, &windows);
    let table = std::fs::read_to_string(data.join("train_FD001.txt")).expect("the engines");
    for (number, engine) in engines.iter().enumerate() {
        let lines = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let cycles: Vec<_> = lines.filter(|cells| cells[0] == (number + 1).to_string()).collect();
        let accepted = run.accepted.windows();
        let rows = &accepted[&(asset(engine), "engine".to_owned())];
        assert_eq!(rows.len(), cycles.len(), "{engine}");
        for (row, cells) in rows.iter().zip(&cycles) {
            let values: Vec<f32> = cells[2..].iter().map(|cell| cell.parse().expect("a number")).collect();
            assert_eq!(row.vector.values[..], values, "{engine} cycle {}", cells[1]);
        }
        println!("{engine}: {} cycles with 24 values{}", rows.len(), run.story(&asset(engine)));
    }
}

fn machine(asset: &str, class: &str) -> String {
    format!(
        "\n[[machine]]\nasset = \"{asset}\"\nclass = \"{class}\"\nsource = {{ kind = \"socket\", address = \"SENSOR\" }}\n"
    )
}

fn readings(channels: &[(&str, &str)], period_secs: f64) -> String {
    let channel = |(name, unit): &(&str, &str)| {
        format!(
            "[[machine.channel]]\nname = \"{name}\"\nkind = \"reading\"\nunit = \"{unit}\"\nperiod_secs = {period_secs:?}\n"
        )
    };
    channels.iter().map(channel).collect()
}

fn group(point: &str, kind: &str, channels: &[&str], window: u64, hop: u64) -> String {
    format!(
        "[[machine.group]]\npoint = \"{point}\"\nkind = \"{kind}\"\nchannels = {channels:?}\nwindow = {window}\nhop = {hop}\n"
    )
}

/// The name that the replay gives a recording's asset.
fn asset(record: &str) -> String {
    record.to_lowercase()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// The folder of a set, when programs and data are there.
fn data(set: &str) -> Option<PathBuf> {
    let bins = Bins::find();
    let built = ["kilter-agent", "kilter-aggregator", "kilter-sim"].iter().all(|name| bins.has(name));
    let folder = std::env::var_os("KILTER_DATA").map(|root| PathBuf::from(root).join(set));
    let found = folder.filter(|folder| built && folder.is_dir());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI builds the programs first and sets KILTER_DATA");
        println!("not run: 1 (the programs are not built, or KILTER_DATA names no folder with {set})");
    }
    found
}
