//! The model disk, photographed before each change, with a planted bug.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use kilter_journal::Filesystem;
use kilter_journal::model::{Disk, MemoryFile, MemoryFilesystem};

use super::{Belief, Plant};

/// The camera; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Camera {
    pub(crate) fs: MemoryFilesystem,
    pub(crate) film: Arc<Mutex<Film>>,
    pub(crate) plant: Plant,
}

#[derive(Debug, Default)]
pub(crate) struct Film {
    pub(crate) belief: Belief,
    pub(crate) photos: Vec<(Disk, Belief)>,
}

impl Camera {
    pub(crate) fn film(&self) -> MutexGuard<'_, Film> {
        self.film.lock().expect("no test panics with the film")
    }

    fn shoot(&self) {
        let mut film = self.film();
        let belief = film.belief.clone();
        if belief.released != u64::MAX {
            film.photos.push((self.fs.disk(), belief));
        }
    }
}

impl Filesystem for Camera {
    type File = MemoryFile;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.fs.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.fs.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<MemoryFile> {
        self.shoot();
        self.fs.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<MemoryFile> {
        self.fs.open(path)
    }

    fn open_write(&self, path: &Path) -> io::Result<MemoryFile> {
        self.fs.open_write(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<MemoryFile>> {
        self.fs.lock(path)
    }

    fn len(&self, file: &MemoryFile) -> io::Result<u64> {
        self.fs.len(file)
    }

    fn read_at(&self, file: &MemoryFile, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.fs.read_at(file, at, into)
    }

    fn write_at(&self, file: &MemoryFile, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.shoot();
        self.fs.write_at(file, at, bytes)
    }

    fn set_len(&self, file: &MemoryFile, len: u64) -> io::Result<()> {
        self.shoot();
        self.fs.set_len(file, len)
    }

    fn sync_file(&self, file: &MemoryFile) -> io::Result<()> {
        self.shoot();
        if self.plant == Plant::PretendedSync { Ok(()) } else { self.fs.sync_file(file) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.shoot();
        if self.plant == Plant::NoFolderSync { Ok(()) } else { self.fs.sync_dir(dir) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shoot();
        if self.plant == Plant::UnlinkBeforeLedger && to.ends_with("ledger") {
            return Ok(());
        }
        self.fs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shoot();
        self.fs.remove(path)
    }
}
