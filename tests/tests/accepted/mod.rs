//! What an aggregator has accepted, read from its journal on disk: the records themselves, not what it says about them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::ensure;
use kilter_fold::{Output, Row};
use kilter_tests::{House, journalled, request};
use kilter_types::{FeatureRow, Payload};

/// Every record once, in the order of the journal.
pub(crate) struct Accepted {
    pub(crate) rows: Vec<Row>,
}

impl Accepted {
    /// Folds the whole journal under the aggregator's data folder. Fails when anything in it could not be read.
    pub(crate) fn read(data: &Path) -> anyhow::Result<Self> {
        let (mut rows, mut refused) = (Vec::new(), Vec::new());
        for output in journalled(data)? {
            match output {
                Output::Row(row) => rows.push(*row),
                Output::Quarantine { device, reason, .. } => refused.push(format!("{device}: {reason}")),
            }
        }
        ensure!(refused.is_empty(), "in quarantine: {refused:?}");
        Ok(Self { rows })
    }

    /// The windows of each asset and point, in their own order: batches may overtake each other on the way.
    pub(crate) fn windows(&self) -> BTreeMap<(String, String), Vec<&FeatureRow>> {
        let mut windows: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in &self.rows {
            if let Payload::Features(features) = &row.record.payload {
                let point = &row.record.point;
                let key = (point.asset.to_string(), point.point.to_string());
                windows.entry(key).or_default().push(features);
            }
        }
        windows.values_mut().for_each(|rows| rows.sort_by_key(|row| row.index));
        windows
    }

    /// Each series holds the windows 0 to n - 1, each once, and no others; every value is a number.
    pub(crate) fn check(&self, expected: &BTreeMap<(String, String), u64>) -> anyhow::Result<()> {
        let windows = self.windows();
        let found: Vec<_> = windows.keys().collect();
        ensure!(found == expected.keys().collect::<Vec<_>>(), "expected the series of {expected:?}, found {found:?}");
        for (key, rows) in &windows {
            let indices: Vec<_> = rows.iter().map(|row| row.index).collect();
            let wanted: Vec<_> = (0..expected[key]).collect();
            let (missing, more) = (less(&wanted, &indices), less(&indices, &wanted));
            ensure!(indices == wanted, "{key:?}: {} windows, missing {missing:?}, too many {more:?}", rows.len());
            let finite = rows.iter().all(|row| row.vector.values.iter().all(|value| value.is_finite()));
            ensure!(finite, "{key:?} holds a value that is no number");
        }
        Ok(())
    }
}

/// Feature rows that the aggregator counts, for waiting only.
pub(crate) fn counted(house: &House) -> Option<u64> {
    let (_, text) = request(house.ports.http, "GET", "/metrics", "").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("kilter_rows_total{class=\"feature\"} "))?;
    line.trim().parse().ok()
}

/// What is in `of` more often than in `without`, which is sorted; at most 20 of them.
fn less(of: &[u64], without: &[u64]) -> Vec<u64> {
    let mut rest = without.to_vec();
    let mut more = Vec::new();
    for value in of {
        match rest.binary_search(value) {
            Ok(at) => drop(rest.remove(at)),
            Err(_) => more.push(*value),
        }
    }
    more.truncate(20);
    more
}
