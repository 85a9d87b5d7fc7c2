//! What the programs of this board share: files and exit through semihosting, and a panic that ends QEMU with an error.
#![no_std]

pub mod file;

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::hprintln;

/// Ends QEMU.
pub fn exit(good: bool) -> ! {
    debug::exit(if good { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}

/// Says why and ends QEMU; the node brings its own, which is kept over a reset.
pub fn give_up(info: &PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    exit(false)
}

/// Paints the stack that is free now, so that [`stack_used`] can tell afterwards how deep it went.
pub fn paint_stack() {
    let (low, here) = stack();
    LOWEST.store(low, Ordering::Relaxed);
    // SAFETY: what is below the stack pointer, less a margin for this function, belongs to nobody.
    unsafe {
        let mut at = low;
        while at < here - 512 {
            (at as *mut u32).write_volatile(PAINT);
            at += 4;
        }
    }
}

/// Bytes of stack that were used at most since [`paint_stack`].
pub fn stack_used() -> usize {
    let low = LOWEST.load(Ordering::Relaxed);
    let top = &raw const _stack_start as usize;
    let mut at = low;
    // SAFETY: reads within RAM.
    while at < top && unsafe { (at as *const u32).read_volatile() } == PAINT {
        at += 4;
    }
    top - at
}

/// Bytes of RAM that are taken before anything runs.
pub fn static_ram() -> usize {
    &raw const __ebss as usize - &raw const __sdata as usize
}

/// The lowest free address and about the present one.
fn stack() -> (usize, usize) {
    let here = 0u32;
    let low = (&raw const __sheap as usize).next_multiple_of(4);
    // Only as much as any program here needs: painting megabytes would take its time.
    let here = &raw const here as usize;
    (low.max(here.saturating_sub(PAINTED)), here)
}

unsafe extern "C" {
    static _stack_start: u32;
    static __sheap: u32;
    static __sdata: u32;
    static __ebss: u32;
}

/// Where the paint begins.
static LOWEST: AtomicUsize = AtomicUsize::new(0);
const PAINT: u32 = 0xA5C3_5A3C;
const PAINTED: usize = 48 * 1024;
