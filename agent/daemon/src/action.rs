//! What happens on the spot: a log line, a file of JSON lines, an output that is 1 while anything is in alarm, a command; and each
//! machine's level by how bad it is ([`Derate`]).
//!
//! A trip sets output and level first and then tells. Each line says with `told_us` when it was written. In a dry run everything is told
//! and nothing is done: a line of kind `dry_run` says what would have been.
//!
//! Runs on the machine's own thread before anything is recorded, so that it needs no journal and no network (A2). After a restart
//! an alarm of the second before may be told twice here; in the records it is not.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use kilter_monitor::Trip;
use kilter_types::{Alarm, AlarmState, Clock as _, Micros, Name};
use serde_json::{Value, json};
use tracing::{error, info, warn};

use crate::board::Board;
use crate::clock::SystemClock;
use crate::config::{self, derate::Derate};

/// Shared by all machines.
#[derive(Debug)]
pub(crate) struct Actions {
    config: config::Alarm,
    /// By the machine's place on the board.
    derates: Vec<Option<Derate>>,
    board: Board,
    clock: SystemClock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    output: Option<bool>,
    /// By the machine's place: the level that was set.
    levels: BTreeMap<usize, f32>,
    children: Vec<Child>,
    /// What could not be done is tried again and again, and told once.
    said_error: String,
}

impl Actions {
    pub(crate) fn new(config: config::Alarm, board: Board) -> Self {
        Self { config, derates: Vec::new(), board, clock: SystemClock::new(Micros(0)), state: Mutex::default() }
    }

    /// With the levels of those machines that have them, in the order of the board.
    pub(crate) fn with_derates(mut self, derates: impl IntoIterator<Item = Option<Derate>>) -> Self {
        self.derates = derates.into_iter().collect();
        self
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

    /// Sets output and levels to what the board says now.
    pub(crate) fn output(&self) {
        let mut lines = Vec::new();
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let done = self.set_output(&mut state, &mut lines).and_then(|()| self.set_levels(&mut state, &mut lines));
            let said = done.err().unwrap_or_default();
            if !said.is_empty() && said != state.said_error {
                error!(error = said, "what an alarm asks for is not done; it is tried again");
            }
            state.said_error = said;
        }
        for line in lines {
            self.write(line);
        }
    }

    fn set_output(&self, state: &mut State, lines: &mut Vec<Value>) -> Result<(), String> {
        let file = &self.config.output_file;
        if file.as_os_str().is_empty() {
            return Ok(());
        }
        let (on, known) = {
            let machines = &self.board.lock().machines;
            let on = machines.iter().any(|machine| machine.is_alarmed(self.config.severity));
            (on, machines.iter().all(|machine| machine.known))
        };
        // After a restart the output stays as it was until every machine has said whether it is still tripped.
        if state.output != Some(on) && (on || known || state.output.is_some()) {
            let value = u8::from(on);
            if self.config.dry_run {
                lines.push(json!({ "kind": "dry_run", "would": "output", "file": file, "value": value }));
            } else {
                std::fs::write(file, format!("{value}\n")).map_err(|error| format!("{}: {error}", file.display()))?;
            }
            state.output = Some(on);
        }
        Ok(())
    }

    fn set_levels(&self, state: &mut State, lines: &mut Vec<Value>) -> Result<(), String> {
        for (place, derate) in self.derates.iter().enumerate() {
            let Some(derate) = derate else { continue };
            let Some((asset, severity, tripped, known)) = self.board.lock().machines.get(place).map(|machine| {
                (machine.asset.clone(), machine.summary.severity, machine.summary.tripped, machine.known)
            }) else {
                continue;
            };
            let before = state.levels.get(&place).copied();
            let level = derate.level(severity, tripped);
            // As with the output: no machine is let go by an agent that does not know it yet.
            if before == Some(level) || before.is_none() && !known && !tripped {
                continue;
            }
            let word = if tripped { json!("trip") } else { json!(severity) };
            let mut line = json!({ "kind": "derate", "asset": asset, "severity": word, "level": level });
            if self.config.dry_run {
                line["kind"] = json!("dry_run");
                line["would"] = json!("derate");
            } else {
                derate.write(level).map_err(|error| format!("{}: {error}", derate.file.display()))?;
                let word = word.as_str().unwrap_or_default();
                let arguments = [asset.as_str(), &level.to_string(), word].map(str::to_owned);
                start(state, &derate.command, &arguments)?;
            }
            warn!(%asset, level, severity = %word, dry_run = self.config.dry_run, "derate");
            state.levels.insert(place, level);
            lines.push(line);
        }
        Ok(())
    }

    /// Into the file, and to the command.
    fn tell(&self, line: Value) {
        let line = self.write(line);
        if self.config.command.is_empty() {
            return;
        }
        if self.config.dry_run {
            self.write(json!({ "kind": "dry_run", "would": "command", "command": self.config.command, "line": line }));
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = start(&mut state, &self.config.command, &[line]) {
            error!(error, "alarm command not started");
        }
    }

    /// Dates a line and appends it to the file of lines.
    fn write(&self, mut line: Value) -> String {
        line["told_us"] = json!(self.clock.wall().map(|wall| wall.0));
        let dry = line["kind"] == "dry_run";
        let line = line.to_string();
        if dry {
            info!(line, "dry run");
        }
        let file = &self.config.log_file;
        if !file.as_os_str().is_empty()
            && let Err(error) = append(file, &line)
        {
            error!(file = %file.display(), %error, "alarm line not written");
        }
        line
    }
}

/// Starts a command with more arguments, unless there is none.
fn start(state: &mut State, command: &[String], more: &[String]) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    state.children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
    if state.children.len() >= MOST_COMMANDS {
        return Err(format!("{program}: too many commands still run"));
    }
    let child = Command::new(program).args(arguments).args(more).stdin(Stdio::null()).spawn();
    state.children.push(child.map_err(|error| format!("{program}: {error}"))?);
    Ok(())
}

fn append(file: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    file.write_all(format!("{line}\n").as_bytes())
}

const MOST_COMMANDS: usize = 8;
