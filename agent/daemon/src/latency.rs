//! How long decisions take: a histogram that a scraper can read.

/// Durations in buckets of powers of four, from 64 us to 4 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latency {
    counts: [u64; BOUNDS_US.len()],
    over: u64,
    sum_us: u64,
}

impl Latency {
    pub(crate) fn note(&mut self, us: u64) {
        match BOUNDS_US.iter().position(|bound| us <= *bound) {
            Some(at) => self.counts[at] += 1,
            None => self.over += 1,
        }
        self.sum_us += us;
    }

    /// Upper bounds in seconds with how many were at most so long, as Prometheus counts them.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let sums = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).zip(sums)
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.over
    }

    pub(crate) fn sum_secs(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }
}

const BOUNDS_US: [u64; 9] = [64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_counts_in_its_bucket_and_in_all_above() {
        let mut latency = Latency::default();
        [10, 64, 65, 20_000, 9_000_000].into_iter().for_each(|us| latency.note(us));
        let counts: Vec<u64> = latency.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 3, 3, 3, 3, 4, 4, 4, 4]);
        assert_eq!((latency.count(), latency.sum_secs()), (5, 9.020139));
    }
}
