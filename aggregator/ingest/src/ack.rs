//! Acknowledgements held back until a message is durable, and released in the order in which the messages came.
//!
//! MQTT wants PUBACKs in publish order, while a group commit settles messages whenever it likes and some are refused without
//! ever reaching the journal. So each connection has one [`AckQueue`]: a slot per message, settled in any order, drained from
//! the front only. Refusals take their place in the same queue.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use crate::budget::Reservation;

/// The right, and the duty, to say what became of one message.
///
/// While it lives it holds the message's share of the byte budget. Dropping it unsettled means that the message was lost on
/// the way to the journal: the connection is closed, so that the device sends it again.
pub struct AckHandle {
    queue: Option<Arc<AckQueue>>,
    seq: u64,
    _reservation: Option<Reservation>,
}

impl AckHandle {
    /// The message is durable: the device may forget it.
    pub fn accept(mut self) {
        self.settle(Verdict::Accepted);
    }

    /// The message was not taken, and why.
    pub fn refuse(mut self, reason: Refuse) {
        self.settle(Verdict::Refused(reason));
    }

    fn settle(&mut self, verdict: Verdict) {
        if let Some(queue) = self.queue.take() {
            queue.settle(self.seq, verdict);
        }
    }
}

impl Drop for AckHandle {
    fn drop(&mut self) {
        self.settle(Verdict::Abandoned);
    }
}

impl fmt::Debug for AckHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckHandle").field("seq", &self.seq).finish()
    }
}

/// Why the server did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// The device may not say this (MQTT 0x87).
    NotAuthorized,
    /// The device is past its quota (MQTT 0x97).
    QuotaExceeded,
    /// The payload is not what its topic promises (MQTT 0x99).
    Malformed,
    /// The journal did not take it, for example because its disk is full (MQTT 0x83).
    NotStored,
}

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    Refused(Refuse),
    Abandoned,
}

/// The verdicts of one connection, in publish order.
pub(crate) struct AckQueue {
    slots: Mutex<Slots>,
    waker: Waker,
}

#[derive(Default)]
struct Slots {
    first: u64,
    verdicts: VecDeque<Option<Verdict>>,
}

impl AckQueue {
    /// An empty queue that wakes its connection when the front is settled.
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { slots: Mutex::default(), waker })
    }

    /// Adds a slot for a message on its way to the server.
    pub(crate) fn open(self: &Arc<Self>, reservation: Option<Reservation>) -> AckHandle {
        let mut slots = self.lock();
        let seq = slots.first + slots.verdicts.len() as u64;
        slots.verdicts.push_back(None);
        AckHandle { queue: Some(Arc::clone(self)), seq, _reservation: reservation }
    }

    /// Adds a slot for a message that never goes to the server.
    pub(crate) fn open_settled(&self, verdict: Verdict) {
        self.lock().verdicts.push_back(Some(verdict));
    }

    /// Takes the front verdict if it is there.
    pub(crate) fn pop(&self) -> Option<Verdict> {
        let mut slots = self.lock();
        let verdict = (*slots.verdicts.front()?)?;
        slots.verdicts.pop_front();
        slots.first += 1;
        Some(verdict)
    }

    fn settle(&self, seq: u64, verdict: Verdict) {
        let at_front = {
            let mut slots = self.lock();
            let index = seq.wrapping_sub(slots.first);
            let slot = usize::try_from(index).ok().and_then(|index| slots.verdicts.get_mut(index));
            debug_assert!(slot.is_some(), "an open slot stays in the queue");
            if let Some(slot) = slot {
                *slot = Some(verdict);
            }
            index == 0
        };
        // A slot behind the front is drained with it.
        if at_front {
            self.waker.wake_by_ref();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_leave_in_publish_order_whatever_the_order_of_settling() {
        let queue = AckQueue::new(Waker::noop().clone());
        let (first, second) = (queue.open(None), queue.open(None));
        queue.open_settled(Verdict::Refused(Refuse::NotAuthorized));
        second.accept();
        assert_eq!(queue.pop(), None);
        first.refuse(Refuse::QuotaExceeded);
        assert_eq!(queue.pop(), Some(Verdict::Refused(Refuse::QuotaExceeded)));
        assert_eq!(queue.pop(), Some(Verdict::Accepted));
        assert_eq!(queue.pop(), Some(Verdict::Refused(Refuse::NotAuthorized)));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_dropped_handle_is_an_abandoned_message() {
        let queue = AckQueue::new(Waker::noop().clone());
        drop(queue.open(None));
        assert_eq!(queue.pop(), Some(Verdict::Abandoned));
    }
}
