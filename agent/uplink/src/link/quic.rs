//! Frames over QUIC: one connection, a stream for talk and one for each urgency, so that an alarm waits for no back-fill.
//!
//! The stream for talk goes both ways and begins with the credential; it carries what is no batch, and everything from the
//! aggregator. The others go up only. No data is sent before the handshake is done (0-RTT is off: it can be replayed). A change of
//! address, ours or a NAT's, moves the connection instead of ending it.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kilter_wire::frame::{self, Kind};
use kilter_wire::link::{ALPN, Credential, Greeting};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, IdleTimeout, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, info};

use super::{Gone, LinkEvent};
use crate::certificate::Certificate;
use crate::server::Server;
use crate::session::Urgency;

/// One connection and the task that drives it.
#[derive(Debug)]
pub(super) struct Quic {
    streams: [mpsc::Sender<Bytes>; Urgency::ALL.len()],
    pub(super) events: mpsc::Receiver<LinkEvent>,
    driver: JoinHandle<()>,
}

impl Quic {
    pub(super) fn open(server: &Server, again: bool) -> Self {
        let (streams, queues): (Vec<_>, Vec<_>) = Urgency::ALL.iter().map(|_| mpsc::channel(QUEUE)).unzip();
        let streams = <[_; Urgency::ALL.len()]>::try_from(streams).expect("a queue for each urgency");
        let (sender, events) = mpsc::channel(QUEUE);
        let server = server.clone();
        let driver = tokio::spawn(async move {
            if let Err(error) = drive(&server, queues, sender).await {
                // MQTT is there: that UDP is blocked is no outage.
                debug!(server = %server.host, again, error = &error as &dyn std::error::Error, "no QUIC");
            }
        });
        Self { streams, events, driver }
    }

    pub(super) fn send(&mut self, urgency: Urgency, frame: Bytes) -> Gone {
        match self.streams[urgency as usize].try_send(frame) {
            Ok(()) => Gone::Taken,
            Err(mpsc::error::TrySendError::Full(frame)) => Gone::Full(frame),
            Err(mpsc::error::TrySendError::Closed(_)) => Gone::Never,
        }
    }

    pub(super) async fn close(self) {
        let Self { streams, mut events, mut driver } = self;
        // The driver ends when its queues have ended and all is acknowledged.
        drop(streams);
        let ended = async {
            while events.recv().await.is_some() {}
            let _ = (&mut driver).await;
        };
        if timeout(CLOSE_TIMEOUT, ended).await.is_err() {
            driver.abort();
        }
    }
}

/// Aborted when it is dropped with the link.
struct Guard(Connection);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close(VarInt::from_u32(0), b"bye");
    }
}

async fn drive(
    server: &Server,
    queues: Vec<mpsc::Receiver<Bytes>>,
    events: mpsc::Sender<LinkEvent>,
) -> Result<(), QuicError> {
    let (endpoint, connection, talk, mut hear) = timeout(CONNECT_TIMEOUT, connect(server)).await??;
    let guard = Guard(connection.clone());
    info!(server = %server.host, port = server.port, "uplink connected by QUIC");
    if events.send(LinkEvent::Ready).await.is_err() {
        return Ok(());
    }
    let mut writers = JoinSet::new();
    let mut talk = Some(talk);
    for (urgency, queue) in Urgency::ALL.into_iter().zip(queues) {
        // The first is for talk; its stream is open already.
        writers.spawn(carry(connection.clone(), talk.take(), urgency, queue));
    }
    loop {
        tokio::select! {
            read = read_frame(&mut hear) => match read? {
                Some(frame) => if events.send(LinkEvent::Frame(frame)).await.is_err() {
                    break;
                },
                None => break,
            },
            written = writers.join_next() => match written {
                Some(Ok(written)) => written?,
                Some(Err(_)) => break,
                // Every queue has ended: goodbye.
                None => break,
            },
            error = connection.closed() => return Err(error.into()),
        }
    }
    drop(guard);
    endpoint.wait_idle().await;
    Ok(())
}

async fn connect(server: &Server) -> Result<(Endpoint, Connection, SendStream, RecvStream), QuicError> {
    let host = server.host.trim_matches(['[', ']']);
    let address = tokio::net::lookup_host((host, server.port)).await?.next().ok_or(QuicError::Lookup)?;
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let mut endpoint = Endpoint::client(any)?;
    let authority = server.ca.as_deref().unwrap_or_default();
    endpoint.set_default_client_config(config(authority, server.certificate.as_ref())?);
    let connection = endpoint.connect(address, host)?.await?;
    let (mut talk, mut hear) = connection.open_bi().await?;
    let hello = Greeting::Hello(Credential {
        tenant: server.up.tenant.as_str(),
        device: server.up.device.as_str(),
        secret: &server.credential,
    });
    let mut room = vec![0; GREETING_BYTES];
    let frame = frame::encode(Kind::Link, &hello, &mut room).map_err(QuicError::Frame)?;
    talk.write_all(frame).await?;
    let silent = || QuicError::Refused("no answer".to_owned());
    let answer = read_frame(&mut hear).await?.ok_or_else(silent)?;
    match frame::decode::<Greeting<'_>>(Kind::Link, &answer).map_err(QuicError::Frame)? {
        Greeting::Accepted => Ok((endpoint, connection, talk, hear)),
        Greeting::Refused(why) => Err(QuicError::Refused(format!("not with this {why}"))),
        Greeting::Hello(_) => Err(silent()),
    }
}

/// Writes one queue into its stream, which is opened with the first frame.
async fn carry(
    connection: Connection,
    mut stream: Option<SendStream>,
    urgency: Urgency,
    mut queue: mpsc::Receiver<Bytes>,
) -> Result<(), QuicError> {
    while let Some(frame) = queue.recv().await {
        if stream.is_none() {
            let opened = connection.open_uni().await?;
            let _ = opened.set_priority(-(urgency as i32));
            stream = Some(opened);
        }
        if let Some(stream) = &mut stream {
            stream.write_chunk(frame).await?;
        }
    }
    if let Some(mut stream) = stream {
        let _ = stream.finish();
        let _ = stream.stopped().await;
    }
    Ok(())
}

/// One whole frame; `None` at the end of the stream.
async fn read_frame(stream: &mut RecvStream) -> Result<Option<Bytes>, QuicError> {
    let mut head = [0; frame::HEADER_BYTES];
    match stream.read_exact(&mut head).await {
        Ok(()) => {}
        Err(quinn::ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let total = frame::length(&head).map_err(QuicError::Frame)?.unwrap_or_default();
    let mut frame = vec![0; total];
    let (start, rest) = frame.split_at_mut(head.len());
    start.copy_from_slice(&head);
    stream.read_exact(rest).await?;
    Ok(Some(frame.into()))
}

fn config(ca: &str, certificate: Option<&Certificate>) -> Result<ClientConfig, QuicError> {
    let tls = tls(ca, certificate)?;
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES));
    let tls = QuicClientConfig::try_from(tls).map_err(|_| QuicError::Authority)?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// TLS 1.3 with the bundle's authority and no other. No data before the handshake is done: it could be replayed.
fn tls(ca: &str, certificate: Option<&Certificate>) -> Result<rustls::ClientConfig, QuicError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.map_err(|_| QuicError::Authority)?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls =
        rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    let tls = tls.with_root_certificates(roots);
    let mut tls = match certificate {
        Some(certificate) => {
            let (chain, key) = certificate.parse().map_err(QuicError::Certificate)?;
            tls.with_client_auth_cert(chain, key)?
        }
        None => tls.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = false;
    Ok(tls)
}

/// Why there is no QUIC.
#[derive(Debug, Error)]
enum QuicError {
    #[error("find the server's address")]
    Lookup,
    #[error("wait for the server by QUIC")]
    Silent(#[from] tokio::time::error::Elapsed),
    #[error("use the server's certificate authority")]
    Authority,
    #[error("use the server's certificate authority")]
    Tls(#[from] rustls::Error),
    #[error("use the client certificate: {0}")]
    Certificate(&'static str),
    #[error("read a frame by QUIC")]
    Frame(frame::FrameError),
    #[error("be let in by QUIC: {0}")]
    Refused(String),
    #[error("open a socket for QUIC")]
    Io(#[from] std::io::Error),
    #[error("connect by QUIC")]
    Connect(#[from] quinn::ConnectError),
    #[error("keep the QUIC connection")]
    Connection(#[from] quinn::ConnectionError),
    #[error("write by QUIC")]
    Write(#[from] quinn::WriteError),
    #[error("read by QUIC")]
    Read(#[from] quinn::ReadExactError),
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// A silent path is given up after so long, and MQTT takes over.
const IDLE_MS: u32 = 6_000;
const WINDOW_BYTES: u32 = 512 * 1024;
const GREETING_BYTES: usize = 1024;
const QUEUE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_before_the_handshake_is_done() {
        assert!(!tls("", None).expect("TLS without an authority").enable_early_data);
    }
}
