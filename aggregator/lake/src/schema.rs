//! The tables and their columns.
//!
//! Every table is partitioned by `day` (of event time, UTC) and `bucket` (of the device), so that a question about one machine
//! and one day opens few files. Columns are only ever added, at the end of a table's own list.

use std::fmt;

use kilter_types::{Class, DeviceId, Micros};
use serde::{Deserialize, Serialize};

use crate::{Column, ColumnKind};

/// A table of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableName {
    /// Feature rows.
    Features,
    /// Scores.
    Scores,
    /// Alarms, events, openings, reports, baselines and spectra.
    Events,
    /// What is missing, and why.
    Gaps,
    /// What could not be read.
    Quarantine,
    /// Parts of raw clips.
    Clips,
}

impl TableName {
    /// Every table.
    pub const ALL: [Self; 6] = [Self::Features, Self::Scores, Self::Events, Self::Gaps, Self::Quarantine, Self::Clips];

    /// The table that records of this class go to.
    pub fn of(class: Class) -> Self {
        match class {
            Class::Feature => Self::Features,
            Class::Score => Self::Scores,
            Class::Gap => Self::Gaps,
            Class::Clip => Self::Clips,
            Class::Alarm | Class::Event | Class::Report | Class::State | Class::Spectrum => Self::Events,
        }
    }

    /// Its name in SQL and its folder.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Scores => "scores",
            Self::Events => "events",
            Self::Gaps => "gaps",
            Self::Quarantine => "quarantine",
            Self::Clips => "clips",
        }
    }

    /// Its columns, partition columns last.
    pub fn columns(self) -> impl Iterator<Item = Column> + Clone {
        let own = match self {
            Self::Features => FEATURES,
            Self::Scores => SCORES,
            Self::Events => EVENTS,
            Self::Gaps => GAPS,
            Self::Clips => CLIPS,
            Self::Quarantine => return QUARANTINE.iter().chain(&[]).chain(PARTITIONS).copied(),
        };
        COMMON.iter().chain(own).chain(PARTITIONS).copied()
    }

    /// Where column `name` stands.
    pub fn position(self, name: &str) -> Option<usize> {
        self.columns().position(|column| column.name == name)
    }

    /// Column `name` where it stands for what a record says and not for which record it is. Gaps and quarantine are accounts of what came.
    pub(crate) fn content_column(self, name: &str) -> Option<Column> {
        let own = match self {
            Self::Features => FEATURES,
            Self::Scores => SCORES,
            Self::Events => EVENTS,
            Self::Clips => CLIPS,
            Self::Gaps | Self::Quarantine => &[],
        };
        own.iter().copied().find(|column| column.name == name)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The UTC day of an instant, as `2026-01-31`.
pub fn day_of(time: Micros) -> String {
    // Civil date from days since the epoch, by eras of 400 years that begin on 1 March.
    let days = time.0.div_euclid(MICROS_PER_DAY) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The bucket of a device: FNV-1a over its id.
pub fn bucket_of(device: &DeviceId) -> i32 {
    let hash =
        device.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    (hash % BUCKETS) as i32
}

/// How many buckets the devices of a day are spread over.
pub const BUCKETS: u32 = 4;

const MICROS_PER_DAY: i64 = 86_400_000_000;

const fn column(name: &'static str, kind: ColumnKind) -> Column {
    Column { name, kind }
}

const COMMON: &[Column] = &[
    column("tenant", ColumnKind::Text),
    column("site", ColumnKind::Text),
    column("asset", ColumnKind::Text),
    column("point", ColumnKind::Text),
    column("device", ColumnKind::Text),
    column("epoch", ColumnKind::Int64),
    column("seq", ColumnKind::Int64),
    column("class", ColumnKind::Text),
    column("event_time_us", ColumnKind::Int64),
    column("event_bound_us", ColumnKind::Int64),
    column("received_us", ColumnKind::Int64),
    column("monotonic_us", ColumnKind::Int64),
    column("recorded_wall_us", ColumnKind::Int64),
    column("uncertainty_us", ColumnKind::Int64),
    column("timeline", ColumnKind::Text),
    column("journal_offset", ColumnKind::Int64),
];

const FEATURES: &[Column] = &[
    column("group", ColumnKind::Int32),
    column("kind", ColumnKind::Text),
    column("window_index", ColumnKind::Int64),
    column("start_us", ColumnKind::Int64),
    column("end_us", ColumnKind::Int64),
    column("state", ColumnKind::Text),
    column("rpm", ColumnKind::Float32),
    column("quality", ColumnKind::Int32),
    column("schema", ColumnKind::Int64),
    column("valid", ColumnKind::Int64),
    column("values", ColumnKind::Floats),
];

const SCORES: &[Column] = &[
    column("group", ColumnKind::Int32),
    column("window_index", ColumnKind::Int64),
    column("input_seq", ColumnKind::Int64),
    column("anomaly", ColumnKind::Float32),
    column("threshold", ColumnKind::Float32),
    column("rul_h", ColumnKind::Float32),
    column("rul_low_h", ColumnKind::Float32),
    column("rul_high_h", ColumnKind::Float32),
    column("model", ColumnKind::Text),
    column("kernel", ColumnKind::Int32),
    column("role", ColumnKind::Text),
    column("contributions", ColumnKind::Text),
    column("rest", ColumnKind::Float32),
];

const EVENTS: &[Column] = &[
    column("kind", ColumnKind::Text),
    column("event", ColumnKind::Text),
    column("alarm_id", ColumnKind::Int64),
    column("alarm_state", ColumnKind::Text),
    column("severity", ColumnKind::Text),
    column("source", ColumnKind::Text),
    column("cause", ColumnKind::Text),
    column("model", ColumnKind::Text),
    column("group", ColumnKind::Int32),
    column("window_index", ColumnKind::Int64),
    column("from_us", ColumnKind::Int64),
    column("to_us", ColumnKind::Int64),
    column("label", ColumnKind::Text),
    column("json", ColumnKind::Text),
];

const GAPS: &[Column] = &[
    column("gap_class", ColumnKind::Text),
    column("gap_epoch", ColumnKind::Int64),
    column("first_seq", ColumnKind::Int64),
    column("last_seq", ColumnKind::Int64),
    column("reason", ColumnKind::Text),
];

const CLIPS: &[Column] = &[
    column("clip", ColumnKind::Int64),
    column("cause", ColumnKind::Text),
    column("channel", ColumnKind::Text),
    column("unit", ColumnKind::Text),
    column("rate_hz", ColumnKind::Float32),
    column("position", ColumnKind::Int64),
    column("t0_us", ColumnKind::Int64),
    column("part", ColumnKind::Int32),
    column("parts", ColumnKind::Int32),
    column("samples", ColumnKind::Bytes),
];

const QUARANTINE: &[Column] = &[
    column("device", ColumnKind::Text),
    column("received_us", ColumnKind::Int64),
    column("journal_offset", ColumnKind::Int64),
    column("reason", ColumnKind::Text),
    column("bytes", ColumnKind::Bytes),
];

const PARTITIONS: &[Column] = &[column("day", ColumnKind::Text), column("bucket", ColumnKind::Int32)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let day = |secs: i64| day_of(Micros::from_secs(secs));
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(-1), "1969-12-31");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(951_868_800), "2000-03-01");
        assert_eq!(day(1_798_675_199), "2026-12-30");
        assert_eq!(day(1_798_675_200), "2026-12-31");
        assert_eq!(day(4_107_542_400), "2100-03-01");
    }

    #[test]
    fn no_table_has_a_column_twice() {
        for table in TableName::ALL {
            let mut names: Vec<_> = table.columns().map(|column| column.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{table}");
        }
    }
}
