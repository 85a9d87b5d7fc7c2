//! What really happened: every record made, which of them a journal acknowledged, and what the lake holds of them.

use std::collections::{BTreeMap, BTreeSet};

use kilter_fold::{MarkState, Output, Row};
use kilter_types::{Class, DeviceId, Epoch, Gap, JournalId, Payload};
use kilter_uplink::Key;
use kilter_wire::{Refetch, SeqRange, encode_record};

use crate::{Random, VirtualClock};

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) detail: String,
}

pub(crate) fn broken<T>(invariant: &'static str, detail: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { invariant, detail: detail.into() })
}

/// Ranges of seqs by epoch and class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges(BTreeMap<(Epoch, Class), Vec<(u64, u64)>>);

impl Ranges {
    pub(crate) fn add(&mut self, gap: &Gap) {
        self.0.entry((gap.epoch, gap.class)).or_default().push((gap.first_seq, gap.last_seq));
    }

    pub(crate) fn contains(&self, key: Key) -> bool {
        let within = |(first, last): &(u64, u64)| *first <= key.seq && key.seq <= *last;
        self.0.get(&(key.epoch, key.class)).is_some_and(|ranges| ranges.iter().any(within))
    }
}

/// Every record made.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    made: BTreeMap<(usize, Key), Made>,
    pub(crate) acknowledged: u64,
}

#[derive(Debug)]
struct Made {
    hash: u64,
    world_us: u64,
    acknowledged: bool,
}

impl Truth {
    pub(crate) fn make(&mut self, agent: usize, key: Key, bytes: &[u8], world_us: u64) {
        self.made.insert((agent, key), Made { hash: fnv(FNV, bytes), world_us, acknowledged: false });
    }

    /// The agent's journal says that it is durable.
    pub(crate) fn acknowledge(&mut self, agent: usize, key: Key) {
        if let Some(made) = self.made.get_mut(&(agent, key)) {
            self.acknowledged += u64::from(!std::mem::replace(&mut made.acknowledged, true));
        }
    }

    /// A person put an older image of the disk back: nothing is promised for what it does not hold.
    pub(crate) fn void(&mut self, agent: usize, key: Key) {
        if let Some(made) = self.made.get_mut(&(agent, key)) {
            self.acknowledged -= u64::from(std::mem::replace(&mut made.acknowledged, false));
        }
    }

    /// J1, J3, D1: what was acknowledged is in the lake or inside a gap that the lake tells.
    pub(crate) fn check_complete(&self, lake: &Lake) -> Result<(), Broken> {
        for ((agent, key), _) in self.made.iter().filter(|(_, made)| made.acknowledged) {
            if !lake.accounts_for(*agent, *key) {
                return broken(
                    "J1 J3 D1",
                    format!("{} of agent {agent} is neither in the lake nor in a gap", named(*key)),
                );
            }
        }
        Ok(())
    }
}

/// The lake: rows, and with each commit the offset and the fold that they belong to.
#[derive(Debug, Default)]
pub(crate) struct Lake {
    rows: BTreeMap<(usize, Key), u64>,
    gaps: BTreeMap<usize, Ranges>,
    /// Rows that were there and are lost; the edge is asked for them.
    lost: BTreeSet<(usize, Key)>,
    pub(crate) lost_rows: u64,
    pub(crate) restored_rows: u64,
    /// Rows of which nothing but their receipt says when they happened.
    undated: BTreeSet<(usize, Key)>,
    pub(crate) gap_rows: u64,
    pub(crate) commit: Option<Commit>,
    pub(crate) commits: u64,
    pub(crate) misdated: u64,
    /// Every device's epochs in the order of first sight; only a planted mistake looks at it.
    epochs: BTreeMap<DeviceId, Vec<Epoch>>,
}

/// What a commit carries beside its rows.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) journal_id: JournalId,
    pub(crate) offset: u64,
    pub(crate) fold: Vec<u8>,
    pub(crate) marks: Vec<MarkState>,
}

impl Lake {
    /// One atomic commit (L1).
    pub(crate) fn append(
        &mut self,
        outputs: Vec<(usize, Output)>,
        commit: Commit,
        truth: &Truth,
    ) -> Result<(), Broken> {
        for (agent, output) in outputs {
            match output {
                Output::Row(row) => self.row(agent, &row, truth)?,
                Output::Quarantine { reason, .. } => {
                    return broken("D2", format!("a good record of agent {agent} was quarantined: {reason}"));
                }
            }
        }
        self.commit = Some(commit);
        self.commits += 1;
        Ok(())
    }

    /// A data file is gone: some neighbours of one agent, epoch and class. Gaps stay, so that everything else can be told.
    pub(crate) fn lose(&mut self, agent: usize, random: &mut Random) {
        let can_go = |(at, key): &&(usize, Key)| *at == agent && key.class != Class::Gap;
        let rows: Vec<(usize, Key)> =
            self.rows.keys().filter(can_go).filter(|row| !self.undated.contains(row)).copied().collect();
        if rows.is_empty() {
            return;
        }
        let from = random.below(rows.len() as u64) as usize;
        let (_, first) = rows[from];
        let together = |(_, key): &&(usize, Key)| (key.epoch, key.class) == (first.epoch, first.class);
        for row in rows[from..].iter().take_while(together).take(random.between(1, 40) as usize) {
            self.rows.remove(row);
            self.lost.insert(*row);
            self.lost_rows += 1;
        }
    }

    /// Is it lost, and not yet told to be gone?
    pub(crate) fn wants(&self, agent: usize, key: Key) -> bool {
        self.lost.contains(&(agent, key))
    }

    /// What the edge is asked for now.
    pub(crate) fn asks(&self) -> Vec<(usize, Refetch)> {
        let mut asks: BTreeMap<(usize, Epoch, Class), Refetch> = BTreeMap::new();
        for (agent, Key { epoch, class, seq }) in &self.lost {
            let empty = || Refetch { epoch: *epoch, class: *class, ranges: heapless::Vec::new() };
            let ranges = &mut asks.entry((*agent, *epoch, *class)).or_insert_with(empty).ranges;
            match ranges.last_mut().filter(|last| last.last + 1 == *seq) {
                Some(last) => last.last = *seq,
                // What has no room is asked for when some has come.
                None => drop(ranges.push(SeqRange { first: *seq, last: *seq })),
            }
        }
        asks.into_iter().map(|((agent, _, _), ask)| (agent, ask)).collect()
    }

    /// Nothing is asked for any more.
    pub(crate) fn is_whole(&self) -> bool {
        self.lost.is_empty()
    }

    /// Does it hold this row?
    pub(crate) fn has(&self, agent: usize, row: &Row) -> bool {
        self.rows.contains_key(&(agent, key_of(row)))
    }

    /// A row that has come again goes where it is missing.
    pub(crate) fn put_back(&mut self, agent: usize, row: &Row, truth: &Truth) -> Result<(), Broken> {
        self.lost.remove(&(agent, key_of(row)));
        self.restored_rows += 1;
        self.row(agent, row, truth)
    }

    pub(crate) fn marks(&self) -> Vec<MarkState> {
        self.commit.as_ref().map(|commit| commit.marks.clone()).unwrap_or_default()
    }

    /// Is it one of the few that were first seen last?
    pub(crate) fn is_among_the_newest(&self, device: &DeviceId, epoch: Epoch) -> bool {
        let epochs = self.epochs.get(device).map(Vec::as_slice).unwrap_or_default();
        epochs.iter().rev().take(FEW_EPOCHS).any(|known| *known == epoch)
    }

    /// Is it there, or is it told to be missing?
    pub(crate) fn accounts_for(&self, agent: usize, key: Key) -> bool {
        self.rows.contains_key(&(agent, key)) || self.gaps.get(&agent).is_some_and(|gaps| gaps.contains(key))
    }

    /// Was it ever there, or is it told to be missing?
    pub(crate) fn has_had(&self, agent: usize, key: Key) -> bool {
        self.accounts_for(agent, key) || self.wants(agent, key)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The same for the same rows.
    pub(crate) fn hash(&self) -> u64 {
        self.rows.iter().fold(FNV, |hash, ((agent, key), row)| {
            let numbers = [*agent as u64, key.epoch.0, key.class as u64, key.seq, *row];
            numbers.iter().fold(hash, |hash, number| fnv(hash, &number.to_le_bytes()))
        })
    }

    fn row(&mut self, agent: usize, row: &Row, truth: &Truth) -> Result<(), Broken> {
        let (record, key) = (&row.record, key_of(row));
        let mut room = [0; 4097];
        let hash = encode_record(record, &mut room).map_or(0, |bytes| fnv(FNV, bytes));
        match truth.made.get(&(agent, key)) {
            Some(made) if made.hash == hash => self.misdated += u64::from(is_misdated(row, made.world_us)),
            Some(_) => return broken("T1", format!("{} of agent {agent} is not what was recorded", named(key))),
            None => return broken("T1", format!("{} of agent {agent} was never recorded", named(key))),
        }
        let epochs = self.epochs.entry(row.device.clone()).or_default();
        if !epochs.contains(&key.epoch) {
            epochs.push(key.epoch);
        }
        if self.rows.insert((agent, key), hash).is_some() {
            return broken("L1 D2", format!("{} of agent {agent} is in the lake twice", named(key)));
        }
        if record.wall.is_none() {
            self.undated.insert((agent, key));
        }
        if let Payload::Gap(gap) = &record.payload {
            let named = |key: &Key| {
                let within = gap.first_seq <= key.seq && key.seq <= gap.last_seq;
                (key.epoch, key.class) == (gap.epoch, gap.class) && within
            };
            self.lost.retain(|(at, key)| *at != agent || !named(key));
            self.gaps.entry(agent).or_default().add(gap);
            self.gap_rows += 1;
        }
        Ok(())
    }
}

fn key_of(row: &Row) -> Key {
    Key { epoch: row.record.epoch, class: row.record.class(), seq: row.record.seq }
}

/// Is the solved time farther from the truth than its bound says? A wall guess that was taken as it is does not count.
fn is_misdated(row: &Row, world_us: u64) -> bool {
    let guessed = row.record.wall == Some(row.event_time) && row.event_bound == row.record.uncertainty;
    let away_us = (row.event_time - VirtualClock::true_wall(world_us)).0.unsigned_abs();
    !guessed && away_us > row.event_bound.0.unsigned_abs() + 1_000
}

pub(crate) fn named(key: Key) -> String {
    format!("{} {} of epoch {:016x}", key.class.as_str(), key.seq, key.epoch.0)
}

/// FNV-1a: short, and the same everywhere.
pub(crate) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(crate) const FNV: u64 = 0xcbf2_9ce4_8422_2325;
const FEW_EPOCHS: usize = 8;
