//! Wiring: which part talks to which, in one place, and the order in which they begin and end.

mod start;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use kilter_journal::RealFilesystem;
use kilter_source::Stop;
use kilter_types::{Clock as _, DeviceId, Epoch, Micros, Name};
use kilter_uplink::{self as uplink, Identity, JournalSpool, Ports, Server, Session, Status};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::action::Actions;
use crate::board::Board;
use crate::checkpoint::Checkpoint;
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::control::{Control, Done, Work};
use crate::exception::Exception;
use crate::file;
use crate::http::{self, Page};
use crate::identity::Enrolled;
use crate::machine::Outlet;
use crate::models::{Candidate, Store};
use crate::node::Word;
use crate::number::{Numbering, Place, Stamp};
use crate::post::{self, Post};
use crate::recorder::{self, Message, Recorder};
use crate::reset::Desk;
use crate::sealer::Sealer;
use crate::spent;
use crate::spooler::Spooler;
use start::{Shared, start};

/// Everything that runs.
pub(crate) struct App {
    clock: SystemClock,
    page: Page,
    posts: BTreeMap<Name, Post>,
    listen: Option<std::net::SocketAddr>,
    stop: Stop,
    machines: Vec<JoinHandle<()>>,
    recorder: JoinHandle<()>,
    /// The recorder ends when the last sender is gone.
    inbox: SyncSender<Message>,
    desk: Desk,
    uplink: Option<Uplink>,
    uplink_stop: watch::Sender<bool>,
    time: watch::Receiver<Option<kilter_uplink::TimeSample>>,
}

/// What goes onto the runtime.
struct Uplink {
    server: Server,
    session: Session,
    spool: JournalSpool<RealFilesystem>,
    ports: Ports,
    control: Control,
    downs: mpsc::Receiver<bytes::Bytes>,
    links: watch::Receiver<u64>,
    words: mpsc::Receiver<Word>,
    /// Where the day's bytes are kept, and who says them.
    spent: (PathBuf, watch::Receiver<Status>),
    seed: u64,
}

/// Opens everything and starts the threads of machines and recorder; [`App::run`] does the rest.
pub(crate) fn build(config: &Config, enrolled: Option<Enrolled>) -> anyhow::Result<App> {
    let listen = http::address(&config.http.listen).map_err(anyhow::Error::msg)?;
    if config.machine.is_empty() {
        anyhow::bail!("the configuration has no [[machine]]: there is nothing to watch");
    }
    let data = config.data.as_path();
    std::fs::create_dir_all(data).with_context(|| format!("create the data folder {}", data.display()))?;
    let clock = SystemClock::new(Micros((config.clock_uncertainty_secs * 1e6) as i64));
    let version = Name::new(env!("CARGO_PKG_VERSION")).context("name this version")?;
    let tenant = enrolled.as_ref().map_or_else(default_name, |known| known.tenant.clone());
    let device = enrolled.as_ref().map_or_else(|| DeviceId(default_name()), |known| known.device.clone());
    let epoch = Epoch(getrandom::u64().context("draw an epoch")?);
    let fresh_id = getrandom::u64().context("draw a journal id")?;

    let place = |machine: &config::Machine| Place {
        site: machine.site.clone().unwrap_or_else(|| config.site.clone()),
        asset: machine.asset.clone(),
    };
    let places: Vec<Place> = config.machine.iter().map(place).collect();
    let journal_dir = data.join("journal");
    let epoch_path = data.join("epoch");
    let previous = file::read(&epoch_path)?.and_then(|text| parse_epoch(&text));
    let own = device.0.clone();
    let sealer = Sealer::load(data)
        .inspect_err(|error| warn!(%error, "no key to seal with in the data folder: what is recorded stays unsealed"))
        .ok();
    let (mut spooler, found) = Spooler::open(
        RealFilesystem,
        &journal_dir,
        config.journal.config(),
        config.journal.caps(),
        version.clone(),
        fresh_id,
        previous,
        sealer,
        |suppress| Numbering::new(tenant, own, places, epoch, suppress),
        Stamp::now(&clock),
    )
    .with_context(|| format!("open the journal in {}", journal_dir.display()))?;
    spooler.report_by_exception(Exception::new(config.on_change.clone()));
    file::replace(&epoch_path, format!("{:016x}\n", epoch.0).as_bytes())
        .with_context(|| format!("write {}", epoch_path.display()))?;

    let candidates: Vec<Candidate> =
        config.machine.iter().map(|m| Candidate { asset: m.asset.clone(), class: m.class.clone() }).collect();
    let board = Board::new(candidates.iter().map(|c| (c.asset.clone(), c.class.clone())).collect());
    let (inbox, messages) = sync_channel(INBOX);
    let overruns = Arc::default();
    let derates = config.machine.iter().map(|machine| machine.derate.clone());
    let actions = Arc::new(Actions::new(config.alarm.clone(), board.clone()).with_derates(derates));
    let outlet = Outlet { recorder: inbox.clone(), overruns: Arc::clone(&overruns), board: board.clone(), actions };
    let store = Store::new(data);
    let stop = Stop::default();

    let mut machines = Vec::new();
    let mut orders = Vec::new();
    let mut posts = BTreeMap::new();
    let (words, words_seen) = mpsc::channel(NOTES);
    let key = enrolled.as_ref().map(|enrolled| enrolled.key);
    let shared =
        Shared { config, data, store: &store, outlet: &outlet, clock: &clock, stop: &stop, key, words: &words };
    for (at, machine) in config.machine.iter().enumerate() {
        let about = |(asset, _): &&(Name, _)| *asset == machine.asset;
        let alarms = found.said.iter().filter(about).map(|(_, said)| said.clone()).collect();
        let (order, thread, post) = start(at, machine, alarms, &shared)?;
        posts.extend(post.map(|post| (machine.asset.clone(), post)));
        orders.push(order);
        machines.push(thread);
    }

    let assets = candidates.iter().map(|candidate| candidate.asset.clone());
    let desk = Desk::open(data, assets.zip(orders.iter().cloned()))
        .with_context(|| format!("drop old resets in {}", data.display()))?;

    let (durable, durable_seen) = watch::channel(found.durable);
    let (notes, notes_seen) = mpsc::channel(NOTES);
    let (released, released_seen) = watch::channel(0);
    let (lost, lost_seen) = mpsc::channel(NOTES);
    let (status, status_seen) = watch::channel(Status::default());
    let (time, time_seen) = watch::channel(None);
    let (links, links_seen) = watch::channel(0);
    let (outgoing, outgoing_seen) = mpsc::channel(16);
    let (downs, downs_seen) = mpsc::channel(16);
    let (uplink_stop, uplink_stop_seen) = watch::channel(false);

    let seal_key = spooler.seal_key();
    let recorder = Recorder::new(recorder::Parts {
        spooler,
        inbox: messages,
        overruns,
        checkpoints: candidates.iter().map(|candidate| Checkpoint::path(data, &candidate.asset)).collect(),
        durable,
        notes,
        released: released_seen,
        lost: lost_seen,
        board: board.clone(),
        clock: clock.clone(),
        version: version.clone(),
        report_us: (config.report_secs * 1e6) as u64,
        first: found.first,
    });
    let recorder = thread("recorder", move || recorder.run())?;

    let uplink = match enrolled {
        Some(enrolled) => {
            let identity = Identity { device: device.clone(), software: version.clone() };
            let mut session =
                Session::new(config.uplink.session(), identity, epoch, found.held, found.first, found.durable);
            found.alarms.iter().for_each(|offset| session.handle_urgent(*offset));
            let spent = data.join("uplink.spent");
            session.resume_budget(spent::load(&spent));
            let mut control = Control {
                store,
                done: Done::open(data).with_context(|| format!("read the commands in {}", data.display()))?,
                machines: candidates,
                orders,
                nodes: config.machine.iter().map(config::Machine::is_node).collect(),
                device: device.clone(),
                key: enrolled.key,
                outgoing,
                recorder: inbox.clone(),
                board: board.clone(),
                clock: clock.clone(),
                fetch_bytes: config.uplink.fetch_bytes,
                remote_reset: config.alarm.remote_reset,
                work: Work::default(),
            };
            control.resume();
            let spool = JournalSpool::open(&RealFilesystem, &journal_dir).context("follow the journal")?;
            let ports = Ports {
                durable: durable_seen,
                notes: notes_seen,
                outgoing: outgoing_seen,
                downs,
                released,
                status,
                time,
                lost,
                links,
                stop: uplink_stop_seen,
            };
            let seed = epoch.0;
            let server = enrolled.server.with_quic(config.uplink.quic);
            Some(Uplink {
                server,
                session,
                spool,
                ports,
                control,
                downs: downs_seen,
                links: links_seen,
                words: words_seen,
                seed,
                spent: (spent, status_seen.clone()),
            })
        }
        None => {
            warn!("no enrolment bundle: the agent works alone and its journal keeps what it can hold");
            None
        }
    };
    let page = Page { board, uplink: status_seen, clock: clock.clone(), device: device.0, version, seal_key };
    Ok(App { clock, page, posts, listen, stop, machines, recorder, inbox, desk, uplink, uplink_stop, time: time_seen })
}

impl App {
    /// Runs until SIGTERM or SIGINT, then ends in order: machines, recorder, uplink.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let Self { clock, page, posts, listen, stop, machines, recorder, inbox, desk, uplink, uplink_stop, mut time } =
            self;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        if let Some(address) = listen {
            let listener = TcpListener::bind(address).await;
            let listener = listener.with_context(|| {
                format!("listen on {address} for the local page (is another agent running? see http.listen)")
            })?;
            info!(address = %listener.local_addr().unwrap_or(address), "local page");
            let routes = http::router(page).merge(post::router(posts));
            tokio::spawn(async move { axum::serve(listener, routes).await });
        }
        tokio::spawn(desk.run());
        let solver = clock.clone();
        tokio::spawn(async move {
            while time.changed().await.is_ok() {
                solver.solve(*time.borrow_and_update());
            }
        });
        let mut tasks = None;
        if let Some(Uplink {
            server,
            session,
            spool,
            ports,
            control,
            downs,
            links,
            words,
            seed,
            spent: (spent, status),
        }) = uplink
        {
            tokio::spawn(spent::follow(spent, status));
            let control = tokio::spawn(control.run(downs, links, words));
            let delivery = tokio::spawn(uplink::run(server, session, spool, clock.clone(), seed, ports));
            tasks = Some((control, delivery));
        }
        info!(machines = machines.len(), monotonic_us = clock.monotonic().0, "agent runs");
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: ending"),
            _ = interrupt.recv() => info!("SIGINT: ending"),
        }
        stop.set();
        join(machines).await;
        let delivery = tasks.map(|(control, delivery)| {
            control.abort();
            (control, delivery)
        });
        drop(inbox);
        if let Some((control, delivery)) = delivery {
            // Aborted: it holds a sender to the recorder until it is gone.
            let _ = control.await;
            join(vec![recorder]).await;
            uplink_stop.send_replace(true);
            if tokio::time::timeout(END_TIMEOUT, delivery).await.is_err() {
                warn!("the uplink did not end in time; what it did not deliver is in the journal");
            }
        } else {
            join(vec![recorder]).await;
        }
        info!("agent ended");
        Ok(())
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    builder.spawn(run).with_context(|| format!("start the thread {name}"))
}

/// Waits for threads without holding up the runtime.
async fn join(threads: Vec<JoinHandle<()>>) {
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok())).await;
    if !matches!(joined, Ok(true)) {
        warn!("a thread ended badly");
    }
}

fn parse_epoch(text: &[u8]) -> Option<Epoch> {
    let text = std::str::from_utf8(text).ok()?;
    u64::from_str_radix(text.trim(), 16).ok().map(Epoch)
}

fn default_name() -> Name {
    Name::new("default").expect("a good name")
}

const INBOX: usize = 128;
const NOTES: usize = 256;
/// Address space only: what a thread does not touch costs nothing.
const STACK_BYTES: usize = 2 << 20;
const END_TIMEOUT: Duration = Duration::from_secs(5);
