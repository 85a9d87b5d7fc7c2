//! The digest of `windows.bin` in QEMU's folder, computed on the target.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use kilter_bits::{Bench, HEAD, ROOTS, SCRATCH, WINDOW, setup};
use kilter_board_qemu::file::{File, Mode};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    kilter_board_qemu::give_up(info)
}

#[entry]
fn main() -> ! {
    static mut ROOM: [f32; ROOTS] = [0.0; ROOTS];
    static mut WORK: [f32; SCRATCH] = [0.0; SCRATCH];
    static mut VALUES: [f32; HEAD + WINDOW] = [0.0; HEAD + WINDOW];
    kilter_board_qemu::exit(run(ROOM, WORK, VALUES).is_some())
}

fn run(room: &'static mut [f32], work: &'static mut [f32], values: &mut [f32; HEAD + WINDOW]) -> Option<()> {
    let mut bench = Bench::new(room, work).ok()?;
    let mut file = File::open(c"windows.bin", Mode::Read)?;
    loop {
        let mut got = true;
        // In small pieces, so that no second window's room is needed.
        for part in values.chunks_mut(64) {
            let mut bytes = [0; 4 * 64];
            let bytes = &mut bytes[..4 * part.len()];
            got &= file.read(bytes) == bytes.len();
            for (value, bytes) in part.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        if !got {
            break;
        }
        let (head, samples) = values.split_first_chunk::<HEAD>()?;
        bench.window(&setup(head).ok()?, samples).ok()?;
    }
    let outcome = bench.outcome();
    hprintln!("windows {} digest {:016x}", outcome.windows, outcome.digest);
    Some(())
}
