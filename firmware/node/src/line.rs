//! Frames on a serial line: COBS, a zero after each, and in step again after the next zero whatever came before.

use kilter_types::Record;
use kilter_wire::frame::{self, FrameError, Kind, Message};
use kilter_wire::node::{NodeDown, NodeUp};
use kilter_wire::{Batch, BatchRecord, Down, Up, cobs, encode_record};

use crate::Link;

/// A link with room for one frame; `B` bytes bound the longest.
#[derive(Debug)]
pub struct Line<L, const B: usize> {
    link: L,
    body: [u8; B],
    frame: [u8; B],
    inbox: [u8; B],
    received: usize,
    /// More came than fits: drop everything up to the next zero.
    overflow: bool,
    /// Frames that were not sent, and bytes that made no frame.
    pub(crate) unsent: u32,
    pub(crate) garbled: u32,
    /// Bytes that went out.
    pub(crate) sent_bytes: u64,
}

/// One message that came.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    Down(Down<'a>),
    Node(NodeDown<'a>),
}

impl<L: Link, const B: usize> Line<L, B> {
    /// A line over this link.
    pub fn new(link: L) -> Self {
        Self {
            link,
            body: [0; B],
            frame: [0; B],
            inbox: [0; B],
            received: 0,
            overflow: false,
            unsent: 0,
            garbled: 0,
            sent_bytes: 0,
        }
    }

    /// Sends one record as a batch of its own.
    pub(crate) fn record(&mut self, record: &Record) {
        let Ok(written) = encode_record(record, &mut self.frame).map(<[u8]>::len) else {
            self.unsent += 1;
            return;
        };
        let mut used = 0;
        let entry = BatchRecord { class: record.class() as u8, seq: record.seq, bytes: &self.frame[..written] };
        if !Batch::push(&mut self.body, &mut used, entry) {
            self.unsent += 1;
            return;
        }
        let batch = Batch { epoch: record.epoch, count: 1, records: &self.body[..used] };
        let Self { link, frame, sent_bytes, .. } = self;
        let sent = transmit(link, frame, sent_bytes, Kind::Up, &Up::Batch(batch));
        self.unsent += u32::from(!sent);
    }

    /// Sends one message.
    pub(crate) fn up(&mut self, message: &Up<'_>) {
        self.message(Kind::Up, message);
    }

    /// Sends one message that is for the gateway itself.
    pub(crate) fn node(&mut self, message: &NodeUp) {
        self.message(Kind::NodeUp, message);
    }

    /// Takes what has arrived and hands out each whole message.
    pub(crate) fn receive(&mut self, mut handle: impl FnMut(Heard<'_>)) {
        let mut fresh = [0; 64];
        while let Ok(count @ 1..) = self.link.receive(&mut fresh) {
            for byte in fresh.iter().take(count) {
                match (*byte, self.inbox.get_mut(self.received)) {
                    (0, _) => {
                        let end = core::mem::take(&mut self.received);
                        let whole = !core::mem::take(&mut self.overflow) && end > 0;
                        match cobs::decode(&mut self.inbox[..end]).filter(|_| whole).and_then(read) {
                            Some(message) => handle(message),
                            None => self.garbled += u32::from(end > 0),
                        }
                    }
                    (byte, Some(room)) => {
                        *room = byte;
                        self.received += 1;
                    }
                    (_, None) => self.overflow = true,
                }
            }
        }
    }

    /// The link itself.
    pub fn link(&mut self) -> &mut L {
        &mut self.link
    }

    fn message<T: Message>(&mut self, kind: Kind, message: &T) {
        let Self { link, frame, sent_bytes, .. } = self;
        let sent = transmit(link, frame, sent_bytes, kind, message);
        self.unsent += u32::from(!sent);
    }
}

fn transmit<L: Link, T: Message>(link: &mut L, room: &mut [u8], sent_bytes: &mut u64, kind: Kind, message: &T) -> bool {
    frame::encode(kind, message, room).is_ok_and(|bytes| {
        let mut send = |piece: &[u8]| {
            *sent_bytes += piece.len() as u64;
            link.send(piece)
        };
        cobs::encode_each(bytes, &mut send).is_ok()
    })
}

fn read(bytes: &[u8]) -> Option<Heard<'_>> {
    match frame::decode::<Down<'_>>(Kind::Down, bytes) {
        Ok(message) => Some(Heard::Down(message)),
        Err(FrameError::Kind(_)) => frame::decode::<NodeDown<'_>>(Kind::NodeDown, bytes).ok().map(Heard::Node),
        Err(_) => None,
    }
}
