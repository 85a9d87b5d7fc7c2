//! The local object store with the fsyncs that it lacks.
//!
//! `object_store`'s own local backend renames files into place without a single fsync: after power loss a log entry could name
//! files that are empty. Here every put goes
//!
//! ```text
//! folders made, each fsynced into its parent → staging file written → fsynced → linked (create) or renamed → folder fsynced
//! ```
//!
//! so that data files are on disk before the log entry that names them, and the log entry before the offset is told. Staging
//! files are named `…#n`, which the backend hides from listings. A [`Gate`] stands before each step, so that tests can let the
//! disk fill up or the power go at any of them.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::BoxStream;
use kilter_types::Digest;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use sha2::{Digest as _, Sha256};

/// A step of writing a file durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its bytes go to a staging file.
    Write,
    /// The staging file is fsynced.
    SyncFile,
    /// It gets its name.
    Publish,
    /// Its folder is fsynced.
    SyncFolder,
}

/// Asked before each step with the file's final path; an error stops the write there.
pub type Gate = Arc<dyn Fn(Step, &FsPath) -> io::Result<()> + Send + Sync>;

/// The gate of a healthy disk.
pub fn open_gate() -> Gate {
    Arc::new(|_, _| Ok(()))
}

/// Fsyncs a folder.
pub(crate) fn sync_folder(path: &FsPath) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// See the module's documentation.
pub(crate) struct DurableStore {
    inner: LocalFileSystem,
    gate: Gate,
    /// Files published since [`DurableStore::begin`], with their SHA-256.
    published: Published,
}

type Published = Arc<Mutex<Vec<(PathBuf, Digest)>>>;

impl DurableStore {
    /// The store of this folder, or of the whole file system.
    pub(crate) fn new(prefix: Option<&FsPath>, gate: Gate) -> Result<Self> {
        let inner = match prefix {
            Some(prefix) => LocalFileSystem::new_with_prefix(prefix)?,
            None => LocalFileSystem::new(),
        };
        Ok(Self { inner, gate, published: Arc::default() })
    }

    /// Forgets which files were published so far.
    pub(crate) fn begin(&self) {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Removes the data files published since [`DurableStore::begin`]: their commit failed, and on a full disk they would stay
    /// in the way of the next try.
    pub(crate) fn take_back(&self) {
        for (path, _) in self.published.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if path.extension().is_some_and(|extension| extension == "parquet") {
                // What can't be removed is an unreferenced file: no reader sees it.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// The SHA-256 of a file published since [`DurableStore::begin`], by its path in the table.
    pub(crate) fn digest_of(&self, location: &str) -> Option<Digest> {
        let path = self.inner.path_to_filesystem(&Path::parse(location).ok()?).ok()?;
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.iter().rev().find(|(known, _)| *known == path).map(|(_, digest)| *digest)
    }

    fn staging(path: &FsPath) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut staging = path.as_os_str().to_owned();
        staging.push(format!("#{}{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        staging.into()
    }
}

#[async_trait::async_trait]
impl ObjectStore for DurableStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let path = self.inner.path_to_filesystem(location)?;
        let (gate, published) = (self.gate.clone(), self.published.clone());
        blocking(move || {
            let staging = Self::staging(&path);
            let put = || {
                prepare_folder(&path)?;
                gate(Step::Write, &path)?;
                let mut file = File::create_new(&staging)?;
                let mut hash = Sha256::new();
                payload.iter().try_for_each(|part| {
                    hash.update(part);
                    file.write_all(part)
                })?;
                gate(Step::SyncFile, &path)?;
                file.sync_all()?;
                publish(&staging, &path, &opts.mode, &gate)?;
                Ok(Digest(hash.finalize().into()))
            };
            let done = put();
            match done {
                Ok(digest) => published.lock().unwrap_or_else(PoisonError::into_inner).push((path, digest)),
                Err(error) => {
                    let _ = std::fs::remove_file(&staging);
                    return Err(told(&path, error));
                }
            }
            Ok(PutResult { e_tag: None, version: None })
        })
        .await
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let path = self.inner.path_to_filesystem(location)?;
        let (gate, published) = (self.gate.clone(), self.published.clone());
        blocking(move || {
            let staging = Self::staging(&path);
            let create = || {
                prepare_folder(&path)?;
                File::create_new(&staging)
            };
            let file = Arc::new(create().map_err(|error| told(&path, error))?);
            let (hash, written_bytes) = (Sha256::new(), 0);
            let upload = Upload { file, staging, path, hash, written_bytes, done: false, gate, published };
            Ok(Box::new(upload) as Box<dyn MultipartUpload>)
        })
        .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.sync(to, true).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.sync(to, true).await?;
        self.sync(from, false).await
    }
}

impl DurableStore {
    async fn sync(&self, location: &Path, file: bool) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        blocking(move || {
            let sync = || {
                if file {
                    File::open(&path)?.sync_all()?;
                }
                path.parent().map_or(Ok(()), sync_folder)
            };
            sync().map_err(|error| told(&path, error))
        })
        .await
    }
}

/// A large file, written part by part.
struct Upload {
    file: Arc<File>,
    staging: PathBuf,
    path: PathBuf,
    hash: Sha256,
    written_bytes: u64,
    done: bool,
    gate: Gate,
    published: Published,
}

#[async_trait::async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (file, path, gate) = (self.file.clone(), self.path.clone(), self.gate.clone());
        // Parts are handed over in order, though they may be written in any.
        data.iter().for_each(|part| self.hash.update(part));
        let mut at = self.written_bytes;
        self.written_bytes += data.content_length() as u64;
        blocking(move || {
            let write = || {
                gate(Step::Write, &path)?;
                for part in data.iter() {
                    file.write_all_at(part, at)?;
                    at += part.len() as u64;
                }
                Ok(())
            };
            let mut write = write;
            write().map_err(|error| told(&path, error))
        })
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (file, staging, path, gate) =
            (self.file.clone(), self.staging.clone(), self.path.clone(), self.gate.clone());
        blocking(move || {
            let complete = || {
                gate(Step::SyncFile, &path)?;
                file.sync_all()?;
                publish(&staging, &path, &PutMode::Overwrite, &gate)
            };
            complete().map_err(|error| told(&path, error))
        })
        .await?;
        self.done = true;
        let digest = Digest(self.hash.finalize_reset().into());
        self.published.lock().unwrap_or_else(PoisonError::into_inner).push((self.path.clone(), digest));
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        self.done = true;
        std::fs::remove_file(&self.staging).map_err(|error| told(&self.path, error))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.staging);
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("path", &self.path)
            .field("written_bytes", &self.written_bytes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl fmt::Display for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableStore({})", self.inner)
    }
}

/// Makes the folders that `path` needs, each durable in its parent.
fn prepare_folder(path: &FsPath) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev() {
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => folder.parent().map_or(Ok(()), sync_folder)?,
        }
    }
    Ok(())
}

fn publish(staging: &FsPath, path: &FsPath, mode: &PutMode, gate: &Gate) -> io::Result<()> {
    gate(Step::Publish, path)?;
    match mode {
        PutMode::Create => {
            std::fs::hard_link(staging, path)?;
            std::fs::remove_file(staging)?;
        }
        PutMode::Overwrite | PutMode::Update(_) => std::fs::rename(staging, path)?,
    }
    gate(Step::SyncFolder, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

fn told(path: &FsPath, error: io::Error) -> Error {
    let path = path.display().to_string();
    match error.kind() {
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: error.into() },
        io::ErrorKind::NotFound => Error::NotFound { path, source: error.into() },
        _ => Error::Generic { store: "local disk", source: format!("write {path}: {error}").into() },
    }
}

/// Files block: off the runtime with them, where there is one.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}
