//! A disk in memory that forgets what was not synced, for tests and for whole fleets in one process.
//!
//! Writes, cuts and names wait until they are synced. A crash takes every waiting thing or leaves it, each 512-byte sector of a
//! write by itself and in any order, which is more than most file systems allow themselves. Renames are atomic. A full disk, a failing sync,
//! a disk that only pretends to sync and flipped bits can be asked for. Folders exist by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Filesystem;

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

/// The whole disk: what the running system sees, and what of it may still be lost.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    waiting_names: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    locks: BTreeSet<PathBuf>,
    next_inode: u64,
    boot: u64,
    capacity_bytes: Option<u64>,
    fail_syncs: u32,
    pretend_to_sync: bool,
    forgotten_name: Option<&'static str>,
    operations: u64,
    syncs: u64,
}

#[derive(Clone, Debug)]
enum NameChange {
    Add { path: PathBuf, inode: u64 },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
    Remove { path: PathBuf },
}

#[derive(Clone, Debug, Default)]
struct Inode {
    data: Vec<u8>,
    /// Changes that are not durable, oldest first, and durable ones between them.
    changes: Vec<Change>,
    handles: u32,
}

#[derive(Clone, Debug)]
struct Change {
    at: u64,
    /// What was written; `None` for a cut or extension to `at`.
    new: Option<Vec<u8>>,
    /// What was there.
    old: Vec<u8>,
    old_len: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// Its sync failed: the system takes it for clean and will not write it again.
    Stuck,
    Durable,
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
        let Some(inode) = disk.names.get(path).copied() else { return false };
        let byte = disk.inodes.get_mut(&inode).and_then(|inode| inode.data.get_mut((bit / 8) as usize));
        byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
    }

    /// Files and their sizes, by path.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let disk = self.lock_disk();
        let size = |inode: &u64| disk.inodes.get(inode).map_or(0, |inode| inode.data.len() as u64);
        disk.names.iter().map(|(path, inode)| (path.clone(), size(inode))).collect()
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

impl Disk {
    /// How many independent pieces a crash can take or leave now.
    pub fn pieces(&self) -> usize {
        let in_files: usize = self.inodes.values().flat_map(|inode| &inode.changes).map(Change::pieces).sum();
        in_files + self.waiting_names.len()
    }

    /// The disk after a power cut, where `survives` decides over each piece in order; nothing waits on it.
    pub fn crashed(&self, mut survives: impl FnMut(usize) -> bool) -> Self {
        let mut piece = 0;
        let mut next = || {
            piece += 1;
            survives(piece - 1)
        };
        let mut inodes = BTreeMap::new();
        for (number, inode) in &self.inodes {
            inodes.insert(*number, Inode { data: inode.crashed(&mut next), ..Inode::default() });
        }
        let mut names = self.durable_names.clone();
        for change in &self.waiting_names {
            if next() {
                change.apply(&mut names);
            }
        }
        inodes.retain(|number, _| names.values().any(|named| named == number));
        Self {
            durable_names: names.clone(),
            names,
            waiting_names: Vec::new(),
            inodes,
            locks: BTreeSet::new(),
            boot: self.boot + 1,
            ..*self
        }
    }

    fn change_name(&mut self, change: NameChange) {
        self.operations += 1;
        change.apply(&mut self.names);
        self.waiting_names.push(change);
    }

    fn inode(&mut self, file: &MemoryFile) -> io::Result<&mut Inode> {
        if file.boot != self.boot {
            return Err(io::Error::other("this handle is from before a crash"));
        }
        self.inodes.get_mut(&file.inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn room_bytes(&self) -> u64 {
        let Some(capacity_bytes) = self.capacity_bytes else { return u64::MAX };
        let in_use =
            |number: &u64, inode: &Inode| inode.handles > 0 || self.names.values().any(|named| named == number);
        let used = self.inodes.iter().filter(|(number, inode)| in_use(number, inode));
        capacity_bytes.saturating_sub(used.map(|(_, inode)| inode.data.len() as u64).sum())
    }

    /// Whether this sync does its work.
    fn sync_works(&mut self) -> io::Result<bool> {
        self.operations += 1;
        self.syncs += 1;
        if self.fail_syncs > 0 {
            self.fail_syncs -= 1;
            return Err(io::Error::other("this sync was made to fail"));
        }
        Ok(!self.pretend_to_sync)
    }

    fn drop_unused(&mut self) {
        let Self { names, durable_names, waiting_names, inodes, .. } = self;
        let waits = |number: &u64| waiting_names.iter().any(|change| change.inode() == Some(*number));
        let named = |number: &u64| names.values().chain(durable_names.values()).any(|named| named == number);
        inodes.retain(|number, inode| inode.handles > 0 || named(number) || waits(number));
    }
}

impl Inode {
    fn change(&mut self, at: u64, new: Option<&[u8]>) {
        let (start, old_len) = (at as usize, self.data.len());
        let end = new.map_or(old_len, |new| start + new.len());
        let old = self.data.get(start.min(old_len)..end.min(old_len)).unwrap_or_default().to_vec();
        match new {
            Some(new) => write(&mut self.data, start, new),
            None => self.data.resize(start, 0),
        }
        self.changes.push(Change {
            at,
            new: new.map(<[u8]>::to_vec),
            old,
            old_len: old_len as u64,
            state: State::Waiting,
        });
        // A system writes back by itself in the end; what is old enough counts as durable.
        if self.changes.len() > CHANGES_KEPT && self.changes[0].state != State::Stuck {
            self.changes.remove(0);
        }
    }

    fn sync(&mut self) {
        if self.changes.iter().all(|change| change.state != State::Stuck) {
            self.changes.clear();
        }
        for change in self.changes.iter_mut().filter(|change| change.state == State::Waiting) {
            change.state = State::Durable;
        }
    }

    fn crashed(&self, next: &mut impl FnMut() -> bool) -> Vec<u8> {
        let mut data = self.data.clone();
        for change in self.changes.iter().rev() {
            let restored = (change.at as usize).min(change.old_len as usize);
            data.resize(change.old_len as usize, 0);
            data[restored..restored + change.old.len()].copy_from_slice(&change.old);
        }
        for change in &self.changes {
            let durable = change.state == State::Durable;
            match &change.new {
                None if durable || next() => data.resize(change.at as usize, 0),
                None => {}
                Some(new) => {
                    for (at, sector) in sectors(change.at as usize, new) {
                        if durable || next() {
                            write(&mut data, at, sector);
                        }
                    }
                }
            }
        }
        data
    }
}

impl Change {
    fn pieces(&self) -> usize {
        match (&self.new, self.state) {
            (_, State::Durable) => 0,
            (None, _) => 1,
            (Some(new), _) => sectors(self.at as usize, new).count(),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Add { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Remove { path } => {
                names.remove(path);
            }
        }
    }

    fn inode(&self) -> Option<u64> {
        match self {
            Self::Add { inode, .. } | Self::Rename { inode, .. } => Some(*inode),
            Self::Remove { .. } => None,
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Self::Add { path, .. } | Self::Remove { path } => path.parent() == Some(dir),
            Self::Rename { from, to, .. } => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }
}

impl Filesystem for MemoryFilesystem {
    type File = MemoryFile;

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.lock_disk();
        let within = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(within.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<MemoryFile> {
        if self.lock_disk().names.contains_key(path) {
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
        let inode = *disk.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        if let Some(inode) = disk.inodes.get_mut(&inode) {
            inode.handles += 1;
        }
        Ok(MemoryFile { disk: self.disk.clone(), inode, boot: disk.boot, lock: None })
    }

    fn open_write(&self, path: &Path) -> io::Result<MemoryFile> {
        self.open(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<MemoryFile>> {
        let exists = self.lock_disk().names.contains_key(path);
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
        let inode = *disk.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if disk.forgotten_name.is_some_and(|name| to.ends_with(name)) {
            return Ok(());
        }
        disk.change_name(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock_disk();
        if !disk.names.contains_key(path) {
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

/// The parts of a write that a disk writes whole.
fn sectors(at: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let start = at + done;
        let size = (SECTOR_BYTES - start % SECTOR_BYTES).min(bytes.len() - done);
        let sector = &bytes[done..done + size];
        done += size;
        (size > 0).then_some((start, sector))
    })
}

fn write(data: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if data.len() < at + bytes.len() {
        data.resize(at + bytes.len(), 0);
    }
    data[at..at + bytes.len()].copy_from_slice(bytes);
}

const SECTOR_BYTES: usize = 512;
const CHANGES_KEPT: usize = 64;
