//! Trains the models that `shared/infer` scores: plain columns in, signed-ready artifacts and their cards out.
//!
//! Burn lives here and nowhere else. One run trains an LSTM autoencoder and a simple statistical detector on the same healthy
//! rows, calibrates both on rows that neither saw, compares them on rows that calibration did not see either, and says which
//! leads. Whatever is measured is measured with the kernel that will run on the device, on the artifact that will be sent.
//!
//! Data set and seed decide every bit of an artifact (P2): budgets count steps, rows are ordered by key, sums have an order.

mod calibrate;
mod card;
mod clock;
mod dataset;
mod dense;
mod error;
mod evaluate;
mod export;
mod fit;
mod fused;
mod life;
mod matrix;
mod network;
mod options;
mod prepare;
mod random;
mod run;
pub mod suite;

pub use card::{Card, CardFeature, CardKey};
pub use dataset::{Dataset, Feature, Rows};
pub use error::TrainError;
pub use life::{Bank, Head, Life, LifeDataset, LifeModel, LifeOptions, train_life};
pub use options::{Origin, Progress, TrainOptions};
pub use run::{Trained, TrainedModel, train};
