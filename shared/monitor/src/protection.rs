//! Protection: a threshold that trips, latches, and waits for a person (A2).
//!
//! It needs a feature and nothing else: no model, no baseline, no journal, no network, no operating state. It is off until a
//! limit is configured.

use kilter_types::FeatureVector;
use serde::{Deserialize, Serialize};

use kilter_signal::table::Schema;

use crate::{config::Protection, output::Trip};

/// Which protections of a machine have tripped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Protector {
    tripped: [bool; 4],
}

/// Windows in a row beyond each limit, per group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Runs([u8; 4]);

impl Protector {
    /// The first protection that this window trips.
    pub(crate) fn push(
        &mut self,
        vector: &FeatureVector,
        schema: &Schema,
        protections: &[Protection],
        runs: &mut Runs,
    ) -> Option<Trip> {
        let mut trip = None;
        for ((protection, tripped), run) in protections.iter().zip(&mut self.tripped).zip(&mut runs.0) {
            let place = schema.features().iter().position(|feature| feature.id == protection.feature);
            let Some(value) = place.and_then(|place| vector.get(place)) else { continue };
            *run = if value > protection.above { run.saturating_add(1) } else { 0 };
            if *run >= protection.windows && !*tripped {
                *tripped = true;
                trip = trip.or(Some(Trip { feature: protection.feature, value, limit: protection.above }));
            }
        }
        trip
    }

    pub(crate) fn is_tripped(&self) -> bool {
        self.tripped.contains(&true)
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}
