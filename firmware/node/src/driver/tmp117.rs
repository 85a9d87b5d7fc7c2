//! TMP117 on I2C: 7.8125 m°C per step, converting once per second by itself after power-up.
//!
//! Registers from its data sheet (Texas Instruments, SNOSD82).

use embedded_hal::i2c::I2c;
use kilter_types::Celsius;

use super::SensorError;
use crate::Thermometer;

/// The sensor.
#[derive(Debug)]
pub struct Tmp117<I> {
    i2c: I,
    address: u8,
}

impl<I: I2c> Tmp117<I> {
    /// Its address with ADD0 at ground.
    pub const ADDRESS: u8 = 0x48;

    /// Asks who is there.
    pub fn new(i2c: I, address: u8) -> Result<Self, SensorError<I::Error>> {
        let mut sensor = Self { i2c, address };
        // The upper four bits are the revision.
        let identity = sensor.register(DEVICE_ID)? & 0x0FFF;
        if identity == IDENTITY { Ok(sensor) } else { Err(SensorError::Identity(identity)) }
    }

    /// The bus again.
    pub fn release(self) -> I {
        self.i2c
    }

    fn register(&mut self, register: u8) -> Result<u16, I::Error> {
        let mut value = [0; 2];
        self.i2c.write_read(self.address, &[register], &mut value)?;
        Ok(u16::from_be_bytes(value))
    }
}

impl<I: I2c> Thermometer for Tmp117<I> {
    type Error = SensorError<I::Error>;

    fn read(&mut self) -> Result<Celsius, Self::Error> {
        let raw = self.register(TEMPERATURE)?.cast_signed();
        if raw == NEVER_MEASURED { Err(SensorError::NotReady) } else { Ok(Celsius(f32::from(raw) * DEGREES_PER_STEP)) }
    }
}

const TEMPERATURE: u8 = 0x00;
const DEVICE_ID: u8 = 0x0F;
const IDENTITY: u16 = 0x0117;
/// -256 °C stands in the register until the first conversion is done.
const NEVER_MEASURED: i16 = i16::MIN;
const DEGREES_PER_STEP: f32 = 0.007_812_5;
