//! Is everything there? Holes in the numbers of the nodes that serve a measuring point, against the gaps that explain them.
//!
//! A node numbers its records per class, whatever point they belong to: a hole among all its numbers in the range is a record that
//! is missing. What lies before the first and beyond the last number in the range can't be told here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use kilter_history::{View, query};
use kilter_lake::TableName;
use serde_json::{Value, json};

/// The answer for one point and a range of event time.
pub(crate) fn account(views: &[View], point: &str, from_us: i64, to_us: i64) -> anyhow::Result<Value> {
    let parts: Vec<_> = point.split('/').collect();
    let [tenant, site, asset, place] = parts.as_slice() else {
        bail!("failed to account for '{point}': a point is tenant/site/asset/point");
    };
    if parts.iter().any(|part| kilter_types::Name::new(part).is_err()) {
        bail!("failed to account for '{point}': a name in it is not one");
    }
    let tables = [TableName::Features, TableName::Scores, TableName::Events, TableName::Gaps];
    let range = format!("event_time_us >= {from_us} AND event_time_us <= {to_us}");
    let mut devices = BTreeSet::new();
    let mut rows_of_point = 0;
    for table in tables {
        let sql = format!(
            "SELECT device, COUNT(seq) AS n FROM {table} WHERE tenant = '{tenant}' AND site = '{site}' AND asset = '{asset}' \
             AND point = '{place}' AND {range} GROUP BY device"
        );
        for row in query(&sql, views, usize::MAX)?.rows {
            if let [Value::String(device), count] = row.as_slice() {
                devices.insert(device.clone());
                rows_of_point += count.as_u64().unwrap_or(0);
            }
        }
    }
    let mut numbers: BTreeMap<(String, i64, String), BTreeSet<i64>> = BTreeMap::new();
    let mut gaps = Vec::new();
    for device in &devices {
        for table in tables {
            let sql = format!("SELECT epoch, class, seq FROM {table} WHERE device = '{device}' AND {range}");
            for row in query(&sql, views, usize::MAX)?.rows {
                if let [epoch, Value::String(class), seq] = row.as_slice() {
                    let key = (device.clone(), whole(epoch)?, class.clone());
                    numbers.entry(key).or_default().insert(whole(seq)?);
                }
            }
        }
        // Gaps are told late: of any time.
        let sql =
            format!("SELECT gap_class, gap_epoch, first_seq, last_seq, reason FROM gaps WHERE device = '{device}'");
        for row in query(&sql, views, usize::MAX)?.rows {
            if let [Value::String(class), epoch, first, last, Value::String(reason)] = row.as_slice() {
                gaps.push((device.clone(), whole(epoch)?, class.clone(), whole(first)?, whole(last)?, reason.clone()));
            }
        }
    }
    let mut holes = Vec::new();
    for ((device, epoch, class), seqs) in &numbers {
        for (first, last) in holes_of(seqs) {
            let explained = gaps
                .iter()
                .find(|gap| (&gap.0, gap.1, &gap.2) == (device, *epoch, class) && gap.3 <= first && last <= gap.4);
            let cause = explained.map_or("unexplained", |gap| gap.5.as_str());
            holes.push(json!({ "device": device, "epoch": epoch, "class": class, "first": first, "last": last, "cause": cause }));
        }
    }
    let ranges: Vec<_> = numbers
        .iter()
        .map(|((device, epoch, class), seqs)| {
            json!({ "device": device, "epoch": epoch, "class": class, "first": seqs.first(), "last": seqs.last(), "rows": seqs.len() })
        })
        .collect();
    Ok(json!({ "point": point, "complete": holes.is_empty(), "rows": rows_of_point, "ranges": ranges, "holes": holes }))
}

/// The runs of missing numbers between the first and the last.
fn holes_of(seqs: &BTreeSet<i64>) -> Vec<(i64, i64)> {
    let next = seqs.iter().skip(1);
    seqs.iter().zip(next).filter(|(a, b)| **b - **a > 1).map(|(a, b)| (a + 1, b - 1)).collect()
}

fn whole(value: &Value) -> anyhow::Result<i64> {
    value.as_i64().context("a number is not whole")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_missing_numbers_are_found() {
        assert_eq!(holes_of(&BTreeSet::from([3, 4, 7, 9])), [(5, 6), (8, 8)]);
        assert!(holes_of(&BTreeSet::from([3, 4])).is_empty() && holes_of(&BTreeSet::new()).is_empty());
    }
}
