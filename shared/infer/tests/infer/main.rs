//! What artifacts hold and what their models say.

mod artifact;
mod example;
mod family;
mod score;
mod simd;
