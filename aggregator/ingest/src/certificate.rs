//! Client certificates: whom an authority signed for, and whose name a certificate carries.
//!
//! With an authority TLS itself refuses whoever brings no certificate that it signed, and its alert says why. What is left to ask is whether
//! the certificate is the one of the device whose credential came with it: it holds the device's id as a DNS name among its subject's
//! alternative names, and rustls compares. The common name is not looked at. A certificate comes beside the credential and not in its place,
//! so a device is shut out by its credential, and no list of revoked certificates is read.

use std::sync::Arc;

use kilter_types::DeviceId;
use quinn::{Connection, ConnectionError, TransportErrorCode};
use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};

/// What a connection proved by TLS; nothing where no certificate is asked for.
#[derive(Clone, Debug, Default)]
pub struct Certificate(Option<CertificateDer<'static>>);

impl Certificate {
    /// The first of the chain that the other end showed.
    pub(crate) fn of(chain: Option<&[CertificateDer<'_>]>) -> Self {
        Self(chain.and_then(<[_]>::first).map(|first| first.clone().into_owned()))
    }

    /// The same of a QUIC connection.
    pub(crate) fn by_quic(connection: &Connection) -> Self {
        let chain = connection.peer_identity().and_then(|found| found.downcast::<Vec<CertificateDer<'static>>>().ok());
        Self::of(chain.as_deref().map(Vec::as_slice))
    }

    /// Whether it may speak for this device. Without a certificate it may: TLS lets nobody through without one where one is asked for.
    pub fn is_for(&self, device: &DeviceId) -> bool {
        let Some(certificate) = &self.0 else { return true };
        match (ParsedCertificate::try_from(certificate), ServerName::try_from(device.as_str())) {
            (Ok(parsed), Ok(name)) => verify_server_name(&parsed, &name).is_ok(),
            (Err(_), _) | (_, Err(_)) => false,
        }
    }
}

/// Lets nobody in without a certificate that one of these authorities (PEM) signed.
pub fn verifier(authorities: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, AuthorityError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        roots.add(certificate.map_err(AuthorityError::Pem)?).map_err(AuthorityError::Certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(AuthorityError::Verifier)
}

/// Why an authority can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Not PEM.
    #[error("read the authority of client certificates as PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// Not a certificate.
    #[error("read the authority of client certificates")]
    Certificate(#[source] rustls::Error),
    /// No certificate at all, or none that signs.
    #[error("use the authority of client certificates")]
    Verifier(#[source] VerifierBuilderError),
}

/// Whether a handshake failed for want of a good certificate of the other end.
pub(crate) fn is_missing(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)))
}

/// The same of a QUIC handshake, by the alert that TLS gave as its reason.
pub(crate) fn is_missing_by_quic(error: &ConnectionError) -> bool {
    let ConnectionError::TransportError(error) = error else { return false };
    ALERTS.iter().any(|alert| error.code == TransportErrorCode::crypto(*alert))
}

/// bad_certificate to certificate_unknown, unknown_ca, decrypt_error and certificate_required of TLS 1.3.
const ALERTS: [u8; 8] = [42, 43, 44, 45, 46, 48, 51, 116];
