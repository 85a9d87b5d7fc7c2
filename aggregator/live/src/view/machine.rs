//! Pictures of one machine: runs, trends, spectra, its line in the fleet's table and its latest rows.

use kilter_types::{GroupKind, Quality, Role};

use super::words::{named, operating_state, place_name};
use super::{LatestView, RunView, SpectrumView, TrendView};
use crate::machine::{MAX_ROWS, MAX_SCORES, Machine, ratio};
use crate::{Span, Summary};

/// The ten-minute buckets (six hours) from which a sparkline shows the week.
const WEEK_FROM: usize = 36;

/// The most points of a sparkline.
const SPARK: usize = 60;

pub(super) fn runs(machine: &Machine) -> Vec<RunView> {
    let of = |(span, summary): (Span, Summary), ended: bool| RunView {
        start_us: span.start.0,
        end_us: ended.then_some(span.end.0),
        windows: summary.count,
        rpm: summary.mean(),
    };
    let ended = machine.runs.ended().map(|run| of(run, true));
    ended.chain(machine.runs.current().map(|run| of(run, false))).collect()
}

pub(super) fn trends(machine: &Machine) -> Vec<TrendView> {
    let mut out = Vec::new();
    for (point, state) in &machine.points {
        for role in [Role::Leader, Role::Shadow] {
            let scores = state.scores.iter().filter(|point| point.score.role == role);
            let values: Vec<_> = scores.map(|point| (point.t.0, ratio(&point.score))).collect();
            if values.is_empty() {
                continue;
            }
            let name = if role == Role::Leader { "score / threshold" } else { "shadow score / threshold" };
            let whole = machine.points.values().all(|point| point.scores.len() < MAX_SCORES);
            let week = if role == Role::Leader && !whole { week(&machine.health) } else { Vec::new() };
            out.push(TrendView {
                point: point.to_string(),
                name: name.into(),
                unit: "1",
                limit: Some(1.0),
                values,
                week,
            });
        }
        for group in state.groups.values() {
            for (place, roll_up) in &group.roll_ups {
                let Some((name, unit)) = place_name(group, *place) else { continue };
                let values =
                    group.rows.iter().filter_map(|(t, row)| row.vector.get(*place).map(|value| (t.0, value))).collect();
                // While every row is still there, the roll-up has nothing to add.
                let week = if group.rows.len() < MAX_ROWS { Vec::new() } else { week(roll_up) };
                out.push(TrendView { point: point.to_string(), name, unit, limit: None, values, week });
            }
        }
    }
    out
}

fn week(roll_up: &crate::RollUp) -> Vec<(i64, f32, f32, f32)> {
    roll_up.iter().map(|(t, bucket)| (t.0, bucket.min, bucket.mean(), bucket.max)).collect()
}

pub(super) fn spectra(machine: &Machine) -> Vec<SpectrumView> {
    let mut out = Vec::new();
    for (point, state) in &machine.points {
        for ((_, envelope), (t, spectrum)) in &state.spectra {
            let step = spectrum.full_scale / 65_535.0;
            out.push(SpectrumView {
                point: point.to_string(),
                envelope: *envelope,
                t_us: t.0,
                line_hz: spectrum.line_hz,
                amplitudes_g: spectrum.lines.iter().map(|line| f32::from(*line) * step).collect(),
            });
        }
    }
    out
}

pub(super) fn spark(machine: &Machine) -> Vec<(i64, f32)> {
    // A week once there is some of it, the last scores until then.
    let mut values: Vec<_> = machine.health.iter().map(|(t, bucket)| (t.0, bucket.max)).collect();
    if values.len() < WEEK_FROM {
        let leading = |point: &&crate::ScorePoint| point.score.role == Role::Leader;
        let scores = machine.points.values().map(|point| &point.scores).max_by_key(|scores| scores.len());
        let scores = scores.into_iter().flatten().filter(leading);
        values = scores.map(|point| (point.t.0, ratio(&point.score))).collect();
    }
    let step = values.len().div_ceil(SPARK).max(1);
    values.chunks(step).filter_map(|chunk| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))).collect()
}

pub(super) fn velocity(machine: &Machine) -> Option<f32> {
    let groups = machine.points.values().flat_map(|point| point.groups.values());
    groups
        .filter(|group| group.kind == GroupKind::Vibration)
        .filter_map(|group| group.rows.back())
        .filter_map(|(_, row)| row.vector.get(kilter_signal::table::at::VELOCITY_RMS))
        .max_by(f32::total_cmp)
}

pub(super) fn latest_rows(machine: &Machine) -> Vec<LatestView> {
    let groups =
        machine.points.iter().flat_map(|(point, state)| state.groups.values().map(move |group| (point, group)));
    let rows = groups.filter_map(|(point, group)| group.rows.back().map(|(t, row)| (point, t, row)));
    rows.map(|(point, t, row)| LatestView {
        point: point.to_string(),
        kind: row.kind,
        t_us: t.0,
        operating_state: operating_state(row.state),
        rpm: row.rpm.0,
        quality: Quality::names(row.quality).collect(),
        features: named(row),
    })
    .collect()
}
