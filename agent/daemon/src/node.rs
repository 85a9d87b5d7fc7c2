//! A machine whose monitor runs on a node: this thread carries the node's records to the recorder and the agent's orders to it.
//!
//! The origin of every record stays the node: point, epoch and seq are its own. What the line lost becomes a gap. A model that
//! the aggregator planned for this machine is offered with its signed manifest, which the node checks itself, and served part
//! by part until the node says that it runs.

use kilter_source::{Heard, LineTurn, Nodes, Now, SerialLine, Stop, encode};
use kilter_types::{Class, Clock as _, Digest, Epoch, Monotonic, Name, Payload, Record, Role, RunningModel, Severity};
use kilter_wire::frame::{Kind, Message as Framed};
use kilter_wire::node::{NodeDown, NodeStatus};
use kilter_wire::{Chunk, Command, Down, Fetch, SignedManifest};
use tracing::{info, warn};

use crate::board::Model;
use crate::checkpoint::Checkpoint;
use crate::clock::SystemClock;
use crate::machine::{Install, Order, Outlet};
use crate::recorder::Message;

/// What a node's thread is made of.
pub(crate) struct Parts {
    pub(crate) place: usize,
    pub(crate) asset: Name,
    pub(crate) line: SerialLine,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) orders: std::sync::mpsc::Receiver<Order>,
    pub(crate) outlet: Outlet,
    pub(crate) clock: SystemClock,
    pub(crate) checkpoint_us: u64,
}

/// One line and the machine behind it.
pub(crate) struct Carrier {
    parts: Parts,
    nodes: Nodes,
    /// The model that the node shall run, offered until it does.
    offered: Option<Install>,
    offer_due: Monotonic,
    runs: Option<Digest>,
    checkpoint_due: Monotonic,
    changed: bool,
    said_error: String,
}

impl Carrier {
    /// Goes on behind the records that came before the restart.
    pub(crate) fn new(parts: Parts) -> Self {
        let kept = parts.checkpoint.as_ref().map_or(&[][..], |checkpoint| &checkpoint.snapshot);
        let last: Vec<(u64, u8, u64)> = serde_json::from_slice(kept).unwrap_or_default();
        let known = |(epoch, class, seq)| Class::from_u8(class).map(|class| (Epoch(epoch), class, seq));
        let now = parts.clock.monotonic();
        Self {
            nodes: Nodes::resume(last.into_iter().filter_map(known)),
            offered: None,
            offer_due: now,
            runs: None,
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
                    info!(asset = %self.parts.asset, device = %hello.device, epoch = hello.epoch.0, "node on the line");
                }
                Heard::Record(record) => self.carry(*record),
                Heard::Lost(gap) => {
                    warn!(asset = %self.parts.asset, class = gap.class.as_str(), gap.first_seq, gap.last_seq, "node's records lost");
                    self.changed |= self.parts.outlet.recorder.send(Message::Lost(gap)).is_ok();
                }
                Heard::Status(status) => self.status(&status),
                Heard::Fetch(fetch) => self.serve(&fetch),
                Heard::Result(result) => info!(id = result.id, outcome = ?result.outcome, "node's command ended"),
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
            _ => {}
        }
        self.changed |= outlet.recorder.send(Message::Carried(Box::new(record))).is_ok();
    }

    fn status(&mut self, status: &NodeStatus) {
        let runs = status.model.map(|(digest, _)| digest);
        if runs != self.runs {
            self.runs = runs;
            let running = status.model.map(|(digest, generation)| RunningModel {
                digest,
                role: Role::Leader,
                generation,
                expired: false,
                cost_us: 0.0,
            });
            let expires = self.offered.as_ref().map_or(kilter_types::Micros(i64::MAX), |offered| offered.expires);
            self.parts.outlet.board.machine(self.parts.place, |machine| {
                machine.model(Role::Leader, running.map(|running| Model { running, expires }));
            });
        }
        info!(
            asset = %self.parts.asset, boots = status.faults.boots, watchdog = status.faults.watchdog,
            panics = status.faults.panics, lost_samples = status.lost_samples, on_trial = status.on_trial,
            charge_uah_per_day = status.charge_uah_per_day, "node's status"
        );
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Install(install, reply) => {
                let why =
                    if install.signed.is_some() { "on offer to the node" } else { "it came without its signature" };
                self.offered = Some(install);
                self.offer_due = Monotonic(0);
                // Not confirmed here: the node says what it runs, and after a restart the offer stands again.
                let _ = reply.send(Err(why.to_owned()));
            }
            // A node runs what it has until it is offered another.
            Order::Remove(_) => self.offered = None,
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
        if now >= self.offer_due {
            self.offer_due = Monotonic(now.0 + OFFER_US);
            let offered = self.offered.as_ref().filter(|offered| self.runs != Some(offered.digest));
            if let Some((manifest, signature)) = offered.and_then(|offered| offered.signed.clone()) {
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
        let Some(bytes) = self.offered.as_ref().filter(|offered| offered.digest == fetch.digest).map(|o| &o.bytes)
        else {
            return;
        };
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
            Checkpoint { positions: Vec::new(), snapshot: serde_json::to_vec(&last).unwrap_or_default() }
        });
        let machine = self.parts.place;
        self.changed &= self.parts.outlet.recorder.try_send(Message::Checkpoint { machine, checkpoint }).is_err();
    }
}

const OFFER_US: u64 = 15_000_000;
const COMMAND_LIFE: kilter_types::Micros = kilter_types::Micros::from_secs(300);
