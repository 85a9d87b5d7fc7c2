//! What a machine is told from outside, obeyed between two inputs.

use kilter_monitor::{Output, What};
use kilter_types::{ClipCause, Event, Monotonic, Payload, Role, Who};
use kilter_wire::{Command, CommandKind};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::install::put;
use super::outlet::hand_over;
use super::{Install, Machine};
use crate::recorder::Message;

/// What a machine is told from outside; obeyed between two inputs.
#[derive(Debug)]
pub(crate) enum Order {
    /// Run this model; the answer is the refusal, if it is one.
    Install(Install, oneshot::Sender<Result<(), String>>),
    /// Run no model in this role.
    Remove(Role),
    /// A command.
    Command(Command),
    /// Maintenance or a label.
    Event(Event),
}

impl Machine {
    pub(super) fn obey(&mut self, order: Order) {
        let Self { monitor, outlet, newest, timeline, place, asset, clogged, standing, .. } = self;
        let (timeline, now) = (*timeline, *newest);
        let mut sink = |output: Output<'_>| {
            if let What::Alarm(alarm) = &output.what {
                standing.note(output.point, alarm);
            }
            hand_over(&output, *place, asset, timeline, now, false, outlet, clogged);
        };
        match order {
            Order::Install(model, reply) => {
                let Install { role, digest, generation, .. } = model;
                let result = put(monitor, &model, &mut sink).map_err(|error| error.to_string());
                match &result {
                    Ok(()) => {
                        info!(asset = %self.asset, %digest, ?role, generation = generation.0, "model runs");
                        self.show_model(&model);
                    }
                    Err(error) => {
                        warn!(asset = %self.asset, %digest, ?role, error, "model refused; the one before stays")
                    }
                }
                let _ = reply.send(result);
            }
            Order::Remove(role) => {
                if monitor.model(role).is_some() {
                    monitor.remove(role);
                    self.outlet.board.machine(self.place, |machine| machine.model(role, None));
                }
            }
            Order::Command(Command { id, kind, .. }) => match kind {
                CommandKind::Recommission { .. } => monitor.recommission(now, &mut sink),
                CommandKind::Reset { .. } | CommandKind::ResetBy { .. } => {
                    monitor.reset(now, &mut sink);
                    for (point, alarm) in standing.release() {
                        self.end(&point, &alarm, now);
                    }
                    if let CommandKind::ResetBy { by, .. } = kind {
                        self.released(by);
                    }
                    // The output follows at once.
                    self.board_due = Monotonic(0);
                }
                CommandKind::Flush => {}
                CommandKind::Clip { .. } => drop(self.clips.want(ClipCause::Command(id), now)),
            },
            Order::Event(event) => monitor.event(&event, now, &mut sink),
        }
        // What came from outside does not come again after a restart, so it must be in the checkpoint.
        self.changed = true;
        self.checkpoint();
    }

    /// A person has released it: told on the spot and journalled behind the alarms that this ended.
    fn released(&self, by: Who) {
        self.outlet.actions.reset(&self.asset, by.as_str());
        let payload = Payload::Event(Event::Reset { by });
        // It fails only when the recorder has ended.
        let _ = self.outlet.recorder.send(Message::About { machine: self.place, payload });
    }
}
