//! A chip with embassy-boot's own bootloader: the node's pages, the bootloader's page, and both slots, which lose their power at once.

use std::cell::RefCell;
use std::rc::Rc;

use embassy_boot::{BootLoader, BootLoaderConfig};
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use kilter_node::{BootSlots, Flash};

use super::flash::{ALL_BYTES, ModelFlash, PAGE, Tear};

pub(crate) const ACTIVE_PAGES: u32 = 3;
const STATE_AT: u32 = ALL_BYTES as u32;
const ACTIVE_AT: u32 = STATE_AT + PAGE as u32;
const SECOND_AT: u32 = ACTIVE_AT + ACTIVE_PAGES * PAGE as u32;
const BOOT_PAGES: u32 = 1 + ACTIVE_PAGES + ACTIVE_PAGES + 1;
pub(crate) const BOARD: &str = "bench";
/// Not a whole number of pages, words or parts.
pub(crate) const IMAGE: usize = 701;

/// A part of the chip's flash.
#[derive(Clone)]
pub(crate) struct Part {
    flash: Rc<RefCell<ModelFlash>>,
    from: u32,
    len: u32,
}

impl ErrorType for Part {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Part {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.flash.borrow_mut().read(self.from + offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.len as usize
    }
}

impl NorFlash for Part {
    const WRITE_SIZE: usize = ModelFlash::WRITE_SIZE;
    const ERASE_SIZE: usize = ModelFlash::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.flash.borrow_mut().erase(self.from + from, self.from + to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.flash.borrow_mut().write(self.from + offset, bytes)
    }
}

impl Flash for Part {
    fn view(&self, offset: u32, len: usize) -> Option<&'static [u8]> {
        self.flash.borrow().view(self.from + offset, len)
    }
}

/// The whole chip.
#[derive(Clone)]
pub(crate) struct Chip(Rc<RefCell<ModelFlash>>);

impl Chip {
    /// One that was flashed with this image.
    pub(crate) fn new(image: &[u8]) -> Self {
        let mut flash = ModelFlash::with_boot(BOOT_PAGES);
        flash.program(ACTIVE_AT, image);
        Self(Rc::new(RefCell::new(flash)))
    }

    /// The same chip in another world, with its power back.
    pub(crate) fn again(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone().powered())))
    }

    /// The same in another world, where the power goes at this step.
    pub(crate) fn cut_at(&self, step: u64, tear: Tear) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone().powered().cut_at(step, tear))))
    }

    /// The power goes so many steps from now.
    pub(crate) fn cut_in(&self, steps: u64, tear: Tear) {
        let mut flash = self.0.borrow_mut();
        flash.cut = Some((flash.steps + steps, tear));
    }

    /// The power comes back; `false` when it was there.
    pub(crate) fn power(&self) -> bool {
        let flash = self.0.borrow().clone();
        let was_dead = flash.dead;
        *self.0.borrow_mut() = flash.powered();
        was_dead
    }

    /// Words written and pages erased since its power came.
    pub(crate) fn steps(&self) -> u64 {
        self.0.borrow().steps
    }

    /// The image that runs.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.0.borrow().bytes(ACTIVE_AT, IMAGE).to_vec()
    }

    /// The bootloader, and then what an image finds: the node's pages, and the bootloader's slots; `None` when the power went.
    pub(crate) fn boot(&self, restart: fn()) -> Option<(Part, BootSlots<Part, Part>)> {
        let (active, second) = (self.part(ACTIVE_AT, ACTIVE_PAGES), self.part(SECOND_AT, ACTIVE_PAGES + 1));
        let state = self.part(STATE_AT, 1);
        let config = BootLoaderConfig { active, dfu: second.clone(), state: state.clone() };
        BootLoader::new(config).prepare_boot(&mut [0; PAGE]).ok()?;
        let pages = self.part(0, (ALL_BYTES / PAGE) as u32);
        Some((pages, BootSlots::new(BOARD, second, state, restart)))
    }

    fn part(&self, from: u32, pages: u32) -> Part {
        Part { flash: Rc::clone(&self.0), from, len: pages * PAGE as u32 }
    }
}

/// An image that tells itself from every other one in each of its words.
pub(crate) fn image(seed: u8) -> Vec<u8> {
    (0..IMAGE).map(|i| (i as u8).wrapping_mul(7) ^ seed ^ (i / 251) as u8).collect()
}
