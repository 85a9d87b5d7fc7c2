//! The bootloader of the nRF52840: embassy-boot over the parts of flash that [`layout`] names, fed to the watchdog while it swaps.
//!
//! It believes whatever the firmware marked: signature, board and generation are checked there, before anything is marked.
#![no_std]
#![no_main]

#[path = "../../nrf52840/src/layout.rs"]
#[expect(dead_code, reason = "what the firmware alone needs")]
mod layout;

use core::cell::RefCell;
use core::panic::PanicInfo;

use cortex_m_rt::{entry, exception};
use embassy_boot_nrf::{BootLoader, BootLoaderConfig, WatchdogFlash};
use embassy_embedded_hal::flash::partition::BlockingPartition;
use embassy_nrf::nvmc::Nvmc;
use embassy_nrf::wdt;
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use layout::{DOG_TICKS, IMAGE_AT, IMAGE_BYTES, SECOND_AT, SECOND_BYTES, STATE_AT, STATE_BYTES};

#[entry]
fn main() -> ! {
    let p = embassy_nrf::init(Default::default());
    // A watchdog that runs since before the restart keeps its configuration, which is the same.
    let mut config = wdt::Config::try_new(&p.WDT).unwrap_or_default();
    config.timeout_ticks = DOG_TICKS;
    let flash = WatchdogFlash::start(Nvmc::new(p.NVMC), p.WDT, config);
    let flash = Mutex::<NoopRawMutex, _>::new(RefCell::new(flash));
    let part = |from, bytes| BlockingPartition::new(&flash, from, bytes);
    let loader: BootLoader = BootLoader::prepare(BootLoaderConfig {
        active: part(IMAGE_AT, IMAGE_BYTES),
        dfu: part(SECOND_AT, SECOND_BYTES),
        state: part(STATE_AT, STATE_BYTES),
    });
    // SAFETY: the image's vector table lies there, and nothing of the bootloader runs on.
    unsafe { loader.load(IMAGE_AT) }
}

/// A fault of the bootloader: from the beginning again.
#[exception]
unsafe fn HardFault(_: &cortex_m_rt::ExceptionFrame) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
