//! What a table promises, whatever stands behind it.

use std::future::Future;
use std::path::PathBuf;

use kilter_types::JournalId;
use serde::{Deserialize, Serialize};

use crate::{LakeError, Rows, TableName};

/// A place in a journal: every row below `offset` is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Offset {
    /// The shard; 0 with the embedded journal.
    pub shard: u32,
    /// The journal.
    pub journal_id: JournalId,
    /// Exclusive.
    pub offset: u64,
}

/// What came of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// A new version holds the rows.
    Committed {
        /// The version.
        version: u64,
        /// Rows that it added.
        rows: usize,
    },
    /// The table held everything already, or there was nothing to add.
    Unchanged,
}

/// An append-only table with versions, whose commits carry the journal offset that they reach.
pub trait Table: Send {
    /// Which table it is.
    fn name(&self) -> TableName;

    /// Adds the rows that lie at or above [`Table::committed`] and below `offset`, and commits `offset` with them in one step
    /// (L1). Rows below the committed offset are there already and are left out; without new rows nothing is written. When it
    /// returns an error, nothing was committed, or the commit stands and [`Table::committed`] says so: try again with the same rows.
    fn append(&mut self, rows: &Rows, offset: Offset) -> impl Future<Output = Result<Appended, LakeError>> + Send;

    /// The offset of the journal that the table was opened for; `None` when it holds nothing of that journal.
    fn committed(&self) -> Option<Offset>;

    /// The newest version.
    fn version(&self) -> u64;

    /// All rows as of a version (L3), in no particular order.
    fn read_as_of(&self, version: u64) -> impl Future<Output = Result<Rows, LakeError>> + Send;
}

/// One version of a table, pinned: its files stay as they are whatever is committed later (L2).
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The table.
    pub table: TableName,
    /// The version.
    pub version: u64,
    /// Up to which offset of the current journal it holds everything.
    pub offset: Option<Offset>,
    /// Its files, ordered by path.
    pub files: Vec<DataFile>,
}

/// One Parquet file of a snapshot, under `day=…/bucket=…` of its table's folder. Columns that were added later are missing in it.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its rows, where the log tells.
    pub rows: Option<u64>,
    /// What the log knows of its columns: JSON with the least and the greatest value of each.
    pub stats: Option<String>,
}

/// Checks what every implementation asks of an append, and says which rows are new.
pub(crate) fn new_rows(
    table: TableName,
    rows: &Rows,
    offset: Offset,
    committed: Option<u64>,
) -> Result<Option<std::borrow::Cow<'_, Rows>>, LakeError> {
    if rows.table() != table {
        return Err(LakeError::WrongTable { table, rows: rows.table() });
    }
    let from = committed.unwrap_or(0);
    let (mut old, mut new) = (0, 0);
    for row in 0..rows.len() {
        let at = rows.journal_offset(row);
        if at < from {
            old += 1;
        } else if at < offset.offset {
            new += 1;
        } else {
            return Err(LakeError::Beyond { table, row: at, offset: offset.offset });
        }
    }
    Ok(match (old, new) {
        (_, 0) => None,
        (0, _) => Some(std::borrow::Cow::Borrowed(rows)),
        (_, _) => Some(std::borrow::Cow::Owned(rows.within(from..offset.offset))),
    })
}
