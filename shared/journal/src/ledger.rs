//! What must outlive unlinked segments: the released mark, losses that no gap record names yet, and the last seqs.

use std::collections::BTreeMap;
use std::path::Path;

use crate::format::{Framed, LEDGER_FILE, LedgerContent, encode_ledger, parse_ledger};
use crate::{Filesystem, JournalError, Offset};

/// Entries that were dropped: loss as data, to be recorded as a gap by the caller (J3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Their class.
    pub class: u8,
    /// Their epoch.
    pub epoch: u64,
    /// Lowest seq dropped.
    pub first_seq: u64,
    /// Highest seq dropped.
    pub last_seq: u64,
    /// How many entries.
    pub count: u64,
    /// Why.
    pub reason: Reason,
}

/// Why entries are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The drop policy made room for newer or more urgent entries.
    Evicted,
    /// The disk gave back other bytes than were written.
    Corrupt,
    /// Released and unlinked: read by everyone the releasing side waits for.
    Released,
}

impl Reason {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Evicted => 1,
            Self::Corrupt => 2,
            Self::Released => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Evicted),
            2 => Some(Self::Corrupt),
            3 => Some(Self::Released),
            _ => None,
        }
    }
}

/// A loss with its running number; numbers up to `recorded` need no gap record any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) number: u64,
    pub(crate) dropped: Dropped,
}

/// The ledger in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) journal_id: u64,
    pub(crate) released: u64,
    pub(crate) recorded: u64,
    pub(crate) losses: Vec<Loss>,
    pub(crate) next_number: u64,
    /// Losses up to this number were handed out.
    pub(crate) handed_out: u64,
    /// Gap records up to this number lie below this offset.
    pub(crate) told: Option<(u64, u64)>,
    /// Last seq and its offset by epoch and class.
    pub(crate) last: BTreeMap<(u64, u8), (u64, u64)>,
}

impl Ledger {
    pub(crate) fn read<F: Filesystem>(fs: &F, dir: &Path) -> Result<Framed<LedgerContent>, JournalError> {
        let path = dir.join(LEDGER_FILE);
        let content = read_whole(fs, &path)?.map(|bytes| parse_ledger(&bytes));
        match content {
            Some(Framed::Newer(found)) => Err(JournalError::Version { path, found }),
            Some(framed) => Ok(framed),
            None => Ok(Framed::Good(LedgerContent::default())),
        }
    }

    /// Replaces the file; durable when it returns.
    pub(crate) fn write<F: Filesystem>(&self, fs: &F, dir: &Path, durable: Offset) -> Result<(), JournalError> {
        let mut last: Vec<_> = self.last.iter().collect();
        last.sort_by_key(|(_, (_, offset))| std::cmp::Reverse(*offset));
        last.truncate(LAST_KEPT);
        let content = LedgerContent {
            journal_id: self.journal_id,
            released: self.released,
            durable: durable.0,
            recorded: self.recorded,
            losses: self.losses.clone(),
            last: last.into_iter().map(|((epoch, class), (seq, _))| (*epoch, *class, *seq)).collect(),
        };
        replace(fs, dir, LEDGER_FILE, &encode_ledger(&content))
    }

    /// Adds losses under one new number.
    pub(crate) fn add(&mut self, dropped: &[Dropped]) -> u64 {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        self.losses.extend(dropped.iter().map(|dropped| Loss { number, dropped: *dropped }));
        number
    }

    /// Adds losses found under their number in a segment, unless they are known or recorded.
    pub(crate) fn adopt(&mut self, number: u64, dropped: &[Dropped]) {
        self.next_number = self.next_number.max(number.saturating_add(1));
        if number > self.recorded && !self.losses.iter().any(|loss| loss.number == number) {
            self.losses.extend(dropped.iter().map(|dropped| Loss { number, dropped: *dropped }));
        }
    }
}

/// Extends the last run of the same kind by `seq`, or begins one.
pub(crate) fn count_dropped(runs: &mut Vec<Dropped>, class: u8, epoch: u64, seq: u64, reason: Reason) {
    let same = |run: &&mut Dropped| run.class == class && run.epoch == epoch && run.reason == reason;
    match runs.iter_mut().rev().find(same) {
        Some(run) if run.last_seq.checked_add(1) == Some(seq) => {
            run.last_seq = seq;
            run.count += 1;
        }
        _ => runs.push(Dropped { class, epoch, first_seq: seq, last_seq: seq, count: 1, reason }),
    }
}

/// The file's content, `None` when there is no such file.
pub(crate) fn read_whole<F: Filesystem>(fs: &F, path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    let file = match fs.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::io("open", path)(error)),
    };
    let mut bytes = vec![0; fs.len(&file).map_err(JournalError::io("measure", path))? as usize];
    let read = fs.read_at(&file, 0, &mut bytes).map_err(JournalError::io("read", path))?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Writes `name` anew so that a crash leaves the old or the new content; durable when it returns.
pub(crate) fn replace<F: Filesystem>(fs: &F, dir: &Path, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
    let (path, temporary) = (dir.join(name), dir.join(format!("{name}.tmp")));
    let written = (|| {
        let file = fs.create(&temporary)?;
        fs.write_at(&file, 0, bytes)?;
        fs.sync_file(&file)
    })();
    if let Err(error) = written {
        // A half-written copy is of no use and may be what fills the disk.
        let _ = fs.remove(&temporary);
        return Err(JournalError::io("write", &temporary)(error));
    }
    fs.rename(&temporary, &path).map_err(JournalError::io("replace", &path))?;
    fs.sync_dir(dir).map_err(JournalError::io("sync", dir))
}

/// Last seqs kept for classes whose entries are all released: enough for many restarts of one device.
const LAST_KEPT: usize = 256;
