//! Faults that survive a reset and a loss of power: counters and the last panic.
//!
//! A board keeps [`KEPT_BYTES`] in a section that start-up code leaves alone (`.uninit`). After a reset [`FaultLog::start`] reads
//! them: with a good checksum they are what was kept, otherwise the power was off and flash says what it was. The panic handler calls
//! [`Faults::panicked`], which touches memory only, and resets; the next status tells the gateway.

mod log;

use core::panic::PanicInfo;

use kilter_types::Monotonic;
use kilter_wire::node::{FaultCounters, PanicNote};
use serde::{Deserialize, Serialize};

pub use log::FaultLog;

/// Bytes that a board keeps over a reset.
pub const KEPT_BYTES: usize = 96;

/// Why the node starts, as the chip's reset register says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reset {
    /// Power came.
    #[default]
    Power,
    /// The firmware asked for it.
    Software,
    /// The watchdog was not fed.
    Watchdog,
}

/// What went wrong so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// How often.
    pub counters: FaultCounters,
    /// The last panic.
    pub panic: Option<PanicNote>,
}

impl Faults {
    /// Takes up what was kept, or what flash holds if that is more, counts this start and keeps it.
    fn start(kept: &mut [u8; KEPT_BYTES], reset: Reset, held: &Self) -> Self {
        let known = Self::read(kept).filter(|known| known.events() >= held.events());
        let mut faults = known.unwrap_or_else(|| held.clone());
        let counters = &mut faults.counters;
        counters.boots = counters.boots.saturating_add(1);
        if reset == Reset::Watchdog {
            counters.watchdog = counters.watchdog.saturating_add(1);
        }
        faults.keep(kept);
        faults
    }

    /// For the panic handler: notes where, without a further panic.
    pub fn panicked(kept: &mut [u8; KEPT_BYTES], info: &PanicInfo<'_>, at: Monotonic) {
        let (file, line) = info.location().map_or(("", 0), |place| (place.file(), place.line()));
        Self::note(kept, file, line, at);
    }

    /// For the hard fault handler.
    pub fn faulted(kept: &mut [u8; KEPT_BYTES]) {
        let mut faults = Self::read(kept).unwrap_or_default();
        faults.counters.hard_faults = faults.counters.hard_faults.saturating_add(1);
        faults.keep(kept);
    }

    fn note(kept: &mut [u8; KEPT_BYTES], path: &str, line: u32, at: Monotonic) {
        let mut faults = Self::read(kept).unwrap_or_default();
        faults.counters.panics = faults.counters.panics.saturating_add(1);
        let mut file = heapless::String::new();
        for letter in path.chars().skip(path.chars().count().saturating_sub(file.capacity())) {
            // A letter that does not fit ends it.
            let _ = file.push(letter);
        }
        faults.panic = Some(PanicNote { file, line, at });
        faults.keep(kept);
    }

    /// Starts and faults, all together.
    fn events(&self) -> u64 {
        let FaultCounters { boots, watchdog, panics, hard_faults } = self.counters;
        [boots, watchdog, panics, hard_faults].into_iter().map(u64::from).sum()
    }

    fn keep(&self, kept: &mut [u8; KEPT_BYTES]) {
        let (body, crc) = kept.split_at_mut(KEPT_BYTES - 4);
        body.fill(0);
        body[..4].copy_from_slice(MAGIC);
        // Two small numbers per counter, a short path: it fits.
        let _ = postcard::to_slice(self, &mut body[4..]);
        crc.copy_from_slice(&kilter_wire::crc::crc32(body).to_le_bytes());
    }

    fn read(kept: &[u8; KEPT_BYTES]) -> Option<Self> {
        let (body, crc) = kept.split_last_chunk::<4>()?;
        let whole = body.get(..4)? == MAGIC && kilter_wire::crc::crc32(body) == u32::from_le_bytes(*crc);
        if whole { postcard::take_from_bytes(&body[4..]).ok().map(|(faults, _)| faults) } else { None }
    }
}

const MAGIC: &[u8] = b"KLTF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_the_last_panic_survive_resets_and_after_a_power_failure_flash_says_them() {
        let none = Faults::default();
        let mut kept = [0x5A; KEPT_BYTES];
        assert_eq!(Faults::start(&mut kept, Reset::Power, &none).counters.boots, 1);
        let path = "a/long/way/to/firmware/node/src/node.rs";
        Faults::note(&mut kept, path, u32::MAX, Monotonic(u64::MAX));
        Faults::faulted(&mut kept);
        let faults = Faults::start(&mut kept, Reset::Watchdog, &none);
        assert_eq!(faults.counters, FaultCounters { boots: 2, watchdog: 1, panics: 1, hard_faults: 1 });
        let panic = faults.panic.clone().expect("it was noted");
        assert_eq!((panic.file.as_str(), panic.line), ("way/to/firmware/node/src/node.rs", u32::MAX));
        let counters = FaultCounters { boots: u32::MAX, watchdog: u32::MAX, panics: u32::MAX, hard_faults: u32::MAX };
        let most = Faults { counters, panic: Some(panic) };
        most.keep(&mut kept);
        assert_eq!(Faults::read(&kept), Some(most));
        kept[20] ^= 1;
        let held = faults.clone();
        let after = Faults::start(&mut kept, Reset::Power, &held);
        assert_eq!(after.counters, FaultCounters { boots: 3, ..held.counters });
        assert_eq!(after.panic, held.panic);
        assert_eq!(Faults::start(&mut kept, Reset::Power, &none).counters.boots, 4, "memory knows more than flash");
    }
}
