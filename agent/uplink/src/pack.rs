//! Packs a batch for an aggregator that says it can unpack it: columns, then zstd, and the smallest of all wins.

use std::fmt;

use kilter_wire::{Coding, columns};
use zstd::bulk::Compressor;

/// Room and tables that are used again for every batch.
pub(crate) struct Packer {
    words: Vec<u64>,
    columns: Vec<u8>,
    packed: Vec<u8>,
    zstd: Option<Compressor<'static>>,
}

impl Packer {
    pub(crate) fn new() -> Self {
        Self { words: Vec::new(), columns: Vec::new(), packed: Vec::new(), zstd: Compressor::new(LEVEL).ok() }
    }

    /// The records in fewer bytes; `None` when they don't get fewer.
    pub(crate) fn pack(&mut self, records: &[u8]) -> Option<(Coding, &[u8])> {
        let Self { words, columns, packed, zstd } = self;
        // A number takes a byte at least.
        words.resize(records.len().min(columns::MAX_WORDS), 0);
        columns.resize(records.len() + ROOM, 0);
        let len = columns::pack(records, words, columns).map(<[u8]>::len);
        let (coding, plain) = match len {
            Some(len) => (Coding::ColumnsZstd, &columns[..len]),
            None => (Coding::Zstd, records),
        };
        packed.resize(zstd::zstd_safe::compress_bound(plain.len()), 0);
        let compressed = zstd.as_mut().and_then(|zstd| zstd.compress_to_buffer(plain, packed).ok());
        let (coding, bytes) = match compressed {
            Some(len) if len < plain.len() => (coding, &packed[..len]),
            Some(_) | None => (Coding::Columns, &columns[..len?]),
        };
        (bytes.len() < records.len()).then_some((coding, bytes))
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").field("columns", &self.columns.len()).finish_non_exhaustive()
    }
}

/// Text and templates; numbers are coded already, and a higher level finds next to nothing in them.
const LEVEL: i32 = 3;
/// What columns may take beyond the records: their number, the shapes' and some lengths.
const ROOM: usize = 1024;
