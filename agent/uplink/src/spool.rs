//! What the session reads records from: the journal on disk, or a model of it.

use std::path::{Path, PathBuf};

use kilter_journal::{Entry, Filesystem, JournalError, Offset, Reader, follow};
use kilter_types::{Class, Epoch};
use thiserror::Error;

/// Names a record within a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The epoch.
    pub epoch: Epoch,
    /// The class.
    pub class: Class,
    /// The seq within both.
    pub seq: u64,
}

/// A record and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which record.
    pub key: Key,
    /// Its offset.
    pub offset: u64,
    /// The first offset behind it.
    pub next: u64,
}

/// Durable records in the order of their offsets. Offsets only grow and are never used twice.
pub trait Spool {
    /// Reads the first record at or above `from` into `bytes`; `None` when there is none below the durable end.
    fn read(&mut self, from: u64, bytes: &mut Vec<u8>) -> Result<Option<Place>, SpoolError>;
}

/// The journal on disk. Each of the session's lanes moves on its own, so a few readers stay open, each with its last entry.
#[derive(Debug)]
pub struct JournalSpool<F: Filesystem> {
    dir: PathBuf,
    slots: Vec<Slot<F>>,
    turn: u64,
}

impl<F: Filesystem> JournalSpool<F> {
    /// Reads the journal in `dir`.
    pub fn open(fs: &F, dir: &Path) -> Result<Self, SpoolError> {
        let slots = (0..LANES)
            .map(|_| Ok(Slot { reader: follow(fs.clone(), dir, Offset(0))?, from: 0, entry: None, used: 0 }))
            .collect::<Result<_, JournalError>>()?;
        Ok(Self { dir: dir.to_owned(), slots, turn: 0 })
    }
}

impl<F: Filesystem> Spool for JournalSpool<F> {
    fn read(&mut self, from: u64, bytes: &mut Vec<u8>) -> Result<Option<Place>, SpoolError> {
        self.turn += 1;
        let cached = self.slots.iter().position(|slot| slot.answers(from));
        let at =
            cached.or_else(|| self.slots.iter().position(|slot| slot.reader.offset().0 == from)).unwrap_or_else(|| {
                let oldest = self.slots.iter().enumerate().min_by_key(|(_, slot)| slot.used);
                oldest.map_or(0, |(at, _)| at)
            });
        let slot = &mut self.slots[at];
        slot.used = self.turn;
        if cached.is_none() {
            if slot.reader.offset().0 != from {
                slot.reader.seek(Offset(from));
            }
            slot.from = from;
            slot.entry = None;
            slot.entry = slot.reader.next_durable()?;
            slot.reader.take_skipped();
        }
        let Some(entry) = &slot.entry else { return Ok(None) };
        let class = Class::from_u8(entry.key.class);
        let class = class.ok_or_else(|| SpoolError::Class {
            dir: self.dir.clone(),
            offset: entry.offset.0,
            class: entry.key.class,
        })?;
        bytes.clear();
        bytes.extend_from_slice(&entry.bytes);
        let key = Key { epoch: Epoch(entry.key.epoch), class, seq: entry.key.seq };
        Ok(Some(Place { key, offset: entry.offset.0, next: slot.reader.offset().0 }))
    }
}

#[derive(Debug)]
struct Slot<F: Filesystem> {
    reader: Reader<F>,
    /// Where the reader was asked to look for `entry`.
    from: u64,
    entry: Option<Entry>,
    used: u64,
}

impl<F: Filesystem> Slot<F> {
    fn answers(&self, from: u64) -> bool {
        self.entry.as_ref().is_some_and(|entry| self.from <= from && from <= entry.offset.0)
    }
}

/// Urgent, retry, live, back-fill, release, again.
const LANES: usize = 6;

/// Why a record can't be read.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// The journal said no.
    #[error("read the journal for delivery")]
    Journal(#[from] JournalError),
    /// A class that this build does not know.
    #[error("deliver the entry at offset {offset} of {dir}: class {class} is unknown")]
    Class {
        /// The journal's folder.
        dir: PathBuf,
        /// Where.
        offset: u64,
        /// The number found.
        class: u8,
    },
}
