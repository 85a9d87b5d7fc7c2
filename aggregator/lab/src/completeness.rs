//! Is everything there? Holes in the numbers of the nodes that serve a measuring point, against what explains them.
//!
//! A node numbers its records per epoch and class from 0, whatever point they belong to: a number between the last one before the
//! range and the first one after it that no row has is a record that is missing. A hole is explained by the gap that the node
//! declared, by an erasure, or by the retention; what explains nothing is named as such. What a node has not sent yet is beyond its last number and
//! can't be told here. Beside each range stands what its seals say ([`crate::seals`]).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use kilter_history::{View, query};
use kilter_lake::{Ranges, Stream, Streams, TableName};
use serde_json::{Value, json};

use crate::seals::{self, Asked, Known, Verdict};

/// The answer for one point and a range of event time.
pub(crate) fn account(views: &[View], known: &Known, point: &str, from_us: i64, to_us: i64) -> anyhow::Result<Value> {
    let [tenant, site, asset, place] = parts(point)?;
    let at = format!("tenant = '{tenant}' AND site = '{site}' AND asset = '{asset}' AND point = '{place}'");
    let within = format!("event_time_us >= {from_us} AND event_time_us <= {to_us}");
    let rows_of_point = per_device(views, &format!("{at} AND {within}"))?;
    // A range in which the point was silent is asked of the nodes that serve it at other times.
    let devices: BTreeSet<String> = match rows_of_point.is_empty() {
        false => rows_of_point.keys().cloned().collect(),
        true => per_device(views, &at)?.into_keys().collect(),
    };
    let (mut spans, mut holes) = (Vec::new(), Vec::new());
    for device in &devices {
        let gaps = gaps(views, device)?;
        for (stream, numbers) in numbers(views, device, from_us, to_us)? {
            if let Some((first, last)) = numbers.within.span() {
                spans.push((stream.clone(), first, last, numbers.within.count()));
            }
            let missing = missing(views, &stream, &numbers)?;
            for (first, last, cause) in explained(missing, &stream, &gaps, &known.gone) {
                holes.push(json!({
                    "device": device, "epoch": stream.epoch, "class": stream.class,
                    "first": first, "last": last, "cause": cause,
                }));
            }
        }
    }
    let mut asked = Streams::new();
    for (stream, first, last, _) in &spans {
        asked.entry(stream.clone()).or_default().cover(*first, *last);
    }
    let told = seals::check(views, known, &Asked::Of(asked))?;
    let (mut intact, mut ranges) = (true, Vec::new());
    for (stream, first, last, rows) in spans {
        let seals = told.of(&stream, first, last);
        intact &= !seals.iter().any(Verdict::is_broken);
        ranges.push(json!({
            "device": stream.device, "epoch": stream.epoch, "class": stream.class, "first": first, "last": last, "rows": rows,
            "seals": seals.iter().map(Verdict::json).collect::<Vec<_>>(),
        }));
    }
    let rows: u64 = rows_of_point.values().sum();
    let complete = holes.is_empty() && intact;
    Ok(json!({
        "point": point, "complete": complete, "rows": rows, "ranges": ranges, "holes": holes,
        "broken": told.broken(), "keys": told.keys(),
    }))
}

/// The names of a measuring point.
pub(crate) fn parts(point: &str) -> anyhow::Result<[&str; 4]> {
    let parts: Vec<_> = point.split('/').collect();
    let [tenant, site, asset, place] = parts[..] else {
        bail!("failed to look for '{point}': a point is tenant/site/asset/point");
    };
    if parts.iter().any(|part| kilter_types::Name::new(part).is_err()) {
        bail!("failed to look for '{point}': a name in it is not one");
    }
    Ok([tenant, site, asset, place])
}

/// The numbers of one stream around a range.
#[derive(Default)]
struct Numbers {
    /// Those of rows in the range.
    within: Ranges,
    /// The last one of a row before it.
    before: Option<u64>,
    /// The first one of a row after it.
    after: Option<u64>,
}

impl Numbers {
    /// The numbers that belong to the range.
    fn expected(&self) -> Option<(u64, u64)> {
        let span = self.within.span();
        let next = self.before.map_or(0, |before| before + 1);
        let first = span.map_or(next, |(first, _)| next.min(first));
        let last = match (span, self.after) {
            (Some((_, last)), Some(after)) => Some(last.max(after.saturating_sub(1))),
            (Some((_, last)), None) => Some(last),
            (None, Some(after)) => after.checked_sub(1),
            (None, None) => None,
        };
        last.filter(|last| first <= *last).map(|last| (first, last))
    }
}

/// How many rows of each device the condition finds.
pub(crate) fn per_device(views: &[View], condition: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for table in TABLES {
        let sql = format!("SELECT device, COUNT(seq) AS n FROM {table} WHERE {condition} GROUP BY device");
        for row in query(&sql, views, usize::MAX)?.rows {
            if let [Value::String(device), count] = row.as_slice() {
                *counts.entry(device.clone()).or_default() += count.as_u64().unwrap_or(0);
            }
        }
    }
    Ok(counts)
}

fn numbers(views: &[View], device: &str, from_us: i64, to_us: i64) -> anyhow::Result<BTreeMap<Stream, Numbers>> {
    let mut found: BTreeMap<Stream, Numbers> = BTreeMap::new();
    for table in TABLES {
        let rows = |what: &str, when: &str| {
            let sql = format!("SELECT epoch, class, {what} AS n FROM {table} WHERE device = '{device}' AND {when}");
            anyhow::Ok(query(&sql, views, usize::MAX)?.rows)
        };
        let mut each = |rows: Vec<Vec<Value>>, take: fn(&mut Numbers, u64)| -> anyhow::Result<()> {
            for row in rows {
                if let [epoch, Value::String(class), number] = row.as_slice() {
                    let stream = Stream { device: device.to_owned(), epoch: whole(epoch)?, class: class.clone() };
                    take(found.entry(stream).or_default(), whole(number)?);
                }
            }
            Ok(())
        };
        let within = format!("event_time_us >= {from_us} AND event_time_us <= {to_us}");
        each(rows("seq", &within)?, |numbers, seq| {
            numbers.within.insert(seq);
        })?;
        let before = rows("MAX(seq)", &format!("event_time_us < {from_us} GROUP BY epoch, class"))?;
        each(before, |numbers, seq| numbers.before = numbers.before.max(Some(seq)))?;
        let after = rows("MIN(seq)", &format!("event_time_us > {to_us} GROUP BY epoch, class"))?;
        each(after, |numbers, seq| numbers.after = Some(numbers.after.map_or(seq, |known| known.min(seq))))?;
    }
    Ok(found)
}

/// Numbers that belong to the range and that no row has, of whatever time.
fn missing(views: &[View], stream: &Stream, numbers: &Numbers) -> anyhow::Result<Ranges> {
    let Some((first, last)) = numbers.expected() else { return Ok(Ranges::default()) };
    let mut expected = Ranges::default();
    expected.cover(first, last);
    let holes = expected.without(&numbers.within);
    let Some((first, last)) = holes.span() else { return Ok(holes) };
    let mut elsewhere = Ranges::default();
    for table in TABLES {
        let (epoch, class) = (stream.epoch as i64, &stream.class);
        let sql = format!(
            "SELECT seq FROM {table} WHERE device = '{}' AND epoch = {epoch} AND class = '{class}' AND seq >= {first} \
             AND seq <= {last}",
            stream.device
        );
        for row in query(&sql, views, usize::MAX)?.rows {
            if let Some(seq) = row.first() {
                elsewhere.insert(whole(seq)?);
            }
        }
    }
    Ok(holes.without(&elsewhere))
}

/// A gap as a node declared it.
struct Declared {
    stream: Stream,
    first: u64,
    last: u64,
    reason: String,
}

/// Gaps are told late: of any time.
fn gaps(views: &[View], device: &str) -> anyhow::Result<Vec<Declared>> {
    let sql = format!("SELECT gap_class, gap_epoch, first_seq, last_seq, reason FROM gaps WHERE device = '{device}'");
    let mut gaps = Vec::new();
    for row in query(&sql, views, usize::MAX)?.rows {
        if let [Value::String(class), epoch, first, last, Value::String(reason)] = row.as_slice() {
            let stream = Stream { device: device.to_owned(), epoch: whole(epoch)?, class: class.clone() };
            gaps.push(Declared { stream, first: whole(first)?, last: whole(last)?, reason: reason.clone() });
        }
    }
    Ok(gaps)
}

/// Each hole with its cause; a hole with several is told in parts.
fn explained(
    mut missing: Ranges,
    stream: &Stream,
    gaps: &[Declared],
    gone: &[(&str, Streams)],
) -> Vec<(u64, u64, String)> {
    let mut told = Vec::new();
    let mut explain = |missing: Ranges, by: &Ranges, cause: &str| {
        let left = missing.without(by);
        told.extend(missing.without(&left).iter().map(|(first, last)| (first, last, cause.to_owned())));
        left
    };
    for gap in gaps.iter().filter(|gap| gap.stream == *stream) {
        let mut covered = Ranges::default();
        covered.cover(gap.first, gap.last);
        missing = explain(missing, &covered, &gap.reason);
    }
    for (cause, gone) in gone {
        if let Some(gone) = gone.get(stream) {
            missing = explain(missing, gone, cause);
        }
    }
    told.extend(missing.iter().map(|(first, last)| (first, last, "unexplained".to_owned())));
    told.sort();
    told
}

/// A number of 64 bits, which the lake keeps as it is.
pub(crate) fn whole(value: &Value) -> anyhow::Result<u64> {
    Ok(value.as_i64().context("a number is not whole")? as u64)
}

/// The tables that hold records with numbers.
const TABLES: [TableName; 5] =
    [TableName::Features, TableName::Scores, TableName::Events, TableName::Gaps, TableName::Clips];

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        Stream { device: "press".into(), epoch: 5, class: "feature".into() }
    }

    fn ranges(parts: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        parts.iter().for_each(|(first, last)| ranges.cover(*first, *last));
        ranges
    }

    #[test]
    fn a_hole_is_told_in_parts_each_with_its_own_cause() {
        let gap = |first, last, reason: &str| Declared { stream: stream(), first, last, reason: reason.into() };
        let other = Stream { epoch: 6, ..stream() };
        let gaps = [gap(3, 5, "evicted"), gap(5, 7, "disk_failed"), Declared { stream: other, ..gap(0, 99, "no") }];
        let gone = [
            ("erased", Streams::from([(stream(), ranges(&[(9, 9)]))])),
            ("expired", Streams::from([(stream(), ranges(&[(9, 9), (20, 20)]))])),
        ];
        let told = explained(ranges(&[(4, 10), (20, 20)]), &stream(), &gaps, &gone);
        let told: Vec<_> = told.iter().map(|(first, last, cause)| (*first, *last, cause.as_str())).collect();
        let expected = [
            (4, 5, "evicted"),
            (6, 7, "disk_failed"),
            (8, 8, "unexplained"),
            (9, 9, "erased"),
            (10, 10, "unexplained"),
            (20, 20, "expired"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_range_reaches_from_the_number_before_it_to_the_number_after_it() {
        let numbers = |within: &[(u64, u64)], before, after| Numbers { within: ranges(within), before, after };
        assert_eq!(numbers(&[(5, 6)], None, None).expected(), Some((0, 6)), "a node counts from 0");
        assert_eq!(numbers(&[(5, 6)], Some(3), Some(9)).expected(), Some((4, 8)));
        assert_eq!(numbers(&[], Some(3), Some(9)).expected(), Some((4, 8)), "silent in the range");
        assert_eq!(numbers(&[], Some(3), Some(4)).expected(), None);
        assert_eq!(numbers(&[], Some(3), None).expected(), None, "not sent yet, for all we know");
        assert_eq!(numbers(&[(5, 9)], Some(7), Some(8)).expected(), Some((5, 9)), "times that overlap");
    }
}
