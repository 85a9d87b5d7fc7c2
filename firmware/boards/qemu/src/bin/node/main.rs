//! The whole node on `mps2-an386`: pins and peripherals, and files of the host in place of a sensor's world and of flash.
//!
//! In QEMU's folder: `key.bin` (the fleet's model-signing key), `flash.bin` (made anew when missing), `cut.bin` (u32 LE: the power
//! goes at this word of flash, half written), and, looked for twice a second: `fault` (the machine shakes ten times as much while
//! it is there), `panic` and `hang` (each used up). UART0 is the line to the gateway.
#![no_std]
#![no_main]

mod flash;
mod peripheral;

use core::cell::RefCell;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cortex_m::interrupt::{self, Mutex};
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::{entry, exception};
use cortex_m_semihosting::{hprintln, syscall};
use flash::{FLASH_BYTES, FileFlash, exists, remove};
use kilter_board_qemu::file::{File, Mode};
use kilter_monitor::{Carve, ChannelConfig, ChannelKind, FeatureLimit, GroupConfig, MachineConfig, Monitor};
use kilter_node::{
    Absent, FaultLog, Faults, Hardware, Identity, KEPT_BYTES, Lend, Node, Parts, Power, Reset, Ring, Sampler, Slots,
};
use kilter_types::{Cause, ChannelId, DeviceId, Epoch, FeatureId, GroupKind, Hertz, Micros, Monotonic, Name, Unit};
use kilter_wire::node::FaultCounters;
use peripheral::{Dog, Leds, Uart};

/// This board.
struct Board;

impl Hardware for Board {
    type Accelerometer = Sampler<SharedRing, RING>;
    type Thermometer = Absent;
    type Link = Uart;
    type Output = Leds;
    type Flash = FileFlash;
    type Watchdog = Dog;
    type Images = Absent;
}

#[entry]
fn main() -> ! {
    static mut FLOATS: [f32; 8192] = [0.0; 8192];
    static mut TIMES: [Micros; 8] = [Micros(0); 8];
    let node = start(FLOATS, TIMES);
    let Some(mut node) = node else {
        hprintln!("the node does not start");
        kilter_board_qemu::exit(false)
    };
    let mut looked = 0;
    loop {
        let turn = node.poll(now());
        if now().0 - looked > 500_000 {
            looked = now().0;
            FAULT.store(exists(c"fault"), Ordering::Relaxed);
            if remove(c"panic") {
                panic!("asked for");
            }
            if remove(c"hang") {
                loop {
                    cortex_m::asm::nop();
                }
            }
        }
        if turn.taken == 0 {
            cortex_m::asm::wfi();
        }
    }
}

fn start(floats: &'static mut [f32], times: &'static mut [Micros]) -> Option<Node<Board, Carve<'static>, 1, 64, 1024>> {
    let mut core = cortex_m::Peripherals::take()?;
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(CLOCK_HZ / 1000 - 1);
    core.SYST.clear_current();
    core.SYST.enable_counter();
    core.SYST.enable_interrupt();
    let mut flash = FileFlash::open()?;
    let faults = start_faults(&mut flash)?;
    let FaultCounters { boots, watchdog, panics, .. } = faults.faults().counters;
    hprintln!("boots {boots} watchdog {watchdog} panics {panics}");
    let mut key = [0; 32];
    File::open(c"key.bin", Mode::Read)?.read(&mut key);
    let slots = Slots::open(&mut flash, SLOTS_BYTES, key).ok()?;
    let monitor = Monitor::new(config()?, &mut Carve::new(floats, times)).ok()?;
    // SAFETY: a call without arguments.
    let seconds = unsafe { syscall!(TIME) } as u64;
    let identity = Identity {
        device: DeviceId::new("node-1").ok()?,
        software: Name::new(env!("CARGO_PKG_VERSION")).ok()?,
        tenant: Name::new("default").ok()?,
        site: Name::new("north").ok()?,
        asset: Name::new("pump-1").ok()?,
        epoch: Epoch(seconds << 24 | u64::from(boots) << 16 | u64::from(micros_of_tick() & 0xFFFF)),
        channel: ChannelId(0),
        rate: Hertz(RATE_HZ as f32),
        temperature: None,
        power: Power { active_ua: 6_000, sleep_ua: 5, byte_nc: 500 },
    };
    let parts = Parts {
        accelerometer: Sampler::new(SharedRing, 1.0 / 2048.0, RATE_HZ),
        thermometer: Absent,
        link: Uart::new(),
        output: Leds,
        flash,
        watchdog: Dog::new(),
        images: Absent,
    };
    Some(Node::new(identity, parts, slots, monitor, faults))
}

fn config() -> Option<MachineConfig> {
    let mut config = MachineConfig::new(Name::new("pump").ok()?);
    let kind = ChannelKind::Vibration { rate: Hertz(RATE_HZ as f32) };
    config.channels.push(ChannelConfig::new(Name::new("z").ok()?, Unit::G, kind)).ok()?;
    let channels = [ChannelId(0)].into_iter().collect();
    let point = Name::new("drive-end").ok()?;
    config.groups.push(GroupConfig { kind: GroupKind::Vibration, point, channels, window: 512, hop: 512 }).ok()?;
    config.regimes = 1;
    config.commissioning_windows = 12;
    // RMS of acceleration.
    let limit = FeatureLimit { feature: FeatureId(2), alarm: 0.5, danger: 5.0, cause: Cause::Severity };
    config.limits.features.push(limit).ok()?;
    Some(config)
}

/// The DMA's stand-in: every millisecond the samples that are due.
#[exception]
fn SysTick() {
    static mut STATE: u32 = 1;
    static mut OWED: u32 = 0;
    let ms = MILLIS.load(Ordering::Relaxed).wrapping_add(1);
    MILLIS.store(ms, Ordering::Relaxed);
    *OWED += RATE_HZ;
    let size = if FAULT.load(Ordering::Relaxed) { 2_500 } else { 250 };
    let mut fresh = [0i16; 4];
    let count = (*OWED / 1000) as usize;
    *OWED %= 1000;
    for sample in fresh.iter_mut().take(count) {
        *STATE = STATE.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *sample = ((*STATE >> 16) as i32 % (2 * size) - size) as i16;
    }
    let now = Monotonic(u64::from(ms) * 1000);
    interrupt::free(|cs| RING_CELL.borrow(cs).borrow_mut().push(fresh.get(..count).unwrap_or(&fresh), now));
}

/// Microseconds since the start; good for seven weeks.
fn now() -> Monotonic {
    Monotonic(u64::from(MILLIS.load(Ordering::Relaxed)) * 1000)
}

fn micros_of_tick() -> u32 {
    cortex_m::peripheral::SYST::get_current()
}

/// The ring that the interrupt fills.
struct SharedRing;

impl Lend<RING> for SharedRing {
    fn with<T>(&mut self, f: impl FnOnce(&mut Ring<RING>) -> T) -> T {
        interrupt::free(|cs| f(&mut RING_CELL.borrow(cs).borrow_mut()))
    }
}

fn start_faults(flash: &mut FileFlash) -> Option<FaultLog> {
    // SAFETY: nothing else runs yet, and every bit pattern is a good value of both.
    let (kept, why) = unsafe { (&mut *(&raw mut KEPT), &mut *(&raw mut WHY)) };
    let reset = match *why {
        SOFTWARE => Reset::Software,
        RUNNING => Reset::Watchdog,
        _ => Reset::Power,
    };
    *why = RUNNING;
    FaultLog::start(flash, SLOTS_BYTES, kept, reset).ok()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    interrupt::disable();
    // SAFETY: interrupts are off and nothing returns from here.
    let (kept, why) = unsafe { (&mut *(&raw mut KEPT), &mut *(&raw mut WHY)) };
    Faults::panicked(kept, info, now());
    *why = SOFTWARE;
    cortex_m::peripheral::SCB::sys_reset()
}

/// Left alone by the start-up code.
#[unsafe(link_section = ".uninit.kept")]
static mut KEPT: [u8; KEPT_BYTES] = [0; KEPT_BYTES];
#[unsafe(link_section = ".uninit.why")]
static mut WHY: u32 = 0;

static MILLIS: AtomicU32 = AtomicU32::new(0);
static FAULT: AtomicBool = AtomicBool::new(false);
static RING_CELL: Mutex<RefCell<Ring<RING>>> = Mutex::new(RefCell::new(Ring::new(0)));

const RING: usize = 2048;
const RATE_HZ: u32 = 3200;
const CLOCK_HZ: u32 = 25_000_000;
/// Log and models; the account of faults lies behind them.
const SLOTS_BYTES: u32 = FLASH_BYTES as u32 - FaultLog::bytes::<FileFlash>();
const SOFTWARE: u32 = 0x50F7;
const RUNNING: u32 = 0x0D06;
