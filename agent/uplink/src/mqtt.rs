//! The MQTT v5 shell: moves the session's frames over one connection and builds it again for ever.
//!
//! Clean start and no session expiry: what is in flight is known to the session and the journal, not to the client. So a client
//! that fails, or that moves nothing, is thrown away whole and the session sends again what was not accepted.
#![expect(clippy::disallowed_methods, reason = "a shell waits for the session's timeouts")]

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use kilter_types::{Clock, Epoch, Monotonic};
use kilter_wire::frame::{Kind, MAX_FRAME_BYTES};
use kilter_wire::topic::{Direction, Topic};
use kilter_wire::{Down, frame};
use rumqttc::mqttbytes::QoS;
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, IncomingPacketSizeLimit, MqttOptions, NetworkOptions, PublishOptions,
    TlsConfiguration, Transport,
};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::{Backoff, Key, Session, Spool, SpoolError, Status, TimeSample};

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub struct Server {
    host: String,
    port: u16,
    /// PEM; `None` for plain TCP on loopback.
    ca: Option<String>,
    up: Topic,
    down: String,
    credential: String,
}

impl Server {
    /// `address` is `host:port`. Without a certificate authority only loopback addresses are accepted.
    pub fn new(address: &str, ca: &str, credential: &str, up: Topic) -> Result<Self, ServerError> {
        let (host, port) = address.rsplit_once(':').ok_or_else(|| ServerError::Address(address.to_owned()))?;
        let port = port.parse().map_err(|_| ServerError::Address(address.to_owned()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let ca = Some(ca.trim()).filter(|ca| !ca.is_empty()).map(str::to_owned);
        if ca.is_none() && !loopback {
            return Err(ServerError::PlainText(address.to_owned()));
        }
        let down = Topic { direction: Direction::Down, ..up.clone() }.to_string();
        Ok(Self {
            host,
            port,
            ca,
            up: Topic { direction: Direction::Up, ..up },
            down,
            credential: credential.to_owned(),
        })
    }

    fn options(&self) -> MqttOptions {
        let device = self.up.device.as_str().to_owned();
        let mut options = MqttOptions::new(device.clone(), (self.host.clone(), self.port));
        options.set_keep_alive(KEEP_ALIVE_SECS);
        options.set_clean_start(true);
        options.set_session_expiry_interval(Some(0));
        options.set_credentials(device, Bytes::from(self.credential.clone()));
        options.set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_PACKET_BYTES));
        options.set_connect_timeout(CONNECT_TIMEOUT);
        options.set_outgoing_inflight_upper_limit(IN_FLIGHT);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        if let Some(ca) = &self.ca {
            let tls = TlsConfiguration::Simple { ca: ca.clone().into_bytes(), alpn: None, client_auth: None };
            options.set_transport(Transport::Tls(tls));
        }
        options
    }
}

/// Why a server can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ServerError {
    /// Not `host:port`.
    #[error("use the server address {0:?}: it is not host:port")]
    Address(String),
    /// Plain TCP off loopback.
    #[error("use the server {0}: the bundle has no server_ca, and plain TCP is allowed on loopback only")]
    PlainText(String),
}

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
    /// Records that were pushed out of memory: their loss is to be recorded.
    pub lost: mpsc::Sender<Key>,
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
    let mut backoff = Backoff::new(FIRST_DELAY_US, MOST_DELAY_US, seed);
    let mut retry_at = clock.monotonic();
    let mut link: Option<Link> = None;
    let mut ending: Option<Monotonic> = None;
    let mut outgoing: Option<Vec<u8>> = None;
    let mut tried = false;
    let (mut notes_open, mut durable_open, mut outgoing_open) = (true, true, true);
    session.handle_record_available(*ports.durable.borrow_and_update());
    loop {
        let now = clock.monotonic();
        if link.is_none() && now >= retry_at {
            if ending.is_some() {
                break;
            }
            link = Some(Link::open(&server, now, std::mem::replace(&mut tried, true)));
        }
        if let Some(open) = &mut link {
            let late = !open.ready && now.0.saturating_sub(open.opened.0) >= READY_US;
            if late || session.is_stalled(now) {
                warn!(server = %server.host, "uplink makes no progress and is built again");
                open.failed = true;
            } else if open.ready {
                pump(open, &server, &mut session, &mut spool, &mut outgoing, now);
            }
        }
        release(&mut session, &mut spool, &ports);
        ports.status.send_replace(session.status(now));
        // Without a link nothing can be delivered any more: it is in the journal.
        let linked = link.as_ref().is_some_and(|open| open.ready && !open.failed);
        if ending.is_some_and(|deadline| now >= deadline || session.is_drained() || !linked) {
            break;
        }
        if link.as_ref().is_some_and(|open| open.failed) {
            link = None;
            session.handle_disconnected();
            retry_at = Monotonic(now.0 + backoff.delay_us());
            continue;
        }
        let mut wake = session.poll_timeout().unwrap_or(Monotonic(now.0 + IDLE_US));
        if link.is_none() {
            wake = retry_at;
        }
        if let Some(deadline) = ending {
            wake = wake.min(deadline).min(Monotonic(now.0 + 20_000));
        }
        let blocked = link.as_ref().is_some_and(|open| open.blocked.is_some());
        let wait = if blocked { BLOCKED_US } else { wake.0.saturating_sub(now.0).min(IDLE_US) };
        tokio::select! {
            event = next_event(&mut link) => match (event, &mut link) {
                (Some(event), Some(open)) => {
                    if open.take(event, &server, &mut session, clock.monotonic(), &ports).await {
                        backoff.reset();
                        tried = false;
                    }
                }
                (_, Some(open)) => open.failed = true,
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
                    if let Some(lost) = session.handle_unjournaled(key, &bytes) && ports.lost.try_send(lost).is_err() {
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

/// One client and the task that drives it.
struct Link {
    client: AsyncClient,
    events: mpsc::Receiver<Event>,
    driver: JoinHandle<()>,
    opened: Monotonic,
    /// Subscribed: the session may speak.
    ready: bool,
    failed: bool,
    /// A frame that the client's queue had no room for.
    blocked: Option<Vec<u8>>,
}

impl Link {
    fn open(server: &Server, opened: Monotonic, again: bool) -> Self {
        let (client, event_loop) = AsyncClient::builder(server.options()).capacity(QUEUE).build();
        let (sender, events) = mpsc::channel(QUEUE);
        let driver = tokio::spawn(drive(event_loop, sender, server.host.clone(), again));
        Self { client, events, driver, opened, ready: false, failed: false, blocked: None }
    }

    /// Hands one event to the session; `true` when the link has just become usable.
    async fn take(
        &mut self,
        event: Event,
        server: &Server,
        session: &mut Session,
        now: Monotonic,
        ports: &Ports,
    ) -> bool {
        match event {
            Event::Incoming(Incoming::ConnAck(_)) => {
                self.failed |= self.client.try_subscribe(server.down.clone(), QoS::AtLeastOnce).is_err();
                false
            }
            Event::Incoming(Incoming::SubAck(_)) => {
                info!(server = %server.host, port = server.port, "uplink connected");
                self.ready = true;
                session.handle_connected(now);
                ports.links.send_modify(|count| *count += 1);
                true
            }
            Event::Incoming(Incoming::Publish(publish)) => {
                let others = match frame::decode::<Down>(Kind::Down, &publish.payload) {
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
                    Ok(Down::Plan(_) | Down::Chunk(_) | Down::Config(_) | Down::Command(_) | Down::Event { .. }) => {
                        true
                    }
                    Err(error) => {
                        warn!(error = %error, "a message from the aggregator can't be read");
                        false
                    }
                };
                // A full channel holds the acks up for a moment: what is behind it writes small files.
                self.failed |= others && ports.downs.send(publish.payload).await.is_err();
                false
            }
            Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_) => false,
        }
    }

    /// `false` when there is no room now; the frame waits in `blocked`.
    fn publish(&mut self, server: &Server, frame: Vec<u8>) -> bool {
        let bytes = Bytes::from(frame);
        match self.client.try_publish(server.up.to_string(), bytes.clone(), PublishOptions::at_least_once()) {
            Ok(()) => true,
            Err(rumqttc::ClientError::RequestChannelFull(_)) => {
                self.blocked = Some(bytes.to_vec());
                false
            }
            Err(error) => {
                debug!(error = %error, "the client takes nothing more");
                self.failed = true;
                false
            }
        }
    }

    async fn close(mut self) {
        if self.client.try_disconnect().is_ok() {
            // The driver ends when the DISCONNECT is out.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, async { while self.events.recv().await.is_some() {} }).await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn drive(mut event_loop: EventLoop, events: mpsc::Sender<Event>, host: String, again: bool) {
    loop {
        match event_loop.poll().await {
            Ok(event) => {
                let wanted = matches!(
                    &event,
                    Event::Incoming(Incoming::ConnAck(_) | Incoming::SubAck(_) | Incoming::Publish(_))
                );
                if wanted && events.send(event).await.is_err() {
                    return;
                }
            }
            Err(rumqttc::ConnectionError::RequestsDone) => return,
            Err(error) => {
                // Told once per outage; the attempts that follow are for who looks closely.
                if again {
                    debug!(server = %host, %error, "uplink is still down");
                } else {
                    warn!(server = %host, %error, "uplink is down");
                }
                return;
            }
        }
    }
}

async fn next_event(link: &mut Option<Link>) -> Option<Event> {
    match link {
        Some(open) => open.events.recv().await,
        None => std::future::pending().await,
    }
}

fn pump<S: Spool>(
    link: &mut Link,
    server: &Server,
    session: &mut Session,
    spool: &mut S,
    outgoing: &mut Option<Vec<u8>>,
    now: Monotonic,
) {
    let waiting = link.blocked.take();
    if waiting.is_some_and(|frame| !link.publish(server, frame)) {
        return;
    }
    if outgoing.take().is_some_and(|frame| !link.publish(server, frame)) {
        return;
    }
    loop {
        match session.poll_transmit(spool, now) {
            Ok(Some(frame)) => {
                if !link.publish(server, frame) {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return cannot_read(&error),
        }
    }
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

/// Twice the longest frame: the topic and the properties need a little more than a frame.
const MAX_PACKET_BYTES: u32 = 2 * MAX_FRAME_BYTES as u32;
const KEEP_ALIVE_SECS: u16 = 15;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
const IN_FLIGHT: u16 = 32;
const QUEUE: usize = 16;
const FIRST_DELAY_US: u64 = 200_000;
const MOST_DELAY_US: u64 = 20_000_000;
/// How long a stop waits for acks.
const LINGER_US: u64 = 2_000_000;
const IDLE_US: u64 = 5_000_000;
/// How soon a frame is offered again that the client's queue had no room for.
const BLOCKED_US: u64 = 2_000;
/// From opening a link to being subscribed.
const READY_US: u64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_tcp_off_loopback_is_refused() {
        let up = Topic::parse("kilter/v1/default/edge-1/up").expect("a good topic");
        let server = |address: &str, ca: &str| Server::new(address, ca, "secret", up.clone()).map(|server| server.host);
        assert_eq!(server("127.0.0.1:1883", ""), Ok("127.0.0.1".to_owned()));
        assert_eq!(server("[::1]:1883", ""), Ok("::1".to_owned()));
        assert_eq!(server("plant.example:8883", ""), Err(ServerError::PlainText("plant.example:8883".to_owned())));
        assert_eq!(server("plant.example:8883", "PEM"), Ok("plant.example".to_owned()));
        assert_eq!(server("plant.example", "PEM"), Err(ServerError::Address("plant.example".to_owned())));
    }
}
