//! What the page had shown, told to a server that lost its snapshot: the newest rows of each table as the fold gave them, one JSON object a
//! line, in the order in which they were received.
//!
//! Bounded in rows and in time. It is asked before the server has started its own lab; one that is left behind ends by itself soon, so the
//! lock is waited for.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use kilter_fold::Output;
use kilter_lake::{DataFile, DeltaTable, Rows, Snapshot, TableName, open_gate, read_rows};
use kilter_types::JournalId;
use tracing::{info, warn};

use crate::clock;
use crate::config;
use crate::files::Files;
use crate::lab::SHARD;
use crate::place::place;

/// Writes the rows to standard output.
pub(crate) async fn tell(data: &Path, most_rows: usize) -> anyhow::Result<()> {
    let told = async {
        let files = Files::open(data, open_gate())?;
        let _lock = lock(&files).await?;
        let place = place(data, &config::load(data)?.lake, open_gate()).await?;
        // No row is appended here: whose journal the offsets belong to does not matter.
        let journal_id = JournalId(files.committed().map_or(0, |published| published.journal_id));
        let mut snapshots = Vec::new();
        for name in TableName::ALL {
            snapshots.push(DeltaTable::open_in(&place, name, SHARD, journal_id).await?.current().await?);
        }
        tokio::task::spawn_blocking(move || write(snapshots, most_rows)).await?
    };
    match tokio::time::timeout(MOST, told).await {
        Ok(told) => told,
        Err(_) => bail!("failed to tell what was shown: it takes longer than {} s", MOST.as_secs()),
    }
}

async fn lock(files: &Files) -> anyhow::Result<std::fs::File> {
    let mut tries = LOCK_TRIES;
    loop {
        tries -= 1;
        match files.lock() {
            Err(_) if tries > 0 => clock::pause(LOCK_MS).await,
            lock => return lock,
        }
    }
}

fn write(snapshots: Vec<Snapshot>, most_rows: usize) -> anyhow::Result<()> {
    let mut tables: BTreeMap<TableName, Vec<Rows>> = BTreeMap::new();
    let mut order = Vec::new();
    for Snapshot { table, files, .. } in snapshots {
        let kept = newest(table, files, most_rows);
        let mut rows: Vec<Place> = Vec::new();
        for (chunk, of) in kept.iter().enumerate() {
            rows.extend((0..of.len()).map(|row| place_of(table, of, chunk, row)));
        }
        rows.sort_unstable();
        order.extend(rows.drain(rows.len().saturating_sub(most_rows)..));
        tables.insert(table, kept);
    }
    order.sort_unstable();
    let (mut out, mut count) = (BufWriter::new(std::io::stdout().lock()), 0u64);
    for Place { table, chunk, row, .. } in order {
        let Some(mut output) = tables[&table][chunk].output(row) else { continue };
        if let Output::Quarantine { bytes, .. } = &mut output {
            // They stay where they are.
            bytes.clear();
        }
        serde_json::to_writer(&mut out, &output).context("failed to tell a row")?;
        out.write_all(b"\n").context("failed to tell a row")?;
        count += 1;
    }
    out.flush().context("failed to tell the rows")?;
    info!(rows = count, "told what was shown");
    Ok(())
}

/// A row by when it was received; within one message by when it was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    received_us: i64,
    journal_offset: u64,
    monotonic_us: i64,
    table: TableName,
    seq: i64,
    chunk: usize,
    row: usize,
}

fn place_of(table: TableName, rows: &Rows, chunk: usize, row: usize) -> Place {
    let number = |column| rows.int64(column, row).unwrap_or(0);
    Place {
        received_us: number("received_us"),
        journal_offset: rows.journal_offset(row),
        monotonic_us: number("monotonic_us"),
        table,
        seq: number("seq"),
        chunk,
        row,
    }
}

/// The files that were received last, until there are enough rows. What can't be read was not shown.
fn newest(table: TableName, mut files: Vec<DataFile>, most_rows: usize) -> Vec<Rows> {
    files.sort_by_cached_key(|file| std::cmp::Reverse(file.greatest("received_us").unwrap_or(i64::MAX)));
    let (mut kept, mut count) = (Vec::new(), 0);
    for file in files {
        if count >= most_rows {
            break;
        }
        match read_rows(table, &file) {
            Ok(rows) => {
                count += rows.len();
                kept.push(rows);
            }
            Err(error) => warn!(%error, "a data file was left out"),
        }
    }
    kept
}

/// Rows of each table that are told at most; of the page's rings and trends a small plant needs less.
pub(crate) const MOST_ROWS: usize = 200_000;

/// The server waits so long.
const MOST: Duration = Duration::from_secs(60);
const LOCK_TRIES: u32 = 100;
const LOCK_MS: u64 = 100;
