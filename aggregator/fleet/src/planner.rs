//! The planner: canary first, then everyone, and back again when it goes wrong.

use std::collections::{BTreeMap, BTreeSet};

use kilter_types::{DeviceId, Digest, Generation, Micros, Name, Role};
use serde::{Deserialize, Serialize};

use crate::Registry;

/// What an operator decides once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How many nodes try a model first.
    pub canaries: usize,
    /// How long a canary must run it, as reported, before others follow.
    pub probation: Micros,
}

/// Leader and shadow that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Its scores decide.
    pub leader: Digest,
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
    /// The generation that it says it follows.
    pub generation: Generation,
}

/// How far a rollout is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// Waits for a node that serves such machines.
    Waiting,
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
    /// What comes.
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

/// Every decision so far; what nodes shall run follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planner {
    last_generation: Generation,
    rollouts: Vec<Rollout>,
    champions: BTreeMap<Name, Pair>,
    desired: BTreeMap<DeviceId, Desired>,
}

impl Planner {
    /// Begins to roll a pair out; an unfinished rollout for the same machines gives way.
    pub fn start(
        &mut self,
        leader: Digest,
        reason: &str,
        registry: &Registry,
        now: Micros,
    ) -> Result<Generation, PlanError> {
        let model = registry.get(leader).ok_or(PlanError::Unknown(leader))?;
        if model.role != Role::Leader {
            return Err(PlanError::NotALeader(leader));
        }
        let asset_class = model.key.asset_class.clone();
        let shadow = model.pair.filter(|digest| registry.get(*digest).is_some());
        Ok(self.begin(asset_class, Pair { leader, shadow }, reason, now))
    }

    /// Goes back to what was there before the last rollout for these machines: a new generation that names the older pair.
    pub fn roll_back(&mut self, asset_class: &Name, why: &str, now: Micros) -> Result<Generation, PlanError> {
        let last = self.rollouts.iter_mut().rev().find(|rollout| {
            rollout.asset_class == *asset_class
                && !matches!(rollout.stage, Stage::RolledBack { .. } | Stage::Superseded { .. })
        });
        let last = last.ok_or_else(|| PlanError::NothingToRollBack(asset_class.clone()))?;
        let previous = last.previous.ok_or_else(|| PlanError::NothingToRollBack(asset_class.clone()))?;
        last.stage = Stage::RolledBack { at: now, why: why.to_owned() };
        let generation = self.next_generation();
        self.champions.insert(asset_class.clone(), previous);
        self.rollouts.push(Rollout {
            generation,
            asset_class: asset_class.clone(),
            pair: previous,
            previous: None,
            started: now,
            reason: format!("rollback: {why}"),
            stage: Stage::Everyone,
        });
        Ok(generation)
    }

    /// Moves every rollout on as far as what nodes report allows, and derives what each node shall run.
    pub fn step(&mut self, policy: &Policy, fleet: &BTreeMap<DeviceId, Observed>, now: Micros) -> Vec<StageChange> {
        self.learn(fleet);
        let mut changes = Vec::new();
        let mut failed = Vec::new();
        for rollout in &mut self.rollouts {
            let next = next_stage(rollout, policy, fleet, now);
            if let Some(stage) = next {
                if let Stage::RolledBack { why, .. } = &stage {
                    failed.push((rollout.asset_class.clone(), rollout.previous, why.clone()));
                }
                if stage == Stage::Everyone {
                    self.champions.insert(rollout.asset_class.clone(), rollout.pair);
                }
                rollout.stage = stage.clone();
                changes.push(StageChange { generation: rollout.generation, stage });
            }
        }
        for (asset_class, previous, why) in failed {
            let generation = self.next_generation();
            match previous {
                Some(pair) => {
                    self.champions.insert(asset_class.clone(), pair);
                    self.rollouts.push(Rollout {
                        generation,
                        asset_class,
                        pair,
                        previous: None,
                        started: now,
                        reason: format!("rollback: {why}"),
                        stage: Stage::Everyone,
                    });
                }
                None => {
                    self.champions.remove(&asset_class);
                }
            }
        }
        self.derive(fleet);
        changes
    }

    /// What a node shall run, once anything was decided for it.
    pub fn desired(&self, device: &DeviceId) -> Option<&Desired> {
        self.desired.get(device)
    }

    /// What every node shall run.
    pub fn all_desired(&self) -> &BTreeMap<DeviceId, Desired> {
        &self.desired
    }

    /// Every rollout, oldest first.
    pub fn rollouts(&self) -> &[Rollout] {
        &self.rollouts
    }

    /// What leads per kind of machine.
    pub fn champions(&self) -> &BTreeMap<Name, Pair> {
        &self.champions
    }

    /// The last generation given.
    pub fn last_generation(&self) -> Generation {
        self.last_generation
    }

    fn begin(&mut self, asset_class: Name, pair: Pair, reason: &str, now: Micros) -> Generation {
        let generation = self.next_generation();
        for rollout in self.rollouts.iter_mut().filter(|rollout| rollout.asset_class == asset_class) {
            let ended = matches!(rollout.stage, Stage::RolledBack { .. } | Stage::Superseded { .. });
            if !ended {
                rollout.stage = Stage::Superseded { at: now };
            }
        }
        let previous = self.champions.get(&asset_class).copied();
        self.rollouts.push(Rollout {
            generation,
            asset_class,
            pair,
            previous,
            started: now,
            reason: reason.to_owned(),
            stage: Stage::Waiting,
        });
        if self.rollouts.len() > MAX_ROLLOUTS {
            self.rollouts.remove(0);
        }
        generation
    }

    /// A node that follows a later generation than we ever gave knows a catalogue that was lost: what comes next must be above
    /// it (R5). One step believes only so much, so that a node can't use the numbers up.
    fn learn(&mut self, fleet: &BTreeMap<DeviceId, Observed>) {
        let most = self.last_generation.0.saturating_add(MOST_LEARNED);
        let heard = fleet.values().map(|node| node.generation.0).filter(|generation| *generation <= most).max();
        self.last_generation.0 = self.last_generation.0.max(heard.unwrap_or(0));
    }

    fn next_generation(&mut self) -> Generation {
        self.last_generation = Generation(self.last_generation.0 + 1);
        self.last_generation
    }

    /// Champion for all, except canaries, who get what is on trial. A node's generation moves only when its models do, and
    /// whatever is new on a node is signed in that new generation: so it is above all that the node has seen (R5), also
    /// when it goes back to an older model because a trial ended.
    fn derive(&mut self, fleet: &BTreeMap<DeviceId, Observed>) {
        for (device, observed) in fleet {
            // A plan that is not above the node's own would be refused: it is decided anew.
            let current = self.desired.get(device).filter(|desired| {
                desired.generation >= observed.generation || observed.generation > self.last_generation
            });
            let known = current.map_or(&[][..], |desired| &desired.models);
            let next = Generation(self.last_generation.0 + 1);
            let mut models = Vec::new();
            for class in &observed.classes {
                let trial = self.rollouts.iter().rev().find(|rollout| {
                    rollout.asset_class == *class
                        && matches!(&rollout.stage, Stage::Canary { devices, .. } if devices.contains(device))
                });
                let Some(pair) = trial.map(|rollout| rollout.pair).or_else(|| self.champions.get(class).copied())
                else {
                    continue;
                };
                let roles = [(Some(pair.leader), Role::Leader), (pair.shadow, Role::Shadow)];
                for (digest, role) in roles {
                    let Some(digest) = digest else { continue };
                    let same = |model: &&Assignment| {
                        model.asset_class == *class && model.digest == digest && model.role == role
                    };
                    let generation = known.iter().find(same).map_or(next, |model| model.generation);
                    models.push(Assignment { asset_class: class.clone(), digest, role, generation });
                }
            }
            models.truncate(MAX_MODELS);
            if known != models {
                self.last_generation = next;
                self.desired.insert(device.clone(), Desired { generation: next, models });
            }
        }
    }
}

/// Where a rollout goes from here; `None` when it stays.
fn next_stage(rollout: &Rollout, policy: &Policy, fleet: &BTreeMap<DeviceId, Observed>, now: Micros) -> Option<Stage> {
    let serving = || fleet.iter().filter(|(_, node)| node.classes.contains(&rollout.asset_class));
    let runs = |node: &Observed| node.running.contains(&rollout.pair.leader);
    let refused = |node: &Observed| node.refused.contains(&rollout.pair.leader);
    match &rollout.stage {
        Stage::Waiting => {
            let devices: BTreeSet<_> = serving()
                .filter(|(_, node)| node.online)
                .map(|(device, _)| device.clone())
                .take(policy.canaries)
                .collect();
            (!devices.is_empty()).then_some(Stage::Canary { devices, running_since: None })
        }
        Stage::Canary { devices, running_since } => {
            let nodes: Vec<_> = devices.iter().filter_map(|device| fleet.get(device)).collect();
            if nodes.iter().any(|node| refused(node)) {
                return Some(Stage::RolledBack { at: now, why: "a canary refused the model".into() });
            }
            let all_run = nodes.len() == devices.len() && nodes.iter().all(|node| runs(node));
            match (all_run, running_since) {
                (true, None) => Some(Stage::Canary { devices: devices.clone(), running_since: Some(now) }),
                (true, Some(since)) if now - *since >= policy.probation => Some(Stage::Everyone),
                (false, Some(_)) => Some(Stage::Canary { devices: devices.clone(), running_since: None }),
                (true, Some(_)) | (false, None) => None,
            }
        }
        Stage::Everyone => {
            let all = serving().filter(|(_, node)| node.online).all(|(_, node)| runs(node) || refused(node));
            (all && serving().any(|(_, node)| runs(node))).then_some(Stage::Complete { at: now })
        }
        Stage::Complete { .. } | Stage::RolledBack { .. } | Stage::Superseded { .. } => None,
    }
}

/// Why a rollout did not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not in the registry.
    #[error("roll out {0}: no such model is registered; `kilter-aggregator fleet` lists them")]
    Unknown(Digest),
    /// A shadow can't lead.
    #[error("roll out {0}: it lost its evaluation and runs as shadow only")]
    NotALeader(Digest),
    /// Nothing older is known.
    #[error("roll back machines of class {0}: no older model is known")]
    NothingToRollBack(Name),
}

/// The most models that one plan carries.
const MAX_MODELS: usize = 4;

/// How far beyond our own a node's generation is believed.
const MOST_LEARNED: u64 = 1_000_000;

/// The most rollouts that are remembered.
const MAX_ROLLOUTS: usize = 500;
