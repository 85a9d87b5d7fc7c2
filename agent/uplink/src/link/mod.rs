//! One link at a time, whatever carries it: frames go in with their urgency, events come out. A link never comes back: it ends.

mod mqtt;
mod quic;

use bytes::Bytes;
use kilter_types::Monotonic;

use crate::path::Carrier;
use crate::server::Server;
use crate::session::Urgency;

/// A link and the task that drives it.
#[derive(Debug)]
pub(crate) struct Link {
    kind: Kind,
    pub(crate) opened: Monotonic,
    /// Frames can go: the session may speak.
    pub(crate) ready: bool,
    pub(crate) failed: bool,
    /// A frame that there was no room for.
    pub(crate) blocked: Option<(Urgency, Bytes)>,
}

#[derive(Debug)]
enum Kind {
    Mqtt(mqtt::Mqtt),
    Quic(quic::Quic),
}

/// What a link tells.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// It is up.
    Ready,
    /// A frame from the aggregator.
    Frame(Bytes),
}

/// What became of a frame.
enum Gone {
    Taken,
    Full(Bytes),
    Never,
}

impl Link {
    /// Begins to open a link; `again` says that the attempt before failed, so that an outage is told once.
    pub(crate) fn open(carrier: Carrier, server: &Server, opened: Monotonic, again: bool) -> Self {
        let kind = match carrier {
            Carrier::Mqtt => Kind::Mqtt(mqtt::Mqtt::open(server, again)),
            Carrier::Quic => Kind::Quic(quic::Quic::open(server, again)),
        };
        Self { kind, opened, ready: false, failed: false, blocked: None }
    }

    pub(crate) fn carrier(&self) -> Carrier {
        match self.kind {
            Kind::Mqtt(_) => Carrier::Mqtt,
            Kind::Quic(_) => Carrier::Quic,
        }
    }

    /// The next event; `None` when the link has ended.
    pub(crate) async fn event(&mut self) -> Option<LinkEvent> {
        match &mut self.kind {
            Kind::Mqtt(link) => link.events.recv().await,
            Kind::Quic(link) => link.events.recv().await,
        }
    }

    /// `false` when there is no room now; the frame waits in `blocked`.
    pub(crate) fn send(&mut self, urgency: Urgency, frame: Bytes) -> bool {
        let gone = match &mut self.kind {
            Kind::Mqtt(link) => link.send(frame),
            Kind::Quic(link) => link.send(urgency, frame),
        };
        match gone {
            Gone::Taken => return true,
            Gone::Full(frame) => self.blocked = Some((urgency, frame)),
            Gone::Never => self.failed = true,
        }
        false
    }

    /// Says goodbye and waits a moment until that is out.
    pub(crate) async fn close(self) {
        match self.kind {
            Kind::Mqtt(link) => link.close().await,
            Kind::Quic(link) => link.close().await,
        }
    }
}
