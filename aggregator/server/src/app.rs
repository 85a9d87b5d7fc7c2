//! Everything wired together, in the order in which data walks.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use kilter_fold::{Entry, Output};
use kilter_ingest::broker::{self, BrokerConfig};
use kilter_ingest::listener::{self, Hub, Limits};
use kilter_ingest::quic::{self, Either, QuicHub, QuicLimits};
use kilter_ingest::{Admission, DeviceLink, Inbound};
use kilter_wire::Down;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::catalogue::Catalogue;
use crate::clock;
use crate::committed::{Committed, CommittedMarks};
use crate::config::{Config, Mqtt};
use crate::fleet::FleetHandle;
use crate::http::{self, App, Feed};
use crate::keys::{Keys, is_open};
use crate::lab::{self, LabClient};
use crate::refetch::{self, Asking, REFETCH_SINCE};
use crate::sessions::Sessions;
use crate::store::Store;

/// Runs until told to stop.
pub(crate) async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let data = &config.data;
    prepare(data)?;
    let keys = Keys::load(&data.join("keys"), &config.tls.names)?;
    let device_tls = keys.tls_for_devices(&config.mqtt)?;
    // Ports first: a taken one is told before anything is touched.
    let web = http::bind(config.http.listen, "http.listen").await?;
    let mqtt = match config.mqtt.broker.is_empty() {
        true => Some(http::bind(config.mqtt.listen, "mqtt.listen").await?),
        false => None,
    };
    let catalogue = Catalogue::open(&data.join("catalogue.sqlite")).await?;
    let committed = Committed::read(data).unwrap_or_default();
    let forget_after = config.live.forget_after();
    let shown = |hear: &mut dyn FnMut(Output)| lab::shown(&config.lab, data, hear);
    let store = Store::open(data, &config.journal, forget_after, committed.marks.clone(), clock::now(), &shown)?;
    // What a person says is in no journal; a snapshot that is older or lost does not know it.
    for (alarm, who, at) in catalogue.acknowledged().await? {
        store.state_mut().live.alarms_mut().acknowledge(&alarm, &who, at);
    }
    let fleet = FleetHandle::open(catalogue.clone(), &config.rollout, keys.signing_secret, data).await?;

    let quic = mqtt.as_ref().and_then(|socket| bind_quic(&config.mqtt, socket));
    let mut tasks = JoinSet::new();
    let (inbound, messages) = mpsc::channel::<Inbound>(INBOUND);
    let quic_inbound = inbound.clone();
    let link: Arc<dyn DeviceLink> = match mqtt {
        Some(socket) => {
            let hub =
                Hub::new(Limits::default(), Arc::new(catalogue.clone())).context("failed to set up the listener")?;
            let tls = device_tls.clone();
            info!(address = %socket.local_addr()?, tls = tls.is_some(), "listening for devices");
            tasks.spawn(listener::serve(socket, tls, hub.clone(), inbound, stop.clone().cancelled_owned()));
            Arc::new(hub)
        }
        None => {
            let (link, connection) =
                broker::connect(broker_config(&config.mqtt)?, inbound).context("failed to set up the broker")?;
            info!(broker = config.mqtt.broker, "listening behind a broker");
            tasks.spawn(connection.run(stop.clone().cancelled_owned()));
            Arc::new(link)
        }
    };
    let link = match quic.zip(device_tls) {
        Some((endpoint, tls)) => {
            let hub = QuicHub::new(QuicLimits::default(), Arc::new(catalogue.clone()));
            let endpoint = hub.bind(endpoint, &tls).context("failed to set up QUIC")?;
            info!(address = %endpoint.local_addr()?, "listening for devices by QUIC");
            tasks.spawn(quic::serve(endpoint, hub.clone(), quic_inbound, stop.clone().cancelled_owned()));
            Arc::new(Either { quic: hub, other: link })
        }
        None => {
            // The sessions end when nobody can send them anything any more.
            drop(quic_inbound);
            link
        }
    };
    let sessions = Sessions::new(
        store.clone(),
        Arc::clone(&link),
        fleet.clone(),
        fleet.models_dir().to_owned(),
        Admission::new(config.journal.credit_bytes).with_quota(config.journal.rows_per_day),
        CommittedMarks::new(&committed),
        catalogue.clone(),
    );
    let feed = Feed::new();
    tasks.spawn(sessions.clone().run(messages));
    tasks.spawn(follow_lab(sessions.clone(), data.clone(), committed, stop.clone()));
    tasks.spawn(ask_again(sessions.clone(), data.clone(), stop.clone()));
    tasks.spawn(keep_time(store.clone(), catalogue.clone(), sessions.clone(), stop.clone()));
    tasks.spawn(roll_out(fleet.clone(), store.clone(), Arc::clone(&link), sessions.clone(), stop.clone()));
    tasks.spawn(feed.clone().run_changes(store.clone(), fleet.clone(), stop.clone()));
    tasks.spawn(lab::supervise(config.lab.clone(), data.clone(), stop.clone()));
    let app = App {
        store: store.clone(),
        sessions,
        fleet,
        catalogue,
        lab: LabClient::new(data),
        feed,
        link,
        started: clock::now(),
    };
    let tls = is_open(config.http.listen).then_some(keys.tls);
    let scheme = if tls.is_some() { "https" } else { "http" };
    info!(url = %format!("{scheme}://{}/", web.local_addr()?), "page ready");
    let served = tokio::select! {
        served = http::serve(web, tls, app, stop.clone()) => served,
        // Open event streams must not hold up the end.
        () = async { stop.cancelled().await; clock::pause(GRACE_MS).await } => Ok(()),
    };
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            warn!(%error, "task failed");
        }
    }
    store.end().await;
    info!("ended");
    served
}

/// The folder must be ours to write: said before anything starts.
fn prepare(data: &Path) -> anyhow::Result<()> {
    let probe = data.join(".writable");
    std::fs::create_dir_all(data)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe))
        .with_context(|| {
            format!("failed to write to the data folder {}; make it writable or set `data`", data.display())
        })
}

/// The UDP port beside the listener's: QUIC is always encrypted, so it is there where the listener is.
fn bind_quic(config: &Mqtt, socket: &tokio::net::TcpListener) -> Option<std::net::UdpSocket> {
    if !config.quic || !is_open(config.listen) {
        return None;
    }
    let address = socket.local_addr().ok()?;
    match std::net::UdpSocket::bind(address) {
        Ok(socket) => Some(socket),
        Err(error) => {
            warn!(%address, %error, "no QUIC: its port is not free");
            None
        }
    }
}

fn broker_config(mqtt: &Mqtt) -> anyhow::Result<BrokerConfig> {
    let (host, port) = mqtt
        .broker
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .with_context(|| format!("failed to read mqtt.broker {:?}: it is host:port", mqtt.broker))?;
    let mut config = BrokerConfig::new(host, "kilter-aggregator");
    config.port = port;
    let loopback =
        host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match (mqtt.broker_ca.as_os_str().is_empty(), loopback) {
        (false, _) => config.tls = Some(broker_tls(&mqtt.broker_ca)?),
        (true, true) => {}
        (true, false) => anyhow::bail!(
            "failed to use the broker {}: plain TCP is allowed on loopback only; set mqtt.broker_ca to its authority",
            mqtt.broker
        ),
    }
    if !mqtt.broker_user.is_empty() {
        let password = std::fs::read_to_string(&mqtt.broker_password_file)
            .with_context(|| format!("failed to read mqtt.broker_password_file {:?}", mqtt.broker_password_file))?;
        config.credential = Some((mqtt.broker_user.clone(), password.trim().to_owned()));
    }
    Ok(config)
}

/// Believes brokers that this authority signed for.
fn broker_tls(ca: &Path) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let failed = || format!("failed to read mqtt.broker_ca {}", ca.display());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).with_context(failed)? {
        roots.add(certificate.with_context(failed)?).with_context(failed)?;
    }
    anyhow::ensure!(!roots.is_empty(), "{}: there is no certificate in it", failed());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("failed to set up TLS towards the broker")?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Watches what the lab commits and tells the devices.
async fn follow_lab(sessions: Sessions, data: std::path::PathBuf, mut known: Committed, stop: CancellationToken) {
    while pause(&stop, FOLLOW_MS).await {
        match Committed::read(&data) {
            Some(committed) if committed != known => {
                sessions.committed(CommittedMarks::new(&committed));
                known = committed;
            }
            Some(_) | None => {}
        }
    }
}

/// Asks the nodes for what the lake lost, as long as the lab says that something is missing.
async fn ask_again(sessions: Sessions, data: std::path::PathBuf, stop: CancellationToken) {
    let mut asking = Asking::default();
    while pause(&stop, ASK_AGAIN_MS).await {
        let missing = refetch::missing(&data);
        let there = sessions.who_reads(REFETCH_SINCE);
        for (device, ask) in asking.due(missing, |device| there.contains_key(device), clock::now()) {
            if let Some(principal) = there.get(&device) {
                info!(device = %device, class = ask.class.as_str(), ranges = ask.ranges.len(), "asked for records again");
                sessions.send(principal, &Down::Refetch(ask));
            }
        }
    }
}

/// A tick a second into the journal; devices enrolled meanwhile are let in; now and then a snapshot.
async fn keep_time(store: Store, catalogue: Catalogue, sessions: Sessions, stop: CancellationToken) {
    let mut seconds = 0u64;
    let mut left_ms = 1_000;
    loop {
        tokio::select! {
            more = pause(&stop, left_ms) => if !more { return },
            // Who was turned away comes again soon; at most so often is looked whether he may come in by then.
            () = catalogue.turned_away(), if left_ms > TURNED_AWAY_MS => {
                if !pause(&stop, TURNED_AWAY_MS).await {
                    return;
                }
                left_ms -= TURNED_AWAY_MS;
                reload(&catalogue).await;
                continue;
            }
        }
        left_ms = 1_000;
        seconds += 1;
        let _ = store.append(Entry::Tick { now: clock::now() }).await;
        reload(&catalogue).await;
        if seconds.is_multiple_of(SNAPSHOT_SECS) {
            store.snapshot(sessions.lab_offset()).await;
        }
    }
}

async fn reload(catalogue: &Catalogue) {
    if let Err(error) = catalogue.reload().await {
        warn!(error = %format!("{error:#}"), "devices not read");
    }
}

/// Steps the rollouts and sends plans to the nodes whose plan changed.
async fn roll_out(
    fleet: FleetHandle,
    store: Store,
    link: Arc<dyn DeviceLink>,
    sessions: Sessions,
    stop: CancellationToken,
) {
    while pause(&stop, ROLL_OUT_MS).await {
        let principals = sessions.principals();
        for device in fleet.step(&store, link.as_ref(), &principals).await {
            if let Some(principal) = principals.get(&device) {
                sessions.send_plan(principal);
            }
        }
    }
}

/// Waits; `false` when it is time to stop.
async fn pause(stop: &CancellationToken, millis: u64) -> bool {
    tokio::select! {
        () = clock::pause(millis) => true,
        () = stop.cancelled() => false,
    }
}

/// Messages between the link and the journal; the link waits beyond it.
const INBOUND: usize = 1024;
const FOLLOW_MS: u64 = 200;
const ASK_AGAIN_MS: u64 = 1_000;
const TURNED_AWAY_MS: u64 = 50;
const ROLL_OUT_MS: u64 = 500;
const SNAPSHOT_SECS: u64 = 20;
const GRACE_MS: u64 = 500;
