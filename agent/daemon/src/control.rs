//! What the aggregator asks for: plans ([`plan`]), models ([`fetch`]), commands and events ([`command`]).

mod command;
mod done;
mod fetch;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bytes::Bytes;
use kilter_types::{DeviceId, Digest, Event, Generation, Name, Payload};
use kilter_uplink::Fetcher;
use kilter_wire::frame::{Kind, OVERHEAD_BYTES};
use kilter_wire::{Down, Up, frame};
use tokio::sync::{mpsc, watch};
use tracing::{error, warn};

use crate::board::Board;
use crate::clock::SystemClock;
use crate::machine::Order;
use crate::models::{Candidate, Store, Wanted};
use crate::node::Word;
use crate::recorder::Message;
pub(crate) use done::Done;

/// What the control is made of.
pub(crate) struct Control {
    pub(crate) store: Store,
    pub(crate) done: Done,
    pub(crate) machines: Vec<Candidate>,
    pub(crate) orders: Vec<SyncSender<Order>>,
    /// Which machines are watched by a node, which verifies, runs and confirms models itself.
    pub(crate) nodes: Vec<bool>,
    pub(crate) device: DeviceId,
    pub(crate) key: [u8; 32],
    pub(crate) outgoing: mpsc::Sender<Vec<u8>>,
    pub(crate) recorder: SyncSender<Message>,
    pub(crate) board: Board,
    pub(crate) clock: SystemClock,
    pub(crate) fetch_bytes: u32,
    /// Resets may come from afar.
    pub(crate) remote_reset: bool,
    pub(crate) work: Work,
}

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Work {
    generation: Generation,
    wanted: Vec<Wanted>,
    /// Handed to nodes that have not confirmed them yet.
    offered: Vec<Wanted>,
    fetcher: Option<Fetcher>,
    /// The aggregator did not have it, or it came damaged: asked for again after a while.
    paused_until_us: u64,
    damaged: Vec<Digest>,
}

impl Control {
    /// Takes up the plan that was followed before the restart.
    pub(crate) fn resume(&mut self) {
        let frame = match self.store.plan() {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(error) => return error!(%error, "the last plan can't be read"),
        };
        if let Ok(Down::Plan(plan)) = frame::decode::<Down>(Kind::Down, &frame) {
            self.take_plan(&plan, None);
        }
    }

    /// Runs until the aggregator's side is closed.
    pub(crate) async fn run(
        mut self,
        mut downs: mpsc::Receiver<Bytes>,
        mut links: watch::Receiver<u64>,
        mut words: mpsc::Receiver<Word>,
    ) {
        self.declare_room();
        loop {
            self.advance().await;
            tokio::select! {
                down = downs.recv() => match down {
                    Some(frame) => self.take(&frame),
                    None => return,
                },
                Some(word) = words.recv() => self.take_word(word),
                link = links.changed() => {
                    if link.is_err() {
                        return;
                    }
                    if let Some(fetcher) = &mut self.work.fetcher {
                        fetcher.handle_connected();
                    }
                    self.work.paused_until_us = 0;
                }
                () = crate::clock::pause(Duration::from_millis(500)) => {}
            }
        }
    }

    fn take(&mut self, bytes: &Bytes) {
        match frame::decode::<Down>(Kind::Down, bytes) {
            Ok(Down::Plan(plan)) => self.take_plan(&plan, Some(bytes)),
            Ok(Down::Chunk(chunk)) => self.take_chunk(&chunk),
            Ok(Down::Command(command)) => self.take_command(&command),
            Ok(Down::Event { point, event }) => self.take_event(&point, event),
            Ok(Down::Config(config)) => self.refuse_config(&config),
            Ok(Down::Ack(_) | Down::TimeReply(_) | Down::Welcome(_) | Down::Refetch(_)) => {}
            Err(error) => warn!(%error, "a message from the aggregator can't be read"),
        }
    }

    /// What a node says that somebody waits for.
    fn take_word(&mut self, word: Word) {
        match word {
            Word::Confirmed { machine, digest } => self.confirm(machine, digest),
            Word::Ended(result) => self.ended(result),
        }
    }

    fn is_node(&self, machine: usize) -> bool {
        self.nodes.get(machine).copied().unwrap_or(false)
    }

    fn order(&self, machine: usize, order: Order) -> bool {
        let told = self.orders.get(machine).is_some_and(|orders| orders.try_send(order).is_ok());
        if !told {
            error!(machine, "a machine takes no orders");
        }
        told
    }

    fn refuse(&self, machine: usize, model: Digest, word: &str) {
        if let Ok(reason) = Name::new(word) {
            let payload = Payload::Event(Event::ModelRefused { model, reason });
            let _ = self.recorder.try_send(Message::About { machine, payload });
        }
    }

    fn report(&self, machine: usize) {
        let _ = self.recorder.try_send(Message::Report(machine));
    }

    fn send(&self, message: &Up<'_>) {
        let mut bytes = [0; 256 + OVERHEAD_BYTES];
        if let Ok(frame) = frame::encode(Kind::Up, message, &mut bytes) {
            // Without room or link it is asked for again.
            let _ = self.outgoing.try_send(frame.to_vec());
        }
    }
}
