//! Whole states in two flash pages, cell after cell: a torn write is as good as none.
//!
//! Cells follow one another within a page; the valid one with the highest sequence holds, and each ends with a CRC-32 over the rest
//! of it. A page is erased only while the other one holds the newest state, so a power cut at any write or erase leaves the state
//! before or the state after.

use embedded_storage::nor_flash::NorFlash;

/// Something that fits into a cell of `N` bytes, a multiple of every flash's word.
pub(crate) trait Cell<const N: usize>: Sized {
    /// Fills a cell of zeros; its last four bytes are the checksum's.
    fn write(&self, sequence: u32, cell: &mut [u8; N]);
    /// What a cell with a good checksum says, and its sequence.
    fn read(cell: &[u8; N]) -> Option<(Self, u32)>;
}

/// Where the cells lie; the flash is passed to each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cells<const N: usize> {
    at: u32,
    page_bytes: u32,
    sequence: u32,
    /// Page of the newest state, and the first cell in it that was never written.
    page: u32,
    next: u32,
}

impl<const N: usize> Cells<N> {
    /// Reads both pages from `at` on; what the newest cell says.
    pub(crate) fn open<T: Cell<N>, F: NorFlash>(flash: &mut F, at: u32) -> Result<(Self, Option<T>), F::Error> {
        let page_bytes = page_bytes::<F>();
        let mut cells = Self { at, page_bytes, sequence: 0, page: 0, next: page_bytes };
        let mut newest = None;
        for page in 0..PAGES {
            for offset in cells.offsets() {
                let cell = cells.cell(page, offset, flash)?;
                if let Some((state, sequence)) = decode::<T, N>(&cell)
                    && (newest.is_none() || sequence > cells.sequence)
                {
                    (cells.sequence, cells.page) = (sequence, page);
                    newest = Some(state);
                }
            }
        }
        if newest.is_some() {
            cells.next = cells.free(flash)?;
        }
        Ok((cells, newest))
    }

    /// Makes another state the newest.
    pub(crate) fn write<T: Cell<N>, F: NorFlash>(&mut self, state: &T, flash: &mut F) -> Result<(), F::Error> {
        if self.next + N as u32 > self.page_bytes {
            // Until the first cell is whole, the newest state lies in the page before.
            let page = (self.page + 1) % PAGES;
            let from = self.at + page * self.page_bytes;
            flash.erase(from, from + self.page_bytes)?;
            (self.page, self.next) = (page, 0);
        }
        let place = self.at + self.page * self.page_bytes + self.next;
        // Whatever comes of the write, this cell is used.
        self.next += N as u32;
        let mut cell = [0; N];
        state.write(self.sequence + 1, &mut cell);
        let (body, crc) = cell.split_at_mut(N - CRC);
        crc.copy_from_slice(&kilter_wire::crc::crc32(body).to_le_bytes());
        flash.write(place, &cell)?;
        self.sequence += 1;
        Ok(())
    }

    fn offsets(&self) -> impl DoubleEndedIterator<Item = u32> + use<N> {
        (0..self.page_bytes / N as u32).map(|i| i * N as u32)
    }

    fn cell<F: NorFlash>(&self, page: u32, offset: u32, flash: &mut F) -> Result<[u8; N], F::Error> {
        let mut cell = [0; N];
        flash.read(self.at + page * self.page_bytes + offset, &mut cell)?;
        Ok(cell)
    }

    /// The first cell behind the last one that was written, whole or torn.
    fn free<F: NorFlash>(&self, flash: &mut F) -> Result<u32, F::Error> {
        for offset in self.offsets().rev() {
            if self.cell(self.page, offset, flash)?.iter().any(|byte| *byte != ERASED) {
                return Ok(offset + N as u32);
            }
        }
        Ok(0)
    }
}

/// Bytes that both pages take.
pub(crate) const fn pages_bytes<F: NorFlash>() -> u32 {
    PAGES * page_bytes::<F>()
}

const fn page_bytes<F: NorFlash>() -> u32 {
    F::ERASE_SIZE as u32
}

fn decode<T: Cell<N>, const N: usize>(cell: &[u8; N]) -> Option<(T, u32)> {
    let (body, crc) = cell.split_last_chunk::<CRC>()?;
    if kilter_wire::crc::crc32(body) == u32::from_le_bytes(*crc) { T::read(cell) } else { None }
}

const PAGES: u32 = 2;
const CRC: usize = 4;
pub(crate) const ERASED: u8 = 0xFF;
