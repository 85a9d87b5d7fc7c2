//! A machine whose monitor runs on a node: this thread carries the node's records to the recorder and the agent's orders to it.
//!
//! The origin of every record stays the node: point, epoch and seq are its own. What the line lost becomes a gap. A model that
//! the aggregator planned for this machine is offered with its signed manifest, which the node checks itself, and served part
//! by part. The node's own status ends the offer: once it says that the model runs and has proven itself, the control is told and
//! remembers it over a restart. Nothing is offered before the node has said what it runs, nor again after it refused.
//! Commands are repeated until the node answers ([`errand`]); maintenance reaches it as the command to learn its baseline anew.
//! An image of the node's own firmware that a technician hands over goes the same way as a model ([`renew`]).

mod command;
mod errand;
mod image;
mod kept;
mod offer;
mod open;
mod renew;
mod shelf;

use std::sync::mpsc::Receiver;

use kilter_monitor::Trip;
use kilter_source::{Heard, LineTurn, Nodes, Now, SerialLine, Stop, encode};
use kilter_types::{
    Alarm, AlarmState, Class, Clock as _, Digest, Epoch, Event, Micros, Monotonic, Name, Payload, Record, Timeline,
};
use kilter_wire::frame::{Kind, Message as Framed};
use kilter_wire::node::{NodeSettings, NodeStatus};
use kilter_wire::{Command, CommandKind, CommandResult, Down, Outcome};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::checkpoint::Checkpoint;
use crate::clock::SystemClock;
use crate::machine::{Install, Order, Outlet};
use crate::recorder::Message;
use crate::said::Said;
use crate::standing::{Standing, is_trip};
pub(crate) use command::{NodeImage, run as hand_over};
use errand::{Errand, Errands};
pub(crate) use image::Firmware;
use kept::Kept;
use offer::Offer;
use open::Open;
use renew::Renewal;
pub(crate) use shelf::Shelf;

/// What a node's thread is made of.
pub(crate) struct Parts {
    pub(crate) place: usize,
    pub(crate) asset: Name,
    pub(crate) line: SerialLine,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// What the journal says last of each alarm of this machine.
    pub(crate) alarms: Vec<(Name, Alarm)>,
    pub(crate) orders: Receiver<Order>,
    pub(crate) words: mpsc::Sender<Word>,
    pub(crate) outlet: Outlet,
    pub(crate) clock: SystemClock,
    pub(crate) checkpoint_us: u64,
    pub(crate) settings: NodeSettings,
    /// The model that the node confirmed before the restart: a node that has lost it gets it again.
    pub(crate) offered: Option<Install>,
    /// Where images of the node's firmware are handed over.
    pub(crate) shelf: Shelf,
    /// The fleet's key, which signed them.
    pub(crate) key: Option<[u8; 32]>,
}

/// What a node says that the aggregator waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// This model runs there and has proven itself.
    Confirmed {
        /// The machine.
        machine: usize,
        /// The model.
        digest: Digest,
    },
    /// How a command ended.
    Ended(CommandResult),
}

/// One line and the machine behind it.
pub(crate) struct Carrier {
    parts: Parts,
    nodes: Nodes,
    epoch: Option<Epoch>,
    offer: Option<Offer>,
    renewal: Renewal,
    errands: Errands,
    open: Open,
    /// What its firmware reads.
    wire_version: u16,
    /// What the node said last, since its start.
    status: Option<NodeStatus>,
    checkpoint_due: Monotonic,
    changed: bool,
    said_error: String,
}

impl Carrier {
    /// Goes on behind the records that came before the restart.
    pub(crate) fn new(mut parts: Parts) -> Self {
        let kept = parts.checkpoint.as_ref().map_or(&[][..], |checkpoint| &checkpoint.snapshot);
        let Kept { epoch, last, errands, open } = Kept::parse(kept);
        let open = Open::resume(open, &parts.alarms);
        let known = |(epoch, class, seq)| Class::from_u8(class).map(|class| (Epoch(epoch), class, seq));
        let now = parts.clock.monotonic();
        // What a node holds latched it holds itself.
        parts.outlet.board.machine(parts.place, |machine| machine.known = true);
        let offer = parts.offered.take().map(|install| Offer { install, due: now, confirmed: true });
        let renewal = Renewal::resume(parts.shelf.clone(), parts.key, &parts.asset);
        let carrier = Self {
            nodes: Nodes::resume(last.into_iter().filter_map(known)),
            epoch: epoch.map(Epoch),
            offer,
            renewal,
            errands: Errands::resume(errands),
            open,
            wire_version: 0,
            status: None,
            checkpoint_due: now,
            changed: false,
            said_error: String::new(),
            parts,
        };
        carrier.show();
        carrier
    }

    /// Runs until `stop`.
    pub(crate) fn run(mut self, stop: &Stop) {
        let mut room = vec![0; 4096];
        while !stop.is_set() {
            match self.parts.line.read(&mut room) {
                Ok(LineTurn::Bytes(count)) => self.take(&room[..count]),
                Ok(LineTurn::Opened) => self.connected(None),
                Ok(LineTurn::Quiet) => {}
                Err(error) => self.connected(Some(error.to_string())),
            }
            while let Ok(order) = self.parts.orders.try_recv() {
                self.obey(order);
            }
            self.keep_up();
        }
        self.checkpoint();
    }

    fn take(&mut self, bytes: &[u8]) {
        let (wall, uncertainty) = self.parts.clock.best();
        let mut heard = Vec::new();
        self.nodes.feed(bytes, Now { wall, uncertainty }, &mut |said| heard.push(said));
        for said in heard {
            match said {
                Heard::Hello(hello) => {
                    self.wire_version = hello.wire_version;
                    let before = self.epoch.replace(hello.epoch);
                    if before != Some(hello.epoch) {
                        info!(asset = %self.parts.asset, device = %hello.device, epoch = hello.epoch.0, "node on the line");
                        self.status = None;
                        self.image_unknown();
                    }
                    if before.is_some_and(|before| before != hello.epoch) {
                        let ended = self.open.started();
                        self.end(ended);
                    }
                }
                Heard::Record(record) => self.carry(*record),
                Heard::Lost(gap) => {
                    warn!(asset = %self.parts.asset, class = gap.class.as_str(), gap.first_seq, gap.last_seq, "node's records lost");
                    self.changed |= self.parts.outlet.recorder.send(Message::Lost(gap)).is_ok();
                }
                Heard::Status(status) => {
                    self.hear(*status);
                    self.hear_without_image();
                }
                Heard::Image(status) => self.hear_image(&status),
                Heard::Fetch(fetch) => self.serve(&fetch),
                Heard::Result(result) => self.ended(result),
                Heard::Reply(reply) => self.send(Kind::Down, &Down::TimeReply(reply)),
            }
        }
    }

    /// Shows a record on the spot, then hands it to the recorder; a slow disk makes the line wait.
    fn carry(&mut self, record: Record) {
        let Parts { place, asset, outlet, .. } = &self.parts;
        let at = record.wall.unwrap_or_default();
        match &record.payload {
            Payload::Features(row) => {
                outlet.board.row(*place, &record.point.point, row);
                outlet.board.machine(*place, |machine| machine.summary.windows += 1);
            }
            Payload::Alarm(alarm) => {
                let point = record.point.point.clone();
                self.open.note(&point, alarm);
                let trip = stopped(alarm);
                outlet.board.machine(*place, |machine| {
                    machine.alarms += 1;
                    machine.trips += u64::from(trip.is_some());
                });
                self.show();
                let Parts { asset, outlet, .. } = &self.parts;
                if let Some(trip) = trip {
                    outlet.actions.trip(asset, &point, at, &trip);
                }
                outlet.actions.alarm(asset, &point, at, alarm);
            }
            Payload::Score(score) => {
                outlet.board.machine(*place, |machine| machine.summary.score = Some((score.anomaly, score.threshold)));
            }
            Payload::Event(Event::Reset { by }) => {
                outlet.actions.reset(asset, by.as_str());
                let ended = self.open.released();
                self.end(ended);
            }
            Payload::Event(Event::ModelRefused { model, reason }) => {
                self.refused(*model, reason);
            }
            _ => {}
        }
        self.changed |= self.parts.outlet.recorder.send(Message::Carried(Box::new(record))).is_ok();
    }

    /// Alarms that no start of the node will end: told and journalled in their own names.
    fn end(&mut self, ended: Vec<(Name, Alarm)>) {
        let Parts { place, asset, outlet, clock, .. } = &self.parts;
        let at = clock.best().0;
        for (point, alarm) in ended {
            outlet.actions.alarm(asset, &point, at, &alarm);
            let said = Said {
                machine: *place,
                point,
                group: alarm.input.group,
                index: alarm.input.index,
                at,
                timeline: Timeline::Device,
                replayable: false,
                payload: Payload::Alarm(alarm),
            };
            self.changed |= outlet.recorder.send(Message::Said(said)).is_ok();
        }
        self.show();
    }

    /// Board and output say what stands open.
    fn show(&self) {
        let Parts { place, outlet, .. } = &self.parts;
        let (severity, cause, tripped) = self.open.worst();
        outlet.board.machine(*place, |machine| {
            machine.summary.severity = severity;
            machine.summary.cause = cause;
            machine.summary.tripped = tripped;
        });
        outlet.actions.output();
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Install(install, reply) => {
                let why =
                    if install.signed.is_some() { "on offer to the node" } else { "it came without its signature" };
                self.offer = Some(Offer { install, due: Monotonic(0), confirmed: false });
                // The node itself says when it runs.
                let _ = reply.send(Err(why.to_owned()));
                if let Some(status) = self.status.take() {
                    // It may have run before the plan came.
                    self.hear(status);
                }
            }
            // A node runs what it has until it is offered another.
            Order::Remove(role) => drop(self.offer.take_if(|offer| offer.install.role == role)),
            // The aggregator's id goes on with it, so that the node does it once.
            Order::Command(command) => {
                let expires = command.expires.min(self.parts.clock.best().0 + COMMAND_LIFE);
                self.errands.add(Command { expires, ..command }, false);
            }
            Order::Event(Event::Maintenance { .. }) => self.recommission(),
            // No other event changes anything where the machine is measured; the control has journalled it.
            Order::Event(_) => {}
        }
    }

    /// The node learns its baseline anew, as an agent's monitor does at maintenance.
    fn recommission(&mut self) {
        let Some(id) = fresh_id() else { return warn!(asset = %self.parts.asset, "no id for a command") };
        let expires = self.parts.clock.best().0 + EVENT_LIFE;
        let kind = CommandKind::Recommission { asset: self.parts.asset.clone() };
        self.errands.add(Command { id, expires, kind }, true);
        self.changed = true;
        self.checkpoint();
    }

    fn ended(&mut self, result: CommandResult) {
        info!(id = result.id, outcome = ?result.outcome, "node's command ended");
        let now = self.parts.clock.monotonic();
        let fresh = fresh_id().unwrap_or_else(|| result.id.wrapping_add(1));
        let Some(Errand { command, own }) = self.errands.end(result, fresh, now) else { return };
        self.changed |= own;
        if let CommandKind::ResetBy { by, .. } = command.kind
            && result.outcome == Outcome::Done
            && self.wire_version < 3
        {
            // It was asked in the words of before, so it names nobody itself.
            self.parts.outlet.actions.reset(&self.parts.asset, by.as_str());
            let payload = Payload::Event(Event::Reset { by });
            let _ = self.parts.outlet.recorder.send(Message::About { machine: self.parts.place, payload });
        }
        if !own {
            // Without room or an aggregator nobody waits for it.
            let _ = self.parts.words.try_send(Word::Ended(result));
        }
    }

    /// Offers, errands and checkpoints, as they are due.
    fn keep_up(&mut self) {
        let now = self.parts.clock.monotonic();
        self.look_for_image(now);
        self.offer_again(now);
        if self.status.is_some()
            && let Some(command) = self.errands.poll(now, self.parts.clock.best().0)
        {
            let kind = if self.wire_version < 3 { errand::in_version_2(command.kind) } else { command.kind };
            info!(asset = %self.parts.asset, id = command.id, ?kind, "command for the node");
            self.send(Kind::Down, &Down::Command(Command { kind, ..command }));
        }
        if now >= self.checkpoint_due {
            self.checkpoint_due = Monotonic(now.0 + self.parts.checkpoint_us);
            self.checkpoint();
        }
    }

    fn send<T: Framed>(&mut self, kind: Kind, message: &T) {
        if let Some(frame) = encode(kind, message) {
            self.write(&frame);
        }
    }

    fn write(&mut self, frame: &[u8]) {
        if let Err(error) = self.parts.line.write(frame) {
            warn!(asset = %self.parts.asset, %error, "the node does not hear");
        }
    }

    fn connected(&mut self, error: Option<String>) {
        let text = error.clone().unwrap_or_default();
        if text != self.said_error && !text.is_empty() {
            warn!(asset = %self.parts.asset, address = self.parts.line.address(), error = text, "no line to the node");
        }
        self.said_error = text;
        self.parts.outlet.board.machine(self.parts.place, |machine| {
            machine.connected = error.is_none();
            machine.error = error;
        });
    }

    /// The last seqs, behind every record that they count.
    fn checkpoint(&mut self) {
        let checkpoint = self.changed.then(|| {
            let last = self.nodes.last().into_iter().map(|(epoch, class, seq)| (epoch.0, class as u8, seq)).collect();
            let epoch = self.epoch.map(|epoch| epoch.0);
            let kept = Kept { epoch, last, errands: self.errands.keep(), open: self.open.keep() };
            Checkpoint {
                positions: Vec::new(),
                open: Standing::default(),
                snapshot: serde_json::to_vec(&kept).unwrap_or_default(),
            }
        });
        let machine = self.parts.place;
        self.changed &= self.parts.outlet.recorder.try_send(Message::Checkpoint { machine, checkpoint }).is_err();
    }
}

/// The trip that an alarm tells of.
fn stopped(alarm: &Alarm) -> Option<Trip> {
    let raised = alarm.state == AlarmState::Raised && is_trip(alarm);
    let evidence = alarm.evidence.first().filter(|_| raised)?;
    Some(Trip { feature: evidence.feature, value: evidence.value, limit: evidence.limit })
}

fn fresh_id() -> Option<u64> {
    getrandom::u64().ok()
}

/// A person waits no longer for what they asked.
const COMMAND_LIFE: Micros = Micros::from_secs(60);
/// So long a node may be away and still hear of maintenance.
const EVENT_LIFE: Micros = Micros::from_secs(7 * 86_400);
