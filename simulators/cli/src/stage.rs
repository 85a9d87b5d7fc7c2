//! Everything that runs while agents are served: assets, their workers, the listener, and the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use kilter_types::Name;
use tokio::net::{TcpListener, TcpSocket};

use crate::args::{ServeArgs, Speed, WhenBehind};
use crate::asset::{Asset, Keeping};
use crate::clock::{Pace, pause, wait};
use crate::control;
use crate::feed::Feed;
use crate::ledger::Ledger;
use crate::socket;

/// What workers, connections and the control API share.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) assets: BTreeMap<Name, Arc<Asset>>,
    pub(crate) ledger: Ledger,
    pub(crate) pace: Pace,
    stopped: AtomicBool,
}

impl Stage {
    pub(crate) fn new(feeds: Vec<(Name, Feed)>, ledger: Ledger, args: &ServeArgs) -> anyhow::Result<Self> {
        let when_behind = args.when_behind.unwrap_or(match args.speed {
            Speed::Times(times) if times <= 1.0 => WhenBehind::Drop,
            Speed::Times(_) | Speed::Max => WhenBehind::Hold,
        });
        anyhow::ensure!(
            !(args.speed == Speed::Max && when_behind == WhenBehind::Drop),
            "start: --speed max needs --when-behind hold, or everything is dropped at once"
        );
        let keeping = Keeping {
            when_behind,
            history_s: args.history.max(0.0),
            history_bytes: args.history_kib.saturating_mul(1024),
        };
        let mut assets = BTreeMap::new();
        for (name, feed) in feeds {
            let asset = Arc::new(Asset::new(name.clone(), feed, keeping, &ledger));
            anyhow::ensure!(assets.insert(name.clone(), asset).is_none(), "start: two assets are named {name}");
        }
        Ok(Self { assets, ledger, pace: Pace::new(args.speed), stopped: AtomicBool::new(false) })
    }

    /// Serves until a signal comes, or until every agent has had everything and `linger` has passed.
    pub(crate) async fn serve(self, args: &ServeArgs, control: Option<std::net::SocketAddr>) -> anyhow::Result<()> {
        let stop = stop_signal()?;
        let listener = listen(args.listen).context("listen for agents (--listen)")?;
        let stage = Arc::new(self);
        let control = match control {
            Some(address) => {
                let listener = listen(address).context("listen for commands (--control)")?;
                let address = listener.local_addr()?;
                tokio::spawn(control::serve(listener, Arc::clone(&stage)));
                Some(address)
            }
            None => None,
        };
        stage.announce(args, listener.local_addr()?, control);
        let workers = stage.start_workers()?;
        let accepting = tokio::spawn(socket::accept(listener, Arc::clone(&stage)));
        let ended_by = tokio::select! {
            stopped = stop => stopped.map(|()| "signal"),
            () = stage.finished(args.linger) => Ok("end"),
            never = stage.report() => match never {},
        };
        accepting.abort();
        stage.stopped.store(true, Ordering::Relaxed);
        // The workers leave within one pause.
        tokio::task::spawn_blocking(move || workers.into_iter().for_each(|worker| drop(worker.join()))).await?;
        stage.assets.values().for_each(|asset| asset.end_now(&stage.ledger));
        stage.summarise(args, ended_by?);
        Ok(())
    }

    fn start_workers(self: &Arc<Self>) -> anyhow::Result<Vec<std::thread::JoinHandle<()>>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = cores.min(self.assets.len()).max(1);
        let assets: Vec<Arc<Asset>> = self.assets.values().cloned().collect();
        let mut workers = Vec::new();
        for worker in 0..count {
            let mine: Vec<Arc<Asset>> = assets.iter().skip(worker).step_by(count).cloned().collect();
            let stage = Arc::clone(self);
            let work = move || {
                while !stage.stopped.load(Ordering::Relaxed) {
                    let now_s = stage.pace.now_s();
                    let busy = mine.iter().filter(|asset| asset.produce(now_s, &stage.ledger)).count();
                    if busy == 0 {
                        pause(5);
                    }
                }
            };
            workers.push(std::thread::Builder::new().name(format!("feed-{worker}")).spawn(work)?);
        }
        Ok(workers)
    }

    /// Says now and then how far everything is; never returns.
    async fn report(&self) -> std::convert::Infallible {
        loop {
            wait(REPORT_EVERY_S).await;
            let progress: Vec<_> = self.assets.values().map(|asset| asset.progress()).collect();
            let connected = progress.iter().filter(|progress| progress.connected).count();
            let ended = progress.iter().filter(|progress| progress.ended).count();
            let slowest_s = progress.iter().map(|progress| progress.produced_s).fold(f64::INFINITY, f64::min);
            let unread_bytes: usize = progress.iter().map(|progress| progress.unread_bytes).sum();
            tracing::info!(machines = progress.len(), connected, ended, slowest_s, unread_bytes, "serving");
        }
    }

    async fn finished(&self, linger_s: f64) {
        loop {
            wait(0.1).await;
            if self.assets.values().all(|asset| asset.is_finished()) {
                wait(linger_s).await;
                // An agent that came back meanwhile starts the wait anew.
                if self.assets.values().all(|asset| asset.is_finished()) {
                    return;
                }
            }
        }
    }

    fn announce(&self, args: &ServeArgs, listen: std::net::SocketAddr, control: Option<std::net::SocketAddr>) {
        let assets: Vec<&str> = self.assets.keys().map(Name::as_str).collect();
        if args.json {
            println!(
                "{}",
                serde_json::json!({ "event": "listening", "listen": listen, "control": control, "assets": assets })
            );
        } else {
            println!("listening on {listen} for agents of {} machines: {}", assets.len(), assets.join(", "));
            if let Some(control) = control {
                println!("control API on http://{control}");
            }
        }
    }

    fn summarise(&self, args: &ServeArgs, ended_by: &str) {
        let standings: Vec<_> = self.assets.values().map(|asset| asset.standing()).collect();
        if args.json {
            println!("{}", serde_json::json!({ "event": "stopped", "by": ended_by, "assets": standings }));
        } else {
            println!("stopped by {ended_by}; {} machines", standings.len());
            for standing in standings {
                println!("{}", serde_json::to_string(&standing).unwrap_or_default());
            }
        }
    }
}

/// A small send buffer keeps what a killed agent had not read out of the kernel's hands.
fn listen(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("bind {address}; is the port taken? Port 0 takes a free one"))?;
    Ok(socket.listen(1024)?)
}

/// Ends when somebody asks us to stop; heard from the call on, not from the first poll.
fn stop_signal() -> anyhow::Result<impl Future<Output = anyhow::Result<()>>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Ok(())
        })
    }
    #[cfg(not(unix))]
    Ok(async { Ok(tokio::signal::ctrl_c().await?) })
}

const REPORT_EVERY_S: f64 = 10.0;
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
