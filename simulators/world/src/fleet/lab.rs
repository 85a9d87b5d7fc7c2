//! The aggregator's cold half: follows the journal through the production fold into the lake, one atomic commit at a time.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use kilter_fold::{Entry, Fold, Output, Row};
use kilter_journal::model::MemoryFilesystem;
use kilter_journal::{Offset, Reader, follow};
use kilter_types::{DeviceId, JournalId};
use kilter_uplink::Key;

use super::event::Context;
use super::kept_fold::KeptFold;
use super::lake::Commit;
use super::marks::Marks;
use super::record::device;
use super::truth::{Broken, broken};
use super::{Plant, server};

/// The lab while it runs; what it has read and not committed dies with it.
pub(crate) struct Lab {
    reader: Reader<MemoryFilesystem>,
    journal_id: JournalId,
    fold: Fold,
    /// As of the last commit, and whose marks have moved since.
    kept: Option<KeptFold>,
    marks: Marks,
    moved: BTreeSet<usize>,
    /// What was folded since.
    folded: Vec<(u64, Arc<[u8]>)>,
    pending: Vec<(usize, Output)>,
    /// Rows that the lake lost and that have come again.
    again: Vec<(usize, Row)>,
    /// Entries read since the last commit.
    read: u32,
}

impl Lab {
    /// Goes on where the lake's last commit ends, if that speaks of this journal, else from the journal's beginning.
    pub(crate) fn start(
        disk: &MemoryFilesystem,
        journal_id: JournalId,
        agents: usize,
        world: &Context,
    ) -> Result<Self, Broken> {
        let commit = world.lake.commit.as_ref().filter(|commit| commit.journal_id == journal_id);
        let (offset, fold, marks) = match commit {
            Some(commit) => (commit.offset, commit.fold.restore()?, commit.marks.clone()),
            None => (0, Fold::new(), Marks::new(agents)),
        };
        let reader = follow(disk.clone(), Path::new(server::DIR), Offset(offset));
        let reader = reader.or_else(|e| broken("L1", e.to_string()))?;
        let moved = if commit.is_some() { BTreeSet::new() } else { (0..agents).collect() };
        let kept = commit.map(|commit| commit.fold.clone());
        let (folded, pending, again) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { reader, journal_id, fold, kept, marks, moved, folded, pending, again, read: 0 })
    }

    /// Reads what is durable and commits it with its offset (L1); `false` when there was nothing that is worth a commit.
    pub(crate) fn turn(&mut self, world: &mut Context) -> Result<bool, Broken> {
        let mut before_last = None;
        while let Some(stored) = self.reader.next_durable().or_else(|error| broken("L1", error.to_string()))? {
            if world.plant == Some(Plant::SeamOffByOne) {
                before_last = Some((stored.offset.0, KeptFold::of(&self.fold)));
            }
            self.read += 1;
            let entry = Entry::decode(&stored.bytes).or_else(|error| broken("J2", error.to_string()))?;
            self.take(stored.offset.0, entry, world);
            self.folded.push((stored.offset.0, stored.bytes.into()));
        }
        if !self.reader.take_skipped().is_empty() && self.fold.journal_id().is_none() {
            return broken("L1", "the journal's beginning was released before the lab had read it");
        }
        if self.pending.is_empty() && self.again.is_empty() && self.read < ENTRIES_WITHOUT_ROWS {
            return Ok(false);
        }
        self.read = 0;
        for agent in std::mem::take(&mut self.moved) {
            self.marks.set(agent, self.fold.marks_of(&device(agent)));
        }
        let kept = KeptFold::keep(self.kept.take(), &mut self.folded, &self.fold, self.marks.len());
        self.kept = Some(kept.clone());
        let (offset, fold) = before_last.unwrap_or_else(|| (self.reader.offset().0, kept));
        let commit = Commit { journal_id: self.journal_id, offset, fold, marks: self.marks.clone() };
        let Context { lake, truth, plant, .. } = world;
        lake.append(std::mem::take(&mut self.pending), commit, truth)?;
        for (agent, row) in self.again.drain(..) {
            if *plant == Some(Plant::PutBackUnseen) || !lake.has(agent, &row) {
                lake.put_back(agent, &row, truth)?;
            }
        }
        Ok(true)
    }

    /// One entry into the fold.
    fn take(&mut self, offset: u64, entry: Entry, world: &Context) {
        let Self { fold, pending, again, moved, .. } = self;
        match &entry {
            Entry::Opened { marks, .. } => moved.extend(marks.iter().map(|mark| agent_of(&mark.device))),
            Entry::Batch { device, .. } | Entry::OverQuota { device, .. } => moved.extend([agent_of(device)]),
            Entry::Exchange { .. } | Entry::Tick { .. } | Entry::Quarantined { .. } => {}
        }
        let lake = &world.lake;
        let mut is_lost =
            |device: &DeviceId, epoch, class, seq| lake.wants(agent_of(device), Key { epoch, class, seq });
        let mut take = |row: Row| again.push((agent_of(&row.device), row));
        fold.again(offset, &entry, &mut is_lost, &mut take);
        fold.apply(offset, entry, &mut |output| pending.push((agent_behind(&output), output)));
    }
}

fn agent_behind(output: &Output) -> usize {
    match output {
        Output::Row(row) => agent_of(&row.device),
        Output::Quarantine { device, .. } => agent_of(device),
    }
}

fn agent_of(device: &DeviceId) -> usize {
    device.as_str().strip_prefix("edge-").and_then(|number| number.parse().ok()).unwrap_or(usize::MAX)
}

/// Ticks and exchanges alone are committed when so many have come: the journal is released behind them.
const ENTRIES_WITHOUT_ROWS: u32 = 50;
