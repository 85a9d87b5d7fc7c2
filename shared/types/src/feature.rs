//! Features: their identity, and the row that one closed window leaves.

use serde::{Deserialize, Serialize};

use crate::{Micros, Quality, Rpm};

/// The most values in one feature vector: one bit of the validity mask each.
pub const MAX_FEATURES: usize = 64;

/// A feature's number in the versioned table of `kilter-signal`; numbers are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeatureId(pub u16);

/// A feature together with the hash of its definition: what a model asks for (M1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FeatureRef {
    /// Which feature.
    pub id: FeatureId,
    /// The hash of its definition.
    pub hash: u32,
}

/// The hash over the ordered definitions of a feature group; rides in every row and model (F2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchemaHash(pub u64);

/// What kind of input a feature group is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// Windows of evenly sampled acceleration.
    Vibration,
    /// Windows of temperature readings.
    Temperature,
    /// Windows of any other readings.
    Reading,
    /// Rows of a machine that counts cycles.
    Cycle,
}

/// The values of one group for one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureVector {
    /// Which definitions, in which order.
    pub schema: SchemaHash,
    /// One value per feature; 0 where invalid, never NaN.
    pub values: heapless::Vec<f32, MAX_FEATURES>,
    /// Bit `i` is set when value `i` is valid.
    pub valid: u64,
}

impl FeatureVector {
    /// Value `i`, if it is valid.
    pub fn get(&self, i: usize) -> Option<f32> {
        let valid = i < MAX_FEATURES && self.valid >> i & 1 == 1;
        if valid { self.values.get(i).copied() } else { None }
    }
}

/// What the machine was doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperatingState {
    /// Not known; features stand, baselines do not learn.
    #[default]
    Unknown,
    /// Standing still.
    Off,
    /// Speed or load is changing: no alarm, no learning.
    Transient,
    /// Steady, in this bin of speed and load.
    Steady(u8),
}

/// One row of features: a window of one group of one measuring point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureRow {
    /// The group within the machine's schema.
    pub group: u8,
    /// What it was computed from.
    pub kind: GroupKind,
    /// Number of the window on its hop grid.
    pub index: u64,
    /// Time of the first sample, on the record's timeline.
    pub start: Micros,
    /// Time just past the last sample.
    pub end: Micros,
    /// What the machine was doing.
    pub state: OperatingState,
    /// Shaft speed; 0 when not known.
    pub rpm: Rpm,
    /// What is wrong with the window.
    pub quality: Quality,
    /// The values.
    pub vector: FeatureVector,
}

/// Names one feature row within a device's epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RowRef {
    /// The group.
    pub group: u8,
    /// The window on its hop grid.
    pub index: u64,
    /// The feature record's seq in the same epoch.
    pub seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_value_is_not_handed_out() {
        let values = heapless::Vec::from_slice(&[1.0, 2.0]).expect("two values fit");
        let vector = FeatureVector { schema: SchemaHash(1), values, valid: 0b10 };
        assert_eq!((vector.get(0), vector.get(1), vector.get(2), vector.get(99)), (None, Some(2.0), None, None));
    }
}
