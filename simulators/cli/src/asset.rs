//! One machine behind the socket: its feed, its history, and its one reader.
//!
//! A sans-IO core under a lock: workers produce, connections read, the control API commands. A newer connection takes over from an
//! older one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kilter_machine::{FaultChange, LoadChange, SpecError};
use kilter_types::Name;
use kilter_wire::sensor::Offer;
use tokio::sync::watch;

use crate::args::WhenBehind;
use crate::feed::Feed;
use crate::history::{Cursor, History, Step};
use crate::ledger::{Ledger, Line};

/// One machine.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) name: Name,
    pub(crate) offer: Offer,
    keeping: Keeping,
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

/// How much history is kept, and what happens when the reader is behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeping {
    pub(crate) when_behind: WhenBehind,
    pub(crate) history_s: f64,
    pub(crate) history_bytes: usize,
}

#[derive(Debug)]
struct Inner {
    feed: Feed,
    history: History,
    /// The reader's place, or the last one's.
    cursor: Cursor,
    connection: u64,
    connected: bool,
    ended: bool,
    end_sent: bool,
    skipped: u64,
    /// Per channel: what has been produced but not yet written to the log.
    logged: Vec<u64>,
    logged_s: f64,
    end_logged: bool,
}

/// An asset in numbers, for status and summary.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Standing {
    asset: String,
    connected: bool,
    connections: u64,
    simulated_s: Option<f64>,
    produced: std::collections::BTreeMap<String, u64>,
    sent_to: std::collections::BTreeMap<String, u64>,
    skipped: u64,
    held_bytes: usize,
    ended: bool,
    end_sent: bool,
}

/// How far an asset and its reader are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) connected: bool,
    pub(crate) ended: bool,
    pub(crate) produced_s: f64,
    pub(crate) unread_bytes: usize,
}

impl Asset {
    pub(crate) fn new(name: Name, feed: Feed, keeping: Keeping, ledger: &Ledger) -> Self {
        let offer = feed.offer(&name);
        ledger.log(&Line::Opened { asset: &name, start_us: feed.start().0, channels: &offer.channels });
        let channels = offer.channels.len();
        let history = History::new(channels);
        let cursor = history.seek(&vec![0; channels]);
        let inner = Inner {
            feed,
            history,
            cursor,
            connection: 0,
            connected: false,
            ended: false,
            end_sent: false,
            skipped: 0,
            logged: vec![0; channels],
            logged_s: 0.0,
            end_logged: false,
        };
        Self { name, offer, keeping, inner: Mutex::new(inner), changed: watch::Sender::new(0) }
    }

    /// Produces what is due until `now_s`, a bounded number of steps. Says whether there was anything to do.
    pub(crate) fn produce(&self, now_s: f64, ledger: &Ledger) -> bool {
        let mut inner = self.lock();
        let mut worked = false;
        for _ in 0..STEPS_AT_ONCE {
            if inner.ended || !inner.has_room(self.keeping.when_behind) {
                break;
            }
            match inner.feed.next_s() {
                Some(next_s) if next_s <= now_s => inner.step(&self.name, ledger),
                Some(_) => break,
                None => inner.ended = true,
            }
            worked = true;
        }
        if worked {
            inner.trim(&self.keeping);
            inner.log(&self.name, &self.offer, ledger);
            drop(inner);
            self.changed.send_modify(|count| *count += 1);
        }
        worked
    }

    /// A new reader with the positions it asks for by channel name; positions not named begin at 0. Returns the connection's
    /// number, the offer for it, and the signal of news.
    pub(crate) fn attach(&self, asked: &[(Name, u64)], ledger: &Ledger) -> (u64, Offer, watch::Receiver<u64>) {
        let mut inner = self.lock();
        let position =
            |channel: &Name| asked.iter().find(|(name, _)| name == channel).map_or(0, |(_, position)| *position);
        let from: Vec<u64> = self.offer.channels.iter().map(|channel| position(&channel.name)).collect();
        inner.cursor = inner.history.seek(&from);
        inner.connection += 1;
        inner.connected = true;
        inner.end_sent = false;
        let mut offer = self.offer.clone();
        for (channel, need) in offer.channels.iter_mut().zip(inner.cursor.need()) {
            channel.position = *need;
        }
        ledger.log(&Line::Connected { asset: &self.name, connection: inner.connection, asked: &from });
        let connection = inner.connection;
        drop(inner);
        self.changed.send_modify(|count| *count += 1);
        (connection, offer, self.changed.subscribe())
    }

    /// Hands the reader's next steps to `write` until it has enough. Moves the reader's place.
    pub(crate) fn read(&self, connection: u64, ledger: &Ledger, write: &mut dyn FnMut(Step<'_>) -> Enough) -> Reading {
        let mut inner = self.lock();
        if inner.connection != connection {
            return Reading::TakenOver;
        }
        let mut cursor = inner.cursor.clone();
        let mut skipped = 0;
        let mut wrote = false;
        while let Some(step) = inner.history.read(&mut cursor) {
            if let Step::Skipped { channel, from, to } = &step {
                skipped += to - from;
                let channel = &self.offer.channels[*channel].name;
                ledger.log(&Line::Skipped { asset: &self.name, connection, channel, from: *from, to: *to });
            }
            wrote = true;
            if write(step) == Enough::Yes {
                break;
            }
        }
        inner.skipped += skipped;
        inner.cursor = cursor;
        match (wrote, inner.ended) {
            (true, _) => Reading::Wrote,
            (false, true) => Reading::AtEnd,
            (false, false) => Reading::Waiting,
        }
    }

    /// The connection is gone; what it was sent is logged.
    pub(crate) fn detach(&self, connection: u64, ledger: &Ledger) {
        let mut inner = self.lock();
        if inner.connection == connection {
            inner.connected = false;
            ledger.log(&Line::Disconnected { asset: &self.name, connection, sent_to: inner.cursor.need() });
        }
    }

    /// The reader has been told that nothing follows.
    pub(crate) fn mark_end_sent(&self, connection: u64) {
        let mut inner = self.lock();
        inner.end_sent |= inner.connection == connection;
    }

    /// Whether all is produced and the reader knows.
    pub(crate) fn is_finished(&self) -> bool {
        let inner = self.lock();
        inner.ended && inner.end_sent
    }

    /// Ends the asset where it is.
    pub(crate) fn end_now(&self, ledger: &Ledger) {
        let mut inner = self.lock();
        inner.feed.end_now();
        inner.ended = true;
        inner.log(&self.name, &self.offer, ledger);
        drop(inner);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Moves a fault; `None` for a recording.
    pub(crate) fn set_fault(&self, change: FaultChange) -> Option<Result<f64, SpecError>> {
        self.lock().feed.machine().map(|machine| machine.set_fault(change))
    }

    /// Moves speed and load; `None` for a recording.
    pub(crate) fn set_load(&self, change: LoadChange) -> Option<Result<f64, SpecError>> {
        self.lock().feed.machine().map(|machine| machine.set_load(change))
    }

    /// The truth at the end of what has been produced; `None` for a recording.
    pub(crate) fn truth(&self) -> Option<kilter_machine::Truth> {
        self.lock().feed.machine().map(|machine| machine.truth())
    }

    /// Event time of the beginning in microseconds.
    pub(crate) fn start_us(&self) -> i64 {
        self.lock().feed.start().0
    }

    /// How far the asset and its reader are.
    pub(crate) fn progress(&self) -> Progress {
        let inner = self.lock();
        Progress {
            connected: inner.connected,
            ended: inner.ended,
            produced_s: inner.history.end_s(u64::MAX),
            unread_bytes: inner.history.bytes_from(inner.cursor.piece()),
        }
    }

    /// The asset in numbers.
    pub(crate) fn standing(&self) -> Standing {
        let mut inner = self.lock();
        let by_name = |positions: &[u64]| {
            self.offer.channels.iter().map(|c| c.name.to_string()).zip(positions.iter().copied()).collect()
        };
        Standing {
            asset: self.name.to_string(),
            connected: inner.connected,
            connections: inner.connection,
            produced: by_name(inner.history.produced()),
            sent_to: by_name(inner.cursor.need()),
            skipped: inner.skipped,
            held_bytes: inner.history.held_bytes(),
            ended: inner.ended,
            end_sent: inner.end_sent,
            simulated_s: inner.feed.machine().map(|machine| machine.done_s()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn has_room(&self, when_behind: WhenBehind) -> bool {
        match when_behind {
            WhenBehind::Drop => true,
            WhenBehind::Hold => self.history.bytes_from(self.cursor.piece()) < AHEAD_BYTES,
        }
    }

    fn step(&mut self, name: &Name, ledger: &Ledger) {
        let Self { feed, history, .. } = self;
        let before_s = feed.machine().map(|machine| machine.done_s());
        feed.step(&mut |piece| history.push(piece));
        let start = feed.start();
        if let (Some(before_s), Some(machine)) = (before_s, feed.machine()) {
            // One line per simulated second.
            if machine.done_s().floor() > before_s.floor() || before_s == 0.0 {
                ledger.truth(name, start, &machine.truth());
            }
        }
    }

    fn trim(&mut self, keeping: &Keeping) {
        let place = self.cursor.piece();
        let (newest_s, keep_from) = match keeping.when_behind {
            WhenBehind::Drop => (self.history.end_s(u64::MAX), u64::MAX),
            WhenBehind::Hold => (self.history.end_s(place), place),
        };
        self.history.trim(newest_s - keeping.history_s, keeping.history_bytes, keep_from);
    }

    fn log(&mut self, name: &Name, offer: &Offer, ledger: &Ledger) {
        let now_s = self.history.end_s(u64::MAX);
        if now_s - self.logged_s < 1.0 && !self.ended {
            return;
        }
        self.logged_s = now_s;
        let produced = self.history.produced();
        for (channel, (from, to)) in offer.channels.iter().zip(self.logged.iter_mut().zip(produced)) {
            if *from < *to {
                ledger.log(&Line::Produced { asset: name, channel: &channel.name, from: *from, to: *to });
                *from = *to;
            }
        }
        if self.ended && !self.end_logged {
            self.end_logged = true;
            ledger.log(&Line::Ended { asset: name, produced });
        }
    }
}

/// Whether a writer takes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enough {
    No,
    Yes,
}

/// How a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// There was something.
    Wrote,
    /// Nothing new yet.
    Waiting,
    /// Nothing more will come.
    AtEnd,
    /// A newer connection has taken over.
    TakenOver,
}

const STEPS_AT_ONCE: u32 = 32;
/// How far a held asset produces ahead of its reader.
const AHEAD_BYTES: usize = 4 * 1024 * 1024;
