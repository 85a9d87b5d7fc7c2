//! The agent's configuration: TOML with every key documented in `default.toml`, which is embedded and equals the defaults.

mod channel;
pub(crate) mod derate;
mod machine;
mod source;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use kilter_journal::{Config as JournalConfig, Drop, FsyncPolicy};
use kilter_types::{Class, Name, Severity};
use kilter_uplink::SessionConfig;
use serde::Deserialize;
use thiserror::Error;

use crate::clip::ClipConfig;
use crate::exception::OnChange;
pub(crate) use machine::Machine;
pub(crate) use source::SourceConfig;

/// The documented defaults.
pub(crate) const DEFAULT_TOML: &str = include_str!("default.toml");

/// Everything that a file can say.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) data: PathBuf,
    pub(crate) bundle: PathBuf,
    pub(crate) site: Name,
    pub(crate) workers: usize,
    pub(crate) checkpoint_secs: f64,
    pub(crate) report_secs: f64,
    pub(crate) clock_uncertainty_secs: f64,
    pub(crate) journal: Journal,
    pub(crate) uplink: Uplink,
    pub(crate) clip: ClipConfig,
    pub(crate) on_change: OnChange,
    pub(crate) http: Http,
    pub(crate) alarm: Alarm,
    pub(crate) machine: Vec<Machine>,
}

/// The spool on disk.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Journal {
    pub(crate) max_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) keep_committed_bytes: u64,
    pub(crate) fsync: Fsync,
    pub(crate) group_ms: u64,
    pub(crate) cap: Vec<ClassCap>,
}

/// Bounds of one class, beside those of the whole journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cap {
    pub(crate) class: Class,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_age_us: Option<u64>,
}

/// The same as a file says it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClassCap {
    pub(crate) class: Name,
    #[serde(default)]
    pub(crate) max_bytes: Option<u64>,
    #[serde(default)]
    pub(crate) max_days: Option<f64>,
}

/// When appended records become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fsync {
    Always,
    Group,
    Never,
}

/// Bounds and timeouts of the delivery.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Uplink {
    pub(crate) batch_bytes: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) ack_timeout_secs: f64,
    pub(crate) stall_secs: f64,
    pub(crate) time_secs: f64,
    pub(crate) fetch_bytes: u32,
    pub(crate) quic: bool,
    pub(crate) batch_secs: f64,
    pub(crate) back_fill_bytes_per_sec: u64,
    pub(crate) daily_bytes: u64,
    pub(crate) client_cert: PathBuf,
    pub(crate) client_key: PathBuf,
}

/// The local page for people and scrapers on the same host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    pub(crate) listen: String,
}

/// What happens on the spot when a machine is in alarm.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Alarm {
    pub(crate) severity: Severity,
    pub(crate) log_file: PathBuf,
    pub(crate) output_file: PathBuf,
    pub(crate) command: Vec<String>,
    pub(crate) remote_reset: bool,
    pub(crate) dry_run: bool,
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to its folder.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config = Self::parse(&text)?;
        let base = path.parent().unwrap_or(Path::new(""));
        let place = |file: &mut PathBuf| {
            if !file.as_os_str().is_empty() {
                *file = base.join(&*file);
            }
        };
        place(&mut config.data);
        place(&mut config.bundle);
        place(&mut config.uplink.client_cert);
        place(&mut config.uplink.client_key);
        place(&mut config.alarm.log_file);
        place(&mut config.alarm.output_file);
        for machine in &mut config.machine {
            machine.files().into_iter().for_each(place);
        }
        Ok(config)
    }

    /// Parses and checks the text of a configuration.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(ConfigError::Parse)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let figure = |ok: bool, key: &'static str, want: &'static str| {
            if ok { Ok(()) } else { Err(ConfigError::Figure { key, want }) }
        };
        figure((1..=16).contains(&self.workers), "workers", "1 to 16")?;
        figure((0.05..=3600.0).contains(&self.checkpoint_secs), "checkpoint_secs", "0.05 to 3600")?;
        figure((1.0..=3600.0).contains(&self.report_secs), "report_secs", "1 to 3600")?;
        figure(self.clock_uncertainty_secs >= 0.0, "clock_uncertainty_secs", "at least 0")?;
        figure(self.journal.max_bytes >= 1 << 20, "journal.max_bytes", "at least 1048576")?;
        let segment = 64 * 1024..=self.journal.max_bytes / 4;
        figure(
            segment.contains(&self.journal.segment_bytes),
            "journal.segment_bytes",
            "65536 to a quarter of max_bytes",
        )?;
        let reserve = ..=self.journal.max_bytes / 2;
        figure(reserve.contains(&self.journal.reserve_bytes), "journal.reserve_bytes", "at most half of max_bytes")?;
        figure((1..=60_000).contains(&self.journal.group_ms), "journal.group_ms", "1 to 60000")?;
        for cap in &self.journal.cap {
            figure(cap.class().is_some(), "journal.cap.class", "clip, spectrum, state, feature, score or report")?;
            let bytes = cap.max_bytes.is_none_or(|bytes| bytes >= self.journal.segment_bytes);
            figure(bytes, "journal.cap.max_bytes", "at least segment_bytes")?;
            figure(cap.max_days.is_none_or(|days| days >= 0.001), "journal.cap.max_days", "at least 0.001")?;
        }
        figure((8192..=200_000).contains(&self.uplink.batch_bytes), "uplink.batch_bytes", "8192 to 200000")?;
        figure((1..=64).contains(&self.uplink.max_in_flight), "uplink.max_in_flight", "1 to 64")?;
        figure((0.1..=600.0).contains(&self.uplink.ack_timeout_secs), "uplink.ack_timeout_secs", "0.1 to 600")?;
        figure((1.0..=3600.0).contains(&self.uplink.stall_secs), "uplink.stall_secs", "1 to 3600")?;
        figure((1.0..=86400.0).contains(&self.uplink.time_secs), "uplink.time_secs", "1 to 86400")?;
        figure((0.0..=3600.0).contains(&self.uplink.batch_secs), "uplink.batch_secs", "0 to 3600")?;
        let daily = self.uplink.daily_bytes;
        figure(daily == 0 || daily >= 65_536, "uplink.daily_bytes", "0, or at least 65536")?;
        let certificate = [&self.uplink.client_cert, &self.uplink.client_key].map(|file| file.as_os_str().is_empty());
        figure(certificate[0] == certificate[1], "uplink.client_key", "given together with client_cert")?;
        figure((0.0..=60.0).contains(&self.clip.before_secs), "clip.before_secs", "0 to 60")?;
        figure((0.0..=60.0).contains(&self.clip.after_secs), "clip.after_secs", "0 to 60")?;
        let heartbeat = self.on_change.heartbeat_secs;
        figure((0.0..=3600.0).contains(&heartbeat), "on_change.heartbeat_secs", "0 to 3600")?;
        let deadbands = self.on_change.feature.iter().map(|feature| feature.deadband).chain([self.on_change.deadband]);
        figure(deadbands.into_iter().all(|share| (0.0..=1.0).contains(&share)), "on_change.deadband", "0 to 1")?;
        figure((512..=65536).contains(&self.uplink.fetch_bytes), "uplink.fetch_bytes", "512 to 65536")?;
        for (i, machine) in self.machine.iter().enumerate() {
            let twin = self.machine[..i].iter().any(|other| other.asset == machine.asset);
            if twin {
                return Err(ConfigError::Twice { asset: machine.asset.clone() });
            }
            let unheard = matches!(machine.source, SourceConfig::Http { .. }) && self.http.listen.is_empty();
            let checked = if unheard { Err(NO_PAGE.to_owned()) } else { machine.check() };
            checked.map_err(|reason| ConfigError::Machine { asset: machine.asset.clone(), reason })?;
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "data".into(),
            bundle: "bundle.toml".into(),
            site: Name::new("default").expect("a good name"),
            workers: 1,
            checkpoint_secs: 1.0,
            report_secs: 30.0,
            clock_uncertainty_secs: 60.0,
            journal: Journal::default(),
            uplink: Uplink::default(),
            clip: ClipConfig::default(),
            on_change: OnChange::default(),
            http: Http::default(),
            alarm: Alarm::default(),
            machine: Vec::new(),
        }
    }
}

impl Journal {
    pub(crate) fn config(&self) -> JournalConfig {
        JournalConfig {
            segment_bytes: self.segment_bytes,
            max_bytes: self.max_bytes,
            fsync: match self.fsync {
                Fsync::Always => FsyncPolicy::Always,
                Fsync::Group => FsyncPolicy::Group { interval_us: (self.group_ms * 1000) as i64 },
                Fsync::Never => FsyncPolicy::Never,
            },
            reserve_bytes: self.reserve_bytes,
            drop_policy: Drop::OldestOfClass(DROP_ORDER.iter().map(|class| *class as u8).collect()),
            keep_bytes: self.keep_committed_bytes,
        }
    }

    /// Bounds by class.
    pub(crate) fn caps(&self) -> Vec<Cap> {
        let cap = |cap: &ClassCap| {
            let max_age_us = cap.max_days.map(|days| (days * 86.4e9) as u64);
            Some(Cap { class: cap.class()?, max_bytes: cap.max_bytes, max_age_us })
        };
        self.cap.iter().filter_map(cap).collect()
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            segment_bytes: 4 << 20,
            reserve_bytes: 4 << 20,
            keep_committed_bytes: 64 << 20,
            fsync: Fsync::Group,
            group_ms: 100,
            cap: Vec::new(),
        }
    }
}

impl ClassCap {
    /// `None` for a class that does not exist or never gives way.
    fn class(&self) -> Option<Class> {
        DROP_ORDER.into_iter().find(|class| class.as_str() == self.class.as_str())
    }
}

impl Uplink {
    pub(crate) fn session(&self) -> SessionConfig {
        let us = |secs: f64| (secs * 1e6) as u64;
        SessionConfig {
            batch_bytes: self.batch_bytes,
            max_in_flight: self.max_in_flight,
            ack_timeout_us: us(self.ack_timeout_secs),
            stall_us: us(self.stall_secs),
            time_interval_us: us(self.time_secs),
            batch_interval_us: us(self.batch_secs),
            back_fill_bytes_per_sec: self.back_fill_bytes_per_sec,
            daily_bytes: self.daily_bytes,
            ..SessionConfig::default()
        }
    }
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            batch_bytes: 48 * 1024,
            max_in_flight: 8,
            ack_timeout_secs: 10.0,
            stall_secs: 60.0,
            time_secs: 60.0,
            fetch_bytes: 32 * 1024,
            quic: true,
            batch_secs: 0.0,
            back_fill_bytes_per_sec: 0,
            daily_bytes: 0,
            client_cert: PathBuf::new(),
            client_key: PathBuf::new(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9470".to_owned() }
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self {
            severity: Severity::Alarm,
            log_file: PathBuf::new(),
            output_file: PathBuf::new(),
            command: Vec::new(),
            remote_reset: false,
            dry_run: false,
        }
    }
}

const NO_PAGE: &str = "source: inputs are posted to the local page, and http.listen is empty";

/// What gives way when the journal is full, first to last; alarms, events and gaps never do.
const DROP_ORDER: [Class; 6] =
    [Class::Clip, Class::Spectrum, Class::State, Class::Feature, Class::Score, Class::Report];

/// Why a configuration can't be used.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// The file.
    #[error("read the configuration {path}", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text.
    #[error("read the configuration:\n{0}")]
    Parse(toml::de::Error),
    /// A number out of range.
    #[error("use the configuration: {key} must be {want}")]
    Figure {
        /// Which.
        key: &'static str,
        /// What would be good.
        want: &'static str,
    },
    /// Two machines of one name.
    #[error("use the configuration: machine {asset} is configured twice")]
    Twice {
        /// Which.
        asset: Name,
    },
    /// A machine.
    #[error("use machine {asset}: {reason}")]
    Machine {
        /// Which.
        asset: Name,
        /// What does not fit.
        reason: String,
    },
}
