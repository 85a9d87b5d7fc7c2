//! The state of the present, and how a row changes it.

use std::collections::BTreeMap;

use kilter_fold::{Output, Row};
use kilter_types::{Class, DeviceId, Event, Gap, GapReason, Micros, Payload};
use serde::{Deserialize, Serialize};

use crate::machine::{AssetKey, Machine};
use crate::run::CORRECTED_FOR;
use crate::{AlarmBook, Arrival, Watermarks};

/// Everything that the page and the alarms are drawn from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Live {
    pub(crate) machines: BTreeMap<AssetKey, Machine>,
    pub(crate) alarms: AlarmBook,
    pub(crate) devices: BTreeMap<DeviceId, DeviceState>,
    pub(crate) rows: BTreeMap<Class, u64>,
    pub(crate) gaps: BTreeMap<GapReason, u64>,
    pub(crate) quarantined: u64,
    pub(crate) watermarks: Watermarks,
    /// Windows by when they came.
    pub(crate) arrivals: BTreeMap<Arrival, u64>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeviceState {
    pub(crate) last_received: Micros,
    pub(crate) rows: u64,
    pub(crate) epochs: u64,
    pub(crate) gaps: u64,
    pub(crate) quarantined: u64,
}

/// What a row changed, for those who want to be told at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A machine showed something new.
    Machine(AssetKey),
    /// An alarm changed; its key.
    Alarm(AssetKey, String),
    /// The leading model of a machine meets unfamiliar input.
    Drift(AssetKey),
    /// A node reported what it runs.
    Report(AssetKey, DeviceId),
    /// Nothing that is drawn.
    Nothing,
}

impl Live {
    /// A state before the first row.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what the fold gives.
    pub fn apply(&mut self, output: &Output) -> Change {
        match output {
            Output::Row(row) => self.row(row),
            Output::Quarantine { device, received, .. } => {
                self.quarantined += 1;
                let device = self.devices.entry(device.clone()).or_default();
                device.quarantined += 1;
                device.last_received = device.last_received.max(*received);
                Change::Nothing
            }
        }
    }

    /// Restores a state that [`Live::snapshot`] wrote.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        match bytes.split_first() {
            Some((&SNAPSHOT_VERSION, body)) => postcard::from_bytes(body).map_err(|_| SnapshotError::Body),
            Some((&version, _)) => Err(SnapshotError::Version(version)),
            None => Err(SnapshotError::Body),
        }
    }

    /// The state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = vec![SNAPSHOT_VERSION];
        bytes.extend(postcard::to_allocvec(self).expect("the state holds nothing that postcard can't write"));
        bytes
    }

    /// The alarms.
    pub fn alarms(&self) -> &AlarmBook {
        &self.alarms
    }

    /// The alarms, to acknowledge one.
    pub fn alarms_mut(&mut self) -> &mut AlarmBook {
        &mut self.alarms
    }

    /// One machine.
    pub fn machine(&self, key: &AssetKey) -> Option<&Machine> {
        self.machines.get(key)
    }

    /// Every machine.
    pub fn machines(&self) -> impl Iterator<Item = (&AssetKey, &Machine)> {
        self.machines.iter()
    }

    /// Rows seen per class.
    pub fn rows(&self) -> &BTreeMap<Class, u64> {
        &self.rows
    }

    /// Missing records by reason, as the nodes declared them.
    pub fn gaps(&self) -> &BTreeMap<GapReason, u64> {
        &self.gaps
    }

    /// How far event time has come.
    pub fn watermark(&self) -> Option<Micros> {
        self.watermarks.reached()
    }

    /// Windows that came on time, late, and too late to correct anything; all of them are in the lake.
    pub fn arrivals(&self) -> &BTreeMap<Arrival, u64> {
        &self.arrivals
    }

    /// Payloads and records in quarantine.
    pub fn quarantined(&self) -> u64 {
        self.quarantined
    }

    fn row(&mut self, row: &Row) -> Change {
        *self.rows.entry(row.record.class()).or_default() += 1;
        let device = self.devices.entry(row.device.clone()).or_default();
        device.last_received = device.last_received.max(row.received);
        device.rows += 1;
        let key = AssetKey::of(&row.record.point);
        let t = row.event_time;
        // Openings and gaps concern the node, not a machine.
        match &row.record.payload {
            Payload::Opening(_) => {
                device.epochs += 1;
                return Change::Nothing;
            }
            // About what was recorded; nothing of a machine.
            Payload::Seal(_) => return Change::Nothing,
            Payload::Gap(gap) => {
                let missing = missing(gap);
                device.gaps += missing;
                *self.gaps.entry(gap.reason).or_default() += missing;
                return Change::Nothing;
            }
            Payload::Features(_)
            | Payload::Score(_)
            | Payload::Alarm(_)
            | Payload::Event(_)
            | Payload::Report(_)
            | Payload::State(_)
            | Payload::Spectrum(_)
            | Payload::Clip(_) => {}
        }
        let machine =
            self.machines.entry(key.clone()).or_insert_with(|| Machine::new(row.device.clone(), t, row.received));
        machine.device = row.device.clone();
        machine.last_received = machine.last_received.max(row.received);
        machine.rows += 1;
        let point = &row.record.point.point;
        match &row.record.payload {
            Payload::Features(features) => {
                // A node's first report carries the node's clock; the machine's own times may be another's, a recording's for one.
                if machine.points.values().all(|point| point.groups.is_empty()) {
                    (machine.first_event, machine.last_event) = (t, t);
                }
                machine.last_event = machine.last_event.max(t);
                machine.features(point, t, features);
                let met = self.watermarks.observe(&row.device, t, row.received);
                *self.arrivals.entry(Watermarks::arrival(t, met, CORRECTED_FOR)).or_default() += 1;
                machine.runs.take(t, features, met, self.watermarks.reached());
            }
            Payload::Score(score) => machine.score(point, t, score),
            Payload::Spectrum(spectrum) => machine.spectrum(point, t, spectrum),
            Payload::Alarm(alarm) => {
                let alarm_key = self.alarms.apply(row, alarm);
                return Change::Alarm(key, alarm_key);
            }
            Payload::Report(report) => {
                machine.reported(report);
                return Change::Report(key, row.device.clone());
            }
            Payload::Event(event) => match event {
                Event::Commissioned { to, .. } => machine.commissioned = Some(*to),
                Event::Drift { share, .. } => {
                    machine.drift = Some((t, *share));
                    return Change::Drift(key);
                }
                Event::ModelSwitched { .. } => machine.drift = None,
                Event::ModelRefused { model, reason } => machine.refused(*model, reason),
                Event::Maintenance { .. } => machine.maintained(),
                Event::NewRegime { .. } | Event::Labelled { .. } | Event::Reset { .. } => {}
            },
            Payload::Opening(_) | Payload::Gap(_) | Payload::State(_) | Payload::Clip(_) | Payload::Seal(_) => {}
        }
        Change::Machine(key)
    }
}

fn missing(gap: &Gap) -> u64 {
    gap.last_seq.saturating_sub(gap.first_seq).saturating_add(1)
}

/// Why bytes are not a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A version that this build does not know.
    #[error("read a live snapshot of version {0}: this build reads version {SNAPSHOT_VERSION}")]
    Version(u8),
    /// Not readable.
    #[error("read a live snapshot: it is damaged")]
    Body,
}

const SNAPSHOT_VERSION: u8 = 3;
