//! What stands behind the figures: each artifact as it would be rolled out, and each score that a figure was made from.
//!
//! An agent that replays the same recording with the same artifact must leave these scores in the lake, bit for bit.

use std::collections::BTreeMap;

use kilter_infer::Artifact;
use kilter_signal::table::describe;
use kilter_types::{Contribution, Role};
use serde::Serialize;

use super::{
    SuiteError,
    path::{Said, Signed, failed},
    report::Report,
};
use crate::{Card, CardFeature, CardKey, bench::family_name};

/// One artifact with what is needed to roll it out.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The bytes that `kilter_infer::Artifact` parses.
    pub artifact: Vec<u8>,
    /// Its card, as a training run would write it.
    pub card: Card,
    /// The manifest that was signed and checked before anything was scored.
    pub manifest: Vec<u8>,
    /// Its signature.
    pub signature: [u8; 64],
    /// The key that checks it.
    pub public_key: [u8; 32],
}

/// One score of one window, with the columns of the lake's table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreRow {
    /// The suite.
    pub suite: String,
    /// The recording.
    pub recording: String,
    /// The seed; none where nothing is drawn.
    pub seed: Option<u64>,
    /// Which window.
    pub window_index: u64,
    /// How unusual.
    pub anomaly: f32,
    /// From where on it counts.
    pub threshold: f32,
    /// What is left, in hours.
    pub rul_h: Option<f32>,
    /// Its lower bound.
    pub rul_low_h: Option<f32>,
    /// Its upper bound.
    pub rul_high_h: Option<f32>,
    /// SHA-256 of the artifact.
    pub model: String,
    /// The kernel.
    pub kernel: u16,
    /// The largest parts of the anomaly.
    pub contributions: Vec<Contribution>,
    /// What the other features contribute.
    pub rest: f32,
}

impl Report {
    /// Keeps the scores of a recording by this model.
    pub(crate) fn keep(&mut self, (suite, recording, seed): (&str, &str, Option<u64>), said: &[Said]) {
        self.scores.extend(said.iter().filter_map(|word| {
            let Said::Score(score) = word else { return None };
            Some(ScoreRow {
                suite: suite.to_owned(),
                recording: recording.to_owned(),
                seed,
                window_index: score.input.index,
                anomaly: score.anomaly,
                threshold: score.threshold,
                rul_h: score.rul.map(|rul| rul.hours.0),
                rul_low_h: score.rul.map(|rul| rul.low.0),
                rul_high_h: score.rul.map(|rul| rul.high.0),
                model: score.model.to_string(),
                kernel: score.kernel.0,
                contributions: score.contributions.to_vec(),
                rest: score.rest,
            })
        }));
    }

    /// Every artifact that a row names.
    pub fn exports(&self) -> Result<Vec<Exported>, SuiteError> {
        self.models.values().map(|model| self.exported(model)).collect()
    }

    fn exported(&self, model: &Signed) -> Result<Exported, SuiteError> {
        let artifact = Artifact::parse(&model.artifact).map_err(failed)?;
        let digest = model.digest.to_string();
        let named = |feature: kilter_types::FeatureRef| CardFeature {
            id: feature.id.0,
            hash: feature.hash,
            name: describe(feature.id).map_or_else(String::new, |described| described.name.as_str().to_owned()),
        };
        let alone = |row: &&super::Row| matches!(row.artifacts.as_slice(), [one] if *one == digest);
        let rows = || self.rows.iter().filter(alone);
        let of = |value: f64, row: &super::Row| value.is_finite().then(|| (row.metric.clone(), value));
        let metrics: BTreeMap<_, _> = rows().filter_map(|row| of(row.value, row)).collect();
        let baseline = rows().filter_map(|row| of(row.baseline?, row)).collect();
        let card = Card {
            digest: digest.clone(),
            name: format!("{}-{}", model.key.asset_class, model.key.task),
            key: CardKey {
                task: model.key.task.to_string(),
                asset_class: model.key.asset_class.to_string(),
                asset: model.key.asset.as_ref().map(ToString::to_string),
            },
            family: family_name(artifact.family()).to_owned(),
            role: Role::Leader,
            pair: None,
            champion: None,
            exact: None,
            features: artifact.features().map(named).collect(),
            trained_at_us: 0,
            snapshot: BTreeMap::new(),
            seed: rows().find_map(|row| row.seed).unwrap_or_default(),
            rows: 0,
            reason: "evaluate".to_owned(),
            metrics,
            baseline,
            parity_max_abs: model.parity,
            reproduce: BTreeMap::new(),
            why: "it stands behind the figures of an evaluation".to_owned(),
            kept_speeds: Vec::new(),
            no_kept_speed: Some("an evaluation divides its data in its own way".to_owned()),
        };
        Ok(Exported {
            artifact: model.artifact.clone(),
            card,
            manifest: model.manifest.clone(),
            signature: model.signature,
            public_key: model.public_key,
        })
    }
}
