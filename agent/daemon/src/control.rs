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
use crate::node::Word;
use crate::recorder::Message;

/// What the control is made of.
pub(crate) struct Control {
    pub(crate) store: Store,
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
    pub(crate) async fn run(
        mut self,
        mut downs: mpsc::Receiver<Bytes>,
        mut links: watch::Receiver<u64>,
        mut words: mpsc::Receiver<Word>,
    ) {
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
            Ok(Down::Event { point, event }) => self.tell(&point.asset, || Order::Event(event.clone())),
            Ok(Down::Config(config)) => self.refuse_config(&config),
            Ok(Down::Ack(_) | Down::TimeReply(_) | Down::Welcome(_)) => {}
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
        let mut wanted = assign(&self.machines, &good);
        // A node has room for one model.
        wanted.retain(|wanted| wanted.manifest.role == Role::Leader || !self.is_node(wanted.machine));
        self.remove_unwanted(&wanted);
        self.work.damaged.clear();
        self.work.offered.clear();
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
                Some(bytes) if self.is_node(wanted.machine) => self.offer(wanted, bytes),
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
        let own = manifest.key.asset.is_some();
        let signed = self.store.signed(digest, &self.key);
        let install = Install { role: manifest.role, bytes, digest, generation, expires, own, signed };
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

    /// A node takes its time: it fetches, verifies and tries the model, and its word ends the offer.
    fn offer(&mut self, wanted: Wanted, bytes: Vec<u8>) {
        let (manifest, asset) = (&wanted.manifest, &self.machines[wanted.machine].asset);
        if let Err(error) = self.store.stage(asset, manifest, &bytes) {
            return error!(%asset, model = %manifest.digest, %error, "model not written");
        }
        let Manifest { digest, generation, expires, role, .. } = *manifest;
        let own = manifest.key.asset.is_some();
        let signed = self.store.signed(digest, &self.key);
        let install = Install { role, bytes, digest, generation, expires, own, signed };
        // Its answer is no news: what counts comes as a word later.
        let (reply, _) = oneshot::channel();
        if self.order(wanted.machine, Order::Install(install, reply)) {
            self.work.offered.push(wanted);
        } else {
            self.work.wanted.push(wanted);
        }
    }

    /// What a node says that somebody waits for.
    fn take_word(&mut self, word: Word) {
        match word {
            Word::Confirmed { machine, digest } => {
                let same = |wanted: &Wanted| wanted.machine == machine && wanted.manifest.digest == digest;
                let Some(at) = self.work.offered.iter().position(same) else { return };
                let Wanted { manifest, .. } = self.work.offered.swap_remove(at);
                let asset = &self.machines[machine].asset;
                match self.store.confirm(asset, &manifest) {
                    Ok(()) => {
                        info!(%asset, model = %digest, generation = manifest.generation.0, "the node runs the model")
                    }
                    Err(error) => {
                        error!(%asset, model = %digest, %error, "model runs, but a restart will not know it");
                    }
                }
                self.report(machine);
            }
            Word::Ended(result) => self.send(&Up::CommandResult(result)),
        }
    }

    /// Settings are not changed from afar: the message is not signed, and thresholds and trips are the plant's own. What can be asked
    /// for from afar are commands, events and signed models. The answer names the configuration by its generation.
    fn refuse_config(&self, config: &kilter_wire::Config<'_>) {
        warn!(generation = config.generation.0, "configuration from afar refused: this agent follows its file");
        self.board.lock().configs_refused += 1;
        self.send(&Up::CommandResult(CommandResult { id: config.generation.0, outcome: Outcome::Refused }));
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
                CommandKind::Recommission { asset } | CommandKind::Reset { asset } | CommandKind::Clip { asset } => {
                    let place = self.machines.iter().position(|machine| machine.asset == *asset);
                    let order = || Order::Command(command.id, command.kind.clone());
                    let told = place.is_some_and(|place| self.order(place, order()));
                    if told && place.is_some_and(|place| self.is_node(place)) {
                        // The node does it once, and says itself how it ended.
                        return info!(id = command.id, kind = ?command.kind, "command for a node");
                    }
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

const PAUSE_US: u64 = 15_000_000;
const INSTALL_TIMEOUT: Duration = Duration::from_secs(30);
const MOST_DONE: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::action::Actions;
    use crate::machine::{Machine, Outlet, Parts};
    use kilter_infer::{Body, Draft, Range, ResetRule, Scratch, State};
    use kilter_monitor::{ChannelConfig, ChannelKind, ConfigError, GroupConfig, MachineConfig};
    use kilter_signal::table::{self, at};
    use kilter_source::{Item, Source, SourceError, Stop};
    use kilter_types::{ChannelId, GroupKind, Hertz, Micros, ModelKey, Unit};
    use kilter_wire::{SignedManifest, sign};

    const SECRET: [u8; 32] = [9; 32];

    /// A sensor that never says anything.
    struct Silent(Stop);

    impl Source for Silent {
        fn next(&mut self) -> Result<Item<'_>, SourceError> {
            self.0.wait(Duration::from_millis(1));
            Ok(Item::Idle)
        }
    }

    struct House {
        control: Control,
        fetches: mpsc::Receiver<Vec<u8>>,
        recorded: Receiver<Message>,
        stop: Stop,
        thread: std::thread::JoinHandle<()>,
        _dir: tempfile::TempDir,
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect("a good name")
    }

    fn house() -> House {
        let dir = tempfile::tempdir().expect("a folder");
        let (recorder, recorded) = sync_channel(64);
        let board = Board::new(vec![(name("pump-1"), name("pump"))]);
        let clock = SystemClock::new(Micros::from_secs(1));
        let stop = Stop::default();
        let mut config = MachineConfig::new(name("pump"));
        let kind = ChannelKind::Vibration { rate: Hertz(1024.0) };
        config.channels.push(ChannelConfig { name: name("de"), unit: Unit::G, kind }).expect("it fits");
        let channels = heapless::Vec::from_slice(&[ChannelId(0)]).expect("it fits");
        let (kind, window, hop) = (GroupKind::Vibration, 1024, 1024);
        config.groups.push(GroupConfig { kind, point: name("de"), channels, window, hop }).expect("it fits");
        let actions = Arc::new(Actions::new(crate::config::Alarm::default(), board.clone()));
        let (orders, taken) = sync_channel(8);
        let outlet = Outlet { recorder: recorder.clone(), overruns: Arc::default(), board: board.clone(), actions };
        let parts = Parts {
            place: 0,
            asset: name("pump-1"),
            config,
            checkpoint: None,
            alarms: Vec::new(),
            orders: taken,
            outlet,
            clock: clock.clone(),
            checkpoint_us: 1_000_000,
            clips: crate::clip::Clips::new(crate::clip::ClipConfig::default(), Vec::new(), dir.path().join("clips")),
        };
        let source = |_: &[u64]| Ok::<Box<dyn Source>, ConfigError>(Box::new(Silent(stop.clone())));
        let (machine, _) = Machine::new(parts, Vec::new(), source).expect("a good machine");
        let until = stop.clone();
        let thread = std::thread::spawn(move || machine.run(&until));
        let (outgoing, fetches) = mpsc::channel(16);
        let control = Control {
            store: Store::new(dir.path()),
            machines: vec![Candidate { asset: name("pump-1"), class: name("pump") }],
            orders: vec![orders],
            nodes: vec![false],
            device: DeviceId::new("edge-1").expect("a good id"),
            key: sign::public_key(&SECRET),
            outgoing,
            recorder,
            board,
            clock,
            fetch_bytes: 100,
            work: Work::default(),
        };
        House { control, fetches, recorded, stop, thread, _dir: dir }
    }

    /// A detector on RMS and kurtosis; `threshold` tells one from another.
    fn artifact(threshold: f32) -> Vec<u8> {
        let features = [at::RMS, at::KURTOSIS].map(|place| table::VIBRATION[place].reference());
        let draft = Draft {
            group: GroupKind::Vibration,
            features: &features,
            mean: &[1.0, 3.0],
            inverse_scale: &[2.0, 1.0],
            range: &[Range { low: 0.0, high: 2.0 }, Range { low: 2.0, high: 5.0 }],
            weight: &[0.5, 0.5],
            regimes: &[],
            threshold,
            input_clip: 10.0,
            residual_clip: 10.0,
            sequence_len: 1,
            reset: ResetRule::ALWAYS,
            body: Body::Statistic { ewma: 0.5 },
            golden: &[1.0, 3.0, 2.0, 4.0],
        };
        let mut bytes = vec![0; draft.size_bytes()];
        let (mut state, mut scratch) = (State::<1024>::new(), Scratch::new());
        draft.write(&mut bytes, &mut state, &mut scratch).expect("a good draft");
        bytes
    }

    /// The frame of a signed plan that has this one leader.
    fn plan(bytes: &[u8], generation: u64, expires: Micros) -> Vec<u8> {
        let manifest = Manifest {
            digest: Digest::of(bytes),
            size_bytes: bytes.len() as u32,
            name: name("anomaly"),
            version: 1,
            key: ModelKey { task: name("anomaly"), asset_class: name("pump"), asset: None },
            role: Role::Leader,
            features: heapless::Vec::new(),
            minimum_agent: 1,
            expires,
            generation: Generation(generation),
        };
        let mut room = [0; 1024];
        let (manifest, signature) = sign::sign_manifest(&manifest, &SECRET, &mut room).expect("it fits");
        let device = DeviceId::new("edge-1").expect("a good id");
        let model = SignedManifest { manifest, signature: &signature };
        let models = heapless::Vec::from_slice(&[model]).expect("it fits");
        let signed = sign::sign_plan(&device, Generation(generation), [&signature[..]].into_iter(), &SECRET);
        let plan = Plan { device, generation: Generation(generation), models, signature: &signed };
        let mut out = vec![0; 4096];
        frame::encode(Kind::Down, &Down::Plan(plan), &mut out).expect("it fits").to_vec()
    }

    /// The aggregator answers every fetch from `bytes` under `digest` until the node asks no more.
    async fn serve(house: &mut House, digest: Digest, bytes: &[u8]) -> usize {
        let mut parts = 0;
        loop {
            house.control.advance().await;
            let Ok(frame) = house.fetches.try_recv() else { return parts };
            let Ok(Up::Fetch(fetch)) = frame::decode(Kind::Up, &frame) else { continue };
            assert_eq!(fetch.digest, digest);
            let end = bytes.len().min((fetch.offset + fetch.len) as usize);
            let part = &bytes[fetch.offset as usize..end];
            house.control.take_chunk(&Chunk { digest, offset: fetch.offset, total: bytes.len() as u32, bytes: part });
            parts += 1;
        }
    }

    /// Stops the machine and tells the events that were recorded.
    fn events(house: House) -> Vec<Event> {
        house.stop.set();
        house.thread.join().expect("it ends well");
        let event = |message| match message {
            Message::Said(said) => Some(said.payload),
            Message::About { payload, .. } => Some(payload),
            Message::Checkpoint { .. }
            | Message::Carried(_)
            | Message::Lost(_)
            | Message::Report(_)
            | Message::Flush => None,
        };
        let payloads = house.recorded.try_iter().filter_map(event);
        payloads.filter_map(|payload| if let Payload::Event(event) = payload { Some(event) } else { None }).collect()
    }

    #[tokio::test]
    async fn a_signed_model_is_fetched_in_parts_installed_and_told_and_the_next_one_replaces_it() {
        let mut house = house();
        let (one, two) = (artifact(3.0), artifact(4.0));
        house.control.take(&Bytes::from(plan(&one, 1, Micros(i64::MAX))));
        let parts = serve(&mut house, Digest::of(&one), &one).await;
        assert_eq!(parts, one.len().div_ceil(100));
        house.control.take(&Bytes::from(plan(&two, 2, Micros(i64::MAX))));
        serve(&mut house, Digest::of(&two), &two).await;
        let kept = house.control.store.candidates(&name("pump-1"));
        assert_eq!(kept.iter().map(|model| model.digest).collect::<Vec<_>>(), [Digest::of(&two), Digest::of(&one)]);
        let shown = house.control.board.lock().machines[0].models.clone();
        assert_eq!(shown.iter().map(|model| model.running.digest).collect::<Vec<_>>(), [Digest::of(&two)]);
        let switches: Vec<(Digest, Digest)> = events(house)
            .into_iter()
            .map(|event| match event {
                Event::ModelSwitched { from, to, .. } => (from, to),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(switches, [(Digest::NONE, Digest::of(&one)), (Digest::of(&one), Digest::of(&two))]);
    }

    #[tokio::test]
    async fn a_nodes_word_ends_the_offer_and_only_then_a_restart_knows_it() {
        let mut house = house();
        let (orders, taken) = sync_channel(8);
        (house.control.orders, house.control.nodes) = (vec![orders], vec![true]);
        let one = artifact(3.0);
        let digest = Digest::of(&one);
        house.control.take(&Bytes::from(plan(&one, 4, Micros(i64::MAX))));
        serve(&mut house, digest, &one).await;
        let offers = || taken.try_iter().filter(|order| matches!(order, Order::Install(..))).count();
        assert_eq!(offers(), 1);
        assert!(house.control.store.candidates(&name("pump-1")).is_empty(), "the node has not said that it runs");

        // Without its word a restart offers it again.
        house.control.work = Work::default();
        house.control.resume();
        serve(&mut house, digest, &one).await;
        assert_eq!(offers(), 1);

        house.control.take_word(Word::Confirmed { machine: 0, digest: Digest::of(b"another") });
        assert!(house.control.store.candidates(&name("pump-1")).is_empty(), "nobody asked about that one");
        house.control.take_word(Word::Confirmed { machine: 0, digest });
        let kept = house.control.store.candidates(&name("pump-1"));
        assert_eq!(kept.iter().map(|model| (model.digest, model.generation.0)).collect::<Vec<_>>(), [(digest, 4)]);
        house.control.work = Work::default();
        house.control.resume();
        serve(&mut house, digest, &one).await;
        assert_eq!(offers(), 0);
        events(house);
    }

    #[tokio::test]
    async fn settings_from_afar_are_refused_counted_and_answered_and_change_nothing() {
        let mut house = house();
        let config = kilter_wire::Config { generation: Generation(3), toml: "[[machine]]\nasset = \"pump-1\"" };
        let mut out = [0; 256];
        let frame = frame::encode(Kind::Down, &Down::Config(config), &mut out).expect("it fits").to_vec();
        house.control.take(&Bytes::from(frame));
        let answer = house.fetches.try_recv().expect("an answer");
        let refused = CommandResult { id: 3, outcome: Outcome::Refused };
        assert_eq!(frame::decode::<Up<'_>>(Kind::Up, &answer), Ok(Up::CommandResult(refused)));
        assert_eq!(house.control.board.lock().configs_refused, 1);
        assert!(events(house).is_empty());
    }

    #[tokio::test]
    async fn a_tampered_an_expired_an_irreproducible_and_a_replayed_model_leave_the_one_before_running() {
        let mut house = house();
        let good = artifact(3.0);
        house.control.take(&Bytes::from(plan(&good, 5, Micros(i64::MAX))));
        serve(&mut house, Digest::of(&good), &good).await;

        // Other bytes under the signed digest.
        let wanted = artifact(4.0);
        let mut tampered = wanted.clone();
        tampered[40] ^= 1;
        house.control.take(&Bytes::from(plan(&wanted, 6, Micros(i64::MAX))));
        serve(&mut house, Digest::of(&wanted), &tampered).await;
        // Past its date.
        house.control.take(&Bytes::from(plan(&artifact(5.0), 7, Micros(0))));
        serve(&mut house, Digest::NONE, &[]).await;
        // Golden windows that this kernel does not reproduce, well signed.
        let mut other = artifact(6.0);
        *other.last_mut().expect("bytes") ^= 1;
        house.control.work.paused_until_us = 0;
        house.control.take(&Bytes::from(plan(&other, 8, Micros(i64::MAX))));
        serve(&mut house, Digest::of(&other), &other).await;
        // An older plan once more.
        house.control.take(&Bytes::from(plan(&wanted, 6, Micros(i64::MAX))));
        serve(&mut house, Digest::NONE, &[]).await;

        let running = house.control.board.lock().machines[0].models[0].running.digest;
        assert_eq!(running, Digest::of(&good));
        assert_eq!(house.control.store.candidates(&name("pump-1"))[0].digest, Digest::of(&good));
        let refused: Vec<String> = events(house)
            .into_iter()
            .filter_map(|event| match event {
                Event::ModelRefused { reason, .. } => Some(reason.to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(refused.len(), 4, "{refused:?}");
        for word in ["digest", "expired", "not_reproducible", "old_generation"] {
            assert!(refused.iter().any(|reason| reason == word), "{word} in {refused:?}");
        }
    }
}
