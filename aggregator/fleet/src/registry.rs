//! The registry: every finished model with its card, immutable under its digest.

use std::collections::BTreeMap;

use kilter_types::{Digest, FeatureId, FeatureRef, Micros, ModelKey, Name, Role};
use serde::{Deserialize, Serialize};

/// What the lab says about a model it finished: the part that the fleet needs; the rest rides along untouched.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Card {
    /// SHA-256 of the artifact, in hexadecimal.
    pub digest: String,
    /// The model's name.
    pub name: Name,
    /// What it may stand in for.
    pub key: ModelKey,
    /// How it works.
    pub family: String,
    /// Does it lead after its evaluation, or only watch?
    pub role: Role,
    /// The other model of the same training run.
    pub pair: Option<String>,
    /// The features it needs.
    pub features: Vec<CardFeature>,
}

/// A feature on a card.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CardFeature {
    /// Its number.
    pub id: u16,
    /// The hash of its definition.
    pub hash: u32,
}

/// A model in the registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// SHA-256 of the artifact.
    pub digest: Digest,
    /// Size of the artifact.
    pub size_bytes: u32,
    /// Its name.
    pub name: Name,
    /// Its version under that name, from 1.
    pub version: u32,
    /// What it may stand in for.
    pub key: ModelKey,
    /// How it works.
    pub family: String,
    /// Does it lead, or only watch?
    pub role: Role,
    /// The other model of the same training run.
    pub pair: Option<Digest>,
    /// The features it needs.
    pub features: Vec<FeatureRef>,
    /// When it came in.
    pub imported: Micros,
    /// The whole card as the lab wrote it.
    pub card: serde_json::Value,
}

/// Every model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    models: BTreeMap<String, Model>,
}

impl Registry {
    /// Takes a finished model; the artifact's bytes must be those that the card names. Taking it twice changes nothing.
    pub fn import(&mut self, artifact: &[u8], card: &serde_json::Value, now: Micros) -> Result<&Model, RegistryError> {
        let parsed: Card = serde::Deserialize::deserialize(card).map_err(RegistryError::Card)?;
        let digest = Digest::of(artifact);
        if parsed.digest != digest.to_string() {
            return Err(RegistryError::Digest { card: parsed.digest, artifact: digest });
        }
        let size_bytes = u32::try_from(artifact.len()).map_err(|_| RegistryError::Size(artifact.len()))?;
        let version = 1 + self.models.values().filter(|model| model.name == parsed.name).count() as u32;
        let model = Model {
            digest,
            size_bytes,
            name: parsed.name,
            version,
            key: parsed.key,
            family: parsed.family,
            role: parsed.role,
            pair: parsed.pair.as_deref().and_then(Digest::parse),
            features: parsed.features.iter().map(|f| FeatureRef { id: FeatureId(f.id), hash: f.hash }).collect(),
            imported: now,
            card: card.clone(),
        };
        Ok(self.models.entry(digest.to_string()).or_insert(model))
    }

    /// One model.
    pub fn get(&self, digest: Digest) -> Option<&Model> {
        self.models.get(&digest.to_string())
    }

    /// Which of these models that just came begin a rollout: each that leads, and of a pair of which neither does the better one, once both
    /// are there. A machine has room for one shadow.
    pub fn beginners(&self, came: &[Digest]) -> Vec<Digest> {
        let mut begin: Vec<Digest> = Vec::new();
        for model in came.iter().filter_map(|digest| self.get(*digest)) {
            let digest = match (model.role, model.pair) {
                (Role::Leader, _) | (Role::Shadow, None) => model.digest,
                (Role::Shadow, Some(pair)) => match self.get(pair) {
                    Some(other) if other.role == Role::Shadow => better(model, other).digest,
                    // It comes with its leader, which comes last.
                    Some(_) | None => continue,
                },
            };
            if !begin.contains(&digest) {
                begin.push(digest);
            }
        }
        begin
    }

    /// Every model, newest first.
    pub fn newest_first(&self) -> Vec<&Model> {
        let mut all: Vec<_> = self.models.values().collect();
        all.sort_by_key(|model| std::cmp::Reverse((model.imported, model.version)));
        all
    }
}

/// The one that its own validation says more for; the smaller one where that is the same.
fn better<'m>(a: &'m Model, b: &'m Model) -> &'m Model {
    let worth = |model: &Model| model.card["metrics"][WORTH].as_f64().unwrap_or(f64::NEG_INFINITY);
    let order = worth(a).total_cmp(&worth(b)).then(b.size_bytes.cmp(&a.size_bytes)).then(a.digest.cmp(&b.digest));
    if order.is_lt() { b } else { a }
}

/// What the lab compares models by, as a card calls it.
const WORTH: &str = "worth";

/// Why a model was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The card lacks something.
    #[error("read the model card: {0}")]
    Card(#[source] serde_json::Error),
    /// Another artifact than the card's.
    #[error("match the model card (digest {card}) with the artifact (digest {artifact})")]
    Digest {
        /// What the card says.
        card: String,
        /// What the bytes are.
        artifact: Digest,
    },
    /// Too large to ship.
    #[error("register an artifact of {0} bytes: at most 4 GiB can be shipped")]
    Size(usize),
}
