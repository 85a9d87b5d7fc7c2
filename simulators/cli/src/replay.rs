//! A data set as sensors: one asset per recording, on the recording's own timeline.

use anyhow::Context as _;
use kilter_recording::{DataSet, Source};
use kilter_types::{MAX_NAME, Micros, Name};

use crate::args::ReplayArgs;
use crate::clock::wall_now;
use crate::feed::{Feed, RecordingFeed};
use crate::ledger::Ledger;
use crate::stage::Stage;

/// Serves a data set.
pub(crate) async fn run(mut args: ReplayArgs) -> anyhow::Result<()> {
    let set = DataSet::from_word(&args.set).with_context(|| {
        let known: Vec<&str> = DataSet::ALL.into_iter().map(DataSet::word).collect();
        format!("find the set {:?}; there are {}", args.set, known.join(", "))
    })?;
    anyhow::ensure!((1e-6..=1e9).contains(&args.cycle), "use --cycle {}: seconds above 0 are expected", args.cycle);
    let data = args.data.clone().or_else(|| std::env::var_os("KILTER_DATA").map(Into::into));
    let data = data.context("find the data: give --data DIR or set KILTER_DATA")?;
    let sources = chosen(set.sources(&data)?, &args.file)?;
    anyhow::ensure!(
        args.asset.is_none() || sources.len() == 1,
        "use --asset: it names one recording, but {} are chosen; choose one with --file",
        sources.len()
    );
    let start = args.start.map_or_else(wall_now, |start| start.0);
    let ledger = Ledger::create(args.serve.log.as_deref(), None)?;
    // A recording is in memory anyway: an agent may begin anywhere in it, at any time.
    args.serve.history = f64::INFINITY;
    let mut feeds = Vec::new();
    for source in &sources {
        let name = match &args.asset {
            Some(name) => name.clone(),
            None => asset_name(&source.name)?,
        };
        feeds.push((name, feed(source, start, args.cycle)?));
    }
    Stage::new(feeds, ledger, &args.serve)?.serve(&args.serve, None).await
}

fn feed(source: &Source, start: Micros, cycle_s: f64) -> anyhow::Result<Feed> {
    let recording = source.read()?;
    let (missing, clock_back) = (recording.notes.missing, recording.notes.clock_back);
    if missing > 0 || clock_back > 0 {
        tracing::warn!(recording = source.name, missing, clock_back, "recording has flaws, replayed as they are");
    }
    Ok(Feed::Recording(Box::new(RecordingFeed::new(recording, start, cycle_s))))
}

fn chosen(sources: Vec<Source>, wanted: &[String]) -> anyhow::Result<Vec<Source>> {
    if wanted.is_empty() {
        return Ok(sources);
    }
    let is = |source: &Source, name: &String| {
        let file = source.path.file_name().is_some_and(|file| file == name.as_str());
        source.name == *name || file || source.path.ends_with(name)
    };
    for name in wanted {
        let known = || sources.iter().map(|source| source.name.as_str()).take(20).collect::<Vec<_>>().join(", ");
        anyhow::ensure!(
            sources.iter().any(|source| is(source, name)),
            "find the recording {name}; there are {}",
            known()
        );
    }
    Ok(sources.into_iter().filter(|source| wanted.iter().any(|name| is(source, name))).collect())
}

/// A recording's name as an asset's.
fn asset_name(name: &str) -> anyhow::Result<Name> {
    let allowed = |c: char| if matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.') { c } else { '-' };
    let word: String = name.chars().map(|c| allowed(c.to_ascii_lowercase())).take(MAX_NAME).collect();
    Name::new(&word).with_context(|| format!("make an asset name of {name:?}; give one with --asset"))
}
