//! The lab's configuration as it lies in its folder. What it may say stands in `kilter-lab-config`, which links no lake.

use std::path::Path;

use anyhow::Context;
use kilter_lake::TableName;

pub(crate) use kilter_lab_config::{Commit, Config, Lake, QUARANTINE, Training, Upkeep};

/// Reads `<data>/lab.toml`; without one the defaults hold.
pub(crate) fn load(data: &Path) -> anyhow::Result<Config> {
    let path = data.join("lab.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => Config::parse(&text, &TableName::ALL.map(TableName::as_str))
            .with_context(|| format!("failed to read the config {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(error).with_context(|| format!("failed to read the config {}", path.display())),
    }
}
