//! What devices vouched for, held against what the lake gives: each sealed range is `sealed`, `broken` or `open`.
//!
//! A seal covers records that were all there when it was made. What its rows give back is hashed again; nothing of that happens while rows are
//! taken in. A range is **broken** where something can only be wrong: another hash, a signature that its key did not make, a second key within one epoch, a
//! seal missing between two, a row missing that was taken and that no gap, erasure or retention tells. It is **open** where nobody
//! can tell: not here yet, told by a gap, erased, corrected, sealed by a key that nobody has accepted, or sealed by nobody.
//!
//! Limits: one hash covers a whole range, so where one of its rows is gone with a cause the others can't be checked; the newest seals of a device
//! can be taken away without a trace in the chain (the marks that were published still tell their rows). Held in memory: the seals of the devices
//! that are asked for, and the ranges that a file has begun and no other has ended.

mod accept;
mod collect;
mod range;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use kilter_history::View;
use kilter_lake::{Ranges, Stream, Streams};
use kilter_types::{Digest, Seal, SealBefore};
use kilter_wire::seal::Fingerprint;
use serde_json::{Value, json};
use tracing::warn;

use crate::files::Keys;
pub(crate) use collect::Asked;
use collect::{collect, gaps};
use range::fill;
use verdict::judge;

/// What the lab knows beside the rows.
#[derive(Default)]
pub(crate) struct Known {
    /// Records that were taken.
    pub(crate) held: Streams,
    /// Records that are gone on purpose, and the word for it.
    pub(crate) gone: Vec<(&'static str, Streams)>,
    /// Records that a person has corrected.
    pub(crate) corrected: Streams,
    /// With what devices may seal.
    pub(crate) keys: Keys,
}

/// A seal as it was found.
struct Found {
    device: String,
    /// Where its own record stands, as the next seal names it.
    at: SealBefore,
    seal: Seal,
    /// Did the holder of the key in it sign it?
    signed: bool,
}

/// How a range stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Its rows are what the device recorded.
    Sealed,
    /// Nobody can tell, and why.
    Open(String),
    /// Something is wrong, and what.
    Broken(String),
}

/// A range with how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) standing: Standing,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Told {
    /// How many seals were found.
    seals: usize,
    /// The keys with which each device has sealed, the one it may seal with first.
    keys: BTreeMap<String, Vec<(Fingerprint, bool)>>,
    verdicts: BTreeMap<Stream, Vec<Verdict>>,
    /// The last seq that a seal covers.
    reached: BTreeMap<Stream, u64>,
}

/// Checks the seals that are asked for. Reads files: not for an async thread.
pub(crate) fn check(views: &[View], known: &Known, asked: &Asked) -> anyhow::Result<Told> {
    let found = collect(views, asked)?;
    let mut keys = known.keys.clone();
    for found in found.iter().filter(|found| found.signed) {
        // Those that an older lab set aside are known to none yet.
        keys.entry(found.device.clone()).or_insert_with(|| vec![Digest(found.seal.key).to_string()]);
    }
    let filled = fill(views, &found, asked)?;
    for file in &filled.unread {
        warn!(file, "a data file can't be read; whether its rows are what was sealed stays open");
    }
    let mut told = Told { seals: found.len(), ..Told::default() };
    for found in &found {
        let accepted = keys.get(&found.device).is_some_and(|keys| keys.contains(&Digest(found.seal.key).to_string()));
        let of_device = told.keys.entry(found.device.clone()).or_default();
        let key = (Fingerprint::of(&found.seal.key), accepted);
        if !of_device.contains(&key) {
            of_device.push(key);
        }
        for range in &found.seal.ranges {
            let reached = told.reached.entry(found.stream(range.class.as_str())).or_default();
            *reached = (*reached).max(range.last_seq);
        }
    }
    told.keys.values_mut().for_each(|keys| keys.sort_by_key(|(_, accepted)| !accepted));
    told.verdicts = judge(&found, &filled, &gaps(views, asked)?, &keys, known);
    Ok(told)
}

impl Found {
    fn stream(&self, class: &str) -> Stream {
        Stream { device: self.device.clone(), epoch: self.seal.epoch.0, class: class.to_owned() }
    }
}

impl Told {
    /// Everything that is broken.
    pub(crate) fn broken(&self) -> Vec<Value> {
        let of = |(stream, verdicts): (&Stream, &Vec<Verdict>)| {
            let broken = verdicts.iter().filter_map(|verdict| match &verdict.standing {
                Standing::Broken(what) => Some(json!({
                    "device": stream.device, "epoch": stream.epoch, "class": stream.class,
                    "first": verdict.first, "last": verdict.last, "what": what,
                })),
                Standing::Sealed | Standing::Open(_) => None,
            });
            broken.collect::<Vec<_>>()
        };
        self.verdicts.iter().flat_map(of).collect()
    }

    /// The keys with which devices have sealed, as people compare them.
    pub(crate) fn keys(&self) -> Value {
        let of = |(device, keys): (&String, &Vec<(Fingerprint, bool)>)| {
            let keys = keys.iter().map(|(key, accepted)| json!({ "key": key.to_string(), "accepted": accepted }));
            (device.clone(), keys.collect::<Value>())
        };
        Value::Object(self.keys.iter().map(of).collect())
    }

    /// How the numbers from `first` to `last` of a stream stand, in their order and without a hole between.
    pub(crate) fn of(&self, stream: &Stream, first: u64, last: u64) -> Vec<Verdict> {
        let mut left = Ranges::default();
        left.cover(first, last);
        let mut by_standing: BTreeMap<Standing, Ranges> = BTreeMap::new();
        let none = Vec::new();
        let mut verdicts: Vec<&Verdict> = self.verdicts.get(stream).unwrap_or(&none).iter().collect();
        // What is broken by one seal is not mended by another; what one seal vouches for needs no other.
        verdicts.sort_by_key(|verdict| match verdict.standing {
            Standing::Broken(_) => 0,
            Standing::Sealed => 1,
            Standing::Open(_) => 2,
        });
        for verdict in verdicts {
            let mut of = Ranges::default();
            of.cover(verdict.first, verdict.last);
            let here = left.both(&of);
            if !here.is_empty() {
                left = left.without(&here);
                by_standing.entry(verdict.standing.clone()).or_default().join(&here);
            }
        }
        for (first, last) in left.iter() {
            let why = match self.reached.get(stream) {
                None if !self.keys.contains_key(&stream.device) => "the device seals nothing",
                Some(reached) if *reached > last => "no seal covers it",
                Some(_) | None => "not sealed yet",
            };
            by_standing.entry(Standing::Open(why.to_owned())).or_default().cover(first, last);
        }
        let each = |(standing, ranges): (Standing, Ranges)| {
            let pieces: Vec<_> = ranges.iter().collect();
            pieces.into_iter().map(move |(first, last)| Verdict { first, last, standing: standing.clone() })
        };
        let mut pieces: Vec<Verdict> = by_standing.into_iter().flat_map(each).collect();
        pieces.sort_by_key(|piece| piece.first);
        pieces
    }

    /// In figures, with what is open by its reason.
    pub(crate) fn summary(&self) -> Value {
        let (mut sealed, mut open) = (0, BTreeMap::<&str, u64>::new());
        for verdict in self.verdicts.values().flatten() {
            let records = verdict.last - verdict.first + 1;
            match &verdict.standing {
                Standing::Sealed => sealed += records,
                Standing::Open(why) => *open.entry(why).or_default() += records,
                Standing::Broken(_) => {}
            }
        }
        json!({ "seals": self.seals, "sealed": sealed, "open": open, "broken": self.broken(), "keys": self.keys() })
    }
}

impl Verdict {
    /// Is something wrong there?
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.standing, Standing::Broken(_))
    }

    /// For whoever asked.
    pub(crate) fn json(&self) -> Value {
        let (state, why) = match &self.standing {
            Standing::Sealed => ("sealed", None),
            Standing::Open(why) => ("open", Some(why)),
            Standing::Broken(what) => ("broken", Some(what)),
        };
        match why {
            None => json!({ "first": self.first, "last": self.last, "state": state }),
            Some(why) => json!({ "first": self.first, "last": self.last, "state": state, "why": why }),
        }
    }
}

/// The devices of these streams.
fn devices(streams: &Streams) -> BTreeSet<&str> {
    streams.keys().map(|stream| stream.device.as_str()).collect()
}
