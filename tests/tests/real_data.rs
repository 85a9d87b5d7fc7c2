//! Public data sets through real processes: a replay, an agent, an aggregator. Nothing lost, the right race named, no false alarm.
//!
//! What is expected comes from the replay's own log and from the files; what was accepted is read from the aggregator's journal. No
//! label is read before the verdict.

mod accepted;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use accepted::{Accepted, counted};
use anyhow::Context;
use kilter_tests::{Bins, House, Options, Ports, Tuning, expected};
use kilter_types::{AlarmState, Event, Micros, Payload, Quality};
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

/// Which channel of the replay's log a series of windows is cut from.
#[derive(Clone, Copy)]
struct Grid {
    channel: &'static str,
    window: u64,
    hop: u64,
}

/// What a replay has left at the aggregator.
struct Run {
    accepted: Accepted,
    /// The alarms as the page's API shows them.
    shown: Vec<Value>,
}

/// An alarm as it began or changed.
#[derive(Debug)]
struct Said {
    #[expect(dead_code, reason = "printed")]
    window: u64,
    #[expect(dead_code, reason = "printed")]
    source: kilter_types::AlarmSource,
    cause: &'static str,
}

impl Run {
    fn count(&self, asset: &str) -> usize {
        self.accepted.windows().iter().filter(|((name, _), _)| name == asset).map(|(_, rows)| rows.len()).sum()
    }

    fn alarms(&self, asset: &str) -> Vec<Said> {
        let rows = self.accepted.rows.iter().filter(|row| row.record.point.asset.as_str() == asset);
        rows.filter_map(|row| match &row.record.payload {
            Payload::Alarm(alarm) if alarm.state != AlarmState::Cleared => {
                Some(Said { window: alarm.input.index, source: alarm.source, cause: alarm.cause.as_str() })
            }
            _ => None,
        })
        .collect()
    }

    /// What the baselines said, for people.
    fn story(&self, asset: &str) -> String {
        let mut text = String::new();
        for row in self.accepted.rows.iter().filter(|row| row.record.point.asset.as_str() == asset) {
            let point = &row.record.point.point;
            let _ = match &row.record.payload {
                Payload::Event(Event::Commissioned { to, .. }) => {
                    write!(text, "\n  {point}: baseline stands at {}", date(*to))
                }
                Payload::Alarm(alarm) if alarm.state != AlarmState::Changed => {
                    let (state, source, cause) = (alarm.state, alarm.source, alarm.cause.as_str());
                    let (window, t) = (alarm.input.index, date(row.event_time));
                    write!(text, "\n  {point}: {state:?} by {source:?}, {cause}, window {window}, {t}")
                }
                _ => Ok(()),
            };
        }
        text
    }

    /// The windows begin at the times of the file, and exactly those with such a step inside carry the flag and no value. Says how many.
    fn compare_with_times(
        &self,
        (asset, point): (&str, &str),
        times: &[i64],
        (window, hop): (usize, usize),
        broken: impl Fn(i64) -> bool,
        flag: Quality,
    ) -> usize {
        let windows = self.accepted.windows();
        let rows = &windows[&(asset.to_owned(), point.to_owned())];
        let mut found = 0;
        for row in rows {
            let first = row.index as usize * hop;
            let inside = &times[first..first + window];
            assert_eq!(row.start, Micros::from_secs(inside[0]), "{asset} window {}", row.index);
            let expected = inside.windows(2).any(|pair| broken(pair[1] - pair[0]));
            let seen = row.quality.contains(flag);
            assert_eq!(seen, expected, "{asset} window {}: {:?}", row.index, row.quality.names().collect::<Vec<_>>());
            assert!(!seen || row.vector.valid == 0, "{asset} window {} says something over a hole", row.index);
            found += usize::from(seen);
        }
        found
    }
}

/// Replays a set through an agent and an aggregator until every expected window is in the aggregator's journal.
fn replay(
    data: &Path,
    set: &str,
    arguments: &[&str],
    machines: &str,
    windows: &BTreeMap<(String, String), Grid>,
) -> Run {
    let dir = tempfile::tempdir().expect("a temporary folder");
    match try_replay(dir.path(), data, set, arguments, machines, windows) {
        Ok(run) => run,
        Err(error) => {
            let kept = dir.keep();
            panic!("{set}: {error:#}\nlogs and data are kept in {}", kept.display());
        }
    }
}

fn try_replay(
    dir: &Path,
    data: &Path,
    set: &str,
    arguments: &[&str],
    machines: &str,
    windows: &BTreeMap<(String, String), Grid>,
) -> anyhow::Result<Run> {
    let tuning =
        Tuning { commissioning_windows: 60, window: 0, temperature_window: 0, period_secs: 1.0, report_secs: 1.0 };
    let options = Options {
        seed: 1,
        speed: 1.0,
        spec: None,
        tuning,
        probation_secs: 1,
        lab_arguments: Vec::new(),
        broker: String::new(),
    };
    let mut house = House::new(Bins::find(), dir, Ports::free()?, options)?;
    house.set("lab", "enabled", false)?;
    house.start_aggregator()?;
    house.start_replay(data, set, arguments)?;
    let machines = machines.replace("SENSOR", &house.ports.sensor.to_string());
    let head = "data = \"data\"\nbundle = \"bundle.toml\"\nsite = \"north\"\n[http]\nlisten = \"\"\n";
    house.install_agent("gateway", &format!("{head}{machines}"))?;
    house.start_agent("gateway")?;
    let patience = Duration::from_secs(90);
    let log = house.dir.join("expected.jsonl");
    let assets: BTreeSet<_> = windows.keys().map(|(asset, _)| asset).collect();
    let wanted = house.wait_for("the end of the recordings", patience, |_| {
        let ended = std::fs::read_to_string(&log).ok()?.matches("\"event\":\"ended\"").count();
        (ended == assets.len()).then(|| wanted(&log, windows).ok()).flatten()
    })?;
    let total: u64 = wanted.values().sum();
    let mut last = None;
    let seen = house.wait_for("every window at the aggregator", patience, |house| {
        last = counted(house);
        (last? >= total).then_some(())
    });
    seen.with_context(|| format!("{total} expected, {last:?} counted"))?;
    let shown = house.alarms()?;
    let data = house.data_dir();
    // The agent delivers what it still holds before it ends.
    house.stop()?;
    let accepted = Accepted::read(&data)?;
    accepted.check(&wanted)?;
    Ok(Run { accepted, shown })
}

/// The windows that what was produced must give.
fn wanted(log: &Path, windows: &BTreeMap<(String, String), Grid>) -> anyhow::Result<BTreeMap<(String, String), u64>> {
    let produced = expected::produced(log)?;
    let count = |((asset, point), grid): (&(String, String), &Grid)| {
        let key = (asset.clone(), grid.channel.to_owned());
        let samples = produced.get(&key).with_context(|| format!("find {key:?} in the replay's log"))?;
        Ok(((asset.clone(), point.clone()), expected::windows(*samples, grid.window, grid.hop)))
    };
    windows.iter().map(count).collect()
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

/// The times in a column, in seconds since 1970: whatever stands between their six numbers.
fn times(path: &Path, separator: char, column: usize) -> Vec<i64> {
    let text = std::fs::read_to_string(path).expect("a recording");
    let seconds = |line: &str| {
        let cell = line.split(separator).nth(column).expect("a time");
        let numbers: Vec<i64> =
            cell.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().expect("a number in a time")).collect();
        let [year, month, day, hour, minute, second] = numbers[..] else { panic!("{cell} is no time") };
        ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
    };
    text.lines().skip(1).map(seconds).collect()
}

/// Days since 1970-01-01 in the calendar of today.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// A time for people.
fn date(t: Micros) -> String {
    let seconds = t.0 / 1_000_000;
    let (day, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let year = (1970..).take_while(|year| days(*year, 1, 1) <= day).last().unwrap_or(1970);
    let month = (1..=12).take_while(|month| days(year, *month, 1) <= day).last().unwrap_or(1);
    format!("{year}-{month:02}-{:02} {:02}:{:02}", day - days(year, month, 1) + 1, rest / 3600, rest / 60 % 60)
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
