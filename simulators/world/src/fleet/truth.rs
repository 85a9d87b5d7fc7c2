//! What really happened: every record made, and which of them a journal acknowledged.

use std::collections::BTreeMap;

use kilter_types::{Class, Epoch, Gap};
use kilter_uplink::Key;

use super::lake::Lake;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) detail: String,
}

pub(crate) fn broken<T>(invariant: &'static str, detail: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { invariant, detail: detail.into() })
}

/// The records of one epoch and class; their seqs begin at 0 and have no holes.
pub(crate) type Stream = (Epoch, Class);

pub(crate) fn stream_of(key: Key) -> Stream {
    (key.epoch, key.class)
}

/// Ranges of seqs by epoch and class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges(BTreeMap<Stream, Vec<(u64, u64)>>);

impl Ranges {
    pub(crate) fn add(&mut self, gap: &Gap) {
        self.0.entry((gap.epoch, gap.class)).or_default().push((gap.first_seq, gap.last_seq));
    }

    pub(crate) fn contains(&self, key: Key) -> bool {
        let within = |(first, last): &(u64, u64)| *first <= key.seq && key.seq <= *last;
        self.0.get(&stream_of(key)).is_some_and(|ranges| ranges.iter().any(within))
    }
}

/// Every record made.
#[derive(Debug)]
pub(crate) struct Truth {
    /// By agent and stream; the seq is the place.
    made: Vec<BTreeMap<Stream, Vec<Made>>>,
    pub(crate) acknowledged: u64,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) hash: u64,
    /// When, and in the highest bit whether a journal acknowledged it: there are millions of them.
    at: u64,
}

impl Made {
    pub(crate) fn world_us(self) -> u64 {
        self.at & !ACKNOWLEDGED
    }

    fn is_acknowledged(self) -> bool {
        self.at & ACKNOWLEDGED != 0
    }
}

impl Truth {
    pub(crate) fn new(agents: usize) -> Self {
        Self { made: (0..agents).map(|_| BTreeMap::new()).collect(), acknowledged: 0 }
    }

    pub(crate) fn make(&mut self, agent: usize, key: Key, bytes: &[u8], world_us: u64) {
        let made = Made { hash: fnv(FNV, bytes), at: world_us };
        let stream = self.made[agent].entry(stream_of(key)).or_default();
        assert_eq!(stream.len() as u64, key.seq, "an agent counts its records one by one");
        stream.push(made);
    }

    pub(crate) fn get(&self, agent: usize, key: Key) -> Option<Made> {
        self.made[agent].get(&stream_of(key))?.get(usize::try_from(key.seq).ok()?).copied()
    }

    /// The agent's journal says that it is durable.
    pub(crate) fn acknowledge(&mut self, agent: usize, key: Key) {
        if let Some(made) = self.get_mut(agent, key) {
            let fresh = !made.is_acknowledged();
            made.at |= ACKNOWLEDGED;
            self.acknowledged += u64::from(fresh);
        }
    }

    /// A person put an older image of the disk back: nothing is promised for what it does not hold.
    pub(crate) fn void(&mut self, agent: usize, key: Key) {
        if let Some(made) = self.get_mut(agent, key) {
            let was = made.is_acknowledged();
            made.at &= !ACKNOWLEDGED;
            self.acknowledged -= u64::from(was);
        }
    }

    /// J1, J3, D1: what was acknowledged is in the lake or inside a gap that the lake tells.
    pub(crate) fn check_complete(&self, lake: &Lake) -> Result<(), Broken> {
        for (agent, streams) in self.made.iter().enumerate() {
            for ((epoch, class), stream) in streams {
                let acknowledged = stream.iter().enumerate().filter(|(_, made)| made.is_acknowledged());
                for key in acknowledged.map(|(seq, _)| Key { epoch: *epoch, class: *class, seq: seq as u64 }) {
                    if !lake.accounts_for(agent, key) {
                        let detail = format!("{} of agent {agent} is neither in the lake nor in a gap", named(key));
                        return broken("J1 J3 D1", detail);
                    }
                }
            }
        }
        Ok(())
    }

    fn get_mut(&mut self, agent: usize, key: Key) -> Option<&mut Made> {
        self.made[agent].get_mut(&stream_of(key))?.get_mut(usize::try_from(key.seq).ok()?)
    }
}

pub(crate) fn named(key: Key) -> String {
    format!("{} {} of epoch {:016x}", key.class.as_str(), key.seq, key.epoch.0)
}

/// A hash by words of eight bytes, in the manner of FNV-1a: short, and the same everywhere.
pub(crate) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    let stir = |hash: u64, word: u64| {
        let mixed = (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ (mixed >> 32)
    };
    let (words, rest) = bytes.as_chunks();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let hash = words.iter().fold(hash, |hash, word| stir(hash, u64::from_le_bytes(*word)));
    stir(stir(hash, u64::from_le_bytes(last)), bytes.len() as u64)
}

pub(crate) const FNV: u64 = 0xcbf2_9ce4_8422_2325;
const ACKNOWLEDGED: u64 = 1 << 63;
