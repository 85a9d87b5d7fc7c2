//! Where a machine's inputs come from, as the configuration declares it.

use std::path::PathBuf;

use kilter_recording::CsvDeclaration;
use kilter_source::FileConfig;
use kilter_types::{Hertz, Micros, Rpm, Unit};
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
}

impl SourceConfig {
    /// The file's declaration; `None` for a socket.
    pub(crate) fn file(&self) -> Option<FileConfig> {
        match self {
            Self::Socket { .. } | Self::Node { .. } => None,
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
