//! A training run: pinned tables in, two models and their cards in the outbox out.
//!
//! Everything that decides the result is on the card: the tables' versions, the seed and the options. `reproduce` reads them back
//! and makes the artifact again (P2).

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use kilter_history::{Asset, Frame, Frames, Selection, View, asset_classes, frames};
use kilter_lake::TableName;
use kilter_signal::table::{Schema, describe};
use kilter_train::{Card, CardKey, Dataset, Feature, Origin, Progress, Rows, TrainOptions, Trained, train};
use kilter_types::{GroupKind, Micros};
use serde_json::{Value, json};
use tracing::info;

use crate::config;
use crate::files::Files;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// `command`, `drift` or `schedule`.
    pub(crate) reason: String,
    /// One kind of machine; `None`: every kind.
    pub(crate) class: Option<String>,
    /// The seed.
    pub(crate) seed: u64,
}

/// Trains one kind of machine after the other on these pinned tables.
pub(crate) fn run(
    views: &[View],
    request: &Request,
    config: &config::Training,
    files: &Files,
    now: Micros,
    progress: &mut dyn FnMut(Value),
) -> anyhow::Result<Value> {
    let (features, events) = (view(views, TableName::Features)?, view(views, TableName::Events)?);
    let by_class = machines(events)?;
    let wanted: Vec<_> = match &request.class {
        Some(class) => vec![by_class.get_key_value(class).with_context(|| {
            let known: Vec<_> = by_class.keys().map(String::as_str).collect();
            format!("failed to train: no machine of class '{class}' has reported; known: {}", known.join(", "))
        })?],
        None => by_class.iter().collect(),
    };
    if wanted.is_empty() {
        bail!("failed to train: no machine has reported its class yet");
    }
    let (mut models, mut skipped) = (Vec::new(), Vec::new());
    for (class, assets) in wanted {
        let trained = train_class(class, assets, features, events, request, config, now, progress);
        match trained {
            Ok(trained) => {
                // The leader's card last: it starts the rollout, and its pair must be there by then.
                for model in trained.models.iter().rev() {
                    files.hand_out(&model.card.digest, &model.artifact, &serde_json::to_vec_pretty(&model.card)?)?;
                }
                for model in trained.models {
                    info!(model = %model.card.digest, class, role = ?model.card.role, why = %model.card.why, "model trained");
                    models.push(serde_json::to_value(model.card)?);
                }
            }
            Err(error) => skipped.push(json!({ "asset_class": class, "why": format!("{error:#}") })),
        }
    }
    if models.is_empty() {
        let why: Vec<_> = skipped.iter().map(|skip| format!("{}: {}", skip["asset_class"], skip["why"])).collect();
        bail!("failed to train: {}", why.join("; "));
    }
    Ok(json!({ "models": models, "skipped": skipped, "reason": request.reason }))
}

/// Makes a card's models again from the pinned tables that it names; the digests tell whether they are the same.
pub(crate) fn again(views: &[View], card: &Card, progress: &mut dyn FnMut(Value)) -> anyhow::Result<Trained> {
    let (features, events) = (view(views, TableName::Features)?, view(views, TableName::Events)?);
    let assets = machines(events)?.remove(&card.key.asset_class).unwrap_or_default();
    let number = |key: &str| card.reproduce.get(key).copied().with_context(|| format!("the card does not name {key}"));
    let gathered =
        gather(&assets, features, events, number("margin_windows")? as u32, number("least_windows")? as usize)?;
    let options = TrainOptions {
        seed: card.seed,
        sequence_len: number("sequence_len")? as usize,
        max_inputs: number("max_inputs")? as usize,
        hidden: number("hidden")? as usize,
        code: number("code")? as usize,
        batch: number("batch")? as usize,
        max_steps: number("max_steps")? as usize,
        look_every: number("look_every")? as usize,
        patience: number("patience")? as usize,
        learning_rate: number("learning_rate")?,
        max_windows: number("max_windows")? as usize,
        false_alarms_per_month: number("false_alarms_per_month")?,
        window_period_secs: number("window_period_secs")?,
        origin: Origin::default(),
    };
    let mut tell = |step: Progress| progress(told(&card.key.asset_class, step));
    Ok(train(&gathered.dataset, &options, &mut tell)?)
}

/// The versions that a card was trained on.
pub(crate) fn version_of(card: &Card, table: TableName) -> anyhow::Result<u64> {
    let version = card.snapshot.get(&format!("{table}_version"));
    version
        .and_then(|version| u64::try_from(*version).ok())
        .with_context(|| format!("the card names no version of {table}"))
}

/// The machines of each kind.
pub(crate) fn machines(events: &View) -> anyhow::Result<BTreeMap<String, Vec<Asset>>> {
    let mut by_class: BTreeMap<String, Vec<Asset>> = BTreeMap::new();
    for (asset, class) in asset_classes(events)? {
        by_class.entry(class).or_default().push(asset);
    }
    Ok(by_class)
}

/// A table's view.
pub(crate) fn view(views: &[View], table: TableName) -> anyhow::Result<&View> {
    views.iter().find(|view| view.table() == table).with_context(|| format!("there is no table {table}"))
}

#[expect(clippy::too_many_arguments, reason = "a run's parts, each named once, at its only call")]
fn train_class(
    class: &str,
    assets: &[Asset],
    features: &View,
    events: &View,
    request: &Request,
    config: &config::Training,
    now: Micros,
    progress: &mut dyn FnMut(Value),
) -> anyhow::Result<Trained> {
    progress(json!({ "progress": { "asset_class": class, "stage": "reading" } }));
    let gathered = gather(assets, features, events, config.margin_windows, config.least_windows)?;
    let versions = [features, events]
        .map(|view| (format!("{}_version", view.table()), i64::try_from(view.snapshot.version).unwrap_or(i64::MAX)));
    let options = TrainOptions {
        seed: request.seed,
        max_steps: config.max_steps,
        window_period_secs: gathered.period_secs,
        origin: Origin {
            name: format!("{class}-anomaly"),
            key: CardKey { task: "anomaly".into(), asset_class: class.into(), asset: None },
            reason: request.reason.clone(),
            trained_at_us: now.0,
            snapshot: versions.into(),
        },
        ..TrainOptions::default()
    };
    let mut tell = |step: Progress| progress(told(class, step));
    let mut trained = train(&gathered.dataset, &options, &mut tell)?;
    for model in &mut trained.models {
        model.card.reproduce.insert("margin_windows".into(), config.margin_windows.into());
        model.card.reproduce.insert("least_windows".into(), config.least_windows as f64);
    }
    Ok(trained)
}

fn told(class: &str, step: Progress) -> Value {
    json!({ "progress": {
        "asset_class": class, "stage": "training", "step": step.step, "steps": step.steps,
        "loss": step.loss, "held_out_loss": step.held_out_loss, "eta_secs": step.eta_secs,
    } })
}

struct Gathered {
    dataset: Dataset,
    period_secs: f64,
}

/// The healthy windows of the first kind of group that has enough of them.
fn gather(
    assets: &[Asset],
    features: &View,
    events: &View,
    margin_windows: u32,
    least_windows: usize,
) -> anyhow::Result<Gathered> {
    let mut most = 0;
    for (kind, name) in KINDS {
        let selection = Selection {
            assets: assets.to_vec(),
            kind: name.into(),
            margin_windows,
            known_at_us: None,
            recent_us: None,
        };
        let frames = frames(features, events, &selection)?;
        most = most.max(frames.healthy.index.len());
        if frames.healthy.index.len() >= least_windows {
            return dataset(kind, frames);
        }
    }
    bail!("{most} healthy windows in the lake, {least_windows} are needed")
}

fn dataset(kind: GroupKind, frames: Frames) -> anyhow::Result<Gathered> {
    let schema =
        (1..=MAX_CHANNELS).map(|channels| Schema::of(kind, channels)).find(|schema| schema.hash().0 == frames.schema);
    let schema = schema.with_context(|| format!("feature schema {:016x} is not one of this build", frames.schema))?;
    let features = schema.features().iter().map(|reference| {
        let described = describe(reference.id).with_context(|| format!("feature {} has no name", reference.id.0))?;
        Ok(Feature { reference: *reference, name: described.name.as_str().to_owned() })
    });
    let features = features.collect::<anyhow::Result<Vec<_>>>()?;
    if features.len() != frames.width {
        bail!("rows of {} values under a schema of {}", frames.width, features.len());
    }
    let period_secs = (Micros(frames.period_us).as_secs_f64()).max(SHORTEST_PERIOD_SECS);
    let dataset = Dataset { group: kind, features, healthy: rows(frames.healthy), faulty: rows(frames.faulty) };
    Ok(Gathered { dataset, period_secs })
}

fn rows(frame: Frame) -> Rows {
    Rows {
        load: vec![f32::NAN; frame.valid.len()],
        values: frame.values,
        valid: frame.valid,
        asset: frame.asset,
        series: frame.series,
        index: frame.index,
        time_us: frame.time_us,
        regime: frame.regime,
        rpm: frame.rpm,
    }
}

/// In the order in which they are looked for.
pub(crate) const KINDS: [(GroupKind, &str); 4] = [
    (GroupKind::Vibration, "vibration"),
    (GroupKind::Reading, "reading"),
    (GroupKind::Cycle, "cycle"),
    (GroupKind::Temperature, "temperature"),
];

const MAX_CHANNELS: usize = 64;
const SHORTEST_PERIOD_SECS: f64 = 1e-3;
