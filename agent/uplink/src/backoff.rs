//! Waiting between attempts: twice as long each time up to a limit, with jitter so that a fleet does not come back as one.

/// Delays in microseconds; never gives up.
#[derive(Clone, Debug)]
pub struct Backoff {
    first_us: u64,
    most_us: u64,
    next_us: u64,
    random: u64,
}

impl Backoff {
    /// From `first_us` up to `most_us`; `seed` should differ from device to device.
    pub fn new(first_us: u64, most_us: u64, seed: u64) -> Self {
        let first_us = first_us.max(1);
        Self { first_us, most_us: most_us.max(first_us), next_us: first_us, random: seed | 1 }
    }

    /// How long to wait now: between half of the step and the whole.
    pub fn delay_us(&mut self) -> u64 {
        let step_us = self.next_us;
        self.next_us = step_us.saturating_mul(2).min(self.most_us);
        // xorshift64: enough to spread a fleet.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half_us = step_us / 2;
        half_us + self.random % (step_us - half_us + 1)
    }

    /// It worked: start small again.
    pub fn reset(&mut self) {
        self.next_us = self.first_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_differ_between_devices() {
        let mut one = Backoff::new(1_000, 8_000, 7);
        let mut other = Backoff::new(1_000, 8_000, 8);
        let delays: Vec<u64> = (0..6).map(|_| one.delay_us()).collect();
        for (delay, step) in delays.iter().zip([1_000, 2_000, 4_000, 8_000, 8_000, 8_000]) {
            assert!((step / 2..=step).contains(delay), "{delay} for {step}");
        }
        assert_ne!(delays, (0..6).map(|_| other.delay_us()).collect::<Vec<_>>());
        one.reset();
        assert!(one.delay_us() <= 1_000);
    }
}
