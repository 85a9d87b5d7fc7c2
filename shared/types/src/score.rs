//! What a model says about one window, and which arithmetic said it.

use serde::{Deserialize, Serialize};

use crate::{Digest, FeatureId, Hours, KernelId, RowRef};

/// The most contributions that a score carries; the rest is one sum.
pub const MAX_CONTRIBUTIONS: usize = 8;

/// A score of one feature row by one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The row that went in.
    pub input: RowRef,
    /// How unusual the row is; at least 0.
    pub anomaly: f32,
    /// The calibrated threshold that `anomaly` is compared with.
    pub threshold: f32,
    /// The remaining useful life, where the model gives one.
    pub rul: Option<Rul>,
    /// SHA-256 of the artifact; [`Digest::NONE`] for statistics learned on the device.
    pub model: Digest,
    /// The arithmetic.
    pub kernel: KernelId,
    /// Does this score decide, or only watch?
    pub role: Role,
    /// The largest contributions, ranked; together with `rest` they sum to `anomaly` (M2).
    pub contributions: heapless::Vec<Contribution, MAX_CONTRIBUTIONS>,
    /// What the features not listed contribute.
    pub rest: f32,
}

/// How much of the anomaly one feature explains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// The feature.
    pub feature: FeatureId,
    /// Its part of the anomaly.
    pub amount: f32,
}

/// Whether a model decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Its scores can raise alarms.
    Leader,
    /// It is watched only.
    Shadow,
}

/// Remaining useful life with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rul {
    /// The estimate.
    pub hours: Hours,
    /// Lower end of the interval.
    pub low: Hours,
    /// Upper end of the interval.
    pub high: Hours,
}
