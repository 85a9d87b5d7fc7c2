//! Which node shall run which model, and how it gets there.
//!
//! The [`Registry`] keeps every model that the lab finished, with its card. The [`Planner`] is pure: from the policy, the
//! registry's champions and what nodes report it decides the next immutable generation; executing it has no choices left.
//! The [`guard`] checks each step independently: never beyond the blast radius (R2), the rollback target pinned (R3),
//! generations only rise (R5). [`enrol`] makes credentials and keeps only their hashes.

pub mod enrol;
pub mod guard;
mod planner;
mod registry;
mod rollout;

pub use planner::{PlanError, Planner};
pub use registry::{Card, CardFeature, Model, Registry, RegistryError};
pub use rollout::{Assignment, Desired, Observed, Pair, Policy, Rollout, Stage, StageChange};
