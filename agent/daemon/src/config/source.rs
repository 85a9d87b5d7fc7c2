//! Where a machine's inputs come from, as the configuration declares it.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use kilter_recording::CsvDeclaration;
use kilter_source::{Encoding, FileConfig, MqttConfig};
use kilter_types::{Hertz, Micros, Name, Rpm, Unit};
use serde::Deserialize;

/// Where the inputs come from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum SourceConfig {
    /// A sensor (a microcontroller node, a simulator) that speaks `kilter_wire::sensor` over TCP.
    Socket {
        /// `host:port`.
        address: String,
    },
    /// A node that runs its own monitor, on a serial line.
    Node {
        /// `/dev/ttyACM0`, or `tcp://host:port`.
        address: String,
        /// Speed of a serial port.
        #[serde(default = "baud")]
        baud: u32,
        /// What the gateway sets on it; as built without.
        #[serde(default)]
        settings: Option<NodeSettings>,
    },
    /// A recording: `.npy`, `.wav`, `.csv`.
    File {
        /// The file.
        path: PathBuf,
        /// Samples per second; a `.wav` states its own.
        #[serde(default)]
        rate_hz: Option<f32>,
        /// Unit of the values.
        #[serde(default)]
        unit: Option<Unit>,
        /// Shaft speed.
        #[serde(default)]
        rpm: Option<f32>,
        /// Microseconds since 1970 of the first sample.
        #[serde(default)]
        t0_us: i64,
        /// Seconds that one cycle stands for, in a recording that counts cycles; 0 leaves them undated.
        #[serde(default)]
        cycle_secs: f64,
        /// Sample time per real time; 0 replays as fast as possible.
        #[serde(default)]
        speed: f32,
        /// Columns of a `.csv`.
        #[serde(default)]
        csv: Option<CsvDeclaration>,
    },
    /// Messages of an MQTT broker.
    Mqtt {
        /// `host:port`.
        address: String,
        /// A topic filter; everything under it is about this machine.
        topic: String,
        /// How messages are written.
        #[serde(default)]
        format: Encoding,
        /// The name under which the broker keeps the session; `kilter-` and the asset if left out.
        #[serde(default)]
        client_id: Option<String>,
        /// User name, with the password in a file.
        #[serde(default)]
        user: Option<String>,
        /// Holds the password.
        #[serde(default)]
        password_file: Option<PathBuf>,
        /// The authority that signs the broker's certificate, PEM; needed off loopback.
        #[serde(default)]
        ca_file: Option<PathBuf>,
    },
    /// Messages that are posted to the local page.
    Http {
        /// Holds the token that a poster must show.
        token_file: PathBuf,
    },
}

impl SourceConfig {
    /// The files that it names.
    pub(super) fn files(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Socket { .. } | Self::Node { .. } => Vec::new(),
            Self::File { path, .. } => vec![path],
            Self::Mqtt { password_file, ca_file, .. } => password_file.iter_mut().chain(ca_file).collect(),
            Self::Http { token_file } => vec![token_file],
        }
    }

    /// What can't be used.
    pub(super) fn check(&self, asset: &Name) -> Result<(), String> {
        if let Self::Mqtt { user, password_file, .. } = self
            && user.is_some() != password_file.is_some()
        {
            return Err("source: give user and password_file together".to_owned());
        }
        let Ok(broker) = self.broker(asset, |_| Ok::<_, Infallible>(String::new()));
        broker.map_or(Ok(()), |broker| broker.check().map(drop)).map_err(|reason| format!("source: {reason}"))
    }

    /// The broker's settings, secrets read by `read`; `None` for what is no broker.
    pub(crate) fn broker<E>(
        &self,
        asset: &Name,
        read: impl Fn(&Path) -> Result<String, E>,
    ) -> Result<Option<MqttConfig>, E> {
        let Self::Mqtt { address, topic, format, client_id, user, password_file, ca_file } = self else {
            return Ok(None);
        };
        let read = |file: &Option<PathBuf>| file.as_deref().map(&read).transpose();
        let client_id = client_id.clone().unwrap_or_else(|| format!("kilter-{asset}"));
        let (address, topic, encoding) = (address.clone(), topic.clone(), *format);
        let credential = user.clone().zip(read(password_file)?);
        Ok(Some(MqttConfig { address, topic, encoding, client_id, credential, ca: read(ca_file)? }))
    }

    /// The file's declaration; `None` for what is no file.
    pub(crate) fn file(&self) -> Option<FileConfig> {
        match self {
            Self::Socket { .. } | Self::Node { .. } | Self::Mqtt { .. } | Self::Http { .. } => None,
            Self::File { path, rate_hz, unit, rpm, t0_us, cycle_secs, speed, csv } => Some(FileConfig {
                path: path.clone(),
                rate: rate_hz.map(Hertz),
                unit: *unit,
                rpm: rpm.map(Rpm),
                t0: Micros(*t0_us),
                cycle: Micros((*cycle_secs * 1e6) as i64),
                csv: csv.clone(),
                speed: *speed,
            }),
        }
    }
}

/// What the gateway sets on a node, which keeps it in its flash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSettings {
    /// Raised with every change: the node ignores what is not above what it holds.
    pub(super) generation: u32,
    /// Shaft speed where none is measured; 0: as built.
    #[serde(default)]
    pub(super) nominal_rpm: f32,
    /// Windows measured in a row before a sleep.
    #[serde(default)]
    pub(super) windows: u16,
    /// Seconds of sleep between two stretches of measuring; 0: never.
    #[serde(default)]
    pub(super) sleep_secs: u16,
}

impl NodeSettings {
    /// As they go over the line.
    pub(crate) fn wire(self) -> kilter_wire::node::NodeSettings {
        let Self { generation, nominal_rpm, windows, sleep_secs } = self;
        kilter_wire::node::NodeSettings { generation, nominal_rpm: Rpm(nominal_rpm), windows, sleep_secs }
    }
}

fn baud() -> u32 {
    115_200
}
