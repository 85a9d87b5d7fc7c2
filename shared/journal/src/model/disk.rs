//! The disk itself: what is written, what of it waits for a sync, and what a crash leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::MemoryFile;

/// The whole disk: what the running system sees, and what of it may still be lost.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// By the bytes of their paths: a path is compared part by part, which takes longer than all else that a model does.
    pub(super) names: Names,
    pub(super) durable_names: Names,
    pub(super) waiting_names: Vec<NameChange>,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) next_inode: u64,
    pub(super) boot: u64,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) fail_syncs: u32,
    pub(super) pretend_to_sync: bool,
    pub(super) forgotten_name: Option<&'static str>,
    pub(super) operations: u64,
    pub(super) syncs: u64,
}

pub(super) type Names = BTreeMap<OsString, u64>;

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Add { path: PathBuf, inode: u64 },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
    Remove { path: PathBuf },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) data: Vec<u8>,
    /// Changes that are not durable, oldest first, and durable ones between them.
    pub(super) changes: Vec<Change>,
    pub(super) handles: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Change {
    at: u64,
    /// What was written; `None` for a cut or extension to `at`.
    new: Option<Vec<u8>>,
    /// What was there.
    old: Vec<u8>,
    old_len: u64,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    /// Its sync failed: the system takes it for clean and will not write it again.
    Stuck,
    Durable,
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

    pub(super) fn change_name(&mut self, change: NameChange) {
        self.operations += 1;
        change.apply(&mut self.names);
        self.waiting_names.push(change);
    }

    pub(super) fn inode(&mut self, file: &MemoryFile) -> io::Result<&mut Inode> {
        if file.boot != self.boot {
            return Err(io::Error::other("this handle is from before a crash"));
        }
        self.inodes.get_mut(&file.inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn room_bytes(&self) -> u64 {
        let Some(capacity_bytes) = self.capacity_bytes else { return u64::MAX };
        let in_use =
            |number: &u64, inode: &Inode| inode.handles > 0 || self.names.values().any(|named| named == number);
        let used = self.inodes.iter().filter(|(number, inode)| in_use(number, inode));
        capacity_bytes.saturating_sub(used.map(|(_, inode)| inode.data.len() as u64).sum())
    }

    /// Whether this sync does its work.
    pub(super) fn sync_works(&mut self) -> io::Result<bool> {
        self.operations += 1;
        self.syncs += 1;
        if self.fail_syncs > 0 {
            self.fail_syncs -= 1;
            return Err(io::Error::other("this sync was made to fail"));
        }
        Ok(!self.pretend_to_sync)
    }

    pub(super) fn drop_unused(&mut self) {
        let Self { names, durable_names, waiting_names, inodes, .. } = self;
        let waits = |number: &u64| waiting_names.iter().any(|change| change.inode() == Some(*number));
        let named = |number: &u64| names.values().chain(durable_names.values()).any(|named| named == number);
        inodes.retain(|number, inode| inode.handles > 0 || named(number) || waits(number));
    }
}

impl Inode {
    pub(super) fn change(&mut self, at: u64, new: Option<&[u8]>) {
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

    pub(super) fn sync(&mut self) {
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
    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            Self::Add { path, inode } => {
                names.insert(path.clone().into(), *inode);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from.as_os_str());
                names.insert(to.clone().into(), *inode);
            }
            Self::Remove { path } => {
                names.remove(path.as_os_str());
            }
        }
    }

    fn inode(&self) -> Option<u64> {
        match self {
            Self::Add { inode, .. } | Self::Rename { inode, .. } => Some(*inode),
            Self::Remove { .. } => None,
        }
    }

    pub(super) fn is_in(&self, dir: &Path) -> bool {
        match self {
            Self::Add { path, .. } | Self::Remove { path } => path.parent() == Some(dir),
            Self::Rename { from, to, .. } => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
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
    data.resize(data.len().max(at), 0);
    let (over, new) = bytes.split_at(bytes.len().min(data.len() - at));
    data[at..at + over.len()].copy_from_slice(over);
    data.extend_from_slice(new);
}

const SECTOR_BYTES: usize = 512;
const CHANGES_KEPT: usize = 64;
