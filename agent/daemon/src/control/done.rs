//! Commands that were taken, by id and over a restart, so that none is done twice.
//!
//! A link may bring a command again, also after the agent was killed. A reset that is done a second time could release a trip that came in
//! between and that nobody has seen; so an id is written down before anything is done. A kill between the two costs the
//! command, which the person sees, and never doubles it.

use std::io;
use std::path::{Path, PathBuf};

use kilter_wire::Outcome;
use tracing::error;

use crate::file;

/// The last commands, oldest first.
#[derive(Debug)]
pub(crate) struct Done {
    path: PathBuf,
    /// How each ended; `None` while a node has it.
    last: Vec<(u64, Option<Outcome>)>,
}

impl Done {
    /// Reads what was taken before the restart.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let path = data.join("commands.json");
        let last = match file::read(&path)? {
            Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                error!(file = %path.display(), %error, "commands of before the restart are not known");
                Vec::new()
            }),
            None => Vec::new(),
        };
        Ok(Self { path, last })
    }

    /// What came of this command, if it was taken already.
    pub(super) fn of(&self, id: u64) -> Option<Option<Outcome>> {
        self.last.iter().find(|(known, _)| *known == id).map(|(_, outcome)| *outcome)
    }

    /// Writes down what came of a command, or that a node has it.
    pub(super) fn note(&mut self, id: u64, outcome: Option<Outcome>) -> io::Result<()> {
        self.last.retain(|(known, _)| *known != id);
        self.last.push((id, outcome));
        let over = self.last.len().saturating_sub(MOST);
        self.last.drain(..over);
        let bytes = serde_json::to_vec(&self.last).map_err(io::Error::other)?;
        file::replace(&self.path, &bytes)
    }
}

const MOST: usize = 64;
