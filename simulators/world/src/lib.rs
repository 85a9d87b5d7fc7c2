//! The world outside the cores, with faults: clock, link, disk and lake in virtual time, and whole fleets of production cores.
//!
//! What a real network, disk or clock does once a month happens here every virtual minute, and the same seed does it again. A
//! [`Fleet`] runs the agents' journals and delivery sessions and the aggregator's admission, journal and fold as they ship,
//! over these models and under one seeded [`Scheduler`] whose time jumps to the next event. While it runs and at its end the
//! promises of ARCHITECTURE.md are checked by id; a broken one is a [`Violation`] that names its seed.

mod clock;
mod fleet;
mod link;
mod random;
mod schedule;

pub use clock::VirtualClock;
pub use fleet::{Bounds, Fleet, FleetConfig, Outcome, Plant, Violation, shrink};
pub use kilter_journal::model::{Disk, MemoryFilesystem};
pub use link::{Link, LinkConfig, LinkCounters};
pub use random::Random;
pub use schedule::{Scheduler, WorldTime};
