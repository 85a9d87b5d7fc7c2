//! Words for features, states and severities, and the sentence that says how a machine is.

use kilter_signal::table::{Schema, describe};
use kilter_types::{Cause, FeatureId, FeatureRow, GroupKind, MAX_FEATURES, OperatingState, Severity};

use super::{AlarmView, FleetRow};
use crate::machine::GroupState;

pub(super) fn named(row: &FeatureRow) -> Vec<(String, &'static str, Option<f32>)> {
    let schema = schema_of(row.kind, row.vector.values.len());
    let features = schema.features().iter().enumerate().take(row.vector.values.len());
    features
        .map(|(place, feature)| {
            let (name, unit) = name_of(feature.id);
            (name, unit, row.vector.get(place))
        })
        .collect()
}

pub(super) fn place_name(group: &GroupState, place: usize) -> Option<(String, &'static str)> {
    let len = group.rows.back().map_or(0, |(_, row)| row.vector.values.len());
    schema_of(group.kind, len).features().get(place).map(|feature| name_of(feature.id))
}

fn schema_of(kind: GroupKind, len: usize) -> Schema {
    let channels = match kind {
        GroupKind::Reading => len / kilter_signal::table::READING.len(),
        GroupKind::Cycle => len.min(MAX_FEATURES),
        GroupKind::Vibration | GroupKind::Temperature => 1,
    };
    Schema::of(kind, channels)
}

pub(super) fn name_of(id: FeatureId) -> (String, &'static str) {
    match describe(id) {
        Some(described) => (described.name.to_string(), described.feature.unit),
        None => (format!("feature {}", id.0), ""),
    }
}
pub(super) fn operating_state(state: OperatingState) -> String {
    match state {
        OperatingState::Unknown => "unknown".into(),
        OperatingState::Off => "off".into(),
        OperatingState::Transient => "transient".into(),
        OperatingState::Steady(bin) => format!("steady, bin {bin}"),
    }
}

pub(super) fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Healthy => "healthy",
        Severity::Watch => "watch",
        Severity::Alarm => "alarm",
        Severity::Danger => "danger",
    }
}

pub(super) fn sentence(row: &FleetRow, alarms: &[AlarmView]) -> String {
    // A cause with a name says more than one without, when both are as bad.
    let open = alarms.iter().filter(|alarm| alarm.open);
    let open = open.max_by_key(|alarm| (alarm.severity, alarm.cause != Cause::Unclear.as_str(), alarm.raised_us));
    match (row.state, open) {
        ("silent", _) => "Nothing has come in for much longer than usual.".into(),
        (_, Some(alarm)) => {
            let what = match alarm.cause {
                "outer_race" => "Outer-race defect",
                "inner_race" => "Inner-race defect",
                "rolling_element" => "Rolling-element defect",
                "cage" => "Cage defect",
                "unbalance" => "Unbalance",
                "misalignment" => "Misalignment",
                "looseness" => "Mechanical looseness",
                "gear" => "Gear damage",
                "overheating" => "Overheating",
                "severity" => "Vibration above its limit",
                "sensor" => "A faulty sensor",
                _ => "Unusual behaviour without a clear cause",
            };
            let proof = match (alarm.evidence.len(), alarm.contributions.first()) {
                (0, None) => "no line of evidence".into(),
                (0, Some(part)) => format!("{} deviates most", part.feature.replace('_', " ")),
                (1, _) => "1 line of evidence".into(),
                (lines, _) => format!("{lines} lines of evidence"),
            };
            format!("{what} at {}; {proof}.", alarm.point)
        }
        ("unknown", None) => "Learning what is normal here; fixed limits watch already.".into(),
        (_, None) if row.score.is_some_and(|score| score > 1.0) => {
            "The score is above its threshold; not long enough for an alarm.".into()
        }
        (_, None) => "Runs as it did when it was commissioned.".into(),
    }
}
