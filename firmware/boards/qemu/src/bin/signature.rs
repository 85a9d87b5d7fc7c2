//! The check of a manifest's signature by itself, so that its size can be told apart.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use kilter_wire::SignedManifest;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    kilter_board_qemu::exit(false)
}

#[entry]
fn main() -> ! {
    let manifest: &[u8] = black_box(&[0; 128]);
    let signature: &[u8] = black_box(&[0; 64]);
    let good = SignedManifest { manifest, signature }.verify(black_box(&[0; 32])).is_ok();
    // Zeros are signed by nobody.
    kilter_board_qemu::exit(!good)
}
