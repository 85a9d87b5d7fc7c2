//! LIS2DW12 on I2C: 1600 samples per second, 14 bits, ±16 g, 1.952 mg per step, FIFO of 32 in continuous mode.
//!
//! Registers from its data sheet (ST, DS11811); the way the FIFO is read in one burst from its application note (AN5038).

use embedded_hal::i2c::I2c;
use kilter_types::Monotonic;

use super::{Axis, SensorError, fifo::Pace};
use crate::{Accelerometer, Filled};

/// The sensor; `C` lends the clock.
#[derive(Debug)]
pub struct Lis2dw12<I, C> {
    i2c: I,
    clock: C,
    address: u8,
    axis: Axis,
    pace: Pace,
}

impl<I: I2c, C: FnMut() -> Monotonic> Lis2dw12<I, C> {
    /// Samples per second.
    pub const RATE_HZ: u32 = 1600;
    /// Its address with SA0 low; high is one more.
    pub const ADDRESS: u8 = 0x18;

    /// Asks who is there, sets rate, range and FIFO, and starts.
    pub fn new(i2c: I, clock: C, address: u8, axis: Axis) -> Result<Self, SensorError<I::Error>> {
        let mut sensor = Self { i2c, clock, address, axis, pace: Pace::new(Self::RATE_HZ) };
        let identity = sensor.read(WHO_AM_I)?;
        if identity != IDENTITY {
            return Err(SensorError::Identity(u16::from(identity)));
        }
        sensor.write(CTRL2, BLOCK_UPDATE_AND_INCREMENT)?;
        sensor.write(CTRL6, RANGE_16_G)?;
        sensor.write(FIFO_CTRL, CONTINUOUS)?;
        sensor.write(CTRL1, HIGH_PERFORMANCE_1600)?;
        Ok(sensor)
    }

    /// The parts again.
    pub fn release(self) -> (I, C) {
        (self.i2c, self.clock)
    }

    fn write(&mut self, register: u8, value: u8) -> Result<(), I::Error> {
        self.i2c.write(self.address, &[register, value])
    }

    fn read(&mut self, register: u8) -> Result<u8, I::Error> {
        let mut value = [0];
        self.i2c.write_read(self.address, &[register], &mut value)?;
        Ok(value[0])
    }
}

impl<I: I2c, C: FnMut() -> Monotonic> Accelerometer for Lis2dw12<I, C> {
    type Error = SensorError<I::Error>;

    fn fill(&mut self, samples: &mut [f32]) -> Result<Filled, Self::Error> {
        let status = self.read(FIFO_SAMPLES)?;
        let now = (self.clock)();
        let entries = usize::from(status & ENTRIES);
        let taken = entries.min(samples.len());
        for part in samples[..taken].chunks_mut(BURST) {
            let mut bytes = [0; 6 * BURST];
            let bytes = &mut bytes[..6 * part.len()];
            // Within a burst the address goes back from the last output register to the first.
            self.i2c.write_read(self.address, &[OUT], bytes)?;
            let (values, _) = bytes.as_chunks::<6>();
            for (sample, bytes) in part.iter_mut().zip(values) {
                // 14 bits, left-justified.
                *sample = f32::from(self.axis.of(bytes) >> 2) * G_PER_STEP;
            }
        }
        Ok(self.pace.account(now, entries, taken, status & OVERRUN != 0))
    }

    fn sleep(&mut self) -> Result<(), Self::Error> {
        Ok(self.write(CTRL1, POWER_DOWN)?)
    }

    fn wake(&mut self) -> Result<(), Self::Error> {
        self.write(FIFO_CTRL, BYPASS)?;
        self.write(FIFO_CTRL, CONTINUOUS)?;
        self.write(CTRL1, HIGH_PERFORMANCE_1600)?;
        self.pace.restart();
        Ok(())
    }
}

/// Samples per burst.
const BURST: usize = 8;
const WHO_AM_I: u8 = 0x0F;
const CTRL1: u8 = 0x20;
const CTRL2: u8 = 0x21;
const CTRL6: u8 = 0x25;
const OUT: u8 = 0x28;
const FIFO_CTRL: u8 = 0x2E;
const FIFO_SAMPLES: u8 = 0x2F;
const IDENTITY: u8 = 0x44;
const BLOCK_UPDATE_AND_INCREMENT: u8 = 0x0C;
const RANGE_16_G: u8 = 0x30;
const BYPASS: u8 = 0x00;
const CONTINUOUS: u8 = 0xC0;
const HIGH_PERFORMANCE_1600: u8 = 0x94;
const POWER_DOWN: u8 = 0x00;
const OVERRUN: u8 = 0x40;
const ENTRIES: u8 = 0x3F;
const G_PER_STEP: f32 = 1.952e-3;
