//! Tiny models, scored with the same bits on every target: firmware, agent, aggregator and back-tests run this one kernel.
//!
//! A model travels as one flat artifact ([`format`]). [`Artifact::parse`] is total and bounded: whatever the bytes, it returns,
//! and what it returns can be scored without a further check. Nothing allocates: the caller owns the [`State`] that a
//! sequence needs and the [`Scratch`] that one step needs. [`Artifact::certify`] re-runs the golden windows that travel
//! in the artifact and compares the kernel's bits exactly, so a target that computes otherwise refuses the model (P3).
//!
//! ```
//! use kilter_infer::{Artifact, Scratch, State};
//! # fn receive() -> &'static [u8] { include_bytes!("../tests/golden/statistic_v1.kltm") }
//! let artifact = Artifact::parse(receive())?;
//! let (mut state, mut scratch) = (State::<1024>::new(), Scratch::new());
//! artifact.certify(&mut state, &mut scratch)?;
//! let row = [0.0; 64];
//! for _ in 0..artifact.sequence_len() {
//!     if let Some(scored) = artifact.push(&row[..artifact.inputs()], &mut state, &mut scratch)? {
//!         let ranking = artifact.rank(&scored);
//!         assert!(ranking.contributions.len() <= 8);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]

#[cfg(test)]
extern crate std;

mod artifact;
mod autoencoder;
mod certify;
mod draft;
mod error;
mod forecaster;
pub mod format;
mod header;
pub mod kernel;
mod layout;
mod matrix;
mod quadratic;
mod quantise;
pub mod rescore;
mod rul;
mod score;
pub mod simd;
mod state;
mod statistic;

pub use artifact::Artifact;
pub use draft::{Autoencoder, Body, Dense, Draft, Forecaster, Lstm, Points, RulHead};
pub use error::{ArtifactError, CertifyError, DraftError, RowError};
pub use format::{
    Family, Interruption, MAX_GOLDEN, MAX_INPUTS, MAX_REGIMES, MAX_SEQUENCE, Mode, Range, Regime, ResetRule, ScoreOf,
};
pub use layout::Layout;
pub use score::{Estimate, Ranking, Scored, Scratch};
pub use state::State;
