//! Which windows a model may learn from: decided from alarms and labels alone, window by window.
//!
//! A window counts as healthy when the machine ran steadily, nothing was wrong with the window, no alarm was open on the
//! machine (nor was about to be raised: a fault grows before it is found), and nobody called the time faulty. A label
//! overrules the alarms: what a person called healthy is learned, what a person called faulty is not. Windows that are
//! *unwanted* are neither healthy nor faulty: nobody knows.

use std::collections::BTreeMap;

use crate::Asset;

/// A range of event time, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Begin, microseconds.
    pub from_us: i64,
    /// End, microseconds; `i64::MAX` while it lasts.
    pub to_us: i64,
}

/// What is known of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To be learned from.
    Healthy,
    /// A person called it faulty.
    Faulty,
    /// Not to be used.
    Unwanted,
}

/// What keeps windows of each machine out of training.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusions {
    alarms: BTreeMap<Asset, Vec<Interval>>,
    healthy: BTreeMap<Asset, Vec<Interval>>,
    faulty: BTreeMap<Asset, Vec<Interval>>,
    /// Alarms not cleared yet: where they stand in `alarms`.
    open: BTreeMap<(Asset, String, i64), usize>,
}

impl Exclusions {
    /// An alarm of one measuring point was raised or changed. Tell alarms in the order of time.
    pub fn alarm_open(&mut self, asset: &Asset, point: &str, id: i64, at_us: i64) {
        let intervals = self.alarms.entry(asset.clone()).or_default();
        self.open.entry((asset.clone(), point.to_owned(), id)).or_insert_with(|| {
            intervals.push(Interval { from_us: at_us, to_us: i64::MAX });
            intervals.len() - 1
        });
    }

    /// It was cleared.
    pub fn alarm_cleared(&mut self, asset: &Asset, point: &str, id: i64, at_us: i64) {
        let at = self.open.remove(&(asset.clone(), point.to_owned(), id));
        if let (Some(at), Some(intervals)) = (at, self.alarms.get_mut(asset)) {
            intervals[at].to_us = at_us;
        }
    }

    /// A person judged a range of time; a later judgement stands beside an earlier one, and faulty wins.
    pub fn label(&mut self, asset: &Asset, interval: Interval, healthy: bool) {
        let labels = if healthy { &mut self.healthy } else { &mut self.faulty };
        labels.entry(asset.clone()).or_default().push(interval);
    }

    /// The verdict on a window that ends at `at_us`; `margin_us` is how long before an alarm windows are not trusted.
    pub fn judge(&self, asset: &Asset, at_us: i64, margin_us: i64, steady_and_good: bool) -> Verdict {
        let within = |intervals: &BTreeMap<Asset, Vec<Interval>>, margin_us: i64| {
            let of_asset = intervals.get(asset).into_iter().flatten();
            of_asset.into_iter().any(|range| at_us >= range.from_us.saturating_sub(margin_us) && at_us <= range.to_us)
        };
        if !steady_and_good {
            Verdict::Unwanted
        } else if within(&self.faulty, 0) {
            Verdict::Faulty
        } else if within(&self.healthy, 0) || !within(&self.alarms, margin_us) {
            Verdict::Healthy
        } else {
            Verdict::Unwanted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asset() -> Asset {
        Asset { tenant: "t".into(), site: "s".into(), asset: "a".into() }
    }

    #[test]
    fn windows_under_an_alarm_and_shortly_before_it_stay_out() {
        let mut exclusions = Exclusions::default();
        exclusions.alarm_open(&asset(), "p", 1, 100);
        exclusions.alarm_open(&asset(), "p", 1, 150);
        exclusions.alarm_cleared(&asset(), "p", 1, 200);
        let verdict = |at| exclusions.judge(&asset(), at, 20, true);
        assert_eq!([79, 80, 100, 200, 201].map(verdict), {
            use Verdict::{Healthy, Unwanted};
            [Healthy, Unwanted, Unwanted, Unwanted, Healthy]
        });
    }

    #[test]
    fn an_open_alarm_lasts_and_another_machine_is_not_concerned() {
        let mut exclusions = Exclusions::default();
        exclusions.alarm_open(&asset(), "p", 1, 100);
        assert_eq!(exclusions.judge(&asset(), 1_000_000, 0, true), Verdict::Unwanted);
        let other = Asset { asset: "b".into(), ..asset() };
        assert_eq!(exclusions.judge(&other, 1_000_000, 0, true), Verdict::Healthy);
    }

    #[test]
    fn a_label_overrules_an_alarm_and_faulty_overrules_healthy() {
        let mut exclusions = Exclusions::default();
        exclusions.alarm_open(&asset(), "p", 1, 0);
        exclusions.label(&asset(), Interval { from_us: 10, to_us: 30 }, true);
        exclusions.label(&asset(), Interval { from_us: 20, to_us: 40 }, false);
        let verdict = |at| exclusions.judge(&asset(), at, 0, true);
        assert_eq!(
            [5, 15, 25, 35].map(verdict),
            [Verdict::Unwanted, Verdict::Healthy, Verdict::Faulty, Verdict::Faulty]
        );
        assert_eq!(exclusions.judge(&asset(), 15, 0, false), Verdict::Unwanted, "a bad window stays bad");
    }
}
