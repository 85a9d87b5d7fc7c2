//! The words of rollouts: what nodes say, what they shall run, and how far a pair of models is on its way.

use std::collections::BTreeSet;

use kilter_types::{DeviceId, Digest, Generation, Micros, Name, Role};
use serde::{Deserialize, Serialize};

/// What an operator decides once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How many nodes try a model first.
    pub canaries: usize,
    /// How long a canary must run it, as reported, before others follow.
    pub probation: Micros,
}

/// Leader and shadow that run together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Its scores decide; where there is none, the baseline that the device learned does.
    pub leader: Option<Digest>,
    /// It is watched.
    pub shadow: Option<Digest>,
}

/// One model on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// For machines of this kind.
    pub asset_class: Name,
    /// The artifact.
    pub digest: Digest,
    /// Leader or shadow.
    pub role: Role,
    /// The generation in which its manifest is signed.
    pub generation: Generation,
}

/// What a node shall run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// When this was decided.
    pub generation: Generation,
    /// The models, per kind of machine the leader first.
    pub models: Vec<Assignment>,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The kinds of machines that it serves.
    pub classes: BTreeSet<Name>,
    /// The artifacts that it runs.
    pub running: BTreeSet<Digest>,
    /// The artifacts that it refused or reverted.
    pub refused: BTreeSet<Digest>,
    /// It reports at present.
    pub online: bool,
    /// The kinds of machines of which none here has room for a shadow.
    pub leaders_only: BTreeSet<Name>,
    /// The generation that it says it follows.
    pub generation: Generation,
}

/// How far a rollout is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// Waits for a node that serves such machines and takes such a model.
    Waiting {
        /// Why none of those that are known will do; empty while there is none.
        #[serde(default)]
        why: String,
    },
    /// The first nodes try it.
    Canary {
        /// Which ones.
        devices: BTreeSet<DeviceId>,
        /// Since when all of them report it; nothing before.
        running_since: Option<Micros>,
    },
    /// Everyone gets it.
    Everyone,
    /// Everyone who is there has it.
    Complete {
        /// Since when.
        at: Micros,
    },
    /// Taken back.
    RolledBack {
        /// When.
        at: Micros,
        /// Why.
        why: String,
    },
    /// A later rollout took its place.
    Superseded {
        /// When.
        at: Micros,
    },
}

/// One way of a pair through the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its place in order.
    pub generation: Generation,
    /// The kind of machines.
    pub asset_class: Name,
    /// What shall run.
    pub pair: Pair,
    /// What was there before: pinned for the way back (R3).
    pub previous: Option<Pair>,
    /// When it began.
    pub started: Micros,
    /// Why it began.
    pub reason: String,
    /// How far it is.
    #[serde(flatten)]
    pub stage: Stage,
}

/// A rollout moved on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageChange {
    /// Which rollout.
    pub generation: Generation,
    /// Where it is now.
    pub stage: Stage,
}

impl Rollout {
    /// The model that decides whether it goes on: the leader where one comes, else the shadow.
    pub fn on_trial(&self) -> Option<Digest> {
        let led = self.previous.and_then(|pair| pair.leader);
        self.pair.leader.filter(|leader| Some(*leader) != led).or(self.pair.shadow).or(self.pair.leader)
    }

    /// Does it go on yet?
    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. } | Stage::Canary { .. } | Stage::Everyone)
    }

    /// Did it give way to something else?
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::RolledBack { .. } | Stage::Superseded { .. })
    }
}
