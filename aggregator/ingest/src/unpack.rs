//! Packed batches become the records that they were, never more than they say and never more than a frame could hold.

use std::fmt;

use kilter_wire::{Coding, MAX_FRAME_BYTES, Packed, columns};
use zstd::bulk::Decompressor;

/// Room that is used again for every batch.
pub(crate) struct Unpacker {
    words: Vec<u64>,
    columns: Vec<u8>,
    zstd: Option<Decompressor<'static>>,
}

impl Unpacker {
    pub(crate) fn new() -> Self {
        Self { words: Vec::new(), columns: Vec::new(), zstd: Decompressor::new().ok() }
    }

    /// The records, or what is wrong with them.
    pub(crate) fn unpack(&mut self, packed: &Packed<'_>) -> Result<Vec<u8>, &'static str> {
        let plain_bytes = usize::try_from(packed.plain_bytes).unwrap_or(usize::MAX);
        if plain_bytes > MAX_FRAME_BYTES {
            return Err("packed_too_long");
        }
        let mut records = vec![0; plain_bytes];
        let Self { words, columns, zstd } = self;
        if words.is_empty() {
            // Fresh memory comes zeroed, and most of it is never touched.
            (*words, *columns) = (vec![0; columns::MAX_WORDS], vec![0; MAX_FRAME_BYTES]);
        }
        let mut expand = |room: &mut [u8]| {
            let zstd = zstd.as_mut().ok_or("packed_zstd")?;
            zstd.decompress_to_buffer(packed.bytes, room).map_err(|_| "packed_zstd")
        };
        let len = match packed.coding {
            Coding::Zstd => expand(&mut records)?,
            Coding::Columns => {
                columns::unpack(packed.bytes, words, &mut records).map_err(|error| error.as_str())?.len()
            }
            Coding::ColumnsZstd => {
                let len = expand(columns)?;
                columns::unpack(&columns[..len], words, &mut records).map_err(|error| error.as_str())?.len()
            }
        };
        if len == plain_bytes { Ok(records) } else { Err("packed_length") }
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}
