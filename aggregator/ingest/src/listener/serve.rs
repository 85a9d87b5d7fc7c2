//! The shell of the listener: sockets, TLS, timers and the channel to the server around [`Session`].
#![expect(clippy::disallowed_methods, reason = "a shell reads the clock for the sessions")]

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use kilter_types::Monotonic;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::hub::Hub;
use super::reason::Reason;
use super::session::Session;
use crate::certificate::{self, Certificate};
use crate::gateway::Inbound;

/// Serves devices until `shutdown` is ready, then says goodbye to each and returns.
///
/// Messages go into `inbound`; while it is full the connections stop reading. Mail to devices goes through the hub.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    hub: Hub,
    inbound: mpsc::Sender<Inbound>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let stop = CancellationToken::new();
    let origin = Instant::now();
    let acceptor = tls.map(TlsAcceptor::from);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let connection = Connection {
                        hub: hub.clone(),
                        inbound: inbound.clone(),
                        stop: stop.clone(),
                        origin,
                    };
                    connections.spawn(connection.greet(stream, acceptor.clone()));
                }
                Err(error) => {
                    // Out of file handles, most likely: give the open connections time to end.
                    warn!(%error, "connection not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    stop.cancel();
    let all_gone = async { while connections.join_next().await.is_some() {} };
    if timeout(GOODBYE, all_gone).await.is_err() {
        warn!("connections cut at shutdown");
    }
}

struct Connection {
    hub: Hub,
    inbound: mpsc::Sender<Inbound>,
    stop: CancellationToken,
    origin: Instant,
}

impl Connection {
    async fn greet(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Small acknowledgements must not wait for each other.
        let _ = stream.set_nodelay(true);
        let ended = match tls {
            None => self.converse(stream, Certificate::default()).await,
            Some(tls) => {
                let patience = Duration::from_secs(self.hub.limits().connect_timeout_secs.into());
                match timeout(patience, tls.accept(stream).into_fallible()).await {
                    Ok(Ok(stream)) => {
                        let certificate = Certificate::of(stream.get_ref().1.peer_certificates());
                        self.converse(stream, certificate).await
                    }
                    Ok(Err((error, stream))) => {
                        if certificate::is_missing(&error) {
                            self.hub.tally().refuse(Reason::NOT_AUTHORIZED.0);
                        }
                        // TLS has said why in an alert; bytes left unread would turn it into a reset.
                        let (mut reader, mut writer) = tokio::io::split(stream);
                        let _ = part(&mut reader, &mut writer).await;
                        Err(error)
                    }
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, "connection ended");
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite>(self, stream: S, certificate: Certificate) -> io::Result<()> {
        let bell = Arc::new(Bell(Notify::new()));
        let waker = Waker::from(Arc::clone(&bell));
        let Some(mut session) = Session::open(self.hub.clone(), waker, self.now()) else {
            return Ok(());
        };
        session.certify(certificate);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let timer = sleep_until(self.instant(session.deadline()));
        tokio::pin!(timer);
        let mut unflushed = false;
        let mut stopping = false;
        let mut broken = None;
        while !session.is_finished() {
            self.hand_over(&mut session);
            let deadline = self.instant(session.deadline());
            // Later deadlines are picked up when the timer fires; re-arming it for each packet would cost more.
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            let (wants_read, has_output) = (session.wants_read(), session.has_output());
            let has_inbound = session.has_inbound();
            let (input, output) = session.buffers();
            tokio::select! {
                read = reader.read_buf(input), if wants_read => match read {
                    Ok(0) => session.handle_end(self.now()),
                    Ok(bytes) => session.handle_read(bytes, self.now()),
                    Err(error) => {
                        broken = Some(error);
                        session.handle_end(self.now());
                    }
                },
                turn = write_or_flush(&mut writer, output), if has_output || unflushed => match turn {
                    Ok(bytes) => {
                        unflushed = has_output;
                        session.handle_written(bytes, self.now());
                    }
                    Err(error) => {
                        broken = Some(error);
                        session.handle_end(self.now());
                    }
                },
                place = self.inbound.reserve(), if has_inbound => match place {
                    Ok(place) => if let Some(message) = session.pop_inbound() {
                        place.send(message);
                    },
                    Err(_) => session.handle_shutdown(self.now()),
                },
                () = bell.0.notified() => session.handle_wake(self.now()),
                () = &mut timer => session.handle_timeout(self.now()),
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    session.handle_shutdown(self.now());
                }
            }
        }
        drop(session);
        if let Some(error) = broken {
            return Err(error);
        }
        part(&mut reader, &mut writer).await
    }

    fn hand_over(&self, session: &mut Session) {
        while let Some(message) = session.pop_inbound() {
            match self.inbound.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => return session.put_back(message),
                Err(TrySendError::Closed(_)) => session.handle_shutdown(self.now()),
            }
        }
    }

    fn now(&self) -> Monotonic {
        let micros = self.origin.elapsed().as_micros();
        Monotonic(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn instant(&self, at: Option<Monotonic>) -> Instant {
        let micros = at.map_or(IDLE_US, |at| at.0);
        self.origin + Duration::from_micros(micros)
    }
}

/// Writes some of the output, or flushes when there is none. One await, so that losing a race loses no bytes.
async fn write_or_flush<W: AsyncWrite + Unpin>(writer: &mut W, output: &[u8]) -> io::Result<usize> {
    if output.is_empty() { writer.flush().await.map(|()| 0) } else { writer.write(output).await }
}

/// Closes our half and waits a moment for theirs, so that the last words are not lost in a reset.
async fn part<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(reader: &mut R, writer: &mut W) -> io::Result<()> {
    let farewell = async {
        writer.shutdown().await?;
        let mut rest = [0; 1024];
        let mut left = FAREWELL_BYTES;
        while left > 0 {
            match reader.read(&mut rest).await? {
                0 => break,
                bytes => left = left.saturating_sub(bytes),
            }
        }
        Ok(())
    };
    timeout(FAREWELL, farewell).await.unwrap_or(Ok(()))
}

/// Wakes a connection's task.
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const GOODBYE: Duration = Duration::from_secs(3);
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: usize = 1 << 20;
/// Where no deadline is, the timer still needs one.
const IDLE_US: u64 = 365 * 24 * 3600 * 1_000_000;
