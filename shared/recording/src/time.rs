//! Times as files write them, to microseconds since the Unix epoch. A time without a zone is taken as UTC.

use kilter_types::Micros;
use serde::{Deserialize, Serialize};

/// How a column writes its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// `2020-03-09 10:14:33`, with `T`, fractions, `Z` or `+02:00` as they come.
    #[default]
    DateTime,
    /// `2004.02.12.10.32.39`, as the IMS set does.
    Dotted,
    /// Seconds since 1970, fractions allowed.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMillis,
    /// Microseconds since 1970.
    UnixMicros,
}

impl TimeFormat {
    /// What an error calls this format.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::DateTime => "a time like 2020-03-09 10:14:33",
            Self::Dotted => "a time like 2004.02.12.10.32.39",
            Self::UnixSeconds => "seconds since 1970",
            Self::UnixMillis => "milliseconds since 1970",
            Self::UnixMicros => "microseconds since 1970",
        }
    }

    /// The time that `text` states.
    pub fn parse(self, text: &str) -> Option<Micros> {
        match self {
            Self::DateTime => date_time(text),
            Self::Dotted => {
                let mut parts = text.split('.').map(digits);
                let mut next = || parts.next().flatten();
                let date = (next()?, next()?, next()?);
                let time = (next()?, next()?, next()?);
                if parts.next().is_some() { None } else { instant(date, time, 0) }
            }
            Self::UnixSeconds => scaled(text, 1e6),
            Self::UnixMillis => scaled(text, 1e3),
            Self::UnixMicros => text.parse().ok().map(Micros),
        }
    }
}

fn date_time(text: &str) -> Option<Micros> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut parts = date.splitn(3, '-').map(digits);
    let date = (parts.next()??, parts.next()??, parts.next()??);
    let (time, offset_min) = zone(time.trim_start())?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = time.splitn(3, ':').map(digits);
    let time = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    let micros = fraction_micros(fraction)?;
    let at = instant(date, time, micros)?;
    Some(Micros(at.0 - offset_min * 60_000_000))
}

/// The time of day without its zone, and the zone's minutes east.
fn zone(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(place) = time.rfind(['+', '-']) else { return Some((time, 0)) };
    let (hours, minutes) = time[place + 1..].split_once(':')?;
    let minutes = digits(hours)?.checked_mul(60)?.checked_add(digits(minutes)?)?;
    let east = if time.as_bytes()[place] == b'-' { -minutes } else { minutes };
    Some((&time[..place], east))
}

fn fraction_micros(fraction: &str) -> Option<i64> {
    if fraction.is_empty() {
        return Some(0);
    }
    digits(fraction.get(..1)?)?;
    let padded: String = fraction.chars().chain("000000".chars()).take(6).collect();
    digits(&padded)
}

fn scaled(text: &str, to_micros: f64) -> Option<Micros> {
    let value: f64 = text.parse().ok()?;
    let micros = (value * to_micros).round();
    (micros.is_finite() && micros.abs() < 9e18).then_some(Micros(micros as i64))
}

/// Up to nine digits and nothing else.
fn digits(text: &str) -> Option<i64> {
    let good = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if good { text.parse().ok() } else { None }
}

fn instant(date: (i64, i64, i64), time: (i64, i64, i64), micros: i64) -> Option<Micros> {
    let (year, month, day) = date;
    let (hour, minute, second) = time;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    let good = (1..=9999).contains(&year) && (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !good {
        return None;
    }
    let seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(Micros(seconds * 1_000_000 + micros))
}

/// Days by the Gregorian calendar: years begin in March, so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_data_sets_become_microseconds() {
        let cases = [
            (TimeFormat::DateTime, "1970-01-01 00:00:00", 0),
            (TimeFormat::DateTime, "2000-02-29 12:00:00", 951_825_600_000_000),
            (TimeFormat::DateTime, "2020-03-09 10:14:33", 1_583_748_873_000_000),
            (TimeFormat::DateTime, "2013-12-10T06:25:00.25Z", 1_386_656_700_250_000),
            (TimeFormat::DateTime, "2013-12-10T08:25:00+02:00", 1_386_656_700_000_000),
            (TimeFormat::Dotted, "2004.02.12.10.32.39", 1_076_581_959_000_000),
            (TimeFormat::UnixSeconds, "1.5", 1_500_000),
            (TimeFormat::UnixMillis, "-1", -1_000),
            (TimeFormat::UnixMicros, "7", 7),
        ];
        for (format, text, micros) in cases {
            assert_eq!(format.parse(text), Some(Micros(micros)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in
            ["", "2020-02-30 00:00:00", "2020-13-01 00:00:00", "2020-01-01", "2020-01-01 24:00:00", "x", "é-1-1 ü"]
        {
            assert_eq!(TimeFormat::DateTime.parse(text), None, "{text}");
        }
        assert_eq!(TimeFormat::Dotted.parse("2004.02.12.10.32.39.1"), None);
        assert_eq!(TimeFormat::UnixSeconds.parse("NaN"), None);
        assert_eq!(TimeFormat::UnixSeconds.parse("1e300"), None);
    }
}
