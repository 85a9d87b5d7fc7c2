//! Virtual time: events in the order of their instants, and a clock that jumps from one to the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Memory};

/// The world's own time in microseconds since its beginning; clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct WorldTime(Arc<AtomicU64>);

impl WorldTime {
    /// Microseconds since the world's beginning.
    pub fn now_us(&self) -> u64 {
        self.0.load(Memory::Relaxed)
    }
}

/// Events by time; those of one instant come in the order in which they were pushed.
///
/// The queue moves numbers only: when, in which order, and which place of `events` it is.
#[derive(Debug)]
pub struct Scheduler<E> {
    time: WorldTime,
    queue: BinaryHeap<Reverse<(u64, Turn)>>,
    pushed: u64,
    events: Vec<Option<E>>,
    free: Vec<usize>,
}

/// The number of an event in its high bits, its place in the low ones.
type Turn = u64;

impl<E> Scheduler<E> {
    /// An empty world at its beginning.
    pub fn new() -> Self {
        let (queue, events, free) = (BinaryHeap::new(), Vec::new(), Vec::new());
        Self { time: WorldTime::default(), queue, pushed: 0, events, free }
    }

    /// The time, to be lent to clocks.
    pub fn time(&self) -> WorldTime {
        self.time.clone()
    }

    /// Microseconds since the world's beginning.
    pub fn now_us(&self) -> u64 {
        self.time.now_us()
    }

    /// Lets `event` happen at `at_us`, or now if that is over.
    pub fn push(&mut self, at_us: u64, event: E) {
        let place = self.free.pop().unwrap_or(self.events.len());
        if place == self.events.len() {
            self.events.push(None);
        }
        assert!(place < 1 << PLACE_BITS && self.pushed < 1 << (u64::BITS - PLACE_BITS), "a world of this size");
        self.events[place] = Some(event);
        let turn = self.pushed << PLACE_BITS | place as u64;
        self.queue.push(Reverse((at_us.max(self.now_us()), turn)));
        self.pushed += 1;
    }

    /// Jumps to the next event; `None` when nothing will ever happen again.
    pub fn jump(&mut self) -> Option<E> {
        let Reverse((at_us, turn)) = self.queue.pop()?;
        self.time.0.store(at_us, Memory::Relaxed);
        let place = (turn & ((1 << PLACE_BITS) - 1)) as usize;
        self.free.push(place);
        self.events[place].take()
    }
}

impl<E> Default for Scheduler<E> {
    fn default() -> Self {
        Self::new()
    }
}

/// Sixteen million events at a time, a million million in all.
const PLACE_BITS: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_jumps_to_the_next_event_and_never_back() {
        let mut world = Scheduler::new();
        let time = world.time();
        world.push(30, "late");
        world.push(10, "first");
        world.push(10, "second");
        assert_eq!((world.jump(), time.now_us()), (Some("first"), 10));
        world.push(5, "missed");
        assert_eq!((world.jump(), time.now_us()), (Some("second"), 10));
        assert_eq!((world.jump(), time.now_us()), (Some("missed"), 10));
        assert_eq!((world.jump(), time.now_us()), (Some("late"), 30));
        assert_eq!(world.jump(), None);
    }
}
