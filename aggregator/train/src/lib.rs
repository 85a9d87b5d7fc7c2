//! Trains the models that `shared/infer` scores: plain columns in, signed-ready artifacts and their cards out.
//!
//! Burn lives here and nowhere else. One run trains an LSTM autoencoder and a simple statistical detector on the same healthy
//! rows, calibrates both on rows that neither saw, compares them on rows that calibration did not see either, and says which
//! leads. Whatever is measured is measured with the kernel that will run on the device, on the artifact that will be sent.
//!
//! Data set and seed decide every bit of an artifact (P2): budgets count steps, rows are ordered by key, sums have an order.

mod bench;
mod calibrate;
mod card;
mod clock;
mod columns;
mod dataset;
mod dense;
mod error;
mod evaluate;
mod evidence;
mod export;
mod fit;
mod folds;
mod fused;
mod life;
mod matrix;
mod network;
mod options;
mod parallel;
mod prepare;
mod random;
mod report;
mod run;
mod search;
pub mod suite;
mod warm;

pub use card::{Card, CardFeature, CardKey};
pub use dataset::{Dataset, Feature, Rows};
pub use error::TrainError;
pub use evidence::{Confusion, Evidence, ScoredWindow};
pub use life::{Bank, Head, Life, LifeDataset, LifeModel, LifeOptions, LifeWord, train_life};
pub use options::{Origin, Progress, TrainOptions};
pub use report::{life_report, report};
pub use run::{Trained, TrainedModel, train};
pub use search::{Device, Found, Measured, SearchOptions, SearchProgress, Standing, Trial, TrialLog, search};
pub use warm::Warm;
