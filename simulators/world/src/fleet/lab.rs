//! The aggregator's cold half: follows the journal through the production fold into the lake, one atomic commit at a time.

use std::path::Path;

use kilter_fold::Fold;
use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Offset, Reader, follow};
use kilter_types::JournalId;

use super::event::Context;
use super::folder::{Folder, Hand};
use super::lake::Commit;
use super::marks::Marks;
use super::truth::{Broken, broken};
use super::{Plant, server};

/// The lab while it runs; what it has read and not committed dies with it.
pub(crate) struct Lab {
    reader: Reader<MemoryFilesystem>,
    journal_id: JournalId,
    hand: Hand,
    /// Entries read since the last commit.
    read: u32,
}

impl Lab {
    /// Goes on where the lake's last commit ends, if that speaks of this journal, else from the journal's beginning.
    pub(crate) fn start(
        disk: &MemoryFilesystem,
        journal_id: JournalId,
        agents: usize,
        apart: bool,
        world: &Context,
    ) -> Result<Self, Broken> {
        let commit = world.lake.commit.as_ref().filter(|commit| commit.journal_id == journal_id);
        let (offset, fold, marks) = match commit {
            Some(commit) => (commit.offset, commit.fold.restore()?, commit.marks.clone()),
            None => (0, Fold::new(), Marks::new(agents)),
        };
        let reader = follow(disk.clone(), Path::new(server::DIR), Offset(offset));
        let reader = reader.or_else(|e| broken("L1", e.to_string()))?;
        let folder = Folder::new(fold, commit.map(|commit| commit.fold.clone()), marks, world.plant);
        Ok(Self { reader, journal_id, hand: Hand::new(folder, apart), read: 0 })
    }

    /// Reads what is durable by now.
    pub(crate) fn read(&mut self, world: &Context) -> Result<(), Broken> {
        while let Some(stored) = self.reader.next_durable().or_else(|error| broken("L1", error.to_string()))? {
            self.read += 1;
            self.hand.take(stored.offset.0, stored.bytes.into(), world.lake.lost());
        }
        self.reader.take_skipped();
        Ok(())
    }

    /// Commits what was read with its offset (L1); `false` when there was nothing that is worth a commit.
    pub(crate) fn turn(&mut self, world: &mut Context) -> Result<bool, Broken> {
        self.read(world)?;
        let Some(cut) = self.hand.cut(self.read >= ENTRIES_WITHOUT_ROWS)? else { return Ok(false) };
        self.read = 0;
        let (offset, fold) = cut.seam.unwrap_or_else(|| (self.reader.offset().0, cut.fold));
        let Context { lake, truth, plant, .. } = world;
        lake.append(cut.rows, Commit { journal_id: self.journal_id, offset, fold, marks: cut.marks }, truth)?;
        for folded in cut.again {
            if *plant == Some(Plant::PutBackUnseen) || !lake.has(&folded) {
                lake.put_back(&folded, truth)?;
            }
        }
        Ok(true)
    }
}

/// Ticks and exchanges alone are committed when so many have come: the journal is released behind them.
const ENTRIES_WITHOUT_ROWS: u32 = 50;
