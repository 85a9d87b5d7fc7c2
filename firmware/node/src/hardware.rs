//! What a board must bring.

use embedded_hal::digital::OutputPin;
use kilter_types::{Monotonic, Severity};

/// An accelerometer behind a ring that a DMA fills.
pub trait Accelerometer {
    /// Why nothing could be read.
    type Error;

    /// Moves the oldest samples, in the channel's declared unit, into `samples`.
    fn fill(&mut self, samples: &mut [f32]) -> Result<Filled, Self::Error>;
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
