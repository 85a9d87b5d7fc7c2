//! When the lab trains by itself: by the clock, and again where no model leads and more is known by now. Decided from what it is told and
//! `now`; nothing is read here.

use kilter_types::Micros;
use serde::{Deserialize, Serialize};

use crate::{Again, ConfigError, Training};

/// How a kind of machine was last trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Kept")]
pub struct Last {
    /// When it began, in microseconds.
    pub at_us: i64,
    /// The healthy windows that there were.
    pub windows: u64,
    /// Did one of its models lead?
    pub leads: bool,
}

/// As it is stored; builds before this one stored the time alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Time(i64),
    Whole { at_us: i64, windows: u64, leads: bool },
}

impl From<Kept> for Last {
    fn from(kept: Kept) -> Self {
        match kept {
            // Nothing says that it did not lead.
            Kept::Time(at_us) => Self { at_us, windows: 0, leads: true },
            Kept::Whole { at_us, windows, leads } => Self { at_us, windows, leads },
        }
    }
}

impl Again {
    /// Is it time to count windows again? `looked`: when they were counted last.
    pub fn looks(&self, last: Last, looked: Option<Micros>, now: Micros) -> bool {
        let wait = Micros::from_secs(self.wait_secs.into());
        let since = looked.map_or(last.at_us, |looked| looked.0.max(last.at_us));
        self.growth > 0.0 && !last.leads && now >= Micros(since) + wait
    }

    /// Are there so many more healthy windows that another training may find a leader?
    pub fn has_grown(&self, last: Last, windows: u64) -> bool {
        windows as f64 >= f64::from(self.growth) * last.windows as f64
    }
}

/// When the clock starts a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timetable {
    /// It never does.
    Never,
    /// Each day, so many microseconds after midnight UTC.
    Daily(i64),
    /// When so much has passed since the last one began.
    Every(Micros),
}

impl Timetable {
    /// As the configuration has it.
    pub fn of(config: &Training) -> Result<Self, ConfigError> {
        match (config.at.as_str(), config.every_secs) {
            ("", 0) => Ok(Self::Never),
            ("", secs) => Ok(Self::Every(Micros::from_secs(secs.into()))),
            (at, 0) => Ok(Self::Daily(time_of_day(at)?)),
            (_, _) => Err(ConfigError::TwoTimetables),
        }
    }

    /// Is a run due? `last`: when the clock's last one began, or the lab was first there. A night that the lab slept through is made up for
    /// once.
    pub fn is_due(self, last: Micros, now: Micros) -> bool {
        match self {
            Self::Never => false,
            Self::Daily(after) => {
                let latest = (now.0 - after).div_euclid(DAY_US) * DAY_US + after;
                latest > last.0
            }
            Self::Every(interval) => now >= last + interval,
        }
    }
}

/// Microseconds after midnight of a time like `02:30`.
fn time_of_day(text: &str) -> Result<i64, ConfigError> {
    let part = |part: &str, below: i64| {
        let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse().ok().filter(|value: &i64| digits && *value < below)
    };
    let (hour, minute) = text
        .split_once(':')
        .and_then(|(hour, minute)| Some((part(hour, 24)?, part(minute, 60)?)))
        .ok_or_else(|| ConfigError::TimeOfDay(text.to_owned()))?;
    Ok((hour * 3_600 + minute * 60) * 1_000_000)
}

const DAY_US: i64 = 86_400_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn timetable(at: &str, every_secs: u32) -> Result<Timetable, ConfigError> {
        Timetable::of(&Training { at: at.into(), every_secs, ..Training::default() })
    }

    #[test]
    fn each_night_has_one_run_and_a_night_slept_through_is_made_up_for_once() {
        let nightly = timetable("02:30", 0).expect("a good time");
        let hours = |hours: f64| Micros((hours * 3_600e6) as i64);
        // The lab was first there at noon of some day.
        let mut last = hours(24_012.0);
        let mut runs = Vec::new();
        for minute in 0..3 * 24 * 60 {
            let now = hours(24_012.0 + f64::from(minute) / 60.0);
            if nightly.is_due(last, now) {
                runs.push(now);
                last = now;
            }
        }
        assert_eq!(runs, [24_026.5, 24_050.5, 24_074.5].map(hours));
        // It sleeps for a week.
        let morning = hours(24_074.5 + 7.0 * 24.0 + 5.0);
        assert!(nightly.is_due(last, morning));
        assert!(!nightly.is_due(morning, morning + Micros::from_secs(60)), "once");
        // Before 1970 the day is a day too.
        assert!(nightly.is_due(hours(-22.0), hours(-21.4)) && !nightly.is_due(hours(-21.4), hours(0.0)));
    }

    #[test]
    fn an_interval_counts_from_the_begin_of_the_last_run_and_nothing_set_starts_nothing() {
        let hourly = timetable("", 3_600).expect("a good interval");
        let (begin, hour) = (Micros::from_secs(50), Micros::from_secs(3_600));
        assert!(!hourly.is_due(begin, begin + hour - Micros(1)) && hourly.is_due(begin, begin + hour));
        let never = timetable("", 0).expect("nothing");
        assert!(!never.is_due(Micros(0), Micros(i64::MAX)));
    }

    #[test]
    fn what_is_no_time_of_day_is_refused() {
        for wrong in ["2:30", "24:00", "02:60", "02-30", "0230", "02:30:00", "+2:30", "night"] {
            let said = timetable(wrong, 0).expect_err(wrong).to_string();
            assert!(said.contains(wrong) && said.contains("02:30"), "{said}");
        }
        assert!(timetable("02:30", 60).is_err(), "both");
        assert_eq!(timetable("23:59", 0).expect("a time"), Timetable::Daily(86_340_000_000));
    }

    #[test]
    fn a_class_without_a_leader_is_trained_again_when_there_is_twice_as_much_and_a_while_has_passed() {
        let again = Again { growth: 2.0, wait_secs: 600 };
        let last = Last { at_us: 0, windows: 500, leads: false };
        let at = Micros::from_secs;
        assert!(!again.looks(last, None, at(599)) && again.looks(last, None, at(600)));
        assert!(!again.looks(last, Some(at(600)), at(1_199)) && again.looks(last, Some(at(600)), at(1_200)));
        assert!(!again.looks(Last { leads: true, ..last }, None, at(9_999)), "what leads goes on");
        assert!(!Again { growth: 0.0, ..again }.looks(last, None, at(9_999)), "it is off");
        assert!(!again.has_grown(last, 999) && again.has_grown(last, 1_000));
    }

    #[test]
    fn a_time_that_an_older_build_stored_is_read_and_starts_nothing() {
        let read: Last = serde_json::from_str("1700000000000000").expect("a time");
        assert_eq!(read, Last { at_us: 1_700_000_000_000_000, windows: 0, leads: true });
        let whole = Last { at_us: 5, windows: 7, leads: false };
        let text = serde_json::to_string(&whole).expect("JSON");
        assert_eq!(serde_json::from_str::<Last>(&text).expect("the same"), whole);
    }
}
