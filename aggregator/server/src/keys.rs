//! Keys: made at first start with mode 0600, never in the repository, never in a log.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use kilter_ingest::certificate;
use kilter_types::Digest;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::config::Mqtt;

/// What the server proves itself with.
pub(crate) struct Keys {
    /// Signs models and plans.
    pub(crate) signing_secret: [u8; 32],
    /// Certificate authority, for the bundles.
    pub(crate) ca_pem: String,
    /// TLS for MQTT and HTTP.
    pub(crate) tls: Arc<rustls::ServerConfig>,
    /// The server's certificate and its key.
    files: [PathBuf; 2],
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
            tls: tls(&cert, &key, WebPkiClientVerifier::no_client_auth())?,
            files: [cert, key],
        })
    }

    /// TLS for devices: with an authority only for those that bring a certificate of it. None on loopback and behind a broker, where an
    /// authority is refused: nobody would ask for its certificates.
    pub(crate) fn tls_for_devices(&self, mqtt: &Mqtt) -> anyhow::Result<Option<Arc<rustls::ServerConfig>>> {
        let ours = mqtt.broker.is_empty() && is_open(mqtt.listen);
        if mqtt.client_ca.as_os_str().is_empty() {
            return Ok(ours.then(|| Arc::clone(&self.tls)));
        }
        let failed = || format!("failed to use mqtt.client_ca {}", mqtt.client_ca.display());
        anyhow::ensure!(
            ours,
            "{}: only a listener off loopback speaks TLS, and a broker asks for certificates itself",
            failed()
        );
        let authorities = fs::read(&mqtt.client_ca).with_context(failed)?;
        let [cert, key] = &self.files;
        tls(cert, key, certificate::verifier(&authorities).with_context(failed)?).map(Some)
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

fn tls(cert: &Path, key: &Path, clients: Arc<dyn ClientCertVerifier>) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let certs: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).with_context(|| format!("failed to read {}", cert.display()))?.collect();
    let certs = certs.with_context(|| format!("failed to read {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("failed to read {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("failed to set up TLS")?
        .with_client_cert_verifier(clients)
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

    #[test]
    fn an_authority_of_client_certificates_needs_a_listener_that_speaks_tls_and_a_certificate_in_its_file() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let keys = Keys::load(dir.path(), &[String::from("localhost")]).expect("made at first start");
        let said =
            |mqtt: &Mqtt| keys.tls_for_devices(mqtt).map(|tls| tls.is_some()).map_err(|error| format!("{error:#}"));
        let open = Mqtt { listen: "0.0.0.0:8883".parse().expect("an address"), ..Mqtt::default() };
        assert_eq!((said(&Mqtt::default()), said(&open)), (Ok(false), Ok(true)));
        let asking = Mqtt { client_ca: dir.path().join("ca.pem"), ..open.clone() };
        assert_eq!(said(&asking), Ok(true));
        let loopback = Mqtt { client_ca: asking.client_ca.clone(), ..Mqtt::default() };
        let broker = Mqtt { broker: "broker:8883".to_owned(), ..asking.clone() };
        for refused in [loopback, broker] {
            assert!(said(&refused).is_err_and(|error| error.contains("speaks TLS")), "{refused:?}");
        }
        for (file, why) in [("server.key", "server.key"), ("gone.pem", "No such file")] {
            let wrong = Mqtt { client_ca: dir.path().join(file), ..open.clone() };
            assert!(said(&wrong).is_err_and(|error| error.contains(why)), "{file}");
        }
    }
}
