//! One machine as the configuration declares it, and the monitor's own form of it.

use std::path::PathBuf;

use kilter_monitor::{FeatureLimit, GroupConfig, Limits, MachineConfig, Patience, Protection};
use kilter_signal::bearing::Orders;
use kilter_signal::table::{self, Schema};
use kilter_source::ChannelSpec;
use kilter_types::{Cause, Celsius, ChannelId, FeatureId, GroupKind, Name, Rpm};
use serde::Deserialize;

use super::{channel::Channel, derate::Derate, source::SourceConfig};

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
    #[serde(default = "false_alarms_per_month")]
    pub(crate) false_alarms_per_month: f32,
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
    pub(crate) derate: Option<Derate>,
    #[serde(default)]
    pub(crate) channel: Vec<Channel>,
    #[serde(default)]
    pub(crate) group: Vec<Group>,
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

impl Machine {
    /// Does a node watch it, with a monitor of its own?
    pub(crate) fn is_node(&self) -> bool {
        matches!(self.source, SourceConfig::Node { .. })
    }

    /// The files that it names.
    pub(super) fn files(&mut self) -> Vec<&mut PathBuf> {
        let level = self.derate.as_mut().map(|derate| &mut derate.file);
        self.source.files().into_iter().chain(level).collect()
    }

    /// Checks what can be checked before anything starts.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.source.check(&self.asset)?;
        self.derate.as_ref().map_or(Ok(()), Derate::check)?;
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
            let made = channel.monitor()?;
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
        config.false_alarms_per_month = self.false_alarms_per_month;
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
        let levels = [
            ("temperature_alarm_c", self.limits.temperature_alarm_c),
            ("temperature_danger_c", self.limits.temperature_danger_c),
        ];
        for (key, limit) in levels {
            let level = feature(LEVEL)?;
            let mut warm = self.group.iter().filter(|group| group.kind == GroupKind::Temperature);
            if limit.is_some_and(|limit| !warm.all(|group| group.reaches(level, limit, self))) {
                return Err(format!(
                    "limits: {key} would never be passed, because the range of a channel ends before it"
                ));
            }
        }
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
            if !self
                .group
                .iter()
                .any(|group| group.gives(feature, self) && group.reaches(feature, protection.above, self))
            {
                return Err(format!(
                    "protection {}: it would never trip, because the range of the channel ends before {}",
                    protection.feature, protection.above
                ));
            }
            let made = Protection { feature, above: protection.above, windows: protection.windows };
            config.protection.push(made).map_err(|_| "more than 4 protections".to_owned())?;
        }
        kilter_monitor::needed(&config).map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// What can be run but not believed throughout, for people to read.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let velocity = self.limits.velocity_alarm_mm_s.or(self.limits.velocity_danger_mm_s).map(|_| VELOCITY);
        let limited = self.limit.iter().map(|limit| limit.feature.as_str()).chain(velocity);
        let given =
            |name: &str| feature(name).is_ok_and(|feature| self.group.iter().any(|group| group.gives(feature, self)));
        let silent = limited.filter(|name| !given(name)).map(|name| {
            let why = if name == VELOCITY { TOO_SHORT } else { "" };
            format!("limit on {name}: it never speaks, because no group gives this feature{why}")
        });
        self.channel.iter().filter_map(Channel::doubt).chain(silent).collect()
    }

    /// The channels as a source must offer them.
    pub(crate) fn specs(&self) -> Vec<ChannelSpec> {
        self.channel.iter().map(Channel::spec).collect()
    }

    #[cfg(test)]
    pub(crate) fn forget_optional(&mut self) {
        self.false_alarms_per_month = false_alarms_per_month();
        self.commissioning_windows = commissioning_windows();
        self.regimes = regimes();
        self.spectrum_every = spectrum_every();
        self.state_every = state_every();
        self.significant_bits = significant_bits();
        self.patience = PatienceConfig::default();
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

    /// Can the channel measure what the limit asks for? Told of the level of a temperature alone: it is in the channel's own measure.
    fn reaches(&self, feature: FeatureId, limit: f32, machine: &Machine) -> bool {
        let channel = machine.channel.iter().find(|channel| self.channels.first() == Some(&channel.name));
        let range = channel.and_then(|channel| Some((channel.unit, channel.range?)));
        self.kind != GroupKind::Temperature
            || table::find(LEVEL) != Some(feature)
            || range.is_none_or(|(unit, [_, high])| unit.to_house(high) > limit)
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
const LEVEL: &str = "temperature_level";
const TOO_SHORT: &str = " (velocity needs windows longer than 0.1 s, below 600 rpm longer than 0.5 s)";

fn feature(name: &str) -> Result<FeatureId, String> {
    table::find(name).ok_or_else(|| format!("feature {name:?} is unknown"))
}

fn false_alarms_per_month() -> f32 {
    0.1
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
