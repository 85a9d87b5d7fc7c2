//! The lake: rows, and with each commit the offset, the fold and the marks that they belong to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kilter_fold::Row;
use kilter_types::{Class, DeviceId, Epoch, JournalId, Payload};
use kilter_uplink::Key;
use kilter_wire::{Refetch, SeqRange};

use super::folder::Folded;
use super::kept_fold::KeptFold;
use super::marks::Marks;
use super::outcome::Bounds;
use super::truth::{Broken, FNV, Ranges, Stream, Truth, broken, fnv, named, stream_of};
use crate::{Random, VirtualClock};

/// Everything that was committed.
pub(crate) struct Lake {
    /// By agent and stream; the seq is the place.
    rows: Vec<BTreeMap<Stream, Vec<Held>>>,
    count: u64,
    gaps: BTreeMap<usize, Ranges>,
    /// Rows that were there and are lost; the edge is asked for them.
    lost: Lost,
    pub(crate) lost_rows: u64,
    pub(crate) restored_rows: u64,
    pub(crate) gap_rows: u64,
    pub(crate) commit: Option<Commit>,
    pub(crate) commits: u64,
    pub(crate) bounds: Bounds,
    /// Every device's epochs in the order of first sight; only a planted mistake looks at it.
    epochs: BTreeMap<DeviceId, Vec<Epoch>>,
}

/// Rows that are lost, by agent; read by whoever folds.
pub(crate) type Lost = Arc<BTreeSet<(usize, Key)>>;

/// Is a row there?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Held {
    #[default]
    No,
    Dated,
    /// Nothing but its receipt says when it happened.
    Undated,
}

/// What a commit carries beside its rows.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) journal_id: JournalId,
    pub(crate) offset: u64,
    pub(crate) fold: KeptFold,
    pub(crate) marks: Marks,
}

impl Lake {
    pub(crate) fn new(agents: usize) -> Self {
        Self {
            rows: (0..agents).map(|_| BTreeMap::new()).collect(),
            count: 0,
            gaps: BTreeMap::new(),
            lost: Lost::default(),
            lost_rows: 0,
            restored_rows: 0,
            gap_rows: 0,
            commit: None,
            commits: 0,
            bounds: Bounds::default(),
            epochs: BTreeMap::new(),
        }
    }

    /// One atomic commit (L1).
    pub(crate) fn append(&mut self, rows: Vec<Folded>, commit: Commit, truth: &Truth) -> Result<(), Broken> {
        for row in rows {
            self.row(&row, truth)?;
        }
        self.commit = Some(commit);
        self.commits += 1;
        Ok(())
    }

    /// A data file is gone: some neighbours of one agent, epoch and class. Gaps stay, so that everything else can be told.
    pub(crate) fn lose(&mut self, agent: usize, random: &mut Random) {
        let streams = self.rows[agent].iter().filter(|((_, class), _)| *class != Class::Gap);
        let rows: Vec<Key> = streams
            .flat_map(|((epoch, class), rows)| {
                let dated = rows.iter().enumerate().filter(|(_, held)| **held == Held::Dated);
                dated.map(|(seq, _)| Key { epoch: *epoch, class: *class, seq: seq as u64 })
            })
            .collect();
        if rows.is_empty() {
            return;
        }
        let from = random.below(rows.len() as u64) as usize;
        let together = |key: &&Key| stream_of(**key) == stream_of(rows[from]);
        for row in rows[from..].iter().take_while(together).take(random.between(1, 40) as usize) {
            self.hold(agent, *row, Held::No);
            Arc::make_mut(&mut self.lost).insert((agent, *row));
            self.lost_rows += 1;
        }
    }

    /// Is it lost, and not yet told to be gone?
    pub(crate) fn wants(&self, agent: usize, key: Key) -> bool {
        !self.lost.is_empty() && self.lost.contains(&(agent, key))
    }

    /// All of them.
    pub(crate) fn lost(&self) -> &Lost {
        &self.lost
    }

    /// What the edge is asked for now.
    pub(crate) fn asks(&self) -> Vec<(usize, Refetch)> {
        let mut asks: BTreeMap<(usize, Epoch, Class), Refetch> = BTreeMap::new();
        for (agent, Key { epoch, class, seq }) in &*self.lost {
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
    pub(crate) fn has(&self, Folded { agent, row, .. }: &Folded) -> bool {
        self.held(*agent, key_of(row)) != Held::No
    }

    /// A row that has come again goes where it is missing.
    pub(crate) fn put_back(&mut self, folded: &Folded, truth: &Truth) -> Result<(), Broken> {
        Arc::make_mut(&mut self.lost).remove(&(folded.agent, key_of(&folded.row)));
        self.restored_rows += 1;
        self.row(folded, truth)
    }

    /// Is it one of the few that were first seen last?
    pub(crate) fn is_among_the_newest(&self, device: &DeviceId, epoch: Epoch) -> bool {
        let epochs = self.epochs.get(device).map(Vec::as_slice).unwrap_or_default();
        epochs.iter().rev().take(FEW_EPOCHS).any(|known| *known == epoch)
    }

    /// Is it there, or is it told to be missing?
    pub(crate) fn accounts_for(&self, agent: usize, key: Key) -> bool {
        self.held(agent, key) != Held::No || self.gaps.get(&agent).is_some_and(|gaps| gaps.contains(key))
    }

    /// Was it ever there, or is it told to be missing?
    pub(crate) fn has_had(&self, agent: usize, key: Key) -> bool {
        self.accounts_for(agent, key) || self.wants(agent, key)
    }

    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    /// The same for the same rows.
    pub(crate) fn hash(&self, truth: &Truth) -> u64 {
        let mut hash = FNV;
        for (agent, streams) in self.rows.iter().enumerate() {
            for ((epoch, class), rows) in streams {
                for (seq, _) in rows.iter().enumerate().filter(|(_, held)| **held != Held::No) {
                    let key = Key { epoch: *epoch, class: *class, seq: seq as u64 };
                    let row = truth.get(agent, key).map_or(0, |made| made.hash);
                    let numbers = [agent as u64, epoch.0, *class as u64, key.seq, row];
                    hash = numbers.iter().fold(hash, |hash, number| fnv(hash, &number.to_le_bytes()));
                }
            }
        }
        hash
    }

    fn row(&mut self, Folded { agent, row, hash }: &Folded, truth: &Truth) -> Result<(), Broken> {
        let (agent, record, key) = (*agent, &row.record, key_of(row));
        match truth.get(agent, key) {
            Some(made) if made.hash == *hash => self.date(agent, row, made.world_us())?,
            Some(_) => return broken("T1", format!("{} of agent {agent} is not what was recorded", named(key))),
            None => return broken("T1", format!("{} of agent {agent} was never recorded", named(key))),
        }
        if !self.rows[agent].contains_key(&stream_of(key)) {
            let epochs = self.epochs.entry(row.device.clone()).or_default();
            if !epochs.contains(&key.epoch) {
                epochs.push(key.epoch);
            }
        }
        if self.held(agent, key) != Held::No {
            return broken("L1 D2", format!("{} of agent {agent} is in the lake twice", named(key)));
        }
        self.hold(agent, key, if record.wall.is_none() { Held::Undated } else { Held::Dated });
        if let Payload::Gap(gap) = &record.payload {
            let named = |key: &Key| {
                let within = gap.first_seq <= key.seq && key.seq <= gap.last_seq;
                (key.epoch, key.class) == (gap.epoch, gap.class) && within
            };
            if self.lost.iter().any(|(at, key)| *at == agent && named(key)) {
                Arc::make_mut(&mut self.lost).retain(|(at, key)| *at != agent || !named(key));
            }
            self.gaps.entry(agent).or_default().add(gap);
            self.gap_rows += 1;
        }
        Ok(())
    }

    /// T1: the time that was solved is no farther from the truth than its bound says. A node's own guess is taken as it is, and what only its
    /// receipt dates is no more than that.
    fn date(&mut self, agent: usize, row: &Row, world_us: u64) -> Result<(), Broken> {
        let guessed = row.record.wall == Some(row.event_time) && row.event_bound == row.record.uncertainty;
        if guessed {
            return Ok(());
        }
        let away_us = (row.event_time - VirtualClock::true_wall(world_us)).0.unsigned_abs();
        let bound_us = row.event_bound.0.unsigned_abs();
        if away_us > bound_us + ROUNDED_US {
            let key = named(key_of(row));
            return broken(
                "T1",
                format!("{key} of agent {agent} is dated {away_us} µs off, its bound is {bound_us} µs"),
            );
        }
        if row.event_time != row.received {
            self.bounds.count(bound_us);
        }
        Ok(())
    }

    fn held(&self, agent: usize, key: Key) -> Held {
        let rows = self.rows.get(agent).and_then(|streams| streams.get(&stream_of(key)));
        let held = rows.and_then(|rows| rows.get(usize::try_from(key.seq).ok()?));
        held.copied().unwrap_or_default()
    }

    fn hold(&mut self, agent: usize, key: Key, held: Held) {
        let rows = self.rows[agent].entry(stream_of(key)).or_default();
        let place = usize::try_from(key.seq).expect("a seq that was made has its place");
        if rows.len() <= place {
            rows.resize(place + 1, Held::No);
        }
        let before = std::mem::replace(&mut rows[place], held);
        self.count = self.count + u64::from(held != Held::No) - u64::from(before != Held::No);
    }
}

fn key_of(row: &Row) -> Key {
    Key { epoch: row.record.epoch, class: row.record.class(), seq: row.record.seq }
}

const FEW_EPOCHS: usize = 8;
/// The model's clocks count whole microseconds.
const ROUNDED_US: u64 = 10;
