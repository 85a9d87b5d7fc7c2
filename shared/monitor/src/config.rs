//! What a monitor is told about its machine: channels, groups, limits and how patient it is.
//!
//! A configuration is checked once, by [`crate::Monitor::new`]; afterwards every index and length in it holds. Defaults are those
//! of [`MachineConfig::new`]: limits and protection off until they are given.

mod channel;
mod error;

use kilter_signal::{bearing::Orders, fft};
use kilter_types::{Cause, Celsius, ChannelId, FeatureId, GroupKind, MAX_FEATURES, Name, Rpm};

pub(crate) use channel::OUTSIDE;
pub use channel::{Bounds, ChannelConfig, ChannelKind};
pub use error::{ConfigError, Reason};

/// The most channels of one machine.
pub const MAX_CHANNELS: usize = 16;
/// The most feature groups of one machine.
pub const MAX_GROUPS: usize = 8;
/// The most channels of one group.
pub const MAX_GROUP_CHANNELS: usize = 8;
/// The most operating regimes of which a group keeps a baseline.
pub const MAX_REGIMES: usize = 8;

/// One machine.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineConfig {
    /// The kind of machine, for example `pump`; models are made for one kind.
    pub asset_class: Name,
    /// Its channels, by [`ChannelId`].
    pub channels: heapless::Vec<ChannelConfig, MAX_CHANNELS>,
    /// Its feature groups, by their place.
    pub groups: heapless::Vec<GroupConfig, MAX_GROUPS>,
    /// The bearing's fault frequencies in multiples of the shaft speed.
    pub bearing: Option<Orders>,
    /// Nominal speed: the scale of the operating regimes, and the speed itself where none is measured.
    pub nominal_rpm: Option<Rpm>,
    /// Fixed limits, active from the first window.
    pub limits: Limits,
    /// How patient the decision is.
    pub patience: Patience,
    /// False alarms that the baselines may raise per machine and month; the threshold follows from it, as far as the windows of a month
    /// tell so rare a thing apart.
    pub false_alarms_per_month: f32,
    /// Windows per regime from which a baseline is learned and its threshold calibrated; at least 12. Windows of temperature
    /// are long and say little new: a third of it.
    pub commissioning_windows: u32,
    /// Regimes of which a baseline is kept per group, 1 to [`MAX_REGIMES`]; the least recently used one makes room.
    pub regimes: u8,
    /// A spectrum leaves with every so many windows; 0: only with an alarm.
    pub spectrum_every: u32,
    /// A baseline leaves with every so many windows after it is learned; 0: only when learned.
    pub state_every: u32,
    /// Trips, off by default.
    pub protection: heapless::Vec<Protection, 4>,
    /// Significant bits of each value of a row, [`LEAST_BITS`](crate::LEAST_BITS) to [`EXACT_BITS`](crate::EXACT_BITS); fewer bits, fewer
    /// bytes, an error of at most 2^-bits of the value.
    pub significant_bits: u8,
}

impl MachineConfig {
    /// A machine without channels, groups and limits.
    pub fn new(asset_class: Name) -> Self {
        Self {
            asset_class,
            channels: heapless::Vec::new(),
            groups: heapless::Vec::new(),
            bearing: None,
            nominal_rpm: None,
            limits: Limits::default(),
            patience: Patience::default(),
            false_alarms_per_month: 0.1,
            commissioning_windows: 60,
            regimes: 4,
            spectrum_every: 0,
            state_every: 0,
            protection: heapless::Vec::new(),
            significant_bits: crate::EXACT_BITS,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (i, channel) in self.channels.iter().enumerate() {
            channel.check().map_err(|reason| ConfigError::Channel { channel: i, reason })?;
        }
        let turns = |channel: &&ChannelConfig| matches!(channel.kind, ChannelKind::Speed | ChannelKind::Tacho { .. });
        let tacho = self.channels.iter().position(|channel| matches!(channel.kind, ChannelKind::Tacho { .. }));
        if let Some(channel) = tacho.filter(|_| self.channels.iter().filter(turns).count() > 1) {
            return Err(ConfigError::Channel { channel, reason: Reason::Pulses });
        }
        for (i, group) in self.groups.iter().enumerate() {
            self.check_group(group).map_err(|reason| ConfigError::Group { group: i, reason })?;
        }
        let regimes = usize::from(self.regimes);
        if self.groups.is_empty() {
            return Err(ConfigError::NoGroups);
        }
        if self.commissioning_windows < LEAST_COMMISSIONING
            || regimes == 0
            || regimes > MAX_REGIMES
            || !self.patience.holds()
            || !(self.false_alarms_per_month > 0.0 && self.false_alarms_per_month.is_finite())
        {
            return Err(ConfigError::Figures);
        }
        let finite = |limit: Option<f32>| limit.is_none_or(f32::is_finite);
        let nominal = self.nominal_rpm.is_none_or(|rpm| rpm.0 > 0.0 && rpm.0.is_finite());
        let limits = finite(self.limits.velocity_alarm_mm_s)
            && finite(self.limits.velocity_danger_mm_s)
            && finite(self.limits.temperature_alarm.map(|t| t.0))
            && finite(self.limits.temperature_danger.map(|t| t.0))
            && self.limits.features.iter().all(|l| l.alarm.is_finite() && l.danger.is_finite())
            && self.protection.iter().all(|p| p.above.is_finite() && (1..=32).contains(&p.windows));
        let precise = (crate::LEAST_BITS..=crate::EXACT_BITS).contains(&self.significant_bits);
        if nominal && limits && precise { Ok(()) } else { Err(ConfigError::Figures) }
    }

    fn check_group(&self, group: &GroupConfig) -> Result<(), Reason> {
        if group.hop == 0 || group.window == 0 || group.window > fft::MAX_LEN as u32 || group.hop > 1 << 24 {
            return Err(Reason::Window);
        }
        let (width, bounds) = match group.kind {
            GroupKind::Vibration => (1, 1..=1),
            GroupKind::Temperature => (1, 1..=2),
            GroupKind::Reading => (1, 1..=MAX_GROUP_CHANNELS),
            GroupKind::Cycle => (MAX_FEATURES, 1..=1),
        };
        if !bounds.contains(&group.channels.len()) {
            return Err(Reason::Channels);
        }
        for (i, id) in group.channels.iter().enumerate() {
            let kind = self.channels.get(usize::from(id.0)).ok_or(Reason::Channels)?.kind;
            let fits = match (group.kind, kind) {
                (GroupKind::Vibration, ChannelKind::Vibration { .. })
                | (GroupKind::Reading, ChannelKind::Reading { .. } | ChannelKind::Speed | ChannelKind::Load) => true,
                (GroupKind::Temperature, ChannelKind::Reading { .. }) => true,
                (GroupKind::Temperature, ChannelKind::Ambient) => i == 1,
                (GroupKind::Cycle, ChannelKind::Cycle { width: columns }) => usize::from(columns) <= width,
                (GroupKind::Reading, ChannelKind::Ambient) => true,
                (GroupKind::Vibration | GroupKind::Temperature | GroupKind::Reading | GroupKind::Cycle, _) => false,
            };
            if !fits || group.channels[..i].contains(id) {
                return Err(Reason::Channels);
            }
        }
        let window = group.window as usize;
        match group.kind {
            GroupKind::Vibration if !fft::is_supported(window) => Err(Reason::Window),
            GroupKind::Cycle if group.window != 1 || group.hop != 1 => Err(Reason::Window),
            GroupKind::Temperature | GroupKind::Reading if group.window > MAX_READING_WINDOW => Err(Reason::Window),
            GroupKind::Vibration | GroupKind::Temperature | GroupKind::Reading | GroupKind::Cycle => Ok(()),
        }
    }
}

/// A group of features of one measuring point: which channels, which window, which hop.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupConfig {
    /// What it is computed from.
    pub kind: GroupKind,
    /// The measuring point that its records belong to.
    pub point: Name,
    /// Vibration and cycles: one channel. Temperature: the channel, then perhaps its reference. Readings: up to eight.
    pub channels: heapless::Vec<ChannelId, MAX_GROUP_CHANNELS>,
    /// Length of a window in positions: samples, readings; 1 for cycles.
    pub window: u32,
    /// Window `i` begins at position `i * hop`.
    pub hop: u32,
}

/// Fixed limits; `None` switches a rule off.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Velocity RMS above which the machine should not run for long (ISO 20816-3: border of zones B and C).
    pub velocity_alarm_mm_s: Option<f32>,
    /// Velocity RMS that damages (border of zones C and D).
    pub velocity_danger_mm_s: Option<f32>,
    /// Temperature level of a temperature group.
    pub temperature_alarm: Option<Celsius>,
    /// Temperature level at which to act now.
    pub temperature_danger: Option<Celsius>,
    /// Limits on any feature.
    pub features: heapless::Vec<FeatureLimit, 8>,
}

/// A fixed upper limit on one feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureLimit {
    /// The feature.
    pub feature: FeatureId,
    /// Above this it is an alarm.
    pub alarm: f32,
    /// Above this it is dangerous.
    pub danger: f32,
    /// What it says about the machine.
    pub cause: Cause,
}

/// Hysteresis in windows, so in sample time (A1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// A rule, model or statistic fires when it exceeds in so many …
    pub raise: u8,
    /// … of so many windows (at most 32).
    pub of: u8,
    /// The diagnosis fires when it names the same cause in so many …
    pub diagnosis_raise: u8,
    /// … of so many windows (at most 32).
    pub diagnosis_of: u8,
    /// It clears after so many windows in a row below [`Self::clear_ratio`] of the limit.
    pub clear: u16,
    /// Where clearing begins, as a share of the limit.
    pub clear_ratio: f32,
    /// Raised alarms stay until somebody resets them.
    pub latch: bool,
}

impl Patience {
    fn holds(&self) -> bool {
        let pair = |n: u8, m: u8| n >= 1 && n <= m && m <= 32;
        pair(self.raise, self.of)
            && pair(self.diagnosis_raise, self.diagnosis_of)
            && self.clear >= 1
            && self.clear_ratio > 0.0
            && self.clear_ratio <= 1.0
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self { raise: 5, of: 8, diagnosis_raise: 5, diagnosis_of: 8, clear: 20, clear_ratio: 0.8, latch: false }
    }
}

/// A trip: needs no model, no network and no journal, acts in every operating state, latches (A2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protection {
    /// The feature.
    pub feature: FeatureId,
    /// Trips above this …
    pub above: f32,
    /// … in so many windows in a row, 1 to 32. Windows that say nothing of the machine (no value, a stuck sensor, one that drops out)
    /// are passed over; when as many of those come in a row, the row begins anew.
    pub windows: u8,
}

/// The fewest windows that teach a spread and calibrate a threshold.
pub(crate) const LEAST_COMMISSIONING: u32 = 12;
/// The longest window of readings.
pub const MAX_READING_WINDOW: u32 = 4096;
