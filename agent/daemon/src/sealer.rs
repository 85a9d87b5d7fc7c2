//! Seals over what the journal took: which records no seal covers yet, and the seal over them.
//!
//! A record counts when the journal has taken it. Each range of a seal is without holes: where a seq was never journalled (evicted in a scan, lost,
//! sent from memory while the disk was dead) one range ends and another begins. After a restart the journal's own records are taken in again, so that
//! what a crash left open is sealed by the next run; what the torn tail took was never sent. The chain goes on from the last seal that the journal
//! holds, or from [`Head`], a file that is written before the journal may forget the seal it names.
//!
//! A record that the lake's tables could not give back bit for bit (a number that JSON does not have) is left out, and stays open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use kilter_text::comes_back;
use kilter_types::{
    Class, Digest, Epoch, MAX_SEALED_RANGES, MAX_SEALED_RECORDS, Payload, Record, Seal, SealBefore, SealedRange,
};
use kilter_wire::seal::{Fingerprint, RangeHash, named, record_hash, sign};
use tracing::{info, warn};

use crate::file;

/// What a device seals with: its key, and where its chain has come to.
pub(crate) struct Sealer {
    secret: [u8; 32],
    /// The last seal.
    before: Option<SealBefore>,
    head: Head,
    open: BTreeMap<Epoch, Open>,
}

/// Records of one epoch that no seal covers yet.
#[derive(Default)]
struct Open {
    ranges: Vec<OpenRange>,
    /// Records but seals: these alone are no reason for another.
    records: u64,
    /// When the first of them was seen.
    since_us: Option<u64>,
}

struct OpenRange {
    class: Class,
    first_seq: u64,
    last_seq: u64,
    hash: RangeHash,
}

/// The last seal that is durable in the journal, in a file.
#[derive(Clone, Debug)]
struct Head {
    path: PathBuf,
    kept: Option<SealBefore>,
    /// Made and not durable yet, with the journal's end behind it.
    waiting: Option<(u64, SealBefore)>,
}

// The secret is written nowhere but into its file.
impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("key", &self.fingerprint()).field("before", &self.before).finish_non_exhaustive()
    }
}

impl Sealer {
    /// The key in this data folder, made at the first start, and the chain's head.
    pub(crate) fn load(data: &Path) -> io::Result<Self> {
        let path = data.join("seal.key");
        let secret = match file::read(&path)? {
            Some(_) => parse(&file::secret(&path)?)?,
            None => {
                let mut secret = [0; 32];
                getrandom::fill(&mut secret).map_err(io::Error::other)?;
                file::replace_private(&path, format!("{}\n", Digest(secret)).as_bytes())?;
                secret
            }
        };
        let path = data.join("seal.head");
        let kept = file::read(&path)?.and_then(|bytes| postcard::from_bytes(&bytes).ok());
        let sealer = Self::new(secret, Head { path, kept, waiting: None });
        info!(key = %sealer.fingerprint(), "records are sealed");
        Ok(sealer)
    }

    fn new(secret: [u8; 32], head: Head) -> Self {
        Self { secret, before: head.kept, head, open: BTreeMap::new() }
    }

    /// The key as a person compares it with what the aggregator has seen.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&kilter_wire::sign::public_key(&self.secret))
    }

    /// The journal is read from its beginning again.
    pub(crate) fn begin(&mut self) {
        self.open.clear();
        self.before = self.head.kept;
        self.head.waiting = None;
    }

    /// A record that the journal was found to hold, in its order.
    pub(crate) fn found(&mut self, record: &Record) {
        if let Payload::Seal(seal) = &record.payload {
            self.before = named(record.epoch, record.seq, seal).or(self.before);
            self.close(seal);
        }
        self.note(record);
    }

    /// A record that the journal has taken.
    pub(crate) fn note(&mut self, record: &Record) {
        let (class, seq) = (record.class(), record.seq);
        let hash = record_hash(record).ok().filter(|_| comes_back(record));
        let open = self.open.entry(record.epoch).or_default();
        let last = open.ranges.iter_mut().rev().find(|range| range.class == class);
        let (Some(hash), true) = (hash, last.as_ref().is_none_or(|range| seq > range.last_seq)) else { return };
        let is_full = |range: &&mut OpenRange| seq - range.first_seq >= MAX_SEALED_RECORDS;
        match last.filter(|range| range.last_seq + 1 == seq && !is_full(range)) {
            Some(range) => {
                range.last_seq = seq;
                range.hash.push(&hash);
            }
            None => {
                let mut range = OpenRange { class, first_seq: seq, last_seq: seq, hash: RangeHash::default() };
                range.hash.push(&hash);
                open.ranges.push(range);
            }
        }
        open.records += u64::from(!matches!(record.payload, Payload::Seal(_)));
    }

    /// The epoch whose records are due for a seal; `all` of them are when the agent ends.
    pub(crate) fn due(&mut self, now_us: u64, all: bool) -> Option<Epoch> {
        let due = |open: &mut Open| {
            let since_us = *open.since_us.get_or_insert(now_us);
            let old = now_us.saturating_sub(since_us) >= A_DAY_US;
            all || old || open.records >= EVERY_RECORDS || open.ranges.len() >= MAX_SEALED_RANGES
        };
        self.open.iter_mut().filter(|(_, open)| open.records > 0).find_map(|(epoch, open)| due(open).then_some(*epoch))
    }

    /// Epochs with something open.
    pub(crate) fn epochs(&self) -> Vec<Epoch> {
        self.open.iter().filter(|(_, open)| open.records > 0).map(|(epoch, _)| *epoch).collect()
    }

    /// The seal over what is open of an epoch. It counts once [`made`](Self::made) hears that the journal has it.
    pub(crate) fn seal(&self, epoch: Epoch) -> Option<Seal> {
        let range = |range: &OpenRange| {
            let OpenRange { class, first_seq, last_seq, hash } = range;
            SealedRange { class: *class, first_seq: *first_seq, last_seq: *last_seq, hash: hash.clone().finish() }
        };
        let ranges = self.open.get(&epoch)?.ranges.iter().take(MAX_SEALED_RANGES).map(range).collect();
        let mut seal = Seal { key: [0; 32], before: self.before, epoch, ranges, signature: [[0; 32]; 2] };
        sign(&mut seal, &self.secret).ok()?;
        Some(seal)
    }

    /// The journal has taken this seal and ends at `end` now.
    pub(crate) fn made(&mut self, record: &Record, end: u64) {
        self.found(record);
        self.head.waiting = self.before.map(|before| (end, before));
    }

    /// Everything below is durable: the chain's head is kept, before the journal may forget it.
    pub(crate) fn durable(&mut self, upto: u64) {
        let Some((_, before)) = self.head.waiting.take_if(|(end, _)| *end <= upto) else { return };
        let written = postcard::to_extend(&before, Vec::new()).map_err(io::Error::other);
        match written.and_then(|bytes| file::replace(&self.head.path, &bytes)) {
            Ok(()) => self.head.kept = Some(before),
            Err(error) => {
                warn!(path = %self.head.path.display(), %error, "the head of the seals is not written; it is tried again");
                self.head.waiting = Some((upto, before));
            }
        }
    }

    /// What a seal covers is open no more.
    fn close(&mut self, seal: &Seal) {
        let Some(open) = self.open.get_mut(&seal.epoch) else { return };
        let covers = |range: &OpenRange| {
            let sealed = |sealed: &SealedRange| sealed.class == range.class && range.first_seq <= sealed.last_seq;
            seal.ranges.iter().any(sealed)
        };
        open.ranges.retain(|range| !covers(range));
        open.records = open.ranges.iter().map(|range| range.last_seq - range.first_seq + 1).sum();
        open.since_us = None;
        if open.ranges.is_empty() {
            self.open.remove(&seal.epoch);
        }
    }
}

fn parse(text: &str) -> io::Result<[u8; 32]> {
    let digits = Digest::parse(text).ok_or_else(|| io::Error::other("seal.key is not 64 hexadecimal digits"))?;
    Ok(digits.0)
}

const EVERY_RECORDS: u64 = MAX_SEALED_RECORDS;

const A_DAY_US: u64 = 86_400_000_000;

#[cfg(test)]
mod tests;
