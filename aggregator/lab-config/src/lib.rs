//! The lab's configuration: `default.toml` is its documentation and equals [`Config::default`].
//!
//! It has a crate of its own because the lab links the lake and the trainer: here a text is read and checked with neither, so that it
//! can be fuzzed, and what the clock decides from it ([`due`]) is tried without them.

pub mod due;
mod error;

use std::collections::BTreeMap;

use kilter_types::Class;
use serde::Deserialize;

pub use crate::error::ConfigError;

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the lake lies.
    pub lake: Lake,
    /// When rows are committed.
    pub commit: Commit,
    /// What a question may take.
    pub query: Query,
    /// Statements by their names.
    pub views: BTreeMap<String, String>,
    /// How the lake's files are kept.
    pub upkeep: Upkeep,
    /// What is learned from, and when.
    pub training: Training,
    /// When a training that gave no leader is made again.
    pub again: Again,
    /// When drift starts a training.
    pub drift: Drift,
}

/// Where the lake lies.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lake {
    /// Name of a bucket; empty: on this disk.
    pub bucket: String,
    /// Where in the bucket.
    pub prefix: String,
    /// The store's address; empty for the region's own.
    pub endpoint: String,
    /// The store's region.
    pub region: String,
    /// A file with the keys; empty: the environment has them.
    pub credentials_file: String,
}

/// When rows are committed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Commit {
    /// When so many bytes wait,
    pub max_bytes: usize,
    /// or the first has waited so long.
    pub max_wait_ms: u64,
    /// The journal is not read on while so many bytes wait.
    pub hold_bytes: usize,
}

/// How much an answer may hold, and how long it may take.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// Rows of an answer.
    pub max_rows: usize,
    /// Seconds of a question.
    pub max_secs: u32,
    /// Answers that are kept, in bytes.
    pub cache_bytes: usize,
}

/// When files of the lake are put together, and when old ones go.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upkeep {
    /// So many small files of a day are put together.
    pub compact_files: usize,
    /// A file below this is small.
    pub small_bytes: u64,
    /// The most that is rewritten at once.
    pub most_bytes: u64,
    /// For so long any past version can be read.
    pub retention_hours: u32,
    /// Days by class, or [`QUARANTINE`]; what is not named is kept for ever.
    pub keep_days: BTreeMap<String, u32>,
}

/// What is learned from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Windows before an alarm that are not trusted.
    pub margin_windows: u32,
    /// The most steps of the network.
    pub max_steps: usize,
    /// Fewer healthy windows are not trained on.
    pub least_windows: usize,
    /// Fewer runs to failure give no head for the remaining life.
    pub least_lives: usize,
    /// The share of an anomaly that int8 may change.
    pub int8_loss: f32,
    /// The share of the processor that a run may take.
    pub processor_share: f32,
    /// A time of day in UTC, or nothing.
    pub at: String,
    /// Seconds from one run to the next; 0: never.
    pub every_secs: u32,
}

/// When a kind of machine for which no model leads is trained again.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Again {
    /// When there are so many times as many healthy windows; 0: never.
    pub growth: f32,
    /// Seconds after the last training at the earliest.
    pub wait_secs: u32,
}

/// When drift starts a training.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drift {
    /// Whether it does.
    pub enabled: bool,
    /// Seconds between the report and the training.
    pub settle_secs: u32,
    /// Seconds between two trainings of one kind of machine.
    pub cooldown_secs: u32,
    /// Commits between two looks; 0: none.
    pub check_commits: u32,
    /// How many seconds are recent.
    pub recent_secs: u32,
    /// The share of features that must have moved.
    pub moved_share: f32,
    /// Whether the newest network goes on.
    pub warm_start: bool,
}

impl Config {
    /// Reads a text and checks it; `tables` are the names that the lake has given already.
    pub fn parse(text: &str, tables: &[&str]) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)?;
        config.check(tables)?;
        Ok(config)
    }

    fn check(&self, tables: &[&str]) -> Result<(), ConfigError> {
        for name in self.views.keys() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            ensure(!name.is_empty() && name.chars().all(plain), || ConfigError::ViewName(name.clone()))?;
            ensure(!tables.contains(&name.as_str()), || ConfigError::ViewTable(name.clone()))?;
        }
        for (kept, days) in &self.upkeep.keep_days {
            let class = Class::ALL.into_iter().any(|class| class != Class::Gap && class.as_str() == kept);
            ensure(class || kept == QUARANTINE, || ConfigError::KeptClass(kept.clone()))?;
            ensure(*days > 0, || ConfigError::KeptDays(kept.clone()))?;
        }
        let share = self.training.processor_share;
        ensure(share > 0.0 && share <= 1.0, || ConfigError::ProcessorShare(share))?;
        let lives = self.training.least_lives;
        ensure(lives >= 4, || ConfigError::LeastLives(lives))?;
        let growth = self.again.growth;
        ensure(growth == 0.0 || growth > 1.0, || ConfigError::Growth(growth))?;
        due::Timetable::of(&self.training).map(drop)
    }
}

fn ensure(good: bool, otherwise: impl FnOnce() -> ConfigError) -> Result<(), ConfigError> {
    if good { Ok(()) } else { Err(otherwise()) }
}

impl Training {
    /// The threads that a run may use, of so many that the machine runs at once; one at least.
    pub fn threads(&self, cores: usize) -> usize {
        ((self.processor_share * cores as f32) as usize).max(1)
    }
}

impl Default for Lake {
    fn default() -> Self {
        let (bucket, endpoint, credentials_file) = (String::new(), String::new(), String::new());
        Self { bucket, prefix: "lake".into(), endpoint, region: "us-east-1".into(), credentials_file }
    }
}

impl Default for Commit {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_wait_ms: 30_000, hold_bytes: 256 << 20 }
    }
}

impl Default for Query {
    fn default() -> Self {
        Self { max_rows: 10_000, max_secs: 30, cache_bytes: 16 << 20 }
    }
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            compact_files: 16,
            small_bytes: 16 << 20,
            most_bytes: 128 << 20,
            retention_hours: 168,
            keep_days: BTreeMap::new(),
        }
    }
}

impl Default for Training {
    fn default() -> Self {
        Self {
            margin_windows: 10,
            max_steps: 800,
            least_windows: 120,
            least_lives: 8,
            int8_loss: 0.02,
            processor_share: 1.0,
            at: String::new(),
            every_secs: 0,
        }
    }
}

impl Default for Again {
    fn default() -> Self {
        Self { growth: 2.0, wait_secs: 600 }
    }
}

impl Default for Drift {
    fn default() -> Self {
        Self {
            enabled: true,
            settle_secs: 20,
            cooldown_secs: 60,
            check_commits: 4,
            recent_secs: 600,
            moved_share: 0.5,
            warm_start: false,
        }
    }
}

/// What [`Upkeep::keep_days`] calls the rows that could not be read.
pub const QUARANTINE: &str = "quarantine";

/// The documented defaults.
pub const DEFAULT_TOML: &str = include_str!("../default.toml");

#[cfg(test)]
mod tests;
