//! The commands that train: a run, a run again, and heads for machines that ran to failure.

use std::path::Path;

use anyhow::{Context, bail};
use kilter_history::View;
use kilter_lake::{DeltaTable, TableName, open_gate};
use kilter_train::{Card, LifeOptions, life_report, suite, train_life};
use kilter_types::JournalId;
use serde_json::{Value, json};

use crate::again;
use crate::bar;
use crate::client::{ask, text};
use crate::config;
use crate::files::Files;
use crate::lab::SHARD;
use crate::place::place;
use crate::training::Search;

/// What is asked of a run.
pub(crate) struct Wish {
    /// One kind of machine; all without.
    pub(crate) class: Option<String>,
    /// The seed.
    pub(crate) seed: Option<u64>,
    /// Look for better options first.
    pub(crate) search: Option<Search>,
    /// Go on from the newest network.
    pub(crate) rehearsal: Option<f64>,
}

/// Trains.
pub(crate) async fn train(data: &Path, wish: Wish) -> anyhow::Result<()> {
    let request = json!({
        "op": "train", "reason": "command", "asset_class": wish.class, "seed": wish.seed, "search": wish.search, "rehearsal": wish.rehearsal,
    });
    let done = ask(data, &request).await?.context("failed to train: no lab runs on this data")?;
    bar::end();
    let all = |key: &str| done[key].as_array().cloned().unwrap_or_default();
    for note in all("search") {
        println!("{}: {}", text(&note["asset_class"]), text(&note["why"]));
    }
    for model in all("models") {
        println!(
            "{}  {}  {}  {}",
            text(&model["digest"]),
            text(&model["name"]),
            text(&model["role"]),
            text(&model["why"])
        );
    }
    // One that was handed out stands among the models.
    for life in all("life").iter().filter(|life| life["offered"] == false) {
        println!("{}: {}", text(&life["asset_class"]), text(&life["why"]));
    }
    for report in all("reports") {
        println!("report: {}", text(&report));
    }
    for skipped in all("skipped") {
        println!("skipped {}: {}", text(&skipped["asset_class"]), text(&skipped["why"]));
    }
    Ok(())
}

/// Makes a model again. It needs the lake and, for a model that went on from another, that one in `lab/networks`; no journal, and
/// the lab may run.
pub(crate) async fn reproduce(data: &Path, path: &Path) -> anyhow::Result<()> {
    let card = std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    let card: Card =
        serde_json::from_slice(&card).with_context(|| format!("failed to read the card {}", path.display()))?;
    let config = config::load(data)?;
    if config.lake.bucket.is_empty() && !data.join("lake").is_dir() {
        bail!("failed to make {} again: there is no lake in {}", card.digest, data.display());
    }
    let files = Files::open(data, open_gate())?;
    if let Some(at_us) = files.pins().get(&card.digest).and_then(|pin| pin.erased_at_us) {
        bail!("failed to make {} again: data that it was trained on was erased at {at_us} us since 1970", card.digest);
    }
    let place = place(data, &config.lake, open_gate()).await?;
    let mut views = Vec::new();
    for name in [TableName::Features, TableName::Events] {
        // Whose journal filled the tables does not matter to a version that is pinned.
        let table = DeltaTable::open_in(&place, name, SHARD, JournalId(0)).await?;
        let snapshot = table.snapshot_as_of(again::version_of(&card, name)?).await?;
        table.fetch(&snapshot).await?;
        views.push(View { snapshot, tail: Vec::new() });
    }
    let wanted = card.digest.clone();
    let mut show = |step: Value| bar::show(&step);
    let made = tokio::task::spawn_blocking(move || again::make(&views, &card, &files, &mut show)).await??;
    bar::end();
    if !made.contains(&wanted) {
        bail!("the card says {wanted}, made were {}", made.join(" and "));
    }
    println!("reproduced {wanted}");
    Ok(())
}

/// Trains a head on the machines of each subset, and writes artifact and report of each.
pub(crate) fn life(folder: &Path, out: &Path, seed: u64, steps: Option<u32>) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("failed to create {}", out.display()))?;
    for (name, dataset) in suite::lives(folder)? {
        let mut options = LifeOptions { seed, ..LifeOptions::default() };
        options.steps = steps.map_or(options.steps, |steps| steps as usize);
        let mut losses = Vec::new();
        let model = train_life(&dataset, &options, &mut |step, steps, loss| {
            losses.push((step, loss));
            bar::show(&json!({ "progress": {
                "asset_class": name, "stage": "training", "step": step, "steps": steps, "loss": loss,
            } }));
        })?;
        bar::end();
        let (artifact, page) = (out.join(format!("{name}.kltm")), out.join(format!("{name}.html")));
        std::fs::write(&artifact, &model.artifact)
            .with_context(|| format!("failed to write {}", artifact.display()))?;
        std::fs::write(&page, life_report(&name, &model, &losses, options.cap, None))
            .with_context(|| format!("failed to write {}", page.display()))?;
        println!("{}  {name}  the {} head leads", model.digest, model.head.word());
        println!("report: {}", page.display());
    }
    Ok(())
}
