//! Plans and manifests, checked: what is not followed and why, and which machine shall run what is.

use kilter_signal::table;
use kilter_types::{DeviceId, Generation, Manifest, Micros, Name, Role};
use kilter_wire::{Plan, SignError, VERSION};
use thiserror::Error;

/// A model that a machine shall run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) machine: usize,
    pub(crate) manifest: Manifest,
}

/// A machine as plans see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) asset: Name,
    pub(crate) class: Name,
}

/// Why a plan, or one of its models, is not followed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// For another node.
    #[error("the plan is for device {0}")]
    Device(DeviceId),
    /// Not signed by the fleet's key.
    #[error("{0}")]
    Signature(SignError),
    /// Not above the last one (R5).
    #[error("generation {found} is not above {last}, the last one seen")]
    Generation {
        /// The one refused.
        found: u64,
        /// The last one seen.
        last: u64,
    },
    /// Past its date, as surely as the clock can tell.
    #[error("the model expired; it is not installed")]
    Expired,
    /// It wants a newer agent.
    #[error("the model needs wire version {0}, this agent speaks {VERSION}")]
    Agent(u16),
    /// It asks for a feature that is not computed here (M1).
    #[error("the model asks for feature {0} by a definition that this agent does not have")]
    Feature(u16),
}

impl Refusal {
    /// A word for [`kilter_types::Event::ModelRefused`].
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Device(_) => "other_device",
            Self::Signature(_) => "signature",
            Self::Generation { .. } => "old_generation",
            Self::Expired => "expired",
            Self::Agent(_) => "agent_too_old",
            Self::Feature(_) => "missing_feature",
        }
    }
}

/// Checks a plan as a whole: device, signature, order. Returns its manifests, each with what is wrong with it by itself.
pub(crate) fn check_plan(
    plan: &Plan<'_>,
    device: &DeviceId,
    key: &[u8; 32],
    last: Generation,
) -> Result<Vec<Result<Manifest, Refusal>>, Refusal> {
    if plan.device != *device {
        return Err(Refusal::Device(plan.device.clone()));
    }
    plan.verify(key).map_err(Refusal::Signature)?;
    if plan.generation <= last {
        return Err(Refusal::Generation { found: plan.generation.0, last: last.0 });
    }
    Ok(plan.models.iter().map(|model| model.verify(key).map_err(Refusal::Signature)).collect())
}

/// Checks what a manifest demands of this agent and of the time: `now` may be off by `uncertainty`, and what is not surely expired is not.
pub(crate) fn check_manifest(manifest: &Manifest, now: Micros, uncertainty: Micros) -> Result<(), Refusal> {
    if now - uncertainty > manifest.expires {
        return Err(Refusal::Expired);
    }
    if manifest.minimum_agent > u16::from(VERSION) {
        return Err(Refusal::Agent(manifest.minimum_agent));
    }
    let strange = manifest
        .features
        .iter()
        .find(|feature| table::describe(feature.id).is_none_or(|known| known.feature.reference() != **feature));
    strange.map_or(Ok(()), |feature| Err(Refusal::Feature(feature.id.0)))
}

/// Which machine shall run which manifest: the one for the asset before the one for its class.
pub(crate) fn assign(machines: &[Candidate], manifests: &[Manifest]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (machine, candidate) in machines.iter().enumerate() {
        for role in [Role::Leader, Role::Shadow] {
            let fits = |manifest: &&Manifest| {
                let asset = manifest.key.asset.as_ref();
                manifest.role == role
                    && manifest.key.asset_class == candidate.class
                    && asset.is_none_or(|asset| *asset == candidate.asset)
            };
            let best = manifests.iter().filter(fits).max_by_key(|manifest| manifest.key.asset.is_some());
            wanted.extend(best.map(|manifest| Wanted { machine, manifest: manifest.clone() }));
        }
    }
    wanted
}
