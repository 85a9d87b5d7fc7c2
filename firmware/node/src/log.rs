//! What the node must not forget, as a log of whole states in two flash pages: a torn write is as good as none.
//!
//! ```text
//!  0..2   2    3       4      5         6..8      8..16       16..20    20..32          32..44    44..48
//! ┌──────┬────┬───────┬──────┬─────────┬─────────┬───────────┬─────────┬───────────────┬─────────┬──────────┐
//! │ "KL" │ 1  │ runs  │ trial│ attempts│ 0       │ generation│ sequence│ settings      │ 0       │ crc32, LE│
//! └──────┴────┴───────┴──────┴─────────┴─────────┴───────────┴─────────┴───────────────┴─────────┴──────────┘
//! ```
//! Cells follow one another within a page; the valid one with the highest sequence holds. A page is erased only while the
//! other one holds the newest state, so a power cut at any write or erase leaves the state before or the state after.

use embedded_storage::nor_flash::NorFlash;
use kilter_types::{Generation, Rpm};
use kilter_wire::node::NodeSettings;

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
    /// What the gateway set.
    pub settings: NodeSettings,
}

/// The log's place in memory; the flash is passed to each call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Log {
    page_bytes: u32,
    state: State,
    sequence: u32,
    /// Page of the newest state, and the first cell in it that was never written.
    page: u32,
    next: u32,
}

impl Log {
    /// Reads both pages.
    pub fn open<F: NorFlash>(flash: &mut F) -> Result<Self, F::Error> {
        let page_bytes = page_bytes::<F>();
        let mut log = Self { page_bytes, state: State::default(), sequence: 0, page: 0, next: page_bytes };
        let mut found = false;
        for page in 0..PAGES {
            for offset in cells(page_bytes) {
                let mut cell = [0; CELL];
                flash.read(page * page_bytes + offset, &mut cell)?;
                if let Some((state, sequence)) = decode(&cell)
                    && (!found || sequence > log.sequence)
                {
                    (log.state, log.sequence, log.page) = (state, sequence, page);
                    found = true;
                }
            }
        }
        if found {
            log.next = free(flash, log.page, page_bytes)?;
        }
        Ok(log)
    }

    /// The newest state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Makes another state the newest.
    pub fn write<F: NorFlash>(&mut self, state: State, flash: &mut F) -> Result<(), F::Error> {
        if self.next + CELL as u32 > self.page_bytes {
            // Until the first cell is whole, the newest state lies in the page before.
            let page = (self.page + 1) % PAGES;
            flash.erase(page * self.page_bytes, (page + 1) * self.page_bytes)?;
            (self.page, self.next) = (page, 0);
        }
        let place = self.page * self.page_bytes + self.next;
        // Whatever comes of the write, this cell is used.
        self.next += CELL as u32;
        flash.write(place, &encode(&state, self.sequence + 1))?;
        (self.state, self.sequence) = (state, self.sequence + 1);
        Ok(())
    }
}

/// Bytes that both pages take.
pub(crate) const fn log_bytes<F: NorFlash>() -> u32 {
    PAGES * page_bytes::<F>()
}

const fn page_bytes<F: NorFlash>() -> u32 {
    F::ERASE_SIZE as u32
}

fn cells(page_bytes: u32) -> impl DoubleEndedIterator<Item = u32> {
    (0..page_bytes / CELL as u32).map(|i| i * CELL as u32)
}

/// The first cell behind the last one that was written, whole or torn.
fn free<F: NorFlash>(flash: &mut F, page: u32, page_bytes: u32) -> Result<u32, F::Error> {
    for offset in cells(page_bytes).rev() {
        let mut cell = [0; CELL];
        flash.read(page * page_bytes + offset, &mut cell)?;
        if cell.iter().any(|byte| *byte != ERASED) {
            return Ok(offset + CELL as u32);
        }
    }
    Ok(0)
}

fn encode(state: &State, sequence: u32) -> [u8; CELL] {
    let mut cell = [0; CELL];
    cell[..2].copy_from_slice(b"KL");
    cell[2] = VERSION;
    cell[3] = Slot::byte(state.runs);
    cell[4] = Slot::byte(state.trial);
    cell[5] = state.attempts;
    cell[8..16].copy_from_slice(&state.generation.0.to_le_bytes());
    cell[16..20].copy_from_slice(&sequence.to_le_bytes());
    cell[20..24].copy_from_slice(&state.settings.generation.to_le_bytes());
    cell[24..28].copy_from_slice(&state.settings.nominal_rpm.0.to_le_bytes());
    cell[28..30].copy_from_slice(&state.settings.windows.to_le_bytes());
    cell[30..32].copy_from_slice(&state.settings.sleep_secs.to_le_bytes());
    let crc = kilter_wire::crc::crc32(&cell[..CELL - 4]);
    cell[CELL - 4..].copy_from_slice(&crc.to_le_bytes());
    cell
}

fn decode(cell: &[u8; CELL]) -> Option<(State, u32)> {
    let (body, crc) = cell.split_last_chunk::<4>()?;
    if body.get(..3)? != [b'K', b'L', VERSION] || kilter_wire::crc::crc32(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let u16_at = |at: usize| body.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b));
    let u32_at = |at: usize| body.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b));
    let settings = NodeSettings {
        generation: u32_at(20)?,
        nominal_rpm: Rpm(f32::from_bits(u32_at(24)?)),
        windows: u16_at(28)?,
        sleep_secs: u16_at(30)?,
    };
    let state = State {
        runs: Slot::parse(body[3])?,
        trial: Slot::parse(body[4])?,
        attempts: body[5],
        generation: Generation(u64::from_le_bytes(*body.get(8..)?.first_chunk()?)),
        settings,
    };
    Some((state, u32_at(16)?))
}

const CELL: usize = 48;
const PAGES: u32 = 2;
const VERSION: u8 = 1;
pub(crate) const ERASED: u8 = 0xFF;
