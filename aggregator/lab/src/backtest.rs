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
mod track;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use anyhow::{Context, anyhow, bail};
use kilter_history::{Asset, HistoryError, Recorded, ScoresOf, Stream, View, query, recorded_scores, recorded_windows};
use kilter_lake::{DeltaTable, TableName, open_gate};
use kilter_types::{Digest, JournalId, Micros};
use serde_json::{Value, json};

use self::curve::Fault;
use self::track::Track;
use crate::clock;
use crate::config;
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
    let config = config::load(data)?;
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
    let faults = faults(events)?;
    let (recorded, switches) = match subject {
        Subject::Model { digest, .. } => {
            let model = digest.to_string();
            (recorded_scores(scores, &model, to.0)?, switches(events, &model)?)
        }
        Subject::Rule { .. } => (BTreeMap::new(), Switches::new()),
    };
    let mut plant = Plant { subject, from_us: from.0, recorded, switches, tracks: BTreeMap::new() };
    let mut reading_s = secs_since(begun);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        // A part is read while the one before is replayed.
        let (say, told) = sync_channel(1);
        let read = move || -> Result<(), HistoryError> {
            let mut parts = recorded_windows(features, to.0)?;
            loop {
                let begun = clock::now();
                let Some(part) = parts.next() else { return Ok(()) };
                // Nobody listens any more where a replay has failed.
                if say.send((part?, secs_since(begun))).is_err() {
                    return Ok(());
                }
            }
        };
        let reader = scope.spawn(read);
        for (part, took_s) in told {
            reading_s += took_s;
            plant.replay(&part)?;
        }
        Ok(reader.join().map_err(|_| anyhow!("failed to read: the reader ended early"))??)
    })?;
    let tracks = plant.tracks.into_iter().filter_map(|(stream, track)| Some((stream, track?)));
    let mut judged: BTreeMap<Stream, Track<'_>> = tracks.filter(|(_, track)| track.has_said()).collect();
    if judged.is_empty() {
        bail!("failed to back-test: no window in the range has what {} asks for", subject.name());
    }
    if let Some(threshold) = threshold {
        judged.values_mut().flat_map(|track| &mut track.words).for_each(|word| word.threshold = threshold);
    }
    let words = || judged.values().flat_map(|track| &track.words);
    let curve = curve::curve(&judged, &faults);
    let (first, last) = (words().map(|word| word.at_us).min(), words().map(|word| word.at_us).max());
    let span_s = (last.unwrap_or(0) - first.unwrap_or(0)) as f64 / 1e6;
    let count = words().count();
    let took_s = secs_since(begun).max(1e-6);
    let versions: serde_json::Map<String, Value> =
        views.iter().map(|view| (view.table().to_string(), view.snapshot.version.into())).collect();
    let compared = compare::json(judged.iter().map(|(stream, track)| (stream, &track.tally)));
    Ok(json!({
        "subject": subject.name(), "versions": versions, "streams": judged.len(), "windows": count,
        "from_us": from.0, "to_us": to.0, "faults": faults.len(), "compared": compared, "curve": curve,
        "span_s": span_s, "took_s": took_s, "reading_s": reading_s,
        "times_real_time": span_s / took_s, "windows_per_s": count as f64 / took_s,
    }))
}

fn secs_since(begun: Micros) -> f64 {
    (clock::now().0 - begun.0) as f64 / 1e6
}

/// Every stream on its way, part after part.
struct Plant<'s> {
    subject: &'s Subject,
    from_us: i64,
    /// Scores of streams that have not begun.
    recorded: BTreeMap<Stream, ScoresOf>,
    switches: Switches,
    /// `None`: its rows are not what is asked for.
    tracks: BTreeMap<Stream, Option<Track<'s>>>,
}

impl<'s> Plant<'s> {
    /// The next windows of all streams, which are shared out among all cores.
    fn replay(&mut self, part: &Recorded) -> anyhow::Result<()> {
        let Self { subject, from_us, .. } = *self;
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let mut lots: Vec<Vec<Turn<'s>>> = (0..workers).map(|_| Vec::new()).collect();
        for (place, stream) in part.streams().enumerate() {
            let known = match self.tracks.remove(stream) {
                Some(track) => Known::Begun(track),
                None => {
                    let key = (stream.asset.clone(), stream.point.clone(), stream.device.clone(), stream.group);
                    let begins = self.switches.remove(&key).unwrap_or_default();
                    Known::New(self.recorded.remove(stream).unwrap_or_default(), begins)
                }
            };
            lots[place % workers].push((place, stream.clone(), known));
        }
        let turn = |(place, stream, known): Turn<'s>| -> anyhow::Result<(Stream, Option<Track<'s>>)> {
            let mut windows = part.windows(place).peekable();
            let mut track = match (known, windows.peek()) {
                (Known::Begun(track), _) => track,
                (Known::New(recorded, begins), Some(first)) => Track::new(subject, first, recorded, begins)?,
                (Known::New(..), None) => None,
            };
            track.iter_mut().for_each(|track| track.more(windows.by_ref(), from_us));
            Ok((stream, track))
        };
        let turn = &turn;
        std::thread::scope(|scope| {
            let labour = |lot: Vec<Turn<'s>>| {
                let work = move || lot.into_iter().map(turn).collect::<anyhow::Result<Vec<_>>>();
                std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work)
            };
            let threads = lots.into_iter().map(labour).collect::<std::io::Result<Vec<_>>>()?;
            for thread in threads {
                let done = thread.join().map_err(|_| anyhow!("failed to replay: a thread ended early"))?;
                self.tracks.extend(done?);
            }
            Ok(())
        })
    }
}

/// One stream's share of a part: its place there, and how far it is.
type Turn<'s> = (usize, Stream, Known<'s>);

enum Known<'s> {
    /// What was recorded of it, and which windows were the model's first.
    New(ScoresOf, Vec<(u64, u64)>),
    Begun(Option<Track<'s>>),
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

/// The kernel's scratch lies on the stack.
const STACK_BYTES: usize = 8 << 20;
