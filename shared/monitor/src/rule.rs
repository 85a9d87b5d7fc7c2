//! Fixed limits: ISO velocity, temperature, and any feature that the configuration names. Active from the first window.

use kilter_signal::{
    table::{Schema, at},
    temperature,
};
use kilter_types::{Cause, Celsius, Evidence, FeatureRow, GroupKind, Severity};

use crate::{config::Limits, hysteresis::Sign};

/// The worst of the fixed limits.
pub(crate) fn rule(row: &FeatureRow, schema: &Schema, limits: &Limits, ratio: f32) -> Option<(Sign, Cause, Evidence)> {
    let mut worst: Option<(Sign, Cause, Evidence)> = None;
    let mut check = |place: usize, alarm: Option<f32>, danger: Option<f32>, cause: Cause| {
        let (Some(value), Some(feature)) = (row.vector.get(place), schema.features().get(place)) else { return };
        let Some(sign) = Sign::of(value, alarm, danger, ratio) else { return };
        let limit = if sign.severity == Severity::Danger { danger } else { alarm }.or(danger).unwrap_or(0.0);
        let new = (sign, cause, Evidence { feature: feature.id, value, limit });
        worst = Some(match &worst {
            Some(old) if old.0.severity >= sign.severity => (old.0.and(sign), old.1, old.2),
            Some(old) => (old.0.and(sign), new.1, new.2),
            None => new,
        });
    };
    match row.kind {
        GroupKind::Vibration => {
            check(at::VELOCITY_RMS, limits.velocity_alarm_mm_s, limits.velocity_danger_mm_s, Cause::Severity);
        }
        GroupKind::Temperature => {
            let celsius = |limit: Option<Celsius>| limit.map(|t| t.0);
            let (alarm, danger) = (celsius(limits.temperature_alarm), celsius(limits.temperature_danger));
            check(temperature::at::LEVEL, alarm, danger, Cause::Overheating);
        }
        GroupKind::Reading | GroupKind::Cycle => {}
    }
    for limit in &limits.features {
        if let Some(place) = schema.features().iter().position(|feature| feature.id == limit.feature) {
            check(place, Some(limit.alarm), Some(limit.danger), limit.cause);
        }
    }
    worst
}
