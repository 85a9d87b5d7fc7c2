//! The messages for one device: a bounded queue, and the window of those sent and not yet acknowledged.
//!
//! It belongs to the device and outlives its connections. A resumed session repeats what was in flight under the same packet
//! ids; a new session starts over with it as fresh messages, because to us they are the device's mail and not the session's.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use bytes::Bytes;
use rmqtt_codec::types::QoS;

/// One device's mail.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queued: VecDeque<Bytes>,
    in_flight: VecDeque<InFlight>,
    /// How many of `in_flight`, from the front, wait to be sent again.
    to_repeat: usize,
    last_id: u16,
    bytes: usize,
}

/// A message to be written now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Down {
    pub(crate) packet_id: Option<NonZeroU16>,
    pub(crate) dup: bool,
    pub(crate) payload: Bytes,
}

#[derive(Debug)]
struct InFlight {
    packet_id: NonZeroU16,
    payload: Bytes,
}

impl Outbox {
    /// Adds a message; drops the oldest waiting ones past the bounds and returns how many.
    pub(crate) fn push(&mut self, payload: Bytes, limit_messages: usize, limit_bytes: usize) -> u64 {
        let mut dropped = 0;
        while !self.queued.is_empty()
            && (self.queued.len() >= limit_messages || self.bytes + payload.len() > limit_bytes)
        {
            self.discard_oldest();
            dropped += 1;
        }
        self.bytes += payload.len();
        self.queued.push_back(payload);
        dropped
    }

    /// The next message to write, if the window allows one.
    pub(crate) fn poll(&mut self, qos: QoS, window: usize) -> Option<Down> {
        let sent = self.in_flight.len() - self.to_repeat;
        if let Some(again) = self.in_flight.get(sent) {
            if sent >= window {
                return None;
            }
            self.to_repeat -= 1;
            return Some(Down { packet_id: Some(again.packet_id), dup: true, payload: again.payload.clone() });
        }
        if qos == QoS::AtMostOnce {
            let payload = self.queued.pop_front()?;
            self.bytes -= payload.len();
            return Some(Down { packet_id: None, dup: false, payload });
        }
        if sent >= window {
            return None;
        }
        let payload = self.queued.pop_front()?;
        let packet_id = self.free_id();
        self.in_flight.push_back(InFlight { packet_id, payload: payload.clone() });
        Some(Down { packet_id: Some(packet_id), dup: false, payload })
    }

    /// Size of the next message that is not in flight.
    pub(crate) fn next_bytes(&self) -> Option<usize> {
        self.queued.front().map(Bytes::len)
    }

    /// Gives up the oldest waiting message.
    pub(crate) fn discard_oldest(&mut self) {
        if let Some(payload) = self.queued.pop_front() {
            self.bytes -= payload.len();
        }
    }

    /// The device has a message; `false` if it was not in flight.
    pub(crate) fn acknowledge(&mut self, packet_id: NonZeroU16) -> bool {
        let sent = self.in_flight.len() - self.to_repeat;
        let Some(index) = self.in_flight.iter().take(sent).position(|one| one.packet_id == packet_id) else {
            return false;
        };
        if let Some(one) = self.in_flight.remove(index) {
            self.bytes -= one.payload.len();
        }
        true
    }

    /// The session goes on over a new connection: what was in flight is sent again.
    pub(crate) fn resume(&mut self) {
        self.to_repeat = self.in_flight.len();
    }

    /// The session is a new one: what was in flight waits again, before the rest.
    pub(crate) fn restart(&mut self) {
        self.to_repeat = 0;
        while let Some(one) = self.in_flight.pop_back() {
            self.queued.push_front(one.payload);
        }
    }

    /// Bytes held, waiting and in flight.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.in_flight.is_empty()
    }

    fn free_id(&mut self) -> NonZeroU16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = NonZeroU16::new(self.last_id)
                && !self.in_flight.iter().any(|one| one.packet_id == id)
            {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(messages: u8) -> Outbox {
        let mut outbox = Outbox::default();
        for n in 0..messages {
            assert_eq!(outbox.push(Bytes::from(vec![n; 10]), 100, 1000), 0);
        }
        outbox
    }

    fn id(n: u16) -> NonZeroU16 {
        NonZeroU16::new(n).expect("not zero")
    }

    #[test]
    fn the_oldest_waiting_messages_are_dropped_past_either_bound() {
        let mut outbox = outbox(3);
        assert_eq!(outbox.push(Bytes::from(vec![9; 10]), 3, 1000), 1);
        assert_eq!(outbox.push(Bytes::from(vec![9; 10]), 100, 30), 1);
        assert_eq!(outbox.bytes(), 30);
        let first = outbox.poll(QoS::AtLeastOnce, 1).expect("a message");
        assert_eq!(first.payload[0], 2);
    }

    #[test]
    fn the_window_holds_back_and_a_late_ack_out_of_order_is_taken() {
        let mut outbox = outbox(3);
        assert!(outbox.poll(QoS::AtLeastOnce, 2).is_some());
        assert!(outbox.poll(QoS::AtLeastOnce, 2).is_some());
        assert_eq!(outbox.poll(QoS::AtLeastOnce, 2), None);
        assert!(outbox.acknowledge(id(2)));
        assert!(!outbox.acknowledge(id(2)));
        let third = outbox.poll(QoS::AtLeastOnce, 2).expect("a message");
        assert_eq!((third.packet_id, third.dup), (Some(id(3)), false));
    }

    #[test]
    fn a_resumed_session_repeats_under_the_same_ids_and_a_new_one_starts_over() {
        let mut outbox = outbox(3);
        let first = outbox.poll(QoS::AtLeastOnce, 2).expect("a message");
        let _ = outbox.poll(QoS::AtLeastOnce, 2);
        outbox.resume();
        let again = outbox.poll(QoS::AtLeastOnce, 2).expect("a message");
        assert_eq!((again.packet_id, again.dup, again.payload.clone()), (first.packet_id, true, first.payload.clone()));
        outbox.restart();
        let fresh = outbox.poll(QoS::AtLeastOnce, 2).expect("a message");
        assert_eq!((fresh.dup, fresh.payload), (false, first.payload));
        assert_eq!(outbox.bytes(), 30);
    }

    #[test]
    fn packet_ids_wrap_around_zero_and_those_in_flight() {
        let mut outbox = outbox(3);
        let _ = outbox.poll(QoS::AtLeastOnce, 10);
        outbox.last_id = u16::MAX;
        let second = outbox.poll(QoS::AtLeastOnce, 10).expect("a message");
        assert_eq!(second.packet_id, Some(id(2)));
    }
}
