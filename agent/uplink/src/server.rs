//! Where to connect and as whom.

use std::net::IpAddr;

use kilter_wire::topic::{Direction, Topic};
use thiserror::Error;

use crate::certificate::Certificate;

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// PEM; `None` for plain TCP on loopback.
    pub(crate) ca: Option<String>,
    pub(crate) up: Topic,
    pub(crate) down: String,
    pub(crate) credential: String,
    pub(crate) quic: bool,
    pub(crate) certificate: Option<Certificate>,
}

impl Server {
    /// `address` is `host:port`. Without a certificate authority only loopback addresses are accepted, and QUIC is not tried.
    pub fn new(address: &str, ca: &str, credential: &str, up: Topic) -> Result<Self, ServerError> {
        let (host, port) = address.rsplit_once(':').ok_or_else(|| ServerError::Address(address.to_owned()))?;
        let port = port.parse().map_err(|_| ServerError::Address(address.to_owned()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let ca = Some(ca.trim()).filter(|ca| !ca.is_empty()).map(str::to_owned);
        if ca.is_none() && !loopback {
            return Err(ServerError::PlainText(address.to_owned()));
        }
        let down = Topic { direction: Direction::Down, ..up.clone() }.to_string();
        let quic = ca.is_some();
        let up = Topic { direction: Direction::Up, ..up };
        Ok(Self { host, port, ca, up, down, credential: credential.to_owned(), quic, certificate: None })
    }

    /// With a certificate of the device's own and its key, both PEM, for a server that asks for one.
    pub fn with_certificate(mut self, chain: &str, key: &str) -> Result<Self, ServerError> {
        if self.ca.is_none() {
            return Err(ServerError::Certificate("it is for TLS, and the bundle has no server_ca"));
        }
        self.certificate = Some(Certificate::new(chain, key).map_err(ServerError::Certificate)?);
        Ok(self)
    }

    /// With QUIC tried or not.
    pub fn with_quic(mut self, quic: bool) -> Self {
        self.quic = quic && self.ca.is_some();
        self
    }
}

/// Why a server can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ServerError {
    /// Not `host:port`.
    #[error("use the server address {0:?}: it is not host:port")]
    Address(String),
    /// Plain TCP off loopback.
    #[error("use the server {0}: the bundle has no server_ca, and plain TCP is allowed on loopback only")]
    PlainText(String),
    /// The client certificate.
    #[error("use the client certificate: {0}")]
    Certificate(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_tcp_off_loopback_is_refused() {
        let up = Topic::parse("kilter/v1/default/edge-1/up").expect("a good topic");
        let server = |address: &str, ca: &str| Server::new(address, ca, "secret", up.clone()).map(|server| server.host);
        assert_eq!(server("127.0.0.1:1883", ""), Ok("127.0.0.1".to_owned()));
        assert_eq!(server("[::1]:1883", ""), Ok("::1".to_owned()));
        assert_eq!(server("plant.example:8883", ""), Err(ServerError::PlainText("plant.example:8883".to_owned())));
        assert_eq!(server("plant.example:8883", "PEM"), Ok("plant.example".to_owned()));
        assert_eq!(server("plant.example", "PEM"), Err(ServerError::Address("plant.example".to_owned())));
    }
}
