//! The fold as it is kept in a file: whose journal's, up to which offset, and the state, behind a checksum.
//!
//! The lab writes it with each commit; what was committed may leave the journal. So this file, and no longer the journal, knows which
//! records of the released segments were taken: lab and server go on from it when nothing newer is left.
//!
//! ```text
//! magic [u8;8] | journal id u64 LE | offset u64 LE | fold snapshot … | sha-256 of all before
//! ```

use kilter_types::{Digest, JournalId};

use crate::Fold;

/// A fold and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptFold {
    /// The journal that was folded.
    pub journal_id: JournalId,
    /// Everything below is in it.
    pub offset: u64,
    /// The state.
    pub fold: Fold,
}

impl KeptFold {
    /// The file's bytes; `snapshot` is what [`Fold::snapshot`] gave at `offset`.
    pub fn encode(journal_id: JournalId, offset: u64, snapshot: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(journal_id.0.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend(snapshot);
        let digest = Digest::of(&bytes);
        bytes.extend(digest.0);
        bytes
    }

    /// Reads the file back; `None` when a byte of it is not what was written, or another version wrote it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        let rest = body.strip_prefix(MAGIC).filter(|_| Digest::of(body).0 == *digest)?;
        let (id, rest) = rest.split_first_chunk()?;
        let (offset, snapshot) = rest.split_first_chunk()?;
        let fold = Fold::restore(snapshot).ok()?;
        Some(Self { journal_id: JournalId(u64::from_le_bytes(*id)), offset: u64::from_le_bytes(*offset), fold })
    }
}

const MAGIC: &[u8; 8] = b"KLABFLD1";

#[cfg(test)]
mod tests {
    use kilter_types::Micros;

    use super::*;
    use crate::Entry;

    #[test]
    fn what_is_kept_comes_back_whole_or_not_at_all() {
        let mut fold = Fold::new();
        fold.apply(0, Entry::Opened { journal_id: JournalId(9), at: Micros(5), marks: Vec::new() }, &mut drop);
        let bytes = KeptFold::encode(JournalId(9), 77, &fold.snapshot());
        assert_eq!(KeptFold::decode(&bytes), Some(KeptFold { journal_id: JournalId(9), offset: 77, fold }));
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert_eq!(KeptFold::decode(&broken), None, "a bit of byte {at} turned");
            assert_eq!(KeptFold::decode(&bytes[..at]), None, "cut at {at}");
        }
    }
}
