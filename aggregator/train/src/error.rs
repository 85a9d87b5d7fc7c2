//! Why a run ended without a model.

use kilter_infer::{CertifyError, DraftError};

/// A run that gave no model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The columns of a data set differ in length, or a value is not finite.
    #[error("read the data set: {0}")]
    Dataset(&'static str),
    /// Too little healthy data.
    #[error("train on {found} healthy sequences of {length} rows; at least {needed} are needed")]
    TooFew {
        /// Sequences in the training part.
        found: usize,
        /// Least number.
        needed: usize,
        /// Rows of one sequence.
        length: usize,
    },
    /// Enough to train on, too little to calibrate on or to test with.
    #[error("train: {found} healthy sequences of {length} rows are kept for {part}; at least {needed} are needed")]
    HeldOutTooFew {
        /// Which part.
        part: &'static str,
        /// Sequences in it.
        found: usize,
        /// Least number.
        needed: usize,
        /// Rows of one sequence.
        length: usize,
    },
    /// No feature is valid and alive in enough rows.
    #[error("choose features: none is valid and changing in at least {percent} % of the healthy rows")]
    NoFeatures {
        /// The share asked for.
        percent: u8,
    },
    /// Options that can't be.
    #[error("accept the option {0}")]
    Option(&'static str),
    /// The loss is no number any more.
    #[error("keep the loss finite at step {step}")]
    Diverged {
        /// Where.
        step: usize,
    },
    /// The kernel and Burn disagree (P3).
    #[error("export: kernel and trainer differ by {found:e}, more than {allowed:e}")]
    Parity {
        /// Largest difference, relative to max(1, |y|).
        found: f64,
        /// What is allowed.
        allowed: f64,
    },
    /// Rows would be learned from and judged by at once.
    #[error("keep training and judging apart: {0}")]
    Leak(&'static str),
    /// The log of a search.
    #[error("write the log of the search")]
    Log(#[source] std::io::Error),
    /// A search without a result.
    #[error("find a candidate that could be trained on every fold; the log says why each failed")]
    NoTrial,
    /// Every network is too large or too slow.
    #[error("fit a network into the device: the smallest takes {smallest_bytes} bytes")]
    NothingFits {
        /// What it takes.
        smallest_bytes: usize,
    },
    /// The artifact can't be written.
    #[error("export the artifact")]
    Draft(#[from] DraftError),
    /// The artifact does not reproduce itself.
    #[error("certify the artifact")]
    Certify(#[from] CertifyError),
    /// The network library gave no numbers back.
    #[error("read the network's numbers: {0}")]
    Tensor(String),
}
