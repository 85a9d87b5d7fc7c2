//! A flash whose power can be cut at any word, torn ones included, and that refuses what a real one forbids.

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use kilter_node::Flash;

/// Two pages of log and two slots of eight pages; behind them two pages for faults.
pub(crate) const BYTES: u32 = (2 + 16) * PAGE as u32;
pub(crate) const ALL_BYTES: usize = BYTES as usize + 2 * PAGE;
pub(crate) const PAGE: usize = 256;
const WORD: usize = 4;

/// What is left of the word or page at which the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tear {
    /// Nothing has happened to it.
    Before,
    /// Some of its bits have changed.
    Some,
    /// Other bits have changed.
    Others,
    /// All of it is done, and then the power went.
    After,
}

impl Tear {
    pub(crate) const ALL: [Self; 4] = [Self::Before, Self::Some, Self::Others, Self::After];
}

#[derive(Clone)]
pub(crate) struct ModelFlash {
    bytes: Vec<u8>,
    /// Words written and pages erased so far.
    pub(crate) steps: u64,
    /// Pages erased since it was new.
    pub(crate) erased: u64,
    /// The power goes at this step.
    pub(crate) cut: Option<(u64, Tear)>,
    pub(crate) dead: bool,
    /// Words may be written again, as a bootloader does with what a cut left of them: bits only ever fall.
    pub(crate) again: bool,
}

impl ModelFlash {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0xFF; ALL_BYTES], steps: 0, erased: 0, cut: None, dead: false, again: false }
    }

    /// One with room for a bootloader behind the node's pages.
    pub(crate) fn with_boot(pages: u32) -> Self {
        let mut flash = Self::new();
        flash.bytes.resize(ALL_BYTES + pages as usize * PAGE, 0xFF);
        flash.again = true;
        flash
    }

    /// The bytes of some pages.
    pub(crate) fn bytes(&self, from: u32, len: usize) -> &[u8] {
        &self.bytes[from as usize..][..len]
    }

    /// Puts bytes there as a programmer does.
    pub(crate) fn program(&mut self, from: u32, bytes: &[u8]) {
        self.bytes[from as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    /// The power comes back.
    pub(crate) fn powered(mut self) -> Self {
        (self.steps, self.cut, self.dead) = (0, None, false);
        self
    }

    pub(crate) fn cut_at(mut self, step: u64, tear: Tear) -> Self {
        self.cut = Some((step, tear));
        self
    }

    /// What becomes of this step: all of it, or a part and then darkness.
    fn step(&mut self) -> Result<Option<Tear>, NorFlashErrorKind> {
        if self.dead {
            return Err(NorFlashErrorKind::Other);
        }
        let step = self.steps;
        self.steps += 1;
        match self.cut {
            Some((at, tear)) if at == step => {
                self.dead = true;
                Ok(Some(tear))
            }
            Some(_) | None => Ok(None),
        }
    }
}

impl ErrorType for ModelFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for ModelFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        if self.dead {
            return Err(NorFlashErrorKind::Other);
        }
        bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for ModelFlash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        assert!(from.is_multiple_of(PAGE as u32) && to.is_multiple_of(PAGE as u32), "whole pages are erased");
        for page in (from as usize..to as usize).step_by(PAGE) {
            let tear = self.step()?;
            self.erased += 1;
            let bytes = &mut self.bytes[page..page + PAGE];
            match tear {
                None | Some(Tear::After) => bytes.fill(0xFF),
                Some(Tear::Before) => {}
                // Bits come back in no order.
                Some(Tear::Some) => bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte |= 0x5A >> (i % 3)),
                Some(Tear::Others) => bytes[PAGE / 3..].fill(0xFF),
            }
            if self.dead {
                return Err(NorFlashErrorKind::Other);
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        assert!(offset.is_multiple_of(WORD as u32) && bytes.len().is_multiple_of(WORD), "whole words are written");
        for (i, word) in bytes.chunks_exact(WORD).enumerate() {
            let place = offset as usize + i * WORD;
            let fresh = self.bytes[place..place + WORD].iter().all(|b| *b == 0xFF);
            assert!(self.again || fresh, "the word at {place} is written twice");
            let tear = self.step()?;
            for (j, (cell, byte)) in self.bytes[place..place + WORD].iter_mut().zip(word).enumerate() {
                *cell &= match tear {
                    None | Some(Tear::After) => *byte,
                    Some(Tear::Before) => 0xFF,
                    Some(Tear::Some) => *byte | 0b1010_0110,
                    Some(Tear::Others) => {
                        if j < 2 {
                            *byte
                        } else {
                            0xFF
                        }
                    }
                };
            }
            if self.dead {
                return Err(NorFlashErrorKind::Other);
            }
        }
        Ok(())
    }
}

impl Flash for ModelFlash {
    fn view(&self, offset: u32, len: usize) -> Option<&'static [u8]> {
        // A copy for ever: a test may forget it, and nothing can change under it.
        let bytes = self.bytes.get(offset as usize..)?.get(..len)?;
        if self.dead { None } else { Some(bytes.to_vec().leak()) }
    }
}
