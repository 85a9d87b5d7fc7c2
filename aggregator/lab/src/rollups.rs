//! Trends over long ranges: roll-ups of the lake's files, kept beside the lab's other files, put together with those of the journal's tail.
//!
//! What is kept here can be made again from the lake at any time, so it is not synced; a file that a crash cut is noticed and made anew.
//! A roll-up goes when its file leaves the table: nothing that was erased or has expired stays in one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use kilter_history::{View, schema_of};
use kilter_lake::{
    Bound, DataFile, RollStep, RollUp, RolledBucket, SCORE_VALUES, Series, Snapshot, TableName, read_rows,
};
use kilter_signal::table::describe;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::completeness::parts;

/// The folder of roll-ups; cheap to clone.
#[derive(Clone)]
pub(crate) struct RollUps {
    folder: PathBuf,
    /// Questions and upkeep make the same files: one at a time writes or clears away.
    pen: Arc<Mutex<()>>,
}

/// What is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trend {
    /// tenant/site/asset/point
    pub(crate) point: String,
    /// Features, or scores.
    #[serde(default)]
    pub(crate) of: Of,
    /// 60, 3600 or 86400.
    pub(crate) step_s: u32,
    /// Event time of the first bucket's begin at the earliest.
    pub(crate) from: i64,
    /// Event time of the last bucket's begin at the latest.
    pub(crate) to: i64,
}

/// Of which table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Of {
    #[default]
    Features,
    Scores,
}

impl Of {
    fn table(self) -> TableName {
        match self {
            Self::Features => TableName::Features,
            Self::Scores => TableName::Scores,
        }
    }
}

impl RollUps {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, pen: Arc::default() }
    }

    /// Least, mean, greatest and count of each feature of a measuring point, or of what each model said of it, per bucket.
    pub(crate) fn trend(&self, views: &[View], asked: &Trend) -> anyhow::Result<Value> {
        let Trend { point, of, step_s, from, to } = asked;
        let step = RollStep::of_secs(*step_s).context("failed to roll up: step_s is 60, 3600 or 86400")?;
        let [tenant, site, asset, place] = parts(point)?;
        ensure!(from <= to, "failed to roll up: the range ends before it begins");
        let buckets = (i128::from(*to) - i128::from(*from)) / i128::from(step.us());
        ensure!(
            buckets <= MAX_BUCKETS,
            "failed to roll up: {buckets} buckets are more than {MAX_BUCKETS}; take a wider step"
        );
        let view = views.iter().find(|view| view.table() == of.table()).context("there is no such table")?;
        let from = step.start_us(*from);
        let texts = [("tenant", tenant), ("site", site), ("asset", asset), ("point", place)];
        let (first, last) = (Bound::Whole(from), Bound::Whole(to.saturating_add(step.us())));
        let may_hold = |file: &&DataFile| {
            let text = |(column, value): &(&str, &str)| {
                let value = Bound::Text((*value).to_owned());
                file.may_hold(column, Some(&value), Some(&value))
            };
            texts.iter().all(text) && file.may_hold("event_time_us", Some(&first), Some(&last))
        };
        let mut all = RollUp::default();
        for file in view.snapshot.files.iter().filter(may_hold) {
            all.join(&self.of(of.table(), file, step)?.part(point, from, *to));
        }
        let seam = view.seam();
        for rows in &view.tail {
            all.join(&RollUp::of(rows, step, |row| rows.journal_offset(row) >= seam).part(point, from, *to));
        }
        Ok(json!({ "point": point, "step_s": step_s, "series": told(*of, &all) }))
    }

    /// Makes the roll-ups of new files, some at a time, and removes those of files that are no longer part of the table.
    pub(crate) fn keep(&self, tables: &[Snapshot]) -> anyhow::Result<()> {
        let files = || tables.iter().flat_map(|table| table.files.iter().map(|file| (table.table, file)));
        let names: BTreeSet<_> = files().flat_map(|(_, file)| RollStep::ALL.map(|step| name(file, step))).collect();
        let pen = self.pen();
        for entry in self.listed()? {
            if !entry.file_name().and_then(|name| name.to_str()).is_some_and(|name| names.contains(name)) {
                std::fs::remove_file(&entry).with_context(|| format!("failed to remove {}", entry.display()))?;
            }
        }
        drop(pen);
        let new = files().filter(|(_, file)| !self.path(file, RollStep::Day).exists());
        new.take(FILES_AT_ONCE).try_for_each(|(table, file)| self.make(table, file).map(drop))
    }

    fn of(&self, table: TableName, file: &DataFile, step: RollStep) -> anyhow::Result<RollUp> {
        let kept = std::fs::read(self.path(file, step)).ok().and_then(|bytes| RollUp::decode(&bytes));
        match kept {
            Some(kept) => Ok(kept),
            None => self.make(table, file)?.remove(&step).context("every step was made"),
        }
    }

    fn make(&self, table: TableName, file: &DataFile) -> anyhow::Result<BTreeMap<RollStep, RollUp>> {
        let rows = read_rows(table, file)?;
        let made = RollStep::ALL.map(|step| (step, RollUp::of(&rows, step, |_| true)));
        let _pen = self.pen();
        for (step, made) in &made {
            let path = self.path(file, *step);
            let temporary = path.with_extension("tmp");
            let write = || {
                std::fs::create_dir_all(&self.folder)?;
                std::fs::write(&temporary, made.encode())?;
                std::fs::rename(&temporary, &path)
            };
            write().with_context(|| format!("failed to write {}", path.display()))?;
        }
        Ok(made.into())
    }

    fn path(&self, file: &DataFile, step: RollStep) -> PathBuf {
        self.folder.join(name(file, step))
    }

    /// Nothing that a panic could leave half done: a file that is cut is made anew.
    fn pen(&self) -> MutexGuard<'_, ()> {
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listed(&self) -> anyhow::Result<Vec<PathBuf>> {
        match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => Ok(entries?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?),
        }
    }
}

/// Names of data files are never used twice.
fn name(file: &DataFile, step: RollStep) -> String {
    let stem = file.path.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}.{}", step.secs())
}

fn told(of: Of, all: &RollUp) -> Vec<Value> {
    let mut widths: BTreeMap<(i32, i64), usize> = BTreeMap::new();
    for (series, _) in all.iter() {
        let width = widths.entry((series.group, series.schema)).or_default();
        *width = (*width).max(usize::from(series.place) + 1);
    }
    let each = all.iter().map(|(series, buckets)| {
        let bucket = |(start, bucket): (&i64, &RolledBucket)| {
            json!([start, bucket.min, bucket.mean(), bucket.max, bucket.count])
        };
        let buckets: Vec<_> = buckets.iter().map(bucket).collect();
        let Series { group, kind, place, .. } = series;
        match of {
            Of::Features => {
                let (name, unit) = named(series, widths[&(series.group, series.schema)]);
                json!({ "group": group, "kind": kind, "place": place, "name": name, "unit": unit, "buckets": buckets })
            }
            Of::Scores => {
                let (role, model) = kind.split_once(' ').unwrap_or((kind, ""));
                let (name, unit) = SCORE_VALUES.get(usize::from(*place)).copied().unwrap_or_default();
                json!({ "group": group, "role": role, "model": model, "name": name, "unit": unit, "buckets": buckets })
            }
        }
    });
    each.collect()
}

/// What a place of a vector is called, where this build knows the schema.
fn named(series: &Series, width: usize) -> (String, &'static str) {
    let known = schema_of(&series.kind, width, series.schema);
    let feature = known.and_then(|schema| schema.features().get(usize::from(series.place)).map(|feature| feature.id));
    match feature.and_then(describe) {
        Some(described) => (described.name.to_string(), described.feature.unit),
        None => (format!("value {}", series.place), ""),
    }
}

/// The most buckets of an answer, per series.
const MAX_BUCKETS: i128 = 20_000;

/// Of a lake that is older than its roll-ups so many files are read after a round; the others when they are asked for.
const FILES_AT_ONCE: usize = 32;
