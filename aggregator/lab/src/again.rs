//! A card read back: the options, tables and champion that it names make its models again, bit for bit (P2).

use anyhow::Context;
use kilter_history::View;
use kilter_lake::TableName;
use kilter_train::{Augmentation, Card, Networks, Origin, Progress, TrainOptions, Warm, train};
use serde_json::Value;

use crate::files::Files;
use crate::gather::{gather, machines, view};
use crate::training::{life, told};

/// Makes a card's models again from the pinned tables that it names: their digests, which tell whether they are the same.
pub(crate) fn make(
    views: &[View],
    card: &Card,
    files: &Files,
    progress: &mut dyn FnMut(Value),
) -> anyhow::Result<Vec<String>> {
    let (features, events) = (view(views, TableName::Features)?, view(views, TableName::Events)?);
    let assets = machines(events)?.remove(&card.key.asset_class).unwrap_or_default();
    let number = |key: &str| card.reproduce.get(key).copied().with_context(|| format!("the card does not name {key}"));
    if card.key.task == life::TASK {
        let found = life::gather(&assets, features, events, number("least_lives")? as usize)?;
        return Ok(vec![life::again(found, card, number("steps")? as usize, progress)?]);
    }
    let gathered =
        gather(&assets, features, events, number("margin_windows")? as u32, number("least_windows")? as usize)?;
    let warm = match &card.champion {
        None => None,
        Some(digest) => {
            let (until_us, rehearsal) = (number("warm_until_us")? as i64, number("rehearsal")?);
            Some(Warm { champion: files.network(digest)?, until_us, rehearsal })
        }
    };
    // Cards from before there was a choice name none.
    let or_none = |key: &str| card.reproduce.get(key).copied().unwrap_or_default() as f32;
    let options = TrainOptions {
        seed: card.seed,
        window_period_secs: number("window_period_secs")?,
        false_alarms_per_month: number("false_alarms_per_month")?,
        networks: networks_of(card)?,
        int8_loss: or_none("int8_loss"),
        int8_needed: or_none("int8_needed") != 0.0,
        // Figures on cards, no part of an artifact.
        kept_speeds: 0,
        warm,
        origin: Origin::default(),
        ..shape_of(card)?
    };
    let mut tell = |step: Progress| progress(told(&card.key.asset_class, step));
    let trained = train(&gathered.dataset, &options, &mut tell)?;
    Ok(trained.models.into_iter().map(|model| model.card.digest).collect())
}

/// The options that a card's network was made with, as far as they shape it and its training.
pub(crate) fn shape_of(card: &Card) -> anyhow::Result<TrainOptions> {
    let number = |key: &str| card.reproduce.get(key).copied().with_context(|| format!("the card does not name {key}"));
    let or_none = |key: &str| card.reproduce.get(key).copied().unwrap_or_default() as f32;
    Ok(TrainOptions {
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
        augment: Augmentation {
            noise: or_none("augment_noise"),
            shift: or_none("augment_shift"),
            load: or_none("augment_load"),
        },
        ..TrainOptions::default()
    })
}

/// The networks that a card's run trained.
fn networks_of(card: &Card) -> anyhow::Result<Networks> {
    let number = card.reproduce.get("network").copied().unwrap_or(Networks::Autoencoder.number());
    Networks::from_number(number).with_context(|| format!("the card names networks that are not known: {number}"))
}

/// The versions that a card was trained on.
pub(crate) fn version_of(card: &Card, table: TableName) -> anyhow::Result<u64> {
    let version = card.snapshot.get(&format!("{table}_version"));
    version
        .and_then(|version| u64::try_from(*version).ok())
        .with_context(|| format!("the card names no version of {table}"))
}
