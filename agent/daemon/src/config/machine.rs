//! One machine as the configuration declares it, and the monitor's own form of it.

use std::path::PathBuf;

use kilter_monitor::{
    ChannelConfig, ChannelKind, FeatureLimit, GroupConfig, Limits, MachineConfig, Patience, Protection,
};
use kilter_recording::CsvDeclaration;
use kilter_signal::bearing::Orders;
use kilter_signal::table::{self, Schema};
use kilter_source::{ChannelSpec, FileConfig};
use kilter_types::{Cause, Celsius, ChannelId, FeatureId, GroupKind, Hertz, Micros, Name, Rpm, Unit};
use serde::Deserialize;

/// A machine.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) asset: Name,
    pub(crate) class: Name,
    #[serde(default)]
    pub(crate) site: Option<Name>,
    pub(crate) source: SourceConfig,
    #[serde(default)]
    pub(crate) nominal_rpm: Option<f32>,
    #[serde(default)]
    pub(crate) bearing: Option<Bearing>,
    #[serde(default = "commissioning_windows")]
    pub(crate) commissioning_windows: u32,
    #[serde(default = "regimes")]
    pub(crate) regimes: u8,
    #[serde(default = "spectrum_every")]
    pub(crate) spectrum_every: u32,
    #[serde(default = "state_every")]
    pub(crate) state_every: u32,
    #[serde(default = "significant_bits")]
    pub(crate) significant_bits: u8,
    #[serde(default)]
    pub(crate) patience: PatienceConfig,
    #[serde(default)]
    pub(crate) limits: LimitsConfig,
    #[serde(default)]
    pub(crate) limit: Vec<LimitConfig>,
    #[serde(default)]
    pub(crate) protection: Vec<ProtectionConfig>,
    #[serde(default)]
    pub(crate) channel: Vec<Channel>,
    #[serde(default)]
    pub(crate) group: Vec<Group>,
}

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

/// A bearing: by designation from the catalogue, or by its fault orders.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bearing {
    #[serde(default)]
    designation: Option<String>,
    #[serde(default)]
    bpfo: Option<f32>,
    #[serde(default)]
    bpfi: Option<f32>,
    #[serde(default)]
    bsf: Option<f32>,
    #[serde(default)]
    ftf: Option<f32>,
}

/// Hysteresis in windows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PatienceConfig {
    raise: u8,
    of: u8,
    diagnosis_raise: u8,
    diagnosis_of: u8,
    clear: u16,
    clear_ratio: f32,
    latch: bool,
}

/// Fixed limits by their usual names.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsConfig {
    velocity_alarm_mm_s: Option<f32>,
    velocity_danger_mm_s: Option<f32>,
    temperature_alarm_c: Option<f32>,
    temperature_danger_c: Option<f32>,
}

/// A fixed limit on any feature.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitConfig {
    feature: String,
    alarm: f32,
    danger: f32,
    #[serde(default)]
    cause: Cause,
}

/// A trip.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProtectionConfig {
    feature: String,
    above: f32,
    windows: u8,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Channel {
    name: Name,
    kind: Kind,
    unit: Unit,
    #[serde(default)]
    rate_hz: Option<f32>,
    #[serde(default)]
    period_secs: Option<f64>,
    #[serde(default)]
    width: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Vibration,
    Reading,
    Cycle,
    Speed,
    Load,
    Ambient,
}

/// A feature group.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    point: Name,
    kind: GroupKind,
    channels: Vec<Name>,
    window: u32,
    #[serde(default)]
    hop: Option<u32>,
}

/// What the gateway sets on a node, which keeps it in its flash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSettings {
    /// Raised with every change: the node ignores what is not above what it holds.
    generation: u32,
    /// Shaft speed where none is measured; 0: as built.
    #[serde(default)]
    nominal_rpm: f32,
    /// Windows measured in a row before a sleep.
    #[serde(default)]
    windows: u16,
    /// Seconds of sleep between two stretches of measuring; 0: never.
    #[serde(default)]
    sleep_secs: u16,
}

impl NodeSettings {
    /// As they go over the line.
    pub(crate) fn wire(self) -> kilter_wire::node::NodeSettings {
        let Self { generation, nominal_rpm, windows, sleep_secs } = self;
        kilter_wire::node::NodeSettings { generation, nominal_rpm: Rpm(nominal_rpm), windows, sleep_secs }
    }
}

impl Machine {
    /// Does a node watch it, with a monitor of its own?
    pub(crate) fn is_node(&self) -> bool {
        matches!(self.source, SourceConfig::Node { .. })
    }

    /// Checks what can be checked before anything starts.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let SourceConfig::Node { settings: Some(settings), .. } = &self.source {
            if !(settings.nominal_rpm.is_finite() && settings.nominal_rpm >= 0.0) {
                return Err(
                    "nominal_rpm of a node is a speed in rpm, or 0 for the one that it was built with".to_owned()
                );
            }
            if settings.sleep_secs > 0 && settings.windows == 0 {
                return Err("a node that sleeps measures at least one window in between: windows = 1".to_owned());
            }
        }
        match (self.is_node(), self.channel.is_empty() && self.group.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => Err("a node brings its own channels and groups: leave them out here".to_owned()),
            (false, _) => self.monitor().map(drop),
        }
    }

    /// The monitor's configuration, or what does not fit.
    pub(crate) fn monitor(&self) -> Result<MachineConfig, String> {
        let mut config = MachineConfig::new(self.class.clone());
        for channel in &self.channel {
            let made = ChannelConfig { name: channel.name.clone(), unit: channel.unit, kind: channel.kind()? };
            let twice = config.channels.iter().any(|known| known.name == made.name);
            if twice || config.channels.push(made).is_err() {
                return Err(format!("channel {}: its name is taken, or there are more than 16 channels", channel.name));
            }
        }
        for group in &self.group {
            let made = group.monitor(&config)?;
            config.groups.push(made).map_err(|_| "more than 8 groups".to_owned())?;
        }
        config.nominal_rpm = self.nominal_rpm.map(Rpm);
        config.bearing = self.bearing.as_ref().map(Bearing::orders).transpose()?;
        config.commissioning_windows = self.commissioning_windows;
        config.regimes = self.regimes;
        config.spectrum_every = self.spectrum_every;
        config.state_every = self.state_every;
        config.significant_bits = self.significant_bits;
        let patience = &self.patience;
        config.patience = Patience {
            raise: patience.raise,
            of: patience.of,
            diagnosis_raise: patience.diagnosis_raise,
            diagnosis_of: patience.diagnosis_of,
            clear: patience.clear,
            clear_ratio: patience.clear_ratio,
            latch: patience.latch,
        };
        config.limits = Limits {
            velocity_alarm_mm_s: self.limits.velocity_alarm_mm_s,
            velocity_danger_mm_s: self.limits.velocity_danger_mm_s,
            temperature_alarm: self.limits.temperature_alarm_c.map(Celsius),
            temperature_danger: self.limits.temperature_danger_c.map(Celsius),
            ..Limits::default()
        };
        for limit in &self.limit {
            let feature = feature(&limit.feature)?;
            let made = FeatureLimit { feature, alarm: limit.alarm, danger: limit.danger, cause: limit.cause };
            config.limits.features.push(made).map_err(|_| "more than 8 limits on features".to_owned())?;
        }
        for protection in &self.protection {
            let feature = feature(&protection.feature)?;
            if !self.group.iter().any(|group| group.gives(feature, self)) {
                return Err(format!(
                    "protection {}: it would never trip, because no group gives this feature{}",
                    protection.feature,
                    if protection.feature == VELOCITY { TOO_SHORT } else { "" }
                ));
            }
            let made = Protection { feature, above: protection.above, windows: protection.windows };
            config.protection.push(made).map_err(|_| "more than 4 protections".to_owned())?;
        }
        kilter_monitor::needed(&config).map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// The channels as a source must offer them.
    pub(crate) fn specs(&self) -> Vec<ChannelSpec> {
        let spec = |channel: &Channel| ChannelSpec {
            name: channel.name.clone(),
            unit: channel.unit,
            rate: channel.rate_hz.map(Hertz),
        };
        self.channel.iter().map(spec).collect()
    }

    #[cfg(test)]
    pub(crate) fn forget_optional(&mut self) {
        self.commissioning_windows = commissioning_windows();
        self.regimes = regimes();
        self.spectrum_every = spectrum_every();
        self.state_every = state_every();
        self.significant_bits = significant_bits();
        self.patience = PatienceConfig::default();
    }
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

impl Channel {
    fn kind(&self) -> Result<ChannelKind, String> {
        let name = &self.name;
        let refuse = |given: bool, key: &str| {
            if given { Err(format!("channel {name}: {key} does not belong to kind {:?}", self.kind)) } else { Ok(()) }
        };
        refuse(self.rate_hz.is_some() && self.kind != Kind::Vibration, "rate_hz")?;
        refuse(self.period_secs.is_some() && self.kind != Kind::Reading, "period_secs")?;
        refuse(self.width.is_some() && self.kind != Kind::Cycle, "width")?;
        Ok(match self.kind {
            Kind::Vibration => {
                let rate =
                    self.rate_hz.ok_or_else(|| format!("channel {name}: rate_hz is needed for kind vibration"))?;
                ChannelKind::Vibration { rate: Hertz(rate) }
            }
            Kind::Reading => ChannelKind::Reading { period: self.period_secs.map(|secs| Micros((secs * 1e6) as i64)) },
            Kind::Cycle => {
                let width = self.width.ok_or_else(|| format!("channel {name}: width is needed for kind cycle"))?;
                ChannelKind::Cycle { width }
            }
            Kind::Speed => ChannelKind::Speed,
            Kind::Load => ChannelKind::Load,
            Kind::Ambient => ChannelKind::Ambient,
        })
    }
}

impl Group {
    fn monitor(&self, machine: &MachineConfig) -> Result<GroupConfig, String> {
        let mut channels = heapless::Vec::new();
        for name in &self.channels {
            let id: ChannelId = kilter_monitor::channel(machine, name)
                .ok_or_else(|| format!("group {}: channel {name} is not configured", self.point))?;
            channels.push(id).map_err(|_| format!("group {}: more than 8 channels", self.point))?;
        }
        let (kind, point, window) = (self.kind, self.point.clone(), self.window);
        Ok(GroupConfig { kind, point, channels, window, hop: self.hop.unwrap_or(window) })
    }
}

impl Bearing {
    fn orders(&self) -> Result<Orders, String> {
        match (&self.designation, self.bpfo, self.bpfi, self.bsf, self.ftf) {
            (Some(designation), None, None, None, None) => {
                Orders::catalogue(designation).map_err(|error| format!("bearing {designation}: {error}"))
            }
            (None, Some(bpfo), Some(bpfi), Some(bsf), Some(ftf)) => {
                Orders::new(bpfo, bpfi, bsf, ftf).map_err(|error| format!("bearing: {error}"))
            }
            _ => Err("bearing: give either its designation or all of bpfo, bpfi, bsf and ftf".to_owned()),
        }
    }
}

impl Group {
    /// Can the windows of this group hold the feature?
    fn gives(&self, feature: FeatureId, machine: &Machine) -> bool {
        let schema = Schema::of(self.kind, self.channels.len());
        // As the extraction has it: a period of the band's lowest frequency is shorter than the window.
        let rate = machine.channel.iter().find(|channel| self.channels.first() == Some(&channel.name));
        let lowest_hz = if machine.nominal_rpm.is_some_and(|rpm| rpm < 600.0) { 2.0 } else { 10.0 };
        let long =
            rate.and_then(|channel| channel.rate_hz).is_none_or(|rate| self.window as f32 / rate * lowest_hz > 1.0);
        let known = schema.features().iter().any(|known| known.id == feature);
        known && (long || table::find(VELOCITY) != Some(feature))
    }
}

impl Default for PatienceConfig {
    fn default() -> Self {
        let patience = Patience::default();
        Self {
            raise: patience.raise,
            of: patience.of,
            diagnosis_raise: patience.diagnosis_raise,
            diagnosis_of: patience.diagnosis_of,
            clear: patience.clear,
            clear_ratio: patience.clear_ratio,
            latch: patience.latch,
        }
    }
}

const VELOCITY: &str = "velocity_rms";
const TOO_SHORT: &str = " (velocity needs windows longer than 0.1 s, below 600 rpm longer than 0.5 s)";

fn feature(name: &str) -> Result<FeatureId, String> {
    table::find(name).ok_or_else(|| format!("feature {name:?} is unknown"))
}

fn baud() -> u32 {
    115_200
}

fn commissioning_windows() -> u32 {
    60
}

fn regimes() -> u8 {
    4
}

fn spectrum_every() -> u32 {
    60
}

fn state_every() -> u32 {
    0
}

fn significant_bits() -> u8 {
    kilter_monitor::EXACT_BITS
}
