//! An external MQTT broker in place of the embedded listener: the same messages, the same handles, another shell.
//!
//! The broker checks credentials and topics (its access lists must keep a device to its own two topics); who sent a message is
//! read from its topic. Messages are acknowledged to the broker only when they are durable, so the broker keeps what the
//! server did not store; its Receive Maximum bounds what is held here. The session is persistent: after a reconnect the broker
//! hands over again what was not acknowledged, and acknowledgements that belong to the old connection are dropped, because
//! their packet ids mean something else now.
#![expect(clippy::disallowed_methods, reason = "a shell waits between attempts to connect")]

mod intake;
mod session;

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use kilter_types::Name;
use kilter_wire::MAX_FRAME_BYTES;
use kilter_wire::topic::Topic;
use rumqttc::{
    AckMode, AsyncClient, Broker, ClientError, ConfigError, ConnectionError, Event, EventLoop, Incoming, MqttOptions,
    PublishOptions, QoS, SessionMode, SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use self::intake::{Intake, Settled};
use self::session::NothingInFlight;
use crate::counters::{Counters, Tally, add};
use crate::gateway::{DeviceLink, Inbound, Presence, Principal, SendError, Sent};
use crate::topic;

/// Where the broker is and how to talk to it.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Client id; the broker keeps the session under it, so it must be the same after a restart.
    pub client_id: String,
    /// User name and password.
    pub credential: Option<(String, String)>,
    /// TLS, if the broker speaks it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Group of a shared subscription, when several aggregators divide the devices between them.
    pub share_group: Option<Name>,
    /// Unsettled messages that the broker may have handed over; fewer where their bytes would not fit into the budget.
    pub receive_maximum: u16,
    /// Bytes of all messages together that the broker may have handed over.
    pub budget_bytes: usize,
    /// Largest packet either way.
    pub packet_bytes: u32,
    /// Messages to devices that may wait for the broker.
    pub queued_messages: usize,
}

impl BrokerConfig {
    /// A broker on the usual port, without TLS or credential.
    pub fn new(host: &str, client_id: &str) -> Self {
        Self {
            host: host.to_owned(),
            port: 1883,
            client_id: client_id.to_owned(),
            credential: None,
            tls: None,
            share_group: None,
            receive_maximum: 1024,
            budget_bytes: 64 << 20,
            // A frame, its topic and its properties.
            packet_bytes: MAX_FRAME_BYTES as u32 + 4096,
            queued_messages: 4096,
        }
    }

    /// The broker may hand over so many messages that none of them could be too much: window times packet is the budget.
    fn window(&self) -> u16 {
        let most = self.budget_bytes / (self.packet_bytes as usize).max(1);
        self.receive_maximum.min(u16::try_from(most).unwrap_or(u16::MAX)).max(1)
    }
}

/// A configuration that the client does not take.
#[derive(Debug, thiserror::Error)]
#[error("prepare the connection to the broker at {host}:{port}")]
pub struct BrokerError {
    host: String,
    port: u16,
    #[source]
    source: ConfigError,
}

/// The way down to devices behind a broker.
#[derive(Clone)]
pub struct BrokerLink {
    client: AsyncClient,
    tally: Arc<Tally>,
    subscribed: Arc<AtomicBool>,
    packet_bytes: usize,
}

impl BrokerLink {
    /// Whether the broker is connected and hands over what devices publish.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed.load(Ordering::Relaxed)
    }
}

/// The connection to a broker, to be driven by [`BrokerConnection::run`].
pub struct BrokerConnection {
    events: EventLoop,
    relay: Relay,
}

/// What stands between the event loop and the server.
struct Relay {
    client: AsyncClient,
    filter: String,
    subscribed: Arc<AtomicBool>,
    inbound: mpsc::Sender<Inbound>,
    bell: Arc<Bell>,
    intake: Intake,
}

/// Prepares a connection; nothing is sent before it runs.
pub fn connect(
    config: BrokerConfig,
    inbound: mpsc::Sender<Inbound>,
) -> Result<(BrokerLink, BrokerConnection), BrokerError> {
    let window = config.window();
    let mut options = MqttOptions::new(config.client_id, Broker::tcp(config.host.clone(), config.port));
    options.set_keep_alive(KEEP_ALIVE_SECS);
    options.set_session_mode(SessionMode::Persistent);
    options.set_session_store(NothingInFlight);
    options.set_ack_mode(AckMode::Manual);
    options.set_receive_maximum(Some(window));
    options.set_max_packet_size(Some(config.packet_bytes));
    if let Some((username, password)) = config.credential {
        options.set_credentials(username, password);
    }
    if let Some(tls) = config.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
    }
    options.validate().map_err(|source| BrokerError { host: config.host, port: config.port, source })?;
    let (client, events) = AsyncClient::builder(options).capacity(config.queued_messages).build();
    let tally = Arc::new(Tally::default());
    let bell = Arc::new(Bell(Notify::new()));
    let subscribed = Arc::new(AtomicBool::new(false));
    let link = BrokerLink {
        client: client.clone(),
        tally: Arc::clone(&tally),
        subscribed: Arc::clone(&subscribed),
        packet_bytes: config.packet_bytes as usize,
    };
    let intake = Intake::new(Waker::from(Arc::clone(&bell)), tally, window.into());
    let filter = match config.share_group {
        Some(group) => format!("$share/{group}/{}", Topic::ALL_UP),
        None => Topic::ALL_UP.to_owned(),
    };
    Ok((link, BrokerConnection { events, relay: Relay { client, filter, subscribed, inbound, bell, intake } }))
}

impl BrokerConnection {
    /// Carries messages until `shutdown` is ready or the server stops listening; reconnects for as long as it takes.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { events, mut relay } = self;
        let (sender, mut news) = mpsc::channel(NEWS);
        let again = Arc::new(Notify::new());
        let mut pump = tokio::spawn(pump(events, sender, Arc::clone(&again)));
        let inbound = relay.inbound.clone();
        tokio::pin!(shutdown);
        loop {
            let has_inbound = relay.intake.has_inbound();
            tokio::select! {
                () = &mut shutdown => break,
                event = news.recv() => match event {
                    Some(News::Packet(packet)) => relay.handle_packet(*packet),
                    Some(News::Lost) => relay.disconnect(),
                    None => break,
                },
                () = relay.bell.0.notified() => {}
                place = inbound.reserve(), if has_inbound => match place {
                    Ok(place) => if let Some(message) = relay.intake.inbound.pop_front() {
                        place.send(message);
                    },
                    Err(_) => break,
                },
            }
            if relay.intake.acknowledge(&relay.client) == Settled::Abandoned {
                // The server lost a message: a new connection makes the broker hand it over again.
                warn!("message lost on the way to the journal; connecting to the broker again");
                again.notify_one();
                relay.disconnect();
            }
        }
        // What became durable up to now is acknowledged before the goodbye, which queues behind it.
        let _ = relay.intake.acknowledge(&relay.client);
        relay.disconnect();
        let _ = relay.client.try_disconnect();
        drop(news);
        if timeout(GOODBYE, &mut pump).await.is_err() {
            pump.abort();
        }
    }
}

impl Relay {
    fn disconnect(&mut self) {
        self.subscribed.store(false, Ordering::Relaxed);
        self.intake.disconnect();
    }

    fn handle_packet(&mut self, packet: Incoming) {
        match packet {
            Incoming::ConnAck(_) => {
                info!("broker connected");
                self.intake.connect();
                if let Err(error) = self.client.try_subscribe(self.filter.as_str(), QoS::AtLeastOnce) {
                    warn!(%error, "subscription not sent");
                }
            }
            Incoming::Publish(publish) => {
                let ack = self.client.prepare_ack(&publish);
                self.intake.handle_publish(publish, ack);
            }
            Incoming::SubAck(ack) => {
                let granted = ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)));
                self.subscribed.store(granted, Ordering::Relaxed);
                if !granted {
                    warn!(codes = ?ack.return_codes, "broker refused the subscription");
                }
            }
            Incoming::Connect(..)
            | Incoming::PubAck(_)
            | Incoming::PubRec(_)
            | Incoming::PubRel(_)
            | Incoming::PubComp(_)
            | Incoming::Subscribe(_)
            | Incoming::Unsubscribe(_)
            | Incoming::UnsubAck(_)
            | Incoming::PingReq
            | Incoming::PingResp
            | Incoming::Disconnect(_)
            | Incoming::Auth(_) => {}
        }
    }
}

impl DeviceLink for BrokerLink {
    fn send(&self, device: &Principal, payload: Bytes) -> Result<Sent, SendError> {
        let bytes = payload.len();
        if bytes > self.packet_bytes {
            return Err(SendError::TooLarge { bytes, limit: self.packet_bytes });
        }
        let options = PublishOptions::new(QoS::AtLeastOnce);
        match self.client.try_publish(topic::down(device), payload, options) {
            Ok(()) => {
                add(&self.tally.messages_down, 1);
                add(&self.tally.bytes_down, bytes as u64);
                Ok(Sent::Relayed)
            }
            Err(ClientError::RequestChannelFull(_)) => Err(SendError::Full { bytes }),
            Err(_) => Err(SendError::Ended),
        }
    }

    fn presence(&self, _device: &Principal) -> Presence {
        Presence::Unknown
    }

    fn counters(&self) -> Counters {
        self.tally.snapshot(0)
    }
}

/// What the event loop saw.
enum News {
    Packet(Box<Incoming>),
    Lost,
}

/// Drives the client's event loop in a task of its own: a poll that is dropped half-way could tear a packet.
async fn pump(mut events: EventLoop, news: mpsc::Sender<News>, again: Arc<Notify>) {
    let mut failures = 0;
    loop {
        let event = tokio::select! {
            event = events.poll() => event,
            () = again.notified() => {
                events.clean();
                continue;
            }
        };
        match event {
            Ok(Event::Incoming(packet)) => {
                failures = 0;
                // After the last listener has gone only the goodbye is left to send.
                let _ = news.send(News::Packet(Box::new(packet))).await;
            }
            Ok(Event::Outgoing(_) | Event::Auth(_)) => {}
            Err(ConnectionError::RequestsDone) => return,
            Err(error) => {
                if failures == 0 {
                    warn!(%error, "broker connection lost");
                }
                if news.send(News::Lost).await.is_err() {
                    return;
                }
                sleep(pause(failures)).await;
                failures += 1;
            }
        }
    }
}

/// Doubles from a quarter of a second to half a minute, with up to as much again at random, so that a fleet of aggregators
/// does not come back in step.
fn pause(failures: u32) -> Duration {
    let base_ms = (250u64 << failures.min(7)).min(30_000);
    let random = RandomState::new().build_hasher().finish();
    Duration::from_millis(base_ms + random % base_ms)
}

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

const KEEP_ALIVE_SECS: u16 = 30;
/// Packets between the event loop and the intake.
const NEWS: usize = 256;
const GOODBYE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_times_packet_is_within_the_budget() {
        let config = BrokerConfig::new("broker", "a");
        assert!(usize::from(config.window()) * config.packet_bytes as usize <= config.budget_bytes);
        let small = BrokerConfig { receive_maximum: 8, ..config.clone() };
        assert_eq!(small.window(), 8);
        assert_eq!(BrokerConfig { budget_bytes: 1, ..config }.window(), 1, "one must pass");
    }
}
