//! Virtual time: events in the order of their instants, and a clock that jumps from one to the next.

use std::cmp::Ordering;
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
#[derive(Debug)]
pub struct Scheduler<E> {
    time: WorldTime,
    queue: BinaryHeap<Item<E>>,
    pushed: u64,
}

#[derive(Debug)]
struct Item<E> {
    at_us: u64,
    order: u64,
    event: E,
}

impl<E> Scheduler<E> {
    /// An empty world at its beginning.
    pub fn new() -> Self {
        Self { time: WorldTime::default(), queue: BinaryHeap::new(), pushed: 0 }
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
        self.queue.push(Item { at_us: at_us.max(self.now_us()), order: self.pushed, event });
        self.pushed += 1;
    }

    /// Jumps to the next event; `None` when nothing will ever happen again.
    pub fn jump(&mut self) -> Option<E> {
        let item = self.queue.pop()?;
        self.time.0.store(item.at_us, Memory::Relaxed);
        Some(item.event)
    }
}

impl<E> Default for Scheduler<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Ord for Item<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first.
        (other.at_us, other.order).cmp(&(self.at_us, self.order))
    }
}

impl<E> PartialOrd for Item<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Item<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Item<E> {}

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
