//! Where a lake lies: a folder of this machine, or a bucket behind an object store that can put conditionally.
//!
//! Readers open files by path. Those of a bucket are fetched into a cache first; data files never change and never share a
//! name, so a file that is there is the right one.

use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::{DeltaTableError, ensure_table_uri};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::durable::{DurableStore, sync_folder};
use crate::{Gate, TableName};

/// See the module's text.
#[derive(Clone)]
pub enum Place {
    /// A folder; every write is fsynced.
    Folder {
        /// The lake's folder.
        path: PathBuf,
        /// Asked before each step of a write.
        gate: Gate,
    },
    /// A bucket.
    Bucket {
        /// The store, rooted at the bucket. It must refuse to create what exists.
        store: Arc<dyn ObjectStore>,
        /// Its address without path and slash, as in `s3://name`.
        url: String,
        /// The lake's prefix in it.
        prefix: String,
        /// Where fetched files are kept for reading.
        cache: PathBuf,
    },
}

/// One table's stores.
pub(crate) struct Stores {
    /// What the log and its data are read and written through.
    pub(crate) log: LogStoreRef,
    /// On a local disk: the same, with what only a disk can do.
    pub(crate) local: Option<Arc<DurableStore>>,
    /// Under it lie the files that readers open.
    pub(crate) folder: PathBuf,
}

impl Place {
    /// The folder that readers find the table's files in.
    pub fn folder(&self, table: TableName) -> PathBuf {
        match self {
            Self::Folder { path, .. } => path.join(table.as_str()),
            Self::Bucket { cache, .. } => cache.join(table.as_str()),
        }
    }

    pub(crate) fn connect(&self, table: TableName) -> Result<Stores, DeltaTableError> {
        let folder = self.folder(table);
        match self {
            Self::Folder { path, gate } => {
                let name = folder.to_str().ok_or_else(|| DeltaTableError::generic("the folder's name is not UTF-8"))?;
                let url = ensure_table_uri(name)?;
                sync_folder(path)?;
                sweep(&folder)?;
                let store = Arc::new(DurableStore::new(Some(&folder), gate.clone())?);
                let root = Arc::new(DurableStore::new(None, gate.clone())?);
                let log = default_logstore(store.clone(), root, &url, &StorageConfig::default());
                Ok(Stores { log, local: Some(store), folder })
            }
            Self::Bucket { store, url, prefix, .. } => {
                std::fs::create_dir_all(&folder)?;
                let within = if prefix.is_empty() { table.to_string() } else { format!("{prefix}/{table}") };
                let url = format!("{url}/{within}");
                let url = url.parse().map_err(|_| DeltaTableError::InvalidTableLocation(url))?;
                let table_store = Arc::new(PrefixStore::new(store.clone(), Path::from(within)));
                let log = default_logstore(table_store, store.clone(), &url, &StorageConfig::default());
                Ok(Stores { log, local: None, folder })
            }
        }
    }
}

impl Stores {
    /// Makes sure that the file lies where readers look for it.
    pub(crate) async fn fetch(&self, path: &FsPath) -> Result<(), DeltaTableError> {
        if path.exists() { Ok(()) } else { self.fetch_anew(path).await }
    }

    /// The same, whatever lies there by now: the bucket is what counts.
    pub(crate) async fn fetch_anew(&self, path: &FsPath) -> Result<(), DeltaTableError> {
        if self.local.is_some() {
            return Ok(());
        }
        let within = path.strip_prefix(&self.folder).map_err(|error| DeltaTableError::generic(error.to_string()))?;
        let location = Path::from_iter(within.iter().filter_map(|part| part.to_str()));
        let bytes = self.log.object_store(None).get(&location).await?.bytes().await?;
        let keep = || -> io::Result<()> {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            let mut staging = path.as_os_str().to_owned();
            staging.push("#fetched");
            let mut file = std::fs::File::create(&staging)?;
            file.write_all(&bytes)?;
            // A name must not outlive its bytes: what is there is not fetched again.
            file.sync_all()?;
            std::fs::rename(&staging, path)
        };
        Ok(keep()?)
    }
}

/// Is the file not there?
pub(crate) fn is_not_found(error: &DeltaTableError) -> bool {
    match error {
        DeltaTableError::ObjectStore { source } => matches!(source, object_store::Error::NotFound { .. }),
        DeltaTableError::Io { source } => source.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Removes staging files that a process left behind which died while it wrote: the lab's lock says that it is gone.
fn sweep(folder: &FsPath) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sweep(&entry.path())?;
        } else if entry.file_name().to_str().is_some_and(|name| name.contains('#')) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
