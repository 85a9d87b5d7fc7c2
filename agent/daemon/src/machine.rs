//! One machine on a thread of its own: source → monitor → recorder. The thread waits only for its source and its recorder.

#[cfg(test)]
mod tests;

#[cfg(test)]
mod frugal;

mod install;
mod order;
mod outlet;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, TrySendError};

use kilter_monitor::{ConfigError, Heap, MachineConfig, Monitor, Output, What};
use kilter_source::{Item, Source, SourceError, Stop};
use kilter_types::{
    Alarm, AlarmState, ChannelId, Clip, ClipCause, Clock as _, Input, Micros, Monotonic, Name, Payload, RowRef,
    RunningModel, Timeline,
};
use tracing::{info, warn};

use crate::board::Model;
use crate::checkpoint::Checkpoint;
use crate::clip::Clips;
use crate::clock::SystemClock;
use crate::recorder::Message;
use crate::said::Said;
use crate::standing::Standing;
pub(crate) use install::Install;
use install::{build, cost_us};
pub(crate) use order::Order;
pub(crate) use outlet::Outlet;
use outlet::hand_over;

/// One machine.
pub(crate) struct Machine {
    place: usize,
    asset: Name,
    monitor: Box<Monitor<Heap>>,
    source: Box<dyn Source>,
    channels: Vec<Name>,
    positions: Vec<u64>,
    timeline: Timeline,
    newest: Micros,
    orders: Receiver<Order>,
    outlet: Outlet,
    clogged: bool,
    changed: bool,
    clock: SystemClock,
    checkpoint_us: u64,
    checkpoint_due: Monotonic,
    /// Outputs since the last checkpoint; a long catching-up must not hang on one.
    since_checkpoint: u32,
    board_due: Monotonic,
    said_error: String,
    clips: Clips,
    standing: Standing,
    /// Parts of a clip on their way to the recorder.
    parts: VecDeque<Clip>,
}

/// What a machine is made of.
pub(crate) struct Parts {
    pub(crate) place: usize,
    pub(crate) asset: Name,
    pub(crate) config: MachineConfig,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// What the journal says last of each alarm of this machine.
    pub(crate) alarms: Vec<(Name, Alarm)>,
    pub(crate) orders: Receiver<Order>,
    pub(crate) outlet: Outlet,
    pub(crate) clock: SystemClock,
    pub(crate) checkpoint_us: u64,
    pub(crate) clips: Clips,
}

impl Machine {
    /// Builds the monitor, installs the first model of each role that can be installed, restores the checkpoint, then opens the source
    /// at the positions reached. Returns which of the models run.
    pub(crate) fn new<E: From<ConfigError>>(
        parts: Parts,
        models: Vec<Install>,
        source: impl FnOnce(&[u64]) -> Result<Box<dyn Source>, E>,
    ) -> Result<(Self, Vec<Install>), E> {
        let Parts { place, asset, config, checkpoint, alarms, orders, outlet, clock, checkpoint_us, clips } = parts;
        let channels: Vec<Name> = config.channels.iter().map(|channel| channel.name.clone()).collect();
        let mut running = Vec::new();
        let mut monitor = build(&config, &models, &mut running)?;
        let checkpoint = checkpoint.unwrap_or_default();
        let positions: Vec<u64> = channels.iter().map(|name| checkpoint.position(name)).collect();
        let mut restored = !checkpoint.snapshot.is_empty();
        if restored && let Err(error) = monitor.restore(&checkpoint.snapshot) {
            restored = false;
            warn!(%asset, %error, "monitor starts anew at the position reached");
            monitor = build(&config, &models, &mut running)?;
        }
        let standing = Standing::resume(checkpoint.open, &alarms, restored);
        if monitor.summary().tripped || standing.is_tripped() {
            warn!(%asset, "still tripped from before the restart: `kilter-agent reset` releases it");
        }
        let source = source(&positions)?;
        let due = clock.monotonic();
        let machine = Self {
            place,
            asset,
            monitor,
            source,
            channels,
            positions,
            timeline: Timeline::Source,
            newest: Micros(0),
            orders,
            outlet,
            clogged: false,
            changed: true,
            clock,
            checkpoint_us,
            checkpoint_due: due,
            since_checkpoint: 0,
            board_due: due,
            said_error: String::new(),
            clips,
            standing,
            parts: VecDeque::new(),
        };
        for model in &running {
            machine.show_model(model);
        }
        Ok((machine, running))
    }

    /// Runs until `stop`, then leaves a last checkpoint.
    pub(crate) fn run(mut self, stop: &Stop) {
        while !stop.is_set() {
            self.step();
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order);
            }
            self.keep_up();
        }
        self.checkpoint();
    }

    fn step(&mut self) {
        let Self { source, monitor, outlet, positions, newest, timeline, place, asset, clips, standing, .. } = self;
        let item = match source.next() {
            Ok(item) => item,
            // One message was wrong; the source goes on.
            Err(error @ SourceError::Message { .. }) => return self.refused(&chain(&error)),
            Err(error) => {
                let text = chain(&error);
                if text != self.said_error {
                    warn!(asset = %self.asset, error = text, "no input");
                    self.outlet.board.machine(self.place, |machine| {
                        machine.connected = false;
                        machine.error = Some(text.clone());
                    });
                    self.said_error = text;
                }
                return;
            }
        };
        let came = self.clock.monotonic();
        if let Some(t) = time_of(&item) {
            *newest = (*newest).max(t);
        }
        if let Item::Started(found) = item {
            *timeline = found;
        }
        let (timeline, now) = (*timeline, *newest);
        let (mut said, mut raised, mut tripped, mut over) = (0, None, false, Vec::new());
        let mut sink = |output: Output<'_>| {
            said += 1;
            tripped |= matches!(output.what, What::Trip(_));
            if let What::Alarm(alarm) = &output.what {
                standing.note(output.point, alarm);
                if alarm.state == AlarmState::Raised {
                    raised = Some((ClipCause::Alarm(alarm.id), output.at));
                }
            }
            if let (What::Features(row), false) = (&output.what, standing.is_settled()) {
                let gone = standing.passed(RowRef { group: row.group, index: row.index, seq: 0 });
                over.extend(gone.into_iter().map(|(point, alarm)| (point, alarm, output.at)));
            }
            hand_over(&output, *place, asset, timeline, now, true, outlet, &mut self.clogged);
        };
        match item {
            Item::Started(_) => {
                // The first inputs of a fresh machine are worth a checkpoint: a sensor may not hold them long.
                self.checkpoint_due = Monotonic(self.clock.monotonic().0 + FIRST_CHECKPOINT_US);
                self.said_error.clear();
                self.outlet.board.machine(self.place, |machine| {
                    machine.connected = true;
                    machine.error = None;
                });
            }
            Item::Input { channel, position, input } => {
                let end = match input {
                    Input::Block { samples, t0, .. } => {
                        clips.block(usize::from(channel.0), position, t0, samples);
                        position.saturating_add(samples.len() as u64)
                    }
                    Input::Reading { .. } | Input::Cycle { .. } | Input::Event { .. } => position.saturating_add(1),
                };
                let pushed = monitor.push(channel, position, input, &mut sink);
                reach(positions, channel, end);
                self.changed = true;
                if let Err(error) = pushed {
                    self.refused(&error.to_string());
                }
            }
            Item::Event { t, event } => {
                monitor.machine_event(t, event, &mut sink);
                self.changed = true;
            }
            Item::Skipped { channel, from, to } => {
                monitor.skipped(channel, from, to, &mut sink);
                reach(positions, channel, to);
                self.changed = true;
            }
            Item::Interrupted => self.outlet.board.machine(self.place, |machine| machine.connected = false),
            Item::End => self.outlet.board.machine(self.place, |machine| machine.ended = true),
            Item::Idle => {}
        }
        for (point, alarm, at) in over {
            self.end(&point, &alarm, at);
        }
        if tripped {
            // A restart must find it latched, also where the sensor does not send these samples again.
            self.checkpoint();
        }
        if said > 0 {
            let took_us = self.clock.monotonic().0.saturating_sub(came.0);
            self.outlet.board.machine(self.place, |machine| machine.decisions.note(took_us));
        }
        self.since_checkpoint += said;
        if let Some((cause, at)) = raised {
            self.clips.want(cause, at);
        }
    }

    /// Says that an alarm from before the restart is over, of which the monitor knows nothing.
    fn end(&mut self, point: &Name, alarm: &Alarm, at: Micros) {
        info!(asset = %self.asset, %point, id = alarm.id, "an alarm from before the restart is over");
        let output = Output { point, group: alarm.input.group, index: alarm.input.index, at, what: What::Alarm(alarm) };
        let Self { outlet, newest, timeline, place, asset, clogged, .. } = self;
        hand_over(&output, *place, asset, *timeline, *newest, false, outlet, clogged);
    }

    /// Parts of clips as the recorder has room for them; what is more urgent goes on between them.
    fn clip(&mut self) {
        if self.parts.is_empty() {
            let (wall, _) = self.clock.best();
            self.parts = self.clips.poll(self.newest, wall).into();
        }
        for _ in 0..PARTS_AT_ONCE {
            let Some(part) = self.parts.pop_front() else { return };
            let said = Said {
                machine: self.place,
                point: part.channel.clone(),
                group: 0,
                index: 0,
                at: part.t0,
                timeline: self.timeline,
                replayable: false,
                payload: Payload::Clip(part),
            };
            if let Err(TrySendError::Full(Message::Said(Said { payload: Payload::Clip(part), .. }))) =
                self.outlet.recorder.try_send(Message::Said(said))
            {
                return self.parts.push_front(part);
            }
        }
    }

    /// Checkpoints and the board, when it is time.
    fn keep_up(&mut self) {
        self.clip();
        let now = self.clock.monotonic();
        if now >= self.checkpoint_due || self.since_checkpoint >= MOST_UNCHECKED {
            self.checkpoint();
            self.since_checkpoint = 0;
            self.checkpoint_due = Monotonic(now.0 + self.checkpoint_us);
        }
        if now >= self.board_due {
            self.board_due = Monotonic(now.0 + BOARD_US);
            let mut summary = self.monitor.summary();
            summary.tripped |= self.standing.is_tripped();
            let positions = self.channels.iter().cloned().zip(self.positions.iter().copied());
            self.outlet.board.machine(self.place, |machine| {
                machine.summary = summary;
                machine.known = true;
                machine.positions.clear();
                machine.positions.extend(positions);
            });
            self.outlet.actions.output();
        }
    }

    fn checkpoint(&mut self) {
        let checkpoint = if self.changed {
            let mut snapshot = vec![0; self.monitor.snapshot_len()];
            let Ok(len) = self.monitor.snapshot(&mut snapshot) else { return };
            snapshot.truncate(len);
            let positions = self.channels.iter().cloned().zip(self.positions.iter().copied()).collect();
            Some(Checkpoint { positions, open: self.standing.clone(), snapshot })
        } else {
            // As before: nothing was said since, so only the journal's mark moves.
            None
        };
        let machine = self.place;
        self.changed &= self.outlet.recorder.try_send(Message::Checkpoint { machine, checkpoint }).is_err();
    }

    fn refused(&mut self, error: &str) {
        if self.said_error != error {
            warn!(asset = %self.asset, error, "input refused");
            self.said_error = error.to_owned();
        }
        self.outlet.board.machine(self.place, |machine| {
            machine.refused_inputs += 1;
            machine.error = Some(error.to_owned());
        });
    }

    fn show_model(&self, model: &Install) {
        let Install { role, digest, generation, expires, .. } = *model;
        let running =
            RunningModel { digest, role, generation, expired: false, cost_us: cost_us(&model.bytes, &self.clock) };
        self.outlet.board.machine(self.place, |machine| machine.model(role, Some(Model { running, expires })));
    }
}

fn time_of(item: &Item<'_>) -> Option<Micros> {
    match item {
        Item::Input {
            input:
                Input::Block { t0: t, .. }
                | Input::Reading { t, .. }
                | Input::Event { t, .. }
                | Input::Cycle { t: Some(t), .. },
            ..
        } => Some(*t),
        Item::Event { t, .. } => Some(*t),
        Item::Input { input: Input::Cycle { t: None, .. }, .. } | Item::Started(_) | Item::Skipped { .. } => None,
        Item::Idle | Item::Interrupted | Item::End => None,
    }
}

fn reach(positions: &mut [u64], channel: ChannelId, end: u64) {
    if let Some(position) = positions.get_mut(usize::from(channel.0)) {
        *position = (*position).max(end);
    }
}

/// An error and what led to it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Outputs after which a checkpoint is taken whatever the time.
const MOST_UNCHECKED: u32 = 256;
const PARTS_AT_ONCE: usize = 8;
const FIRST_CHECKPOINT_US: u64 = 50_000;
const BOARD_US: u64 = 250_000;
