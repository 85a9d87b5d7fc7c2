//! The lab's configuration: `default.toml` is its documentation and equals [`Config::default`].

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use kilter_lake::TableName;
use kilter_types::Class;
use serde::Deserialize;

use crate::due::Timetable;
use crate::erasing::QUARANTINE;

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) lake: Lake,
    pub(crate) commit: Commit,
    pub(crate) query: Query,
    pub(crate) views: BTreeMap<String, String>,
    pub(crate) upkeep: Upkeep,
    pub(crate) training: Training,
    pub(crate) again: Again,
    pub(crate) drift: Drift,
}

/// Where the lake lies.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Lake {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) endpoint: String,
    pub(crate) region: String,
    pub(crate) credentials_file: String,
}

/// When rows are committed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Commit {
    pub(crate) max_bytes: usize,
    pub(crate) max_wait_ms: u64,
    pub(crate) hold_bytes: usize,
}

/// How much an answer may hold, and how long it may take.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Query {
    pub(crate) max_rows: usize,
    pub(crate) max_secs: u32,
    pub(crate) cache_bytes: usize,
}

/// When files of the lake are put together, and when old ones go.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Upkeep {
    pub(crate) compact_files: usize,
    pub(crate) small_bytes: u64,
    pub(crate) most_bytes: u64,
    pub(crate) retention_hours: u32,
    pub(crate) keep_days: BTreeMap<String, u32>,
}

/// What is learned from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Training {
    pub(crate) margin_windows: u32,
    pub(crate) max_steps: usize,
    pub(crate) least_windows: usize,
    pub(crate) least_lives: usize,
    pub(crate) int8_loss: f32,
    pub(crate) processor_share: f32,
    pub(crate) at: String,
    pub(crate) every_secs: u32,
}

/// When a kind of machine for which no model leads is trained again.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Again {
    pub(crate) growth: f32,
    pub(crate) wait_secs: u32,
}

/// When drift starts a training.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Drift {
    pub(crate) enabled: bool,
    pub(crate) settle_secs: u32,
    pub(crate) cooldown_secs: u32,
    pub(crate) check_commits: u32,
    pub(crate) recent_secs: u32,
    pub(crate) moved_share: f32,
    pub(crate) warm_start: bool,
}

impl Config {
    /// Reads `<data>/lab.toml`; without one the defaults hold.
    pub(crate) fn load(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("lab.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(anyhow::Error::from)
                .and_then(Self::checked)
                .with_context(|| format!("failed to read the config {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("failed to read the config {}", path.display())),
        }
    }
}

impl Config {
    /// A view must not hide a table, and its name is written as it stands in questions. What is kept for a time is a class; gaps are the
    /// account of what is missing and stay.
    fn checked(self) -> anyhow::Result<Self> {
        for name in self.views.keys() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            ensure!(
                !name.is_empty() && name.chars().all(plain),
                "the view '{name}' has other letters than a-z, 0-9 and _"
            );
            ensure!(TableName::ALL.iter().all(|table| table.as_str() != name), "the view '{name}' is a table");
        }
        for (kept, days) in &self.upkeep.keep_days {
            let class = Class::ALL.into_iter().any(|class| class != Class::Gap && class.as_str() == kept);
            ensure!(class || kept == QUARANTINE, "keep_days: '{kept}' is no class that can go");
            ensure!(*days > 0, "keep_days: {kept} would go at once");
        }
        let share = self.training.processor_share;
        ensure!(share > 0.0 && share <= 1.0, "training: processor_share is {share}; it must be above 0 and at most 1");
        let lives = self.training.least_lives;
        ensure!(lives >= 4, "training: least_lives is {lives}; fewer than 4 divide into nothing that judges");
        let growth = self.again.growth;
        ensure!(growth == 0.0 || growth > 1.0, "again: growth is {growth}; it must be above 1, or 0 for never");
        Timetable::of(&self.training)?;
        Ok(self)
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

impl Training {
    /// The threads that a run may use, of so many that the machine runs at once; one at least.
    pub(crate) fn threads(&self, cores: usize) -> usize {
        ((self.processor_share * cores as f32) as usize).max(1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_file_is_the_default_and_an_unknown_key_is_refused() {
        let documented: Config = toml::from_str(include_str!("default.toml")).expect("the documented file can be read");
        assert_eq!(documented, Config::default());
        assert!(toml::from_str::<Config>("[commit]\nmax_byte = 1").is_err());
        let views = |text: &str| toml::from_str::<Config>(text).map_err(anyhow::Error::from).and_then(Config::checked);
        assert!(views("[views]\nwarm = \"SELECT seq FROM features\"").is_ok());
        assert!(views("[views]\nfeatures = \"SELECT seq FROM features\"").is_err(), "it would hide the table");
        let keep = |text: &str| views(&format!("[upkeep]\nkeep_days = {{ {text} }}"));
        assert!(keep("feature = 730, quarantine = 90").is_ok());
        assert!(keep("gap = 730").is_err() && keep("features = 730").is_err() && keep("clip = 0").is_err());
        assert!(views("[views]\n\"a b\" = \"SELECT seq FROM features\"").is_err());
        let said = |text: &str| views(text).expect_err(text).to_string();
        assert!(said("[training]\nat = \"2 am\"").contains("2 am"));
        assert!(said("[training]\nprocessor_share = 0").contains("processor_share"));
        assert!(said("[again]\ngrowth = 0.9").contains("growth"));
        assert!(said("[training]\nleast_lives = 3").contains("least_lives"));
    }

    #[test]
    fn a_share_of_the_processor_is_whole_threads_and_one_at_least() {
        let threads = |processor_share, cores| Training { processor_share, ..Training::default() }.threads(cores);
        assert_eq!([threads(1.0, 16), threads(0.5, 16), threads(0.5, 3), threads(0.01, 16)], [16, 8, 1, 1]);
    }
}
