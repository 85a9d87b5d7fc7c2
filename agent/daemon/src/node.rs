//! A machine whose monitor runs on a node: this thread carries the node's records to the recorder and the agent's orders to it.
//!
//! The origin of every record stays the node: point, epoch and seq are its own. What the line lost becomes a gap. A model that
//! the aggregator planned for this machine is offered with its signed manifest, which the node checks itself, and served part
//! by part. The node's own status ends the offer: once it says that the model runs and has proven itself, the control is told and
//! remembers it over a restart. Nothing is offered before the node has said what it runs, nor again after it refused.

use std::sync::mpsc::Receiver;

use kilter_source::{Heard, LineTurn, Nodes, Now, SerialLine, Stop, encode};
use kilter_types::{
    Class, Clock as _, Digest, Epoch, Event, Monotonic, Name, Payload, Record, Role, RunningModel, Severity,
};
use kilter_wire::frame::{Kind, Message as Framed};
use kilter_wire::node::{NodeDown, NodeSettings, NodeStatus};
use kilter_wire::{Chunk, Command, CommandResult, Down, Fetch, SignedManifest};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::board::Model;
use crate::checkpoint::Checkpoint;
use crate::clock::SystemClock;
use crate::machine::{Install, Order, Outlet};
use crate::recorder::Message;
use crate::standing::Standing;

/// What a node's thread is made of.
pub(crate) struct Parts {
    pub(crate) place: usize,
    pub(crate) asset: Name,
    pub(crate) line: SerialLine,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) orders: Receiver<Order>,
    pub(crate) words: mpsc::Sender<Word>,
    pub(crate) outlet: Outlet,
    pub(crate) clock: SystemClock,
    pub(crate) checkpoint_us: u64,
    pub(crate) settings: NodeSettings,
    /// The model that the node confirmed before the restart: a node that has lost it gets it again.
    pub(crate) offered: Option<Install>,
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
    /// What the node said last, since its start.
    status: Option<NodeStatus>,
    checkpoint_due: Monotonic,
    changed: bool,
    said_error: String,
}

/// A model that the node shall run.
struct Offer {
    install: Install,
    due: Monotonic,
    /// The control knows that the node has confirmed it.
    confirmed: bool,
}

impl Carrier {
    /// Goes on behind the records that came before the restart.
    pub(crate) fn new(mut parts: Parts) -> Self {
        let kept = parts.checkpoint.as_ref().map_or(&[][..], |checkpoint| &checkpoint.snapshot);
        let last: Vec<(u64, u8, u64)> = serde_json::from_slice(kept).unwrap_or_default();
        let known = |(epoch, class, seq)| Class::from_u8(class).map(|class| (Epoch(epoch), class, seq));
        let now = parts.clock.monotonic();
        // What a node holds latched it holds itself.
        parts.outlet.board.machine(parts.place, |machine| machine.known = true);
        let offer = parts.offered.take().map(|install| Offer { install, due: now, confirmed: true });
        Self {
            nodes: Nodes::resume(last.into_iter().filter_map(known)),
            epoch: None,
            offer,
            status: None,
            checkpoint_due: now,
            changed: false,
            said_error: String::new(),
            parts,
        }
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
                    if self.epoch.replace(hello.epoch) != Some(hello.epoch) {
                        info!(asset = %self.parts.asset, device = %hello.device, epoch = hello.epoch.0, "node on the line");
                        self.status = None;
                    }
                }
                Heard::Record(record) => self.carry(*record),
                Heard::Lost(gap) => {
                    warn!(asset = %self.parts.asset, class = gap.class.as_str(), gap.first_seq, gap.last_seq, "node's records lost");
                    self.changed |= self.parts.outlet.recorder.send(Message::Lost(gap)).is_ok();
                }
                Heard::Status(status) => self.hear(*status),
                Heard::Fetch(fetch) => self.serve(&fetch),
                Heard::Result(result) => {
                    info!(id = result.id, outcome = ?result.outcome, "node's command ended");
                    // Without room or an aggregator nobody waits for it: a command that stays unanswered is repeated.
                    let _ = self.parts.words.try_send(Word::Ended(result));
                }
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
                outlet.actions.alarm(asset, &record.point.point, at, alarm);
                outlet.board.machine(*place, |machine| {
                    machine.alarms += 1;
                    let cleared = alarm.state == kilter_types::AlarmState::Cleared;
                    machine.summary.severity = if cleared { Severity::Healthy } else { alarm.severity };
                    machine.summary.cause = alarm.cause;
                });
            }
            Payload::Score(score) => {
                outlet.board.machine(*place, |machine| machine.summary.score = Some((score.anomaly, score.threshold)));
            }
            Payload::Event(Event::ModelRefused { model, reason }) => {
                warn!(%asset, %model, %reason, "the node refused a model");
                let now = self.parts.clock.monotonic();
                if let Some(offer) = self.offer.take_if(|offer| [offer.install.digest, Digest::NONE].contains(model)) {
                    // What came damaged may come whole; every other reason stands until there is another plan.
                    let again = DAMAGED.contains(&reason.as_str());
                    self.offer = again.then_some(Offer { due: Monotonic(now.0 + DAMAGED_US), ..offer });
                }
            }
            _ => {}
        }
        self.changed |= self.parts.outlet.recorder.send(Message::Carried(Box::new(record))).is_ok();
    }

    /// What the node says of itself: shown, reported when it runs another model, and the end of an offer that it has confirmed.
    fn hear(&mut self, status: NodeStatus) {
        let Parts { place, asset, outlet, words, settings, .. } = &self.parts;
        info!(
            %asset, boots = status.faults.boots, watchdog = status.faults.watchdog, panics = status.faults.panics,
            lost_samples = status.lost_samples, on_trial = status.on_trial, settings = status.settings,
            charge_uah_per_day = status.charge_uah_per_day, "node's status"
        );
        let before = self.status.as_ref().map(|before| before.model);
        if before != Some(status.model) {
            let running = status.model.map(|(digest, generation)| RunningModel {
                digest,
                role: Role::Leader,
                generation,
                expired: false,
                cost_us: 0.0,
            });
            let offered = self.offer.as_ref().filter(|offer| running.is_some_and(|r| r.digest == offer.install.digest));
            let expires = offered.map_or(kilter_types::Micros(i64::MAX), |offer| offer.install.expires);
            outlet.board.machine(*place, |machine| {
                machine.model(Role::Leader, running.map(|running| Model { running, expires }));
            });
            let _ = outlet.recorder.try_send(Message::Report(*place));
        }
        if let Some(offer) = &mut self.offer
            && !status.on_trial
            && !offer.confirmed
            && status.model.is_some_and(|(digest, _)| digest == offer.install.digest)
        {
            let word = Word::Confirmed { machine: *place, digest: offer.install.digest };
            offer.confirmed = words.try_send(word).is_ok();
        }
        outlet.board.machine(*place, |machine| machine.node = Some(status.clone()));
        let (wanted, holds) = (*settings, status.settings);
        self.status = Some(status);
        if wanted.generation > holds {
            info!(asset = %self.parts.asset, generation = wanted.generation, "settings for the node");
            self.send(Kind::NodeDown, &NodeDown::Settings(wanted));
        }
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
            Order::Command(id, kind) => {
                let expires = self.parts.clock.best().0 + COMMAND_LIFE;
                self.send(Kind::Down, &Down::Command(Command { id, expires, kind }));
            }
            Order::Event(_) => warn!(asset = %self.parts.asset, "an event for a node is not passed on"),
        }
    }

    /// Offers the model again while the node runs another, and checkpoints.
    fn keep_up(&mut self) {
        let now = self.parts.clock.monotonic();
        if let (Some(offer), Some(status)) = (&mut self.offer, &self.status)
            && now >= offer.due
            && !status.on_trial
            && status.model.map(|(digest, _)| digest) != Some(offer.install.digest)
        {
            offer.due = Monotonic(now.0 + OFFER_US);
            let digest = offer.install.digest;
            if let Some((manifest, signature)) = offer.install.signed.clone() {
                info!(asset = %self.parts.asset, model = %digest, "model offered to the node");
                let signed = SignedManifest { manifest: &manifest, signature: &signature };
                self.send(Kind::NodeDown, &NodeDown::Model(signed));
            }
        }
        if now >= self.checkpoint_due {
            self.checkpoint_due = Monotonic(now.0 + self.parts.checkpoint_us);
            self.checkpoint();
        }
    }

    fn serve(&mut self, fetch: &Fetch) {
        let offered = self.offer.as_mut().filter(|offer| offer.install.digest == fetch.digest);
        let Some(offer) = offered else { return };
        // It is on its way: no need to offer it meanwhile.
        offer.due = Monotonic(self.parts.clock.monotonic().0 + OFFER_US);
        let bytes = &offer.install.bytes;
        let from = (fetch.offset as usize).min(bytes.len());
        let part = bytes[from..(from + fetch.len as usize).min(bytes.len())].to_vec();
        let total = u32::try_from(bytes.len()).unwrap_or(0);
        let chunk = Chunk { digest: fetch.digest, offset: fetch.offset, total, bytes: &part };
        self.send(Kind::Down, &Down::Chunk(chunk));
    }

    fn send<T: Framed>(&mut self, kind: Kind, message: &T) {
        let Some(bytes) = encode(kind, message) else { return };
        if let Err(error) = self.parts.line.write(&bytes) {
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
            let last: Vec<(u64, u8, u64)> =
                self.nodes.last().into_iter().map(|(epoch, class, seq)| (epoch.0, class as u8, seq)).collect();
            Checkpoint {
                positions: Vec::new(),
                open: Standing::default(),
                snapshot: serde_json::to_vec(&last).unwrap_or_default(),
            }
        });
        let machine = self.parts.place;
        self.changed &= self.parts.outlet.recorder.try_send(Message::Checkpoint { machine, checkpoint }).is_err();
    }
}

const OFFER_US: u64 = 15_000_000;
/// Reasons of a node that speak of what came, not of what was planned.
const DAMAGED: [&str; 3] = ["digest", "order", "flash"];
const DAMAGED_US: u64 = 300_000_000;
const COMMAND_LIFE: kilter_types::Micros = kilter_types::Micros::from_secs(300);
