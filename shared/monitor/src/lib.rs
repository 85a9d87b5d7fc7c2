//! The push-driven machine from input to decision: windows, features, scores, alarms. Firmware and agent both run it.
//!
//! Inputs are pushed by channel and position; whatever they complete comes out of a sink in a fixed order. No allocation, no
//! clock, no IO: memory is lent once ([`memory`]), time is the samples' own. The same inputs give the same outputs bit for bit,
//! also across [`Monitor::snapshot`] and [`Monitor::restore`].
#![no_std]

#[cfg(feature = "heap")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod baseline;
mod budget;
pub mod config;
mod decision;
mod group;
#[cfg(feature = "heap")]
mod heap;
mod hysteresis;
mod judge;
pub mod memory;
mod model;
mod monitor;
mod output;
mod precision;
mod protection;
mod readings;
mod regime;
pub mod replay;
mod rule;
mod samples;
mod snapshot;
mod spectrum;
mod tacho;
mod thermal;
mod window;

pub use config::{
    Bounds, ChannelConfig, ChannelKind, ConfigError, FeatureLimit, GroupConfig, Limits, MachineConfig, Patience,
    Protection,
};
#[cfg(feature = "heap")]
pub use heap::Heap;
pub use memory::{Carve, Memory, Needed, needed};
pub use model::InstallError;
pub use monitor::{Monitor, PushError, channel};
pub use output::{Output, Summary, Trip, What};
pub use precision::{EXACT_BITS, LEAST_BITS};
pub use snapshot::{RestoreError, SnapshotError};
