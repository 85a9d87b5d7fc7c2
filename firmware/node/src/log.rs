//! What the node must not forget, as whole states in the first two flash pages (`cells`).
//!
//! ```text
//!  0..2   2    3       4      5         6      7       8..16       16..20    20..32     32..40     40..44   44..48
//! ┌──────┬────┬───────┬──────┬─────────┬──────┬───────┬───────────┬─────────┬──────────┬──────────┬────────┬──────────┐
//! │ "KL" │ 1  │ runs  │ trial│ attempts│ latch│ before│ generation│ sequence│ settings │ firmware │ trying │ crc32, LE│
//! └──────┴────┴───────┴──────┴─────────┴──────┴───────┴───────────┴─────────┴──────────┴──────────┴────────┴──────────┘
//! ```
//! Byte 7 came later: its highest bit is `reverted`, the others are `before`. Images of before write 0 there and do not look at it, so
//! either reads what the other left: an image on trial and the one that comes back after it share the log.

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
    /// The image before that one is so many generations below it; 0: nobody knows, [`FAR`]: so many or more.
    pub before: u8,
    /// That one runs, because the later one was given up.
    pub reverted: bool,
    /// What the gateway set.
    pub settings: NodeSettings,
}

impl State {
    /// Generation of the image that runs while none is on trial; `None` when the log can't tell.
    pub fn image(&self) -> Option<Generation> {
        match (self.reverted, self.before) {
            (false, _) => Some(self.firmware),
            (true, 0 | FAR..) => None,
            (true, below) => self.firmware.0.checked_sub(u64::from(below)).map(Generation),
        }
    }

    /// The image on trial is over: its generation is used up, and it stays or the one before runs again.
    pub(crate) fn concluded(self, reverted: bool) -> Self {
        match (self.trying, reverted) {
            (0, false) => return self,
            // The power went while it was being kept: the bootloader may speak of either image.
            (0, true) => return Self { before: 0, reverted, ..self },
            (1.., _) => {}
        }
        let firmware = Generation(self.firmware.0.saturating_add(u64::from(self.trying)));
        let below = self.image().map_or(u64::MAX, |image| firmware.0.saturating_sub(image.0));
        Self { firmware, trying: 0, before: below.min(u64::from(FAR)) as u8, reverted, ..self }
    }
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
        cell[7] = self.before.min(FAR) | u8::from(self.reverted) << 7;
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
            before: cell[7] & FAR,
            reverted: cell[7] > FAR,
            settings,
        };
        Some((state, u32_at(16)?))
    }
}

/// The longest distance between two generations that the log tells.
pub const FAR: u8 = 127;
const CELL: usize = 48;
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_the_image_before_changes_nothing_that_an_older_image_reads() {
        let (mut older, mut newer) = ([0; CELL], [0; CELL]);
        let state = State { firmware: Generation(9), trying: 2, ..State::default() };
        state.write(7, &mut older);
        let kept = State { before: 3, reverted: true, ..state };
        kept.write(7, &mut newer);
        assert_eq!((older[7], newer[7]), (0, 0x83));
        assert!(older.iter().zip(&newer).enumerate().all(|(at, (old, new))| at == 7 || old == new));
        assert_eq!((State::read(&older), State::read(&newer)), (Some((state, 7)), Some((kept, 7))));
    }

    #[test]
    fn the_image_that_runs_is_named_after_each_end_of_a_trial_as_far_as_the_log_can_tell() {
        let tried = |state: State, trying| State { trying, ..state };
        let first = State::default();
        assert_eq!(first.image(), Some(Generation(0)), "as it was flashed");
        let kept = tried(first, 5).concluded(false);
        assert_eq!((kept.image(), kept.firmware), (Some(Generation(5)), Generation(5)));
        let back = tried(kept, 1).concluded(true);
        assert_eq!((back.image(), back.firmware), (Some(Generation(5)), Generation(6)));
        let again = tried(back, 2).concluded(true);
        assert_eq!((again.image(), again.firmware), (Some(Generation(5)), Generation(8)));
        assert_eq!(tried(again, 1).concluded(false).image(), Some(Generation(9)));
        assert_eq!(kept.concluded(false), kept);
        assert_eq!(kept.concluded(true).image(), None, "the bootloader was not told to keep it, or not quite");
        assert_eq!(tried(again, 200).concluded(true).image(), None, "too far to tell");
    }
}
