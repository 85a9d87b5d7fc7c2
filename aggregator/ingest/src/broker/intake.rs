//! What the broker handed over on one connection and what became of it. No IO but queueing acknowledgements.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use rumqttc::{AsyncClient, ManualAck, PubAckReason, Publish};

use crate::ack::{AckQueue, Refuse, Verdict};
use crate::counters::{Tally, add};
use crate::gateway::Inbound;
use crate::topic;

/// Messages between the broker and the server.
pub(crate) struct Intake {
    pub(crate) connected: bool,
    acks: Arc<AckQueue>,
    waker: Waker,
    /// What to send for the slots in `acks`, in the same order.
    unsettled: VecDeque<Option<ManualAck>>,
    /// Acknowledgements that the client had no room for yet.
    due: VecDeque<ManualAck>,
    pub(crate) inbound: VecDeque<Inbound>,
    limit: usize,
    tally: Arc<Tally>,
}

/// Whether all messages reached the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    InOrder,
    Abandoned,
}

impl Intake {
    pub(crate) fn new(waker: Waker, tally: Arc<Tally>, limit: usize) -> Self {
        Self {
            connected: false,
            acks: AckQueue::new(waker.clone()),
            waker,
            unsettled: VecDeque::new(),
            due: VecDeque::new(),
            inbound: VecDeque::new(),
            limit,
            tally,
        }
    }

    pub(crate) fn connect(&mut self) {
        self.disconnect();
        self.connected = true;
        add(&self.tally.connections, 1);
    }

    /// Verdicts for messages of the old connection go nowhere from here on.
    pub(crate) fn disconnect(&mut self) {
        self.connected = false;
        self.acks = AckQueue::new(self.waker.clone());
        self.unsettled.clear();
        self.due.clear();
        self.inbound.clear();
    }

    pub(crate) fn has_inbound(&self) -> bool {
        !self.inbound.is_empty()
    }

    pub(crate) fn handle_publish(&mut self, publish: Publish, ack: Option<ManualAck>) {
        if !self.connected {
            // Left over from a connection that was given up: the broker hands it over again.
            return;
        }
        let topic = std::str::from_utf8(&publish.topic).unwrap_or_default();
        let Some(device) = topic::parse_up(topic) else {
            self.unsettled.push_back(ack);
            self.acks.open_settled(Verdict::Refused(Refuse::NotAuthorized));
            return;
        };
        if ack.is_none() && self.unsettled.len() >= self.limit {
            // QoS 0 knows no credit.
            add(&self.tally.dropped_up, 1);
            return;
        }
        add(&self.tally.messages_up, 1);
        add(&self.tally.bytes_up, publish.payload.len() as u64);
        self.unsettled.push_back(ack);
        self.inbound.push_back(Inbound {
            device,
            topic: Arc::from(topic),
            payload: Bytes::copy_from_slice(&publish.payload),
            ack: self.acks.open(None),
        });
    }

    pub(crate) fn acknowledge(&mut self, client: &AsyncClient) -> Settled {
        while let Some(verdict) = self.acks.pop() {
            let ack = self.unsettled.pop_front().flatten();
            let reason = match verdict {
                Verdict::Accepted => PubAckReason::Success,
                Verdict::Refused(Refuse::NotAuthorized) => PubAckReason::NotAuthorized,
                Verdict::Refused(Refuse::QuotaExceeded) => PubAckReason::QuotaExceeded,
                Verdict::Refused(Refuse::Malformed) => PubAckReason::PayloadFormatInvalid,
                Verdict::Refused(Refuse::NotStored) => PubAckReason::ImplementationSpecificError,
                Verdict::Abandoned => return Settled::Abandoned,
            };
            if reason != PubAckReason::Success {
                self.tally.refuse(reason as u8);
            }
            if let Some(mut ack) = ack {
                if let ManualAck::PubAck(ack) = &mut ack {
                    ack.reason = reason;
                }
                self.due.push_back(ack);
            }
        }
        while let Some(ack) = self.due.front() {
            match client.try_manual_ack(ack.clone()) {
                Ok(()) => {
                    self.due.pop_front();
                }
                // The event loop makes room and comes back here.
                Err(_) => break,
            }
        }
        Settled::InOrder
    }
}
