//! Samples to numbers: the features, the diagnosis and the sensor's own health.
//!
//! One implementation serves microcontroller, gateway and server, and it gives the same bits on all of them: f32 with `libm`,
//! sums in eight fixed lanes with a fixed tree ([`lanes`]), an FFT of our own ([`fft`]), no fused multiply-add, no allocation,
//! buffers owned by the caller. [`table`] holds every feature's definition with its hash; [`extract`] computes them.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod bearing;
pub mod diagnose;
pub mod envelope;
pub mod extract;
pub mod fft;
pub mod health;
pub mod lanes;
pub mod line;
pub mod moment;
pub mod reading;
mod simd;
pub mod spectrum;
pub mod table;
pub mod temperature;
pub mod zone;
