//! What the page and the API show, drawn at a moment `now`.

mod fleet;
mod machine;
mod outlook;
mod words;

use kilter_types::{AlarmState, DeviceId, GroupKind, Role, Severity};
use serde::Serialize;

use crate::machine::AssetKey;

/// The whole fleet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FleetView {
    /// When this was drawn.
    pub now_us: i64,
    /// Machines per state.
    pub counts: std::collections::BTreeMap<&'static str, usize>,
    /// Open alarms.
    pub open_alarms: usize,
    /// Rows ever seen.
    pub rows: u64,
    /// Records in quarantine.
    pub quarantined: u64,
    /// How far event time has come, over all nodes that are heard of.
    pub watermark_us: Option<i64>,
    /// Windows that came after the watermark had passed them.
    pub late: u64,
    /// Windows that came too late to correct what had been told.
    pub too_late: u64,
    /// One row a machine, worst first.
    pub machines: Vec<FleetRow>,
    /// The nodes.
    pub devices: Vec<DeviceView>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceView {
    /// Its id.
    pub device: DeviceId,
    /// When something last came in.
    pub last_received_us: i64,
    /// Rows it sent.
    pub rows: u64,
    /// Times its journal was opened.
    pub epochs: u64,
    /// Records it declared missing.
    pub gaps: u64,
    /// Records or payloads of it in quarantine.
    pub quarantined: u64,
}

/// One machine in the fleet's table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FleetRow {
    /// Which machine.
    #[serde(flatten)]
    pub key: AssetKey,
    /// The kind of machine.
    pub asset_class: Option<String>,
    /// The node that serves it.
    pub device: DeviceId,
    /// healthy, watch, alarm, danger, silent or unknown.
    pub state: &'static str,
    /// Since when, in event time.
    pub since_us: i64,
    /// The leading cause.
    pub cause: Option<&'static str>,
    /// Leading score over its threshold; 1 is the limit.
    pub score: Option<f32>,
    /// The last of these, oldest first: time and score over threshold.
    pub spark: Vec<(i64, f32)>,
    /// Velocity RMS in mm/s, where vibration is measured.
    pub velocity_mm_s: Option<f32>,
    /// Remaining useful life in hours: low, estimate, high.
    pub rul_h: Option<(f32, f32, f32)>,
    /// When its score reaches its limit, at the point where that is soonest; `None` while its errors are being learned.
    pub outlook: Option<LimitView>,
    /// Latest event time.
    pub last_event_us: i64,
    /// When something last came in.
    pub last_received_us: i64,
    /// Nothing has come in for much longer than usual.
    pub stale: bool,
    /// Baselines stand since.
    pub commissioned_us: Option<i64>,
    /// Share of unfamiliar windows, while the model drifts.
    pub drift: Option<f32>,
    /// What scores it.
    pub models: Vec<ModelView>,
}

/// When a score reaches its limit if it goes on as it does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitView {
    /// Where.
    pub point: String,
    /// Earliest, estimate and latest of a 90 % interval, in hours after the newest score; 0 where it stands above it, `None` where that is
    /// not within `within_h`.
    pub limit_h: (Option<f32>, Option<f32>, Option<f32>),
    /// How many hours are foreseen.
    pub within_h: f32,
}

/// A model on a machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelView {
    /// SHA-256 of the artifact.
    pub digest: String,
    /// Leader or shadow.
    pub role: Role,
    /// The manifest's generation.
    pub generation: u64,
    /// Past its expiry.
    pub expired: bool,
    /// Microseconds per score.
    pub cost_us: f32,
}

/// One alarm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlarmView {
    /// Its key, for acknowledging.
    pub key: String,
    /// Which machine.
    #[serde(flatten)]
    pub asset: AssetKey,
    /// Where on it.
    pub point: String,
    /// The node.
    pub device: DeviceId,
    /// Is it open?
    pub open: bool,
    /// How bad it is now.
    pub severity: Severity,
    /// How bad it was at worst.
    pub worst: Severity,
    /// What raised it.
    pub source: kilter_types::AlarmSource,
    /// The cause.
    pub cause: &'static str,
    /// When it was raised, event time.
    pub raised_us: i64,
    /// When it ended.
    pub cleared_us: Option<i64>,
    /// The model that decided.
    pub model: Option<String>,
    /// What supports the cause.
    pub evidence: Vec<EvidenceView>,
    /// Ranked contributions of the score.
    pub contributions: Vec<ContributionView>,
    /// Its states.
    pub history: Vec<(i64, AlarmState, Severity)>,
    /// Who acknowledged it, and when.
    pub acknowledged: Option<(String, i64)>,
    /// Left the node without being durable there.
    pub unjournaled: bool,
}

/// One line of evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvidenceView {
    /// The feature.
    pub feature: String,
    /// Its unit.
    pub unit: &'static str,
    /// Its value.
    pub value: f32,
    /// The limit it passed.
    pub limit: f32,
}

/// One contribution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContributionView {
    /// The feature.
    pub feature: String,
    /// Its part of the anomaly.
    pub amount: f32,
}

/// One machine's page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachineView {
    /// Its row in the fleet.
    pub row: FleetRow,
    /// What we think and why, in one sentence.
    pub sentence: String,
    /// Where its scores are heading.
    pub outlooks: Vec<OutlookView>,
    /// The trends of its leading features and scores.
    pub trends: Vec<TrendView>,
    /// Its last spectra.
    pub spectra: Vec<SpectrumView>,
    /// The last features by name, with unit.
    pub features: Vec<(String, &'static str, Option<f32>)>,
    /// What it is doing.
    pub operating_state: String,
    /// Shaft speed; 0 when not known.
    pub rpm: f32,
    /// What is wrong with the last window.
    pub quality: Vec<&'static str>,
    /// The last row of each group: what every point showed last.
    pub latest: Vec<LatestView>,
    /// Its alarms.
    pub alarms: Vec<AlarmView>,
    /// When it ran, oldest first.
    pub runs: Vec<RunView>,
}

/// One run of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RunView {
    /// Event time of its begin.
    pub start_us: i64,
    /// Event time of its end, ten minutes after its last window; `None` while it goes on.
    pub end_us: Option<i64>,
    /// Its windows.
    pub windows: u64,
    /// Mean shaft speed; 0 when not known.
    pub rpm: f32,
}

/// The last row of one group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatestView {
    /// Where.
    pub point: String,
    /// What it is computed from.
    pub kind: GroupKind,
    /// Event time of its window.
    pub t_us: i64,
    /// What the machine was doing.
    pub operating_state: String,
    /// Shaft speed; 0 when not known.
    pub rpm: f32,
    /// What is wrong with the window.
    pub quality: Vec<&'static str>,
    /// The features by name, with unit.
    pub features: Vec<(String, &'static str, Option<f32>)>,
}

/// One series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrendView {
    /// Where.
    pub point: String,
    /// What.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// A limit to draw.
    pub limit: Option<f32>,
    /// Time and value, oldest first.
    pub values: Vec<(i64, f32)>,
    /// Ten-minute time, minimum, mean, maximum of the last week.
    pub week: Vec<(i64, f32, f32, f32)>,
}

/// Where one series of scores is heading; all of it as score over threshold, 1 is the limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutlookView {
    /// Where.
    pub point: String,
    /// The group of features that is scored.
    pub group: u8,
    /// Event time of the newest score.
    pub t_us: i64,
    /// The level now.
    pub level: f32,
    /// As in [`LimitView`].
    pub limit_h: (Option<f32>, Option<f32>, Option<f32>),
    /// How many hours are foreseen.
    pub within_h: f32,
    /// What is forecast, the nearest first.
    pub steps: Vec<OutlookStep>,
}

/// What is forecast for one time ahead, with its 90 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct OutlookStep {
    /// So many hours after the newest score.
    pub in_h: f32,
    /// Below this lies one of twenty.
    pub low: f32,
    /// The forecast.
    pub mid: f32,
    /// Above this lies one of twenty.
    pub high: f32,
}

/// One spectrum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpectrumView {
    /// Where.
    pub point: String,
    /// Of the envelope?
    pub envelope: bool,
    /// Event time of its window.
    pub t_us: i64,
    /// Width of a line in Hz.
    pub line_hz: f32,
    /// Amplitudes in g, from 0 Hz.
    pub amplitudes_g: Vec<f32>,
}
