//! What can go wrong with a table, told so that a full disk is told apart from damage.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::TableName;

type Source = Box<dyn Error + Send + Sync>;

/// Why a table could not be opened, read or appended to. Nothing was committed unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The disk is full; the append can be tried again.
    #[error("write table {table}: the disk that holds {path} is full; nothing was committed, it is tried again")]
    DiskFull {
        /// The table.
        table: TableName,
        /// Its folder.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: Source,
    },
    /// The table can't be opened or created.
    #[error("open table {table} in {path}")]
    Open {
        /// The table.
        table: TableName,
        /// Its folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Source,
    },
    /// The append failed; nothing was committed.
    #[error("append to table {table} in {path}; nothing was committed")]
    Append {
        /// The table.
        table: TableName,
        /// Its folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Source,
    },
    /// A version can't be read.
    #[error("read version {version} of table {table}")]
    Read {
        /// The table.
        table: TableName,
        /// The version.
        version: u64,
        /// The cause.
        #[source]
        source: Source,
    },
    /// A past version has lost a file.
    #[error(
        "read version {version} of table {table}: {path} was removed, by upkeep after its retention or by an erasure"
    )]
    Gone {
        /// The table.
        table: TableName,
        /// The version.
        version: u64,
        /// The file.
        path: PathBuf,
    },
    /// A row lies at or beyond the offset that would be committed with it.
    #[error("append to table {table}: a row of journal offset {row} is not below the commit's offset {offset}")]
    Beyond {
        /// The table.
        table: TableName,
        /// The row's offset.
        row: u64,
        /// The commit's offset.
        offset: u64,
    },
    /// Rows of another table.
    #[error("append to table {table}: these are rows of {rows}")]
    WrongTable {
        /// The table.
        table: TableName,
        /// Whose rows they are.
        rows: TableName,
    },
    /// A bucket can't be reached, or does not let us in.
    #[error("use bucket {bucket}")]
    Bucket {
        /// Its name.
        bucket: String,
        /// The cause.
        #[source]
        source: object_store::Error,
    },
    /// A bucket's server overwrites where a commit must be refused.
    #[error(
        "use bucket {bucket}: its server overwrites an object that was to be created (it must honour If-None-Match)"
    )]
    Overwrites {
        /// Its name.
        bucket: String,
    },
    /// A data file can not be read.
    #[error("read {path} of table {table}")]
    File {
        /// The table.
        table: TableName,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Source,
    },
    /// A correction that this table can not take.
    #[error("correct a record of table {table}: {what}")]
    Correction {
        /// The table.
        table: TableName,
        /// What is wrong with it.
        what: String,
    },
    /// The offset belongs to another journal or shard than the table was opened for.
    #[error("append to table {table}: the offset belongs to another journal")]
    WrongJournal {
        /// The table.
        table: TableName,
    },
}

impl LakeError {
    /// Is it only a full disk?
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    pub(crate) fn append(table: TableName, path: PathBuf, source: impl Into<Source>) -> Self {
        let source = source.into();
        if disk_full(source.as_ref()) {
            Self::DiskFull { table, path, source }
        } else {
            Self::Append { table, path, source }
        }
    }

    pub(crate) fn open(table: TableName, path: PathBuf, source: impl Into<Source>) -> Self {
        let source = source.into();
        if disk_full(source.as_ref()) {
            Self::DiskFull { table, path, source }
        } else {
            Self::Open { table, path, source }
        }
    }
}

/// The layers between us and the disk wrap its error several times, not all of them as a source.
fn disk_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        if error.to_string().contains(STORAGE_FULL) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The operating system's words for ENOSPC.
const STORAGE_FULL: &str = "No space left on device";
