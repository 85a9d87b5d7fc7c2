//! The model of a table: commits in memory. What the tests of others use, and what the Delta table is compared with.

use kilter_types::JournalId;

use crate::table::new_rows;
use crate::{Appended, LakeError, Offset, Rows, Table, TableName};

/// A table in memory. Clones of [`MemoryTable::reopen`] share nothing: it is the state that a disk would hold.
#[derive(Clone, Debug)]
pub struct MemoryTable {
    name: TableName,
    shard: u32,
    journal_id: JournalId,
    /// Each commit adds rows; version `n` holds the first `n`.
    commits: Vec<(Rows, Offset)>,
}

impl MemoryTable {
    /// An empty table, version 0.
    pub fn new(name: TableName, shard: u32, journal_id: JournalId) -> Self {
        Self { name, shard, journal_id, commits: Vec::new() }
    }

    /// The same table, opened for another journal.
    pub fn reopen(self, shard: u32, journal_id: JournalId) -> Self {
        Self { shard, journal_id, ..self }
    }
}

impl Table for MemoryTable {
    fn name(&self) -> TableName {
        self.name
    }

    async fn append(&mut self, rows: &Rows, offset: Offset) -> Result<Appended, LakeError> {
        if (offset.shard, offset.journal_id) != (self.shard, self.journal_id) {
            return Err(LakeError::WrongJournal { table: self.name });
        }
        let committed = self.committed().map(|offset| offset.offset);
        let Some(rows) = new_rows(self.name, rows, offset, committed)? else {
            return Ok(Appended::Unchanged);
        };
        let count = rows.len();
        self.commits.push((rows.into_owned(), offset));
        Ok(Appended::Committed { version: self.version(), rows: count })
    }

    fn committed(&self) -> Option<Offset> {
        let ours = |offset: &Offset| (offset.shard, offset.journal_id) == (self.shard, self.journal_id);
        self.commits.iter().rev().map(|(_, offset)| *offset).find(ours)
    }

    fn version(&self) -> u64 {
        self.commits.len() as u64
    }

    async fn read_as_of(&self, version: u64) -> Result<Rows, LakeError> {
        let count = usize::try_from(version).ok().filter(|count| *count <= self.commits.len());
        let Some(count) = count else {
            return Err(LakeError::Read { table: self.name, version, source: "there is no such version".into() });
        };
        let mut all = Rows::new(self.name);
        self.commits[..count].iter().for_each(|(rows, _)| all.extend(rows));
        Ok(all)
    }
}
