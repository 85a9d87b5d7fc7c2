//! Protection: a threshold that trips, latches, and waits for a person (A2).
//!
//! It needs a feature and nothing else: no model, no baseline, no journal, no network, no operating state. It is off until a
//! limit is configured.
//!
//! **A row of windows.** A protection trips when its value is beyond the limit in so many windows in a row. A window whose value is
//! missing, or whose samples are stuck, dropped out or outside their range, says nothing of the machine: it is passed over, so that a sensor that blinks
//! does not hold a trip back, and what a broken sensor shows stops nothing. When as many of them come in a row as the protection
//! asks for, what was before them is forgotten: old windows and new ones are then no row. A saturated window counts, because a
//! machine that shakes violently drives its sensor there. A window that was never delivered is not seen here at all.

use kilter_types::{FeatureRow, Quality};
use serde::{Deserialize, Serialize};

use kilter_signal::table::Schema;

use crate::{config::Protection, output::Trip};

/// Which protections of a machine have tripped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Protector {
    tripped: [bool; 4],
}

/// Where each protection stands, per group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Runs([Run; 4]);

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Run {
    /// Windows in a row beyond the limit, of those that say something.
    beyond: u8,
    /// Windows in a row, up to the newest, that say nothing.
    silent: u8,
}

impl Protector {
    /// The first protection that this window trips; if there are more, the next window tells the next.
    pub(crate) fn push(
        &mut self,
        row: &FeatureRow,
        schema: &Schema,
        protections: &[Protection],
        runs: &mut Runs,
    ) -> Option<Trip> {
        let mut trip = None;
        for ((protection, tripped), run) in protections.iter().zip(&mut self.tripped).zip(&mut runs.0) {
            let place = schema.features().iter().position(|feature| feature.id == protection.feature);
            let Some(place) = place else { continue };
            let Some(value) = row.vector.get(place).filter(|_| !row.quality.intersects(WORTHLESS)) else {
                run.silent = run.silent.saturating_add(1);
                if run.silent >= protection.windows {
                    run.beyond = 0;
                }
                continue;
            };
            run.silent = 0;
            run.beyond = if value > protection.above { run.beyond.saturating_add(1) } else { 0 };
            if run.beyond >= protection.windows && !*tripped && trip.is_none() {
                *tripped = true;
                trip = Some(Trip { feature: protection.feature, value, limit: protection.above });
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

/// Flags under which a value that was computed is not the machine's.
const WORTHLESS: Quality = Quality(Quality::STUCK.0 | Quality::DROPOUT.0 | Quality::OUT_OF_RANGE.0);

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_types::{FeatureVector, GroupKind, Micros, OperatingState, Rpm};

    /// The window in which a protection of three windows trips: `x` beyond the limit, `o` below it, `-` without a value, `s` stuck
    /// and `S` saturated beyond it.
    fn trips(windows: &str) -> Option<usize> {
        let schema = Schema::of(GroupKind::Temperature, 1);
        let protections = [Protection { feature: schema.features()[0].id, above: 80.0, windows: 3 }];
        let (mut protector, mut runs) = (Protector::default(), Runs::default());
        windows.chars().position(|window| {
            let value = if window == 'o' { 20.0 } else { 90.0 };
            let vector = FeatureVector {
                schema: schema.hash(),
                values: [value].into_iter().collect(),
                valid: u64::from(window != '-'),
            };
            let quality = match window {
                's' => Quality::STUCK,
                'S' => Quality::SATURATED,
                _ => Quality::GOOD,
            };
            let row = FeatureRow {
                group: 0,
                kind: GroupKind::Temperature,
                index: 0,
                start: Micros(0),
                end: Micros(1),
                state: OperatingState::Unknown,
                rpm: Rpm(0.0),
                quality,
                vector,
            };
            protector.push(&row, &schema, &protections, &mut runs).is_some()
        })
    }

    #[test]
    fn windows_that_say_nothing_neither_trip_nor_hold_a_trip_back_and_long_silence_begins_anew() {
        for (windows, trip) in [
            ("xxx", Some(2)),
            ("xxoxx", None),
            ("xxoxxx", Some(5)),
            ("x-x-x", Some(4)),
            ("xx--x", Some(4)),
            ("xx---x", None),
            ("xx---xxx", Some(7)),
            ("x--x--x", Some(6)),
            ("sssssssss", None),
            ("xsxsx", Some(4)),
            ("xxsssx", None),
            ("SSS", Some(2)),
            ("----------", None),
        ] {
            assert_eq!(trips(windows), trip, "{windows}");
        }
    }
}
