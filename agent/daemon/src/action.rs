//! What happens on the spot: a log line, a file of JSON lines, an output that is 1 while anything is in alarm, a command.
//!
//! A trip sets the output first and then tells. Each line says with `told_us` when it was written.
//!
//! Runs on the machine's own thread before anything is recorded, so that it needs no journal and no network (A2). After a restart
//! an alarm of the second before may be told twice here; in the records it is not.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use kilter_monitor::Trip;
use kilter_types::{Alarm, AlarmState, Clock as _, Micros, Name};
use serde_json::json;
use tracing::{error, warn};

use crate::board::Board;
use crate::clock::SystemClock;
use crate::config;

/// Shared by all machines.
#[derive(Debug)]
pub(crate) struct Actions {
    config: config::Alarm,
    board: Board,
    clock: SystemClock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    output: Option<bool>,
    children: Vec<Child>,
}

impl Actions {
    pub(crate) fn new(config: config::Alarm, board: Board) -> Self {
        Self { config, board, clock: SystemClock::new(Micros(0)), state: Mutex::default() }
    }

    /// An alarm of a machine was raised, changed or cleared.
    pub(crate) fn alarm(&self, asset: &Name, point: &Name, at: Micros, alarm: &Alarm) {
        let (severity, cause) = (alarm.severity, alarm.cause.as_str());
        match alarm.state {
            AlarmState::Raised | AlarmState::Changed => {
                warn!(%asset, %point, ?severity, cause, source = ?alarm.source, id = alarm.id, "alarm");
            }
            AlarmState::Cleared => warn!(%asset, %point, cause, id = alarm.id, "alarm cleared"),
        }
        if alarm.severity >= self.config.severity || alarm.state == AlarmState::Cleared {
            self.tell(json!({
                "kind": "alarm", "asset": asset, "point": point, "at_us": at.0, "id": alarm.id, "state": alarm.state,
                "severity": alarm.severity, "cause": alarm.cause, "source": alarm.source,
            }));
        }
    }

    /// A protection tripped; the board knows it already.
    pub(crate) fn trip(&self, asset: &Name, point: &Name, at: Micros, trip: &Trip) {
        self.output();
        let feature =
            kilter_signal::table::describe(trip.feature).map_or_else(String::new, |known| known.name.to_string());
        error!(%asset, %point, feature, value = trip.value, limit = trip.limit, "trip: stop the machine");
        self.tell(json!({
            "kind": "trip", "asset": asset, "point": point, "at_us": at.0, "feature": feature, "value": trip.value,
            "limit": trip.limit,
        }));
    }

    /// Somebody has released it, at the machine or, where that is allowed, from afar.
    pub(crate) fn reset(&self, asset: &Name, by: &str) {
        warn!(%asset, by, "reset: latched alarms and trips are released");
        self.tell(json!({ "kind": "reset", "asset": asset, "by": by }));
    }

    /// Sets the output to what the board says now.
    pub(crate) fn output(&self) {
        if self.config.output_file.as_os_str().is_empty() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (on, known) = {
            let machines = &self.board.lock().machines;
            let on = machines.iter().any(|machine| machine.is_alarmed(self.config.severity));
            (on, machines.iter().all(|machine| machine.known))
        };
        // After a restart the output stays as it was until every machine has said whether it is still tripped.
        if state.output != Some(on) && (on || known || state.output.is_some()) {
            let value: &[u8] = if on { b"1\n" } else { b"0\n" };
            match std::fs::write(&self.config.output_file, value) {
                Ok(()) => state.output = Some(on),
                Err(error) => error!(file = %self.config.output_file.display(), %error, "alarm output not set"),
            }
        }
    }

    fn tell(&self, mut line: serde_json::Value) {
        line["told_us"] = json!(self.clock.wall().map(|wall| wall.0));
        let line = line.to_string();
        let file = &self.config.log_file;
        if !file.as_os_str().is_empty()
            && let Err(error) = append(file, &line)
        {
            error!(file = %file.display(), %error, "alarm line not written");
        }
        let Some((program, arguments)) = self.config.command.split_first() else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        if state.children.len() >= MOST_COMMANDS {
            error!(program, "alarm command not started: too many of it still run");
            return;
        }
        match Command::new(program).args(arguments).arg(line).stdin(Stdio::null()).spawn() {
            Ok(child) => state.children.push(child),
            Err(error) => error!(program, %error, "alarm command not started"),
        }
    }
}

fn append(file: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    file.write_all(format!("{line}\n").as_bytes())
}

const MOST_COMMANDS: usize = 8;
