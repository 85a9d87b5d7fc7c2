//! QUIC in place of MQTT: the same messages, the same handles, another shell.
//!
//! A device opens one stream for talk, which begins with its credential ([`kilter_wire::link`]), and one up for each urgency. What goes down
//! goes by the stream for talk. Nothing is acknowledged here: the ack that a device waits for is the journal's, and it comes as a
//! message. 0-RTT is off. A connection moves with its device's address; a second one of the same device takes over.
//!
//! **Memory (D3).** A frame reserves its size in one byte budget before it is read on; where nothing is left, streams are not read
//! and QUIC's own windows (512 kB a connection) hold the device back. Mail to a device is bounded by messages, and past that the
//! connection is closed: what matters is said again to who comes back.
#![expect(clippy::disallowed_methods, reason = "a shell reads the clock for its connections")]

mod either;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use kilter_wire::frame::{self, Kind};
use kilter_wire::link::{ALPN, Greeting};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, RecvStream, SendStream, TransportConfig, VarInt,
};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

pub use either::Either;

use crate::ack::{AckQueue, Verdict};
use crate::budget::{Budget, Reservation};
use crate::certificate::{self, Certificate};
use crate::counters::{Counters, Tally, add, sub};
use crate::gateway::{DeviceLink, Inbound, Presence, Principal, SendError, Sent};
use crate::listener::Authorise;

/// The bounds of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuicLimits {
    /// Connections open at once; more are refused.
    pub connections: usize,
    /// Bytes of all messages together between the first byte read and the verdict.
    pub budget_bytes: usize,
    /// Messages that may wait for one device.
    pub mail: usize,
    /// How long a connection may take from its first packet to its credential.
    pub greeting_secs: u32,
    /// A silent connection is closed after so long.
    pub idle_secs: u32,
}

impl Default for QuicLimits {
    fn default() -> Self {
        Self { connections: 10_000, budget_bytes: 64 << 20, mail: 256, greeting_secs: 10, idle_secs: 15 }
    }
}

/// What all connections share, and the way down to devices; cheap to clone.
#[derive(Clone)]
pub struct QuicHub(Arc<Shared>);

struct Shared {
    limits: QuicLimits,
    authorise: Arc<dyn Authorise>,
    budget: Arc<Budget>,
    tally: Tally,
    lines: Mutex<HashMap<Principal, Line>>,
    next_line: AtomicU64,
}

struct Line {
    id: u64,
    since: Instant,
    connection: Connection,
    mail: mpsc::Sender<Bytes>,
}

/// The endpoint could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// No TLS 1.3 with this certificate.
    #[error("set up TLS 1.3 for QUIC")]
    Tls,
    /// The socket.
    #[error("open the UDP socket for QUIC")]
    Socket(#[from] std::io::Error),
}

/// An endpoint that is bound and not yet served.
pub struct QuicEndpoint(Endpoint);

impl QuicHub {
    /// A hub that asks `authorise`.
    pub fn new(limits: QuicLimits, authorise: Arc<dyn Authorise>) -> Self {
        let budget = Budget::new(limits.budget_bytes);
        let (tally, lines, next_line) = (Tally::default(), Mutex::default(), AtomicU64::default());
        Self(Arc::new(Shared { limits, authorise, budget, tally, lines, next_line }))
    }

    /// Prepares a socket; nothing is taken before [`serve`] runs.
    pub fn bind(&self, socket: std::net::UdpSocket, tls: &rustls::ServerConfig) -> Result<QuicEndpoint, QuicError> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.max_early_data_size = 0;
        let tls = QuicServerConfig::try_from(tls).map_err(|_| QuicError::Tls)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let mut transport = TransportConfig::default();
        let idle_ms = self.0.limits.idle_secs.saturating_mul(1_000);
        transport
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms.min(1 << 29)))))
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
            .receive_window(VarInt::from_u32(WINDOW_BYTES))
            .send_window(u64::from(WINDOW_BYTES));
        config.transport_config(Arc::new(transport)).migration(true);
        socket.set_nonblocking(true)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        Ok(QuicEndpoint(Endpoint::new(EndpointConfig::default(), Some(config), socket, runtime)?))
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, HashMap<Principal, Line>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QuicEndpoint {
    /// Where it listens.
    pub fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves devices until `shutdown` is ready. Messages go into `inbound`; while it is full the streams are not read.
pub async fn serve(
    endpoint: QuicEndpoint,
    hub: QuicHub,
    inbound: mpsc::Sender<Inbound>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let endpoint = endpoint.0;
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            incoming = endpoint.accept() => match incoming {
                Some(incoming) if connections.len() >= hub.0.limits.connections => {
                    hub.0.tally.refuse(REFUSED_BUSY);
                    incoming.refuse();
                }
                Some(incoming) => {
                    let (hub, inbound) = (hub.clone(), inbound.clone());
                    connections.spawn(async move {
                        if let Err(error) = converse(incoming, &hub, inbound).await {
                            debug!(error = &*error, "QUIC connection ended");
                        }
                    });
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    endpoint.close(VarInt::from_u32(0), b"shutting down");
    connections.abort_all();
    let _ = timeout(GOODBYE, endpoint.wait_idle()).await;
}

type Ended = Box<dyn std::error::Error + Send + Sync>;

async fn converse(incoming: Incoming, hub: &QuicHub, inbound: mpsc::Sender<Inbound>) -> Result<(), Ended> {
    let patience = Duration::from_secs(hub.0.limits.greeting_secs.into());
    let (connection, device, talk, hear) = timeout(patience, greet(incoming, hub)).await??;
    let (mail, letters) = mpsc::channel(hub.0.limits.mail);
    let line = hub.0.next_line.fetch_add(1, Ordering::Relaxed);
    let before = hub
        .lines()
        .insert(device.clone(), Line { id: line, since: Instant::now(), connection: connection.clone(), mail });
    if let Some(before) = before {
        add(&hub.0.tally.takeovers, 1);
        before.connection.close(VarInt::from_u32(TAKEN_OVER), b"taken over");
    }
    add(&hub.0.tally.connections, 1);
    add(&hub.0.tally.connections_now, 1);
    let bell = Arc::new(Bell(Notify::new()));
    let reader = Reader {
        hub: hub.clone(),
        device: device.clone(),
        topic: Arc::from(TOPIC),
        inbound,
        acks: AckQueue::new(Waker::from(Arc::clone(&bell))),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(deliver(talk, letters, hub.clone()));
    tasks.spawn(reader.clone().read(hear));
    let ended = loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(stream) => drop(tasks.spawn(reader.clone().read(stream))),
                Err(error) => break Err(error.into()),
            },
            ended = tasks.join_next() => match ended {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => break Err(error),
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(()),
            },
            () = bell.0.notified() => {
                let mut lost = false;
                while let Some(verdict) = reader.acks.pop() {
                    // What was refused is told by the server's own message; what was lost on the way must be sent again.
                    lost |= verdict == Verdict::Abandoned;
                }
                if lost {
                    warn!(device = %device, "message lost on the way to the journal; connection closed");
                    break Ok(());
                }
            }
        }
    };
    sub(&hub.0.tally.connections_now, 1);
    let mut lines = hub.lines();
    if lines.get(&device).is_some_and(|known| known.id == line) {
        lines.remove(&device);
    }
    drop(lines);
    connection.close(VarInt::from_u32(0), b"bye");
    ended
}

/// The handshake and the credential.
async fn greet(incoming: Incoming, hub: &QuicHub) -> Result<(Connection, Principal, SendStream, RecvStream), Ended> {
    let connection = incoming.await.inspect_err(|error| {
        if certificate::is_missing_by_quic(error) {
            hub.0.tally.refuse(REFUSED_CERTIFICATE);
        }
    })?;
    let (mut talk, mut hear) = connection.accept_bi().await?;
    let mut head = [0; frame::HEADER_BYTES];
    hear.read_exact(&mut head).await?;
    let total = frame::length(&head)?.unwrap_or_default();
    if total > GREETING_BYTES {
        return Err("a greeting is not so long".into());
    }
    let mut hello = vec![0; total];
    hello[..head.len()].copy_from_slice(&head);
    hear.read_exact(&mut hello[head.len()..]).await?;
    let known = match frame::decode::<Greeting<'_>>(Kind::Link, &hello) {
        Ok(Greeting::Hello(credential)) => credential.principal().and_then(|(tenant, device)| {
            let secret = Some(credential.secret.as_bytes());
            let found = hub.0.authorise.connect(device.as_str(), Some(device.as_str()), secret).ok()?;
            (found == Principal { tenant, device }).then_some(found)
        }),
        Ok(Greeting::Accepted | Greeting::Refused(_)) | Err(_) => None,
    };
    let known = match known {
        Some(device) if Certificate::by_quic(&connection).is_for(&device.device) => Ok(device),
        Some(_) => Err(("certificate", REFUSED_CERTIFICATE)),
        None => Err(("credential", REFUSED_CREDENTIAL)),
    };
    let answer = known.as_ref().map_or_else(|(what, _)| Greeting::Refused(what), |_| Greeting::Accepted);
    let mut room = [0; 64];
    talk.write_all(frame::encode(Kind::Link, &answer, &mut room)?).await?;
    match known {
        Ok(device) => Ok((connection, device, talk, hear)),
        Err((what, reason)) => {
            hub.0.tally.refuse(reason);
            let _ = talk.finish();
            let _ = talk.stopped().await;
            connection.close(VarInt::from_u32(NOT_AUTHORIZED), what.as_bytes());
            Err(format!("not its {what}").into())
        }
    }
}

async fn deliver(mut talk: SendStream, mut letters: mpsc::Receiver<Bytes>, hub: QuicHub) -> Result<(), Ended> {
    while let Some(letter) = letters.recv().await {
        add(&hub.0.tally.messages_down, 1);
        add(&hub.0.tally.bytes_down, letter.len() as u64);
        talk.write_chunk(letter).await?;
    }
    Ok(())
}

/// Reads frames from one stream.
#[derive(Clone)]
struct Reader {
    hub: QuicHub,
    device: Principal,
    topic: Arc<str>,
    inbound: mpsc::Sender<Inbound>,
    acks: Arc<AckQueue>,
}

impl Reader {
    async fn read(self, mut stream: RecvStream) -> Result<(), Ended> {
        loop {
            let mut head = [0; frame::HEADER_BYTES];
            match stream.read_exact(&mut head).await {
                Ok(()) => {}
                Err(quinn::ReadExactError::FinishedEarly(0)) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let total = frame::length(&head)?.unwrap_or_default();
            let reservation = self.reserve(total.max(LEAST_BYTES)).await;
            let mut payload = vec![0; total];
            payload[..head.len()].copy_from_slice(&head);
            stream.read_exact(&mut payload[head.len()..]).await?;
            add(&self.hub.0.tally.messages_up, 1);
            add(&self.hub.0.tally.bytes_up, total as u64);
            let ack = self.acks.open(Some(reservation));
            let (device, topic) = (self.device.clone(), Arc::clone(&self.topic));
            self.inbound.send(Inbound { device, topic, payload: payload.into(), ack }).await?;
        }
    }

    async fn reserve(&self, bytes: usize) -> Reservation {
        let bell = Arc::new(Bell(Notify::new()));
        let waker = Waker::from(Arc::clone(&bell));
        loop {
            if let Some(reservation) = self.hub.0.budget.reserve(bytes, &waker) {
                return reservation;
            }
            add(&self.hub.0.tally.stalls, 1);
            bell.0.notified().await;
        }
    }
}

impl DeviceLink for QuicHub {
    fn send(&self, device: &Principal, payload: Bytes) -> Result<Sent, SendError> {
        let bytes = payload.len();
        let lines = self.lines();
        let line = lines.get(device).ok_or(SendError::Ended)?;
        match line.mail.try_send(payload) {
            Ok(()) => Ok(Sent::Online),
            Err(mpsc::error::TrySendError::Full(_)) => {
                add(&self.0.tally.dropped_down, 1);
                line.connection.close(VarInt::from_u32(TOO_SLOW), b"mail not taken");
                Err(SendError::Full { bytes })
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SendError::Ended),
        }
    }

    fn presence(&self, device: &Principal) -> Presence {
        if self.lines().contains_key(device) { Presence::Online } else { Presence::Offline }
    }

    fn counters(&self) -> Counters {
        self.0.tally.snapshot(self.0.budget.used_bytes())
    }
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

/// The topic under which messages come.
pub const TOPIC: &str = "quic";

const STREAMS: u32 = 8;
const WINDOW_BYTES: u32 = 512 * 1024;
const GREETING_BYTES: usize = 2048;
/// A message holds at least so much of the budget, so that its bytes bound their number too.
const LEAST_BYTES: usize = 256;
const GOODBYE: Duration = Duration::from_secs(1);
/// As MQTT counts them.
const REFUSED_BUSY: u8 = 0x89;
const REFUSED_CREDENTIAL: u8 = 0x86;
const REFUSED_CERTIFICATE: u8 = 0x87;
const TAKEN_OVER: u32 = 1;
const NOT_AUTHORIZED: u32 = 2;
const TOO_SLOW: u32 = 3;
