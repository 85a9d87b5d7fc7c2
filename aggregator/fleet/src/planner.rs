//! The planner: canary first, then everyone, and back again when it goes wrong.

use std::collections::{BTreeMap, BTreeSet};

use kilter_types::{DeviceId, Digest, Generation, Micros, Name, Role};
use serde::{Deserialize, Serialize};

use crate::{Assignment, Desired, Observed, Pair, Policy, Registry, Rollout, Stage, StageChange};

/// Every decision so far; what nodes shall run follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planner {
    last_generation: Generation,
    rollouts: Vec<Rollout>,
    champions: BTreeMap<Name, Pair>,
    desired: BTreeMap<DeviceId, Desired>,
}

impl Planner {
    /// Begins to roll a model out; an unfinished rollout for the same machines gives way.
    ///
    /// One that leads comes with its pair. One that lost its evaluation comes as a shadow: beside whatever leads or is about to, and
    /// where nothing does, beside the baseline that each device learned.
    pub fn start(
        &mut self,
        model: Digest,
        reason: &str,
        registry: &Registry,
        now: Micros,
    ) -> Result<Generation, PlanError> {
        let known = registry.get(model).ok_or(PlanError::Unknown(model))?;
        let asset_class = known.key.asset_class.clone();
        let pair = match known.role {
            Role::Leader => {
                let shadow = known.pair.filter(|digest| registry.get(*digest).is_some());
                Pair { leader: Some(model), shadow }
            }
            Role::Shadow => Pair { leader: self.leading(&asset_class), shadow: Some(model) },
        };
        Ok(self.begin(asset_class, pair, reason, now))
    }

    /// Goes back to what was there before the last rollout for these machines: a new generation that names the older pair. Where the last
    /// one brought a shadow only, the way back is that of the leader beside it.
    pub fn roll_back(&mut self, asset_class: &Name, why: &str, now: Micros) -> Result<Generation, PlanError> {
        let nothing = || PlanError::NothingToRollBack(asset_class.clone());
        let current = |rollout: &Rollout| rollout.asset_class == *asset_class && !rollout.has_ended();
        let at = self.rollouts.iter().rposition(current).ok_or_else(nothing)?;
        let previous = self.way_back(at).ok_or_else(nothing)?;
        self.rollouts[at].stage = Stage::RolledBack { at: now, why: why.to_owned() };
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
        for (at, rollout) in self.rollouts.iter_mut().enumerate() {
            let next = next_stage(rollout, policy, fleet, now);
            if let Some(stage) = next {
                if let Stage::RolledBack { why, .. } = &stage {
                    failed.push((at, why.clone()));
                }
                if stage == Stage::Everyone {
                    self.champions.insert(rollout.asset_class.clone(), rollout.pair);
                }
                rollout.stage = stage.clone();
                changes.push(StageChange { generation: rollout.generation, stage });
            }
        }
        for (at, why) in failed {
            let Rollout { asset_class, previous, .. } = self.rollouts[at].clone();
            // A shadow that failed does not take the leader's way back with it.
            let led_before = self.led_before(at);
            let generation = self.next_generation();
            match previous {
                Some(pair) => {
                    self.champions.insert(asset_class.clone(), pair);
                    self.rollouts.push(Rollout {
                        generation,
                        asset_class,
                        pair,
                        previous: led_before,
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

    /// What leads machines of this kind, or is on its way to.
    fn leading(&self, asset_class: &Name) -> Option<Digest> {
        let coming =
            self.rollouts.iter().rev().find(|rollout| rollout.asset_class == *asset_class && rollout.is_under_way());
        let coming = coming.and_then(|rollout| rollout.pair.leader);
        coming.or_else(|| self.champions.get(asset_class).and_then(|pair| pair.leader))
    }

    /// What was there before this rollout; where it changed the shadow only, what was there before its leader came, if that is known.
    fn way_back(&self, at: usize) -> Option<Pair> {
        let last = self.rollouts.get(at)?;
        let before = last.previous?;
        Some(self.led_before(at).unwrap_or(before))
    }

    /// Where this rollout changed the shadow only: what was there before the leader that it left alone.
    fn led_before(&self, at: usize) -> Option<Pair> {
        let last = self.rollouts.get(at)?;
        let leader =
            last.pair.leader.filter(|leader| last.previous.is_some_and(|pair| pair.leader == Some(*leader)))?;
        let earlier = self.rollouts[..at].iter().rev().filter(|rollout| rollout.asset_class == last.asset_class);
        earlier.filter_map(|rollout| rollout.previous).find(|pair| pair.leader != Some(leader))
    }

    fn begin(&mut self, asset_class: Name, pair: Pair, reason: &str, now: Micros) -> Generation {
        let generation = self.next_generation();
        for rollout in self.rollouts.iter_mut().filter(|rollout| rollout.asset_class == asset_class) {
            if !rollout.has_ended() {
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
            stage: Stage::Waiting { why: String::new() },
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
                let roles = [(pair.leader, Role::Leader), (pair.shadow, Role::Shadow)];
                for (digest, role) in roles {
                    let Some(digest) = digest else { continue };
                    if role == Role::Shadow && observed.leaders_only.contains(class) {
                        continue;
                    }
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
    let on_trial = rollout.on_trial()?;
    let runs = |node: &Observed| node.running.contains(&on_trial);
    let refused = |node: &Observed| node.refused.contains(&on_trial);
    let leaders_only = |node: &Observed| node.leaders_only.contains(&rollout.asset_class);
    let takes = |node: &Observed| rollout.pair.leader == Some(on_trial) || !leaders_only(node);
    match &rollout.stage {
        Stage::Waiting { why } => {
            let mut able: Vec<_> = serving().filter(|(_, node)| node.online && takes(node)).collect();
            // One that has room for the whole pair tries the whole pair.
            able.sort_by_key(|(_, node)| rollout.pair.shadow.is_some() && leaders_only(node));
            let devices: BTreeSet<_> =
                able.into_iter().map(|(device, _)| device.clone()).take(policy.canaries).collect();
            if !devices.is_empty() {
                return Some(Stage::Canary { devices, running_since: None });
            }
            let none_takes = serving().next().is_some() && !serving().any(|(_, node)| takes(node));
            let known = if none_takes { NO_ROOM } else { "" };
            (why != known).then(|| Stage::Waiting { why: known.to_owned() })
        }
        Stage::Canary { devices, running_since } => {
            let nodes: Vec<_> = devices.iter().filter_map(|device| fleet.get(device)).collect();
            // One that turns out to have no room for it has tried nothing: another is looked for.
            if nodes.iter().any(|node| !takes(node)) {
                return Some(Stage::Waiting { why: String::new() });
            }
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
            let wanted = || serving().filter(|(_, node)| takes(node));
            let all = wanted().filter(|(_, node)| node.online).all(|(_, node)| runs(node) || refused(node));
            (all && wanted().any(|(_, node)| runs(node))).then_some(Stage::Complete { at: now })
        }
        Stage::Complete { .. } | Stage::RolledBack { .. } | Stage::Superseded { .. } => None,
    }
}

/// Why a shadow waits although machines of its kind are there.
const NO_ROOM: &str = "every node that serves such machines has room for a leader only";

/// Why a rollout did not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not in the registry.
    #[error("roll out {0}: no such model is registered; `kilter-aggregator fleet` lists them")]
    Unknown(Digest),
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
