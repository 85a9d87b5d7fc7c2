//! ADXL345 on SPI (mode 3, at most 5 MHz): 3200 samples per second, ±16 g, 3.9 mg per step, FIFO of 32 in stream mode.
//!
//! Registers and timing from its data sheet (Analog Devices, revision G).

use embedded_hal::delay::DelayNs;
use embedded_hal::spi::{Operation, SpiDevice};
use kilter_types::Monotonic;

use super::{Axis, SensorError, fifo::Pace};
use crate::{Accelerometer, Filled};

/// The sensor; `C` lends the clock.
#[derive(Debug)]
pub struct Adxl345<S, D, C> {
    spi: S,
    delay: D,
    clock: C,
    axis: Axis,
    pace: Pace,
}

impl<S: SpiDevice, D: DelayNs, C: FnMut() -> Monotonic> Adxl345<S, D, C> {
    /// Samples per second.
    pub const RATE_HZ: u32 = 3200;

    /// Asks who is there, sets rate, range and FIFO, and starts.
    pub fn new(spi: S, delay: D, clock: C, axis: Axis) -> Result<Self, SensorError<S::Error>> {
        let mut sensor = Self { spi, delay, clock, axis, pace: Pace::new(Self::RATE_HZ) };
        let identity = sensor.read(DEVICE_ID)?;
        if identity != IDENTITY {
            return Err(SensorError::Identity(u16::from(identity)));
        }
        sensor.write(POWER, STANDBY)?;
        sensor.write(RATE, RATE_3200)?;
        sensor.write(FORMAT, FULL_RESOLUTION_16_G)?;
        sensor.write(FIFO, STREAM)?;
        sensor.write(POWER, MEASURE)?;
        Ok(sensor)
    }

    /// The parts again.
    pub fn release(self) -> (S, D, C) {
        (self.spi, self.delay, self.clock)
    }

    fn write(&mut self, register: u8, value: u8) -> Result<(), S::Error> {
        self.spi.write(&[register, value])
    }

    fn read(&mut self, register: u8) -> Result<u8, S::Error> {
        let mut value = [0];
        self.spi.transaction(&mut [Operation::Write(&[register | READ]), Operation::Read(&mut value)])?;
        Ok(value[0])
    }
}

impl<S: SpiDevice, D: DelayNs, C: FnMut() -> Monotonic> Accelerometer for Adxl345<S, D, C> {
    type Error = SensorError<S::Error>;

    fn fill(&mut self, samples: &mut [f32]) -> Result<Filled, Self::Error> {
        let overrun = self.read(INTERRUPTS)? & OVERRUN != 0;
        let entries = usize::from(self.read(FIFO_STATUS)? & ENTRIES);
        let now = (self.clock)();
        let taken = entries.min(samples.len());
        for sample in samples.iter_mut().take(taken) {
            let mut bytes = [0; 6];
            let read = &mut [Operation::Write(&[DATA | READ | MANY]), Operation::Read(&mut bytes)];
            self.spi.transaction(read)?;
            // The FIFO needs 5 us to bring up the next sample.
            self.delay.delay_us(5);
            *sample = f32::from(self.axis.of(&bytes)) * G_PER_STEP;
        }
        Ok(self.pace.account(now, entries, taken, overrun))
    }

    fn sleep(&mut self) -> Result<(), Self::Error> {
        Ok(self.write(POWER, STANDBY)?)
    }

    fn wake(&mut self) -> Result<(), Self::Error> {
        // Bypass empties the FIFO.
        self.write(FIFO, BYPASS)?;
        self.write(FIFO, STREAM)?;
        self.write(POWER, MEASURE)?;
        self.pace.restart();
        Ok(())
    }
}

const READ: u8 = 0x80;
const MANY: u8 = 0x40;
const DEVICE_ID: u8 = 0x00;
const RATE: u8 = 0x2C;
const POWER: u8 = 0x2D;
const INTERRUPTS: u8 = 0x30;
const FORMAT: u8 = 0x31;
const DATA: u8 = 0x32;
const FIFO: u8 = 0x38;
const FIFO_STATUS: u8 = 0x39;
const IDENTITY: u8 = 0xE5;
const RATE_3200: u8 = 0x0F;
const FULL_RESOLUTION_16_G: u8 = 0x0B;
const BYPASS: u8 = 0x00;
const STREAM: u8 = 0x80;
const STANDBY: u8 = 0x00;
const MEASURE: u8 = 0x08;
const OVERRUN: u8 = 0x01;
const ENTRIES: u8 = 0x3F;
/// Full resolution: 256 steps per g in every range.
const G_PER_STEP: f32 = 1.0 / 256.0;
