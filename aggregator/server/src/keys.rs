//! Keys: made at first start with mode 0600, never in the repository, never in a log.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use kilter_types::Digest;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What the server proves itself with.
pub(crate) struct Keys {
    /// Signs models and plans.
    pub(crate) signing_secret: [u8; 32],
    /// Certificate authority, for the bundles.
    pub(crate) ca_pem: String,
    /// TLS for MQTT and HTTP.
    pub(crate) tls: Arc<rustls::ServerConfig>,
}

impl Keys {
    /// The keys in this folder; made on the first call.
    pub(crate) fn load(dir: &Path, names: &[String]) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
        let signing = dir.join("model-signing.key");
        if !signing.exists() {
            write_secret(&signing, Digest(random()?).to_string().as_bytes())?;
        }
        let text = fs::read_to_string(&signing).with_context(|| format!("failed to read {}", signing.display()))?;
        let secret = Digest::parse(text.trim()).with_context(|| {
            format!("failed to read {}: it holds no key; restore it from a backup", signing.display())
        })?;
        let (ca, cert, key) = (dir.join("ca.pem"), dir.join("server.pem"), dir.join("server.key"));
        if !cert.exists() {
            make_certificates(names, &ca, &cert, &key)?;
        }
        Ok(Self {
            signing_secret: secret.0,
            ca_pem: fs::read_to_string(&ca).with_context(|| format!("failed to read {}", ca.display()))?,
            tls: tls(&cert, &key)?,
        })
    }

    /// The public half of the signing key, as bundles carry it.
    pub(crate) fn signing_public(&self) -> String {
        Digest(kilter_wire::sign::public_key(&self.signing_secret)).to_string()
    }
}

/// 32 random bytes from the operating system.
pub(crate) fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("failed to draw random bytes from the operating system")?;
    Ok(bytes)
}

/// Does this address need TLS and a token?
pub(crate) fn is_open(address: SocketAddr) -> bool {
    !address.ip().is_loopback()
}

/// Writes a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("failed to create {}", path.display()))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| format!("failed to write {}", path.display()))
}

fn make_certificates(names: &[String], ca: &Path, cert: &Path, key: &Path) -> anyhow::Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Kilter aggregator CA");
    let ca_key = KeyPair::generate().context("failed to make the CA key")?;
    let ca_cert = params.self_signed(&ca_key).context("failed to make the CA certificate")?;
    let issuer = Issuer::new(params, ca_key);
    let mut server = CertificateParams::new(names.to_vec()).context("failed to read tls.names")?;
    server.distinguished_name.push(DnType::CommonName, "Kilter aggregator");
    let server_key = KeyPair::generate().context("failed to make the server key")?;
    let server_cert = server.signed_by(&server_key, &issuer).context("failed to make the server certificate")?;
    fs::write(ca, ca_cert.pem()).with_context(|| format!("failed to write {}", ca.display()))?;
    write_secret(key, server_key.serialize_pem().as_bytes())?;
    fs::write(cert, server_cert.pem()).with_context(|| format!("failed to write {}", cert.display()))
}

fn tls(cert: &Path, key: &Path) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let certs: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).with_context(|| format!("failed to read {}", cert.display()))?.collect();
    let certs = certs.with_context(|| format!("failed to read {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("failed to read {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("failed to set up TLS")?
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .context("failed to set up TLS: key and certificate don't fit")?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_only_their_owner_reads_them() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let names = [String::from("localhost")];
        let first = Keys::load(dir.path(), &names).expect("made at first start");
        let again = Keys::load(dir.path(), &names).expect("read at the second");
        assert_eq!(first.signing_public(), again.signing_public());
        for secret in ["model-signing.key", "server.key"] {
            let mode = fs::metadata(dir.path().join(secret)).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
    }
}
