//! `kilter-lab backtest`: a model, a rule or another threshold over a past snapshot, through the code that judges on machines.
//!
//! It reads a version of the lake and nothing else: no journal, no lock, and the lab may run. What a model says is compared, bit for
//! bit, with what devices recorded of it ([`compare`]); alarms follow from the decision's own hysteresis, for one threshold after the
//! other, and are held against what people called faulty ([`curve`]).
//!
//! Limits: a baseline's own scores are not replayed, because its record (`state`) holds location, spread and threshold, and not the
//! directions and tails that go on being learned; the model speaks here without the baseline's consent, rules and physics.

mod compare;
mod curve;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kilter_history::{Asset, Stream, View, Window, query, recorded_scores, recorded_windows};
use kilter_lake::{DeltaTable, TableName, open_gate};
use kilter_signal::table::Schema;
use kilter_types::{Digest, GroupKind, JournalId, Micros};
use serde_json::{Value, json};

use self::compare::{Compared, Word};
use self::curve::Fault;
use crate::clock;
use crate::config::Config;
use crate::lab::SHARD;
use crate::place::place;

/// What is replayed.
pub(crate) struct Wish {
    pub(crate) model: Option<String>,
    pub(crate) rule: Option<String>,
    pub(crate) threshold: Option<f32>,
    pub(crate) as_of: Option<Micros>,
    pub(crate) range: (Micros, Micros),
    pub(crate) json: Option<PathBuf>,
}

pub(crate) async fn run(data: &Path, wish: Wish) -> anyhow::Result<()> {
    let subject = Subject::of(data, &wish)?;
    let views = views(data, wish.as_of).await?;
    let done = tokio::task::spawn_blocking({
        let (range, threshold) = (wish.range, wish.threshold);
        move || replay(&views, &subject, range, threshold)
    })
    .await??;
    print(&done);
    match &wish.json {
        Some(path) => std::fs::write(path, serde_json::to_vec_pretty(&done)?)
            .with_context(|| format!("failed to write {}", path.display())),
        None => Ok(()),
    }
}

/// A model's bytes or a fixed limit on a feature.
enum Subject {
    Model { artifact: Vec<u8>, digest: Digest },
    Rule { feature: String, limit: f32 },
}

impl Subject {
    fn of(data: &Path, wish: &Wish) -> anyhow::Result<Self> {
        match (&wish.model, &wish.rule) {
            (Some(model), None) => {
                let own = data.join("lab/outbox").join(format!("{model}.kltm"));
                let path = if own.is_file() { own } else { PathBuf::from(model) };
                let artifact = std::fs::read(&path).with_context(|| {
                    format!("failed to read {}: neither a digest in the outbox nor a file", path.display())
                })?;
                Ok(Self::Model { digest: Digest::of(&artifact), artifact })
            }
            (None, Some(rule)) => {
                let parts = rule.split_once('>').map(|(feature, limit)| (feature.trim(), limit.trim().parse().ok()));
                match parts {
                    Some((feature, Some(limit))) if kilter_signal::table::find(feature).is_some() => {
                        Ok(Self::Rule { feature: feature.to_owned(), limit })
                    }
                    Some(_) | None => {
                        bail!("failed to read the rule '{rule}': it is FEATURE>LIMIT, as in velocity_rms>2.8")
                    }
                }
            }
            (Some(_), Some(_)) | (None, None) => bail!("failed to begin: name either --model or --rule"),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Model { digest, .. } => digest.to_string(),
            Self::Rule { feature, limit } => format!("{feature}>{limit}"),
        }
    }
}

/// The tables as they were, whoever filled them.
async fn views(data: &Path, as_of: Option<Micros>) -> anyhow::Result<Vec<View>> {
    let config = Config::load(data)?;
    if config.lake.bucket.is_empty() && !data.join("lake").is_dir() {
        bail!("failed to back-test: there is no lake in {}", data.display());
    }
    let place = place(data, &config.lake, open_gate()).await?;
    let mut views = Vec::new();
    for name in [TableName::Features, TableName::Scores, TableName::Events] {
        let table = DeltaTable::open_in(&place, name, SHARD, JournalId(0)).await?;
        let snapshot = match as_of {
            Some(at) => table.snapshot_at(at).await?,
            None => table.current().await?,
        };
        table.fetch(&snapshot).await?;
        views.push(View { snapshot, tail: Vec::new() });
    }
    Ok(views)
}

/// Replays and sums up. Reads files: not for an async thread.
fn replay(
    views: &[View],
    subject: &Subject,
    (from, to): (Micros, Micros),
    threshold: Option<f32>,
) -> anyhow::Result<Value> {
    let begun = clock::now();
    let [features, scores, events] = views else { bail!("failed to back-test: three tables are needed") };
    let windows = recorded_windows(features, to.0)?;
    let faults = faults(events)?;
    let mut compared = Compared::default();
    let mut judged: BTreeMap<Stream, Vec<Word>> = BTreeMap::new();
    match subject {
        Subject::Model { artifact, digest } => {
            let model = digest.to_string();
            let mut recorded = recorded_scores(scores, &model, to.0)?;
            let switches = switches(events, &model)?;
            for (stream, windows) in &windows {
                let recorded = recorded.remove(stream).unwrap_or_default();
                let begins =
                    switches.get(&(stream.asset.clone(), stream.point.clone(), stream.device.clone(), stream.group));
                let told = compare::stream(artifact, windows, &recorded, begins, from.0, &mut |what| {
                    compared.take(stream, what);
                })?;
                judged.extend(told.map(|words| (stream.clone(), words)));
            }
        }
        Subject::Rule { feature, limit } => {
            for (stream, windows) in &windows {
                let words = of_rule(windows, feature, *limit, from.0);
                judged.extend((!words.is_empty()).then(|| (stream.clone(), words)));
            }
        }
    }
    if judged.is_empty() {
        bail!("failed to back-test: no window in the range has what {} asks for", subject.name());
    }
    if let Some(threshold) = threshold {
        judged.values_mut().flatten().for_each(|word| word.threshold = threshold);
    }
    let count: usize = judged.values().map(Vec::len).sum();
    let period_s = |stream: &Stream| curve::period_us(&windows[stream]) as f64 / 1e6;
    let curve = curve::curve(&judged, &faults, period_s);
    let times = || judged.values().flatten().map(|word| word.at_us);
    let span_s = (times().max().unwrap_or(0) - times().min().unwrap_or(0)) as f64 / 1e6;
    let took_s = ((clock::now().0 - begun.0) as f64 / 1e6).max(1e-6);
    let versions: serde_json::Map<String, Value> =
        views.iter().map(|view| (view.table().to_string(), view.snapshot.version.into())).collect();
    Ok(json!({
        "subject": subject.name(), "versions": versions, "streams": judged.len(), "windows": count,
        "from_us": from.0, "to_us": to.0, "faults": faults.len(), "compared": compared.json(), "curve": curve,
        "span_s": span_s, "took_s": took_s, "times_real_time": span_s / took_s, "windows_per_s": count as f64 / took_s,
    }))
}

/// Windows of streams that have the feature, against its limit.
fn of_rule(windows: &[Window], feature: &str, limit: f32, from_us: i64) -> Vec<Word> {
    let Some(id) = kilter_signal::table::find(feature) else { return Vec::new() };
    let place = windows.first().and_then(|window| {
        schema(window.row.kind, window.row.vector.schema.0)?.features().iter().position(|reference| reference.id == id)
    });
    let word = |window: &Window| {
        let value = window.row.vector.get(place?)?;
        Some(Word { at_us: window.at_us, start: window.row.start, value, threshold: limit })
    };
    windows.iter().filter(|window| window.at_us >= from_us).filter_map(word).collect()
}

/// The definitions behind a schema's hash.
fn schema(kind: GroupKind, hash: u64) -> Option<Schema> {
    (1..=64).map(|channels| Schema::of(kind, channels)).find(|schema| schema.hash().0 == hash)
}

type Switches = BTreeMap<(Asset, String, String, u8), Vec<(u64, u64)>>;

/// From which window on each stream had the model, by epoch and number.
fn switches(events: &View, model: &str) -> anyhow::Result<Switches> {
    let sql = format!(
        "SELECT tenant, site, asset, point, device, \"group\", epoch, window_index FROM events \
         WHERE event = 'model_switched' AND model = '{model}'"
    );
    let mut switches = Switches::new();
    for row in query(&sql, std::slice::from_ref(events), usize::MAX)?.rows {
        let text = |place: usize| row[place].as_str().unwrap_or_default().to_owned();
        let number = |place: usize| row[place].as_i64().unwrap_or_default();
        let asset = Asset { tenant: text(0), site: text(1), asset: text(2) };
        let key = (asset, text(3), text(4), number(5) as u8);
        switches.entry(key).or_default().push((number(6) as u64, number(7) as u64));
    }
    Ok(switches)
}

/// What people called faulty.
fn faults(events: &View) -> anyhow::Result<Vec<Fault>> {
    let sql = "SELECT tenant, site, asset, from_us, to_us, label FROM events WHERE event = 'labelled'";
    let rows = query(sql, std::slice::from_ref(events), usize::MAX)?.rows;
    let fault = |row: &Vec<Value>| {
        let text = |place: usize| row[place].as_str().unwrap_or_default().to_owned();
        let faulty = text(5).starts_with("faulty");
        let asset = Asset { tenant: text(0), site: text(1), asset: text(2) };
        let (from_us, to_us) = (row[3].as_i64()?, row[4].as_i64()?);
        faulty.then_some(Fault { asset, from_us, to_us })
    };
    Ok(rows.iter().filter_map(fault).collect())
}

fn print(done: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    println!(
        "{}: {} windows of {} streams, {:.1} h in {:.2} s: {:.0} times real time, {:.0} windows/s (a plant of 100 machines at a window per 10 s has 10)",
        done["subject"].as_str().unwrap_or_default(),
        done["windows"],
        done["streams"],
        number(&done["span_s"]) / 3_600.0,
        number(&done["took_s"]),
        number(&done["times_real_time"]),
        number(&done["windows_per_s"]),
    );
    let compared = &done["compared"];
    println!(
        "recorded scores: {} the same bit for bit, {} other, {} not comparable; {} replayed that were not recorded",
        compared["same"], compared["other"], compared["not_comparable"], compared["not_recorded"]
    );
    for range in compared["ranges"].as_array().into_iter().flatten() {
        println!("  {} {}..={}: {}", text(&range["stream"]), range["first"], range["last"], text(&range["why"]));
    }
    println!(
        "{:>9} {:>8} {:>14} {:>18} {:>12} {:>14}",
        "threshold", "alarms", "false alarms", "per machine-month", "faults found", "median lead, h"
    );
    for step in done["curve"].as_array().into_iter().flatten() {
        let lead = step["median_lead_h"].as_f64().map_or("-".to_owned(), |lead| format!("{lead:.1}"));
        println!(
            "{:>8}x {:>8} {:>14} {:>18.3} {:>12} {lead:>14}",
            step["times"],
            step["alarms"],
            step["false_alarms"],
            number(&step["per_machine_month"]),
            step["found"]
        );
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
