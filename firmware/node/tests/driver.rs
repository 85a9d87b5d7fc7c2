//! Drivers against the sequences of their data sheets: every byte on the bus is expected, none is left over.

use embedded_hal_mock::eh1::delay::NoopDelay;
use embedded_hal_mock::eh1::i2c::{Mock as I2c, Transaction as OnI2c};
use embedded_hal_mock::eh1::spi::{Mock as Spi, Transaction as OnSpi};
use kilter_node::driver::{Adxl345, Axis, Lis2dw12, SensorError, Tmp117};
use kilter_node::{Accelerometer as _, Thermometer as _};
use kilter_types::{Celsius, Monotonic};

/// A clock that shows these times, one after the other.
fn clock(times: &'static [u64]) -> impl FnMut() -> Monotonic {
    let mut times = times.iter();
    move || Monotonic(*times.next().expect("nobody looks so often"))
}

fn spi_write(bytes: &[u8]) -> Vec<OnSpi<u8>> {
    vec![OnSpi::transaction_start(), OnSpi::write_vec(bytes.to_vec()), OnSpi::transaction_end()]
}

fn spi_read(command: u8, answer: &[u8]) -> Vec<OnSpi<u8>> {
    let (write, read) = (OnSpi::write_vec(vec![command]), OnSpi::read_vec(answer.to_vec()));
    vec![OnSpi::transaction_start(), write, read, OnSpi::transaction_end()]
}

/// Identity, standby, 3200 Hz, full resolution at 16 g, stream mode, measure.
fn adxl345_start() -> Vec<OnSpi<u8>> {
    let setup = [[0x2D, 0x00], [0x2C, 0x0F], [0x31, 0x0B], [0x38, 0x80], [0x2D, 0x08]];
    spi_read(0x80, &[0xE5]).into_iter().chain(setup.iter().flat_map(|bytes| spi_write(bytes))).collect()
}

#[test]
fn adxl345_starts_reads_its_fifo_tells_an_overrun_and_sleeps() {
    let mut expected = adxl345_start();
    // Two entries: z = 256 steps (1 g) and -128 steps (-0.5 g).
    expected.extend(spi_read(0xB0, &[0x82]));
    expected.extend(spi_read(0xB9, &[0x02]));
    expected.extend(spi_read(0xF2, &[1, 0, 2, 0, 0x00, 0x01]));
    expected.extend(spi_read(0xF2, &[1, 0, 2, 0, 0x80, 0xFF]));
    // 20 ms later (64 samples) the FIFO is full and has overrun: 32 are gone; only one is wanted now.
    expected.extend(spi_read(0xB0, &[0x83]));
    expected.extend(spi_read(0xB9, &[0x20]));
    expected.extend(spi_read(0xF2, &[0, 0, 0, 0, 0x00, 0x00]));
    expected.extend(spi_write(&[0x2D, 0x00]));
    expected.extend([[0x38, 0x00], [0x38, 0x80], [0x2D, 0x08]].iter().flat_map(|bytes| spi_write(bytes)));
    let clock = clock(&[1_000_000, 1_020_000]);
    let mut sensor = Adxl345::new(Spi::new(&expected), NoopDelay::new(), clock, Axis::Z).expect("it is there");
    let mut samples = [9.0; 8];
    let filled = sensor.fill(&mut samples).expect("the bus works");
    assert_eq!((filled.len, filled.lost, &samples[..2]), (2, 0, &[1.0, -0.5][..]));
    // The newest was taken now, the first one period of 312.5 us before.
    assert_eq!(filled.t0, Monotonic(1_000_000 - 312));
    let filled = sensor.fill(&mut samples[..1]).expect("the bus works");
    assert_eq!((filled.len, filled.lost), (1, 32));
    sensor.sleep().expect("the bus works");
    sensor.wake().expect("the bus works");
    let (mut spi, ..) = sensor.release();
    spi.done();
}

#[test]
fn adxl345_is_not_taken_for_another_part() {
    let mut spi = Spi::new(&spi_read(0x80, &[0x33]));
    let refused = Adxl345::new(spi.clone(), NoopDelay::new(), clock(&[]), Axis::X);
    assert_eq!(refused.err(), Some(SensorError::Identity(0x33)));
    spi.done();
}

#[test]
fn lis2dw12_starts_and_reads_its_fifo_in_bursts_of_eight() {
    const AT: u8 = Lis2dw12::<I2c, fn() -> Monotonic>::ADDRESS;
    let mut expected = vec![OnI2c::write_read(AT, vec![0x0F], vec![0x44])];
    for setup in [[0x21, 0x0C], [0x25, 0x30], [0x2E, 0xC0], [0x20, 0x94]] {
        expected.push(OnI2c::write(AT, setup.to_vec()));
    }
    // Nine entries, overrun: y counts 1, 2, 3, ... steps of 1.952 mg, left-justified by two bits.
    let entry = |i: u8| [0, 0, i * 4, 0, 0, 0];
    expected.push(OnI2c::write_read(AT, vec![0x2F], vec![0x40 | 9]));
    expected.push(OnI2c::write_read(AT, vec![0x28], (1..=8).flat_map(entry).collect()));
    expected.push(OnI2c::write_read(AT, vec![0x28], entry(9).to_vec()));
    let mut i2c = I2c::new(&expected);
    let mut sensor = Lis2dw12::new(i2c.clone(), clock(&[5_000]), AT, Axis::Y).expect("it is there");
    let mut samples = [0.0; 32];
    let filled = sensor.fill(&mut samples).expect("the bus works");
    assert_eq!(filled.len, 9);
    for (i, sample) in samples[..9].iter().enumerate() {
        assert_eq!(*sample, (i + 1) as f32 * 1.952e-3);
    }
    i2c.done();
}

#[test]
fn tmp117_tells_the_temperatures_of_its_data_sheet() {
    const AT: u8 = Tmp117::<I2c>::ADDRESS;
    let mut expected = vec![OnI2c::write_read(AT, vec![0x0F], vec![0x11, 0x17])];
    let known = [(0x0C80, 25.0), (0x3200, 100.0), (0xFFFF, -0.007_812_5), (0xF380, -25.0), (0x0001, 0.007_812_5)];
    for (raw, _) in known {
        expected.push(OnI2c::write_read(AT, vec![0x00], u16::to_be_bytes(raw).to_vec()));
    }
    expected.push(OnI2c::write_read(AT, vec![0x00], vec![0x80, 0x00]));
    let mut i2c = I2c::new(&expected);
    let mut sensor = Tmp117::new(i2c.clone(), AT).expect("it is there");
    for (_, degrees) in known {
        assert_eq!(sensor.read(), Ok(Celsius(degrees)));
    }
    assert_eq!(sensor.read(), Err(SensorError::NotReady));
    i2c.done();
}
