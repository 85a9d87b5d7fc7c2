//! A machine's level by how bad it is: a set point that a drive or a controller reads, lowered with each severity.
//!
//! The level follows the severity, which rises and falls with the monitor's own hysteresis. A machine that runs better once it is derated
//! would be let go and derated again, round and round: `patience.latch` keeps its alarms, and so its level, until somebody resets them.

use std::io;
use std::path::PathBuf;

use kilter_types::Severity;
use serde::Deserialize;

/// What a machine is told by how bad it is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Derate {
    /// Holds the level; empty for none.
    #[serde(default)]
    pub(crate) file: PathBuf,
    /// Started at each change with the asset, the level and the severity; empty for none.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    healthy: f32,
    #[serde(default)]
    watch: Option<f32>,
    #[serde(default)]
    alarm: Option<f32>,
    #[serde(default)]
    danger: Option<f32>,
    #[serde(default)]
    trip: Option<f32>,
}

impl Derate {
    /// What can't be used.
    pub(crate) fn check(&self) -> Result<(), String> {
        let worse = [self.watch, self.alarm, self.danger, self.trip];
        if self.file.as_os_str().is_empty() && self.command.is_empty() {
            return Err("derate: give a file that holds the level, or a command".to_owned());
        }
        if worse.iter().all(Option::is_none) {
            return Err("derate: it would never change; give a level for watch, alarm, danger or trip".to_owned());
        }
        if !(self.healthy.is_finite() && worse.iter().flatten().all(|level| level.is_finite())) {
            return Err("derate: a level is a number".to_owned());
        }
        Ok(())
    }

    /// The level; where none is given for what is, that of the next milder one.
    pub(crate) fn level(&self, severity: Severity, tripped: bool) -> f32 {
        let steps = [self.trip, self.danger, self.alarm, self.watch];
        let skipped = match (tripped, severity) {
            (true, _) => 0,
            (false, Severity::Danger) => 1,
            (false, Severity::Alarm) => 2,
            (false, Severity::Watch) => 3,
            (false, Severity::Healthy) => 4,
        };
        steps.into_iter().skip(skipped).flatten().next().unwrap_or(self.healthy)
    }

    /// Puts the level into the file.
    pub(crate) fn write(&self, level: f32) -> io::Result<()> {
        if self.file.as_os_str().is_empty() {
            return Ok(());
        }
        std::fs::write(&self.file, format!("{level}\n"))
    }
}
