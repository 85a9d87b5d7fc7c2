//! The fleet, its alarms and one machine as a whole, from what is known now.

use kilter_types::{Cause, Micros, Quality};

use super::machine::{latest_rows, runs, spark, spectra, trends, velocity};
use super::outlook::{outlooks, soonest};
use super::words::{name_of, named, operating_state, sentence, severity_word};
use super::{AlarmView, ContributionView, DeviceView, EvidenceView, FleetRow, FleetView, MachineView, ModelView};
use crate::machine::{AssetKey, Machine, ratio};
use crate::{AlarmEntry, Arrival, Live};

/// States from the worst.
const STATES: [&str; 6] = ["danger", "alarm", "watch", "silent", "unknown", "healthy"];

/// A machine is called silent after five windows, but not before this.
const SILENT_AFTER: Micros = Micros::from_secs(15);

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
        let (row, outlooks) = (self.fleet_row(key, machine, now), outlooks(machine));
        let latest = machine
            .points
            .values()
            .flat_map(|point| point.groups.values())
            .filter_map(|group| group.rows.back())
            .max_by_key(|(t, _)| *t);
        let alarms: Vec<_> = self.alarm_views().into_iter().filter(|alarm| alarm.asset == *key).take(50).collect();
        Some(MachineView {
            sentence: sentence(&row, &alarms),
            outlooks,
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
            outlook: soonest(&outlooks(machine)),
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
