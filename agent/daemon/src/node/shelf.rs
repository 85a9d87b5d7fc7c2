//! The folder through which a technician hands an image to the running agent, and in which it lasts until the node has it.
//!
//! ```text
//! images/<asset>/new          a file that the command `node-image` puts there; the agent takes it
//! images/<asset>/offer        the file that the node is to run
//! images/<asset>/state.json   how far it is, and how the last one ended
//! ```
//! As with resets, whoever may write the folder could replace the agent's whole state; an image is believed only by its signature.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kilter_types::Name;

use super::image::Told;
use crate::file;

/// The folder of one machine's node.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    /// Where the images of this machine's node lie.
    pub(crate) fn of(data: &Path, asset: &Name) -> Self {
        Self { dir: data.join("images").join(asset.as_str()) }
    }

    /// Hands a file over.
    pub(crate) fn put(&self, image: &[u8]) -> io::Result<()> {
        file::replace(&self.note(), image)
    }

    /// Is the file that was handed over still there?
    pub(crate) fn is_waiting(&self) -> io::Result<bool> {
        self.note().try_exists()
    }

    /// Takes it back, or away; `false` when somebody was before us.
    pub(crate) fn withdraw(&self) -> io::Result<bool> {
        remove(&self.note())
    }

    /// What was handed over.
    pub(crate) fn handed(&self) -> io::Result<Option<Vec<u8>>> {
        if self.is_waiting()? { file::read(&self.note()) } else { Ok(None) }
    }

    /// What was handed over is the offer from now on; `told` stands beside it first, so that no state of another image does.
    pub(crate) fn take(&self, told: &Told) -> io::Result<()> {
        self.tell(told)?;
        fs::rename(self.note(), self.offer())
    }

    /// The file that the node is to run.
    pub(crate) fn offered(&self) -> io::Result<Option<Vec<u8>>> {
        file::read(&self.offer())
    }

    /// The offer has ended.
    pub(crate) fn clear(&self) -> io::Result<()> {
        remove(&self.offer()).map(drop)
    }

    /// How far it is, or how the last one ended.
    pub(crate) fn told(&self) -> Option<Told> {
        let bytes = file::read(&self.dir.join("state.json")).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes down how far it is.
    pub(crate) fn tell(&self, told: &Told) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(told).map_err(io::Error::other)?;
        file::replace(&self.dir.join("state.json"), &bytes)
    }

    fn note(&self) -> PathBuf {
        self.dir.join("new")
    }

    fn offer(&self) -> PathBuf {
        self.dir.join("offer")
    }
}

fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
