//! When a packet may be read: its kind, its size, and whether there is room for it.

use bytes::BytesMut;
use kilter_types::Monotonic;

use super::{LARGEST_CHUNK_BYTES, LEAST_CHUNK_BYTES, OUTPUT_HIGH_BYTES, Session, Stage};
use crate::counters::add;
use crate::listener::header::Header;
use crate::listener::hub::after;
use crate::listener::protocol::{Protocol, Version};
use crate::listener::reason::Reason;

impl Session {
    /// Room for the next read: what is missing of a packet whose length is known, a chunk otherwise.
    pub(super) fn make_room(&mut self) {
        let missing = match Header::peek(&self.input) {
            Ok(Some(header)) => header.total_bytes.saturating_sub(self.input.len()),
            Ok(None) | Err(_) => 0,
        };
        let wanted = missing.max(self.chunk_bytes);
        if self.input.is_empty() && self.input.capacity() > 2 * wanted {
            self.input = BytesMut::new();
        }
        if self.input.capacity() - self.input.len() < missing.max(LEAST_CHUNK_BYTES) {
            self.input.reserve(wanted);
        }
        if self.output.is_empty() && self.output.capacity() > LARGEST_CHUNK_BYTES {
            self.output = BytesMut::new();
        }
    }

    pub(super) fn read_packets(&mut self, now: Monotonic) {
        self.stalled = false;
        while !matches!(self.stage, Stage::Closed) && self.output.len() < OUTPUT_HIGH_BYTES {
            let header = match Header::peek(&self.input) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(reason) => return self.close(reason, now),
            };
            if let Err(reason) = self.check_header(header) {
                return self.close(reason, now);
            }
            if !self.has_room(header) {
                self.stalled = true;
                self.heard(now);
                break;
            }
            if self.input.len() < header.total_bytes {
                if self.reservation.is_some() && self.silence_ends.is_none() {
                    // Without a keep alive too, bytes set aside are not set aside for ever.
                    self.silence_ends = Some(after(now, self.hub.limits().keep_alive_secs.into()));
                }
                break;
            }
            self.heard(now);
            if let Err(reason) = self.read_packet(now) {
                return self.close(reason, now);
            }
            self.reservation = None;
        }
    }

    /// Whether a packet of this kind and size may come now.
    fn check_header(&self, header: Header) -> Result<(), Reason> {
        let limit = match self.stage {
            Stage::Greeting if !header.is_connect() => return Err(Reason::PROTOCOL_ERROR),
            Stage::Greeting => CONNECT_BYTES,
            Stage::Open(_) if header.is_publish() => self.hub.limits().packet_bytes as usize,
            Stage::Open(_) | Stage::Closed => CONTROL_BYTES,
        };
        if header.total_bytes > limit {
            return Err(Reason::PACKET_TOO_LARGE);
        }
        Ok(())
    }

    /// Whether the packet may be read on: the budget has its bytes, and the window a place if credit does not bound it.
    fn has_room(&mut self, header: Header) -> bool {
        if !header.is_publish() || self.reservation.is_some() {
            return true;
        }
        let version = self.protocol.as_ref().map(Protocol::version);
        let uncredited = header.is_unacknowledged_publish() || version == Some(Version::V3);
        if uncredited && self.unsettled.len() >= usize::from(self.hub.limits().receive_maximum) {
            return false;
        }
        self.reservation = self.hub.budget().reserve(header.total_bytes, &self.waker);
        if self.reservation.is_none() {
            add(&self.hub.tally().stalls, 1);
        }
        self.reservation.is_some()
    }
}

/// A CONNECT comes from a stranger: it gets no more than this.
const CONNECT_BYTES: usize = 16 << 10;
/// Every other packet but PUBLISH.
const CONTROL_BYTES: usize = 64 << 10;
