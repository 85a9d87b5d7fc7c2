//! Samples to numbers: the features, the diagnosis and the sensor's own health.
//!
//! One implementation serves microcontroller, gateway and server, and it gives the same bits on all of them: f32 with `libm`,
//! sums in eight fixed lanes with a fixed tree ([`lanes`]), an FFT of our own ([`fft`]), no fused multiply-add, no allocation,
//! buffers owned by the caller. [`table`] holds every feature's definition with its hash; [`extract`] computes Set S. What looks closer at a whole recording builds on
//! the same transform: [`welch`], [`cepstrum`], [`kurtogram`], [`order`], [`demodulate`] with [`bearing_sign`] and [`verdict`], [`gear`].
//! [`sliding`] follows a few lines from sample to sample.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod axis;
pub mod bearing;
pub mod bearing_sign;
pub mod cepstrum;
pub mod demodulate;
pub mod diagnose;
pub mod envelope;
pub mod extract;
pub mod fft;
pub mod gear;
pub mod health;
pub mod impute;
pub mod kurtogram;
pub mod lanes;
pub mod line;
pub mod moment;
pub mod order;
pub mod reading;
mod simd;
pub mod sliding;
pub mod spectrum;
pub mod speed;
pub mod table;
pub mod temperature;
pub mod verdict;
pub mod welch;
pub mod zone;
