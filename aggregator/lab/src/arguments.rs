//! Amounts as people write them: bytes with k or M, times with a unit, days. And what larger commands take.

use std::path::PathBuf;

use clap::Args;
use kilter_types::Micros;

use crate::{backtest, teach, trainer, training};

/// What a back-test is asked for.
#[derive(Args)]
pub(crate) struct Backtest {
    /// A digest in the outbox, or the file of an artifact (.kltm).
    #[arg(long, value_name = "MODEL", required_unless_present = "rule", conflicts_with = "rule")]
    model: Option<String>,
    /// A fixed limit on a feature instead.
    #[arg(long, value_name = "FEATURE>LIMIT")]
    rule: Option<String>,
    /// Judge by this threshold instead of the model's own.
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,
    /// As the lake stood then: the end of a day as in 2036-01-31 (UTC), or microseconds since 1970 by the lab's clock.
    #[arg(long, value_name = "DATE", value_parser = end_us, allow_negative_numbers = true)]
    as_of: Option<i64>,
    /// Event time to judge, days or microseconds since 1970, both ends included; the model runs up to it from its switch on.
    #[arg(long, value_name = "FROM..TO", value_parser = range_us, default_value = "0..9223372036854775807")]
    range: (i64, i64),
    /// Write everything as one JSON object here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The aggregator's data folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

impl Backtest {
    pub(crate) fn wish(self) -> backtest::Wish {
        let Self { model, rule, threshold, as_of, range: (from, to), json, .. } = self;
        backtest::Wish { model, rule, threshold, as_of: as_of.map(Micros), range: (Micros(from), Micros(to)), json }
    }
}

/// Which record is corrected, and how.
#[derive(Args)]
pub(crate) struct Correct {
    /// Column and new value, as in rpm=1480 or label=healthy; lists and null as in JSON.
    #[arg(required = true, value_name = "COLUMN=VALUE")]
    pub(crate) set: Vec<String>,
    /// The device that made the record.
    #[arg(long)]
    pub(crate) device: String,
    /// Its epoch.
    #[arg(long)]
    pub(crate) epoch: u64,
    /// Its class, as in feature.
    #[arg(long)]
    pub(crate) class: String,
    /// Its number.
    #[arg(long)]
    pub(crate) seq: u64,
    /// Who wants it.
    #[arg(long)]
    pub(crate) who: String,
    /// Why.
    #[arg(long)]
    pub(crate) why: String,
    /// The aggregator's data folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

/// What a training is asked for.
#[derive(Args)]
pub(crate) struct Train {
    /// The aggregator's data folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// One kind of machine only.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// All random choices follow from it.
    #[arg(long)]
    seed: Option<u64>,
    /// Look for better options of the network first, among so many candidates; an interrupted search goes on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    search: Option<u32>,
    /// Steps of each candidate in the first rung of a search; three times as many in the next.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    first_steps: u32,
    /// Choose family and size for the device, and say why.
    #[arg(long)]
    auto: bool,
    /// Memory of the device that the model must fit in, as in 64k or 2M.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    device_ram: Option<usize>,
    /// Time that one score may take on the device, as in 1ms or 500us.
    #[arg(long, value_name = "TIME", value_parser = micros)]
    latency: Option<u64>,
    /// Multiplications with addition that the device does in a second.
    #[arg(long, value_name = "N", default_value_t = 30e6)]
    device_rate: f64,
    /// Go on from the newest network of the class instead of from scratch.
    #[arg(long, conflicts_with_all = ["search", "auto"])]
    warm: bool,
    /// With --warm: share of windows in each step that the network knows already, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = trainer::REHEARSAL, requires = "warm")]
    rehearsal: f64,
}

impl Train {
    pub(crate) fn wish(self) -> teach::Wish {
        let bound = self.device_ram.is_some() || self.latency.is_some();
        let candidates = match self.search {
            Some(candidates) => Some(candidates as usize),
            None => (self.auto || bound).then(|| training::Search::default().candidates),
        };
        let search = candidates.map(|candidates| training::Search {
            candidates,
            first_steps: self.first_steps as usize,
            device_ram_bytes: self.device_ram,
            latency_us: self.latency,
            products_per_sec: self.device_rate,
        });
        teach::Wish { class: self.class, seed: self.seed, search, rehearsal: self.warm.then_some(self.rehearsal) }
    }
}

/// Which key of which device is accepted.
#[derive(Args)]
pub(crate) struct Accept {
    /// The device.
    pub(crate) device: String,
    /// The key as `completeness` and the device itself tell it; compare the two.
    pub(crate) key: String,
    /// Who wants it.
    #[arg(long)]
    pub(crate) who: String,
    /// Why.
    #[arg(long)]
    pub(crate) why: String,
    /// The aggregator's data folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

/// Bytes, as in 64k or 2M (of 1024).
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let (number, times) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |number| (number, 1 << 20)),
    };
    let number: usize = number.parse().map_err(|_| format!("{text} is no number of bytes, as in 64k"))?;
    number.checked_mul(times).ok_or_else(|| format!("{text} is too much"))
}

/// Microseconds, as in 500us, 1ms or 1s.
pub(crate) fn micros(text: &str) -> Result<u64, String> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let found = units.iter().find_map(|(unit, times)| Some((text.strip_suffix(unit)?.parse::<f64>().ok()?, times)));
    match found {
        Some((number, times)) if number > 0.0 && number * times < 1e12 => Ok((number * times).ceil() as u64),
        _ => Err(format!("{text} is no time, as in 1ms")),
    }
}

/// Microseconds since 1970, or the begin of a day as in 2036-01-01 (UTC).
pub(crate) fn begin_us(text: &str) -> Result<i64, String> {
    instant(text).or_else(|_| Ok(day(text)? * DAY_US))
}

/// Microseconds since 1970, or the end of a day.
pub(crate) fn end_us(text: &str) -> Result<i64, String> {
    instant(text).or_else(|_| Ok(day(text)? * DAY_US + DAY_US - 1))
}

/// From a begin to an end, as in 2036-01-01..2036-01-31.
pub(crate) fn range_us(text: &str) -> Result<(i64, i64), String> {
    let (from, to) =
        text.split_once("..").ok_or_else(|| format!("{text} is no range, as in 2036-01-01..2036-01-31"))?;
    let range = (begin_us(from)?, end_us(to)?);
    if range.0 <= range.1 { Ok(range) } else { Err(format!("{text} ends before it begins")) }
}

/// A number that could be a year is most likely meant as one.
fn instant(text: &str) -> Result<i64, ()> {
    text.parse().ok().filter(|us| !(1_000..10_000).contains(us)).ok_or(())
}

/// The number of a day since 1970, by eras of 400 years that begin on 1 March.
fn day(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text} is no day, as in 2036-01-31, and no number of microseconds");
    let parts: Vec<i64> = text.split('-').map(|part| part.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    let [year, month, day] = parts[..] else { return Err(wrong()) };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    if !(1..=9_999).contains(&year) || !(1..=days).contains(&day) {
        return Err(wrong());
    }
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Ok(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

const DAY_US: i64 = 86_400_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar_and_anything_else_is_refused() {
        for (text, secs) in
            [("1970-01-01", 0), ("2000-02-29", 951_782_400), ("2026-12-31", 1_798_675_200), ("1969-12-31", -86_400)]
        {
            assert_eq!(
                (begin_us(text), end_us(text)),
                (Ok(secs * 1_000_000), Ok((secs + 86_400) * 1_000_000 - 1)),
                "{text}"
            );
        }
        assert_eq!((begin_us("-5"), end_us("17")), (Ok(-5), Ok(17)));
        for wrong in
            ["", "2036", "2036-13-01x", "2036-13-01", "2035-02-29", "2036-02-30", "2036-01-00", "0000-01-01", "2036-1"]
        {
            assert!(begin_us(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_range_has_two_ends_in_order() {
        assert_eq!(range_us("1970-01-02..1970-01-02"), Ok((86_400_000_000, 172_799_999_999)));
        assert_eq!(range_us("-5..17"), Ok((-5, 17)));
        for wrong in ["", "5", "5..", "17..-5", "2036-01-02..2036-01-01"] {
            assert!(range_us(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!((bytes("64k"), bytes("2M"), bytes("100")), (Ok(65_536), Ok(2 << 20), Ok(100)));
        assert_eq!((micros("1ms"), micros("500us"), micros("0.5s")), (Ok(1_000), Ok(500), Ok(500_000)));
        for wrong in ["", "k", "-1k", "99999999999999999999M"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        for wrong in ["1", "ms", "-1ms", "0s", "infs", "nans"] {
            assert!(micros(wrong).is_err(), "{wrong}");
        }
    }
}
