//! A whole fleet in one process: agents and aggregator as production cores, everything around them a model with faults.
//!
//! Each seed draws its own weather: how bad the links are, how often something is killed, loses power, is cut off or loses its
//! journal, how small the journals are. After the stated time the weather clears, nothing new is recorded, and within a few
//! hours everything that was promised must have come true.

mod agent;
mod event;
mod folder;
mod happen;
mod hub;
mod kept_fold;
mod lab;
mod lake;
mod marks;
mod outcome;
mod record;
mod server;
mod shrink;
mod trouble;
mod truth;
mod weather;

use kilter_journal::model::MemoryFilesystem;
use kilter_types::Micros;

use crate::{Random, VirtualClock};
use agent::Agent;
use event::{Context, Event};
use lab::Lab;
pub use outcome::{Bounds, Outcome, Violation};
use server::{Kept, Server};
pub use shrink::shrink;
use truth::{Broken, FNV, fnv};
use weather::Weather;

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
    /// Agents, server and lab end, and networks fail, so many times more seldom: for months of a fleet in which all that must not happen
    /// a hundred times a day.
    pub calm: u32,
    /// A mistake in the shells, to show that it is noticed.
    pub plant: Option<Plant>,
}

impl FleetConfig {
    /// How many times larger than CI's a fleet is: what all of it shares grows with it.
    fn scale(&self) -> u32 {
        u32::try_from(self.agents.div_ceil(CI_AGENTS)).unwrap_or(u32::MAX).max(1)
    }
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
    /// A question for the time is dated by half of its round trip, as if its answer had taken none.
    HalfARoundTrip,
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
    /// The lab folds on a thread of its own.
    apart: bool,
    kept: Kept,
    boot: u64,
    sync_planned: bool,
    clear: bool,
    outcome: Outcome,
}

impl Fleet {
    /// A fleet before its first event.
    pub fn new(seed: u64, config: FleetConfig) -> Self {
        let mut random = Random::new(seed, 1);
        let weather = Weather::draw(&mut random, &config);
        let world = Context::new(config.agents, config.plant);
        let journal_bytes = [24 * 1024, 64 * 1024, 512 * 1024][random.below(3) as usize];
        let agents = (0..config.agents).map(|index| {
            // Less than 100 ppm by either clock.
            let mut clock = VirtualClock::new(world.schedule.time(), random.between(0, 198) as i32 - 99);
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
        let journal_bytes = [256 * 1024, 8 << 20][random.below(2) as usize];
        let mut fleet = Self {
            seed,
            weather,
            world,
            random,
            partitioned: vec![false; agents.len()],
            line: (0..agents.len()).collect(),
            agents,
            disk: MemoryFilesystem::new(),
            journal_config: server::config(journal_bytes, u64::from(config.scale())),
            server: None,
            lab: None,
            apart: config.agents > CI_AGENTS,
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

    fn is_settled(&self) -> bool {
        self.clear && self.agents.iter().all(Agent::is_drained) && self.world.lake.is_whole()
    }

    fn finish(mut self) -> Outcome {
        let (lake, outcome) = (&self.world.lake, &mut self.outcome);
        outcome.acknowledged = self.world.truth.acknowledged;
        outcome.rows = lake.len();
        outcome.gaps = lake.gap_rows;
        outcome.commits = lake.commits;
        (outcome.lost_rows, outcome.restored_rows) = (lake.lost_rows, lake.restored_rows);
        outcome.bounds = lake.bounds.clone();
        outcome.duplicates = self.server.as_ref().map_or(0, Server::duplicates);
        outcome.full = self.world.full;
        outcome.reopened = self.world.reopened;
        outcome.older_images = self.world.older_images;
        outcome.garbage = self.world.garbage;
        let links = self.agents.iter().flat_map(|agent| [&agent.up, &agent.down]);
        outcome.crowded = links.map(|link| link.counters().crowded).sum();
        outcome.settled_us = self.world.now_us() - self.config.weather_us;
        let rows = lake.hash(&self.world.truth);
        outcome.hash = fnv(fnv(FNV, &rows.to_le_bytes()), format!("{outcome:?}").as_bytes());
        self.outcome
    }
}

/// How many bytes of records each agent may have on the way to the aggregator's journal.
const CREDIT_BYTES: u32 = 32 * 1024;
/// How often the edge is asked for what the lake lost.
const ASK_US: u64 = 300_000_000;
/// How long after the weather everything has to be in the lake.
const PATIENCE_US: u64 = 4 * 3_600_000_000;
/// How many agents the weather is drawn for. One fleet of so many is one thread; a larger one has a second for its lab.
const CI_AGENTS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_that_folds_on_a_second_thread_changes_nothing() {
        let (weather_us, record_interval_us) = (1_800_000_000, 30_000_000);
        let config =
            FleetConfig { agents: 5, weather_us, record_interval_us, steady_links: false, calm: 1, plant: None };
        for seed in 0..6 {
            let run = |apart| Fleet { apart, ..Fleet::new(seed, config.clone()) }.run();
            assert_eq!(run(true), run(false), "seed {seed}");
        }
    }
}
