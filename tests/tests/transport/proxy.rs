//! Proxies that lose, double, delay and reorder what goes through them, by a seed; UDP can be blocked and rebound, TCP cut.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;

/// What happens to datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss_ppm: u64,
    pub(crate) double_ppm: u64,
    /// Each waits up to so long, so that later ones overtake it. What goes through a TCP connection waits in its order.
    pub(crate) delay_us: u64,
    /// TCP connections end in the middle, so often per piece that goes through.
    pub(crate) cut_ppm: u64,
}

/// Numbers by a seed, for several tasks.
struct Random(AtomicU64);

impl Random {
    fn below(&self, most: u64) -> u64 {
        let mut next = self.0.load(Ordering::Relaxed);
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        self.0.store(next, Ordering::Relaxed);
        next % most.max(1)
    }
}

/// Datagrams between one server and its clients.
pub(crate) struct UdpProxy {
    shared: Arc<Shared>,
}

struct Shared {
    front: UdpSocket,
    server: SocketAddr,
    weather: Weather,
    random: Random,
    blocked: AtomicBool,
    backs: Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>,
    passed: AtomicU64,
}

impl UdpProxy {
    pub(crate) async fn start(front: UdpSocket, server: SocketAddr, weather: Weather, seed: u64) -> Self {
        let (blocked, backs, passed) = (AtomicBool::new(false), Mutex::default(), AtomicU64::new(0));
        let random = Random(AtomicU64::new(seed | 1));
        let shared = Arc::new(Shared { front, server, weather, random, blocked, backs, passed });
        let up = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut datagram = [0; 2048];
            loop {
                // An earlier answer's ICMP error is no reason to end.
                let Ok((len, client)) = up.front.recv_from(&mut datagram).await else { continue };
                let known = up.backs.lock().expect("unpoisoned").get(&client).cloned();
                let back = match known {
                    Some(back) => back,
                    None => up.open(client).await,
                };
                let bytes: Arc<[u8]> = datagram[..len].into();
                up.pass(|| {
                    let (back, bytes, server) = (Arc::clone(&back), Arc::clone(&bytes), up.server);
                    async move { drop(back.send_to(&bytes, server).await) }
                });
            }
        });
        Self { shared }
    }

    /// Nothing goes through any more, or again.
    pub(crate) fn block(&self, blocked: bool) {
        self.shared.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Every client gets another address towards the server, as behind a NAT that has forgotten it.
    pub(crate) async fn rebind(&self) {
        let clients: Vec<SocketAddr> = self.shared.backs.lock().expect("unpoisoned").keys().copied().collect();
        for client in clients {
            self.shared.open(client).await;
        }
    }

    /// Datagrams that went through.
    pub(crate) fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }
}

impl Shared {
    async fn open(self: &Arc<Self>, client: SocketAddr) -> Arc<UdpSocket> {
        let back = Arc::new(UdpSocket::bind((self.server.ip(), 0)).await.expect("a free port"));
        self.backs.lock().expect("unpoisoned").insert(client, Arc::clone(&back));
        let (shared, socket) = (Arc::clone(self), Arc::clone(&back));
        tokio::spawn(async move {
            let mut datagram = [0; 2048];
            loop {
                let Ok(received) = tokio::time::timeout(IDLE, socket.recv_from(&mut datagram)).await else { break };
                let Ok((len, _)) = received else { continue };
                let bytes: Arc<[u8]> = datagram[..len].into();
                shared.pass(|| {
                    let (line, bytes) = (Arc::clone(&shared), Arc::clone(&bytes));
                    async move { drop(line.front.send_to(&bytes, client).await) }
                });
            }
            // A client that has gone, or an address that was left: its socket goes too.
            let mut backs = shared.backs.lock().expect("unpoisoned");
            if backs.get(&client).is_some_and(|back| Arc::ptr_eq(back, &socket)) {
                backs.remove(&client);
            }
        });
        back
    }

    fn pass<F: Future<Output = ()> + Send + 'static>(&self, send: impl Fn() -> F) {
        if self.blocked.load(Ordering::Relaxed) || self.below(1_000_000) < self.weather.loss_ppm {
            return;
        }
        self.passed.fetch_add(1, Ordering::Relaxed);
        let copies = 1 + u64::from(self.below(1_000_000) < self.weather.double_ppm);
        for _ in 0..copies {
            let (delay, sent) = (Duration::from_micros(self.below(self.weather.delay_us + 1)), send());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                sent.await;
            });
        }
    }

    fn below(&self, most: u64) -> u64 {
        self.random.below(most)
    }
}

/// Bytes between one server and its clients.
pub(crate) struct TcpProxy {
    cut: Arc<Notify>,
}

impl TcpProxy {
    pub(crate) fn start(front: TcpListener, server: SocketAddr, weather: Weather, seed: u64) -> Self {
        let cut = Arc::new(Notify::new());
        let (scissors, random) = (Arc::clone(&cut), Arc::new(Random(AtomicU64::new(seed << 1 | 1))));
        tokio::spawn(async move {
            while let Ok((client, _)) = front.accept().await {
                let (scissors, random) = (Arc::clone(&scissors), Arc::clone(&random));
                tokio::spawn(async move {
                    let Ok(back) = TcpStream::connect(server).await else { return };
                    let ((client_in, client_out), (back_in, back_out)) = (client.into_split(), back.into_split());
                    tokio::select! {
                        () = carry(client_in, back_out, weather, &random) => {}
                        () = carry(back_in, client_out, weather, &random) => {}
                        () = scissors.notified() => {}
                    }
                });
            }
        });
        Self { cut }
    }

    /// Every connection ends here and now.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }
}

/// One direction, piece by piece, each late by chance, until either side or chance ends it.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, weather: Weather, random: &Random) {
    let mut piece = [0; 16 * 1024];
    loop {
        let Ok(len @ 1..) = from.read(&mut piece).await else { return };
        if random.below(1_000_000) < weather.cut_ppm {
            return;
        }
        tokio::time::sleep(Duration::from_micros(random.below(weather.delay_us + 1))).await;
        if to.write_all(&piece[..len]).await.is_err() {
            return;
        }
    }
}

/// So long without an answer from the server, and a client's socket towards it is closed.
const IDLE: Duration = Duration::from_secs(60);
