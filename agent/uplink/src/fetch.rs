//! Artifact download: in parts, resumed at the byte reached, nothing believed before the digest fits.

use kilter_types::{Digest, Monotonic};
use kilter_wire::{Chunk, Fetch};

/// One artifact on its way. The caller keeps the bytes (in a file, so that a restart goes on where it was cut).
#[derive(Clone, Debug)]
pub struct Fetcher {
    digest: Digest,
    size_bytes: u32,
    have_bytes: u32,
    part_bytes: u32,
    asked: Option<Monotonic>,
    timeout_us: u64,
}

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Another artifact's, or not the part that was asked for.
    Ignored,
    /// To be appended; more is missing.
    Part(&'a [u8]),
    /// To be appended; it is the last. The caller checks the digest of the whole.
    Last(&'a [u8]),
    /// The aggregator does not have it, or has another size than was signed.
    Unavailable,
}

impl Fetcher {
    /// Fetches `digest` of `size_bytes` from `have_bytes` on, in parts of `part_bytes`.
    pub fn new(digest: Digest, size_bytes: u32, have_bytes: u32, part_bytes: u32) -> Self {
        let have_bytes = have_bytes.min(size_bytes);
        Self { digest, size_bytes, have_bytes, part_bytes: part_bytes.max(1), asked: None, timeout_us: 5_000_000 }
    }

    /// What to ask for now: the next part, once per timeout.
    pub fn poll(&mut self, now: Monotonic) -> Option<Fetch> {
        let waiting = self.asked.is_some_and(|asked| now.0 < asked.0.saturating_add(self.timeout_us));
        if waiting || self.is_complete() {
            return None;
        }
        self.asked = Some(now);
        let len = self.part_bytes.min(self.size_bytes - self.have_bytes);
        Some(Fetch { digest: self.digest, offset: self.have_bytes, len })
    }

    /// Takes a part. A part that begins before the byte reached is cut to what is new.
    pub fn handle_chunk<'a>(&mut self, chunk: &Chunk<'a>) -> Progress<'a> {
        if chunk.digest != self.digest {
            return Progress::Ignored;
        }
        if chunk.total != self.size_bytes {
            return Progress::Unavailable;
        }
        let known = self.have_bytes.checked_sub(chunk.offset).and_then(|known| usize::try_from(known).ok());
        let fresh = known.and_then(|known| chunk.bytes.get(known..)).unwrap_or_default();
        let fresh = &fresh[..fresh.len().min((self.size_bytes - self.have_bytes) as usize)];
        if fresh.is_empty() {
            return Progress::Ignored;
        }
        self.have_bytes += fresh.len() as u32;
        self.asked = None;
        if self.is_complete() { Progress::Last(fresh) } else { Progress::Part(fresh) }
    }

    /// The link is new: whatever was asked for will not come.
    pub fn handle_connected(&mut self) {
        self.asked = None;
    }

    /// Which artifact.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The byte reached.
    pub fn have_bytes(&self) -> u32 {
        self.have_bytes
    }

    /// Is every byte here?
    pub fn is_complete(&self) -> bool {
        self.have_bytes == self.size_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_download_goes_on_at_the_byte_reached_and_repeats_are_ignored() {
        let bytes: Vec<u8> = (0..100).collect();
        let digest = Digest::of(&bytes);
        let mut got = Vec::new();
        let mut fetcher = Fetcher::new(digest, 100, 0, 40);
        let mut now = 0;
        for round in 0..20 {
            now += 6_000_000;
            let Some(fetch) = fetcher.poll(Monotonic(now)) else { break };
            assert_eq!(fetch.offset as usize, got.len());
            let end = (fetch.offset + fetch.len).min(100) as usize;
            let part = Chunk { digest, offset: fetch.offset, total: 100, bytes: &bytes[fetch.offset as usize..end] };
            if round % 3 == 1 {
                // The node restarts with what its file holds.
                fetcher = Fetcher::new(digest, 100, got.len() as u32, 40);
                continue;
            }
            for _ in 0..2 {
                match fetcher.handle_chunk(&part) {
                    Progress::Part(fresh) | Progress::Last(fresh) => got.extend_from_slice(fresh),
                    Progress::Ignored => {}
                    Progress::Unavailable => panic!("it is there"),
                }
            }
        }
        assert!(fetcher.is_complete());
        assert_eq!(got, bytes);
    }

    #[test]
    fn another_size_than_signed_is_not_taken() {
        let mut fetcher = Fetcher::new(Digest::NONE, 100, 0, 40);
        let chunk = Chunk { digest: Digest::NONE, offset: 0, total: 0, bytes: &[] };
        assert_eq!(fetcher.handle_chunk(&chunk), Progress::Unavailable);
        assert_eq!(fetcher.handle_chunk(&Chunk { total: 101, bytes: &[1], ..chunk }), Progress::Unavailable);
        assert_eq!(fetcher.have_bytes(), 0);
    }
}
