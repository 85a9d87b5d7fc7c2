//! The lab opened on a data folder: journal reader, fold and tables brought to the same place.
//!
//! Opening finds where to go on: the stored fold with its offset, else the journal's beginning. Rows that a table has committed
//! are left out by its own offset (L1), so any older starting point gives the same lake.
//!
//! A new journal (the old one was lost) starts from the marks that were published last. Rows committed after that publication
//! stand in the lake but in no mark: their records come again and would be doubled. They are found once, in the tables, and kept
//! as *ghosts*.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, bail};
use kilter_fold::Fold;
use kilter_history::{View, asset_classes, query};
use kilter_journal::{Offset as JournalOffset, Reader, RealFilesystem, follow};
use kilter_lake::{DeltaTable, Snapshot, TableName, open_gate};
use kilter_types::{JournalId, Micros};
use serde_json::Value;
use tracing::{info, warn};

use crate::clock;
use crate::files::Files;
use crate::state::{Ghost, State};

/// An opened lab.
pub(crate) struct Lab {
    pub(crate) files: Files,
    pub(crate) journal_id: JournalId,
    pub(crate) reader: Reader,
    pub(crate) tables: BTreeMap<TableName, DeltaTable>,
    pub(crate) state: State,
    pub(crate) lock: std::fs::File,
}

impl Lab {
    /// Opens the lab; waits until there is a journal if `wait` says so.
    pub(crate) async fn open(data: &Path, wait: Wait) -> anyhow::Result<Self> {
        let files = Files::open(data)?;
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
        let lake = data.join("lake");
        std::fs::create_dir_all(&lake).with_context(|| format!("failed to create {}", lake.display()))?;
        let mut tables = BTreeMap::new();
        for name in TableName::ALL {
            let table = DeltaTable::open(&lake, name, SHARD, journal_id, open_gate()).await?;
            tables.insert(name, table);
        }
        let snapshots = tables.values().map(DeltaTable::snapshot).collect::<Result<Vec<_>, _>>()?;
        let (fold, position) = files.fold(id).unwrap_or_else(|| (Fold::new(), 0));
        let ghosts = match files.ghosts(id) {
            Some(ghosts) => ghosts,
            None => find_ghosts(&files, id, snapshots.clone()).await?,
        };
        reader.seek(JournalOffset(position));
        info!(journal = format!("{id:016x}"), position, ghosts = ghosts.len(), "lab opened");
        let mut state = State::new(fold, position, snapshots, ghosts);
        let events = state.pinned().into_iter().find(|view| view.table() == TableName::Events);
        if let Some(events) = events {
            let (classes, drift) = tokio::task::spawn_blocking(move || known(&events)).await??;
            state.know(classes, drift);
        }
        Ok(Self { files, journal_id, reader, tables, state, lock })
    }
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

type Known = (BTreeMap<kilter_history::Asset, String>, BTreeMap<String, Micros>);

/// Kinds of machines and the last drift of each, as the lake tells.
fn known(events: &View) -> anyhow::Result<Known> {
    let classes = asset_classes(events)?;
    let sql = "SELECT tenant, site, asset, received_us FROM events WHERE event = 'drift'";
    let answer = query(sql, std::slice::from_ref(events), usize::MAX)?;
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

/// Records that the lake holds beyond the marks published last, when this is the first sight of a new journal.
async fn find_ghosts(files: &Files, journal_id: u64, snapshots: Vec<Snapshot>) -> anyhow::Result<BTreeSet<Ghost>> {
    let Some(last) = files.committed().filter(|last| last.journal_id != journal_id) else {
        return Ok(BTreeSet::new());
    };
    let find = move || -> anyhow::Result<BTreeSet<Ghost>> {
        let mut ghosts = BTreeSet::new();
        for snapshot in snapshots.into_iter().filter(|snapshot| snapshot.table != TableName::Quarantine) {
            let table = snapshot.table;
            let sql = format!("SELECT device, epoch, class, seq FROM {table} WHERE journal_offset >= {}", last.offset);
            let answer = query(&sql, &[View { snapshot, tail: Vec::new() }], usize::MAX)?;
            for row in answer.rows {
                let [Value::String(device), epoch, Value::String(class), seq] = row.as_slice() else { continue };
                let (Some(epoch), Some(seq)) = (epoch.as_i64(), seq.as_i64()) else { continue };
                ghosts.insert(Ghost { device: device.clone(), epoch, class: class.clone(), seq });
            }
        }
        Ok(ghosts)
    };
    let ghosts = tokio::task::spawn_blocking(find).await??;
    // Durable before the first row of the new journal is committed: later the two could not be told apart.
    files.keep_ghosts(journal_id, &ghosts)?;
    Ok(ghosts)
}

/// The embedded journal has one shard.
pub(crate) const SHARD: u32 = 0;

const POLL_MS: u64 = 100;
