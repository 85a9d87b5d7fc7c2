//! Is the lake what it should be, and if not: duplicates are taken out, and what the journal still holds is put back.
//!
//! The journal keeps an entry until lab and snapshot have passed it, in whole segments: what was committed in the last minutes is mostly
//! still there. A damaged file goes only when every record that it held is put back, or when a person asks the edge for them: then it moves to
//! `lab/damaged`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kilter_fold::{Entry, Fold, Output};
use kilter_journal::{Offset, RealFilesystem, follow};
use kilter_lake::{Aside, Checked, DeltaTable, Ranges, Reason, Report, Rows, Stream, Streams, TableName};
use kilter_types::Class;
use serde_json::{Value, json};
use tracing::warn;

use crate::commit::{Committer, lock};
use crate::lab::held;

impl Committer {
    /// Compares every file with the log, and every record with what was published.
    pub(crate) async fn reconcile(&mut self, repair: bool) -> anyhow::Result<Value> {
        let Compared { checked, report, repaired, restored } = self.compare(repair).await?;
        let damage: Vec<_> = report
            .damage
            .iter()
            .map(|damage| json!({ "path": damage.path.display().to_string(), "what": damage.what }))
            .collect();
        Ok(json!({
            "clean": report.is_clean(),
            "files": checked.iter().map(|table| table.files).sum::<usize>(),
            "rows": checked.iter().map(|table| table.rows).sum::<u64>(),
            "damaged": damage,
            "doubled": listed(&report.doubled),
            "lost": listed(&report.lost),
            "repaired_rows": repaired,
            "restored_rows": restored,
        }))
    }

    pub(crate) async fn compare(&mut self, repair: bool) -> anyhow::Result<Compared> {
        let (mut repaired, mut restored) = (0, 0);
        let mut checked = Vec::new();
        for table in self.tables.values_mut() {
            let mut found = table.check().await?;
            if repair && !found.doubled.is_empty() && found.damage.is_empty() {
                repaired += table.single().await?;
                let snapshot = table.current().await?;
                lock(&self.state).committed(snapshot);
                found = table.check().await?;
            }
            checked.push(found);
        }
        let mut report = self.report(&checked);
        if repair && !report.lost.is_empty() {
            restored = self.put_back(&report.lost, &mut checked).await?;
            report = self.report(&checked);
        }
        let named = report.damage.iter().map(|damage| format!("{}: {}", damage.path.display(), damage.what));
        self.status().damaged = named.collect();
        Ok(Compared { checked, report, repaired, restored })
    }

    /// Takes files that can't be used out of their tables: what they held can be asked for elsewhere then. Those that are there and damaged
    /// move to `lab/damaged`. Says which, and how many rows they had: not each of them may be known by its number.
    pub(crate) async fn set_aside(&mut self, compared: &Compared) -> anyhow::Result<Vec<Aside>> {
        let mut aside = Vec::new();
        for found in compared.checked.iter().filter(|found| !found.damage.is_empty()) {
            let Some(table) = self.tables.get_mut(&found.table) else { continue };
            aside.extend(table.set_aside(&found.damage, &self.files.damaged(found.table)).await?);
            let snapshot = table.current().await?;
            lock(&self.state).committed(snapshot);
        }
        for Aside { path, kept, rows, what } in &aside {
            warn!(path = %path.display(), kept = ?kept, rows, what, "a data file was taken out of its table");
        }
        Ok(aside)
    }

    fn report(&self, checked: &[Checked]) -> Report {
        let marks = self.files.committed().map(|committed| committed.marks).unwrap_or_default();
        let mut gone = self.files.erased(Reason::Erase);
        for (stream, ranges) in self.files.erased(Reason::Expire) {
            let all = gone.entry(stream).or_default();
            ranges.iter().for_each(|(first, last)| all.cover(first, last));
        }
        Report::new(checked, &held(&marks), &gone)
    }

    /// Puts back what the journal still holds of these; says how many rows.
    async fn put_back(&mut self, lost: &Streams, checked: &mut [Checked]) -> anyhow::Result<usize> {
        let (journal, wanted) = (self.files.journal(), lost.clone());
        let kept = tokio::task::spawn_blocking(move || kept(&journal, &wanted)).await??;
        let mut restored = 0;
        for found in checked {
            let (Some(table), Some(rows)) = (self.tables.get_mut(&found.table), kept.get(&found.table)) else {
                continue;
            };
            let lost: u64 = lost.iter().filter(|(stream, _)| table_of(stream) == Some(found.table)).map(count).sum();
            let damaged: Vec<PathBuf> = found.damage.iter().map(|damage| damage.path.clone()).collect();
            // Records of a damaged file are among the lost; those that no mark names are not, and would go with it.
            if !damaged.is_empty() && (lost != rows.len() as u64 || lost < held_by(table, &damaged)?) {
                continue;
            }
            table.restore(rows, &damaged).await?;
            restored += rows.len();
            let snapshot = table.current().await?;
            lock(&self.state).committed(snapshot);
            *found = table.check().await?;
        }
        Ok(restored)
    }
}

/// What a look at every file told.
pub(crate) struct Compared {
    /// Table by table.
    pub(crate) checked: Vec<Checked>,
    /// Against what was published.
    pub(crate) report: Report,
    /// Rows that were there twice and are no more.
    pub(crate) repaired: usize,
    /// Rows that the journal still held and that are put back.
    pub(crate) restored: usize,
}

/// How many rows these files had; more than any when the log does not tell.
fn held_by(table: &DeltaTable, files: &[PathBuf]) -> anyhow::Result<u64> {
    let files = table.snapshot()?.files.into_iter().filter(|file| files.contains(&file.path));
    Ok(files.map(|file| file.rows.unwrap_or(u64::MAX)).fold(0, u64::saturating_add))
}

/// Those of the wanted records that the journal still holds, dated anew from what it tells of the devices' clocks.
fn kept(journal: &Path, wanted: &Streams) -> anyhow::Result<BTreeMap<TableName, Rows>> {
    let mut reader = follow(RealFilesystem, journal, Offset(0))?;
    let (mut fold, mut kept) = (Fold::new(), BTreeMap::new());
    while let Some(stored) = reader.next_durable()? {
        let Ok(entry) = Entry::decode(&stored.bytes) else { continue };
        // The marks with which the journal began would hide what is wanted from before.
        let entry = match entry {
            Entry::Opened { journal_id, at, .. } => Entry::Opened { journal_id, at, marks: Vec::new() },
            other => other,
        };
        fold.apply(stored.offset.get(), entry, &mut |output| {
            let Output::Row(row) = &output else { return };
            let class = row.record.class();
            let stream =
                Stream { device: row.device.to_string(), epoch: row.record.epoch.0, class: class.as_str().to_owned() };
            if wanted.get(&stream).is_some_and(|ranges| ranges.contains(row.record.seq)) {
                let table = TableName::of(class);
                kept.entry(table).or_insert_with(|| Rows::new(table)).push(&output);
            }
        });
    }
    Ok(kept)
}

pub(crate) fn table_of(stream: &Stream) -> Option<TableName> {
    Class::ALL.into_iter().find(|class| class.as_str() == stream.class).map(TableName::of)
}

fn count((_, ranges): (&Stream, &Ranges)) -> u64 {
    ranges.count()
}

pub(crate) fn listed(streams: &Streams) -> Vec<Value> {
    let each = streams.iter().flat_map(|(stream, ranges)| {
        ranges.iter().map(move |(first, last)| {
            json!({ "device": stream.device, "epoch": stream.epoch, "class": stream.class, "first": first, "last": last })
        })
    });
    each.collect()
}
