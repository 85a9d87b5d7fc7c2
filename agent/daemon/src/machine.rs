//! One machine on a thread of its own: source → monitor → recorder. The thread waits only for its source and its recorder.

#[cfg(test)]
mod tests;

#[cfg(test)]
mod frugal;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::Duration;

use kilter_infer::{Artifact, Scratch};
use kilter_monitor::{ConfigError, InstallError, MachineConfig, Memory, Monitor, Output, What};
use kilter_source::{Item, Source, SourceError, Stop};
use kilter_types::{
    Alarm, AlarmState, ChannelId, Class, Clip, ClipCause, Clock as _, Digest, Event, Generation, Input, Micros,
    Monotonic, Name, Payload, Role, RowRef, RunningModel, Timeline, Who,
};
use kilter_wire::{Command, CommandKind};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::action::Actions;
use crate::board::{Board, Model};
use crate::checkpoint::Checkpoint;
use crate::clip::Clips;
use crate::clock::SystemClock;
use crate::recorder::Message;
use crate::said::Said;
use crate::standing::Standing;

/// Buffers from the heap.
#[derive(Debug)]
pub(crate) struct Heap;

impl Memory for Heap {
    type Floats = Vec<f32>;
    type Times = Vec<Micros>;
    type Model = Vec<u8>;

    fn floats(&mut self, len: usize) -> Option<Vec<f32>> {
        Some(vec![0.0; len])
    }

    fn times(&mut self, len: usize) -> Option<Vec<Micros>> {
        Some(vec![Micros(0); len])
    }
}

/// A model to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Install {
    pub(crate) role: Role,
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) generation: Generation,
    pub(crate) expires: Micros,
    /// Made for this very machine: heard without the baseline's consent ([`Monitor::trust`]).
    pub(crate) own: bool,
    /// The manifest as it was signed and its signature, for a node that checks them itself; `None` of a kept model.
    pub(crate) signed: Option<(Vec<u8>, Vec<u8>)>,
}

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

/// Where a machine's outputs go.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    pub(crate) recorder: SyncSender<Message>,
    /// Outputs per class that the recorder had no room for.
    pub(crate) overruns: Arc<[AtomicU64; Class::ALL.len()]>,
    pub(crate) board: Board,
    pub(crate) actions: Arc<Actions>,
}

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

    /// A person has released it: told on the spot and journalled behind the alarms that this ended.
    fn released(&self, by: Who) {
        self.outlet.actions.reset(&self.asset, by.as_str());
        let payload = Payload::Event(Event::Reset { by });
        // It fails only when the recorder has ended.
        let _ = self.outlet.recorder.send(Message::About { machine: self.place, payload });
    }

    fn obey(&mut self, order: Order) {
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

/// A monitor with the first model of each role that it accepts.
fn build(
    config: &MachineConfig,
    models: &[Install],
    running: &mut Vec<Install>,
) -> Result<Box<Monitor<Heap>>, ConfigError> {
    let mut monitor = Box::new(Monitor::new(config.clone(), &mut Heap)?);
    running.clear();
    for model in models {
        if running.iter().any(|known: &Install| known.role == model.role) {
            continue;
        }
        // Nothing has switched: the model ran before the restart too.
        match put(&mut monitor, model, &mut |_| {}) {
            Ok(()) => running.push(model.clone()),
            Err(error) => warn!(digest = %model.digest, role = ?model.role, %error, "kept model refused"),
        }
    }
    Ok(monitor)
}

/// Puts a model into its slot, unless it is there; one that was made for this very machine has a voice of its own there.
fn put(monitor: &mut Monitor<Heap>, model: &Install, sink: &mut dyn FnMut(Output<'_>)) -> Result<(), InstallError> {
    if monitor.model(model.role).is_none_or(|(running, _)| running != model.digest) {
        monitor.install(model.role, model.bytes.clone(), model.digest, model.generation, sink)?;
    }
    if model.own {
        monitor.trust(model.role);
    }
    Ok(())
}

/// Acts on the spot, then hands the output to the recorder.
#[expect(clippy::too_many_arguments, reason = "the parts of a machine that a sink may borrow while its monitor works")]
fn hand_over(
    output: &Output<'_>,
    machine: usize,
    asset: &Name,
    timeline: Timeline,
    newest: Micros,
    replayable: bool,
    outlet: &Outlet,
    clogged: &mut bool,
) {
    match &output.what {
        What::Alarm(alarm) => {
            outlet.actions.alarm(asset, output.point, output.at, alarm);
            outlet.board.machine(machine, |machine| machine.alarms += 1);
        }
        What::Trip(trip) => {
            outlet.board.machine(machine, |machine| {
                machine.trips += 1;
                machine.summary.tripped = true;
            });
            outlet.actions.trip(asset, output.point, output.at, trip);
        }
        What::Features(row) => outlet.board.row(machine, output.point, row),
        What::Score(_) | What::Event(_) | What::Spectrum(_) | What::State(_) => {}
    }
    let Some(said) = Said::of(machine, output, timeline, replayable, newest) else { return };
    let class = said.payload.class();
    let mut message = Message::Said(said);
    for _ in 0..if *clogged { 1 } else { PATIENCE } {
        message = match outlet.recorder.try_send(message) {
            Ok(()) => {
                *clogged = false;
                return;
            }
            Err(TrySendError::Full(message)) => message,
            Err(TrySendError::Disconnected(_)) => break,
        };
        // Back-pressure: the source waits while the disk is slow, but not for ever.
        Stop::default().wait(Duration::from_millis(2));
    }
    if !std::mem::replace(clogged, true) {
        warn!(%asset, "the recorder takes nothing: outputs are lost and told as a gap");
    }
    if let Some(count) = outlet.overruns.get(class as usize) {
        count.fetch_add(1, Ordering::Relaxed);
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

/// What one score of this model costs on this host: the median of some rounds on a made-up row. A round is many scores, because a
/// small model takes less than the clock's microsecond.
fn cost_us(bytes: &[u8], clock: &SystemClock) -> f32 {
    const SCORES: usize = 64;
    let Ok(artifact) = Artifact::parse(bytes) else { return 0.0 };
    let (mut state, mut scratch) = (Box::new(kilter_infer::State::<1024>::new()), Box::new(Scratch::new()));
    let row = vec![0.0; artifact.inputs()];
    let mut score = || matches!(artifact.push(&row, &mut state, &mut scratch), Ok(Some(_)));
    // The first scores only fill the sequence.
    let ready = (0..artifact.sequence_len()).filter(|_| score()).count() > 0;
    let mut costs: Vec<f32> = Vec::new();
    for _ in 0..if ready { 7 } else { 0 } {
        let start = clock.monotonic();
        (0..SCORES).for_each(|_| {
            score();
        });
        costs.push((clock.monotonic().0 - start.0) as f32 / SCORES as f32);
    }
    costs.sort_unstable_by(f32::total_cmp);
    costs.get(costs.len() / 2).copied().unwrap_or_default()
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
/// Attempts of 2 ms each.
const PATIENCE: u32 = 2500;
const PARTS_AT_ONCE: usize = 8;
const FIRST_CHECKPOINT_US: u64 = 50_000;
const BOARD_US: u64 = 250_000;
