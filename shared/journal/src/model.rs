//! A disk in memory that forgets what was not synced, for tests and for whole fleets in one process.
//!
//! Writes, cuts and names wait until they are synced. A crash takes every waiting thing or leaves it, each 512-byte sector of a
//! write by itself and in any order, which is more than most file systems allow themselves. Renames are atomic. A full disk, a failing sync,
//! a disk that only pretends to sync and flipped bits can be asked for. Folders exist by themselves.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Filesystem;

mod disk;

pub use disk::Disk;
use disk::{Inode, NameChange, State};

/// A file system in memory; clones are handles to the same one. Everything that happens depends on calls and seed only.
#[derive(Clone, Debug, Default)]
pub struct MemoryFilesystem {
    disk: Arc<Mutex<Disk>>,
}

/// An open file of the model.
#[derive(Debug)]
pub struct MemoryFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
    /// A handle from before a crash or kill is dead.
    boot: u64,
    lock: Option<PathBuf>,
}

impl MemoryFilesystem {
    /// An empty disk without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk with this content, as after a restart.
    pub fn from_disk(disk: Disk) -> Self {
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// A copy of the disk with what is waiting.
    pub fn disk(&self) -> Disk {
        self.lock_disk().clone()
    }

    /// Power is cut: what waits is taken or lost as `seed` decides. Open handles are dead from here on.
    pub fn crash(&self, seed: u64) {
        let mut bits = Bits(seed);
        let mut disk = self.lock_disk();
        *disk = disk.crashed(|_| bits.next());
    }

    /// The process ends, the system goes on: nothing is lost, locks are free, open handles are dead.
    pub fn kill(&self) {
        let mut disk = self.lock_disk();
        disk.boot += 1;
        disk.locks.clear();
    }

    /// Limits the bytes of all files; `None` lifts it.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.lock_disk().capacity_bytes = capacity_bytes;
    }

    /// The next `count` syncs fail and lose what they should have made durable: as on Linux, it counts as clean from then on.
    pub fn fail_syncs(&self, count: u32) {
        self.lock_disk().fail_syncs = count;
    }

    /// From now on a sync says that it was done and does nothing.
    pub fn pretend_to_sync(&self, pretend: bool) {
        self.lock_disk().pretend_to_sync = pretend;
    }

    /// From now on a rename to this file name says that it was done and does nothing.
    pub fn forget_renames_to(&self, name: &'static str) {
        self.lock_disk().forgotten_name = Some(name);
    }

    /// Flips one bit of a file; `false` if the file is not that long.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> bool {
        let mut disk = self.lock_disk();
        let Some(inode) = disk.names.get(path.as_os_str()).copied() else { return false };
        let byte = disk.inodes.get_mut(&inode).and_then(|inode| inode.data.get_mut((bit / 8) as usize));
        byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
    }

    /// Files and their sizes, by path.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let disk = self.lock_disk();
        let size = |inode: &u64| disk.inodes.get(inode).map_or(0, |inode| inode.data.len() as u64);
        disk.names.iter().map(|(path, inode)| (path.into(), size(inode))).collect()
    }

    /// Changes made so far: writes, syncs, names. A new number is a new moment to crash at.
    pub fn operations(&self) -> u64 {
        self.lock_disk().operations
    }

    /// Syncs asked for so far.
    pub fn syncs(&self) -> u64 {
        self.lock_disk().syncs
    }

    fn lock_disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filesystem for MemoryFilesystem {
    type File = MemoryFile;

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.lock_disk();
        let within = |path: &OsString| {
            let name = path.to_str()?.strip_prefix(dir.to_str()?)?.strip_prefix('/')?;
            (!name.contains('/')).then(|| name.to_owned())
        };
        Ok(disk.names.keys().filter_map(within).collect())
    }

    fn create(&self, path: &Path) -> io::Result<MemoryFile> {
        if self.lock_disk().names.contains_key(path.as_os_str()) {
            let file = self.open(path)?;
            self.set_len(&file, 0)?;
            return Ok(file);
        }
        {
            let mut disk = self.lock_disk();
            let inode = disk.next_inode;
            disk.next_inode += 1;
            disk.inodes.insert(inode, Inode::default());
            disk.change_name(NameChange::Add { path: path.to_owned(), inode });
        }
        self.open(path)
    }

    fn open(&self, path: &Path) -> io::Result<MemoryFile> {
        let mut disk = self.lock_disk();
        let inode = *disk.names.get(path.as_os_str()).ok_or(io::ErrorKind::NotFound)?;
        if let Some(inode) = disk.inodes.get_mut(&inode) {
            inode.handles += 1;
        }
        Ok(MemoryFile { disk: self.disk.clone(), inode, boot: disk.boot, lock: None })
    }

    fn open_write(&self, path: &Path) -> io::Result<MemoryFile> {
        self.open(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<MemoryFile>> {
        let exists = self.lock_disk().names.contains_key(path.as_os_str());
        let mut file = if exists { self.open(path)? } else { self.create(path)? };
        let fresh = self.lock_disk().locks.insert(path.to_owned());
        file.lock = fresh.then(|| path.to_owned());
        Ok(fresh.then_some(file))
    }

    fn len(&self, file: &MemoryFile) -> io::Result<u64> {
        Ok(self.lock_disk().inode(file)?.data.len() as u64)
    }

    fn read_at(&self, file: &MemoryFile, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.lock_disk();
        let data = &disk.inode(file)?.data;
        let from = data.get((at as usize).min(data.len())..).unwrap_or_default();
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    fn write_at(&self, file: &MemoryFile, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.lock_disk();
        disk.operations += 1;
        let room_bytes = disk.room_bytes();
        let inode = disk.inode(file)?;
        let growth = (at + bytes.len() as u64).saturating_sub(inode.data.len() as u64);
        let missing = growth.saturating_sub(room_bytes).min(bytes.len() as u64) as usize;
        // Like a real disk, a full one takes what fits.
        let fitting = &bytes[..bytes.len() - missing];
        if !fitting.is_empty() {
            inode.change(at, Some(fitting));
        }
        if missing > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_len(&self, file: &MemoryFile, len: u64) -> io::Result<()> {
        let mut disk = self.lock_disk();
        disk.operations += 1;
        let inode = disk.inode(file)?;
        if inode.data.len() as u64 != len {
            inode.change(len, None);
        }
        Ok(())
    }

    fn sync_file(&self, file: &MemoryFile) -> io::Result<()> {
        let mut disk = self.lock_disk();
        let works = disk.sync_works();
        let inode = disk.inode(file)?;
        if works.is_err() {
            for change in inode.changes.iter_mut().filter(|change| change.state == State::Waiting) {
                change.state = State::Stuck;
            }
        }
        if works? {
            inode.sync();
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.lock_disk();
        if disk.sync_works()? {
            let Disk { durable_names, waiting_names, .. } = &mut *disk;
            waiting_names.retain(|change| {
                let synced = change.is_in(dir);
                if synced {
                    change.apply(durable_names);
                }
                !synced
            });
            disk.drop_unused();
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.lock_disk();
        let inode = *disk.names.get(from.as_os_str()).ok_or(io::ErrorKind::NotFound)?;
        if disk.forgotten_name.is_some_and(|name| to.ends_with(name)) {
            return Ok(());
        }
        disk.change_name(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock_disk();
        if !disk.names.contains_key(path.as_os_str()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change_name(NameChange::Remove { path: path.to_owned() });
        disk.drop_unused();
        Ok(())
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if self.boot != disk.boot {
            return;
        }
        if let Some(path) = &self.lock {
            disk.locks.remove(path);
        }
        if let Some(inode) = disk.inodes.get_mut(&self.inode) {
            inode.handles = inode.handles.saturating_sub(1);
        }
    }
}

/// Pseudo-random bits from a seed (splitmix64).
#[derive(Debug)]
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}
