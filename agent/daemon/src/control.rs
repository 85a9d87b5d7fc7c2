//! What the aggregator asks for: plans (fetch, verify, install), commands, events.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bytes::Bytes;
use kilter_types::{Clock as _, DeviceId, Digest, Event, Generation, Manifest, Name, Payload, Role};
use kilter_uplink::{Fetcher, Progress};
use kilter_wire::frame::{Kind, OVERHEAD_BYTES};
use kilter_wire::{Chunk, Command, CommandKind, CommandResult, Down, Outcome, Plan, Up, frame};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::board::Board;
use crate::clock::SystemClock;
use crate::machine::{Install, Order};
use crate::models::{Candidate, Refusal, Store, Wanted, assign, check_manifest, check_plan};
use crate::recorder::Message;

/// What the control is made of.
pub(crate) struct Control {
    pub(crate) store: Store,
    pub(crate) machines: Vec<Candidate>,
    pub(crate) orders: Vec<SyncSender<Order>>,
    pub(crate) device: DeviceId,
    pub(crate) key: [u8; 32],
    pub(crate) outgoing: mpsc::Sender<Vec<u8>>,
    pub(crate) recorder: SyncSender<Message>,
    pub(crate) board: Board,
    pub(crate) clock: SystemClock,
    pub(crate) fetch_bytes: u32,
    pub(crate) work: Work,
}

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Work {
    generation: Generation,
    wanted: Vec<Wanted>,
    fetcher: Option<Fetcher>,
    /// The aggregator did not have it, or it came damaged: asked for again after a while.
    paused_until_us: u64,
    damaged: Vec<Digest>,
    done: Vec<u64>,
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
    pub(crate) async fn run(mut self, mut downs: mpsc::Receiver<Bytes>, mut links: watch::Receiver<u64>) {
        loop {
            self.advance().await;
            tokio::select! {
                down = downs.recv() => match down {
                    Some(frame) => self.take(&frame),
                    None => return,
                },
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
            Ok(Down::Event { point, event }) => self.tell(&point.asset, || Order::Event(event.clone())),
            Ok(Down::Config(_)) => warn!("configuration from the aggregator is not taken: this agent follows its file"),
            Ok(Down::Ack(_) | Down::TimeReply(_)) => {}
            Err(error) => warn!(%error, "a message from the aggregator can't be read"),
        }
    }

    /// Follows a plan; `fresh` is its frame, `None` for the one that was followed before a restart.
    fn take_plan(&mut self, plan: &Plan<'_>, fresh: Option<&[u8]>) {
        let last = if fresh.is_some() { self.work.generation } else { Generation(plan.generation.0.saturating_sub(1)) };
        let manifests = match check_plan(plan, &self.device, &self.key, last) {
            Ok(manifests) => manifests,
            Err(Refusal::Generation { found, last }) if found == last => return,
            Err(refusal) => {
                error!(generation = plan.generation.0, reason = %refusal, "plan refused");
                self.board.lock().plans_refused += 1;
                let digests = plan.models.iter().filter_map(|model| model.verify(&self.key).ok()).map(|m| m.digest);
                let model = digests.into_iter().next().unwrap_or(Digest::NONE);
                return self.refuse(0, model, refusal.word());
            }
        };
        if let Some(frame) = fresh
            && let Err(error) = self.store.save_plan(frame)
        {
            // Following it without remembering it would let an older one in after a restart.
            return error!(%error, generation = plan.generation.0, "plan not followed: it can't be saved");
        }
        info!(generation = plan.generation.0, models = plan.models.len(), "plan");
        self.work.generation = plan.generation;
        self.board.lock().generation = plan.generation;
        let mut good: Vec<Manifest> = Vec::new();
        for manifest in manifests {
            match manifest {
                Ok(manifest) => good.push(manifest),
                Err(refusal) => {
                    error!(reason = %refusal, "model refused");
                    self.refuse(0, Digest::NONE, refusal.word());
                }
            }
        }
        let wanted = assign(&self.machines, &good);
        self.remove_unwanted(&wanted);
        self.work.damaged.clear();
        self.work.wanted = wanted.into_iter().filter(|wanted| self.is_to_do(wanted, fresh.is_some())).collect();
        let digests: Vec<Digest> = self.work.wanted.iter().map(|wanted| wanted.manifest.digest).collect();
        self.work.fetcher = self.work.fetcher.take().filter(|fetcher| digests.contains(&fetcher.digest()));
        self.store.tidy(&digests);
        (0..self.machines.len()).for_each(|machine| self.report(machine));
    }

    /// `false` when it runs already or must not.
    fn is_to_do(&self, wanted: &Wanted, fresh: bool) -> bool {
        let (best, uncertainty) = self.clock.best();
        let asset = &self.machines[wanted.machine].asset;
        let follows = self.store.may_follow(asset, &wanted.manifest);
        if follows == Ok(false) {
            if let Err(error) = self.store.renew(asset, &wanted.manifest) {
                error!(%asset, %error, "model state not saved");
            }
            let (role, generation, expires) =
                (wanted.manifest.role, wanted.manifest.generation, wanted.manifest.expires);
            self.board.machine(wanted.machine, |machine| {
                if let Some(model) = machine.models.iter_mut().find(|model| model.running.role == role) {
                    (model.running.generation, model.expires) = (generation, expires);
                }
            });
            return false;
        }
        let refusal = follows.and_then(|_| check_manifest(&wanted.manifest, best, uncertainty));
        if let Err(refusal) = &refusal {
            error!(%asset, model = %wanted.manifest.digest, reason = %refusal, "model refused");
            if fresh {
                self.refuse(wanted.machine, wanted.manifest.digest, refusal.word());
            }
        }
        refusal.is_ok()
    }

    /// Models that the plan does not name are to go.
    fn remove_unwanted(&self, wanted: &[Wanted]) {
        for (machine, candidate) in self.machines.iter().enumerate() {
            for role in [Role::Leader, Role::Shadow] {
                let named = wanted.iter().any(|wanted| wanted.machine == machine && wanted.manifest.role == role);
                if named {
                    continue;
                }
                if let Err(error) = self.store.clear(&candidate.asset, role) {
                    error!(asset = %candidate.asset, %error, "model state not saved");
                }
                self.order(machine, Order::Remove(role));
            }
        }
    }

    /// The next step: fetch what is missing, install what is here.
    async fn advance(&mut self) {
        let now = self.clock.monotonic();
        let mut fetching = self.work.fetcher.is_some();
        for wanted in std::mem::take(&mut self.work.wanted) {
            let digest = wanted.manifest.digest;
            match self.store.artifact(digest) {
                Some(bytes) => self.install(&wanted, bytes).await,
                None => {
                    if !fetching && now.0 >= self.work.paused_until_us {
                        let have = self.store.part_bytes(digest);
                        self.work.fetcher =
                            Some(Fetcher::new(digest, wanted.manifest.size_bytes, have, self.fetch_bytes));
                        fetching = true;
                    }
                    self.work.wanted.push(wanted);
                }
            }
        }
        if let Some(fetcher) = &mut self.work.fetcher {
            if fetcher.is_complete() {
                self.finish_fetch();
            } else if let Some(fetch) = fetcher.poll(now) {
                self.send(&Up::Fetch(fetch));
            }
        }
    }

    fn take_chunk(&mut self, chunk: &Chunk<'_>) {
        let Some(fetcher) = &mut self.work.fetcher else { return };
        let digest = fetcher.digest();
        let kept = match fetcher.handle_chunk(chunk) {
            Progress::Ignored => return,
            Progress::Part(bytes) => self.store.append(digest, bytes).map(|()| false),
            Progress::Last(bytes) => self.store.append(digest, bytes).map(|()| true),
            Progress::Unavailable => {
                warn!(model = %digest, "the aggregator does not have this model");
                return self.pause_fetch();
            }
        };
        match kept {
            Ok(true) => self.finish_fetch(),
            Ok(false) => {}
            Err(error) => {
                error!(model = %digest, %error, "model download not written");
                self.pause_fetch();
            }
        }
    }

    fn finish_fetch(&mut self) {
        let Some(fetcher) = self.work.fetcher.take() else { return };
        let digest = fetcher.digest();
        match self.store.finish(digest) {
            Ok(true) => info!(model = %digest, "model fetched"),
            Ok(false) => {
                error!(model = %digest, "model refused: what came has another digest than was signed");
                self.pause_fetch();
                if !self.work.damaged.contains(&digest) {
                    self.work.damaged.push(digest);
                    let machines: Vec<usize> = self
                        .work
                        .wanted
                        .iter()
                        .filter(|wanted| wanted.manifest.digest == digest)
                        .map(|wanted| wanted.machine)
                        .collect();
                    machines.into_iter().for_each(|machine| self.refuse(machine, digest, "digest"));
                }
            }
            Err(error) => {
                error!(model = %digest, %error, "model download not written");
                self.pause_fetch();
            }
        }
    }

    fn pause_fetch(&mut self) {
        self.work.fetcher = None;
        self.work.paused_until_us = self.clock.monotonic().0 + PAUSE_US;
    }

    /// Into the slot that does not run, then onto the machine between two windows; only what runs is confirmed.
    async fn install(&self, wanted: &Wanted, bytes: Vec<u8>) {
        let (manifest, asset) = (&wanted.manifest, &self.machines[wanted.machine].asset);
        if let Err(error) = self.store.stage(asset, manifest, &bytes) {
            return error!(%asset, model = %manifest.digest, %error, "model not written");
        }
        let (digest, generation, expires) = (manifest.digest, manifest.generation, manifest.expires);
        let install = Install { role: manifest.role, bytes, digest, generation, expires };
        let (reply, answer) = oneshot::channel();
        if !self.order(wanted.machine, Order::Install(install, reply)) {
            return;
        }
        match tokio::time::timeout(INSTALL_TIMEOUT, answer).await {
            Ok(Ok(Ok(()))) => {
                if let Err(error) = self.store.confirm(asset, manifest) {
                    error!(%asset, model = %digest, %error, "model runs, but a restart will not know it");
                }
            }
            // The machine has told the refusal itself.
            Ok(Ok(Err(_))) => {}
            Ok(Err(_)) | Err(_) => warn!(%asset, model = %digest, "the machine did not take the model in time"),
        }
        self.report(wanted.machine);
    }

    fn take_command(&mut self, command: &Command) {
        let (best, uncertainty) = self.clock.best();
        let outcome = if self.work.done.contains(&command.id) {
            Outcome::Done
        } else if best - uncertainty > command.expires {
            Outcome::Expired
        } else {
            match &command.kind {
                CommandKind::Flush => {
                    // Without room it is being written anyway.
                    let _ = self.recorder.try_send(Message::Flush);
                    Outcome::Done
                }
                CommandKind::Recommission { asset } | CommandKind::Reset { asset } => {
                    let place = self.machines.iter().position(|machine| machine.asset == *asset);
                    let told = place.is_some_and(|place| self.order(place, Order::Command(command.kind.clone())));
                    if told { Outcome::Done } else { Outcome::Refused }
                }
            }
        };
        info!(id = command.id, kind = ?command.kind, ?outcome, "command");
        self.work.done.push(command.id);
        if self.work.done.len() > MOST_DONE {
            self.work.done.remove(0);
        }
        self.send(&Up::CommandResult(CommandResult { id: command.id, outcome }));
    }

    fn tell(&self, asset: &Name, order: impl Fn() -> Order) {
        match self.machines.iter().position(|machine| machine.asset == *asset) {
            Some(place) => drop(self.order(place, order())),
            None => warn!(%asset, "an event for a machine that is not here"),
        }
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

const PAUSE_US: u64 = 15_000_000;
const INSTALL_TIMEOUT: Duration = Duration::from_secs(30);
const MOST_DONE: usize = 64;
