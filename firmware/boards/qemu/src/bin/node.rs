//! The whole node on `mps2-an386`: pins and peripherals, and files of the host in place of a sensor's world and of flash.
//!
//! In QEMU's folder: `key.bin` (the fleet's model-signing key), `flash.bin` (made anew when missing), `cut.bin` (u32 LE: the power
//! goes at this word of flash, half written), and, looked for twice a second: `fault` (the machine shakes ten times as much while
//! it is there), `panic` and `hang` (each used up). UART0 is the line to the gateway.
#![no_std]
#![no_main]

use core::cell::RefCell;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cortex_m::interrupt::{self, Mutex};
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::{entry, exception};
use cortex_m_semihosting::{hprintln, syscall};
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use kilter_board_qemu::file::{File, Mode};
use kilter_monitor::{Carve, ChannelConfig, ChannelKind, FeatureLimit, GroupConfig, MachineConfig, Monitor};
use kilter_node::{
    Absent, AlarmOutput, FaultLog, Faults, Flash, Hardware, Identity, KEPT_BYTES, Lend, Link, Node, Parts, Power,
    Reset, Ring, Sampler, Slots, Watchdog,
};
use kilter_types::{
    Cause, ChannelId, DeviceId, Epoch, FeatureId, GroupKind, Hertz, Micros, Monotonic, Name, Severity, Unit,
};
use kilter_wire::node::FaultCounters;

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

/// UART0 of the CMSDK.
struct Uart;

impl Uart {
    fn new() -> Self {
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
struct Leds;

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
struct Dog;

impl Dog {
    fn new() -> Self {
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

/// Flash in a file, with a copy in RAM to look at.
struct FileFlash {
    file: File,
    image: &'static mut [u8; FLASH_BYTES],
    /// Words until the power goes.
    cut: Option<u32>,
}

impl FileFlash {
    fn open() -> Option<Self> {
        static mut IMAGE: [u8; FLASH_BYTES] = [0xFF; FLASH_BYTES];
        // SAFETY: called once, before anything else could hold it.
        let image = unsafe { &mut *(&raw mut IMAGE) };
        image.fill(0xFF);
        if !exists(c"flash.bin") && !File::open(c"flash.bin", Mode::Create)?.write(&image[..]) {
            return None;
        }
        let mut file = File::open(c"flash.bin", Mode::ReadWrite)?;
        file.read(&mut image[..]);
        let mut cut = [0; 4];
        let cuts = File::open(c"cut.bin", Mode::Read).is_some_and(|mut file| file.read(&mut cut) == 4);
        Some(Self { file, image, cut: cuts.then(|| u32::from_le_bytes(cut)) })
    }

    fn put(&mut self, place: usize, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        self.image[place..place + bytes.len()].copy_from_slice(bytes);
        if self.file.seek(place) && self.file.write(bytes) { Ok(()) } else { Err(NorFlashErrorKind::Other) }
    }

    /// One word or page: is it the one at which the power goes?
    fn goes_dark(&mut self) -> bool {
        match &mut self.cut {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

impl ErrorType for FileFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for FileFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        let from = self.image.get(offset as usize..).and_then(|image| image.get(..bytes.len()));
        bytes.copy_from_slice(from.ok_or(NorFlashErrorKind::OutOfBounds)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_BYTES
    }
}

impl NorFlash for FileFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        for page in (from as usize..to as usize).step_by(Self::ERASE_SIZE) {
            let dark = self.goes_dark();
            let len = if dark { Self::ERASE_SIZE / 3 } else { Self::ERASE_SIZE };
            for part in (0..len).step_by(256) {
                self.put(page + part, &[0xFF; 256])?;
            }
            if dark {
                go_dark();
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        for (i, word) in bytes.chunks(Self::WRITE_SIZE).enumerate() {
            let place = offset as usize + i * Self::WRITE_SIZE;
            if self.goes_dark() {
                self.put(place, &word[..word.len() / 2])?;
                go_dark();
            }
            self.put(place, word)?;
        }
        Ok(())
    }
}

impl Flash for FileFlash {
    fn view(&self, offset: u32, len: usize) -> Option<&'static [u8]> {
        let bytes = self.image.get(offset as usize..)?.get(..len)?;
        // SAFETY: the image is a static; what a view shows is written only after the node has let go of it.
        Some(unsafe { core::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) })
    }
}

fn go_dark() -> ! {
    hprintln!("the power goes");
    kilter_board_qemu::exit(true)
}

fn exists(path: &core::ffi::CStr) -> bool {
    File::open(path, Mode::Read).is_some()
}

/// Removes a file; `true` when it was there.
fn remove(path: &core::ffi::CStr) -> bool {
    // SAFETY: the path lives through the call and its length is right.
    unsafe { syscall!(REMOVE, path.as_ptr(), path.count_bytes()) == 0 }
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

fn read(address: usize) -> u32 {
    // SAFETY: addresses of this board's peripherals, which are words.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: addresses of this board's peripherals, which are words.
    unsafe { (address as *mut u32).write_volatile(value) }
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
const FLASH_BYTES: usize = 64 * 1024;
/// Log and models; the account of faults lies behind them.
const SLOTS_BYTES: u32 = FLASH_BYTES as u32 - FaultLog::bytes::<FileFlash>();
const SOFTWARE: u32 = 0x50F7;
const RUNNING: u32 = 0x0D06;
/// Two seconds.
const DOG_TICKS: u32 = 2 * CLOCK_HZ;
const UART: usize = 0x4000_4000;
const DOG: usize = 0x4000_8000;
const LEDS: usize = 0x4002_8000;
