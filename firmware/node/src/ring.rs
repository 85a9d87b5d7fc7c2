//! The ring that a DMA fills while nobody watches: what was overwritten before it was read is counted, never glossed over.
//!
//! A DMA in circular mode writes raw samples round and round and interrupts at half and at full. Each interrupt calls
//! [`Ring::advance`]; the loop calls [`Ring::take`]. Positions count samples since boot, so a loss is simply the distance
//! between what was read last and the oldest sample that is still whole.

use kilter_types::Monotonic;

use crate::{Accelerometer, Filled};

/// Room for `N` raw samples.
#[derive(Debug)]
pub struct Ring<const N: usize> {
    raw: [i16; N],
    /// Samples that the DMA may be overwriting right now: half the ring with half-transfer interrupts, 0 with [`Ring::push`].
    guard: usize,
    written: u64,
    read: u64,
    /// Nothing below can be read any more, because the sensor itself lost something there.
    whole: u64,
    newest: Monotonic,
}

impl<const N: usize> Ring<N> {
    /// An empty ring of which `guard` samples (at most `N - 1`) may always be under the DMA's pen.
    pub const fn new(guard: usize) -> Self {
        let guard = if guard < N { guard } else { N - 1 };
        Self { raw: [0; N], guard, written: 0, read: 0, whole: 0, newest: Monotonic(0) }
    }

    /// The DMA's memory.
    pub fn buffer(&mut self) -> &mut [i16; N] {
        &mut self.raw
    }

    /// The DMA has written so many samples since the last call, the newest of them at `now`.
    pub fn advance(&mut self, count: usize, now: Monotonic) {
        self.written = self.written.saturating_add(count as u64);
        self.newest = now;
    }

    /// Writes samples as a DMA would: for sensors with a FIFO of their own. The newest was taken at `now`.
    pub fn push(&mut self, raw: &[i16], now: Monotonic) {
        for sample in raw {
            self.raw[(self.written % N as u64) as usize] = *sample;
            self.written += 1;
        }
        self.newest = now;
    }

    /// The sensor itself lost so many samples before what comes next; what nobody has read yet is given up with them.
    pub fn lose(&mut self, count: u64) {
        self.written = self.written.saturating_add(count);
        self.whole = self.written;
    }

    /// Moves the oldest samples out, each times `scale`; `period_ns` is the time between two samples.
    pub fn take(&mut self, out: &mut [f32], scale: f32, period_ns: u64) -> Filled {
        let oldest = self.written.saturating_sub((N - self.guard) as u64).max(self.whole);
        let lost = oldest.saturating_sub(self.read);
        let first = self.read + lost;
        let len = usize::try_from(self.written - first).unwrap_or(out.len()).min(out.len());
        for (i, sample) in out.iter_mut().take(len).enumerate() {
            *sample = f32::from(self.raw[((first + i as u64) % N as u64) as usize]) * scale;
        }
        self.read = first + len as u64;
        let age_us = (self.written - first).saturating_sub(1).saturating_mul(period_ns) / 1000;
        Filled { len, lost, t0: Monotonic(self.newest.0.saturating_sub(age_us)) }
    }

    /// Forgets what is there; positions go on.
    pub fn clear(&mut self) {
        self.read = self.written;
    }
}

/// Lends a ring that an interrupt also reaches: a board passes its critical section.
pub trait Lend<const N: usize> {
    /// Runs `f` on the ring while nobody else does.
    fn with<T>(&mut self, f: impl FnOnce(&mut Ring<N>) -> T) -> T;
}

impl<const N: usize> Lend<N> for Ring<N> {
    fn with<T>(&mut self, f: impl FnOnce(&mut Ring<N>) -> T) -> T {
        f(self)
    }
}

/// An accelerometer whose samples an interrupt or a DMA puts into a ring.
#[derive(Debug)]
pub struct Sampler<R, const N: usize> {
    ring: R,
    /// Value of one raw step in the channel's unit.
    scale: f32,
    period_ns: u64,
}

impl<R: Lend<N>, const N: usize> Sampler<R, N> {
    /// A sampler over this ring: `scale` per raw step, `rate_hz` samples a second.
    pub fn new(ring: R, scale: f32, rate_hz: u32) -> Self {
        Self { ring, scale, period_ns: 1_000_000_000 / u64::from(rate_hz.max(1)) }
    }

    /// The ring.
    pub fn ring(&mut self) -> &mut R {
        &mut self.ring
    }
}

impl<R: Lend<N>, const N: usize> Accelerometer for Sampler<R, N> {
    type Error = core::convert::Infallible;

    fn fill(&mut self, samples: &mut [f32]) -> Result<Filled, Self::Error> {
        let (scale, period_ns) = (self.scale, self.period_ns);
        Ok(self.ring.with(|ring| ring.take(samples, scale, period_ns)))
    }

    fn sleep(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn wake(&mut self) -> Result<(), Self::Error> {
        self.ring.with(Ring::clear);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Sample number `i` has this value, whoever reads it.
    fn value(i: u64) -> i16 {
        (i % 30_000) as i16
    }

    #[test]
    fn whatever_the_reader_misses_is_counted_and_the_rest_is_in_order() {
        let mut state = 3u32;
        let mut ring = Ring::<64>::new(0);
        let (mut made, mut seen, mut lost) = (0u64, 0u64, 0u64);
        for _ in 0..5_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (write, read) = ((state >> 9) as usize % 90, (state >> 20) as usize % 60);
            let raw: Vec<i16> = (made..made + write as u64).map(value).collect();
            made += write as u64;
            ring.push(&raw, Monotonic(made * 1000));
            let mut out = [0.0; 60];
            let filled = ring.take(&mut out[..read], 1.0, 1_000_000);
            lost += filled.lost;
            let first = seen + lost;
            for (i, sample) in out[..filled.len].iter().enumerate() {
                assert_eq!(*sample, f32::from(value(first + i as u64)));
            }
            if filled.len > 0 {
                // Sample i was taken at (i + 1) ms.
                assert_eq!(filled.t0, Monotonic((first + 1) * 1000));
            }
            seen += filled.len as u64;
        }
        let mut out = [0.0; 64];
        let filled = ring.take(&mut out, 1.0, 1_000_000);
        assert_eq!(seen + filled.len as u64 + lost + filled.lost, made);
        assert!(lost > 1000 && seen > 1000, "{lost} {seen}");
    }

    #[test]
    fn what_the_dma_may_be_writing_is_never_read() {
        let mut ring = Ring::<8>::new(4);
        ring.buffer().copy_from_slice(&[0, 1, 2, 3, 4, 5, 6, 7]);
        ring.advance(8, Monotonic(8000));
        let mut out = [0.0; 8];
        let filled = ring.take(&mut out, 0.5, 1_000_000);
        assert_eq!((filled.len, filled.lost), (4, 4));
        assert_eq!(out[..4], [2.0, 2.5, 3.0, 3.5]);
    }
}
