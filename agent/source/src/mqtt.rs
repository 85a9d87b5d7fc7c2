//! Messages of an MQTT broker (version 5) as a source: whatever is published under one topic filter is about one machine.
//!
//! The broker keeps a session under the client id: what is published with QoS 1 while nobody listens waits there for a day. A message is
//! acknowledged only when the machine's thread has taken it, and the broker hands over no more than the queue holds, so nothing need be
//! dropped: back-pressure reaches the broker as messages that it keeps. After a cut it hands over again what was not acknowledged, and
//! positions tell what was used already.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kilter_types::Name;
use rumqttc::{
    AckMode, BrokerSessionResumePolicy, Client, Connection, Event, Incoming, MqttOptions, Publish, QoS, SessionMode,
    SubAck, SubscribeReasonCode, TlsConfiguration, Transport, ValidatedTopicFilter,
};
use tracing::{info, warn};

use crate::message::{Encoding, MAX_MESSAGE_BYTES};
use crate::push::{Door, PushSource, Pushed, QUEUE, Receipt};
use crate::{ChannelSpec, Item, Source, SourceError, Stop};

/// Where the broker is, what to ask it for, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttConfig {
    /// `host:port`.
    pub address: String,
    /// A topic filter; everything under it is about this machine.
    pub topic: String,
    /// How messages are written.
    pub encoding: Encoding,
    /// The name under which the broker keeps the session; no other client may have it.
    pub client_id: String,
    /// User name and password.
    pub credential: Option<(String, String)>,
    /// The authority that signs the broker's certificate, PEM; `None` for plain TCP on loopback.
    pub ca: Option<String>,
}

/// One machine's subscription at a broker.
pub struct MqttSource {
    client: Client,
    source: PushSource,
}

impl MqttConfig {
    /// Host and port; says what can't be used.
    pub fn check(&self) -> Result<(String, u16), String> {
        let (host, port) =
            self.address.rsplit_once(':').ok_or_else(|| format!("address {:?} is not host:port", self.address))?;
        let port = port.parse().map_err(|_| format!("address {:?} is not host:port", self.address))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if self.ca.is_none() && !loopback {
            return Err(format!("{host} is not this host, and plain TCP is for loopback only: give ca_file"));
        }
        if ValidatedTopicFilter::new(&self.topic).is_err() {
            return Err(format!("topic {:?} is no topic filter", self.topic));
        }
        if self.client_id.is_empty() {
            return Err("client_id is empty: the broker keeps the session under it".to_owned());
        }
        Ok((host, port))
    }

    fn options(&self) -> Result<MqttOptions, String> {
        let (host, port) = self.check()?;
        let mut options = MqttOptions::new(self.client_id.clone(), (host, port));
        options.set_keep_alive(KEEP_ALIVE_SECS);
        options.set_session_mode(SessionMode::Persistent);
        options.set_session_expiry_interval(Some(KEPT_SECS));
        // Nothing is published, so there is nothing to reconcile with a session that the broker kept.
        options.set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly);
        options.set_ack_mode(AckMode::Manual);
        options.set_receive_maximum(Some(QUEUE as u16));
        options.set_max_packet_size(Some(MAX_PACKET_BYTES));
        options.set_connect_timeout(CONNECT_TIMEOUT);
        if let Some((user, password)) = &self.credential {
            options.set_credentials(user.clone(), password.clone());
        }
        if let Some(ca) = &self.ca {
            let tls = TlsConfiguration::Simple { ca: ca.clone().into_bytes(), alpn: None, client_auth: None };
            options.set_transport(Transport::Tls(tls));
        }
        Ok(options)
    }
}

impl MqttSource {
    /// Begins to listen for the machine `asset`, from `positions` on (one per channel).
    pub fn start(
        config: MqttConfig,
        asset: Name,
        channels: Vec<ChannelSpec>,
        positions: Vec<u64>,
        stop: Stop,
    ) -> Result<Self, SourceError> {
        let wrong = |reason| SourceError::Broker { asset: asset.clone(), reason };
        let options = config.options().map_err(wrong)?;
        let built = Client::builder(options).capacity(REQUESTS).try_build();
        let (client, connection) = built.map_err(|error| wrong(error.to_string()))?;
        let (door, source) = Door::open(asset.clone(), channels, positions, stop.clone());
        let name = format!("{asset}-mqtt");
        let listener = Listener {
            config,
            asset: asset.clone(),
            client: client.clone(),
            door,
            stop,
            connection: Arc::default(),
            up: false,
            told: false,
            delay: FIRST_DELAY,
        };
        let spawned = thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || listener.run(connection));
        spawned.map_err(|error| wrong(error.to_string()))?;
        Ok(Self { client, source })
    }
}

impl Source for MqttSource {
    fn next(&mut self) -> Result<Item<'_>, SourceError> {
        self.source.next()
    }
}

impl Drop for MqttSource {
    fn drop(&mut self) {
        // The listener ends when the DISCONNECT is out, or with the process.
        let _ = self.client.try_disconnect();
    }
}

/// The thread that the connection lives on.
struct Listener {
    config: MqttConfig,
    asset: Name,
    client: Client,
    door: Door,
    stop: Stop,
    /// Counts connections: an acknowledgement for one before means nothing on the next.
    connection: Arc<AtomicU64>,
    up: bool,
    /// This outage was told.
    told: bool,
    delay: Duration,
}

impl Listener {
    /// Until the source is gone. A poll that is dropped half-way could tear a packet, so none is.
    fn run(mut self, mut connection: Connection) {
        while !self.stop.is_set() {
            let goes_on = match connection.recv() {
                Ok(Ok(Event::Incoming(Incoming::ConnAck(_)))) => self.subscribe(),
                Ok(Ok(Event::Incoming(Incoming::SubAck(ack)))) => self.subscribed(&ack),
                Ok(Ok(Event::Incoming(Incoming::Publish(publish)))) => self.take(&publish),
                Ok(Ok(_)) => true,
                Ok(Err(error)) => self.lost(error.to_string()),
                Err(_) => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    fn subscribe(&mut self) -> bool {
        self.connection.fetch_add(1, Ordering::Relaxed);
        self.client.try_subscribe(self.config.topic.clone(), QoS::AtLeastOnce).is_ok()
    }

    fn subscribed(&mut self, ack: &SubAck) -> bool {
        if ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) {
            info!(asset = %self.asset, broker = self.config.address, topic = self.config.topic, "broker connected");
            (self.up, self.told, self.delay) = (true, false, FIRST_DELAY);
            return self.door.wait(Pushed::Up, &self.stop);
        }
        let reason = format!("it refuses the subscription to {:?}: {:?}", self.config.topic, ack.return_codes);
        let told = self.tell(reason);
        // Somebody may change what it allows.
        told && !self.stop.wait(MOST_DELAY) && self.subscribe()
    }

    fn take(&mut self, publish: &Publish) -> bool {
        let receipt = self.client.prepare_ack(publish).map(|ack| -> Receipt {
            let (client, current) = (self.client.clone(), Arc::clone(&self.connection));
            let mine = current.load(Ordering::Relaxed);
            Box::new(move || {
                if current.load(Ordering::Relaxed) == mine && client.try_manual_ack(ack).is_err() {
                    warn!("a message is not acknowledged: the broker hands it over again");
                }
            })
        });
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        if !self.is_mine(&topic) {
            receipt.into_iter().for_each(|receipt| receipt());
            return true;
        }
        let said = self.door.parse(self.config.encoding, &publish.payload).map_err(|source| SourceError::Message {
            asset: self.asset.clone(),
            from: topic,
            source: Box::new(source),
        });
        self.door.wait(Pushed::Message(said, receipt), &self.stop)
    }

    /// The session may still hold a topic from before the configuration was changed.
    fn is_mine(&self, topic: &str) -> bool {
        let filter = &self.config.topic;
        filter.starts_with("$share/") || rumqttc::matches(topic, filter)
    }

    /// The connection is gone, or could not be made; the client makes the next one.
    fn lost(&mut self, reason: String) -> bool {
        self.connection.fetch_add(1, Ordering::Relaxed);
        let told = if std::mem::take(&mut self.up) {
            warn!(asset = %self.asset, broker = self.config.address, reason, "broker lost");
            self.door.wait(Pushed::Down, &self.stop)
        } else {
            self.tell(reason)
        };
        let stopped = self.stop.wait(self.delay);
        self.delay = (self.delay * 2).min(MOST_DELAY);
        told && !stopped
    }

    /// Once per outage.
    fn tell(&mut self, reason: String) -> bool {
        if std::mem::replace(&mut self.told, true) {
            return self.door.wait(Pushed::Down, &self.stop);
        }
        let reason = format!("{}: {reason}", self.config.address);
        let error = SourceError::Broker { asset: self.asset.clone(), reason };
        self.door.wait(Pushed::Message(Err(error), None), &self.stop)
    }
}

/// A message, its topic and its properties.
const MAX_PACKET_BYTES: u32 = MAX_MESSAGE_BYTES as u32 + 4096;
/// Acknowledgements for all that may be in the queue, a subscription and a goodbye.
const REQUESTS: usize = QUEUE + 8;
const KEEP_ALIVE_SECS: u16 = 30;
/// A day.
const KEPT_SECS: u32 = 86_400;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MOST_DELAY: Duration = Duration::from_secs(5);
/// Address space only.
const STACK_BYTES: usize = 1 << 20;
