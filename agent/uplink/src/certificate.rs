//! The device's own certificate, for an aggregator that asks for one beside the credential.
//!
//! It is checked when the agent starts: a key that belongs to another certificate would otherwise look like an outage.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// A chain of certificates and the key of the first, both PEM.
#[derive(Clone)]
pub(crate) struct Certificate {
    chain: String,
    key: String,
}

impl Certificate {
    /// Refuses with what is wrong.
    pub(crate) fn new(chain: &str, key: &str) -> Result<Self, &'static str> {
        let certificate = Self { chain: chain.to_owned(), key: key.to_owned() };
        let (chain, key) = certificate.parse()?;
        let provider = rustls::crypto::ring::default_provider();
        match CertifiedKey::from_der(chain, key, &provider) {
            Ok(_) => Ok(certificate),
            Err(rustls::Error::InconsistentKeys(_)) => Err("client_key is not the key of client_cert"),
            Err(_) => Err("client_cert and client_key are of a kind that TLS does not take"),
        }
    }

    /// As TLS takes them.
    pub(crate) fn parse(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), &'static str> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or("client_cert holds no certificate in PEM")?;
        let key =
            PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| "client_key holds no private key in PEM")?;
        Ok((chain, key))
    }

    /// The two files as they were read.
    pub(crate) fn pem(&self) -> (Vec<u8>, Vec<u8>) {
        (self.chain.clone().into_bytes(), self.key.clone().into_bytes())
    }
}

impl std::fmt::Debug for Certificate {
    /// The key is nobody's to read.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}
