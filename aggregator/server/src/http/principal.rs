//! Who is asking. On loopback without a token it is the local operator; everywhere else a token says it.

use std::net::SocketAddr;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::serve::IncomingStream;
use tokio::net::TcpListener;

use super::App;
use super::error::Problem;
use super::tls::TlsListener;

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The name that the audit log gets.
    pub(crate) who: String,
}

/// The other end of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl FromRequestParts<App> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let bearer = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        if let Some(token) = bearer {
            let who = app.catalogue.who(token).await?;
            return who.map(|who| Self { who }).ok_or_else(|| {
                Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "this token is not known; `kilter-aggregator token NAME` makes one",
                )
            });
        }
        let ConnectInfo(Peer(peer)) = ConnectInfo::<Peer>::from_request_parts(parts, app)
            .await
            .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the connection has no address"))?;
        // A page of another origin must not act through the operator's own browser.
        let foreign = parts.headers.get(header::ORIGIN).is_some_and(|origin| !same_origin(origin, parts));
        if peer.ip().is_loopback() && !foreign && host_is_local(parts) {
            return Ok(Self { who: "local operator".into() });
        }
        Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "send a token: `Authorization: Bearer …`; `kilter-aggregator token NAME` makes one",
        ))
    }
}

fn same_origin(origin: &header::HeaderValue, parts: &Parts) -> bool {
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    host.is_some() && origin == host
}

/// A name that someone else's DNS points at loopback is not us.
fn host_is_local(parts: &Parts) -> bool {
    let Some(host) = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return true;
    };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}
