//! A second opinion on every step of the planner, written without looking at how it decides.

use std::collections::BTreeMap;

use kilter_types::{DeviceId, Digest};

use crate::{Desired, Observed, Planner, Policy, Registry, Stage};

/// What is wrong with a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More nodes than allowed got a model on trial.
    #[error("R2: {count} nodes would run {digest} on trial; the policy allows {allowed}")]
    BlastRadius {
        /// The model.
        digest: Digest,
        /// How many would.
        count: usize,
        /// How many may.
        allowed: usize,
    },
    /// A node's generation went back, or its models changed without a new one.
    #[error("R5: the plan of {0} does not rise")]
    Generation(DeviceId),
    /// A model that is not in the registry.
    #[error("the plan of {device} names {digest}, which is not registered")]
    Unknown {
        /// The node.
        device: DeviceId,
        /// The model.
        digest: Digest,
    },
    /// The way back would be lost.
    #[error("R3: the rollback target {0} is not registered any more")]
    Unpinned(Digest),
}

/// Checks a step from `before` to `after`.
pub fn check(
    before: &Planner,
    after: &Planner,
    policy: &Policy,
    registry: &Registry,
    fleet: &BTreeMap<DeviceId, Observed>,
) -> Result<(), Violation> {
    for rollout in after.rollouts() {
        if let Stage::Canary { devices, .. } = &rollout.stage {
            let leader = rollout.pair.leader;
            let on_trial = |device: &DeviceId, desired: &Desired| {
                fleet.contains_key(device)
                    && desired.models.iter().any(|model| model.digest == leader)
                    && (devices.contains(device) || !champion_runs(after, desired, leader))
            };
            let count = after.all_desired().iter().filter(|(device, desired)| on_trial(device, desired)).count();
            if count > policy.canaries {
                return Err(Violation::BlastRadius { digest: leader, count, allowed: policy.canaries });
            }
        }
        let ended = matches!(rollout.stage, Stage::Superseded { .. } | Stage::RolledBack { .. });
        if let (false, Some(previous)) = (ended, rollout.previous)
            && registry.get(previous.leader).is_none()
        {
            return Err(Violation::Unpinned(previous.leader));
        }
    }
    for (device, desired) in after.all_desired() {
        if let Some(old) = before.desired(device) {
            let same = old == desired;
            if !same && desired.generation <= old.generation {
                return Err(Violation::Generation(device.clone()));
            }
        }
        for model in &desired.models {
            if registry.get(model.digest).is_none() {
                return Err(Violation::Unknown { device: device.clone(), digest: model.digest });
            }
        }
    }
    Ok(())
}

/// The digest leads already, so that running it is no trial.
fn champion_runs(planner: &Planner, desired: &Desired, digest: Digest) -> bool {
    desired.models.iter().any(|model| {
        model.digest == digest && planner.champions().get(&model.asset_class).is_some_and(|pair| pair.leader == digest)
    })
}
