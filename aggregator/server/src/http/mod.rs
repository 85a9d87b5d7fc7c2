//! The HTTP side: API, live stream, metrics and page. Every handler takes a principal.

mod api;
mod error;
mod metrics;
mod page;
mod principal;
mod reprocess;
mod stream;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use stream::Feed;

use crate::catalogue::Catalogue;
use crate::fleet::FleetHandle;
use crate::lab::LabClient;
use crate::sessions::Sessions;
use crate::store::Store;

/// What handlers work with.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) sessions: Sessions,
    pub(crate) fleet: FleetHandle,
    pub(crate) catalogue: Catalogue,
    pub(crate) lab: LabClient,
    pub(crate) feed: Feed,
    pub(crate) link: Arc<dyn kilter_ingest::DeviceLink>,
    pub(crate) started: kilter_types::Micros,
}

/// Serves until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    context: App,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let app = router(context).into_make_service_with_connect_info::<principal::Peer>();
    let ended = stop.cancelled_owned();
    match tls {
        None => axum::serve(listener, app).with_graceful_shutdown(ended).await,
        Some(config) => axum::serve(tls::TlsListener::new(listener, config), app).with_graceful_shutdown(ended).await,
    }
    .context("failed to serve HTTP")
}

/// Binds, and says what to do when the port is taken.
pub(crate) async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("failed to listen on {address}: is it taken? set another one with `{key}` in the config or on the command line")
    })
}

fn router(context: App) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/{*path}", get(page::asset))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/api/fleet", get(api::fleet))
        .route("/api/machines/{tenant}/{site}/{asset}", get(api::machine))
        .route("/api/alarms", get(api::alarms))
        .route("/api/alarms/{key}/ack", post(api::acknowledge))
        .route("/api/labels", post(api::label))
        .route("/api/maintenance", post(api::maintenance))
        .route("/api/clips", post(api::clip))
        .route("/api/reset", post(api::reset))
        .route("/api/models", get(api::models))
        .route("/api/rollouts", get(api::models))
        .route("/api/train", post(api::train))
        .route("/api/rollback", post(api::rollback))
        .route("/api/query", post(api::query))
        .route("/api/completeness", get(api::completeness))
        .route("/api/refetch", post(api::refetch))
        .route("/api/reprocess", get(reprocess::list).post(reprocess::change))
        .route("/api/trends", get(api::trend))
        .route("/api/lab", get(api::lab))
        .route("/api/stream", get(stream::stream))
        .with_state(context)
}
