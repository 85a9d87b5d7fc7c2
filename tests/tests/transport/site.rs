//! An agent's uplink on one side of the proxies, the aggregator's doors on the other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kilter_fold::{Entry, Fold, Output};
use kilter_ingest::listener::{self, AnyDevice, Hub, Limits};
use kilter_ingest::quic::{self, Either, QuicHub, QuicLimits};
use kilter_ingest::{Admission, Admit, DeviceLink, Inbound, Principal};
use kilter_types::{
    Class, Clock, DeviceId, Epoch, Event, JournalId, Micros, Monotonic, Name, Payload, Point, Record, Timeline,
};
use kilter_uplink::{
    Identity, Key, Lost, Place, Ports, Server, Session, SessionConfig, Spool, SpoolError, Status, TimeSample, run,
};
use kilter_wire::frame::{self, Kind};
use kilter_wire::topic::Topic;
use kilter_wire::{Ack, Down, Welcome, encode_record};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::proxy::{TcpProxy, UdpProxy, Weather};

const EPOCH: Epoch = Epoch(77);

/// Everything.
pub(crate) struct Site {
    pub(crate) udp: UdpProxy,
    pub(crate) tcp: TcpProxy,
    doors: (Hub, QuicHub),
    spool: Memory,
    durable: watch::Sender<u64>,
    released: watch::Receiver<u64>,
    links: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    uplink: JoinHandle<()>,
    state: Arc<State>,
    // Kept open: an uplink whose other ends are gone hears of it.
    _others: Others,
}

type Others = (
    mpsc::Sender<kilter_uplink::Note>,
    mpsc::Sender<Vec<u8>>,
    mpsc::Receiver<Bytes>,
    watch::Receiver<Status>,
    mpsc::Receiver<Lost>,
);

#[derive(Default)]
struct State {
    fold: Mutex<Fold>,
    rows: AtomicU64,
    arrived: Mutex<HashMap<String, u64>>,
    /// Frames by the wire version that they name.
    versions: Mutex<HashMap<u8, u64>>,
}

impl Site {
    pub(crate) async fn start(weather: Weather, seed: u64) -> Self {
        Self::start_with(weather, seed, kilter_wire::VERSION).await
    }

    /// With an aggregator that reads wire versions up to this one, as an older build does.
    pub(crate) async fn start_with(weather: Weather, seed: u64, reads: u8) -> Self {
        let (tls, ca) = certificates();
        Self::start_between(weather, seed, reads, tls, |address| server(address, &ca)).await
    }

    /// With doors that speak this TLS, and an agent that finds them by this.
    pub(crate) async fn start_between(
        weather: Weather,
        seed: u64,
        reads: u8,
        tls: Arc<rustls::ServerConfig>,
        find: impl FnOnce(&str) -> Server,
    ) -> Self {
        let state = Arc::new(State::default());
        let (inbound, messages) = mpsc::channel(64);
        let door = Arc::new(AnyDevice { tenant: name("default") });
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let tcp_address = tcp.local_addr().expect("bound");
        let hub = Hub::new(Limits::default(), door.clone()).expect("good limits");
        tokio::spawn(listener::serve(tcp, Some(tls.clone()), hub.clone(), inbound.clone(), std::future::pending()));
        let quic = QuicHub::new(QuicLimits::default(), door);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let endpoint = quic.bind(socket, &tls).expect("TLS 1.3");
        let udp_address = endpoint.local_addr().expect("bound");
        tokio::spawn(quic::serve(endpoint, quic.clone(), inbound, std::future::pending()));
        let doors = (hub.clone(), quic.clone());
        tokio::spawn(answer(messages, Either { quic, other: Arc::new(hub) }, Arc::clone(&state), reads));

        // One number for both, as in production.
        let (front, udp_front) = loop {
            let front = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            if let Ok(udp) = UdpSocket::bind(front.local_addr().expect("bound")).await {
                break (front, udp);
            }
        };
        let address = front.local_addr().expect("bound");
        let tcp = TcpProxy::start(front, tcp_address, weather, seed);
        let udp = UdpProxy::start(udp_front, udp_address, weather, seed).await;

        let server = find(&address.to_string());
        let identity = Identity { device: device(), software: name("0.1.0") };
        let config = SessionConfig { ack_timeout_us: 1_000_000, stall_us: 5_000_000, ..SessionConfig::default() };
        let session = Session::new(config, identity, EPOCH, vec![EPOCH], 0, 0);
        let spool = Memory::default();
        let (durable, durable_seen) = watch::channel(0);
        let (notes, notes_seen) = mpsc::channel(8);
        let (outgoing, outgoing_seen) = mpsc::channel(8);
        let (downs, downs_seen) = mpsc::channel(8);
        let (released_to, released) = watch::channel(0);
        let (status, status_seen) = watch::channel(Status::default());
        let (time, _) = watch::channel::<Option<TimeSample>>(None);
        let (lost, lost_seen) = mpsc::channel(8);
        let (links_to, links) = watch::channel(0);
        let (stop, stop_seen) = watch::channel(false);
        let ports = Ports {
            durable: durable_seen,
            notes: notes_seen,
            outgoing: outgoing_seen,
            downs,
            released: released_to,
            status,
            time,
            lost,
            links: links_to,
            stop: stop_seen,
        };
        let uplink = tokio::spawn(run(server, session, spool.clone(), Started(Instant::now()), seed, ports));
        let others = (notes, outgoing, downs_seen, status_seen, lost_seen);
        Self { udp, tcp, doors, spool, durable, released, links, stop, uplink, state, _others: others }
    }

    /// Makes so many records durable at the agent.
    pub(crate) fn produce(&self, count: u64) {
        let mut records = self.spool.0.lock().expect("unpoisoned");
        for _ in 0..count {
            let seq = records.len() as u64;
            records.push(record(seq));
        }
        self.durable.send_replace(records.len() as u64);
    }

    pub(crate) fn produced(&self) -> u64 {
        *self.durable.borrow()
    }

    pub(crate) fn released(&self) -> u64 {
        *self.released.borrow()
    }

    pub(crate) fn links(&self) -> u64 {
        *self.links.borrow()
    }

    /// Rows that the fold gave, each once.
    pub(crate) fn rows(&self) -> u64 {
        self.state.rows.load(Ordering::Relaxed)
    }

    pub(crate) fn duplicates(&self) -> u64 {
        self.state.fold.lock().expect("unpoisoned").duplicates()
    }

    /// Messages that came by this carrier.
    pub(crate) fn arrived(&self, carrier: &str) -> u64 {
        self.state.arrived.lock().expect("unpoisoned").get(carrier).copied().unwrap_or_default()
    }

    /// Connections that were refused for this reason, by MQTT and by QUIC.
    pub(crate) fn refused(&self, reason: u8) -> (u64, u64) {
        let count = |door: &dyn DeviceLink| door.counters().refused.get(&reason).copied().unwrap_or_default();
        (count(&self.doors.0), count(&self.doors.1))
    }

    /// Frames that came in this wire version.
    pub(crate) fn arrived_in(&self, version: u8) -> u64 {
        self.state.versions.lock().expect("unpoisoned").get(&version).copied().unwrap_or_default()
    }

    pub(crate) async fn wait(&self, what: &str, mut there: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !there(self) {
            assert!(begun.elapsed() < PATIENCE, "waited for: {what}; {} rows of {}", self.rows(), self.produced());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn end(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.uplink).await.expect("it ends").expect("it ends well");
    }
}

/// The aggregator without its disk: what comes is folded and acknowledged, accepted and committed at once.
async fn answer(mut messages: mpsc::Receiver<Inbound>, link: Either, state: Arc<State>, reads: u8) {
    let mut admission = Admission::new(1 << 20);
    state.fold.lock().expect("unpoisoned").apply(
        0,
        Entry::Opened { journal_id: JournalId(1), at: Micros(0), marks: Vec::new() },
        &mut |_| {},
    );
    while let Some(Inbound { device, topic, payload, ack }) = messages.recv().await {
        let version = payload.get(1).copied().unwrap_or_default();
        *state.versions.lock().expect("unpoisoned").entry(version).or_default() += 1;
        assert!(version <= reads, "a frame of version {version} for an aggregator that reads {reads}");
        let carrier = if &*topic == "quic" { "quic" } else { "mqtt" };
        *state.arrived.lock().expect("unpoisoned").entry(carrier.to_owned()).or_default() += 1;
        let send = |down: &Down<'_>| {
            let mut room = vec![0; 4096];
            let bytes = frame::encode(Kind::Down, down, &mut room).expect("acks are short");
            // Who is away asks again.
            let _ = link.send(&device, Bytes::copy_from_slice(bytes));
        };
        match admission.admit(&device, &payload, Micros(1)) {
            Admit::Hello(hello) => {
                link.heard(&device, &topic);
                if reads >= WELCOME_SINCE {
                    send(&Down::Welcome(Welcome { wire_version: reads.into(), software: hello.software }));
                }
                send(&Down::Ack(marks(&state, &device, &admission)));
            }
            Admit::Batch(batch) => {
                let records = batch.records.into_owned();
                admission.settle(&device, records.len());
                let entry =
                    Entry::Batch { device: device.device.clone(), received: Micros(1), epoch: batch.epoch, records };
                state.fold.lock().expect("unpoisoned").apply(1, entry, &mut |output| match output {
                    Output::Row(_) => drop(state.rows.fetch_add(1, Ordering::Relaxed)),
                    Output::Quarantine { reason, .. } => panic!("quarantined: {reason}"),
                });
                send(&Down::Ack(marks(&state, &device, &admission)));
            }
            Admit::TimeRequest { .. } | Admit::Fetch(_) | Admit::CommandResult(_) => {}
            Admit::Refuse(_) => send(&Down::Ack(marks(&state, &device, &admission))),
            Admit::Quarantine { reason, .. } => panic!("quarantined: {reason}"),
        }
        ack.accept();
    }
}

fn marks(state: &State, device: &Principal, admission: &Admission) -> Ack {
    let mut classes = state.fold.lock().expect("unpoisoned").acks(&device.device, EPOCH);
    classes.iter_mut().for_each(|class| class.committed_to = class.accepted_to);
    let credit_bytes = admission.credit_bytes(device);
    Ack { journal_id: JournalId(1), epoch: EPOCH, classes: classes.into_iter().collect(), credit_bytes }
}

/// The agent's journal: offsets are places.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spool for Memory {
    fn read(&mut self, from: u64, bytes: &mut Vec<u8>) -> Result<Option<Place>, SpoolError> {
        let records = self.0.lock().expect("unpoisoned");
        let Some(record) = records.get(from as usize) else { return Ok(None) };
        bytes.clear();
        bytes.extend_from_slice(record);
        let key = Key { epoch: EPOCH, class: Class::Event, seq: from };
        Ok(Some(Place { key, offset: from, next: from + 1 }))
    }
}

struct Started(Instant);

impl Clock for Started {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.elapsed().as_micros() as u64)
    }

    fn wall(&self) -> Option<Micros> {
        None
    }

    fn uncertainty(&self) -> Micros {
        Micros(0)
    }
}

fn record(seq: u64) -> Vec<u8> {
    let record = Record {
        point: Point::parse("default/site/pump-1/de").expect("a good point"),
        epoch: EPOCH,
        seq,
        monotonic: Monotonic(seq * 1_000),
        timeline: Timeline::Source,
        wall: Some(Micros(seq as i64 * 1_000)),
        uncertainty: Micros(0),
        payload: Payload::Event(Event::NewRegime { bin: (seq % 7) as u8 }),
    };
    let mut room = [0; 4097];
    encode_record(&record, &mut room).expect("it fits").to_vec()
}

pub(crate) fn certificates() -> (Arc<rustls::ServerConfig>, String) {
    certificates_asking(WebPkiClientVerifier::no_client_auth())
}

/// The doors' TLS, which asks its clients so, and the authority that agents believe.
pub(crate) fn certificates_asking(clients: Arc<dyn ClientCertVerifier>) -> (Arc<rustls::ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("key and certificate fit");
    (Arc::new(config), made.cert.pem())
}

/// The agent's way to an address.
pub(crate) fn server(address: &str, ca: &str) -> Server {
    let up = Topic::parse("kilter/v1/default/edge-1/up").expect("a good topic");
    Server::new(address, ca, "secret", up).expect("a good address")
}

fn device() -> DeviceId {
    DeviceId::new("edge-1").expect("a good id")
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

/// The wire version that brought the welcome.
const WELCOME_SINCE: u8 = 2;
const PATIENCE: Duration = Duration::from_secs(40);
