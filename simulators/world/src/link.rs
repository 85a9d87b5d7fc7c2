//! One way of a link between two nodes: late, narrow, lossy, repeating, out of order, cut. Bounded like a socket's buffers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::Random;

/// How bad a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Shortest time on the way.
    pub latency_us: u64,
    /// What may be added to it.
    pub jitter_us: u64,
    /// Frames lost, in a million.
    pub loss_ppm: u32,
    /// Frames that arrive twice, in a million.
    pub duplicate_ppm: u32,
    /// Frames that may be overtaken, in a million; they take up to ten seconds more.
    pub reorder_ppm: u32,
    /// What it carries; a frame begins its way when those before it have left. 0: as much as comes.
    pub bytes_per_sec: u64,
    /// Most bytes on the way or waiting for it; what would be more is lost.
    pub max_bytes: usize,
}

/// What a link has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Frames given to it.
    pub sent: u64,
    /// Frames handed out.
    pub received: u64,
    /// Frames lost, whatever the cause.
    pub lost: u64,
    /// Of them those for which there was no room.
    pub crowded: u64,
    /// Frames that were sent once and are handed out twice.
    pub doubled: u64,
    /// Most bytes that were on the way together.
    pub most_bytes: usize,
}

/// One direction of a link.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    random: Random,
    on_the_way: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    bytes: usize,
    partitioned: bool,
    last_us: u64,
    /// When the last frame has left.
    free_us: u64,
    counters: LinkCounters,
}

impl Link {
    /// An open link.
    pub fn new(config: LinkConfig, random: Random) -> Self {
        let (on_the_way, counters) = (BinaryHeap::new(), LinkCounters::default());
        Self { config, random, on_the_way, bytes: 0, partitioned: false, last_us: 0, free_us: 0, counters }
    }

    /// Sends a frame; returns when copies of it will arrive.
    pub fn send(&mut self, now_us: u64, frame: &[u8]) -> impl Iterator<Item = u64> + use<> {
        self.counters.sent += 1;
        let mut arrivals = [None, None];
        if self.partitioned || self.random.chance_ppm(self.config.loss_ppm) {
            self.counters.lost += 1;
        } else {
            let copies = if self.random.chance_ppm(self.config.duplicate_ppm) { 2 } else { 1 };
            for (copy, arrival) in arrivals.iter_mut().take(copies).enumerate() {
                if self.bytes + frame.len() > self.config.max_bytes {
                    self.counters.lost += u64::from(copy == 0);
                    self.counters.crowded += u64::from(copy == 0);
                    break;
                }
                self.counters.doubled += u64::from(copy == 1);
                let at_us = self.arrival_us(now_us, frame.len());
                self.bytes += frame.len();
                self.counters.most_bytes = self.counters.most_bytes.max(self.bytes);
                self.on_the_way.push(Reverse((at_us, self.counters.sent * 2 + copy as u64, frame.to_vec())));
                *arrival = Some(at_us);
            }
        }
        arrivals.into_iter().flatten()
    }

    /// The next frame that has arrived.
    pub fn receive(&mut self, now_us: u64) -> Option<Vec<u8>> {
        self.on_the_way.peek().filter(|Reverse((at_us, _, _))| *at_us <= now_us)?;
        let Reverse((_, _, frame)) = self.on_the_way.pop()?;
        self.bytes -= frame.len();
        self.counters.received += 1;
        Some(frame)
    }

    /// The connection is gone, and with it what was on the way.
    pub fn cut(&mut self) {
        self.counters.lost += self.on_the_way.len() as u64;
        self.on_the_way.clear();
        (self.bytes, self.last_us, self.free_us) = (0, 0, 0);
    }

    /// Swallows every frame from now on, or no longer; nobody is told.
    pub fn set_partitioned(&mut self, partitioned: bool) {
        self.partitioned = partitioned;
    }

    /// How good or bad it is from now on.
    pub fn set_config(&mut self, config: LinkConfig) {
        self.config = config;
    }

    /// What it has done.
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    fn arrival_us(&mut self, now_us: u64, bytes: usize) -> u64 {
        let takes_us = (bytes as u64 * 1_000_000).checked_div(self.config.bytes_per_sec).unwrap_or(0);
        self.free_us = self.free_us.max(now_us) + takes_us;
        let at_us = self.free_us + self.config.latency_us + self.random.below(self.config.jitter_us + 1);
        if self.random.chance_ppm(self.config.reorder_ppm) {
            return at_us + self.random.below(MOST_OVERTAKEN_US);
        }
        self.last_us = self.last_us.max(at_us);
        self.last_us
    }
}

impl LinkConfig {
    /// A wired network on a good day.
    pub fn good() -> Self {
        Self {
            latency_us: 5_000,
            jitter_us: 5_000,
            loss_ppm: 0,
            duplicate_ppm: 0,
            reorder_ppm: 0,
            bytes_per_sec: 0,
            max_bytes: 256 * 1024,
        }
    }
}

const MOST_OVERTAKEN_US: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(config: LinkConfig) -> (Vec<Vec<u8>>, LinkCounters) {
        let mut link = Link::new(config, Random::new(7, 1));
        let mut last = 0;
        for i in 0..1000u32 {
            last = link.send(u64::from(i) * 1_000, &i.to_be_bytes()).max().unwrap_or(0).max(last);
        }
        let received = std::iter::from_fn(|| link.receive(last)).collect();
        (received, link.counters())
    }

    #[test]
    fn a_good_link_delivers_everything_once_and_in_order() {
        let (received, counters) = run(LinkConfig::good());
        let expected: Vec<Vec<u8>> = (0..1000u32).map(|i| i.to_be_bytes().to_vec()).collect();
        assert_eq!((received, counters.lost, counters.doubled), (expected, 0, 0));
    }

    #[test]
    fn a_bad_link_loses_doubles_and_reorders_and_does_the_same_again() {
        let bad = LinkConfig { loss_ppm: 100_000, duplicate_ppm: 100_000, reorder_ppm: 100_000, ..LinkConfig::good() };
        let (received, counters) = run(bad.clone());
        assert!(counters.lost > 50 && counters.doubled > 50, "{counters:?}");
        assert_eq!(received.len() as u64, counters.sent - counters.lost + counters.doubled);
        assert!(received.iter().zip(received.iter().skip(1)).any(|(one, next)| one > next), "nothing was overtaken");
        assert_eq!(run(bad), (received, counters));
    }

    #[test]
    fn a_narrow_link_carries_what_it_can_in_order_and_what_would_wait_beyond_its_queue_is_lost() {
        let narrow = LinkConfig { bytes_per_sec: 1_000, max_bytes: 4_000, jitter_us: 0, ..LinkConfig::good() };
        let mut link = Link::new(narrow, Random::new(7, 1));
        // Twice what it carries, for a minute.
        let mut received = Vec::new();
        for i in 0..600u64 {
            let now_us = i * 100_000;
            received.extend(std::iter::from_fn(|| link.receive(now_us)));
            let mut frame = [0; 200];
            frame[..8].copy_from_slice(&i.to_be_bytes());
            drop(link.send(now_us, &frame));
        }
        let bytes = received.len() * 200;
        assert!((59_000..=60_000).contains(&bytes), "{bytes} bytes in a minute at 1 kB/s");
        assert!(received.is_sorted(), "and in order");
        let counters = link.counters();
        assert_eq!((counters.lost, counters.most_bytes), (counters.crowded, 4_000));
        assert_eq!(counters.sent - counters.lost, (bytes / 200 + 4_000 / 200) as u64, "the rest waits");
        // What waits longest is as old as the queue is long.
        let oldest = received.last().expect("some came").first_chunk().map(|number| u64::from_be_bytes(*number));
        assert!(oldest.is_some_and(|number| 599 - number <= 45), "{oldest:?}");
        link.cut();
        assert_eq!(link.send(60_000_000, &[1; 1_000]).max(), Some(61_005_000), "a line that was cut is free");
    }

    #[test]
    fn what_does_not_fit_is_lost_and_a_cut_or_partition_takes_the_rest() {
        let (received, counters) = run(LinkConfig { max_bytes: 40, latency_us: 1 << 40, ..LinkConfig::good() });
        assert_eq!((received.len(), counters.most_bytes), (10, 40));
        let mut link = Link::new(LinkConfig::good(), Random::new(7, 1));
        assert_eq!(link.send(0, b"one").count(), 1);
        link.cut();
        link.set_partitioned(true);
        assert_eq!(link.send(0, b"two").count(), 0);
        assert_eq!(link.receive(u64::MAX), None);
        assert_eq!(link.counters().lost, 2);
    }
}
