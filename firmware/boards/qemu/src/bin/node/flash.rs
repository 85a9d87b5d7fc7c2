//! Flash in a file of the host, with a power that goes at a word of it; and the host's files that a person lays beside it.

use cortex_m_semihosting::{hprintln, syscall};
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use kilter_board_qemu::file::{File, Mode};
use kilter_node::Flash;

/// Flash in a file, with a copy in RAM to look at.
pub(crate) struct FileFlash {
    file: File,
    image: &'static mut [u8; FLASH_BYTES],
    /// Words until the power goes.
    cut: Option<u32>,
}

impl FileFlash {
    pub(crate) fn open() -> Option<Self> {
        static mut IMAGE: [u8; FLASH_BYTES] = [0xFF; FLASH_BYTES];
        // SAFETY: called once, before anything else could hold it.
        let image = unsafe { &mut *(&raw mut IMAGE) };
        image.fill(0xFF);
        if !exists(c"flash.bin") && !File::open(c"flash.bin", Mode::Create)?.write(&image[..]) {
            return None;
        }
        let mut file = File::open(c"flash.bin", Mode::ReadWrite)?;
        file.read(&mut image[..]);
        let mut cut = [0; 4];
        let cuts = File::open(c"cut.bin", Mode::Read).is_some_and(|mut file| file.read(&mut cut) == 4);
        Some(Self { file, image, cut: cuts.then(|| u32::from_le_bytes(cut)) })
    }

    fn put(&mut self, place: usize, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        self.image[place..place + bytes.len()].copy_from_slice(bytes);
        if self.file.seek(place) && self.file.write(bytes) { Ok(()) } else { Err(NorFlashErrorKind::Other) }
    }

    /// One word or page: is it the one at which the power goes?
    fn goes_dark(&mut self) -> bool {
        match &mut self.cut {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

impl ErrorType for FileFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for FileFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        let from = self.image.get(offset as usize..).and_then(|image| image.get(..bytes.len()));
        bytes.copy_from_slice(from.ok_or(NorFlashErrorKind::OutOfBounds)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_BYTES
    }
}

impl NorFlash for FileFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        for page in (from as usize..to as usize).step_by(Self::ERASE_SIZE) {
            let dark = self.goes_dark();
            let len = if dark { Self::ERASE_SIZE / 3 } else { Self::ERASE_SIZE };
            for part in (0..len).step_by(256) {
                self.put(page + part, &[0xFF; 256])?;
            }
            if dark {
                go_dark();
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        for (i, word) in bytes.chunks(Self::WRITE_SIZE).enumerate() {
            let place = offset as usize + i * Self::WRITE_SIZE;
            if self.goes_dark() {
                self.put(place, &word[..word.len() / 2])?;
                go_dark();
            }
            self.put(place, word)?;
        }
        Ok(())
    }
}

impl Flash for FileFlash {
    fn view(&self, offset: u32, len: usize) -> Option<&'static [u8]> {
        let bytes = self.image.get(offset as usize..)?.get(..len)?;
        // SAFETY: the image is a static; what a view shows is written only after the node has let go of it.
        Some(unsafe { core::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) })
    }
}

fn go_dark() -> ! {
    hprintln!("the power goes");
    kilter_board_qemu::exit(true)
}

pub(crate) fn exists(path: &core::ffi::CStr) -> bool {
    File::open(path, Mode::Read).is_some()
}

/// Removes a file; `true` when it was there.
pub(crate) fn remove(path: &core::ffi::CStr) -> bool {
    // SAFETY: the path lives through the call and its length is right.
    unsafe { syscall!(REMOVE, path.as_ptr(), path.count_bytes()) == 0 }
}

pub(crate) const FLASH_BYTES: usize = 64 * 1024;
