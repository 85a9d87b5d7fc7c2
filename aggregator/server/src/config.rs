//! Configuration: `default.toml` is the documentation and equals [`Config::default`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kilter_types::{Micros, Name};
use serde::{Deserialize, Serialize};

/// The documented defaults.
pub(crate) const DEFAULT_TOML: &str = include_str!("../default.toml");

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) tenant: Name,
    pub(crate) data: PathBuf,
    pub(crate) mqtt: Mqtt,
    pub(crate) http: Http,
    pub(crate) tls: Tls,
    pub(crate) journal: Journal,
    pub(crate) rollout: Rollout,
    pub(crate) lab: Lab,
    pub(crate) live: Live,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mqtt {
    pub(crate) listen: SocketAddr,
    pub(crate) quic: bool,
    pub(crate) client_ca: PathBuf,
    pub(crate) broker: String,
    pub(crate) broker_user: String,
    pub(crate) broker_password_file: String,
    pub(crate) broker_ca: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    pub(crate) listen: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    pub(crate) names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Journal {
    pub(crate) segment_bytes: u64,
    pub(crate) max_bytes: u64,
    pub(crate) credit_bytes: u32,
    pub(crate) rows_per_day: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rollout {
    pub(crate) canaries: usize,
    pub(crate) probation_secs: u32,
    pub(crate) expires_days: u32,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Lab {
    pub(crate) enabled: bool,
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Live {
    pub(crate) forget_days: u32,
}

impl Config {
    /// Reads a file; without one the defaults hold.
    pub(crate) fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("failed to read the config {}", path.display()))?;
        Self::parse(&text).with_context(|| {
            format!("failed to read the config {}; `kilter-aggregator config` prints every key", path.display())
        })
    }

    /// Reads the text of a configuration.
    pub(crate) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tenant: Name::new("default").expect("a good name"),
            data: "kilter-data".into(),
            mqtt: Mqtt::default(),
            http: Http::default(),
            tls: Tls::default(),
            journal: Journal::default(),
            rollout: Rollout::default(),
            lab: Lab::default(),
            live: Live::default(),
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 18830)),
            quic: true,
            client_ca: PathBuf::new(),
            broker: String::new(),
            broker_user: String::new(),
            broker_password_file: String::new(),
            broker_ca: PathBuf::new(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 18080)) }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self { names: ["localhost", "127.0.0.1", "::1"].map(String::from).into() }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, max_bytes: 4 << 30, credit_bytes: 1 << 20, rows_per_day: 0 }
    }
}

impl Default for Rollout {
    fn default() -> Self {
        Self { canaries: 1, probation_secs: 600, expires_days: 365 }
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self { enabled: true, program: String::new(), arguments: Vec::new() }
    }
}

impl Live {
    /// How long the page keeps a machine that is gone; nothing: for ever.
    pub(crate) fn forget_after(&self) -> Option<Micros> {
        (self.forget_days > 0).then(|| Micros::from_secs(i64::from(self.forget_days) * 86_400))
    }
}

impl Default for Live {
    fn default() -> Self {
        Self { forget_days: 400 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        assert_eq!(toml::from_str::<Config>(DEFAULT_TOML).expect("the documentation is valid"), Config::default());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = toml::from_str::<Config>("[mqtt]\nlisen = \"127.0.0.1:1\"\n").expect_err("a typo");
        assert!(error.to_string().contains("lisen"), "{error}");
    }
}
