//! The signed statement that lets a node run a model.

use serde::{Deserialize, Serialize};

use crate::{Digest, FeatureRef, Generation, Micros, Name, Role};

/// The most features that one model may ask for.
pub const MAX_MANIFEST_FEATURES: usize = 64;

/// Which models stand in for each other: task, asset class, and perhaps one asset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelKey {
    /// What the model does, for example `anomaly`.
    pub task: Name,
    /// The kind of machine, for example `pump`.
    pub asset_class: Name,
    /// One machine only.
    pub asset: Option<Name>,
}

/// What is signed: the artifact's digest and everything a node checks before it switches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// SHA-256 of the artifact.
    pub digest: Digest,
    /// Size of the artifact in bytes.
    pub size_bytes: u32,
    /// The model's name.
    pub name: Name,
    /// The model's version under that name, counted from 1.
    pub version: u32,
    /// What it may stand in for.
    pub key: ModelKey,
    /// Leader or shadow.
    pub role: Role,
    /// The features it needs, by id and definition (M1).
    pub features: heapless::Vec<FeatureRef, MAX_MANIFEST_FEATURES>,
    /// Lowest wire version that an agent must speak.
    pub minimum_agent: u16,
    /// Not to be installed after this instant.
    pub expires: Micros,
    /// Order among everything that was signed; only ever rises (R5).
    pub generation: Generation,
}
