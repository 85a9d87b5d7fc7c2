//! Where the scores of a machine are heading, as the page shows it.

use super::{LimitView, OutlookStep, OutlookView};
use crate::machine::Machine;

/// What is ahead by point and group; a forecast that has run out is none.
pub(super) fn outlooks(machine: &Machine) -> Vec<OutlookView> {
    let all = machine.points.iter().flat_map(|(point, state)| state.outlooks.fans().map(move |fan| (point, fan)));
    let mut all: Vec<_> = all.collect();
    let newest = all.iter().map(|(_, (_, t, _))| *t).max();
    all.retain(|(_, (_, t, fan))| {
        newest.is_some_and(|newest| (newest - *t).0 as f64 <= f64::from(fan.limit.within_h) * HOUR_US)
    });
    let views = all.into_iter().map(|(point, (group, t, fan))| OutlookView {
        point: point.to_string(),
        group,
        t_us: t.0,
        level: fan.level,
        limit_h: (fan.limit.earliest_h, fan.limit.estimate_h, fan.limit.latest_h),
        within_h: fan.limit.within_h,
        steps: fan
            .steps
            .iter()
            .map(|step| OutlookStep { in_h: step.in_h, low: step.low, mid: step.mid, high: step.high })
            .collect(),
    });
    views.collect()
}

/// The one that is at its limit first; of those that are not, the one that is foreseen least far.
pub(super) fn soonest(outlooks: &[OutlookView]) -> Option<LimitView> {
    let when = |view: &OutlookView| {
        let (earliest_h, estimate_h, _) = view.limit_h;
        [estimate_h.unwrap_or(f32::INFINITY), earliest_h.unwrap_or(f32::INFINITY), view.within_h]
    };
    let order = |a: &&OutlookView, b: &&OutlookView| {
        let pairs = when(a).into_iter().zip(when(b)).map(|(a, b)| a.total_cmp(&b));
        pairs.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    };
    let first = outlooks.iter().min_by(order)?;
    Some(LimitView { point: first.point.clone(), limit_h: first.limit_h, within_h: first.within_h })
}

const HOUR_US: f64 = 3.6e9;
