//! The broker shell against mosquitto, and mosquitto's own clients against the listener.
//!
//! Where mosquitto is not installed (Debian: `mosquitto`, `mosquitto-clients`) each test says `not run: 1` and passes, but in CI it fails.

use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use kilter_ingest::broker::{BrokerConfig, BrokerLink, connect};
use kilter_ingest::listener::Limits;
use kilter_ingest::{DeviceLink, Inbound, Presence, Sent};
use kilter_tests::{Mosquitto, free_port, installed};
use kilter_types::Name;
use rumqttc::PubAckReason;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::device::{Device, Door, patience, principal};

#[tokio::test]
async fn what_is_not_accepted_the_broker_hands_over_again() {
    let Some(broker) = open_broker() else { return };
    let mut first = Aggregator::start(&broker, None).await;
    let mut device = Device::connect_to(broker.port, "pump-1").await;
    device.publish(b"kept").await;
    device.publish(b"lost").await;
    assert_eq!(device.puback().await, PubAckReason::Success);
    let kept = first.next().await;
    assert_eq!((kept.payload.as_ref(), kept.device.clone()), (&b"kept"[..], principal("pump-1")));
    let lost = first.next().await;
    kept.ack.accept();
    // The aggregator ends with the second message unsettled.
    first.end().await;
    drop(lost);

    let mut second = Aggregator::start(&broker, None).await;
    let again = second.next().await;
    assert_eq!(again.payload, "lost");
    again.ack.accept();
    device.publish(b"next").await;
    let next = second.next().await;
    assert_eq!(next.payload, "next");
    // A handle dropped while running does the same without a restart.
    drop(next);
    let next = second.next().await;
    assert_eq!(next.payload, "next");
    next.ack.accept();
    second.end().await;
}

#[tokio::test]
async fn mail_goes_down_through_the_broker_and_shared_subscriptions_come_up() {
    let Some(broker) = open_broker() else { return };
    let group = Name::new("kilter").expect("a good name");
    let mut aggregator = Aggregator::start(&broker, Some(group)).await;
    let mut device = Device::connect_to(broker.port, "pump-1").await;
    device.subscribe_down().await;
    let sent = aggregator.link.send(&principal("pump-1"), Bytes::from_static(b"a plan"));
    assert_eq!(sent, Ok(Sent::Relayed));
    assert_eq!(device.mail().await, "a plan");
    assert_eq!(aggregator.link.presence(&principal("pump-1")), Presence::Unknown);
    device.publish(b"shared").await;
    let inbound = aggregator.next().await;
    assert_eq!(inbound.payload, "shared");
    inbound.ack.accept();
    assert_eq!(aggregator.link.counters().messages_up, 1);
    aggregator.end().await;
}

#[tokio::test]
async fn a_broker_behind_tls_is_believed_by_its_authority_and_no_other() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let Some((broker, tls_port)) = tls_broker(&cert.pem(), &signing_key.serialize_pem()).await else { return };
    let trust = |cert: &rcgen::Certificate| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(config.expect("versions").with_root_certificates(roots).with_no_client_auth())
    };
    let config = |client_id: &str, cert: &rcgen::Certificate| BrokerConfig {
        port: tls_port,
        tls: Some(trust(cert)),
        ..BrokerConfig::new("127.0.0.1", client_id)
    };
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let (sender, _inbound) = mpsc::channel(16);
    let (stranger, connection) = connect(config("stranger", &other.cert), sender).expect("a good configuration");
    let refused = tokio::spawn(connection.run(std::future::pending()));
    let mut aggregator = Aggregator::start_as(config("kilter-aggregator", &cert)).await;
    let device = Device::connect_to(broker.port, "pump-1").await;
    device.publish(b"by tls").await;
    let inbound = aggregator.next().await;
    assert_eq!(inbound.payload, "by tls");
    inbound.ack.accept();
    aggregator.end().await;
    assert!(!stranger.is_subscribed(), "another authority's broker was believed");
    refused.abort();
}

#[tokio::test]
async fn mosquitto_clients_of_both_versions_work_with_the_listener() {
    if installed("mosquitto_pub").is_none() {
        return;
    }
    let mut door = Door::open(Limits::default()).await;
    for version in ["mqttv311", "mqttv5"] {
        let port = door.address.port().to_string();
        let mut publisher = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-q", "1", "-m", version])
            .args(["-i", "pump-1", "-u", "pump-1", "-P", "secret-pump-1", "-t", "kilter/v1/acme/pump-1/up"])
            .spawn()
            .expect("mosquitto_pub starts");
        let inbound = door.next().await;
        assert_eq!(inbound.payload, version);
        assert!(publisher.try_wait().expect("its state").is_none(), "it waits for the PUBACK");
        inbound.ack.accept();
        let status = tokio::task::spawn_blocking(move || publisher.wait()).await.expect("waited");
        assert!(status.expect("its status").success());

        let sent = door.hub.send(&principal("pump-1"), Bytes::from_static(b"mail"));
        assert_eq!(sent, Ok(Sent::Parked));
        let subscriber = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-q", "1", "-C", "1"])
            .args(["-i", "pump-1", "-u", "pump-1", "-P", "secret-pump-1", "-t", "kilter/v1/acme/pump-1/down"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub starts");
        let output = patience(tokio::task::spawn_blocking(move || subscriber.wait_with_output())).await;
        assert_eq!(output.expect("waited").expect("its output").stdout, b"mail\n");
    }
}

/// A broker that lets anybody in.
fn open_broker() -> Option<Mosquitto> {
    Mosquitto::start(|_| "allow_anonymous true\n".to_owned()).expect("mosquitto starts")
}

/// One with a second listener, at the port that comes with it, for this certificate and key.
async fn tls_broker(cert: &str, key: &str) -> Option<(Mosquitto, u16)> {
    let port = free_port().expect("a free port");
    let broker = Mosquitto::start(|folder| {
        let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert_file, cert).expect("written");
        std::fs::write(&key_file, key).expect("written");
        let (cert, key) = (cert_file.display(), key_file.display());
        format!("allow_anonymous true\nlistener {port} 127.0.0.1\ncertfile {cert}\nkeyfile {key}\n")
    });
    let broker = broker.expect("mosquitto starts")?;
    patience(async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    Some((broker, port))
}

/// The server's side of a broker.
struct Aggregator {
    link: BrokerLink,
    inbound: mpsc::Receiver<Inbound>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Aggregator {
    async fn start(broker: &Mosquitto, share_group: Option<Name>) -> Self {
        let config = BrokerConfig::new("127.0.0.1", "kilter-aggregator");
        Self::start_as(BrokerConfig { port: broker.port, share_group, ..config }).await
    }

    async fn start_as(config: BrokerConfig) -> Self {
        let (sender, inbound) = mpsc::channel(16);
        let (link, connection) = connect(config, sender).expect("a good configuration");
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(connection.run(async {
            let _ = stopped.await;
        }));
        let aggregator = Self { link, inbound, stop, running };
        let subscribed = async {
            while !aggregator.link.is_subscribed() {
                tokio::task::yield_now().await;
            }
        };
        patience(subscribed).await;
        aggregator
    }

    async fn next(&mut self) -> Inbound {
        patience(self.inbound.recv()).await.expect("a message")
    }

    async fn end(self) {
        let _ = self.stop.send(());
        patience(self.running).await.expect("ended well");
    }
}
