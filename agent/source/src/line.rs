//! Frames out of a serial stream: COBS between zero bytes. Whatever garbage comes, the next zero brings it in step again.

use kilter_wire::cobs;

/// Collects bytes until a frame is whole.
#[derive(Debug, Default)]
pub struct Deframer {
    bytes: Vec<u8>,
    /// More came than a frame may have: drop everything up to the next zero.
    overflow: bool,
    garbled: u64,
}

impl Deframer {
    /// Takes what came and hands out each frame that is whole, still to be checked by its CRC.
    pub fn feed(&mut self, bytes: &[u8], mut frame: impl FnMut(&[u8]) -> bool) {
        let mut rest = bytes;
        while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
            self.collect(&rest[..zero]);
            rest = &rest[zero + 1..];
            let whole = !std::mem::take(&mut self.overflow);
            let empty = self.bytes.is_empty();
            let good = whole && cobs::decode(&mut self.bytes).is_some_and(&mut frame);
            if !(good || whole && empty) {
                self.garbled += 1;
            }
            self.bytes.clear();
        }
        self.collect(rest);
    }

    /// Stretches between two zeros that were no frame.
    pub fn garbled(&self) -> u64 {
        self.garbled
    }

    fn collect(&mut self, bytes: &[u8]) {
        if self.overflow || self.bytes.len() + bytes.len() > MOST_BYTES {
            self.overflow = true;
            self.bytes.clear();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

/// The longest frame of a node is a record's.
const MOST_BYTES: usize = 8 * 1024;
