//! What a run learns from: the healthy windows of a kind of machine, from pinned tables to plain columns.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use kilter_history::{Asset, Frame, Frames, Selection, View, asset_classes, frames};
use kilter_lake::TableName;
use kilter_signal::table::{Schema, describe};
use kilter_train::{Dataset, Feature, Rows};
use kilter_types::{GroupKind, Micros};

use crate::config;

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

/// What a run learns from.
pub(crate) struct Gathered {
    pub(crate) dataset: Dataset,
    pub(crate) period_secs: f64,
}

/// The healthy windows of the first kind of group that has enough of them.
pub(crate) fn gather(
    assets: &[Asset],
    features: &View,
    events: &View,
    margin_windows: u32,
    least_windows: usize,
) -> anyhow::Result<Gathered> {
    let (kind, frames) = healthiest(assets, features, events, margin_windows, least_windows)?;
    match frames.healthy.index.len() {
        windows if windows < least_windows => {
            bail!("{windows} healthy windows in the lake, {least_windows} are needed")
        }
        _ => dataset(kind, frames),
    }
}

/// How many healthy windows of a kind of machine a run would learn from now.
pub(crate) fn healthy_windows(views: &[View], class: &str, config: &config::Training) -> anyhow::Result<u64> {
    let (features, events) = (view(views, TableName::Features)?, view(views, TableName::Events)?);
    let assets = machines(events)?.remove(class).unwrap_or_default();
    let (_, frames) = healthiest(&assets, features, events, config.margin_windows, config.least_windows)?;
    Ok(frames.healthy.index.len() as u64)
}

/// The rows of the first kind of group that has enough healthy windows, else of the one that has most.
fn healthiest(
    assets: &[Asset],
    features: &View,
    events: &View,
    margin_windows: u32,
    least_windows: usize,
) -> anyhow::Result<(GroupKind, Frames)> {
    let mut best: Option<(GroupKind, Frames)> = None;
    for (kind, name) in KINDS {
        let selection = Selection {
            assets: assets.to_vec(),
            kind: name.into(),
            margin_windows,
            known_at_us: None,
            recent_us: None,
        };
        let frames = frames(features, events, &selection)?;
        let windows = frames.healthy.index.len();
        if best.as_ref().is_none_or(|(_, best)| windows > best.healthy.index.len()) {
            best = Some((kind, frames));
        }
        if windows >= least_windows {
            break;
        }
    }
    best.context("there is no kind of group")
}

fn dataset(kind: GroupKind, frames: Frames) -> anyhow::Result<Gathered> {
    let features = features_of(kind, frames.schema, frames.width)?;
    let period_secs = (Micros(frames.period_us).as_secs_f64()).max(SHORTEST_PERIOD_SECS);
    let dataset = Dataset { group: kind, features, healthy: rows(frames.healthy), faulty: rows(frames.faulty) };
    Ok(Gathered { dataset, period_secs })
}

/// The columns of rows of so many values under this schema.
pub(crate) fn features_of(kind: GroupKind, schema: u64, width: usize) -> anyhow::Result<Vec<Feature>> {
    let known = (1..=MAX_CHANNELS).map(|channels| Schema::of(kind, channels)).find(|known| known.hash().0 == schema);
    let known = known.with_context(|| format!("feature schema {schema:016x} is not one of this build"))?;
    let features = known.features().iter().map(|reference| {
        let described = describe(reference.id).with_context(|| format!("feature {} has no name", reference.id.0))?;
        Ok(Feature { reference: *reference, name: described.name.as_str().to_owned() })
    });
    let features = features.collect::<anyhow::Result<Vec<_>>>()?;
    if features.len() != width {
        bail!("rows of {width} values under a schema of {}", features.len());
    }
    Ok(features)
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
