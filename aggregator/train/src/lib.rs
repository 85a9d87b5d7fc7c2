//! Trains the models that `shared/infer` scores: plain columns in, signed-ready artifacts and their cards out.
//!
//! Burn lives here and nowhere else. One run trains an LSTM autoencoder, an LSTM forecaster and a simple statistical detector on the same
//! healthy rows, calibrates them on rows that none saw, compares the better network and the detector on rows that calibration did not
//! see either, and says which leads, if one does: what does not beat a simple rule does not. Whatever is measured is measured with the
//! kernel that will run on the device, on the artifact that will be sent.
//!
//! Data set and seed decide every bit of an artifact (P2): budgets count steps, rows are ordered by key, sums have an order.

mod augment;
mod bench;
mod calibrate;
mod card;
mod clock;
mod columns;
mod dataset;
mod dense;
mod error;
mod evaluate;
mod events;
mod evidence;
mod export;
mod fit;
mod folds;
mod forecaster;
mod fused;
mod life;
mod lstm;
mod matrix;
mod network;
mod ops;
mod options;
pub mod parallel;
mod prepare;
mod random;
mod report;
mod run;
mod search;
mod speeds;
pub mod suite;
mod warm;

pub use augment::Augmentation;
pub use card::{Card, CardFeature, CardKey};
pub use dataset::{Dataset, Feature, Rows};
pub use error::TrainError;
pub use evidence::{Confusion, Evidence, ScoredWindow};
pub use life::{
    Bank, Head, Life, LifeDataset, LifeModel, LifeOptions, LifeProof, LifeWord, RecurrentOptions, TaughtLife,
    recurrent_error, teach_life, train_life,
};
pub use options::{Networks, Origin, Progress, TrainOptions};
pub use report::{life_report, report};
pub use run::{Trained, TrainedModel, train};
pub use search::{Device, Found, Measured, SearchOptions, SearchProgress, Standing, Trial, TrialLog, search};
pub use speeds::KeptSpeed;
pub use warm::Warm;
