//! Frames on a serial line: COBS, a zero after each, and in step again after the next zero whatever came before.

use kilter_types::Record;
use kilter_wire::{Batch, BatchRecord, Down, Up, cobs, encode_record, frame, frame::Kind};

use crate::Link;

/// A link with room for one frame each way; `B` bytes bound the longest.
#[derive(Debug)]
pub struct Line<L, const B: usize> {
    link: L,
    body: [u8; B],
    frame: [u8; B],
    coded: [u8; B],
    inbox: [u8; B],
    received: usize,
    /// More came than fits: drop everything up to the next zero.
    overflow: bool,
    /// Frames that were not sent, and bytes that made no frame.
    pub(crate) unsent: u32,
    pub(crate) garbled: u32,
}

impl<L: Link, const B: usize> Line<L, B> {
    /// A line over this link.
    pub fn new(link: L) -> Self {
        Self {
            link,
            body: [0; B],
            frame: [0; B],
            coded: [0; B],
            inbox: [0; B],
            received: 0,
            overflow: false,
            unsent: 0,
            garbled: 0,
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
        let fits = Batch::push(&mut self.body, &mut used, entry);
        let batch = Batch { epoch: record.epoch, count: 1, records: &self.body[..used] };
        let sent = fits && transmit(&mut self.link, &Up::Batch(batch), &mut self.frame, &mut self.coded);
        self.unsent += u32::from(!sent);
    }

    /// Sends one message.
    pub(crate) fn message(&mut self, message: &Up<'_>) {
        let sent = transmit(&mut self.link, message, &mut self.frame, &mut self.coded);
        self.unsent += u32::from(!sent);
    }

    /// Takes what has arrived and hands out each whole message.
    pub(crate) fn receive(&mut self, mut handle: impl FnMut(&Down<'_>)) {
        let mut fresh = [0; 64];
        while let Ok(count @ 1..) = self.link.receive(&mut fresh) {
            for byte in fresh.iter().take(count) {
                match (*byte, self.inbox.get_mut(self.received)) {
                    (0, _) => {
                        let end = core::mem::take(&mut self.received);
                        let whole = !core::mem::take(&mut self.overflow) && end > 0;
                        let message = cobs::decode(&mut self.inbox[..end])
                            .filter(|_| whole)
                            .and_then(|bytes| frame::decode::<Down<'_>>(Kind::Down, bytes).ok());
                        match message {
                            Some(message) => handle(&message),
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
}

fn transmit<L: Link>(link: &mut L, message: &Up<'_>, plain: &mut [u8], coded: &mut [u8]) -> bool {
    let Ok(bytes) = frame::encode(Kind::Up, message, plain) else { return false };
    cobs::encode(bytes, coded).is_some_and(|coded| link.send(coded).is_ok())
}
