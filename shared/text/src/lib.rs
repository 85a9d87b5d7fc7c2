//! What several programs write as text, in one place: what the lake's tables keep of a record as JSON, and an account of completeness as people
//! read it.
//!
//! It is a crate of its own because texts need an allocator: no microcontroller links it.

mod account;
mod kept;

pub use account::account;
pub use kept::{comes_back, from_json, to_json, variant, word};
