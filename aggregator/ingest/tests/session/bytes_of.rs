//! Packets by hand, and a peer that feeds them to a session.

use std::sync::Arc;
use std::task::Waker;

use kilter_ingest::Inbound;
use kilter_ingest::listener::{AnyDevice, Hub, Limits, Session};
use kilter_types::{Monotonic, Name};

pub(crate) const UP: &str = "kilter/v1/acme/pump-1/up";
pub(crate) const DOWN: &str = "kilter/v1/acme/pump-1/down";

/// One end of a connection, with time in its hands.
pub(crate) struct Peer {
    pub(crate) session: Session,
    pub(crate) now: Monotonic,
}

impl Peer {
    pub(crate) fn new(hub: &Hub) -> Self {
        let now = Monotonic(0);
        let session = Session::open(hub.clone(), Waker::noop().clone(), now).expect("room");
        Self { session, now }
    }

    /// A peer whose CONNECT was accepted; says whether there was a session.
    pub(crate) fn welcome(hub: &Hub, connect: &[u8]) -> (Self, bool) {
        let mut peer = Self::new(hub);
        peer.send(connect);
        let said = peer.heard();
        assert_eq!((said[0], said[3]), (0x20, 0), "{said:02x?}");
        (peer, said[2] == 1)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if self.session.wants_read() {
            self.session.buffers().0.extend_from_slice(bytes);
            self.session.handle_read(bytes.len(), self.now);
        }
    }

    /// What was written since the last time.
    pub(crate) fn heard(&mut self) -> Vec<u8> {
        let bytes = self.session.buffers().1.to_vec();
        self.session.handle_written(bytes.len(), self.now);
        bytes
    }

    pub(crate) fn wake(&mut self) {
        self.session.handle_wake(self.now);
    }

    pub(crate) fn advance_secs(&mut self, secs: u64) {
        self.now.0 += secs * 1_000_000;
        self.session.handle_timeout(self.now);
    }

    pub(crate) fn inbound(&mut self) -> Vec<Inbound> {
        std::iter::from_fn(|| self.session.pop_inbound()).collect()
    }

    /// Sends, and expects a DISCONNECT with the reason as the last words.
    pub(crate) fn closes_with(&mut self, bytes: &[u8], reason: u8) {
        self.send(bytes);
        let said = self.heard();
        assert!(said.ends_with(&[0xe0, 2, reason, 0]), "{said:02x?} instead of {reason:02x}");
        assert!(self.session.is_finished());
    }
}

pub(crate) fn hub(limits: Limits) -> Hub {
    let tenant = Name::new("acme").expect("a good name");
    Hub::new(limits, Arc::new(AnyDevice { tenant })).expect("good limits")
}

/// CONNECT of `pump-1`, MQTT 5, with these properties.
pub(crate) fn connect(clean: bool, properties: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05".to_vec();
    body.extend([0x80 | u8::from(clean) << 1, 0, 60]);
    body.extend(length(properties.len()));
    body.extend(properties);
    body.extend(text("pump-1"));
    body.extend(text("pump-1"));
    packet(0x10, &body)
}

pub(crate) fn connect_v3(clean: bool) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04".to_vec();
    body.extend([0x80 | u8::from(clean) << 1, 0, 60]);
    body.extend(text("pump-1"));
    body.extend(text("pump-1"));
    packet(0x10, &body)
}

/// PUBLISH, MQTT 5; `flags` are the low bits of the first byte.
pub(crate) fn publish(flags: u8, topic: &str, id: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if flags & 0b0110 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(length(properties.len()));
    body.extend(properties);
    body.extend(payload);
    packet(0x30 | flags, &body)
}

pub(crate) fn publish_v3(flags: u8, topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if flags & 0b0110 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(payload);
    packet(0x30 | flags, &body)
}

pub(crate) fn subscribe(id: u16, properties: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(length(properties.len()));
    body.extend(properties);
    for (filter, qos) in filters {
        body.extend(text(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &length(body.len()), body].concat()
}

/// A number of up to four bytes with seven bits each.
fn length(mut rest: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(rest & 0x7f).expect("seven bits");
        rest >>= 7;
        bytes.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            return bytes;
        }
    }
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
