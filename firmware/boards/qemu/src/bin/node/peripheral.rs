//! The peripherals of the board: a line, two lamps and a watchdog.

use kilter_node::{AlarmOutput, Link, Watchdog};
use kilter_types::Severity;

use crate::CLOCK_HZ;

/// UART0 of the CMSDK.
pub(crate) struct Uart;

impl Uart {
    pub(crate) fn new() -> Self {
        write(UART + 0x10, 16);
        write(UART + 0x08, 0b11);
        Self
    }
}

impl Link for Uart {
    type Error = ();

    fn send(&mut self, bytes: &[u8]) -> Result<(), ()> {
        for byte in bytes {
            let mut patience = 1_000_000u32;
            while read(UART + 0x04) & 1 != 0 {
                patience = patience.checked_sub(1).ok_or(())?;
            }
            write(UART, u32::from(*byte));
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, ()> {
        let mut count = 0;
        while count < bytes.len() && read(UART + 0x04) & 2 != 0 {
            bytes[count] = read(UART) as u8;
            count += 1;
        }
        Ok(count)
    }
}

/// The user LEDs of the FPGA board: one for alarms, one for a trip.
pub(crate) struct Leds;

impl AlarmOutput for Leds {
    fn show(&mut self, severity: Severity) {
        write(LEDS, read(LEDS) & !1 | u32::from(severity >= Severity::Alarm));
    }

    fn trip(&mut self) {
        write(LEDS, read(LEDS) | 2);
    }

    fn release(&mut self) {
        write(LEDS, read(LEDS) & !2);
    }
}

/// The CMSDK watchdog: two periods without food reset the machine.
pub(crate) struct Dog;

impl Dog {
    pub(crate) fn new() -> Self {
        write(DOG + 0xC00, 0x1ACC_E551);
        write(DOG, DOG_TICKS);
        write(DOG + 0x08, 0b11);
        Self
    }
}

impl Watchdog for Dog {
    fn feed(&mut self) {
        write(DOG + 0x0C, 1);
        write(DOG, DOG_TICKS);
    }
}

fn read(address: usize) -> u32 {
    // SAFETY: addresses of this board's peripherals, which are words.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: addresses of this board's peripherals, which are words.
    unsafe { (address as *mut u32).write_volatile(value) }
}

/// Two seconds.
const DOG_TICKS: u32 = 2 * CLOCK_HZ;
const UART: usize = 0x4000_4000;
const DOG: usize = 0x4000_8000;
const LEDS: usize = 0x4002_8000;
