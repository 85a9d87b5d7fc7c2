//! What a board must bring: traits over `embedded-hal`'s, and the bundle of them.

use embedded_hal::digital::OutputPin;
use embedded_storage::nor_flash::NorFlash;
use kilter_types::{Celsius, Monotonic, Severity};

use crate::{Booted, Images, slots::PART};

/// Everything that one board brings, by type.
pub trait Hardware {
    /// Where vibration comes from.
    type Accelerometer: Accelerometer;
    /// Where temperature comes from; [`Absent`] where there is none.
    type Thermometer: Thermometer;
    /// The way to the gateway.
    type Link: Link;
    /// Lamp and relay.
    type Output: AlarmOutput;
    /// Where models are kept.
    type Flash: Flash;
    /// What resets a node that hangs.
    type Watchdog: Watchdog;
    /// The bootloader; [`Absent`] where there is none.
    type Images: Images;
}

/// The board's parts, handed over once.
pub struct Parts<H: Hardware> {
    /// The accelerometer.
    pub accelerometer: H::Accelerometer,
    /// The thermometer.
    pub thermometer: H::Thermometer,
    /// The link.
    pub link: H::Link,
    /// The alarm output.
    pub output: H::Output,
    /// The flash.
    pub flash: H::Flash,
    /// The watchdog, already running.
    pub watchdog: H::Watchdog,
    /// The bootloader's slots.
    pub images: H::Images,
}

/// An accelerometer behind a ring that a DMA fills.
pub trait Accelerometer {
    /// Why nothing could be read.
    type Error;

    /// Moves the oldest samples, in the channel's declared unit, into `samples`.
    fn fill(&mut self, samples: &mut [f32]) -> Result<Filled, Self::Error>;

    /// Stops sampling and saves power.
    fn sleep(&mut self) -> Result<(), Self::Error>;

    /// Samples again; what was taken before the sleep is gone.
    fn wake(&mut self) -> Result<(), Self::Error>;
}

/// What [`Accelerometer::fill`] moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Samples written, from the front; 0 when there are none yet.
    pub len: usize,
    /// Samples that were overwritten in the ring before these, because nobody came for them.
    pub lost: u64,
    /// When the first of them was taken.
    pub t0: Monotonic,
}

/// A temperature sensor.
pub trait Thermometer {
    /// Why nothing could be read.
    type Error;

    /// The newest temperature.
    fn read(&mut self) -> Result<Celsius, Self::Error>;
}

/// Bytes to and from the gateway: a UART, or whatever stands in for it.
pub trait Link {
    /// Why it did not work.
    type Error;

    /// Sends all bytes, or fails.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Moves what has arrived into `bytes`; how many, 0 when nothing has.
    fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, Self::Error>;
}

/// A lamp, a relay, a message on a bus.
pub trait AlarmOutput {
    /// The machine is as bad as this now.
    fn show(&mut self, severity: Severity);
    /// Stop the machine. Called once per trip; stays until a person resets it.
    fn trip(&mut self);
    /// A person has reset the trip.
    fn release(&mut self);
}

/// Flash with a view of what it holds, so that a model runs from where it lies.
///
/// Offsets begin at 0 with the part that belongs to the node. A part that is in use by a view is not written: the node only
/// ever writes the slot that does not run.
pub trait Flash: NorFlash {
    /// The bytes from `offset` on, as they are now.
    fn view(&self, offset: u32, len: usize) -> Option<&'static [u8]>;
}

/// Resets the node unless it is fed.
pub trait Watchdog {
    /// A whole turn of the loop is done.
    fn feed(&mut self);
}

/// A part that this board does not have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Absent;

impl Thermometer for Absent {
    type Error = ();

    fn read(&mut self) -> Result<Celsius, ()> {
        Err(())
    }
}

impl Watchdog for Absent {
    fn feed(&mut self) {}
}

impl Images for Absent {
    type Error = ();

    fn board(&self) -> &str {
        ""
    }

    fn capacity_bytes(&self) -> u32 {
        0
    }

    fn write(&mut self, _: u32, _: &[u8; PART]) -> Result<(), ()> {
        Err(())
    }

    fn read(&mut self, _: u32, _: &mut [u8; PART]) -> Result<(), ()> {
        Err(())
    }

    fn booted(&mut self) -> Result<Booted, ()> {
        Ok(Booted::Kept)
    }

    fn swap(&mut self) -> Result<(), ()> {
        Err(())
    }

    fn keep(&mut self) -> Result<(), ()> {
        Ok(())
    }

    fn restart(&mut self) {}
}

/// Two pins: a lamp from [`Severity::Alarm`] on, and a trip relay.
#[derive(Debug)]
pub struct PinAlarm<A, T> {
    /// The lamp.
    pub lamp: A,
    /// The relay.
    pub relay: T,
    /// Times that a pin refused.
    pub faults: u32,
}

impl<A: OutputPin, T: OutputPin> AlarmOutput for PinAlarm<A, T> {
    fn show(&mut self, severity: Severity) {
        let set = if severity >= Severity::Alarm { self.lamp.set_high() } else { self.lamp.set_low() };
        self.faults += u32::from(set.is_err());
    }

    fn trip(&mut self) {
        self.faults += u32::from(self.relay.set_high().is_err());
    }

    fn release(&mut self) {
        self.faults += u32::from(self.relay.set_low().is_err());
    }
}
