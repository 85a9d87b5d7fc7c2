//! Sensors behind `embedded-hal` 1.0: whole FIFOs at once, because at 3.2 kHz nobody has time for single samples.
//!
//! The crates that exist for these parts (`lis3dh`, `adxl345-eh-driver`, `tmp117`) read one sample per call, without the FIFO and
//! its overrun flag, or bring more dependencies than the forty lines that are needed here; so these are our own.

mod adxl345;
mod fifo;
mod lis2dw12;
mod tmp117;

pub use adxl345::Adxl345;
pub use lis2dw12::Lis2dw12;
pub use tmp117::Tmp117;

/// Which axis of a three-axis sensor lies across the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// x
    X,
    /// y
    Y,
    /// z
    Z,
}

impl Axis {
    /// This axis of a sample of three 16-bit values, low byte first.
    fn of(self, bytes: &[u8; 6]) -> i16 {
        let [x0, x1, y0, y1, z0, z1] = *bytes;
        i16::from_le_bytes(match self {
            Self::X => [x0, x1],
            Self::Y => [y0, y1],
            Self::Z => [z0, z1],
        })
    }
}

/// Why a sensor gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SensorError<E> {
    /// The bus.
    Bus(E),
    /// Another part answers at this address.
    Identity(u16),
    /// It has not measured yet.
    NotReady,
}

impl<E> From<E> for SensorError<E> {
    fn from(error: E) -> Self {
        Self::Bus(error)
    }
}
