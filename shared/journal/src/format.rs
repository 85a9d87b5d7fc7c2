//! The byte layouts of the crate documentation, written and parsed in one place; parsing never panics and never trusts a length.

use std::path::{Path, PathBuf};

use crc32fast::Hasher;

use crate::ledger::{Dropped, Loss, Reason};
use crate::{FORMAT_VERSION, Key};

pub(crate) const SEGMENT_HEADER_BYTES: usize = 32;
pub(crate) const ENTRY_HEADER_BYTES: usize = 26;

/// No offset read from a disk is above, so that sums of offsets and sizes stay in range.
pub(crate) const MAX_OFFSET: u64 = 1 << 62;

pub(crate) const IDENTITY_FILE: &str = "identity";
pub(crate) const LEDGER_FILE: &str = "ledger";
pub(crate) const WATERMARK_FILE: &str = "durable";
pub(crate) const LOCK_FILE: &str = "lock";
pub(crate) const RESERVE_FILE: &str = "reserve";

const SEGMENT_MAGIC: [u8; 8] = *b"KilterSg";
const IDENTITY_MAGIC: [u8; 8] = *b"KilterId";
const WATERMARK_MAGIC: [u8; 8] = *b"KilterDu";
const LEDGER_MAGIC: [u8; 8] = *b"KilterLe";

const FLAGS_MARKER: u8 = 0xA0;
const FLAG_SKIP: u8 = 1;
const FLAG_URGENT: u8 = 2;

/// How a framed file reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framed<T> {
    Good(T),
    /// Magic and crc are right, the version is not ours.
    Newer(u32),
    Bad,
}

/// Fixed part of an entry, before its crc was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryHeader {
    pub(crate) length: u32,
    pub(crate) crc: u32,
    pub(crate) key: Key,
    pub(crate) skip: bool,
    pub(crate) urgent: bool,
}

/// Payload of a skip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub(crate) to: u64,
    pub(crate) reason: Reason,
    pub(crate) dropped: Vec<Dropped>,
}

/// Content of the ledger file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LedgerContent {
    pub(crate) journal_id: u64,
    pub(crate) released: u64,
    pub(crate) durable: u64,
    pub(crate) recorded: u64,
    pub(crate) losses: Vec<Loss>,
    pub(crate) last: Vec<(u64, u8, u64)>,
}

pub(crate) fn segment_name(base: u64) -> String {
    let name = digits(base);
    std::str::from_utf8(&name).expect("digits are text").to_owned()
}

/// Where the segment lies. Readers ask often: no formatting, and memory once.
pub(crate) fn segment_path(dir: &Path, base: u64) -> PathBuf {
    let name = digits(base);
    let mut path = PathBuf::with_capacity(dir.as_os_str().len() + 1 + name.len());
    path.push(dir);
    path.push(std::str::from_utf8(&name).expect("digits are text"));
    path
}

/// A segment's name: its base in twenty digits, so that names stand in the order of their bases.
fn digits(base: u64) -> [u8; 24] {
    let (mut name, mut rest) = (*b"00000000000000000000.seg", base);
    for digit in name[..20].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    name
}

/// The base a segment's name tells, `None` for any other file.
pub(crate) fn segment_base(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
        .filter(|base| *base <= MAX_OFFSET)
}

pub(crate) fn encode_segment_header(journal_id: u64, base: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut out = [0; SEGMENT_HEADER_BYTES];
    out.copy_from_slice(&frame(SEGMENT_MAGIC, &[journal_id, base]));
    out
}

/// Journal id and base.
pub(crate) fn parse_segment_header(bytes: &[u8]) -> Framed<(u64, u64)> {
    match unframe(SEGMENT_MAGIC, bytes.get(..SEGMENT_HEADER_BYTES).unwrap_or_default()) {
        Framed::Good(mut fields) => pair(&mut fields),
        Framed::Newer(version) => Framed::Newer(version),
        Framed::Bad => Framed::Bad,
    }
}

pub(crate) fn encode_watermark(journal_id: u64, upto: u64) -> Vec<u8> {
    frame(WATERMARK_MAGIC, &[journal_id, upto])
}

/// Journal id and the offset below which everything is durable.
pub(crate) fn parse_watermark(bytes: &[u8]) -> Framed<(u64, u64)> {
    match unframe(WATERMARK_MAGIC, bytes) {
        Framed::Good(mut fields) => pair(&mut fields),
        Framed::Newer(version) => Framed::Newer(version),
        Framed::Bad => Framed::Bad,
    }
}

pub(crate) fn encode_identity(journal_id: u64) -> Vec<u8> {
    frame(IDENTITY_MAGIC, &[journal_id])
}

pub(crate) fn parse_identity(bytes: &[u8]) -> Framed<u64> {
    match unframe(IDENTITY_MAGIC, bytes) {
        Framed::Good(mut fields) => fields.u64().map_or(Framed::Bad, Framed::Good),
        Framed::Newer(version) => Framed::Newer(version),
        Framed::Bad => Framed::Bad,
    }
}

/// Appends an entry to `out`.
pub(crate) fn encode_entry(out: &mut Vec<u8>, journal_id: u64, offset: u64, key: Key, urgent: bool, payload: &[u8]) {
    encode_flagged(out, journal_id, offset, key, if urgent { FLAG_URGENT } else { 0 }, payload);
}

/// Appends a skip to `out`; `number` names its losses.
pub(crate) fn encode_skip(out: &mut Vec<u8>, journal_id: u64, offset: u64, number: u64, skip: &Skip) {
    let mut payload = Vec::with_capacity(13 + skip.dropped.len() * 33);
    payload.extend_from_slice(&skip.to.to_le_bytes());
    payload.push(skip.reason.code());
    payload.extend_from_slice(&(skip.dropped.len() as u32).to_le_bytes());
    for dropped in &skip.dropped {
        encode_dropped(&mut payload, dropped);
    }
    encode_flagged(out, journal_id, offset, Key { class: 0, epoch: 0, seq: number }, FLAG_SKIP, &payload);
}

/// `None` when these bytes can't begin an entry.
pub(crate) fn parse_entry_header(bytes: &[u8]) -> Option<EntryHeader> {
    let mut fields = Fields(bytes.get(..ENTRY_HEADER_BYTES)?);
    let (length, crc, class, flags) = (fields.u32()?, fields.u32()?, fields.u8()?, fields.u8()?);
    let key = Key { class, epoch: fields.u64()?, seq: fields.u64()? };
    let known = flags & !(FLAG_SKIP | FLAG_URGENT) == FLAGS_MARKER;
    known.then_some(EntryHeader { length, crc, key, skip: flags & FLAG_SKIP != 0, urgent: flags & FLAG_URGENT != 0 })
}

/// Checksum of a whole encoded entry at its place.
pub(crate) fn entry_crc(journal_id: u64, offset: u64, entry: &[u8]) -> u32 {
    let mut place = [0; 20];
    place[..8].copy_from_slice(&journal_id.to_le_bytes());
    place[8..16].copy_from_slice(&offset.to_le_bytes());
    place[16..].copy_from_slice(entry.get(..4).unwrap_or(&[0; 4]));
    let mut hasher = Hasher::new();
    hasher.update(&place);
    hasher.update(entry.get(8..).unwrap_or_default());
    hasher.finalize()
}

pub(crate) fn parse_skip(payload: &[u8]) -> Option<Skip> {
    let mut fields = Fields(payload);
    let to = fields.u64().filter(|to| *to <= MAX_OFFSET)?;
    let reason = Reason::from_code(fields.u8()?)?;
    let dropped = fields.list(33, |fields| decode_dropped(fields, reason))?;
    Some(Skip { to, reason, dropped })
}

pub(crate) fn encode_ledger(content: &LedgerContent) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + content.losses.len() * 42 + content.last.len() * 17);
    out.extend_from_slice(&LEDGER_MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    for field in [content.journal_id, content.released, content.durable, content.recorded] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&(content.losses.len() as u32).to_le_bytes());
    for loss in &content.losses {
        out.extend_from_slice(&loss.number.to_le_bytes());
        out.push(loss.dropped.reason.code());
        encode_dropped(&mut out, &loss.dropped);
    }
    out.extend_from_slice(&(content.last.len() as u32).to_le_bytes());
    for (epoch, class, seq) in &content.last {
        out.extend_from_slice(&epoch.to_le_bytes());
        out.push(*class);
        out.extend_from_slice(&seq.to_le_bytes());
    }
    seal(out)
}

pub(crate) fn parse_ledger(bytes: &[u8]) -> Framed<LedgerContent> {
    match unframe(LEDGER_MAGIC, bytes) {
        Framed::Good(mut fields) => parse_ledger_fields(&mut fields).map_or(Framed::Bad, Framed::Good),
        Framed::Newer(version) => Framed::Newer(version),
        Framed::Bad => Framed::Bad,
    }
}

fn parse_ledger_fields(fields: &mut Fields<'_>) -> Option<LedgerContent> {
    Some(LedgerContent {
        journal_id: fields.u64()?,
        released: fields.u64().filter(|offset| *offset <= MAX_OFFSET)?,
        durable: fields.u64().filter(|offset| *offset <= MAX_OFFSET)?,
        recorded: fields.u64()?,
        losses: fields.list(42, |fields| {
            let number = fields.u64()?;
            let reason = Reason::from_code(fields.u8()?)?;
            Some(Loss { number, dropped: decode_dropped(fields, reason)? })
        })?,
        last: fields.list(17, |fields| Some((fields.u64()?, fields.u8()?, fields.u64()?)))?,
    })
}

fn encode_flagged(out: &mut Vec<u8>, journal_id: u64, offset: u64, key: Key, flags: u8, payload: &[u8]) {
    let start = out.len();
    out.reserve(ENTRY_HEADER_BYTES + payload.len());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.push(key.class);
    out.push(FLAGS_MARKER | flags);
    out.extend_from_slice(&key.epoch.to_le_bytes());
    out.extend_from_slice(&key.seq.to_le_bytes());
    out.extend_from_slice(payload);
    let crc = entry_crc(journal_id, offset, &out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn encode_dropped(out: &mut Vec<u8>, dropped: &Dropped) {
    out.push(dropped.class);
    for field in [dropped.epoch, dropped.first_seq, dropped.last_seq, dropped.count] {
        out.extend_from_slice(&field.to_le_bytes());
    }
}

fn decode_dropped(fields: &mut Fields<'_>, reason: Reason) -> Option<Dropped> {
    let class = fields.u8()?;
    let (epoch, first_seq, last_seq, count) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
    Some(Dropped { class, epoch, first_seq, last_seq, count, reason })
}

fn frame(magic: [u8; 8], fields: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + fields.len() * 8);
    out.extend_from_slice(&magic);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    for field in fields {
        out.extend_from_slice(&field.to_le_bytes());
    }
    seal(out)
}

fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn unframe(magic: [u8; 8], bytes: &[u8]) -> Framed<Fields<'_>> {
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return Framed::Bad };
    let Some((version, fields)) = body.strip_prefix(&magic).and_then(|rest| rest.split_first_chunk::<4>()) else {
        return Framed::Bad;
    };
    let version = u32::from_le_bytes(*version);
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) || version == 0 {
        return Framed::Bad;
    }
    if version > FORMAT_VERSION { Framed::Newer(version) } else { Framed::Good(Fields(fields)) }
}

fn pair(fields: &mut Fields<'_>) -> Framed<(u64, u64)> {
    match (fields.u64(), fields.u64()) {
        (Some(first), Some(second)) if second <= MAX_OFFSET => Framed::Good((first, second)),
        _ => Framed::Bad,
    }
}

/// Little-endian fields, taken from the front.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// A counted list whose items take `item_bytes` each, so a wild count is refused before memory is taken.
    fn list<T>(&mut self, item_bytes: usize, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()? as usize;
        if count.checked_mul(item_bytes)? > self.0.len() {
            return None;
        }
        (0..count).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_reads_back_and_any_flipped_bit_is_refused() {
        let dropped = Dropped { class: 3, epoch: 9, first_seq: 1, last_seq: 4, count: 4, reason: Reason::Evicted };
        let content = LedgerContent {
            journal_id: 7,
            released: 100,
            durable: 200,
            recorded: 1,
            losses: vec![Loss { number: 2, dropped }],
            last: vec![(9, 3, 4)],
        };
        let mut bytes = encode_ledger(&content);
        assert_eq!(parse_ledger(&bytes), Framed::Good(content));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_ledger(&bytes), Framed::Bad, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_segments_name_is_its_base_in_twenty_digits_and_reads_back() {
        for base in [0, 9, 10, 4_096, MAX_OFFSET] {
            assert_eq!(segment_name(base), format!("{base:020}.seg"));
            assert_eq!(segment_base(&segment_name(base)), Some(base));
            assert_eq!(segment_path(Path::new("/a/b"), base), Path::new("/a/b").join(segment_name(base)));
        }
        assert_eq!(segment_name(u64::MAX), format!("{}.seg", u64::MAX));
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        let mut bytes = encode_identity(7);
        bytes.truncate(bytes.len() - 4);
        bytes[8] = 2;
        assert_eq!(parse_identity(&seal(bytes)), Framed::Newer(2));
    }
}
