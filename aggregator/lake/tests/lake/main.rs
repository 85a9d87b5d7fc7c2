//! The crate's behaviour: the contract of a table, crashes, and readers in other languages.

mod contract;
mod crash;
mod erase;
mod evolution;
mod maintain;
mod python;
mod s3;
mod sample;
mod states;
mod weed;
