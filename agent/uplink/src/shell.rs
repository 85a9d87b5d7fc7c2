//! The uplink's shell: moves the session's frames over whatever link there is and builds it again for ever.
//!
//! What is in flight is known to the session and the journal, not to a link. So a link that fails, or that moves nothing, is thrown
//! away whole and the session sends again what was not accepted; the same happens when QUIC takes over from MQTT or MQTT from it.
#![expect(clippy::disallowed_methods, reason = "a shell waits for the session's timeouts")]

use std::time::Duration;

use bytes::Bytes;
use kilter_types::{Clock, Epoch, Gap, Monotonic};
use kilter_wire::frame::Kind;
use kilter_wire::{Down, frame};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::link::{Link, LinkEvent};
use crate::path::{Carrier, Path};
use crate::server::Server;
use crate::session::Urgency;
use crate::{Key, Session, Spool, SpoolError, Status, TimeSample};

/// What the rest of the agent tells the uplink.
#[derive(Debug)]
pub enum Note {
    /// The record at this offset must not wait behind others.
    Urgent(u64),
    /// A record that the journal could not take.
    Unjournaled(Key, Vec<u8>),
    /// The journal was opened again.
    Epoch(Epoch),
}

/// What the uplink can deliver no more: to be recorded as a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// A record that was pushed out of memory.
    Forgotten(Key),
    /// Records that the aggregator asked for again and that the journal does not hold any more.
    Gone(Gap),
}

/// The uplink's ends of its channels.
#[derive(Debug)]
pub struct Ports {
    /// The journal's durable end.
    pub durable: watch::Receiver<u64>,
    /// Notes from the recorder.
    pub notes: mpsc::Receiver<Note>,
    /// Frames from the rest of the agent (artifact fetches, command results).
    pub outgoing: mpsc::Receiver<Vec<u8>>,
    /// Everything from the aggregator but acks and time.
    pub downs: mpsc::Sender<Bytes>,
    /// The offset below which everything is committed.
    pub released: watch::Sender<u64>,
    /// The session in figures.
    pub status: watch::Sender<Status>,
    /// The aggregator's time as known here.
    pub time: watch::Sender<Option<TimeSample>>,
    /// What can be delivered no more.
    pub lost: mpsc::Sender<Lost>,
    /// Counts connections.
    pub links: watch::Sender<u64>,
    /// True when the agent is to end.
    pub stop: watch::Receiver<bool>,
}

/// Runs until told to stop.
pub async fn run<S: Spool, C: Clock>(
    server: Server,
    mut session: Session,
    mut spool: S,
    clock: C,
    seed: u64,
    mut ports: Ports,
) {
    let mut path = Path::new(server.quic, clock.monotonic(), seed);
    let mut link: Option<Link> = None;
    // QUIC, while it is tried beside MQTT.
    let mut trial: Option<Link> = None;
    let mut ending: Option<Monotonic> = None;
    let mut outgoing: Option<Vec<u8>> = None;
    let mut tried = false;
    let (mut notes_open, mut durable_open, mut outgoing_open) = (true, true, true);
    session.handle_record_available(*ports.durable.borrow_and_update());
    loop {
        let now = clock.monotonic();
        session.handle_day(day(&clock, now));
        if ending.is_none() {
            if path.poll(Carrier::Mqtt, link.as_ref().map(Link::carrier), now) {
                link = Some(Link::open(Carrier::Mqtt, &server, now, std::mem::replace(&mut tried, true)));
            }
            if trial.is_none() && path.poll(Carrier::Quic, link.as_ref().map(Link::carrier), now) {
                trial = Some(Link::open(Carrier::Quic, &server, now, true));
            }
        }
        if let Some(open) = &mut link {
            let late = !open.ready && now.0.saturating_sub(open.opened.0) >= READY_US;
            if late || session.is_stalled(now) {
                warn!(server = %server.host, carrier = ?open.carrier(), "uplink makes no progress and is built again");
                open.failed = true;
            } else if open.ready {
                pump(open, &mut session, &mut spool, &mut outgoing, now);
            }
        }
        release(&mut session, &mut spool, &ports);
        for gap in session.take_gone() {
            if ports.lost.try_send(Lost::Gone(gap)).is_err() {
                // The aggregator asks again.
                warn!(
                    class = gap.class.as_str(),
                    first_seq = gap.first_seq,
                    "it could not be told that records are gone"
                );
            }
        }
        ports.status.send_replace(session.status(now));
        // Without a link nothing can be delivered any more: it is in the journal.
        let linked = link.as_ref().is_some_and(|open| open.ready && !open.failed);
        if ending.is_some_and(|deadline| now >= deadline || session.is_drained() || !linked) {
            break;
        }
        if trial.as_ref().is_some_and(|open| open.failed) {
            trial = None;
            path.handle_down(Carrier::Quic, now);
        }
        if let Some(failed) = link.take_if(|open| open.failed) {
            path.handle_down(failed.carrier(), now);
            session.handle_disconnected();
            continue;
        }
        let mut wake = session.poll_timeout().unwrap_or(Monotonic(now.0 + IDLE_US));
        if link.is_none() {
            wake = path.due(Carrier::Mqtt).map_or(wake, |due| wake.min(due));
        }
        if trial.is_none() && link.as_ref().is_none_or(|open| open.carrier() == Carrier::Mqtt) {
            wake = path.due(Carrier::Quic).map_or(wake, |due| wake.min(due));
        }
        if let Some(deadline) = ending {
            wake = wake.min(deadline).min(Monotonic(now.0 + 20_000));
        }
        let blocked = link.as_ref().is_some_and(|open| open.blocked.is_some());
        let wait = if blocked { BLOCKED_US } else { wake.0.saturating_sub(now.0).min(IDLE_US) };
        tokio::select! {
            event = next_event(&mut link) => match (event, &mut link) {
                (Some(event), Some(open)) => {
                    if open.take(event, &mut session, clock.monotonic(), &ports).await {
                        path.handle_up(open.carrier());
                        tried = false;
                    } else if open.ready {
                        path.handle_progress(open.carrier());
                    }
                }
                (_, Some(open)) => open.failed = true,
                (_, None) => {}
            },
            event = next_event(&mut trial) => match (event, trial.take()) {
                (Some(event), Some(mut open)) => {
                    // It carries from here on; what was in flight on the other link is sent again.
                    session.handle_disconnected();
                    open.take(event, &mut session, clock.monotonic(), &ports).await;
                    path.handle_up(Carrier::Quic);
                    link = Some(open);
                }
                (None, Some(mut open)) => {
                    open.failed = true;
                    trial = Some(open);
                }
                (_, None) => {}
            },
            changed = ports.durable.changed(), if durable_open => {
                durable_open = changed.is_ok();
                if durable_open {
                    session.handle_record_available(*ports.durable.borrow_and_update());
                }
            }
            note = ports.notes.recv(), if notes_open => match note {
                Some(Note::Urgent(offset)) => session.handle_urgent(offset),
                Some(Note::Epoch(epoch)) => session.handle_epoch(epoch, clock.monotonic()),
                Some(Note::Unjournaled(key, bytes)) => {
                    if let Some(lost) = session.handle_unjournaled(key, &bytes)
                        && ports.lost.try_send(Lost::Forgotten(lost)).is_err()
                    {
                        warn!(class = lost.class.as_str(), seq = lost.seq, "a record was lost and its loss could not be told");
                    }
                }
                None => notes_open = false,
            },
            frame = ports.outgoing.recv(), if outgoing.is_none() && outgoing_open => {
                outgoing_open = frame.is_some();
                outgoing = frame;
            }
            () = tokio::time::sleep(Duration::from_micros(wait)) => session.handle_timeout(clock.monotonic()),
            _ = ports.stop.changed(), if ending.is_none() => {
                session.handle_record_available(*ports.durable.borrow_and_update());
                session.handle_flush();
                ending = Some(Monotonic(clock.monotonic().0 + LINGER_US));
            }
        }
    }
    info!(delivered = session.is_drained(), in_flight = session.status(clock.monotonic()).in_flight, "uplink ends");
    if let Some(open) = link.filter(|open| open.ready) {
        open.close().await;
    }
    ports.status.send_replace(Status { connected: false, ..session.status(clock.monotonic()) });
}

impl Link {
    /// Hands one event to the session; `true` when the link has just become usable.
    async fn take(&mut self, event: LinkEvent, session: &mut Session, now: Monotonic, ports: &Ports) -> bool {
        let payload = match event {
            LinkEvent::Ready => {
                self.ready = true;
                session.handle_connected(now);
                ports.links.send_modify(|count| *count += 1);
                return true;
            }
            LinkEvent::Frame(payload) => payload,
        };
        let others = match frame::decode::<Down>(Kind::Down, &payload) {
            Ok(Down::Ack(ack)) => {
                session.handle_ack(&ack, now);
                false
            }
            Ok(Down::TimeReply(reply)) => {
                if session.handle_time_reply(&reply, now).is_some() {
                    ports.time.send_replace(session.best_time());
                }
                false
            }
            Ok(Down::Welcome(welcome)) => {
                session.handle_welcome(&welcome);
                false
            }
            Ok(Down::Refetch(refetch)) => {
                info!(
                    class = refetch.class.as_str(),
                    ranges = refetch.ranges.len(),
                    "the aggregator asks for records again"
                );
                session.handle_refetch(refetch);
                false
            }
            Ok(Down::Plan(_) | Down::Chunk(_) | Down::Config(_) | Down::Command(_) | Down::Event { .. }) => true,
            Err(error) => {
                warn!(error = %error, "a message from the aggregator can't be read");
                false
            }
        };
        // A full channel holds the acks up for a moment: what is behind it writes small files.
        self.failed |= others && ports.downs.send(payload).await.is_err();
        false
    }
}

async fn next_event(link: &mut Option<Link>) -> Option<LinkEvent> {
    match link {
        Some(open) => open.event().await,
        None => std::future::pending().await,
    }
}

fn pump<S: Spool>(
    link: &mut Link,
    session: &mut Session,
    spool: &mut S,
    outgoing: &mut Option<Vec<u8>>,
    now: Monotonic,
) {
    if link.blocked.take().is_some_and(|(urgency, frame)| !link.send(urgency, frame)) {
        return;
    }
    if let Some(frame) = outgoing.take() {
        session.handle_sent(frame.len());
        if !link.send(Urgency::Talk, frame.into()) {
            return;
        }
    }
    loop {
        match session.poll_transmit(spool, now) {
            Ok(Some(frame)) => {
                if !link.send(session.urgency(), frame.into()) {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return cannot_read(&error),
        }
    }
}

/// Days since 1970 (UTC), or since the node booted where there is no wall clock.
fn day(clock: &impl Clock, now: Monotonic) -> i64 {
    clock.wall().map_or((now.0 / DAY_US) as i64, |wall| wall.0.div_euclid(DAY_US as i64))
}

fn release<S: Spool>(session: &mut Session, spool: &mut S, ports: &Ports) {
    match session.poll_release(spool) {
        Ok(Some(upto)) => drop(ports.released.send_replace(upto)),
        Ok(None) => {}
        Err(error) => cannot_read(&error),
    }
}

fn cannot_read(error: &SpoolError) {
    warn!(error = error as &dyn std::error::Error, "the journal can't be read for delivery");
}

const DAY_US: u64 = 86_400_000_000;
/// How long a stop waits for acks.
const LINGER_US: u64 = 2_000_000;
const IDLE_US: u64 = 5_000_000;
/// How soon a frame is offered again that the client's queue had no room for.
const BLOCKED_US: u64 = 2_000;
/// From opening a link to being subscribed.
const READY_US: u64 = 20_000_000;
