//! Who this agent is: its enrolment bundle.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kilter_types::{DeviceId, Name};
use kilter_uplink::{Server, ServerError};
use kilter_wire::bundle::{BUNDLE_VERSION, Bundle};
use kilter_wire::topic::{Direction, Topic};
use thiserror::Error;
use tracing::warn;

/// The bundle, checked.
#[derive(Clone, Debug)]
pub(crate) struct Enrolled {
    pub(crate) tenant: Name,
    pub(crate) device: DeviceId,
    pub(crate) server: Server,
    /// Public key that signs models and plans.
    pub(crate) key: [u8; 32],
}

/// Why a bundle can't be used.
#[derive(Debug, Error)]
pub(crate) enum BundleError {
    /// The file.
    #[error("read the enrolment bundle {path}; `kilter-aggregator enroll` writes one, and bundle = \"\" runs without a server", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text.
    #[error("read the enrolment bundle {path}:\n{error}", path = .path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        error: Box<toml::de::Error>,
    },
    /// A layout that this build does not know.
    #[error("read the enrolment bundle: version {0} is unknown, this agent reads {BUNDLE_VERSION}")]
    Version(u16),
    /// The signing key.
    #[error("read the enrolment bundle: signing_key is not 64 hexadecimal digits")]
    Key,
    /// The client certificate or its key.
    #[error("read the client certificate {path}", path = .path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl Enrolled {
    /// Reads a bundle.
    pub(crate) fn load(path: &Path) -> Result<Self, BundleError> {
        let text = fs::read_to_string(path).map_err(|source| BundleError::Read { path: path.to_owned(), source })?;
        let others = fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
        if others {
            warn!(path = %path.display(), "the enrolment bundle holds a secret and others can read it: chmod 600");
        }
        let bundle: Bundle<String> = toml::from_str(&text)
            .map_err(|error| BundleError::Parse { path: path.to_owned(), error: Box::new(error) })?;
        Self::check(bundle)
    }

    /// With the device's own certificate and its key, from two files.
    pub(crate) fn with_certificate(mut self, chain: &Path, key: &Path) -> Result<Self, BundleError> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| BundleError::Certificate { path: path.to_owned(), source })
        };
        self.server = self.server.with_certificate(&read(chain)?, &read(key)?)?;
        Ok(self)
    }

    fn check(bundle: Bundle<String>) -> Result<Self, BundleError> {
        if bundle.version == 0 || bundle.version > BUNDLE_VERSION {
            return Err(BundleError::Version(bundle.version));
        }
        let key = kilter_types::Digest::parse(bundle.signing_key.trim()).ok_or(BundleError::Key)?.0;
        let up = Topic { tenant: bundle.tenant.clone(), device: bundle.device.clone(), direction: Direction::Up };
        let server = Server::new(&bundle.server, &bundle.server_ca, &bundle.credential, up)?;
        Ok(Self { tenant: bundle.tenant, device: bundle.device, server, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(signing_key: &str, server: &str) -> Result<Enrolled, BundleError> {
        let text = format!(
            "version = 1\ntenant = \"default\"\ndevice = \"edge-1\"\ncredential = \"secret\"\nserver = \"{server}\"\n\
             server_ca = \"\"\nsigning_key = \"{signing_key}\"\n"
        );
        Enrolled::check(toml::from_str(&text).expect("good TOML"))
    }

    #[test]
    fn a_bundle_without_a_key_or_with_plain_tcp_off_loopback_is_refused() {
        assert!(bundle(&"ab".repeat(32), "127.0.0.1:1883").is_ok());
        assert!(matches!(bundle("ab", "127.0.0.1:1883"), Err(BundleError::Key)));
        assert!(matches!(bundle(&"ab".repeat(32), "plant.example:1883"), Err(BundleError::Server(_))));
    }
}
