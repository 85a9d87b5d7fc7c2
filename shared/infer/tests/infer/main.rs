//! What artifacts hold and what their models say.

mod artifact;
mod example;
mod family;
mod same_bits;
mod score;
mod simd;
