//! One connection: bytes in, bytes out, messages for the server, and a deadline. It does no IO and reads no clock.
//!
//! A shell reads into [`Session::input`] and calls [`Session::handle_read`], writes from [`Session::output`] and calls
//! [`Session::handle_written`], takes messages with [`Session::pop_inbound`], and calls [`Session::handle_wake`] when the
//! waker it lent was woken and [`Session::handle_timeout`] at the deadline. Whatever is wrong with the bytes closes the
//! connection with an MQTT 5 reason; nothing a device sends can panic.
//!
//! Reading stops, and TCP pushes back, while the byte budget is spent, while the window of unsettled messages is full (for
//! messages that MQTT 5 credit does not cover) and while the device does not take what was written for it.

mod answer;
mod read;

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::task::Waker;

use bytes::{Buf, BytesMut};
use kilter_types::Monotonic;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::PublishProperties;

use super::hub::{Hub, after};
use super::protocol::{Protocol, Version};
use super::reason::Reason;
use crate::ack::{AckQueue, Verdict};
use crate::budget::Reservation;
use crate::certificate::Certificate;
use crate::gateway::{Inbound, Principal};

/// The state of one connection.
pub struct Session {
    hub: Hub,
    waker: Waker,
    stage: Stage,
    certificate: Certificate,
    protocol: Option<Protocol>,
    input: BytesMut,
    output: BytesMut,
    chunk_bytes: usize,
    acks: Arc<AckQueue>,
    /// The packet ids of the slots in `acks`, in the same order.
    unsettled: VecDeque<Option<NonZeroU16>>,
    /// How many of them count against the Receive Maximum.
    credit_used: usize,
    inbound: VecDeque<Inbound>,
    /// Bytes set aside for the PUBLISH that is being read.
    reservation: Option<Reservation>,
    stalled: bool,
    /// When the device must have said CONNECT, or the next thing.
    silence_ends: Option<Monotonic>,
    /// When written bytes must have been taken.
    write_ends: Option<Monotonic>,
}

enum Stage {
    Greeting,
    Open(Open),
    /// Nothing is read any more; what is left to write and to hand over goes out until `silence_ends`.
    Closed,
}

struct Open {
    device: Principal,
    connection: u64,
    up: Arc<str>,
    /// The topic that its alias stands for.
    alias: Option<Arc<str>>,
    down: String,
    keep_alive_us: Option<u64>,
}

impl Session {
    /// A new connection, unless the hub has as many as it may. The waker is woken when [`Session::handle_wake`] is due.
    pub fn open(hub: Hub, waker: Waker, now: Monotonic) -> Option<Self> {
        if !hub.enter() {
            hub.tally().refuse(Reason::SERVER_BUSY.0);
            return None;
        }
        let silence_ends = Some(after(now, hub.limits().connect_timeout_secs));
        Some(Self {
            acks: AckQueue::new(waker.clone()),
            hub,
            waker,
            stage: Stage::Greeting,
            certificate: Certificate::default(),
            protocol: None,
            input: BytesMut::new(),
            output: BytesMut::new(),
            chunk_bytes: LEAST_CHUNK_BYTES,
            unsettled: VecDeque::new(),
            credit_used: 0,
            inbound: VecDeque::new(),
            reservation: None,
            stalled: false,
            silence_ends,
            write_ends: None,
        })
    }

    /// Whether it wants more bytes.
    pub fn wants_read(&self) -> bool {
        !self.stalled && !matches!(self.stage, Stage::Closed) && self.output.len() < OUTPUT_HIGH_BYTES
    }

    /// The two ends of the pipe: append what was read to the first, write from the second.
    pub fn buffers(&mut self) -> (&mut BytesMut, &[u8]) {
        self.make_room();
        (&mut self.input, &self.output)
    }

    /// Whether there are bytes to write.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// So many bytes were appended to the input.
    pub fn handle_read(&mut self, bytes: usize, now: Monotonic) {
        if bytes >= self.chunk_bytes {
            self.chunk_bytes = (self.chunk_bytes * 2).min(LARGEST_CHUNK_BYTES);
        } else if bytes < self.chunk_bytes / 4 {
            self.chunk_bytes = (self.chunk_bytes / 2).max(LEAST_CHUNK_BYTES);
        }
        self.advance(now);
    }

    /// So many bytes of the output were written.
    pub fn handle_written(&mut self, bytes: usize, now: Monotonic) {
        self.output.advance(bytes.min(self.output.len()));
        self.write_ends = None;
        self.advance(now);
    }

    /// The waker was woken: verdicts, mail or budget have come, or another connection took over.
    pub fn handle_wake(&mut self, now: Monotonic) {
        self.advance(now);
    }

    /// The deadline may have passed.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        if self.write_ends.is_some_and(|end| end <= now) {
            self.output.clear();
            self.close_quietly(now);
            self.output.clear();
            self.inbound.clear();
        }
        if self.silence_ends.is_some_and(|end| end <= now) {
            match self.stage {
                Stage::Greeting => self.close(Reason::CONNECT_TIME, now),
                // While we do not read, its silence is ours.
                Stage::Open(_) if self.stalled || !self.wants_read() => self.heard(now),
                Stage::Open(_) => self.close(Reason::KEEP_ALIVE_TIMEOUT, now),
                Stage::Closed => {
                    self.output.clear();
                    self.inbound.clear();
                }
            }
        }
    }

    /// The other end closed or broke the connection.
    pub fn handle_end(&mut self, now: Monotonic) {
        self.output.clear();
        self.close_quietly(now);
        self.output.clear();
    }

    /// The server stops.
    pub fn handle_shutdown(&mut self, now: Monotonic) {
        self.inbound.clear();
        self.close(Reason::SHUTTING_DOWN, now);
    }

    /// The next message for the server.
    pub fn pop_inbound(&mut self) -> Option<Inbound> {
        self.inbound.pop_front()
    }

    /// Puts back a message that the server had no room for.
    pub fn put_back(&mut self, message: Inbound) {
        self.inbound.push_front(message);
    }

    /// Whether messages wait for the server.
    pub fn has_inbound(&self) -> bool {
        !self.inbound.is_empty()
    }

    /// When [`Session::handle_timeout`] is due. It may move later without notice, and a call before it is harmless.
    pub fn deadline(&self) -> Option<Monotonic> {
        match (self.silence_ends, self.write_ends) {
            (Some(silence), Some(write)) => Some(silence.min(write)),
            (silence, write) => silence.or(write),
        }
    }

    /// Whether everything is done and the connection can be dropped.
    pub fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Closed) && self.output.is_empty() && self.inbound.is_empty()
    }

    fn advance(&mut self, now: Monotonic) {
        self.check_claim(now);
        self.write_verdicts(now);
        self.read_packets(now);
        self.write_mail();
        if self.output.is_empty() {
            self.write_ends = None;
        } else if self.write_ends.is_none() {
            self.write_ends = Some(after(now, self.hub.limits().write_timeout_secs));
        }
    }

    fn check_claim(&mut self, now: Monotonic) {
        if let Stage::Open(open) = &self.stage
            && !self.hub.holds(&open.device, open.connection)
        {
            self.close(Reason::TAKEN_OVER, now);
        }
    }

    fn write_verdicts(&mut self, now: Monotonic) {
        while matches!(self.stage, Stage::Open(_))
            && let Some(verdict) = self.acks.pop()
        {
            let packet_id = self.unsettled.pop_front().flatten();
            if packet_id.is_some() {
                self.credit_used -= 1;
            }
            let reason = match verdict {
                Verdict::Accepted => Reason::SUCCESS,
                Verdict::Refused(refuse) => Reason::from(refuse),
                Verdict::Abandoned => return self.close(Reason::IMPLEMENTATION_SPECIFIC, now),
            };
            if reason != Reason::SUCCESS {
                self.hub.tally().refuse(reason.0);
            }
            let (Some(packet_id), Some(protocol)) = (packet_id, &mut self.protocol) else {
                continue;
            };
            if protocol.version() == Version::V3 && reason != Reason::SUCCESS {
                return self.close(reason, now);
            }
            protocol.publish_ack(packet_id, reason, &mut self.output);
        }
    }

    fn write_mail(&mut self) {
        let (Stage::Open(open), Some(protocol)) = (&self.stage, &mut self.protocol) else {
            return;
        };
        while self.output.len() < OUTPUT_HIGH_BYTES
            && let Some(down) = self.hub.poll_down(&open.device, open.connection)
        {
            let properties = (protocol.version() == Version::V5).then(PublishProperties::default);
            protocol.publish(
                Publish {
                    dup: down.dup,
                    retain: false,
                    qos: if down.packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
                    topic: open.down.as_str().into(),
                    packet_id: down.packet_id,
                    payload: down.payload,
                    properties,
                },
                &mut self.output,
            );
        }
    }

    /// The device gave a sign of life, or we were the ones who did not listen.
    fn heard(&mut self, now: Monotonic) {
        if let Stage::Open(open) = &self.stage {
            self.silence_ends = open.keep_alive_us.map(|span| Monotonic(now.0.saturating_add(span)));
        }
    }

    /// Ends the connection and says why.
    fn close(&mut self, reason: Reason, now: Monotonic) {
        if matches!(self.stage, Stage::Closed) {
            return;
        }
        self.hub.tally().refuse(reason.0);
        if let (Stage::Open(_), Some(protocol)) = (&self.stage, &mut self.protocol) {
            protocol.disconnect(reason, &mut self.output);
        }
        self.inbound.clear();
        self.close_quietly(now);
    }

    /// Ends the connection; messages that came before the end still go to the server.
    fn close_quietly(&mut self, now: Monotonic) {
        if let Stage::Open(open) = &self.stage {
            self.hub.detach(&open.device, open.connection, None, now);
        }
        if !matches!(self.stage, Stage::Closed) {
            self.stage = Stage::Closed;
            self.input = BytesMut::new();
            self.reservation = None;
            self.stalled = false;
            self.silence_ends = Some(after(now, LINGER_SECS));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.leave();
    }
}

const LEAST_CHUNK_BYTES: usize = 2 << 10;
const LARGEST_CHUNK_BYTES: usize = 64 << 10;
/// Past this nothing is read and no mail is written until the device takes what is there.
const OUTPUT_HIGH_BYTES: usize = 64 << 10;
const LINGER_SECS: u32 = 2;
