//! Features that people define over the past, through the programs: what is refused is refused with words, and two versions stand side by side as a
//! hand computes them from the journal.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use kilter_signal::table::at;
use kilter_tests::{House, get, request};
use kilter_types::{FeatureRow, GroupKind, Payload};
use serde_json::{Value, json};

use crate::kept::Kept;
use crate::stage::{PATIENCE, asked, says};

const FIRST: &str = "peak / rms";
const SECOND: &str = "peak / rms - rolling_median(peak / rms, 5)";

/// At the end of a journey, when all that was produced is in the lake.
pub(crate) fn are_computed(house: &mut House) -> anyhow::Result<()> {
    the_wrong_is_refused(house)?;
    for (version, expression) in [(1, FIRST), (2, SECOND)] {
        let told = done(house, &["define", "crest", expression, "--why", "a test"])?;
        let wanted = json!({ "table": format!("crest_v{version}"), "version": version, "reads": ["peak", "rms"] });
        ensure!(told == wanted, "{told}");
    }
    let (code, said) = reprocess(house, &["define", "crest", FIRST])?;
    ensure!(code == 1, "a definition that says the same ends with {code}");
    says(&said, &["failed to define crest", "version 1 says the same"])?;
    let (_, said) = reprocess(house, &["list"])?;
    says(&said, &["crest_v1  peak / rms  defined, not computed", "crest_v2  "])?;

    let wanted = by_hand(house)?;
    ensure!(wanted.len() > 40, "only {} windows to look at", wanted.len());
    for version in ["1", "2"] {
        let told = done(house, &["run", "crest", "--version", version])?;
        ensure!(told["table"] == format!("crest_v{version}") && told["rows"] == wanted.len(), "{told}");
    }
    house.wait_for("both versions side by side", PATIENCE, |house| same(&side_by_side(house).ok()?, &wanted))?;
    println!("{} windows under two definitions, side by side", wanted.len());
    let rows = format!(" days of buckets, {} rows", wanted.len());
    house.wait_for("both in the list", PATIENCE, |house| {
        let (code, said) = reprocess(house, &["list"]).ok()?;
        (code == 0 && said.lines().filter(|line| line.ends_with(&rows)).count() == 2).then_some(())
    })?;

    // A part of the past only; and a version that nobody wants any more.
    let mut times: Vec<i64> = wanted.values().map(|value| value.time_us).collect();
    times.sort_unstable();
    let (from, to) = (times[times.len() / 3], times[times.len() / 2]);
    let told = done(house, &["run", "crest", "--version", "1", "--range", &format!("{from}..{to}")])?;
    ensure!(told["rows"] == times.iter().filter(|us| (from..=to).contains(*us)).count(), "{from}..{to}: {told}");
    let told = done(house, &["drop", "crest", "--version", "1"])?;
    ensure!(told == json!({ "dropped": "crest_v1" }), "{told}");
    let (code, said) = asked(house, &["query", "SELECT value FROM crest_v1"])?;
    ensure!(code == 1 && said.contains("crest_v1"), "a dropped table is answered with {code}: {said}");
    let left = get(house.ports.http, "/api/reprocess")?;
    ensure!(left.as_array().is_some_and(|all| all.len() == 1) && left[0]["table"] == "crest_v2", "{left}");
    ensure!(left[0]["expression"] == SECOND, "{left}");
    let audit = std::fs::read_to_string(house.data_dir().join("lab/audit.jsonl")).context("read the audit")?;
    says(&audit, &["Define", "Run", "Drop", "a test"])
}

/// Before anything is computed: what, where and what would do.
fn the_wrong_is_refused(house: &House) -> anyhow::Result<()> {
    let wrong: [(&[&str], i32, &[&str]); 5] = [
        (&["define", "crest", "peek / rms"], 1, &["character 1: 'peek'"]),
        (&["define", "crest", "AVG(rms)"], 1, &["rolling_mean"]),
        (&["run", "crest"], 1, &["failed to find the definition crest", "reprocess list"]),
        (&["run", "crest", "--range", "5"], 1, &["failed to read --range", "FROM..TO"]),
        (&["drop", "crest"], 2, &["--version"]),
    ];
    for (arguments, expected, words) in wrong {
        let (code, said) = reprocess(house, arguments)?;
        ensure!(code == expected, "{arguments:?} ends with {code}: {said}");
        says(&said, words)?;
    }
    let wishes = [
        (json!({ "do": "define", "name": "crest", "expression": "peek / rms" }), "character 1: 'peek'"),
        (json!({ "do": "guess" }), "guess"),
    ];
    for (wish, word) in wishes {
        let (status, said) = request(house.ports.http, "POST", "/api/reprocess", &wish.to_string())?;
        ensure!(status == 422 && said.contains(word), "{wish} is answered with {status} {said}");
    }
    ensure!(get(house.ports.http, "/api/reprocess")? == json!([]), "what was refused is there");
    Ok(())
}

/// Device, epoch and seq of a row.
type Key = (String, u64, u64);

/// What both versions give for a window.
struct Values {
    time_us: i64,
    first: f64,
    second: f64,
}

/// From the rows as the journal has them, in the order of their time.
fn by_hand(house: &House) -> anyhow::Result<BTreeMap<Key, Values>> {
    let mut series: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in Kept::read(house)?.rows {
        let Payload::Features(features) = &row.record.payload else { continue };
        let (point, device) = (row.record.point.to_string(), row.device.to_string());
        let key = (device.clone(), row.record.epoch.0, row.record.seq);
        let window = (row.event_time.0, key, crest(features));
        series.entry((point, device, features.group)).or_default().push(window);
    }
    let mut all = BTreeMap::new();
    for windows in series.values_mut() {
        windows.sort_by_key(|window| window.0);
        for (place, (time_us, key, own)) in windows.iter().enumerate() {
            let Some(first) = *own else { continue };
            let last = &windows[(place + 1).saturating_sub(5)..=place];
            let mut seen: Vec<f64> = last.iter().filter_map(|(_, _, crest)| *crest).collect();
            seen.sort_by(f64::total_cmp);
            let median = (seen[(seen.len() - 1) / 2] + seen[seen.len() / 2]) / 2.0;
            all.insert(key.clone(), Values { time_us: *time_us, first, second: first - median });
        }
    }
    Ok(all)
}

/// Peak over root mean square, where a row has both.
fn crest(row: &FeatureRow) -> Option<f64> {
    let value = |place: usize| {
        let valid = row.vector.valid >> place & 1 == 1;
        row.vector.values.get(place).filter(|_| valid).map(|value| f64::from(*value))
    };
    let crest = (row.kind == GroupKind::Vibration).then(|| Some(value(at::PEAK)? / value(at::RMS)?)).flatten();
    crest.filter(|crest| crest.is_finite())
}

/// Both versions of each window, in one question.
fn side_by_side(house: &House) -> anyhow::Result<BTreeMap<Key, (f64, f64)>> {
    let sql = "SELECT a.device, a.epoch, a.seq, a.value AS v1, b.value AS v2 FROM crest_v1 a \
               JOIN crest_v2 b ON a.device = b.device AND a.epoch = b.epoch AND a.seq = b.seq";
    let row = |row: &Value| {
        let key = (row[0].as_str()?.to_owned(), row[1].as_i64()? as u64, row[2].as_u64()?);
        Some((key, (row[3].as_f64()?, row[4].as_f64()?)))
    };
    house.query(sql)?.iter().map(row).collect::<Option<_>>().context("a row that is none")
}

/// To the last digits, which a way through text may change.
fn same(told: &BTreeMap<Key, (f64, f64)>, wanted: &BTreeMap<Key, Values>) -> Option<()> {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
    let mut pairs = told.iter().zip(wanted);
    let all =
        pairs.all(|((key, (v1, v2)), (of, values))| key == of && near(*v1, values.first) && near(*v2, values.second));
    (all && told.len() == wanted.len()).then_some(())
}

/// `kilter-aggregator reprocess`, which must do what it is asked: what it tells.
fn done(house: &House, arguments: &[&str]) -> anyhow::Result<Value> {
    let (code, said) = reprocess(house, arguments)?;
    ensure!(code == 0, "{arguments:?} ends with {code}: {said}");
    serde_json::from_str(&said).with_context(|| format!("read {said}"))
}

fn reprocess(house: &House, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
    asked(house, &[&["reprocess"][..], arguments].concat())
}
