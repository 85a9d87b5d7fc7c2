//! What can go wrong with a journal, told so that the caller can choose: wait for room, start afresh, or ask a person.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Each text reads after "failed to".
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The configuration can't work.
    #[error("configure journal: {reason}")]
    Config {
        /// Which rule is broken.
        reason: &'static str,
    },
    /// Another writer holds the folder.
    #[error("open journal {dir}: another process is writing it")]
    Locked {
        /// The journal's folder.
        dir: PathBuf,
    },
    /// The cap is reached and the drop policy gives nothing up. Releasing makes room.
    #[error("append entry: journal holds {bytes} bytes and {limit} are allowed")]
    Full {
        /// Bytes held now.
        bytes: u64,
        /// The cap that applied to this entry.
        limit: u64,
    },
    /// The disk has no room. Nothing was acknowledged; the call can be repeated once there is room.
    #[error("write {path}: disk full")]
    DiskFull {
        /// The file that was written.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A sync or a write failed earlier. What the disk holds is unknown, so this journal stays dead (J1).
    #[error("use journal: a write or sync failed earlier and what the disk holds is unknown")]
    Dead,
    /// The entry does not fit a segment.
    #[error("append entry of {bytes} bytes: a segment takes {limit}")]
    TooLarge {
        /// Size of the entry with its header.
        bytes: u64,
        /// Largest that fits.
        limit: u64,
    },
    /// Written by a newer version; nothing was touched.
    #[error("read {path}: format version {found} is newer than {supported}", supported = crate::FORMAT_VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// Version found in it.
        found: u32,
    },
    /// The folder now holds another journal than the one this reader follows.
    #[error("follow journal {expected:016x}: the folder now holds journal {found:016x}")]
    Replaced {
        /// Journal this reader started on.
        expected: u64,
        /// Journal found.
        found: u64,
    },
    /// Any other error of the file system.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl JournalError {
    /// Whether room is what is missing: the call can succeed after a release.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::DiskFull { .. })
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.to_owned(), source }
            }
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }
}
