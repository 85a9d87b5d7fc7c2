//! What can happen, and what everyone in the world can reach.

use kilter_wire::up::MAX_RECORD_BYTES;

use super::Plant;
use super::lake::Lake;
use super::truth::Truth;
use crate::Scheduler;

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
    /// Something else answers an agent's network.
    Portal(usize),
    PortalEnds(usize),
    /// What an agent is connected to is found not to be our server.
    Unmask(usize),
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

/// What everyone in the world can reach.
pub(crate) struct Context {
    pub(crate) schedule: Scheduler<Event>,
    pub(crate) truth: Truth,
    pub(crate) lake: Lake,
    pub(crate) plant: Option<Plant>,
    pub(crate) full: u64,
    pub(crate) reopened: u64,
    pub(crate) older_images: u64,
    pub(crate) garbage: u64,
    /// Where a record is written.
    pub(crate) room: Box<[u8; MAX_RECORD_BYTES + 1]>,
}

impl Context {
    pub(crate) fn new(agents: usize, plant: Option<Plant>) -> Self {
        Self {
            schedule: Scheduler::new(),
            truth: Truth::new(agents),
            lake: Lake::new(agents),
            plant,
            full: 0,
            reopened: 0,
            older_images: 0,
            garbage: 0,
            room: Box::new([0; MAX_RECORD_BYTES + 1]),
        }
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.schedule.now_us()
    }

    pub(crate) fn push_in(&mut self, delay_us: u64, event: Event) {
        let at_us = self.now_us() + delay_us;
        self.schedule.push(at_us, event);
    }
}
