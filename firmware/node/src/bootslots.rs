//! The slots of embassy-boot's bootloader as [`Images`]: it swaps them page by page and brings the image before back unless it is told to keep
//! the new one.
//!
//! The second slot is one page larger than the first, as the swap needs it. Its pages are erased as an image reaches them: all at once would
//! take longer than a watchdog waits.

use embassy_boot::{BlockingFirmwareState, State};
use embedded_storage::nor_flash::NorFlash;

use crate::{Booted, Images, slots::PART};

/// The second slot and the bootloader's own page.
#[derive(Debug)]
pub struct BootSlots<D, S> {
    board: &'static str,
    second: D,
    state: S,
    restart: fn(),
}

impl<D: NorFlash, S: NorFlash> BootSlots<D, S> {
    /// `restart` starts the chip again.
    pub fn new(board: &'static str, second: D, state: S, restart: fn()) -> Self {
        const { assert!(S::WRITE_SIZE <= WORD && D::ERASE_SIZE.is_multiple_of(PART) && PART.is_multiple_of(D::WRITE_SIZE)) };
        Self { board, second, state, restart }
    }

    /// Asks or tells the bootloader.
    fn state<T, E>(&mut self, f: impl FnOnce(&mut BlockingFirmwareState<'_, &mut S>) -> Result<T, E>) -> Result<T, ()> {
        let mut word = [0; WORD];
        f(&mut BlockingFirmwareState::new(&mut self.state, &mut word[..S::WRITE_SIZE])).map_err(drop)
    }
}

impl<D: NorFlash, S: NorFlash> Images for BootSlots<D, S> {
    type Error = ();

    fn board(&self) -> &str {
        self.board
    }

    fn capacity_bytes(&self) -> u32 {
        self.second.capacity().saturating_sub(D::ERASE_SIZE) as u32
    }

    fn write(&mut self, offset: u32, bytes: &[u8; PART]) -> Result<(), ()> {
        if offset.is_multiple_of(D::ERASE_SIZE as u32) {
            self.second.erase(offset, offset + D::ERASE_SIZE as u32).map_err(drop)?;
        }
        self.second.write(offset, bytes).map_err(drop)
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8; PART]) -> Result<(), ()> {
        self.second.read(offset, bytes).map_err(drop)
    }

    fn booted(&mut self) -> Result<Booted, ()> {
        self.state(|state| state.get_state()).map(|state| match state {
            State::Swap => Booted::Trial,
            State::Revert => Booted::Reverted,
            State::Boot | State::DfuDetach => Booted::Kept,
        })
    }

    fn swap(&mut self) -> Result<(), ()> {
        self.state(|state| state.mark_updated())
    }

    fn keep(&mut self) -> Result<(), ()> {
        self.state(|state| state.mark_booted())
    }

    fn restart(&mut self) {
        (self.restart)();
    }
}

/// The longest word of a flash that the bootloader's page may have.
const WORD: usize = 16;
