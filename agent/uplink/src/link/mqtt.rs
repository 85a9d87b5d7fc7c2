//! Frames over MQTT v5.
//!
//! Clean start and no session expiry: what is in flight is known to the session and the journal, not to the client. So a client
//! that fails, or that moves nothing, is thrown away whole and the session sends again what was not accepted.
//!
//! What the frames are is said in MQTT's own words too, for brokers and people between: wire version and software as user properties of
//! CONNECT, content type and wire version of the first message, which is the hello. Every later message would pay for them, so it has none, and an
//! alias in place of the topic where the server offers one.

use std::time::Duration;

use bytes::Bytes;
use kilter_wire::{MAX_FRAME_BYTES, VERSION};
use rumqttc::mqttbytes::QoS;
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, IncomingPacketSizeLimit, MqttOptions, NetworkOptions, PublishOptions,
    PublishProperties, TlsConfiguration, TopicAliasPolicy, Transport,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::{Gone, LinkEvent};
use crate::certificate::Certificate;
use crate::server::Server;

/// One client and the task that drives it.
pub(super) struct Mqtt {
    client: AsyncClient,
    topic: String,
    introduced: bool,
    pub(super) events: mpsc::Receiver<LinkEvent>,
    driver: JoinHandle<()>,
}

impl std::fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mqtt").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Mqtt {
    pub(super) fn open(server: &Server, again: bool) -> Self {
        let (client, event_loop) = AsyncClient::builder(options(server)).capacity(QUEUE).build();
        let (sender, events) = mpsc::channel(QUEUE);
        let driver = tokio::spawn(drive(event_loop, client.clone(), server.clone(), sender, again));
        Self { client, topic: server.up.to_string(), introduced: false, events, driver }
    }

    pub(super) fn send(&mut self, frame: Bytes) -> Gone {
        let options = PublishOptions::at_least_once();
        let options = if self.introduced { options } else { options.properties(introduction()) };
        match self.client.try_publish(self.topic.clone(), frame.clone(), options) {
            Ok(()) => {
                self.introduced = true;
                Gone::Taken
            }
            Err(rumqttc::ClientError::RequestChannelFull(_)) => Gone::Full(frame),
            Err(error) => {
                debug!(error = %error, "the client takes nothing more");
                Gone::Never
            }
        }
    }

    pub(super) async fn close(mut self) {
        if self.client.try_disconnect().is_ok() {
            // The driver ends when the DISCONNECT is out.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, async { while self.events.recv().await.is_some() {} }).await;
        }
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn drive(
    mut event_loop: EventLoop,
    client: AsyncClient,
    server: Server,
    events: mpsc::Sender<LinkEvent>,
    again: bool,
) {
    loop {
        let event = match event_loop.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                if client.try_subscribe(server.down.clone(), QoS::AtLeastOnce).is_err() {
                    return;
                }
                continue;
            }
            Ok(Event::Incoming(Incoming::SubAck(_))) => {
                info!(server = %server.host, port = server.port, "uplink connected");
                LinkEvent::Ready
            }
            Ok(Event::Incoming(Incoming::Publish(publish))) => LinkEvent::Frame(publish.payload),
            Ok(_) => continue,
            Err(rumqttc::ConnectionError::RequestsDone) => return,
            Err(error) => {
                // Told once per outage; the attempts that follow are for who looks closely.
                if again {
                    debug!(server = %server.host, %error, "uplink is still down");
                } else {
                    warn!(server = %server.host, %error, "uplink is down");
                }
                return;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

fn options(server: &Server) -> MqttOptions {
    let device = server.up.device.as_str().to_owned();
    let mut options = MqttOptions::new(device.clone(), (server.host.clone(), server.port));
    options.set_keep_alive(KEEP_ALIVE_SECS);
    options.set_clean_start(true);
    options.set_session_expiry_interval(Some(0));
    options.set_user_properties(vec![wire(), ("software".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    options.set_topic_alias_policy(TopicAliasPolicy::Monotonic);
    options.set_credentials(device, Bytes::from(server.credential.clone()));
    options.set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_PACKET_BYTES));
    options.set_connect_timeout(CONNECT_TIMEOUT);
    options.set_outgoing_inflight_upper_limit(IN_FLIGHT);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some(ca) = &server.ca {
        let client_auth = server.certificate.as_ref().map(Certificate::pem);
        let tls = TlsConfiguration::Simple { ca: ca.clone().into_bytes(), alpn: None, client_auth };
        options.set_transport(Transport::Tls(tls));
    }
    options
}

/// What the first message of a connection says of all of them.
fn introduction() -> PublishProperties {
    PublishProperties {
        content_type: Some(CONTENT_TYPE.to_owned()),
        user_properties: vec![wire()],
        ..PublishProperties::default()
    }
}

fn wire() -> (String, String) {
    ("wire".to_owned(), VERSION.to_string())
}

const CONTENT_TYPE: &str = "application/vnd.kilter.frame";
/// Twice the longest frame: the topic and the properties need a little more than a frame.
const MAX_PACKET_BYTES: u32 = 2 * MAX_FRAME_BYTES as u32;
const KEEP_ALIVE_SECS: u16 = 15;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
const IN_FLIGHT: u16 = 32;
const QUEUE: usize = 16;
