//! How many rows a device may bring in a day (UTC, by receipt), so that one that runs wild does not fill history for all.
//!
//! What is more is not refused: the device would keep it and send it again for ever. It is journalled as over its quota, and the fold puts it
//! into quarantine as held. Alarms, events, gaps and reports are no rows here. The count is kept in memory: a restart begins the day anew.

use kilter_types::Micros;

/// The rows of one device today.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    day: i64,
    rows: u64,
}

impl Quota {
    /// Counts these rows in, if the day has room for all of them; with `most` of 0 it always has.
    pub(crate) fn take(&mut self, rows: u64, most: u64, received: Micros) -> bool {
        let day = received.0.div_euclid(DAY_US);
        if self.day != day {
            *self = Self { day, rows: 0 };
        }
        let after = self.rows.saturating_add(rows);
        let fits = most == 0 || rows == 0 || after <= most;
        if fits {
            self.rows = after;
        }
        fits
    }
}

const DAY_US: i64 = 86_400_000_000;
