//! What a run did, in figures that are equal for equal seeds, or which promise it broke.

use std::fmt;

use thiserror::Error;

/// What a run did. Equal for equal seeds and configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Times that an agent's network was answered by something that is not our server.
    pub portals: u64,
    /// Frames that came from there and could not be read.
    pub garbage: u64,
    /// Frames that were lost because a link had no room for them.
    pub crowded: u64,
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
    /// How far the solved time of rows may be off, where a time exchange says it.
    pub bounds: Bounds,
    /// How long it took until everything was in the lake once the weather had cleared, in virtual microseconds.
    pub settled_us: u64,
}

impl Outcome {
    /// Adds another run's figures; the hash and the time to settle are the greatest of both.
    pub fn add(&mut self, other: &Self) {
        self.hash = self.hash.max(other.hash);
        self.settled_us = self.settled_us.max(other.settled_us);
        self.bounds.add(&other.bounds);
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
            (&mut self.portals, other.portals),
            (&mut self.garbage, other.garbage),
            (&mut self.crowded, other.crowded),
            (&mut self.disks_full, other.disks_full),
            (&mut self.reopened, other.reopened),
            (&mut self.copies, other.copies),
            (&mut self.older_images, other.older_images),
            (&mut self.node_starts, other.node_starts),
            (&mut self.full, other.full),
            (&mut self.lost_rows, other.lost_rows),
            (&mut self.restored_rows, other.restored_rows),
        ] {
            *mine += theirs;
        }
    }
}

/// How many rows have which bound: eight steps for each doubling.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bounds(Vec<u64>);

impl Bounds {
    /// Counts a row.
    pub(crate) fn count(&mut self, bound_us: u64) {
        let bound_us = bound_us.max(STEPS);
        let doublings = u64::from(bound_us.ilog2() - STEPS.ilog2());
        let step = (doublings * STEPS + (bound_us >> doublings) - STEPS) as usize;
        if self.0.len() <= step {
            self.0.resize(step + 1, 0);
        }
        self.0[step] += 1;
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The bound that so many of a thousand rows keep, rounded up to its step; 0 without rows.
    pub fn at_permille(&self, permille: u64) -> u64 {
        let wanted = (self.rows() * permille).div_ceil(1000).max(1);
        let mut rows = 0;
        let found = self.0.iter().position(|count| {
            rows += count;
            rows >= wanted
        });
        found.map_or(0, |step| (STEPS + (step as u64 + 1) % STEPS) << ((step as u64 + 1) / STEPS))
    }

    fn add(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine += theirs);
    }
}

impl fmt::Debug for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounds")
            .field("rows", &self.rows())
            .field("median_us", &self.at_permille(500))
            .field("p99_us", &self.at_permille(990))
            .finish()
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

const STEPS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::Bounds;

    #[test]
    fn a_share_of_bounds_is_told_to_an_eighth_and_never_too_low() {
        let mut bounds = Bounds::default();
        assert_eq!(bounds.at_permille(500), 0);
        (1..=1_000).for_each(|bound_us| bounds.count(bound_us * 100));
        for permille in [1, 250, 500, 990, 1_000] {
            let (exact, told) = (permille * 100, bounds.at_permille(permille));
            assert!(exact <= told && told <= exact + exact / 8 + 1, "{permille}: {told} for {exact}");
        }
        let mut twice = bounds.clone();
        twice.add(&bounds);
        assert_eq!((twice.rows(), twice.at_permille(500)), (2_000, bounds.at_permille(500)));
    }
}
