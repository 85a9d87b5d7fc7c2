//! The lab opened on a data folder: journal reader, fold and tables brought to the same place.
//!
//! Opening finds where to go on: the stored fold with its offset, else the journal's beginning. Rows that a table has committed
//! are left out by its own offset (L1), so any older starting point gives the same lake.
//!
//! A new journal (the old one was lost) begins with the marks that were published when the server opened it. Rows committed beyond
//! them stand in the lake but in no mark: their records come again and would be doubled. They are found once, at the first sight of
//! the journal, in the commits of the tables' logs, and kept as *ghosts*; what an earlier loss left of them is carried over.
//!
//! A data file that is gone or damaged keeps no lab from opening: rows are committed and acknowledged as ever. It is named, in the log and in
//! `status`, until its range is asked for again ([`crate::refetch`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kilter_fold::{Entry, Fold, MarkState};
use kilter_history::{View, asset_classes, query};
use kilter_journal::{Offset as JournalOffset, Reader, RealFilesystem, follow};
use kilter_lake::{DeltaTable, Gate, Ranges, Snapshot, Stream, Streams, Table, TableName, open_gate};
use kilter_types::{JournalId, Micros};
use serde_json::Value;
use tracing::{info, warn};

use crate::clock;
use crate::config;
use crate::files::{Files, Ghosts};
use crate::place::place;
use crate::state::State;

/// An opened lab.
pub(crate) struct Lab {
    pub(crate) files: Files,
    pub(crate) journal_id: JournalId,
    pub(crate) reader: Reader,
    pub(crate) tables: BTreeMap<TableName, DeltaTable>,
    pub(crate) state: State,
    /// Data files that can't be read, and why.
    pub(crate) damaged: Vec<String>,
    pub(crate) lock: std::fs::File,
}

impl Lab {
    /// Opens the lab; waits until there is a journal if `wait` says so.
    pub(crate) async fn open(data: &Path, wait: Wait) -> anyhow::Result<Self> {
        Self::open_at(data, wait, open_gate()).await
    }

    /// The same; `gate` is asked before each step of each write to lake and files.
    pub(crate) async fn open_at(data: &Path, wait: Wait, gate: Gate) -> anyhow::Result<Self> {
        let files = Files::open(data, gate.clone())?;
        let lock = files.lock()?;
        let journal = data.join("journal");
        let mut reader = follow(RealFilesystem, &journal, JournalOffset(0))?;
        let id = loop {
            match (reader.journal_id()?, wait) {
                (Some(id), _) => break id,
                (None, Wait::ForJournal) => clock::pause(POLL_MS).await,
                (None, Wait::No) => bail!("failed to open {}: there is no journal", journal.display()),
            }
        };
        let journal_id = JournalId(id);
        let place = place(data, &config::load(data)?.lake, gate).await?;
        let (mut tables, mut snapshots) = (BTreeMap::new(), Vec::new());
        for name in TableName::ALL {
            let table = DeltaTable::open_in(&place, name, SHARD, journal_id).await?;
            snapshots.push(table.current().await?);
            tables.insert(name, table);
        }
        let (fold, position) = begin(&files, id, &mut reader)?;
        let mut damaged = gone(&snapshots);
        let ghosts = find_ghosts(&files, journal_id, &mut reader, &tables, &mut damaged, wait).await?;
        damaged.iter().for_each(|(path, what)| {
            warn!(path = %path.display(), what, "a data file can't be read; `kilter-aggregator refetch` asks the edge for what it held");
        });
        reader.seek(JournalOffset(position));
        info!(
            journal = format!("{id:016x}"),
            position,
            ghosts = ghosts.values().map(Ranges::count).sum::<u64>(),
            "lab opened"
        );
        let mut state = State::new(fold, position, snapshots, ghosts);
        state.lost.want(files.lost());
        state.keep_keys(files.keys());
        let events = state.pinned().into_iter().find(|view| view.table() == TableName::Events);
        if let Some(events) = events {
            match tokio::task::spawn_blocking(move || known(events)).await? {
                Ok((classes, drift)) => state.know(classes, drift),
                Err(error) => warn!(%error, "kinds of machines are not known before their next reports"),
            }
        }
        let damaged = damaged.into_iter().map(|(path, what)| format!("{}: {what}", path.display())).collect();
        Ok(Self { files, journal_id, reader, tables, state, damaged, lock })
    }
}

/// Where to go on: the stored fold with its offset. Without it, from the journal's begin; and where that was released, from the marks that
/// were published: what lies below them was committed, and must not be taken for new when it is sent again.
fn begin(files: &Files, id: u64, reader: &mut Reader) -> anyhow::Result<(Fold, u64)> {
    if let Some(kept) = files.fold(id) {
        return Ok(kept);
    }
    let whole = Ok((Fold::new(), 0));
    let Some(published) = files.committed().filter(|published| published.journal_id == id) else { return whole };
    let mut fold = Fold::new();
    reader.seek(JournalOffset(0));
    while let Some(stored) = reader.next_durable()?.filter(|stored| stored.offset.get() < published.offset) {
        match Entry::decode(&stored.bytes) {
            Ok(Entry::Opened { .. }) => return whole,
            // The comparisons of clocks are what counts here.
            Ok(entry) => fold.apply(stored.offset.get(), entry, &mut drop),
            Err(error) => warn!(offset = stored.offset.get(), %error, "journal entry skipped"),
        }
    }
    warn!(position = published.offset, "the stored fold is lost; going on from the marks that were published");
    fold.take_over(JournalId(id), &published.marks);
    Ok((fold, published.offset))
}

/// Is a missing journal waited for?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The server makes it soon.
    ForJournal,
    /// A person asked for an answer now.
    No,
}

/// Folds what the journal holds now into the state; `true` if there was any.
pub(crate) fn read_on(reader: &mut Reader, state: &mut State, most: usize) -> anyhow::Result<bool> {
    for read in 0..most {
        let Some(entry) = reader.next_durable()? else { return Ok(read > 0) };
        let next = reader.offset().get();
        state.apply(entry.offset.get(), next, &entry.bytes).with_context(|| {
            format!("failed to fold the journal at offset {}; is this lab older than the server?", entry.offset)
        })?;
    }
    for skipped in reader.take_skipped() {
        // What was released had been committed; what was damaged is gone.
        warn!(from = skipped.from.get(), to = skipped.to.get(), reason = ?skipped.reason, "journal entries skipped");
    }
    Ok(true)
}

/// Data files that the newest versions name and that are not there.
fn gone(snapshots: &[Snapshot]) -> BTreeMap<PathBuf, String> {
    let files = snapshots.iter().flat_map(|snapshot| &snapshot.files).filter(|file| !file.path.exists());
    files.map(|file| (file.path.clone(), "it is not there".to_owned())).collect()
}

type Known = (BTreeMap<kilter_history::Asset, String>, BTreeMap<String, Micros>);

/// Kinds of machines and the last drift of each, as what is there of the lake tells.
fn known(mut events: View) -> anyhow::Result<Known> {
    events.snapshot.files.retain(|file| file.path.exists());
    let classes = asset_classes(&events)?;
    let sql = "SELECT tenant, site, asset, received_us FROM events WHERE event = 'drift'";
    let answer = query(sql, std::slice::from_ref(&events), usize::MAX)?;
    let mut drift: BTreeMap<String, Micros> = BTreeMap::new();
    for row in answer.rows {
        let [Value::String(tenant), Value::String(site), Value::String(asset), received] = row.as_slice() else {
            continue;
        };
        let asset = kilter_history::Asset { tenant: tenant.clone(), site: site.clone(), asset: asset.clone() };
        if let (Some(class), Some(received)) = (classes.get(&asset), received.as_i64()) {
            let last = drift.entry(class.clone()).or_default();
            *last = (*last).max(Micros(received));
        }
    }
    Ok((classes, drift))
}

/// Records that the lake holds and that the marks with which this journal began do not cover.
async fn find_ghosts(
    files: &Files,
    journal_id: JournalId,
    reader: &mut Reader,
    tables: &BTreeMap<TableName, DeltaTable>,
    damaged: &mut BTreeMap<PathBuf, String>,
    wait: Wait,
) -> anyhow::Result<Streams> {
    let last = files.ghosts();
    if let Some(known) = last.as_ref().filter(|last| last.journal_id == journal_id.0) {
        return Ok(known.records.iter().cloned().collect());
    }
    // At first sight nothing of the journal was released: its first entry is there.
    reader.seek(JournalOffset(0));
    let marks = loop {
        match (reader.next_durable()?, wait) {
            (Some(entry), _) => match Entry::decode(&entry.bytes)? {
                Entry::Opened { marks, .. } => break marks,
                _ => {
                    // A journal older than this file: its ghosts, if any, were resolved by the build that saw it begin.
                    warn!(journal = format!("{:016x}", journal_id.0), "the journal's opening is gone");
                    return Ok(Streams::new());
                }
            },
            (None, Wait::ForJournal) => clock::pause(POLL_MS).await,
            (None, Wait::No) => return Ok(Streams::new()),
        }
    };
    let held = held(&marks);
    // What an earlier journal left open and these marks cover by now is done with.
    let (versions, carried) = last.map(|last| (last.versions, last.records)).unwrap_or_default();
    let none = Ranges::default();
    let left = |(stream, ranges): (Stream, Ranges)| {
        let left = ranges.without(held.get(&stream).unwrap_or(&none));
        (!left.is_empty()).then_some((stream, left))
    };
    let mut records: Streams = carried.into_iter().filter_map(left).collect();
    for (name, table) in tables.iter().filter(|(name, _)| **name != TableName::Quarantine) {
        let since = versions.get(name).copied().unwrap_or(0);
        let found = table.unpublished(&held, since).await?;
        found.records.into_iter().for_each(|(stream, ranges)| records.entry(stream).or_default().join(&ranges));
        for (path, what) in found.unread {
            damaged.entry(path).or_insert(what);
        }
    }
    // Durable before the first row of the new journal is committed.
    files.keep_ghosts(&Ghosts {
        journal_id: journal_id.0,
        versions: tables.iter().map(|(name, table)| (*name, table.version())).collect(),
        records: records.iter().map(|(stream, ranges)| (stream.clone(), ranges.clone())).collect(),
    })?;
    Ok(records)
}

/// The records below these marks.
pub(crate) fn held(marks: &[MarkState]) -> Streams {
    let mut held = Streams::new();
    for mark in marks {
        let stream =
            Stream { device: mark.device.to_string(), epoch: mark.epoch.0, class: mark.class.as_str().to_owned() };
        let ranges = held.entry(stream).or_default();
        if let Some(last) = mark.to.checked_sub(1) {
            ranges.cover(0, last);
        }
        mark.beyond.iter().for_each(|(first, last)| ranges.cover(*first, *last));
    }
    held
}

/// The embedded journal has one shard.
pub(crate) const SHARD: u32 = 0;

const POLL_MS: u64 = 100;
