//! The crate's behaviour on real Delta tables: the seam, queries, and frames for training.

mod frame;
mod life;
mod older;
mod prune;
mod sample;
mod seam;
