//! The node on an nRF52840: pins and peripherals, nothing else.
//!
//! | what | where |
//! |---|---|
//! | ADXL345 (SPI) | SCK P0.13, MISO P0.15, MOSI P0.17, CS P0.20 |
//! | TMP117 (I2C) | SDA P0.26, SCL P0.27 |
//! | gateway (UART, 115200 baud) | RX P0.08, TX P0.06 |
//! | lamp, trip relay | P0.11, P0.12 |
//!
//! The sensor's FIFO holds 10 ms, a window takes longer: so it is emptied into the ring by a task at interrupt level, and the
//! node's loop takes its time. Build with `KILTER_SIGNING_KEY` (from the gateway's bundle) and `KILTER_NODE` set.
#![no_std]
#![no_main]

mod layout;

use core::cell::RefCell;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use critical_section::Mutex;
use embassy_executor::InterruptExecutor;
use embassy_nrf::buffered_uarte::{self, BufferedUarte};
use embassy_nrf::gpio::{Level, Output, OutputDrive};
use embassy_nrf::interrupt::{self, InterruptExt as _, Priority};
use embassy_nrf::nvmc::Nvmc;
use embassy_nrf::pac;
use embassy_nrf::spim::{self, Spim};
use embassy_nrf::twim::{self, Twim};
use embassy_nrf::wdt::{self, WatchdogHandle};
use embassy_nrf::{bind_interrupts, peripherals, uarte};
use embassy_time::{Delay, Duration, Instant, Ticker};
use embedded_hal_bus::spi::ExclusiveDevice;
use embedded_io_async::ReadReady as _;
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use kilter_monitor::{Carve, ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Monitor};
use kilter_node::driver::{Adxl345, Axis, Tmp117};
use kilter_node::{
    Accelerometer as _, BootSlots, FaultLog, Faults, Flash, Hardware, Identity, KEPT_BYTES, Lend, Link, Node, Parts,
    PinAlarm, Power, Reset, Ring, Sampler, Slots, Watchdog,
};
use kilter_types::{ChannelId, DeviceId, Epoch, GroupKind, Hertz, Micros, Monotonic, Name, Unit};
use layout::{DOG_TICKS, PAGES_AT, PAGES_BYTES, SECOND_AT, SECOND_BYTES, STATE_AT, STATE_BYTES};

bind_interrupts!(struct Irqs {
    SPIM3 => spim::InterruptHandler<peripherals::SPI3>;
    TWISPI0 => twim::InterruptHandler<peripherals::TWISPI0>;
    UARTE0 => buffered_uarte::InterruptHandler<peripherals::UARTE0>;
});

/// This board.
struct Board;

impl Hardware for Board {
    type Accelerometer = Sampler<SharedRing, RING>;
    type Thermometer = Tmp117<Twim<'static>>;
    type Link = Uart;
    type Output = PinAlarm<Output<'static>, Output<'static>>;
    type Flash = Region;
    type Watchdog = Dog;
    type Images = BootSlots<Region, Region>;
}

type Sensor = Adxl345<ExclusiveDevice<Spim<'static>, Output<'static>, Delay>, Delay, fn() -> Monotonic>;

#[entry]
fn main() -> ! {
    static mut FLOATS: [f32; 8192] = [0.0; 8192];
    static mut TIMES: [Micros; 128] = [Micros(0); 128];
    static mut RX: [u8; 1024] = [0; 1024];
    static mut TX: [u8; 2048] = [0; 2048];
    static mut WIRE: [u8; 16] = [0; 16];
    let mut node = start(FLOATS, TIMES, RX, TX, WIRE).expect("the board's parts answer");
    loop {
        let turn = node.poll(now());
        match turn.sleep {
            Some(sleep) => embassy_time::block_for(Duration::from_micros(sleep.0.clamp(0, NAP_US).unsigned_abs())),
            None if turn.taken == 0 => cortex_m::asm::wfe(),
            None => {}
        }
    }
}

fn start(
    floats: &'static mut [f32],
    times: &'static mut [Micros],
    rx: &'static mut [u8],
    tx: &'static mut [u8],
    wire: &'static mut [u8],
) -> Option<Node<Board, Carve<'static>, 2, 256, 1024>> {
    let p = embassy_nrf::init(Default::default());
    let mut flash = Region::new(PAGES_AT, PAGES_BYTES);
    let second = Region::new(SECOND_AT, SECOND_BYTES);
    let images = BootSlots::new(BOARD, second, Region::new(STATE_AT, STATE_BYTES), restart);
    let faults = start_faults(&mut flash)?;
    let mut config = wdt::Config::try_new(&p.WDT)?;
    config.timeout_ticks = DOG_TICKS;
    let (_, [dog]) = wdt::Watchdog::try_new(p.WDT, config).ok()?;

    let mut spi = spim::Config::default();
    spi.frequency = spim::Frequency::M4;
    spi.mode = spim::MODE_3;
    let spi = Spim::new(p.SPI3, Irqs, p.P0_13, p.P0_15, p.P0_17, spi);
    let select = Output::new(p.P0_20, Level::High, OutputDrive::Standard);
    let device = ExclusiveDevice::new(spi, select, Delay).ok()?;
    let sensor: Sensor = Adxl345::new(device, Delay, now as fn() -> Monotonic, Axis::Z).ok()?;
    interrupt::EGU1_SWI1.set_priority(Priority::P6);
    EXECUTOR.start(interrupt::EGU1_SWI1).spawn(empty_fifo(sensor).ok()?);

    let i2c = Twim::new(p.TWISPI0, Irqs, p.P0_26, p.P0_27, twim::Config::default(), wire);
    let thermometer = Tmp117::new(i2c, Tmp117::<Twim<'static>>::ADDRESS).ok()?;
    let mut line = uarte::Config::default();
    line.baudrate = uarte::Baudrate::Baud115200;
    let uart = BufferedUarte::new(
        p.UARTE0,
        p.TIMER1,
        p.PPI_CH0,
        p.PPI_CH1,
        p.PPI_GROUP0,
        p.P0_08,
        p.P0_06,
        Irqs,
        line,
        rx,
        tx,
    );
    let output = PinAlarm {
        lamp: Output::new(p.P0_11, Level::Low, OutputDrive::Standard),
        relay: Output::new(p.P0_12, Level::Low, OutputDrive::Standard),
        faults: 0,
    };
    let slots = Slots::open(&mut flash, SLOTS_BYTES, key()).ok()?;
    let monitor = Monitor::new(machine()?, &mut Carve::new(floats, times)).ok()?;
    let identity = identity(faults.faults().counters.boots)?;
    let accelerometer = Sampler::new(SharedRing, STEP_G, Sensor::RATE_HZ);
    let parts = Parts { accelerometer, thermometer, link: Uart(uart), output, flash, watchdog: Dog(dog), images };
    Some(Node::new(identity, parts, slots, monitor, faults))
}

/// One accelerometer and one thermometer on the drive end.
fn machine() -> Option<MachineConfig> {
    let mut config = MachineConfig::new(Name::new("pump").ok()?);
    let vibration = ChannelKind::Vibration { rate: Hertz(Sensor::RATE_HZ as f32) };
    let reading = ChannelKind::Reading { period: Some(TEMPERATURE_EVERY) };
    for (name, unit, kind) in [("z", Unit::G, vibration), ("housing", Unit::DegreeCelsius, reading)] {
        config.channels.push(ChannelConfig::new(Name::new(name).ok()?, unit, kind)).ok()?;
    }
    for (kind, channel, window) in [(GroupKind::Vibration, 0, 1024), (GroupKind::Temperature, 1, 60)] {
        let (channels, point) = ([ChannelId(channel)].into_iter().collect(), Name::new("drive-end").ok()?);
        config.groups.push(GroupConfig { kind, point, channels, window, hop: window }).ok()?;
    }
    config.regimes = 2;
    Some(config)
}

fn identity(boots: u32) -> Option<Identity> {
    let name = Name::new(option_env!("KILTER_NODE").unwrap_or("node-1")).ok()?;
    // The chip's own number and the boot count: unlike any other node's, and unlike the boot before. A loss of power can cost the count
    // its last starts, so what the oscillator's start took is mixed in.
    let chip = pac::FICR.deviceid(0).read();
    let jitter = cortex_m::peripheral::SYST::get_current() ^ Instant::now().as_ticks() as u32;
    Some(Identity {
        device: DeviceId(name.clone()),
        software: Name::new(env!("CARGO_PKG_VERSION")).ok()?,
        tenant: Name::new("default").ok()?,
        site: Name::new("default").ok()?,
        asset: name,
        epoch: Epoch(u64::from(chip) << 32 | u64::from(boots ^ jitter)),
        channel: ChannelId(0),
        rate: Hertz(Sensor::RATE_HZ as f32),
        temperature: Some((ChannelId(1), TEMPERATURE_EVERY)),
        power: Power { active_ua: 4_500, sleep_ua: 8, byte_nc: 120 },
    })
}

/// The fleet's model-signing key; without one every model is refused.
fn key() -> [u8; 32] {
    let mut key = [0; 32];
    let text = option_env!("KILTER_SIGNING_KEY").unwrap_or("").as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    key
}

/// Empties the sensor's FIFO into the ring, half a FIFO at a time.
#[embassy_executor::task]
async fn empty_fifo(mut sensor: Sensor) {
    let mut ticker = Ticker::every(Duration::from_millis(5));
    let mut samples = [0.0; 32];
    let mut raw = [0; 32];
    loop {
        ticker.next().await;
        let Ok(filled) = sensor.fill(&mut samples) else { continue };
        for (raw, sample) in raw.iter_mut().zip(&samples[..filled.len]) {
            *raw = (*sample / STEP_G) as i16;
        }
        let now = now();
        critical_section::with(|cs| {
            let mut ring = RING_CELL.borrow(cs).borrow_mut();
            if filled.lost > 0 {
                ring.lose(filled.lost);
            }
            ring.push(&raw[..filled.len], now);
        });
    }
}

static EXECUTOR: InterruptExecutor = InterruptExecutor::new();

#[embassy_nrf::interrupt]
fn EGU1_SWI1() {
    // SAFETY: this is the interrupt that the executor was started on.
    unsafe { EXECUTOR.on_interrupt() }
}

/// The ring that the task fills.
struct SharedRing;

impl Lend<RING> for SharedRing {
    fn with<T>(&mut self, f: impl FnOnce(&mut Ring<RING>) -> T) -> T {
        critical_section::with(|cs| f(&mut RING_CELL.borrow(cs).borrow_mut()))
    }
}

/// The line to the gateway.
struct Uart(BufferedUarte<'static>);

impl Link for Uart {
    type Error = buffered_uarte::Error;

    fn send(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = embassy_futures::block_on(self.0.write(rest))?;
            rest = &rest[written..];
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, Self::Error> {
        // With something there it does not wait.
        if self.0.read_ready()? { embassy_futures::block_on(self.0.read(bytes)) } else { Ok(0) }
    }
}

/// One part of the chip's flash.
struct Region {
    nvmc: Nvmc<'static>,
    from: u32,
    bytes: u32,
}

impl Region {
    fn new(from: u32, bytes: u32) -> Self {
        // SAFETY: the parts do not overlap and belong to the node's loop alone, which uses one at a time.
        let controller = unsafe { peripherals::NVMC::steal() };
        Self { nvmc: Nvmc::new(controller), from, bytes }
    }
}

impl ErrorType for Region {
    type Error = <Nvmc<'static> as ErrorType>::Error;
}

impl ReadNorFlash for Region {
    const READ_SIZE: usize = <Nvmc<'static> as ReadNorFlash>::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.nvmc.read(self.from + offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.bytes as usize
    }
}

impl NorFlash for Region {
    const WRITE_SIZE: usize = <Nvmc<'static> as NorFlash>::WRITE_SIZE;
    const ERASE_SIZE: usize = <Nvmc<'static> as NorFlash>::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.nvmc.erase(self.from + from, self.from + to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.nvmc.write(self.from + offset, bytes)
    }
}

impl Flash for Region {
    fn view(&self, offset: u32, len: usize) -> Option<&'static [u8]> {
        let end = usize::try_from(offset).ok()?.checked_add(len)?;
        if end > self.bytes as usize {
            return None;
        }
        // SAFETY: flash of this chip, mapped for reading; what a view shows is written only after the node has let go of it.
        Some(unsafe { core::slice::from_raw_parts((self.from + offset) as *const u8, len) })
    }
}

/// The chip's watchdog: four seconds.
struct Dog(WatchdogHandle);

impl Watchdog for Dog {
    fn feed(&mut self) {
        self.0.pet();
    }
}

/// The bootloader has the next word.
fn restart() {
    cortex_m::peripheral::SCB::sys_reset();
}

fn now() -> Monotonic {
    Monotonic(Instant::now().as_micros())
}

fn start_faults(flash: &mut Region) -> Option<FaultLog> {
    let reasons = pac::POWER.resetreas().read();
    // Writing ones clears them.
    pac::POWER.resetreas().write_value(reasons);
    let reset = if reasons.dog() {
        Reset::Watchdog
    } else if reasons.sreq() {
        Reset::Software
    } else {
        Reset::Power
    };
    // SAFETY: nothing else runs yet, and every bit pattern is a good value.
    FaultLog::start(flash, SLOTS_BYTES, unsafe { &mut *(&raw mut KEPT) }, reset).ok()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    // SAFETY: interrupts are off and nothing returns from here.
    Faults::panicked(unsafe { &mut *(&raw mut KEPT) }, info, Monotonic(0));
    cortex_m::peripheral::SCB::sys_reset()
}

/// Left alone by the start-up code.
#[unsafe(link_section = ".uninit.kept")]
static mut KEPT: [u8; KEPT_BYTES] = [0; KEPT_BYTES];
/// Half a second of samples.
static RING_CELL: Mutex<RefCell<Ring<RING>>> = Mutex::new(RefCell::new(Ring::new(0)));

/// What a manifest of an image for this board names as its class.
const BOARD: &str = "nrf52840";
const RING: usize = 1600;
const STEP_G: f32 = 1.0 / 256.0;
const TEMPERATURE_EVERY: Micros = Micros::from_secs(1);
/// Log and models; the account of faults lies behind them.
const SLOTS_BYTES: u32 = PAGES_BYTES - FaultLog::bytes::<Region>();
/// Sleeps are taken in naps that the watchdog allows.
const NAP_US: i64 = 1_000_000;
