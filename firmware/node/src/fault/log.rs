//! Faults over a loss of power: counters and the last panic as cells in two flash pages of their own.
//!
//! ```text
//!  0..2   2    3..8   8..12      12..108                          108..112
//! ┌──────┬────┬──────┬──────────┬────────────────────────────────┬──────────┐
//! │ "KF" │ 1  │ 0    │ sequence │ postcard of Faults, then zeros │ crc32, LE│
//! └──────┴────┴──────┴──────────┴────────────────────────────────┴──────────┘
//! ```
//! A cell is a whole account, so the newest one is enough ([`crate::cells`]); the ones before it stay until their page is needed.
//!
//! **Wear.** A node that fails at every start must not wear its flash out. An account is written at once when it has grown by one of
//! the first [`FEW`] starts and faults, later when it has grown by a sixteenth, and otherwise when the node has run for
//! [`PAUSE_US`] since its start or the last cell. All growth of all four counters together is less than 350 cells, whatever happens;
//! the rest is at most one cell in ten minutes. So a loss of power can cost what came in the last ten minutes, and of that at
//! most a sixteenth of the count; a node that is reset without it loses nothing.

use embedded_storage::nor_flash::NorFlash;
use kilter_types::Monotonic;

use super::{Faults, KEPT_BYTES, Reset};
use crate::cells::{Cell, Cells, pages_bytes};

/// The account of this node's faults: in memory that survives a reset, and in flash.
#[derive(Clone, Debug)]
pub struct FaultLog {
    cells: Cells<CELL>,
    faults: Faults,
    /// What the newest cell says.
    held: Faults,
    written_at: Monotonic,
    /// The flash refused the last cell: tried again only after a while.
    refused: bool,
}

impl FaultLog {
    /// Takes up the fuller account of the two, counts this start and keeps it in memory. The cells lie in two pages of `flash` from `at`
    /// on.
    pub fn start<F: NorFlash>(
        flash: &mut F,
        at: u32,
        kept: &mut [u8; KEPT_BYTES],
        reset: Reset,
    ) -> Result<Self, F::Error> {
        let (cells, newest) = Cells::open(flash, at)?;
        let held: Faults = newest.unwrap_or_default();
        let faults = Faults::start(kept, reset, &held);
        Ok(Self { cells, faults, held, written_at: Monotonic(0), refused: false })
    }

    /// The account as it is now.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Bytes of flash that the cells take.
    pub const fn bytes<F: NorFlash>() -> u32 {
        pages_bytes::<F>()
    }

    /// Writes a cell if one is due.
    pub fn keep<F: NorFlash>(&mut self, now: Monotonic, flash: &mut F) {
        if self.held == self.faults {
            return;
        }
        let held = self.held.events();
        let grown = !self.refused && self.faults.events() > held + held / FEW;
        let rested = now.0.saturating_sub(self.written_at.0) >= PAUSE_US;
        if grown || rested {
            self.written_at = now;
            self.refused = self.cells.write(&self.faults, flash).is_err();
            if !self.refused {
                self.held = self.faults.clone();
            }
        }
    }
}

impl Cell<CELL> for Faults {
    fn write(&self, sequence: u32, cell: &mut [u8; CELL]) {
        cell[..3].copy_from_slice(&HEAD);
        cell[8..12].copy_from_slice(&sequence.to_le_bytes());
        // The longest account takes 69 bytes.
        let _ = postcard::to_slice(self, &mut cell[BODY]);
    }

    fn read(cell: &[u8; CELL]) -> Option<(Self, u32)> {
        if cell.get(..3)? != HEAD {
            return None;
        }
        let sequence = u32::from_le_bytes(*cell.get(8..)?.first_chunk()?);
        postcard::take_from_bytes(cell.get(BODY)?).ok().map(|(faults, _)| (faults, sequence))
    }
}

/// So many starts and faults are written one by one; later, one in so many.
const FEW: u64 = 16;
/// The longest that an account waits in a node that runs.
const PAUSE_US: u64 = 600_000_000;
const CELL: usize = 112;
const HEAD: [u8; 3] = [b'K', b'F', 1];
const BODY: core::ops::Range<usize> = 12..108;
