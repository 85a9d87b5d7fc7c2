//! What the page and the API show, drawn at a moment `now`.

use kilter_signal::table::{Schema, describe};
use kilter_types::{
    AlarmState, Cause, DeviceId, FeatureId, GroupKind, MAX_FEATURES, Micros, OperatingState, Quality, Role, Severity,
};
use serde::Serialize;

use crate::machine::{AssetKey, GroupState, MAX_ROWS, MAX_SCORES, Machine, ratio};
use crate::{AlarmEntry, Arrival, Live, Span, Summary};

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

impl Live {
    /// The fleet, worst machine first.
    pub fn fleet(&self, now: Micros) -> FleetView {
        let mut machines: Vec<_> =
            self.machines.iter().map(|(key, machine)| self.fleet_row(key, machine, now)).collect();
        machines.sort_by(|a, b| {
            let rank = |row: &FleetRow| STATES.iter().position(|state| *state == row.state);
            rank(a)
                .cmp(&rank(b))
                .then(b.score.unwrap_or(0.0).total_cmp(&a.score.unwrap_or(0.0)))
                .then_with(|| a.key.cmp(&b.key))
        });
        let mut counts: std::collections::BTreeMap<_, _> = STATES.iter().map(|state| (*state, 0)).collect();
        for row in &machines {
            *counts.entry(row.state).or_default() += 1;
        }
        FleetView {
            now_us: now.0,
            counts,
            open_alarms: self.alarms.open().count(),
            rows: self.rows.values().sum(),
            quarantined: self.quarantined,
            watermark_us: self.watermark().map(|mark| mark.0),
            late: self.arrivals.get(&Arrival::Late).copied().unwrap_or(0),
            too_late: self.arrivals.get(&Arrival::TooLate).copied().unwrap_or(0),
            machines,
            devices: self
                .devices
                .iter()
                .map(|(device, state)| DeviceView {
                    device: device.clone(),
                    last_received_us: state.last_received.0,
                    rows: state.rows,
                    epochs: state.epochs,
                    gaps: state.gaps,
                    quarantined: state.quarantined,
                })
                .collect(),
        }
    }

    /// One machine's page.
    pub fn machine_view(&self, key: &AssetKey, now: Micros) -> Option<MachineView> {
        let machine = self.machines.get(key)?;
        let row = self.fleet_row(key, machine, now);
        let latest = machine
            .points
            .values()
            .flat_map(|point| point.groups.values())
            .filter_map(|group| group.rows.back())
            .max_by_key(|(t, _)| *t);
        let alarms: Vec<_> = self.alarm_views().into_iter().filter(|alarm| alarm.asset == *key).take(50).collect();
        Some(MachineView {
            sentence: sentence(&row, &alarms),
            trends: trends(machine),
            spectra: spectra(machine),
            features: latest.map(|(_, row)| named(row)).unwrap_or_default(),
            operating_state: latest.map_or_else(|| "unknown".into(), |(_, row)| operating_state(row.state)),
            rpm: latest.map_or(0.0, |(_, row)| row.rpm.0),
            quality: latest.map(|(_, row)| Quality::names(row.quality).collect()).unwrap_or_default(),
            latest: latest_rows(machine),
            alarms,
            runs: runs(machine),
            row,
        })
    }

    /// Every alarm, open ones first.
    pub fn alarm_views(&self) -> Vec<AlarmView> {
        self.alarms.sorted().into_iter().map(|(key, entry)| alarm_view(key, entry)).collect()
    }

    /// One alarm.
    pub fn alarm_view(&self, key: &str) -> Option<AlarmView> {
        self.alarms.get(key).map(|entry| alarm_view(key, entry))
    }

    fn fleet_row(&self, key: &AssetKey, machine: &Machine, now: Micros) -> FleetRow {
        let worst = self
            .alarms
            .open()
            .filter(|(_, entry)| AssetKey::of(&entry.point) == *key)
            .map(|(_, entry)| entry)
            .max_by_key(|entry| (entry.alarm.severity, entry.alarm.cause != Cause::Unclear, entry.raised));
        let silent_after = ((machine.interval_us * 5.0) as i64).max(SILENT_AFTER.0);
        let stale = (now - machine.last_received).0 > silent_after;
        let (state, since) = match worst {
            _ if stale => ("silent", machine.last_received),
            Some(entry) => (severity_word(entry.alarm.severity), entry.raised),
            None => match machine.commissioned {
                Some(at) => ("healthy", at),
                None => ("unknown", machine.first_event),
            },
        };
        let leading = machine.leading_score();
        FleetRow {
            key: key.clone(),
            asset_class: machine.asset_class.as_ref().map(ToString::to_string),
            device: machine.device.clone(),
            state,
            since_us: since.0,
            cause: worst.map(|entry| entry.alarm.cause.as_str()),
            score: leading.map(|point| ratio(&point.score)),
            spark: spark(machine),
            velocity_mm_s: velocity(machine),
            rul_h: machine.rul().map(|rul| (rul.low.0, rul.hours.0, rul.high.0)),
            last_event_us: machine.last_event.0,
            last_received_us: machine.last_received.0,
            stale,
            commissioned_us: machine.commissioned.map(|at| at.0),
            drift: machine.drift.map(|(_, share)| share),
            models: machine
                .models
                .iter()
                .map(|model| ModelView {
                    digest: model.digest.to_string(),
                    role: model.role,
                    generation: model.generation,
                    expired: model.expired,
                    cost_us: model.cost_us,
                })
                .collect(),
        }
    }
}

fn alarm_view(key: &str, entry: &AlarmEntry) -> AlarmView {
    let alarm = &entry.alarm;
    AlarmView {
        key: key.to_owned(),
        asset: AssetKey::of(&entry.point),
        point: entry.point.point.to_string(),
        device: entry.device.clone(),
        open: entry.cleared.is_none(),
        severity: alarm.severity,
        worst: entry.worst,
        source: alarm.source,
        cause: alarm.cause.as_str(),
        raised_us: entry.raised.0,
        cleared_us: entry.cleared.map(|t| t.0),
        model: (alarm.model != kilter_types::Digest::NONE).then(|| alarm.model.to_string()),
        evidence: alarm
            .evidence
            .iter()
            .map(|line| {
                let (feature, unit) = name_of(line.feature);
                EvidenceView { feature, unit, value: line.value, limit: line.limit }
            })
            .collect(),
        contributions: alarm
            .contributions
            .iter()
            .map(|part| ContributionView { feature: name_of(part.feature).0, amount: part.amount })
            .collect(),
        history: entry.history.iter().map(|step| (step.t.0, step.state, step.severity)).collect(),
        acknowledged: entry.acknowledged.as_ref().map(|(who, t)| (who.clone(), t.0)),
        unjournaled: alarm.unjournaled,
    }
}

fn runs(machine: &Machine) -> Vec<RunView> {
    let of = |(span, summary): (Span, Summary), ended: bool| RunView {
        start_us: span.start.0,
        end_us: ended.then_some(span.end.0),
        windows: summary.count,
        rpm: summary.mean(),
    };
    let ended = machine.runs.ended().map(|run| of(run, true));
    ended.chain(machine.runs.current().map(|run| of(run, false))).collect()
}

fn trends(machine: &Machine) -> Vec<TrendView> {
    let mut out = Vec::new();
    for (point, state) in &machine.points {
        for role in [Role::Leader, Role::Shadow] {
            let scores = state.scores.iter().filter(|point| point.score.role == role);
            let values: Vec<_> = scores.map(|point| (point.t.0, ratio(&point.score))).collect();
            if values.is_empty() {
                continue;
            }
            let name = if role == Role::Leader { "score / threshold" } else { "shadow score / threshold" };
            let whole = machine.points.values().all(|point| point.scores.len() < MAX_SCORES);
            let week = if role == Role::Leader && !whole { week(&machine.health) } else { Vec::new() };
            out.push(TrendView {
                point: point.to_string(),
                name: name.into(),
                unit: "1",
                limit: Some(1.0),
                values,
                week,
            });
        }
        for group in state.groups.values() {
            for (place, roll_up) in &group.roll_ups {
                let Some((name, unit)) = place_name(group, *place) else { continue };
                let values =
                    group.rows.iter().filter_map(|(t, row)| row.vector.get(*place).map(|value| (t.0, value))).collect();
                // While every row is still there, the roll-up has nothing to add.
                let week = if group.rows.len() < MAX_ROWS { Vec::new() } else { week(roll_up) };
                out.push(TrendView { point: point.to_string(), name, unit, limit: None, values, week });
            }
        }
    }
    out
}

fn week(roll_up: &crate::RollUp) -> Vec<(i64, f32, f32, f32)> {
    roll_up.iter().map(|(t, bucket)| (t.0, bucket.min, bucket.mean(), bucket.max)).collect()
}

fn spectra(machine: &Machine) -> Vec<SpectrumView> {
    let mut out = Vec::new();
    for (point, state) in &machine.points {
        for ((_, envelope), (t, spectrum)) in &state.spectra {
            let step = spectrum.full_scale / 65_535.0;
            out.push(SpectrumView {
                point: point.to_string(),
                envelope: *envelope,
                t_us: t.0,
                line_hz: spectrum.line_hz,
                amplitudes_g: spectrum.lines.iter().map(|line| f32::from(*line) * step).collect(),
            });
        }
    }
    out
}

fn spark(machine: &Machine) -> Vec<(i64, f32)> {
    // A week once there is some of it, the last scores until then.
    let mut values: Vec<_> = machine.health.iter().map(|(t, bucket)| (t.0, bucket.max)).collect();
    if values.len() < WEEK_FROM {
        let leading = |point: &&crate::ScorePoint| point.score.role == Role::Leader;
        let scores = machine.points.values().map(|point| &point.scores).max_by_key(|scores| scores.len());
        let scores = scores.into_iter().flatten().filter(leading);
        values = scores.map(|point| (point.t.0, ratio(&point.score))).collect();
    }
    let step = values.len().div_ceil(SPARK).max(1);
    values.chunks(step).filter_map(|chunk| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))).collect()
}

fn velocity(machine: &Machine) -> Option<f32> {
    let groups = machine.points.values().flat_map(|point| point.groups.values());
    groups
        .filter(|group| group.kind == GroupKind::Vibration)
        .filter_map(|group| group.rows.back())
        .filter_map(|(_, row)| row.vector.get(kilter_signal::table::at::VELOCITY_RMS))
        .max_by(f32::total_cmp)
}

fn latest_rows(machine: &Machine) -> Vec<LatestView> {
    let groups =
        machine.points.iter().flat_map(|(point, state)| state.groups.values().map(move |group| (point, group)));
    let rows = groups.filter_map(|(point, group)| group.rows.back().map(|(t, row)| (point, t, row)));
    rows.map(|(point, t, row)| LatestView {
        point: point.to_string(),
        kind: row.kind,
        t_us: t.0,
        operating_state: operating_state(row.state),
        rpm: row.rpm.0,
        quality: Quality::names(row.quality).collect(),
        features: named(row),
    })
    .collect()
}

fn named(row: &kilter_types::FeatureRow) -> Vec<(String, &'static str, Option<f32>)> {
    let schema = schema_of(row.kind, row.vector.values.len());
    let features = schema.features().iter().enumerate().take(row.vector.values.len());
    features
        .map(|(place, feature)| {
            let (name, unit) = name_of(feature.id);
            (name, unit, row.vector.get(place))
        })
        .collect()
}

fn place_name(group: &GroupState, place: usize) -> Option<(String, &'static str)> {
    let len = group.rows.back().map_or(0, |(_, row)| row.vector.values.len());
    schema_of(group.kind, len).features().get(place).map(|feature| name_of(feature.id))
}

fn schema_of(kind: GroupKind, len: usize) -> Schema {
    let channels = match kind {
        GroupKind::Reading => len / kilter_signal::table::READING.len(),
        GroupKind::Cycle => len.min(MAX_FEATURES),
        GroupKind::Vibration | GroupKind::Temperature => 1,
    };
    Schema::of(kind, channels)
}

fn name_of(id: FeatureId) -> (String, &'static str) {
    match describe(id) {
        Some(described) => (described.name.to_string(), described.feature.unit),
        None => (format!("feature {}", id.0), ""),
    }
}

fn operating_state(state: OperatingState) -> String {
    match state {
        OperatingState::Unknown => "unknown".into(),
        OperatingState::Off => "off".into(),
        OperatingState::Transient => "transient".into(),
        OperatingState::Steady(bin) => format!("steady, bin {bin}"),
    }
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Healthy => "healthy",
        Severity::Watch => "watch",
        Severity::Alarm => "alarm",
        Severity::Danger => "danger",
    }
}

fn sentence(row: &FleetRow, alarms: &[AlarmView]) -> String {
    // A cause with a name says more than one without, when both are as bad.
    let open = alarms.iter().filter(|alarm| alarm.open);
    let open = open.max_by_key(|alarm| (alarm.severity, alarm.cause != Cause::Unclear.as_str(), alarm.raised_us));
    match (row.state, open) {
        ("silent", _) => "Nothing has come in for much longer than usual.".into(),
        (_, Some(alarm)) => {
            let what = match alarm.cause {
                "outer_race" => "Outer-race defect",
                "inner_race" => "Inner-race defect",
                "rolling_element" => "Rolling-element defect",
                "cage" => "Cage defect",
                "unbalance" => "Unbalance",
                "misalignment" => "Misalignment",
                "looseness" => "Mechanical looseness",
                "gear" => "Gear damage",
                "overheating" => "Overheating",
                "severity" => "Vibration above its limit",
                "sensor" => "A faulty sensor",
                _ => "Unusual behaviour without a clear cause",
            };
            let proof = match (alarm.evidence.len(), alarm.contributions.first()) {
                (0, None) => "no line of evidence".into(),
                (0, Some(part)) => format!("{} deviates most", part.feature.replace('_', " ")),
                (1, _) => "1 line of evidence".into(),
                (lines, _) => format!("{lines} lines of evidence"),
            };
            format!("{what} at {}; {proof}.", alarm.point)
        }
        ("unknown", None) => "Learning what is normal here; fixed limits watch already.".into(),
        (_, None) if row.score.is_some_and(|score| score > 1.0) => {
            "The score is above its threshold; not long enough for an alarm.".into()
        }
        (_, None) => "Runs as it did when it was commissioned.".into(),
    }
}

/// States from the worst.
const STATES: [&str; 6] = ["danger", "alarm", "watch", "silent", "unknown", "healthy"];

/// A machine is called silent after five windows, but not before this.
const SILENT_AFTER: Micros = Micros::from_secs(15);

/// The ten-minute buckets (six hours) from which a sparkline shows the week.
const WEEK_FROM: usize = 36;

/// The most points of a sparkline.
const SPARK: usize = 60;
