//! A second opinion on every step of the planner, written without looking at how it decides.

use std::collections::BTreeMap;

use kilter_types::{DeviceId, Digest, Name, Role};

use crate::{Desired, Observed, Pair, Planner, Policy, Registry, Stage};

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
            for trial in new_in(rollout.pair, rollout.previous) {
                let on_trial = |device: &DeviceId, desired: &Desired| {
                    fleet.contains_key(device)
                        && desired.models.iter().any(|model| (model.digest, model.role) == trial)
                        && (devices.contains(device) || !champion_runs(after, desired, trial))
                };
                let count = after.all_desired().iter().filter(|(device, desired)| on_trial(device, desired)).count();
                if count > policy.canaries {
                    return Err(Violation::BlastRadius { digest: trial.0, count, allowed: policy.canaries });
                }
            }
        }
        let ended = matches!(rollout.stage, Stage::Superseded { .. } | Stage::RolledBack { .. });
        if let (false, Some(previous)) = (ended, rollout.previous)
            && let Some((gone, _)) = roles(previous).find(|(digest, _)| registry.get(*digest).is_none())
        {
            return Err(Violation::Unpinned(gone));
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

/// The models of a pair, each with its role.
fn roles(pair: Pair) -> impl Iterator<Item = (Digest, Role)> {
    let roles = [(pair.leader, Role::Leader), (pair.shadow, Role::Shadow)];
    roles.into_iter().filter_map(|(digest, role)| Some((digest?, role)))
}

/// The models of a pair that did not have this role before.
fn new_in(pair: Pair, previous: Option<Pair>) -> impl Iterator<Item = (Digest, Role)> {
    roles(pair).filter(move |model| !previous.is_some_and(|previous| roles(previous).any(|known| known == *model)))
}

/// The model has this role already, so that running it is no trial.
fn champion_runs(planner: &Planner, desired: &Desired, model: (Digest, Role)) -> bool {
    let of_champion =
        |class: &Name| planner.champions().get(class).is_some_and(|pair| roles(*pair).any(|m| m == model));
    desired.models.iter().any(|known| (known.digest, known.role) == model && of_champion(&known.asset_class))
}
