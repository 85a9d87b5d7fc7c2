//! A public data set replayed through an agent and an aggregator, and what has come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kilter_tests::{Bins, House, Options, Ports, Tuning, expected};
use kilter_types::{AlarmSource, AlarmState, Event, Micros, Payload, Quality};
use serde_json::Value;

use crate::accepted::{Accepted, counted};

/// Which channel of the replay's log a series of windows is cut from.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) channel: &'static str,
    pub(crate) window: u64,
    pub(crate) hop: u64,
}

/// What a replay has left at the aggregator.
pub(crate) struct Run {
    pub(crate) accepted: Accepted,
    /// The alarms as the page's API shows them.
    pub(crate) shown: Vec<Value>,
}

/// An alarm as it began or changed.
#[derive(Debug)]
pub(crate) struct Said {
    #[expect(dead_code, reason = "printed")]
    window: u64,
    #[expect(dead_code, reason = "printed")]
    source: AlarmSource,
    pub(crate) cause: &'static str,
}

impl Run {
    pub(crate) fn count(&self, asset: &str) -> usize {
        self.accepted.windows().iter().filter(|((name, _), _)| name == asset).map(|(_, rows)| rows.len()).sum()
    }

    pub(crate) fn alarms(&self, asset: &str) -> Vec<Said> {
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
    pub(crate) fn story(&self, asset: &str) -> String {
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
    pub(crate) fn compare_with_times(
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
pub(crate) fn replay(
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

/// The times in a column, in seconds since 1970: whatever stands between their six numbers.
pub(crate) fn times(path: &Path, separator: char, column: usize) -> Vec<i64> {
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
