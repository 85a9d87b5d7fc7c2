//! Commands and events from the aggregator: each command is done once and answered, each event is journalled here.

use kilter_types::{Event, Point, Timeline};
use kilter_wire::{Command, CommandKind, CommandResult, Outcome, Up};
use tracing::{error, info, warn};

use super::Control;
use crate::machine::Order;
use crate::recorder::Message;
use crate::said::Said;

impl Control {
    /// Settings are not changed from afar: the message is not signed, and thresholds and trips are the plant's own. What can be asked
    /// for from afar are commands, events and signed models. The answer names the configuration by its generation.
    pub(super) fn refuse_config(&self, config: &kilter_wire::Config<'_>) {
        warn!(generation = config.generation.0, "configuration from afar refused: this agent follows its file");
        self.board.lock().configs_refused += 1;
        self.answer(CommandResult { id: config.generation.0, outcome: Outcome::Refused });
    }

    /// Does a command once, also over a restart.
    pub(super) fn take_command(&mut self, command: &Command) {
        let (best, uncertainty) = self.clock.best();
        let outcome = match self.done.of(command.id) {
            Some(known) => known,
            None if best - uncertainty > command.expires => Some(Outcome::Expired),
            None => self.execute(command),
        };
        info!(id = command.id, kind = ?command.kind, ?outcome, "command");
        // A node does it once, and says itself how it ended.
        if let Some(outcome) = outcome {
            self.answer(CommandResult { id: command.id, outcome });
        }
    }

    /// How a node's command ended.
    pub(super) fn ended(&mut self, result: CommandResult) {
        if let Err(error) = self.done.note(result.id, Some(result.outcome)) {
            error!(id = result.id, %error, "the end of a command is not written down");
        }
        self.answer(result);
    }

    /// Maintenance or a label: journalled here, whoever measures the machine; a monitor that it concerns is told.
    pub(super) fn take_event(&self, point: &Point, event: Event) {
        let Some(machine) = self.machines.iter().position(|machine| machine.asset == point.asset) else {
            return warn!(asset = %point.asset, "an event for a machine that is not here");
        };
        let said = Said {
            machine,
            point: point.point.clone(),
            group: 0,
            index: 0,
            at: self.clock.best().0,
            timeline: Timeline::Device,
            replayable: false,
            payload: kilter_types::Payload::Event(event.clone()),
        };
        if self.recorder.try_send(Message::Said(said)).is_err() {
            error!(asset = %point.asset, "an event is not journalled: the recorder has no room");
        }
        self.order(machine, Order::Event(event));
    }

    fn execute(&mut self, command: &Command) -> Option<Outcome> {
        let asset = match &command.kind {
            CommandKind::Flush => {
                // Without room it is being written anyway.
                let _ = self.recorder.try_send(Message::Flush);
                return Some(Outcome::Done);
            }
            CommandKind::Reset { asset } | CommandKind::ResetBy { asset, .. } if !self.remote_reset => {
                warn!(%asset, "a reset from afar refused: this agent lets only a person at the machine release it");
                return self.keep(command.id, Outcome::Refused);
            }
            CommandKind::Recommission { asset }
            | CommandKind::Reset { asset }
            | CommandKind::ResetBy { asset, .. }
            | CommandKind::Clip { asset } => asset,
        };
        let Some(machine) = self.machines.iter().position(|machine| machine.asset == *asset) else {
            return self.keep(command.id, Outcome::Refused);
        };
        let first = if self.is_node(machine) { None } else { Some(Outcome::Done) };
        if let Err(error) = self.done.note(command.id, first) {
            error!(id = command.id, %error, "a command is not done: it can't be written down");
            return Some(Outcome::Refused);
        }
        if self.order(machine, Order::Command(command.clone())) {
            return first;
        }
        self.keep(command.id, Outcome::Refused)
    }

    /// A refusal is an end too: the same id is not done later.
    fn keep(&mut self, id: u64, outcome: Outcome) -> Option<Outcome> {
        if let Err(error) = self.done.note(id, Some(outcome)) {
            error!(id, %error, "the end of a command is not written down");
        }
        Some(outcome)
    }

    fn answer(&self, result: CommandResult) {
        self.send(&Up::CommandResult(result));
    }
}
