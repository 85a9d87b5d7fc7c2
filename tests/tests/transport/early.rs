//! What could be replayed carries no data: 0-RTT is off at the aggregator's door, also for a client that would send data early.

use std::net::SocketAddr;
use std::sync::Arc;

use kilter_ingest::listener::AnyDevice;
use kilter_ingest::quic::{QuicHub, QuicLimits, serve};
use kilter_wire::frame::{self, Kind};
use kilter_wire::link::{ALPN, Credential, Greeting};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig, VarInt};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::sync::mpsc;

use crate::site::{certificates, name};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_a_client_that_would_send_data_before_the_handshake_is_done_can_not() {
    let (tls, ca) = certificates();
    let open = takes_early_data(&tls);
    assert!(could_send_early(open, &ca).await, "the client sends early where it may, or this test sees nothing");

    let quic = QuicHub::new(QuicLimits::default(), Arc::new(AnyDevice { tenant: name("default") }));
    let endpoint = quic.bind(std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port"), &tls).expect("TLS 1.3");
    let ours = endpoint.local_addr().expect("bound");
    let (inbound, _messages) = mpsc::channel(8);
    tokio::spawn(serve(endpoint, quic, inbound, std::future::pending()));
    assert!(!could_send_early(ours, &ca).await, "the aggregator's door invites data that can be replayed");
}

/// Connects twice with one memory of sessions: may the second connection send before its handshake is done?
async fn could_send_early(door: SocketAddr, ca: &str) -> bool {
    let mut endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a free port");
    endpoint.set_default_client_config(eager(ca));
    let connect = || endpoint.connect(door, "127.0.0.1").expect("a good address");
    let first = connect().await.expect("a handshake");
    // With the answer the session's ticket is here.
    greet(&first).await;
    first.close(VarInt::from_u32(0), b"bye");
    match connect().into_0rtt() {
        Ok(_) => true,
        Err(connecting) => {
            greet(&connecting.await.expect("a handshake")).await;
            false
        }
    }
}

/// A client that resumes sessions and sends early wherever it is invited to.
fn eager(ca: &str) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3");
    let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = true;
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("good for QUIC")))
}

/// Says who speaks and hears an answer.
async fn greet(connection: &Connection) {
    let (mut talk, mut hear) = connection.open_bi().await.expect("a stream");
    let hello = Greeting::Hello(Credential { tenant: "default", device: "edge-1", secret: "secret" });
    let mut room = [0; 256];
    talk.write_all(frame::encode(Kind::Link, &hello, &mut room).expect("it fits")).await.expect("written");
    assert!(hear.read_chunk(1024, true).await.expect("read").is_some(), "no answer");
}

/// A door beside ours that takes early data and answers whatever comes.
fn takes_early_data(tls: &rustls::ServerConfig) -> SocketAddr {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.max_early_data_size = u32::MAX;
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("good for QUIC")));
    let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = endpoint.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                let Ok((mut talk, mut hear)) = connection.accept_bi().await else { return };
                let _ = hear.read_chunk(1024, true).await;
                let _ = talk.write_all(b"welcome").await;
                connection.closed().await;
            });
        }
    });
    address
}
