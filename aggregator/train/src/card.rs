//! The model card: what a person needs to trust a model or to make it again.

use std::collections::BTreeMap;

use kilter_types::Role;
use serde::{Deserialize, Serialize};

use crate::speeds::KeptSpeed;

/// Written beside an artifact as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// SHA-256 of the artifact, in hexadecimal.
    pub digest: String,
    /// The model's name.
    pub name: String,
    /// What it may stand in for.
    pub key: CardKey,
    /// `lstm_autoencoder`, `lstm_forecaster` or `statistic`.
    pub family: String,
    /// Leader or shadow, by the comparison below; both models of a run are shadows where neither beats the simple rule.
    pub role: Role,
    /// The digest of the other model of the same run.
    pub pair: Option<String>,
    /// The digest of the network that it went on from.
    pub champion: Option<String>,
    /// The digest of the same network in f32, where this one is in int8: what a later run goes on from.
    #[serde(default)]
    pub exact: Option<String>,
    /// What it asks for, in the order of a row.
    pub features: Vec<CardFeature>,
    /// When, in microseconds since 1970.
    pub trained_at_us: i64,
    /// Versions of the tables that the rows were read from.
    pub snapshot: BTreeMap<String, i64>,
    /// The seed.
    pub seed: u64,
    /// Healthy rows that came in.
    pub rows: u64,
    /// Why it was trained.
    pub reason: String,
    /// Its own figures, on rows that neither training nor calibration saw.
    pub metrics: BTreeMap<String, f64>,
    /// The same figures of the simple rule: any feature beyond 4 healthy scales.
    pub baseline: BTreeMap<String, f64>,
    /// Largest difference between kernel and trainer, relative to max(1, |y|) (P3); 0 for a statistic.
    pub parity_max_abs: f64,
    /// The options that give the same digest from the same snapshot (P2).
    pub reproduce: BTreeMap<String, f64>,
    /// Why it leads or does not.
    pub why: String,
    /// What its like, made without one speed, did at that speed; one after the other.
    #[serde(default)]
    pub kept_speeds: Vec<KeptSpeed>,
    /// Why no speed was kept from it, where none was.
    #[serde(default)]
    pub no_kept_speed: Option<String>,
}

/// A feature on a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardFeature {
    /// Its number.
    pub id: u16,
    /// The hash of its definition.
    pub hash: u32,
    /// Its name.
    pub name: String,
}

/// What a model may stand in for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardKey {
    /// The task, for example `anomaly`.
    pub task: String,
    /// The kind of machine.
    pub asset_class: String,
    /// One machine only.
    pub asset: Option<String>,
}
