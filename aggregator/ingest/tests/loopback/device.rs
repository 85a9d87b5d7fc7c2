//! A listener on a free port, and devices that are real MQTT clients.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kilter_ingest::listener::{Authorise, Hub, Limits, Refusal, serve};
use kilter_ingest::{Inbound, Principal};
use kilter_types::{DeviceId, Name};
use rumqttc::{
    AsyncClient, Broker, ConnectReturnCode, ConnectionError, Event, Incoming, MqttOptions, Packet, PubAckReason,
    PublishOptions, QoS, SessionMode, StateError, SubscribeReasonCode, TlsConfiguration, TopicAliasPolicy, Transport,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub(crate) const TENANT: &str = "acme";

/// Devices `pump-*` and `edge-1` with the password `secret-<name>`.
struct Pumps;

impl Authorise for Pumps {
    fn connect(&self, client_id: &str, username: Option<&str>, password: Option<&[u8]>) -> Result<Principal, Refusal> {
        let name = username.ok_or(Refusal::BadCredential)?;
        if !(name.starts_with("pump-") || name == "edge-1") || password != Some(format!("secret-{name}").as_bytes()) {
            return Err(Refusal::BadCredential);
        }
        if !client_id.is_empty() && client_id != name {
            return Err(Refusal::ClientId);
        }
        Ok(principal(name))
    }
}

/// A running listener.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) hub: Hub,
    pub(crate) inbound: mpsc::Receiver<Inbound>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Door {
    pub(crate) async fn open(limits: Limits) -> Self {
        Self::open_with(limits, None).await
    }

    pub(crate) async fn open_with(limits: Limits, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let hub = Hub::new(limits, Arc::new(Pumps)).expect("good limits");
        let (sender, inbound) = mpsc::channel(64);
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, tls, hub.clone(), sender, async {
            let _ = stopped.await;
        }));
        Self { address, hub, inbound, stop: Some(stop), serving }
    }

    /// The next message that came in.
    pub(crate) async fn next(&mut self) -> Inbound {
        patience(self.inbound.recv()).await.expect("a message")
    }

    /// Lets everything run until the condition holds.
    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        patience(async {
            while !condition(self) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().expect("stopped once").send(());
    }

    pub(crate) async fn ended(self) {
        self.serving.await.expect("the listener ended well");
    }
}

/// What a client saw.
#[derive(Debug)]
enum Seen {
    Packet(Packet),
    Refused(ConnectReturnCode),
    Disconnected(u8),
    Broken(String),
}

/// A device: a client whose event loop runs in the background.
pub(crate) struct Device {
    name: String,
    client: AsyncClient,
    events: mpsc::UnboundedReceiver<Seen>,
    aside: VecDeque<Seen>,
    running: JoinHandle<()>,
}

impl Device {
    /// A device that has been welcomed.
    pub(crate) async fn connect(door: &Door, name: &str) -> Self {
        let mut device = Self::new(door, name);
        device.until_connected().await;
        device
    }

    /// A device that asks for a session, so that its client repeats what was not acknowledged.
    pub(crate) async fn connect_persistent(door: &Door, name: &str) -> Self {
        let mut options = options(door.address.port(), "127.0.0.1", name, &secret(name));
        options.set_session_mode(SessionMode::Persistent);
        let mut device = Self::start(options, name);
        device.until_connected().await;
        device
    }

    pub(crate) async fn connect_tls(door: &Door, name: &str, config: Arc<rustls::ClientConfig>) -> Self {
        let mut device = Self::new_tls(door, name, &secret(name), config);
        device.until_connected().await;
        device
    }

    /// A device at a broker that asks for no password.
    pub(crate) async fn connect_to(port: u16, name: &str) -> Self {
        let mut device = Self::start(options(port, "127.0.0.1", name, &secret(name)), name);
        device.until_connected().await;
        device
    }

    /// A device on its way.
    pub(crate) fn new(door: &Door, name: &str) -> Self {
        Self::with_password(door, name, &secret(name))
    }

    pub(crate) fn with_password(door: &Door, name: &str, password: &str) -> Self {
        Self::start(options(door.address.port(), "127.0.0.1", name, password), name)
    }

    pub(crate) fn new_tls(door: &Door, name: &str, password: &str, config: Arc<rustls::ClientConfig>) -> Self {
        let mut options = options(door.address.port(), "localhost", name, password);
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        Self::start(options, name)
    }

    fn start(options: MqttOptions, name: &str) -> Self {
        let (client, mut events_loop) = AsyncClient::builder(options).capacity(256).build();
        let (sender, events) = mpsc::unbounded_channel();
        let running = tokio::spawn(async move {
            loop {
                let seen = match events_loop.poll().await {
                    Ok(Event::Incoming(packet)) => Seen::Packet(packet),
                    Ok(Event::Outgoing(_) | Event::Auth(_)) => continue,
                    Err(ConnectionError::ConnectionRefused(code)) => Seen::Refused(code),
                    Err(ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. })) => {
                        Seen::Disconnected(reason_code as u8)
                    }
                    Err(error) => Seen::Broken(error.to_string()),
                };
                // A refused or displaced client that came back at once would only fight.
                let ends = matches!(seen, Seen::Refused(_) | Seen::Disconnected(0x8b | 0x8e));
                if sender.send(seen).is_err() || ends {
                    return;
                }
            }
        });
        Self { name: name.to_owned(), client, events, aside: VecDeque::new(), running }
    }

    pub(crate) async fn publish(&self, payload: &[u8]) {
        let topic = format!("kilter/v1/{TENANT}/{}/up", self.name);
        self.publish_to(&topic, payload).await;
    }

    pub(crate) async fn publish_to(&self, topic: &str, payload: &[u8]) {
        self.client.publish(topic, payload.to_vec(), PublishOptions::new(QoS::AtLeastOnce)).await.expect("queued");
    }

    pub(crate) async fn subscribe_down(&mut self) {
        let topic = format!("kilter/v1/{TENANT}/{}/down", self.name);
        assert_eq!(self.subscribe(&topic).await, SubscribeReasonCode::Success(QoS::AtLeastOnce));
    }

    pub(crate) async fn subscribe(&mut self, filter: &str) -> SubscribeReasonCode {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.expect("queued");
        self.packet(|packet| match packet {
            Packet::SubAck(ack) => ack.return_codes.first().copied(),
            _ => None,
        })
        .await
    }

    /// The reason of the next PUBACK.
    pub(crate) async fn puback(&mut self) -> PubAckReason {
        self.packet(|packet| match packet {
            Packet::PubAck(ack) => Some(ack.reason),
            _ => None,
        })
        .await
    }

    /// How many PUBACKs have come and were not taken.
    pub(crate) fn pubacks_aside(&self) -> usize {
        let is_puback = |seen: &&Seen| matches!(seen, Seen::Packet(Packet::PubAck(_)));
        self.aside.iter().filter(is_puback).count()
    }

    /// The next message from the server.
    pub(crate) async fn mail(&mut self) -> Bytes {
        self.packet(|packet| match packet {
            Packet::Publish(publish) => Some(publish.payload.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn until_connected(&mut self) {
        self.packet(|packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await;
    }

    pub(crate) async fn refused(&mut self) -> ConnectReturnCode {
        self.wait(|seen| match seen {
            Seen::Refused(code) => Some(*code),
            _ => None,
        })
        .await
    }

    /// What the client says of a connection that broke.
    pub(crate) async fn broken(&mut self) -> String {
        self.wait(|seen| match seen {
            Seen::Broken(error) => Some(error.clone()),
            _ => None,
        })
        .await
    }

    /// The reason code of the server's DISCONNECT.
    pub(crate) async fn disconnected(&mut self) -> u8 {
        self.wait(|seen| match seen {
            Seen::Disconnected(reason) => Some(*reason),
            _ => None,
        })
        .await
    }

    /// The first match among the packets, those set aside first.
    pub(crate) async fn packet<T>(&mut self, pick: impl Fn(&Incoming) -> Option<T>) -> T {
        self.wait(|seen| match seen {
            Seen::Packet(packet) => pick(packet),
            _ => None,
        })
        .await
    }

    async fn wait<T>(&mut self, pick: impl Fn(&Seen) -> Option<T>) -> T {
        for index in 0..self.aside.len() {
            if let Some(found) = pick(&self.aside[index]) {
                self.aside.remove(index);
                return found;
            }
        }
        loop {
            let seen = patience(self.events.recv())
                .await
                .unwrap_or_else(|| panic!("{} ended; unexpected were {:?}", self.name, self.aside));
            if let Some(found) = pick(&seen) {
                return found;
            }
            self.aside.push_back(seen);
        }
    }
}

impl Drop for Device {
    /// The socket closes without a DISCONNECT.
    fn drop(&mut self) {
        self.running.abort();
    }
}

pub(crate) fn principal(name: &str) -> Principal {
    Principal { tenant: Name::new(TENANT).expect("a good name"), device: DeviceId::new(name).expect("a good name") }
}

/// Waits for long enough on a busy machine, not for ever.
pub(crate) async fn patience<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

/// Both ends of a TLS connection to `localhost`, with a certificate of its own.
pub(crate) fn tls() -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let ends = Ends::new(WebPkiClientVerifier::no_client_auth());
    (Arc::clone(&ends.server), ends.client(None))
}

/// What a device proves itself with.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A server for `localhost`, and the clients that believe it.
pub(crate) struct Ends {
    pub(crate) server: Arc<rustls::ServerConfig>,
    roots: rustls::RootCertStore,
}

impl Ends {
    /// A server that asks its clients so.
    pub(crate) fn new(clients: Arc<dyn ClientCertVerifier>) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let server = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a server");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert.der().clone()).expect("a root");
        Self { server: Arc::new(server), roots }
    }

    /// A client with or without a certificate.
    pub(crate) fn client(&self, identity: Option<Identity>) -> Arc<rustls::ClientConfig> {
        let client = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots.clone());
        Arc::new(match identity {
            Some((chain, key)) => client.with_client_auth_cert(chain, key).expect("key and certificate fit"),
            None => client.with_no_client_auth(),
        })
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(crate) fn secret(name: &str) -> String {
    format!("secret-{name}")
}

fn options(port: u16, host: &str, name: &str, password: &str) -> MqttOptions {
    let mut options = MqttOptions::new(name, Broker::tcp(host, port));
    options.set_credentials(name, password.to_owned());
    options.set_keep_alive(30);
    // As agents do.
    options.set_topic_alias_policy(TopicAliasPolicy::Monotonic);
    options
}
