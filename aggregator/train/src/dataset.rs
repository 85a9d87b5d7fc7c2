//! What comes in: plain columns, no type of a data frame or a lake.

use kilter_types::{FeatureRef, GroupKind};

use crate::TrainError;

/// Rows of one group of features of one kind of machine.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What the features are computed from.
    pub group: GroupKind,
    /// The columns of [`Rows::values`], in order.
    pub features: Vec<Feature>,
    /// Windows known to be healthy: from commissioning, or labelled so.
    pub healthy: Rows,
    /// Windows labelled faulty; used to compare models, never to train. May be empty.
    pub faulty: Rows,
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Its identity (M1).
    pub reference: FeatureRef,
    /// Its name, for cards and for the choice of simulated faults.
    pub name: String,
}

/// Columns of equal length, one entry per window. Their order does not matter.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Row-major values, one per feature; anything where invalid.
    pub values: Vec<f32>,
    /// Bit `i` set: value `i` is valid.
    pub valid: Vec<u64>,
    /// Which machine; numbers are the caller's.
    pub asset: Vec<u32>,
    /// Which stream of windows (a measuring point's group in one epoch); sequences never cross from one to another.
    pub series: Vec<u32>,
    /// The window's number on its hop grid; consecutive windows differ by 1.
    pub index: Vec<u64>,
    /// The end of the window, in microseconds of event time.
    pub time_us: Vec<i64>,
    /// The bin of the steady operating state.
    pub regime: Vec<u8>,
    /// Shaft speed; 0 when not known.
    pub rpm: Vec<f32>,
    /// Load; NaN when not known.
    pub load: Vec<f32>,
}

impl Rows {
    /// How many windows.
    pub fn len(&self) -> usize {
        self.valid.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.valid.is_empty()
    }

    /// Row `i`.
    pub fn row(&self, i: usize, features: usize) -> &[f32] {
        &self.values[i * features..(i + 1) * features]
    }
}

impl Dataset {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let n = self.features.len();
        if n == 0 || n > 64 {
            return Err(TrainError::Dataset("there must be 1 to 64 features"));
        }
        for rows in [&self.healthy, &self.faulty] {
            let lengths = [
                rows.asset.len(),
                rows.series.len(),
                rows.index.len(),
                rows.time_us.len(),
                rows.regime.len(),
                rows.rpm.len(),
                rows.load.len(),
            ];
            if lengths.iter().any(|length| *length != rows.len()) || rows.values.len() != rows.len() * n {
                return Err(TrainError::Dataset("the columns differ in length"));
            }
            let bad = |(row, valid): (&[f32], &u64)| (0..n).any(|i| valid >> i & 1 == 1 && !row[i].is_finite());
            if rows.values.chunks_exact(n).zip(&rows.valid).any(bad) || rows.rpm.iter().any(|rpm| !rpm.is_finite()) {
                return Err(TrainError::Dataset("a valid value is not finite"));
            }
        }
        Ok(())
    }
}
