//! What the node must not forget, as whole states in the first two flash pages (`cells`).
//!
//! ```text
//!  0..2   2    3       4      5         6, 7      8..16       16..20    20..32     32..40     40..44   44..48
//! ┌──────┬────┬───────┬──────┬─────────┬─────────┬───────────┬─────────┬──────────┬──────────┬────────┬──────────┐
//! │ "KL" │ 1  │ runs  │ trial│ attempts│ latch, 0│ generation│ sequence│ settings │ firmware │ trying │ crc32, LE│
//! └──────┴────┴───────┴──────┴─────────┴─────────┴───────────┴─────────┴──────────┴──────────┴────────┴──────────┘
//! ```

use embedded_storage::nor_flash::NorFlash;
use kilter_types::{Generation, Rpm};
use kilter_wire::node::NodeSettings;

use crate::cells::{Cell, Cells};

/// One of the two model slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn byte(slot: Option<Self>) -> u8 {
        match slot {
            None => 0,
            Some(Self::A) => 1,
            Some(Self::B) => 2,
        }
    }

    fn parse(byte: u8) -> Option<Option<Self>> {
        [None, Some(Self::A), Some(Self::B)].get(usize::from(byte)).copied()
    }
}

/// What a cell says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// The slot whose model has proven itself.
    pub runs: Option<Slot>,
    /// The slot whose model still has to.
    pub trial: Option<Slot>,
    /// Starts of the model on trial, the first one included.
    pub attempts: u8,
    /// The highest generation that was ever taken (R5).
    pub generation: Generation,
    /// The machine was stopped and nobody has released it.
    pub tripped: bool,
    /// The highest generation of an image of the firmware that was kept or given up.
    pub firmware: Generation,
    /// The image on trial is so many generations above that; 0: none is.
    pub trying: u32,
    /// What the gateway set.
    pub settings: NodeSettings,
}

/// The log's place in memory; the flash is passed to each call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Log {
    cells: Cells<CELL>,
    state: State,
}

impl Log {
    /// Reads both pages.
    pub fn open<F: NorFlash>(flash: &mut F) -> Result<Self, F::Error> {
        let (cells, newest) = Cells::open(flash, 0)?;
        Ok(Self { cells, state: newest.unwrap_or_default() })
    }

    /// The newest state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Makes another state the newest.
    pub fn write<F: NorFlash>(&mut self, state: State, flash: &mut F) -> Result<(), F::Error> {
        self.cells.write(&state, flash)?;
        self.state = state;
        Ok(())
    }
}

impl Cell<CELL> for State {
    fn write(&self, sequence: u32, cell: &mut [u8; CELL]) {
        cell[..2].copy_from_slice(b"KL");
        cell[2] = VERSION;
        cell[3] = Slot::byte(self.runs);
        cell[4] = Slot::byte(self.trial);
        cell[5] = self.attempts;
        cell[6] = u8::from(self.tripped);
        cell[8..16].copy_from_slice(&self.generation.0.to_le_bytes());
        cell[16..20].copy_from_slice(&sequence.to_le_bytes());
        cell[20..24].copy_from_slice(&self.settings.generation.to_le_bytes());
        cell[24..28].copy_from_slice(&self.settings.nominal_rpm.0.to_le_bytes());
        cell[28..30].copy_from_slice(&self.settings.windows.to_le_bytes());
        cell[30..32].copy_from_slice(&self.settings.sleep_secs.to_le_bytes());
        cell[32..40].copy_from_slice(&self.firmware.0.to_le_bytes());
        cell[40..44].copy_from_slice(&self.trying.to_le_bytes());
    }

    fn read(cell: &[u8; CELL]) -> Option<(Self, u32)> {
        if cell.get(..3)? != [b'K', b'L', VERSION] {
            return None;
        }
        let u16_at = |at: usize| cell.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b));
        let u32_at = |at: usize| cell.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b));
        let settings = NodeSettings {
            generation: u32_at(20)?,
            nominal_rpm: Rpm(f32::from_bits(u32_at(24)?)),
            windows: u16_at(28)?,
            sleep_secs: u16_at(30)?,
        };
        let state = Self {
            runs: Slot::parse(cell[3])?,
            trial: Slot::parse(cell[4])?,
            attempts: cell[5],
            generation: Generation(u64::from_le_bytes(*cell.get(8..)?.first_chunk()?)),
            tripped: cell[6] != 0,
            firmware: Generation(u64::from_le_bytes(*cell.get(32..)?.first_chunk()?)),
            trying: u32_at(40)?,
            settings,
        };
        Some((state, u32_at(16)?))
    }
}

const CELL: usize = 48;
const VERSION: u8 = 1;
