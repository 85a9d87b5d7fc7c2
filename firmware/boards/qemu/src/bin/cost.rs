//! Instructions per window of set S, and of a first naive version of it. Run with `-icount shift=0`: one instruction, one
//! nanosecond; SysTick counts the machine's 25 MHz, so a tick is 40 instructions.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use kilter_bits::{Bench, ROOTS, SCRATCH, WINDOW, example, naive, setup};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    kilter_board_qemu::give_up(info)
}

#[entry]
fn main() -> ! {
    static mut ROOM: [f32; ROOTS] = [0.0; ROOTS];
    static mut WORK: [f32; SCRATCH] = [0.0; SCRATCH];
    static mut SAMPLES: [f32; WINDOW] = [0.0; WINDOW];
    static mut ROUGH: naive::Room = naive::Room::new();
    let Some(mut core) = cortex_m::Peripherals::take() else { kilter_board_qemu::exit(false) };
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(0x00FF_FFFF);
    core.SYST.clear_current();
    core.SYST.enable_counter();
    let head = example(SAMPLES);
    let (Ok(setup), Ok(mut bench)) = (setup(&head), Bench::new(ROOM, WORK)) else { kilter_board_qemu::exit(false) };
    let samples: &[f32; WINDOW] = SAMPLES;
    let ours = measure(|| bench.extract(black_box(&setup), black_box(samples)).is_ok());
    let rough = measure(|| naive::vibration(black_box(&head), black_box(samples), ROUGH)[0] != f32::MAX);
    let values = bench.newest();
    let valid = values.valid.count_ones();
    let difference = naive::difference(values, &naive::vibration(&head, samples, ROUGH));
    hprintln!("instructions {} naive {} valid {} difference {:e}", ours, rough, valid, difference);
    kilter_board_qemu::exit(true)
}

fn measure(mut work: impl FnMut() -> bool) -> u32 {
    let before = SYST::get_current();
    let good = black_box(work());
    let after = SYST::get_current();
    if good { before.wrapping_sub(after) & 0x00FF_FFFF } else { 0 }.saturating_mul(INSTRUCTIONS_PER_TICK)
}

const INSTRUCTIONS_PER_TICK: u32 = 40;
