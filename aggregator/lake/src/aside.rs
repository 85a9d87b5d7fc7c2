//! Files that can't be used any more are taken out of their table: those that are gone, and damaged ones, which are kept elsewhere.
//!
//! What such a file held can be asked for at the edge only when the table no longer names it: nobody can tell whether a row is there while a
//! file can't be read. The damaged file itself is not thrown away. It moves to a folder outside of the table, where a person may look at it,
//! and where it stands in the way of neither erasures nor upkeep, which read the files that a table had.

use std::fs::File;
use std::io;
use std::path::{Path as FsPath, PathBuf};

use deltalake::DeltaTableError;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::check::{Damage, Wrong};
use crate::durable::sync_folder;
use crate::place::is_not_found;
use crate::{DeltaTable, LakeError, Rows, Table};

/// A file that was taken out of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Where it lay.
    pub path: PathBuf,
    /// Where it lies now; nowhere when it is gone.
    pub kept: Option<PathBuf>,
    /// How many rows it had, as far as the log tells.
    pub rows: Option<u64>,
    /// What is wrong with it.
    pub what: String,
}

impl DeltaTable {
    /// Takes these files out of the table in one commit; damaged ones move to `folder`. Files that disk or bucket only withhold stay: they may
    /// be whole.
    pub async fn set_aside(&mut self, damage: &[Damage], folder: &FsPath) -> Result<Vec<Aside>, LakeError> {
        let version = self.version();
        let mut aside = Vec::new();
        for file in self.snapshot()?.files {
            let Some(damage) = damage.iter().find(|damage| damage.path == file.path) else { continue };
            let kept = match damage.wrong {
                Wrong::Withheld => continue,
                Wrong::Gone => None,
                // A copy first: a crash leaves the file where it was, or in both places.
                Wrong::Changed => {
                    Some(keep(&file.path, folder).map_err(|error| self.unreadable(version, error.into()))?)
                }
            };
            aside.push(Aside { path: file.path, kept, rows: file.rows, what: damage.what.clone() });
        }
        let paths: Vec<PathBuf> = aside.iter().map(|aside| aside.path.clone()).collect();
        if paths.is_empty() {
            return Ok(aside);
        }
        self.restore(&Rows::new(self.name), &paths).await?;
        for aside in aside.iter().filter(|aside| aside.kept.is_some()) {
            self.remove(&aside.path).await.map_err(|source| self.unreadable(version, source))?;
        }
        Ok(aside)
    }

    async fn remove(&self, path: &FsPath) -> Result<(), DeltaTableError> {
        let within =
            path.strip_prefix(&self.stores.folder).map_err(|error| DeltaTableError::generic(error.to_string()))?;
        let location = Path::from_iter(within.iter().filter_map(|part| part.to_str()));
        let removed = self.stores.log.object_store(None).delete(&location).await.map_err(DeltaTableError::from);
        if self.stores.local.is_none() {
            // The copy for reading goes too; where there is none there is nothing to remove.
            let _ = std::fs::remove_file(path);
        }
        removed.or_else(|error| if is_not_found(&error) { Ok(()) } else { Err(error) })
    }
}

/// Copies a file into a folder, durably.
fn keep(path: &FsPath, folder: &FsPath) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(folder)?;
    let to = folder.join(name);
    std::fs::copy(path, &to)?;
    File::open(&to)?.sync_all()?;
    sync_folder(folder)?;
    Ok(to)
}
