//! A whole fleet in one process: agents and aggregator as production cores, everything around them a model with faults.
//!
//! Each seed draws its own weather: how bad the links are, how often something is killed, loses power, is cut off or loses its
//! journal, how small the journals are. After the stated time the weather clears, nothing new is recorded, and within a few
//! hours everything that was promised must have come true.

mod agent;
mod lab;
mod record;
mod server;
mod truth;

use kilter_journal::model::MemoryFilesystem;
use kilter_types::Micros;
use thiserror::Error;

use crate::link::LinkConfig;
use crate::{Random, Scheduler, VirtualClock};
use agent::{Agent, End};
use lab::Lab;
use server::{Kept, Server};
use truth::{Broken, FNV, Lake, Truth, fnv};

/// How large a fleet, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetConfig {
    /// How many agents.
    pub agents: usize,
    /// How long they record and things go wrong.
    pub weather_us: u64,
    /// Between two bursts of records of one agent, on average.
    pub record_interval_us: u64,
    /// Frames may be lost or doubled, but each takes the same time on its way.
    pub steady_links: bool,
    /// A mistake in the shells, to show that it is noticed.
    pub plant: Option<Plant>,
}

/// Mistakes that can be planted around the production cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The agent counts as acknowledged what is appended and not yet synced.
    AgentAcksBeforeSync,
    /// The aggregator accepts what is appended, and syncs it within a second.
    AggregatorAcksBeforeSync,
    /// The agent takes an accepted mark for a committed one.
    ReleaseOnAccepted,
    /// The marks that a new journal begins with are one too far.
    DedupOffByOne,
    /// A commit carries the offset before its last entry.
    SeamOffByOne,
    /// A new journal begins with the marks of the lost one instead of the lake's.
    MarksOutliveJournal,
    /// A new journal begins with the marks that were published last, which a crash may have left behind the lake.
    StaleMarks,
    /// The agents' journals unlink segments before their ledger speaks for them.
    UnlinkBeforeLedger,
    /// A new journal begins with the marks of the few epochs that were first seen last: a node that starts again and again pushes out the
    /// epoch of its agent.
    ForgetByFirstSight,
    /// Rows that come again are put back without a look at what the lake holds.
    PutBackUnseen,
}

/// What a run did. Equal for equal seeds and configurations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Over every row of the lake and every number below.
    pub hash: u64,
    /// Events that happened.
    pub events: u64,
    /// Records that an agent's journal acknowledged.
    pub acknowledged: u64,
    /// Rows in the lake.
    pub rows: u64,
    /// Of them gap records.
    pub gaps: u64,
    /// Records that came more than once to the server that ran last.
    pub duplicates: u64,
    /// Ends of agents.
    pub agent_ends: u64,
    /// Ends of the aggregator.
    pub aggregator_ends: u64,
    /// Of them with the loss of its journal.
    pub journals_lost: u64,
    /// Commits to the lake.
    pub commits: u64,
    /// Partitions.
    pub partitions: u64,
    /// Connections that went silent because an address changed.
    pub rebinds: u64,
    /// Times that a disk was full.
    pub disks_full: u64,
    /// Journals of agents that a failed sync ended and that were opened again.
    pub reopened: u64,
    /// Second copies of agents.
    pub copies: u64,
    /// Older images of agents' disks that were put back.
    pub older_images: u64,
    /// Starts of nodes behind agents.
    pub node_starts: u64,
    /// Appends that found an agent's journal full with nothing to give up.
    pub full: u64,
    /// Rows that the lake lost after they were committed.
    pub lost_rows: u64,
    /// Of them those that came from the edge again; the others were told to be gone.
    pub restored_rows: u64,
    /// Rows whose solved time is farther from the truth than their bound says.
    pub misdated: u64,
    /// How long it took until everything was in the lake once the weather had cleared, in virtual microseconds.
    pub settled_us: u64,
}

impl Outcome {
    /// Adds another run's figures; the hash and the time to settle are the greatest of both.
    pub fn add(&mut self, other: &Self) {
        self.hash = self.hash.max(other.hash);
        self.settled_us = self.settled_us.max(other.settled_us);
        for (mine, theirs) in [
            (&mut self.events, other.events),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.rows, other.rows),
            (&mut self.gaps, other.gaps),
            (&mut self.duplicates, other.duplicates),
            (&mut self.agent_ends, other.agent_ends),
            (&mut self.aggregator_ends, other.aggregator_ends),
            (&mut self.journals_lost, other.journals_lost),
            (&mut self.commits, other.commits),
            (&mut self.partitions, other.partitions),
            (&mut self.rebinds, other.rebinds),
            (&mut self.disks_full, other.disks_full),
            (&mut self.reopened, other.reopened),
            (&mut self.copies, other.copies),
            (&mut self.older_images, other.older_images),
            (&mut self.node_starts, other.node_starts),
            (&mut self.full, other.full),
            (&mut self.lost_rows, other.lost_rows),
            (&mut self.restored_rows, other.restored_rows),
            (&mut self.misdated, other.misdated),
        ] {
            *mine += theirs;
        }
    }
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{invariant} broken by seed {seed} after {at_us} µs: {detail}")]
pub struct Violation {
    /// Ids of ARCHITECTURE.md.
    pub invariant: &'static str,
    /// What brings it back.
    pub seed: u64,
    /// When it showed, in microseconds of the world.
    pub at_us: u64,
    /// What was seen.
    pub detail: String,
}

/// What everyone in the world can reach.
pub(crate) struct Context {
    pub(crate) schedule: Scheduler<Event>,
    pub(crate) truth: Truth,
    pub(crate) lake: Lake,
    pub(crate) plant: Option<Plant>,
    pub(crate) full: u64,
    pub(crate) reopened: u64,
    pub(crate) older_images: u64,
}

/// What can happen. The second number is the start that it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Start(usize),
    Produce(usize),
    Sync(usize, u64),
    Wake(usize, u64),
    Connect(usize, u64),
    Up(usize),
    Down(usize),
    EndAgent(usize, u64),
    Image(usize),
    Copy(usize),
    Rebind(usize),
    FillDisk(usize),
    FreeDisk(usize),
    FillServer,
    FreeServer,
    Partition(usize),
    Heal(usize),
    Jump(usize),
    ServerStart,
    ServerSync(u64),
    EndServer(u64),
    Tick,
    Snapshot,
    LabStart(u64),
    LabTurn,
    Publish(u64),
    /// The lake loses rows of an agent.
    Lose(usize),
    /// The edge is asked for what is lost.
    Ask,
    Clear,
    Inspect,
}

/// A fleet and its world.
pub struct Fleet {
    seed: u64,
    config: FleetConfig,
    weather: Weather,
    world: Context,
    random: Random,
    /// The fleet, and behind it copies of some.
    agents: Vec<Agent>,
    partitioned: Vec<bool>,
    /// Which of the agents with one identity is connected.
    line: Vec<usize>,
    disk: MemoryFilesystem,
    journal_config: kilter_journal::Config,
    server: Option<Server>,
    lab: Option<Lab>,
    kept: Kept,
    boot: u64,
    sync_planned: bool,
    clear: bool,
    outcome: Outcome,
}

/// How often what goes wrong, in a million.
#[derive(Clone, Debug)]
struct Weather {
    link: LinkConfig,
    /// Per burst of records.
    end_agent_ppm: u32,
    /// Per burst of records.
    partition_ppm: u32,
    /// Per burst of records.
    rebind_ppm: u32,
    /// Per burst of records.
    fill_disk_ppm: u32,
    /// Per burst of records.
    fail_sync_ppm: u32,
    /// Per burst of records, of the node behind an agent that has one.
    start_node_ppm: u32,
    /// Per agent and run.
    copy_ppm: u32,
    /// Per frame at the aggregator.
    end_server_ppm: u32,
    /// Per end of the aggregator.
    lose_journal_ppm: u32,
    /// Per turn.
    end_lab_ppm: u32,
    lab_interval_us: u64,
}

impl Fleet {
    /// A fleet before its first event.
    pub fn new(seed: u64, config: FleetConfig) -> Self {
        let mut random = Random::new(seed, 1);
        let mut weather = Weather::draw(&mut random);
        if config.steady_links {
            (weather.link.jitter_us, weather.link.reorder_ppm) = (0, 0);
        }
        let schedule = Scheduler::new();
        let journal_bytes = [24 * 1024, 64 * 1024, 512 * 1024][random.below(3) as usize];
        let agents = (0..config.agents).map(|index| {
            let mut clock = VirtualClock::new(schedule.time(), random.between(0, 200) as i32 - 100);
            if random.below(2) == 0 {
                clock.set_wall(Micros::from_millis(random.below(2_000) as i64 - 1_000), Micros::from_secs(2));
            }
            let mut agent = Agent::new(index, seed, &weather.link, journal_bytes, clock);
            if config.plant == Some(Plant::UnlinkBeforeLedger) {
                agent.plant_unlink_before_ledger();
            }
            agent
        });
        let agents: Vec<Agent> = agents.collect();
        let journal_config = server::config([256 * 1024, 8 << 20][random.below(2) as usize]);
        let (truth, lake, plant) = (Truth::default(), Lake::default(), config.plant);
        let world = Context { schedule, truth, lake, plant, full: 0, reopened: 0, older_images: 0 };
        let mut fleet = Self {
            seed,
            weather,
            world,
            random,
            partitioned: vec![false; agents.len()],
            line: (0..agents.len()).collect(),
            agents,
            disk: MemoryFilesystem::new(),
            journal_config,
            server: None,
            lab: None,
            kept: Kept::default(),
            boot: 0,
            sync_planned: false,
            clear: false,
            outcome: Outcome::default(),
            config,
        };
        fleet.plan();
        fleet
    }

    /// Runs to the end; the same seed and configuration always end the same way.
    pub fn run(mut self) -> Result<Outcome, Violation> {
        let seed = self.seed;
        let run = self.until_settled();
        let at_us = self.world.now_us();
        match run {
            Ok(()) => Ok(self.finish()),
            Err(Broken { invariant, detail }) => Err(Violation { invariant, seed, at_us, detail }),
        }
    }

    fn plan(&mut self) {
        let schedule = &mut self.world.schedule;
        schedule.push(0, Event::ServerStart);
        schedule.push(0, Event::LabTurn);
        schedule.push(0, Event::Tick);
        schedule.push(0, Event::Snapshot);
        schedule.push(self.config.weather_us, Event::Clear);
        schedule.push(ASK_US, Event::Ask);
        // Drawn apart: the same seed has the same weather as without losses.
        let mut losses = Random::new(self.seed, 7);
        for agent in 0..self.agents.len() {
            schedule.push(losses.below(self.config.weather_us), Event::Lose(agent));
        }
        for agent in 0..self.agents.len() {
            schedule.push(self.random.below(5_000_000), Event::Start(agent));
            schedule.push(self.random.below(self.config.record_interval_us), Event::Produce(agent));
            schedule.push(self.random.below(self.config.weather_us), Event::Image(agent));
            schedule.push(self.random.below(self.config.weather_us), Event::Jump(agent));
            if self.random.chance_ppm(self.weather.copy_ppm) {
                schedule.push(self.random.below(self.config.weather_us), Event::Copy(agent));
            }
        }
        if self.random.chance_ppm(self.weather.fill_disk_ppm.saturating_mul(20)) {
            schedule.push(self.random.below(self.config.weather_us), Event::FillServer);
        }
    }

    fn until_settled(&mut self) -> Result<(), Broken> {
        while let Some(event) = self.world.schedule.jump() {
            self.outcome.events += 1;
            if matches!(event, Event::Inspect) && self.is_settled() {
                return self.world.truth.check_complete(&self.world.lake);
            }
            self.happen(event)?;
            self.deliver();
        }
        truth::broken("D1", "the world came to a halt")
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        let now_us = self.world.now_us();
        match event {
            Event::Start(agent) => self.agents[agent].start(&mut self.world)?,
            Event::Produce(agent) => self.produce(agent)?,
            Event::Sync(agent, boot) if self.agents[agent].boot == boot => self.agents[agent].sync(&mut self.world)?,
            Event::Wake(agent, boot) if self.agents[agent].boot == boot => self.agents[agent].wake(&mut self.world)?,
            Event::Connect(agent, boot) if self.agents[agent].boot == boot => {
                self.connect(agent)?;
            }
            Event::Sync(..) | Event::Wake(..) | Event::Connect(..) => {}
            Event::Up(agent) => self.arrive(agent)?,
            Event::Down(agent) => self.agents[agent].receive(&mut self.world)?,
            Event::EndAgent(agent, boot) => self.end_agent(agent, boot),
            Event::Image(agent) => self.agents[agent].take_image(),
            Event::Copy(agent) => self.copy(agent),
            Event::Rebind(agent) => self.rebind(agent),
            Event::FillDisk(agent) => {
                self.agents[agent].fill_disk(true);
                self.outcome.disks_full += 1;
                let delay_us = self.random.between(1_000_000, 1_800_000_000);
                self.world.push_in(delay_us, Event::FreeDisk(agent));
            }
            Event::FreeDisk(agent) => self.agents[agent].fill_disk(false),
            Event::FillServer => {
                let used: u64 = self.disk.files().iter().map(|(_, bytes)| *bytes).sum();
                self.disk.set_capacity_bytes(Some(used + 4096));
                self.outcome.disks_full += 1;
                let delay_us = self.random.between(1_000_000, 3_600_000_000);
                self.world.push_in(delay_us, Event::FreeServer);
            }
            Event::FreeServer => self.disk.set_capacity_bytes(None),
            Event::Partition(agent) => self.partition(agent, true),
            Event::Heal(agent) => self.partition(agent, false),
            Event::Jump(agent) => self.jump(agent),
            Event::ServerStart => self.start_server()?,
            Event::ServerSync(boot) => {
                if let Some(server) = self.server.as_mut().filter(|_| self.boot == boot) {
                    self.sync_planned = false;
                    server.sync()?;
                }
            }
            Event::EndServer(boot) if boot == self.boot && self.server.is_some() => self.end_server(),
            Event::EndServer(_) => {}
            Event::Tick => {
                self.world.schedule.push(now_us + 60_000_000, Event::Tick);
                if let Some(server) = &mut self.server {
                    server.tick(&self.world)?;
                }
            }
            Event::Snapshot => {
                self.world.schedule.push(now_us + 60_000_000, Event::Snapshot);
                if let Some(server) = &mut self.server {
                    server.snapshot(&mut self.kept)?;
                }
            }
            Event::LabStart(boot) => {
                if let Some(server) = self.server.as_ref().filter(|_| self.boot == boot) {
                    self.lab = Some(Lab::start(&self.disk, server.id(), &self.world)?);
                    self.publish();
                }
            }
            Event::LabTurn => self.turn_lab()?,
            Event::Publish(boot) if boot == self.boot && self.lab.is_some() => self.publish(),
            Event::Publish(_) => {}
            Event::Lose(agent) => {
                let mut random = Random::new(self.seed, 100 + agent as u64);
                self.world.lake.lose(agent, &mut random);
            }
            Event::Ask => {
                self.world.schedule.push(now_us + ASK_US, Event::Ask);
                if let Some(server) = &mut self.server {
                    self.world.lake.asks().into_iter().for_each(|(agent, ask)| server.ask(agent, ask));
                }
            }
            Event::Clear => self.clear_up(),
            Event::Inspect => {
                if now_us > self.config.weather_us + PATIENCE_US {
                    let waiting = self.agents.iter().filter(|agent| !is_drained(agent));
                    let told: Vec<String> = waiting.map(|agent| agent.waits_for(&self.world)).collect();
                    return truth::broken("D1 D4", format!("long after the weather cleared {}", told.join("; ")));
                }
                self.world.schedule.push(now_us + 10_000_000, Event::Inspect);
            }
        }
        Ok(())
    }

    fn produce(&mut self, agent: usize) -> Result<(), Broken> {
        if self.clear {
            return Ok(());
        }
        let interval_us = self.random.between(1, self.config.record_interval_us * 2);
        self.world.push_in(interval_us, Event::Produce(agent));
        if self.random.chance_ppm(self.weather.end_agent_ppm) {
            // Soon enough that something may wait for its sync.
            let delay_us = self.random.below(400_000);
            self.world.push_in(delay_us, Event::EndAgent(agent, self.agents[agent].boot));
        }
        if self.random.chance_ppm(self.weather.partition_ppm) {
            self.world.push_in(0, Event::Partition(agent));
        }
        if self.random.chance_ppm(self.weather.rebind_ppm) {
            let delay_us = self.random.below(400_000);
            self.world.push_in(delay_us, Event::Rebind(agent));
        }
        if self.random.chance_ppm(self.weather.fill_disk_ppm) {
            self.world.push_in(0, Event::FillDisk(agent));
        }
        if self.random.chance_ppm(self.weather.fail_sync_ppm) {
            self.agents[agent].fail_sync();
        }
        // Every other agent has a node.
        if agent % 2 == 1 && self.random.chance_ppm(self.weather.start_node_ppm) {
            self.agents[agent].start_node();
            self.outcome.node_starts += 1;
        }
        self.agents[agent].produce(&mut self.world)
    }

    /// A connection; the broker ends the one that the same identity had before.
    fn connect(&mut self, agent: usize) -> Result<(), Broken> {
        let reachable = self.server.is_some() && !self.partitioned[agent];
        if reachable {
            self.agents[agent].up.set_partitioned(false);
            self.agents[agent].down.set_partitioned(false);
            let before = std::mem::replace(&mut self.line[self.agents[agent].index], agent);
            if before != agent {
                self.agents[before].disconnect(&mut self.world);
            }
        }
        self.agents[agent].connect(reachable, &mut self.world)
    }

    /// Somebody starts a second agent from a copy of the first one's disk.
    fn copy(&mut self, agent: usize) {
        if self.clear {
            return;
        }
        let slot = self.agents.len();
        self.agents.push(self.agents[agent].copy(slot, self.seed, &self.weather.link));
        self.partitioned.push(false);
        self.outcome.copies += 1;
        self.world.push_in(1_000_000, Event::Start(slot));
        self.world.push_in(2_000_000, Event::Produce(slot));
    }

    /// The agent's address changes under its connection: what either side sends goes nowhere, and nobody is told.
    fn rebind(&mut self, agent: usize) {
        if self.clear {
            return;
        }
        self.outcome.rebinds += 1;
        self.agents[agent].rebound = true;
        self.agents[agent].up.set_partitioned(true);
        self.agents[agent].down.set_partitioned(true);
    }

    fn arrive(&mut self, agent: usize) -> Result<(), Broken> {
        while let Some(frame) = self.agents[agent].up.receive(self.world.now_us()) {
            let device = self.agents[agent].index;
            let Some(server) = self.server.as_mut().filter(|_| self.line[device] == agent) else { continue };
            let waits = server.handle(device, &frame, &self.world)?;
            if waits && !std::mem::replace(&mut self.sync_planned, true) {
                // Who has answered already is in no hurry.
                let early = self.world.plant == Some(Plant::AggregatorAcksBeforeSync);
                let delay_us = self.random.between(1_000, if early { 1_000_000 } else { 20_000 });
                self.world.push_in(delay_us, Event::ServerSync(self.boot));
            }
            if !self.clear && self.random.chance_ppm(self.weather.end_server_ppm) {
                let delay_us = self.random.below(30_000);
                self.world.push_in(delay_us, Event::EndServer(self.boot));
            }
        }
        Ok(())
    }

    /// What the server has to say goes onto the links.
    fn deliver(&mut self) {
        let Some(server) = &mut self.server else { return };
        for (device, frame) in server.outbox.drain(..) {
            let (agent, now_us) = (self.line[device], self.world.now_us());
            for at_us in self.agents[agent].down.send(now_us, &frame) {
                self.world.schedule.push(at_us, Event::Down(agent));
            }
        }
    }

    fn end_agent(&mut self, agent: usize, boot: u64) {
        if self.clear || self.agents[agent].boot != boot || self.agents[agent].run.is_none() {
            return;
        }
        let end = match self.random.below(10) {
            0..=3 => End::Kill,
            4..=8 => End::PowerCut,
            _ => End::OlderImage,
        };
        self.agents[agent].end(end, &mut self.world);
        self.outcome.agent_ends += 1;
        let delay_us = self.random.between(1_000_000, 120_000_000);
        self.world.push_in(delay_us, Event::Start(agent));
    }

    fn partition(&mut self, agent: usize, partitioned: bool) {
        if partitioned && (self.clear || self.partitioned[agent]) {
            return;
        }
        self.partitioned[agent] = partitioned;
        let silent = partitioned || self.agents[agent].rebound;
        self.agents[agent].up.set_partitioned(silent);
        self.agents[agent].down.set_partitioned(silent);
        if partitioned {
            self.outcome.partitions += 1;
            let longest_us = [60_000_000, 600_000_000, 3_600_000_000][self.random.below(3) as usize];
            let delay_us = self.random.between(1_000_000, longest_us);
            self.world.push_in(delay_us, Event::Heal(agent));
        }
    }

    /// The wall jumps to 1970 or 2036, the oscillator changes its pace; the monotonic time goes on.
    fn jump(&mut self, agent: usize) {
        let offset = [-1_700_000_000, 400_000_000][self.random.below(2) as usize];
        let clock = &mut self.agents[agent].clock;
        clock.set_wall(Micros::from_secs(offset), Micros::from_secs(2));
        clock.set_drift_ppm(self.random.between(0, 180) as i32 - 90);
    }

    fn start_server(&mut self) -> Result<(), Broken> {
        if self.server.is_some() {
            return Ok(());
        }
        self.boot += 1;
        self.sync_planned = false;
        let fresh_id = self.random.next_u64();
        self.server = Server::start(&self.disk, &self.journal_config, &self.kept, fresh_id, &self.world)?;
        if self.server.is_none() {
            self.world.push_in(10_000_000, Event::ServerStart);
            return Ok(());
        }
        let delay_us = self.random.below(10_000_000);
        self.world.push_in(delay_us, Event::LabStart(self.boot));
        Ok(())
    }

    /// The aggregator's machine or process ends; now and then its journal is lost with it.
    fn end_server(&mut self) {
        self.kept.outlived = self.server.as_ref().map(Server::marks).unwrap_or_default();
        (self.server, self.lab) = (None, None);
        self.outcome.aggregator_ends += 1;
        if self.random.below(2) == 0 {
            self.disk.crash(self.random.next_u64());
        } else {
            self.disk.kill();
        }
        if self.random.chance_ppm(self.weather.lose_journal_ppm) {
            self.disk = MemoryFilesystem::new();
            self.outcome.journals_lost += 1;
        }
        for agent in &mut self.agents {
            agent.disconnect(&mut self.world);
        }
        let delay_us = self.random.between(1_000_000, 60_000_000);
        self.world.push_in(delay_us, Event::ServerStart);
    }

    fn turn_lab(&mut self) -> Result<(), Broken> {
        let interval_us = self.random.between(1_000_000, self.weather.lab_interval_us);
        self.world.push_in(interval_us, Event::LabTurn);
        let Some(lab) = &mut self.lab else { return Ok(()) };
        if lab.turn(&mut self.world)? {
            // Between the commit and the word about it lies time in which anyone may die.
            let delay_us = self.random.below(3_000_000);
            self.world.push_in(delay_us, Event::Publish(self.boot));
        }
        if !self.clear && self.random.chance_ppm(self.weather.end_lab_ppm) {
            self.lab = None;
            let delay_us = self.random.between(1_000_000, 600_000_000);
            self.world.push_in(delay_us, Event::LabStart(self.boot));
        }
        Ok(())
    }

    fn publish(&mut self) {
        let Some(commit) = &self.world.lake.commit else { return };
        self.kept.committed = Some((commit.journal_id, commit.offset, commit.marks.clone()));
        if let Some(server) = &mut self.server {
            server.committed(&self.kept);
        }
    }

    /// The weather is over: good links, nobody dies any more, nothing new is recorded.
    fn clear_up(&mut self) {
        self.clear = true;
        self.disk.set_capacity_bytes(None);
        for agent in 0..self.agents.len() {
            self.agents[agent].rebound = false;
            self.agents[agent].fill_disk(false);
            self.agents[agent].up.set_config(LinkConfig::good());
            self.agents[agent].down.set_config(LinkConfig::good());
            self.partition(agent, false);
        }
        self.world.push_in(10_000_000, Event::Inspect);
    }

    fn is_settled(&self) -> bool {
        self.clear && self.agents.iter().all(is_drained) && self.world.lake.is_whole()
    }

    fn finish(mut self) -> Outcome {
        let lake = &self.world.lake;
        self.outcome.acknowledged = self.world.truth.acknowledged;
        self.outcome.rows = lake.len() as u64;
        self.outcome.gaps = lake.gap_rows;
        self.outcome.commits = lake.commits;
        (self.outcome.lost_rows, self.outcome.restored_rows) = (lake.lost_rows, lake.restored_rows);
        self.outcome.misdated = lake.misdated;
        self.outcome.duplicates = self.server.as_ref().map_or(0, Server::duplicates);
        self.outcome.full = self.world.full;
        self.outcome.reopened = self.world.reopened;
        self.outcome.older_images = self.world.older_images;
        self.outcome.settled_us = self.world.now_us() - self.config.weather_us;
        let rows = lake.hash();
        self.outcome.hash = fnv(fnv(FNV, &rows.to_le_bytes()), format!("{:?}", self.outcome).as_bytes());
        self.outcome
    }
}

fn is_drained(agent: &Agent) -> bool {
    agent.run.as_ref().is_some_and(|run| {
        let status = run.session.status(kilter_types::Monotonic(0));
        run.journal.sync_due_us().is_none() && status.released_to == run.journal.next_offset().0
    })
}

impl Context {
    pub(crate) fn now_us(&self) -> u64 {
        self.schedule.now_us()
    }

    pub(crate) fn push_in(&mut self, delay_us: u64, event: Event) {
        let at_us = self.now_us() + delay_us;
        self.schedule.push(at_us, event);
    }
}

impl Weather {
    /// Each kind of trouble is absent, rare or frequent, one by one.
    fn draw(random: &mut Random) -> Self {
        let mut often = |frequent_ppm: u32| [0, frequent_ppm / 8, frequent_ppm][random.below(3) as usize];
        let link = LinkConfig {
            loss_ppm: often(100_000),
            duplicate_ppm: often(100_000),
            reorder_ppm: often(100_000),
            jitter_us: u64::from(often(400_000)),
            ..LinkConfig::good()
        };
        Self {
            link,
            end_agent_ppm: 4_000 + often(25_000),
            partition_ppm: often(20_000),
            rebind_ppm: often(20_000),
            fill_disk_ppm: often(10_000),
            fail_sync_ppm: often(5_000),
            start_node_ppm: often(450_000),
            copy_ppm: often(200_000),
            end_server_ppm: 1_000 + often(3_000),
            lose_journal_ppm: 100_000 + often(500_000),
            end_lab_ppm: often(100_000),
            lab_interval_us: 10_000_000 + u64::from(often(240_000_000)),
        }
    }
}

/// Looks for a smaller fleet and a shorter time in which the same seed still breaks a promise.
pub fn shrink(seed: u64, config: &FleetConfig) -> Option<(FleetConfig, Violation)> {
    let mut best = (config.clone(), Fleet::new(seed, config.clone()).run().err()?);
    loop {
        let (known, _) = &best;
        let fewer = FleetConfig { agents: known.agents / 2, ..known.clone() };
        let shorter = FleetConfig { weather_us: known.weather_us / 2, ..known.clone() };
        let smaller =
            [fewer, shorter].into_iter().filter(|smaller| smaller.agents > 0 && smaller.weather_us > 60_000_000);
        let found = smaller.into_iter().find_map(|smaller| {
            let violation = Fleet::new(seed, smaller.clone()).run().err()?;
            Some((smaller, violation))
        });
        match found {
            Some(found) => best = found,
            None => return Some(best),
        }
    }
}

/// How many bytes of records each agent may have on the way to the aggregator's journal.
pub(crate) const CREDIT_BYTES: u32 = 32 * 1024;
/// How often the edge is asked for what the lake lost.
const ASK_US: u64 = 300_000_000;
/// How long after the weather everything has to be in the lake.
const PATIENCE_US: u64 = 4 * 3_600_000_000;
