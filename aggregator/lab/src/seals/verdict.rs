//! How each sealed range stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kilter_lake::{Ranges, Stream, Streams};
use kilter_types::{Class, Digest, SealBefore};

use super::collect::GapRow;
use super::range::{Fill, Filled};
use super::{Found, Known, Standing, Verdict};
use crate::files::Keys;

/// Every range with how it stands, and the places in the chains where a seal is missing.
pub(super) fn judge(
    found: &[Found],
    fill: &Fill,
    gaps: &[GapRow],
    keys: &Keys,
    known: &Known,
) -> BTreeMap<Stream, Vec<Verdict>> {
    let of_seals = of_seals(found, keys);
    let mut signed = Streams::new();
    for filled in fill.ranges.iter().filter(|filled| filled.range.class == Class::Gap) {
        if of_seals[filled.seal].is_none() && filled.hash == Some(filled.range.hash) {
            signed.entry(filled.stream.clone()).or_default().cover(filled.range.first_seq, filled.range.last_seq);
        }
    }
    let causes = Causes { causes: causes(gaps, &signed, known), held: &known.held, unread: !fill.unread.is_empty() };
    let mut verdicts: BTreeMap<Stream, Vec<Verdict>> = BTreeMap::new();
    for filled in &fill.ranges {
        let standing = of_seals[filled.seal].clone().unwrap_or_else(|| causes.of_rows(filled, known));
        let verdict = Verdict { first: filled.range.first_seq, last: filled.range.last_seq, standing };
        verdicts.entry(filled.stream.clone()).or_default().push(verdict);
    }
    for (stream, seq, what) in causes.chain(found, &of_seals) {
        let verdict = Verdict { first: seq, last: seq, standing: Standing::Broken(what.to_owned()) };
        let of_stream = verdicts.entry(stream).or_default();
        if !of_stream.contains(&verdict) {
            of_stream.push(verdict);
        }
    }
    verdicts
}

/// What is wrong with a seal, or keeps it from counting.
fn of_seals(found: &[Found], keys: &Keys) -> Vec<Option<Standing>> {
    let accepted = |found: &Found| {
        found.signed && keys.get(&found.device).is_some_and(|keys| keys.contains(&Digest(found.seal.key).to_string()))
    };
    // An epoch is one opening of one journal by one device, and so has one key.
    let epoch = |found: &Found| (found.device.clone(), found.seal.epoch.0);
    let own: BTreeSet<_> = found.iter().filter(|found| accepted(found)).map(epoch).collect();
    let each = found.iter().map(|found| match (found.signed, accepted(found), own.contains(&epoch(found))) {
        (false, _, _) => Some(Standing::Broken("signature: the key in the seal did not make it".into())),
        (true, true, _) => None,
        (true, false, true) => Some(Standing::Broken("key: another key than the device's own sealed it".into())),
        (true, false, false) => {
            Some(Standing::Open("sealed by a key that is not the first one seen of the device".into()))
        }
    });
    each.collect()
}

/// Why records may have no row, the better reason first.
fn causes(gaps: &[GapRow], signed: &Streams, known: &Known) -> Vec<(String, Streams)> {
    let mut by_cause: BTreeMap<(bool, String), Streams> = BTreeMap::new();
    for gap in gaps {
        let own = Stream { device: gap.stream.device.clone(), epoch: gap.epoch, class: Class::Gap.as_str().to_owned() };
        let is_signed = signed.get(&own).is_some_and(|signed| signed.contains(gap.seq));
        let cause = match is_signed {
            true => format!("gap inside: {}", gap.reason),
            false => format!("gap inside that no seal vouches for: {}", gap.reason),
        };
        let of_cause = by_cause.entry((!is_signed, cause)).or_default();
        of_cause.entry(gap.stream.clone()).or_default().cover(gap.first, gap.last);
    }
    let gone = known.gone.iter().map(|(word, gone)| ((*word).to_owned(), gone.clone()));
    gone.chain(by_cause.into_iter().map(|((_, cause), of)| (cause, of))).collect()
}

struct Causes<'a> {
    causes: Vec<(String, Streams)>,
    held: &'a Streams,
    /// A file could not be read: what it holds is not missed.
    unread: bool,
}

impl Causes<'_> {
    fn of_rows(&self, filled: &Filled, known: &Known) -> Standing {
        let broken = |what: String| Standing::Broken(what);
        if !filled.is_good() {
            return broken("range: no device makes one of so many records".into());
        }
        if filled.hash == Some(filled.range.hash) && filled.unlike.is_empty() {
            return Standing::Sealed;
        }
        let mut own = Ranges::default();
        own.cover(filled.range.first_seq, filled.range.last_seq);
        if known.corrected.get(&filled.stream).is_some_and(|corrected| !corrected.both(&own).is_empty()) {
            return Standing::Open("corrected".into());
        }
        if let Some((first, last)) = filled.unlike.span() {
            return broken(format!("rows: {first}..={last} have two rows that differ"));
        }
        if let Some((first, last)) = filled.unread.span() {
            return broken(format!("rows: {first}..={last} do not hold what a device records"));
        }
        let missing = filled.missing();
        if missing.is_empty() {
            return broken("hash: the rows are not what the device recorded".into());
        }
        match self.without_cause(&filled.stream, missing) {
            Missing::Told(cause) => Standing::Open(cause),
            Missing::Lost(lost) => {
                let (first, last) = lost.span().unwrap_or_default();
                broken(format!("rows: {first}..={last} were taken and are gone"))
            }
        }
    }

    /// Why these have no row.
    fn without_cause(&self, stream: &Stream, missing: Ranges) -> Missing {
        let (mut left, mut first) = (missing, None);
        for (cause, of) in &self.causes {
            let Some(of) = of.get(stream) else { continue };
            let rest = left.without(of);
            if rest != left {
                first = Some(cause.clone());
                left = rest;
            }
        }
        if let (true, Some(cause)) = (left.is_empty(), first) {
            return Missing::Told(cause);
        }
        let none = Ranges::default();
        let lost = left.both(self.held.get(stream).unwrap_or(&none));
        match (lost.is_empty(), self.unread) {
            (true, _) => Missing::Told("not all here yet".into()),
            (false, true) => Missing::Told("a data file can't be read".into()),
            (false, false) => Missing::Lost(lost),
        }
    }

    /// Where a seal names one before it that is not there.
    fn chain(&self, found: &[Found], of_seals: &[Option<Standing>]) -> Vec<(Stream, u64, &'static str)> {
        let mut there: HashMap<(&str, u64, u64), Vec<[u8; 16]>> = HashMap::new();
        for Found { device, at: SealBefore { epoch, seq, hash }, .. } in found {
            there.entry((device, epoch.0, *seq)).or_default().push(*hash);
        }
        let counts = |standing: &Option<Standing>| !matches!(standing, Some(Standing::Broken(_)));
        let seals = found.iter().zip(of_seals).filter(|(_, standing)| counts(standing));
        let mut broken = Vec::new();
        for (device, before) in seals.filter_map(|(found, _)| Some((&found.device, found.seal.before?))) {
            let SealBefore { epoch, seq, hash } = before;
            let class = Class::Report.as_str().to_owned();
            let stream = Stream { device: device.clone(), epoch: epoch.0, class };
            let what = match there.get(&(device.as_str(), epoch.0, seq)) {
                Some(hashes) if hashes.contains(&hash) => continue,
                Some(_) => "chain: the seal is not the one that the next names",
                None => {
                    let mut missing = Ranges::default();
                    missing.cover(seq, seq);
                    match self.without_cause(&stream, missing) {
                        Missing::Told(_) => continue,
                        Missing::Lost(_) => "chain: the seal that the next names is gone",
                    }
                }
            };
            broken.push((stream, seq, what));
        }
        broken
    }
}

enum Missing {
    /// All with a cause, or not known to be lost.
    Told(String),
    /// Taken once, and gone without a word.
    Lost(Ranges),
}
