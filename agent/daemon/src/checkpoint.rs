//! A machine's checkpoint: the positions reached and the monitor's snapshot, in one file that is whole or not there.
//!
//! ```text
//! "KLCP" | version u32 LE | n u32 LE | n × (name length u8, name, position u64 LE)
//!        | length u32 LE | open alarms (postcard; since version 2) | snapshot | crc32 LE of all before| version u32 LE | n u32 LE | n × (name length u8, name, position u64 LE) | snapshot | crc32 LE of all before
//! ```

use std::io;
use std::path::{Path, PathBuf};

use kilter_types::Name;

use crate::file;
use crate::standing::Standing;

/// Where a machine goes on after a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Checkpoint {
    /// Per channel: the first position that is not in the snapshot.
    pub(crate) positions: Vec<(Name, u64)>,
    /// The alarms that were open then.
    pub(crate) open: Standing,
    pub(crate) snapshot: Vec<u8>,
}

impl Checkpoint {
    pub(crate) fn path(data: &Path, asset: &Name) -> PathBuf {
        data.join("checkpoint").join(asset.as_str())
    }

    /// The checkpoint in a file; `None` when there is none or it can't be read.
    pub(crate) fn load(path: &Path) -> io::Result<Option<Self>> {
        Ok(file::read(path)?.and_then(|bytes| Self::decode(&bytes)))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let names = self.positions.len() * POSITION_BYTES;
        let mut out = Vec::with_capacity(HEAD_BYTES + names + OPEN_BYTES + self.snapshot.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.positions.len() as u32).to_le_bytes());
        for (name, position) in &self.positions {
            out.push(name.as_str().len() as u8);
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(&position.to_le_bytes());
        }
        let open = postcard::to_extend(&self.open, Vec::new()).unwrap_or_default();
        out.extend_from_slice(&(open.len() as u32).to_le_bytes());
        out.extend_from_slice(&open);
        out.extend_from_slice(&self.snapshot);
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body).to_le_bytes() != *crc {
            return None;
        }
        let (version, rest) = body.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
        let version = u32::from_le_bytes(*version);
        if !(1..=VERSION).contains(&version) {
            return None;
        }
        let (count, mut rest) = rest.split_first_chunk::<4>()?;
        let mut positions = Vec::new();
        for _ in 0..u32::from_le_bytes(*count) {
            let (len, tail) = rest.split_first()?;
            let (name, tail) = tail.split_at_checked(usize::from(*len))?;
            let (position, tail) = tail.split_first_chunk::<8>()?;
            positions.push((Name::new(std::str::from_utf8(name).ok()?).ok()?, u64::from_le_bytes(*position)));
            rest = tail;
        }
        let mut open = Standing::default();
        if version > 1 {
            let (len, tail) = rest.split_first_chunk::<4>()?;
            let (bytes, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            open = postcard::from_bytes(bytes).ok()?;
            rest = tail;
        }
        Some(Self { positions, open, snapshot: rest.to_vec() })
    }

    /// The position of a channel, 0 for one that the checkpoint does not know.
    pub(crate) fn position(&self, channel: &Name) -> u64 {
        self.positions.iter().find(|(name, _)| name == channel).map_or(0, |(_, position)| *position)
    }
}

const MAGIC: &[u8] = b"KLCP";
const VERSION: u32 = 2;
/// What a file usually takes, so that it is made in one piece: around everything, for a position, for a few open alarms.
const HEAD_BYTES: usize = 20;
const POSITION_BYTES: usize = 1 + 32 + 8;
const OPEN_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_survives_its_file_and_no_damaged_one_is_taken() {
        let name = Name::new("de-x").expect("a good name");
        let checkpoint =
            Checkpoint { positions: vec![(name.clone(), 81_920)], open: Standing::default(), snapshot: vec![1, 2, 3] };
        let mut bytes = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&bytes), Some(checkpoint.clone()));
        assert_eq!(checkpoint.position(&name), 81_920);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Checkpoint::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..bytes.len() {
            assert_eq!(Checkpoint::decode(&bytes[..len]), None, "cut to {len}");
        }
    }

    #[test]
    fn a_checkpoint_of_version_1_goes_on_without_open_alarms() {
        let mut old = MAGIC.to_vec();
        old.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 9, 8, 7]);
        old.extend_from_slice(&crc32fast::hash(&old).to_le_bytes());
        let expected = Checkpoint { positions: Vec::new(), open: Standing::default(), snapshot: vec![9, 8, 7] };
        assert_eq!(Checkpoint::decode(&old), Some(expected));
    }
}
