//! One machine: its points, what they showed last, and what scores it.

use std::collections::{BTreeMap, VecDeque};

use kilter_signal::table::at;
use kilter_types::{
    DeviceId, Digest, FeatureRow, GroupKind, KernelId, Micros, Name, Point, Report, Role, Rul, Score, Spectrum,
};
use serde::{Deserialize, Serialize};

use crate::outlook::Outlooks;
use crate::run::Runs;
use crate::trend::{RollUp, insert};

/// Which machine: tenant, site and asset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AssetKey {
    /// Who owns the data.
    pub tenant: Name,
    /// Plant or location.
    pub site: Name,
    /// The machine.
    pub asset: Name,
}

impl AssetKey {
    /// The machine that a point is on.
    pub fn of(point: &Point) -> Self {
        Self { tenant: point.tenant.clone(), site: point.site.clone(), asset: point.asset.clone() }
    }
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The node that serves it.
    pub device: DeviceId,
    /// The kind of machine, once its node has reported.
    pub asset_class: Option<Name>,
    /// First event time seen.
    pub first_event: Micros,
    /// Latest event time seen.
    pub last_event: Micros,
    /// When something last came in.
    pub last_received: Micros,
    /// Typical time between rows, in microseconds.
    pub interval_us: f64,
    /// Baselines stand since.
    pub commissioned: Option<Micros>,
    /// The model that decides began to see unfamiliar input.
    pub drift: Option<(Micros, f32)>,
    /// The points by name.
    pub points: BTreeMap<Name, PointState>,
    /// The last scores that decide, for the fleet's sparkline.
    pub health: RollUp,
    /// Models as the node reports them.
    pub models: Vec<ModelState>,
    /// Models that the node refused or reverted, newest last.
    pub refused: Vec<(Digest, Name)>,
    /// The node's last report.
    pub report: Option<Report>,
    /// Rows seen.
    pub rows: u64,
    /// When it ran.
    pub runs: Runs,
}

/// A model as a node reports it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelState {
    /// The artifact.
    pub digest: Digest,
    /// Leader or shadow.
    pub role: Role,
    /// The manifest's generation.
    pub generation: u64,
    /// Past its expiry.
    pub expired: bool,
    /// Microseconds per score.
    pub cost_us: f32,
}

/// One measuring point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PointState {
    /// The groups by number.
    pub groups: BTreeMap<u8, GroupState>,
    /// The last plain and envelope spectrum per group.
    pub spectra: BTreeMap<(u8, bool), (Micros, Spectrum)>,
    /// The last scores.
    pub scores: VecDeque<ScorePoint>,
    /// Where they are heading.
    pub outlooks: Outlooks,
}

/// One feature group of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupState {
    /// What it is computed from.
    pub kind: GroupKind,
    /// The last rows by event time.
    pub rows: VecDeque<(Micros, FeatureRow)>,
    /// A week of the leading features, by place in the vector.
    pub roll_ups: BTreeMap<usize, RollUp>,
}

/// One score, for plots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScorePoint {
    /// Event time.
    pub t: Micros,
    /// The score.
    pub score: Score,
}

impl Machine {
    pub(crate) fn new(device: DeviceId, event_time: Micros, received: Micros) -> Self {
        Self {
            device,
            asset_class: None,
            first_event: event_time,
            last_event: event_time,
            last_received: received,
            interval_us: 0.0,
            commissioned: None,
            drift: None,
            points: BTreeMap::new(),
            health: RollUp::default(),
            models: Vec::new(),
            refused: Vec::new(),
            report: None,
            rows: 0,
            runs: Runs::default(),
        }
    }

    pub(crate) fn features(&mut self, point: &Name, t: Micros, row: &FeatureRow) {
        let span = (row.end - row.start).0.max(1) as f64;
        self.interval_us = if self.interval_us == 0.0 { span } else { self.interval_us.max(span) };
        let group =
            self.points.entry(point.clone()).or_default().groups.entry(row.group).or_insert_with(|| GroupState {
                kind: row.kind,
                rows: VecDeque::new(),
                roll_ups: BTreeMap::new(),
            });
        group.kind = row.kind;
        for &place in leading(row.kind, row.vector.values.len()) {
            if let Some(value) = row.vector.get(place) {
                group.roll_ups.entry(place).or_default().add(t, value);
            }
        }
        insert(&mut group.rows, (t, row.clone()), MAX_ROWS, |(t, _)| *t);
    }

    pub(crate) fn score(&mut self, point: &Name, t: Micros, score: &Score) {
        if score.role == Role::Leader && score.threshold > 0.0 {
            self.health.add(t, score.anomaly / score.threshold);
        }
        let point = self.points.entry(point.clone()).or_default();
        if score.role == Role::Leader {
            point.outlooks.take(t, score);
        }
        insert(&mut point.scores, ScorePoint { t, score: score.clone() }, MAX_SCORES, |point| point.t);
    }

    pub(crate) fn spectrum(&mut self, point: &Name, t: Micros, spectrum: &Spectrum) {
        let spectra = &mut self.points.entry(point.clone()).or_default().spectra;
        let key = (spectrum.group, spectrum.envelope);
        if spectra.get(&key).is_none_or(|(known, _)| *known <= t) {
            spectra.insert(key, (t, spectrum.clone()));
        }
    }

    /// Something was done to it: what its scores were before says nothing of what they will be.
    pub(crate) fn maintained(&mut self) {
        self.points.values_mut().for_each(|point| point.outlooks.restart());
    }

    pub(crate) fn refused(&mut self, model: Digest, reason: &Name) {
        self.refused.retain(|(known, _)| *known != model);
        self.refused.push((model, reason.clone()));
        if self.refused.len() > MAX_REFUSED {
            self.refused.remove(0);
        }
    }

    pub(crate) fn reported(&mut self, report: &Report) {
        self.asset_class = Some(report.asset_class.clone());
        self.models = report
            .models
            .iter()
            .map(|model| ModelState {
                digest: model.digest,
                role: model.role,
                generation: model.generation.0,
                expired: model.expired,
                cost_us: model.cost_us,
            })
            .collect();
        self.report = Some(report.clone());
    }

    /// The latest score that decides, over all points, by how far it is above its threshold.
    pub fn leading_score(&self) -> Option<&ScorePoint> {
        self.points
            .values()
            .filter_map(|point| point.scores.iter().rev().find(|point| point.score.role == Role::Leader))
            .max_by(|a, b| ratio(&a.score).total_cmp(&ratio(&b.score)))
    }

    /// The remaining useful life, where a model gives one: the leading one, else the shadow's, the least over all points.
    pub fn rul(&self) -> Option<Rul> {
        let newest =
            |point: &PointState| point.scores.iter().rev().find(|point| point.score.role == Role::Shadow)?.score.rul;
        let beside = || self.points.values().filter_map(newest).min_by(|a, b| a.hours.0.total_cmp(&b.hours.0));
        self.leading_score().and_then(|point| point.score.rul).or_else(beside)
    }

    /// The kernel of the leading score.
    pub fn kernel(&self) -> Option<KernelId> {
        self.leading_score().map(|point| point.score.kernel)
    }
}

pub(crate) fn ratio(score: &Score) -> f32 {
    if score.threshold > 0.0 { score.anomaly / score.threshold } else { 0.0 }
}

/// The places of a vector whose week is kept.
fn leading(kind: GroupKind, len: usize) -> &'static [usize] {
    match kind {
        GroupKind::Vibration => {
            &[at::RMS, at::KURTOSIS, at::VELOCITY_RMS, at::ENVELOPE_RMS, at::BPFO_SNR, at::BPFI_SNR]
        }
        GroupKind::Temperature | GroupKind::Reading | GroupKind::Cycle => &FIRST[..len.min(FIRST.len())],
    }
}

/// Of readings and cycles: the first values.
const FIRST: [usize; 6] = [0, 1, 2, 3, 4, 5];

/// The most refused models that are remembered.
const MAX_REFUSED: usize = 16;

/// The most rows of a group that are kept whole.
pub(crate) const MAX_ROWS: usize = 360;

/// The most scores of a point that are kept.
pub(crate) const MAX_SCORES: usize = 720;
