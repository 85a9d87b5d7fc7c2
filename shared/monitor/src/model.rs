//! Models on a machine: one leads, one may watch; each switch lies between two windows, so a score names exactly one model.
//!
//! An artifact is parsed, its features are looked up by number and definition hash (M1), and its golden windows must come out bit
//! for bit before it replaces another (P3). A leader speaks only in regimes that it knows: those its training saw, and of
//! these not the ones whose commissioning windows, taken for healthy on this machine, it called unusual.

use core::fmt;

use kilter_infer::{Artifact, ArtifactError, CertifyError, Interruption, Layout, Ranking, Scratch, State};
use kilter_signal::table::Schema;
use kilter_types::{
    Digest, FeatureRow, Generation, GroupKind, Hours, KernelId, MAX_FEATURES, OperatingState, Quality, Rul,
};
use serde::{Deserialize, Serialize};

use crate::{
    decision::UNUSABLE,
    regime::Regime,
    snapshot::{Reader, RestoreError, Writer},
};

/// Why a model was not installed; the one before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallError {
    /// The bytes are no artifact.
    Artifact(ArtifactError),
    /// No group of this machine has every feature it asks for, by number and definition (M1).
    Features,
    /// Its sequence needs more memory than this build keeps.
    Memory {
        /// Values needed.
        needed: usize,
        /// Values kept.
        kept: usize,
    },
    /// Its golden windows come out otherwise here (P3).
    Certify(CertifyError),
}

impl InstallError {
    /// A word for [`kilter_types::Event::ModelRefused`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Artifact(_) => "malformed",
            Self::Features => "missing_feature",
            Self::Memory { .. } => "too_large",
            Self::Certify(_) => "not_reproducible",
        }
    }
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Artifact(error) => write!(f, "install the model: {error}"),
            Self::Features => f.write_str("install the model: a feature it asks for is missing or defined otherwise"),
            Self::Memory { needed, kept } => write!(f, "install the model: fit {needed} values of state into {kept}"),
            Self::Certify(error) => write!(f, "install the model: {error}"),
        }
    }
}

impl core::error::Error for InstallError {}

impl From<ArtifactError> for InstallError {
    fn from(error: ArtifactError) -> Self {
        Self::Artifact(error)
    }
}

impl From<CertifyError> for InstallError {
    fn from(error: CertifyError) -> Self {
        Self::Certify(error)
    }
}

/// An installed artifact.
#[derive(Debug)]
pub(crate) struct Installed<B> {
    pub(crate) bytes: B,
    pub(crate) layout: Layout,
    pub(crate) digest: Digest,
    pub(crate) generation: Generation,
    /// It was made for this very machine.
    pub(crate) own: bool,
}

impl<B: AsRef<[u8]>> Installed<B> {
    pub(crate) fn artifact(&self) -> Option<Artifact<'_>> {
        self.layout.bind(self.bytes.as_ref())
    }
}

/// Where a model's features stand in a group's vector; `None` where one is missing.
pub(crate) fn places(artifact: &Artifact<'_>, schema: &Schema) -> Option<heapless::Vec<u8, MAX_FEATURES>> {
    artifact.features().map(|feature| schema.position(feature).map(|place| place as u8)).collect()
}

/// One model's memory of one group.
#[derive(Debug, Default)]
pub(crate) struct Sequence<const S: usize> {
    state: State<S>,
    /// Empty: the model does not serve this group.
    pub(crate) places: heapless::Vec<u8, MAX_FEATURES>,
    pub(crate) fit: Fit,
}

/// How a model fits this machine's regimes, and how its input drifts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fit {
    bin: Option<u8>,
    next: u64,
    /// Regimes that it did not know while they were commissioned.
    unfit: heapless::Vec<u8, 16>,
    /// Of the regime being commissioned: windows scored, and called unusual.
    scored: u16,
    unusual: u16,
    /// Steady windows outside of what it was trained on, newest in bit 0, and how many are known.
    outside: u32,
    known: u8,
    drifting: bool,
    promise: Promise,
}

/// What a head that tells the remaining life has promised: "at least until".
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Promise {
    /// The latest such end, as the mean over [`DRIFT_WINDOWS`] windows in a row; hours on the machine's own axis.
    until_h: Option<f64>,
    sum_h: f64,
    count: u8,
}

/// One window as a model sees it.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) index: u64,
    pub(crate) regime: Regime,
    pub(crate) values: &'a [f32],
    pub(crate) valid: u64,
    /// A gap lies before it, or the sensor is faulty in it.
    pub(crate) broken: bool,
    pub(crate) usable: bool,
}

impl<'a> Row<'a> {
    pub(crate) fn of(row: &'a FeatureRow, regime: Regime) -> Self {
        Self {
            index: row.index,
            regime,
            values: &row.vector.values,
            valid: row.vector.valid,
            broken: row.quality.intersects(Quality::GAP),
            usable: is_usable(row),
        }
    }
}

/// Values that speak of the machine.
pub(crate) fn is_usable(row: &FeatureRow) -> bool {
    row.vector.valid != 0 && !row.quality.intersects(UNUSABLE)
}

/// A model's word on one window.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    pub(crate) anomaly: f32,
    pub(crate) threshold: f32,
    pub(crate) kernel: KernelId,
    pub(crate) ranking: Ranking,
    /// The remaining life, where the model tells one; for a machine that counts cycles, an hour stands for a cycle.
    pub(crate) rul: Option<Rul>,
    /// It was trained on this regime and fits this machine in it.
    pub(crate) knows: bool,
    /// Share of its features outside their training range.
    pub(crate) outside: f32,
}

impl<const S: usize> Sequence<S> {
    /// Another model takes over, or none.
    pub(crate) fn switch(&mut self, places: Option<heapless::Vec<u8, MAX_FEATURES>>) {
        self.state.reset();
        self.places = places.unwrap_or_default();
        self.fit = Fit::default();
    }

    pub(crate) fn push(&mut self, row: &Row<'_>, artifact: &Artifact<'_>, scratch: &mut Scratch) -> Option<Word> {
        if self.places.is_empty() {
            return None;
        }
        let steady = match row.regime.state {
            OperatingState::Steady(bin) => Some(bin),
            OperatingState::Unknown | OperatingState::Off | OperatingState::Transient => None,
        };
        if steady.is_none() || self.fit.bin.is_some() && self.fit.bin != steady {
            self.state.interrupt(Interruption::Regime, artifact);
        }
        let follows = self.fit.next == row.index;
        self.fit.next = row.index + 1;
        self.fit.bin = steady.or(self.fit.bin);
        let bin = steady?;
        let gathered = self.gather(row);
        if row.broken || !row.usable || !follows || gathered.is_none() {
            self.state.interrupt(Interruption::Gap, artifact);
        }
        let inputs = gathered.filter(|_| row.usable)?;
        let outside = artifact.outside(&inputs) as f32 / inputs.len() as f32;
        // The features were counted and are finite; the state was measured when the model was installed.
        let scored = artifact.push(&inputs, &mut self.state, scratch).ok()??;
        let trained = artifact.regimes().len() == 0
            || row.regime.rpm.is_none_or(|rpm| artifact.regime(rpm.0, row.regime.load).is_some());
        Some(Word {
            anomaly: scored.anomaly,
            threshold: artifact.threshold(),
            kernel: artifact.kernel(),
            ranking: artifact.rank(&scored),
            rul: scored.rul.map(|life| Rul { hours: Hours(life.value), low: Hours(life.low), high: Hours(life.high) }),
            knows: trained && !self.fit.unfit.contains(&bin),
            outside,
        })
    }

    fn gather(&self, row: &Row<'_>) -> Option<heapless::Vec<f32, MAX_FEATURES>> {
        let value = |place: &u8| {
            let place = usize::from(*place);
            let valid = place < MAX_FEATURES && row.valid >> place & 1 == 1;
            row.values.get(place).copied().filter(|_| valid)
        };
        self.places.iter().map(value).collect()
    }

    pub(crate) fn save(&self, installed: Option<(&Digest, Artifact<'_>)>, out: &mut Writer<'_>) {
        out.value(&installed.as_ref().map(|(digest, _)| **digest));
        if let Some((_, artifact)) = installed {
            out.value(&self.fit);
            out.sized(artifact.state_bytes(), |room| self.state.save(&artifact, room).is_some());
        }
    }

    /// Takes up the sequence where it was, if the same model is installed again.
    pub(crate) fn load(
        &mut self,
        installed: Option<(&Digest, Artifact<'_>)>,
        sizes: &mut Reader<'_>,
    ) -> Result<(), RestoreError> {
        let saved: Option<Digest> = sizes.value()?;
        if saved.is_none() {
            return Ok(());
        }
        let fit = sizes.value()?;
        let bytes = sizes.sized()?;
        if let Some((digest, artifact)) = installed
            && Some(*digest) == saved
        {
            let (state, used) = State::load(&artifact, bytes).ok_or(RestoreError::Damaged)?;
            if used != bytes.len() {
                return Err(RestoreError::Damaged);
            }
            (self.state, self.fit) = (state, fit);
        }
        Ok(())
    }
}

impl Fit {
    /// While a regime is commissioned: does the model call its healthy windows unusual?
    pub(crate) fn watch_commissioning(&mut self, word: &Word) {
        self.scored = self.scored.saturating_add(1);
        self.unusual = self.unusual.saturating_add(u16::from(word.anomaly > word.threshold));
    }

    /// The regime is learned: a model that misjudged it does not speak there.
    pub(crate) fn commissioned(&mut self, bin: u8) {
        if self.scored > 0 && f32::from(self.unusual) > MISJUDGED * f32::from(self.scored) && !self.unfit.contains(&bin)
        {
            if self.unfit.is_full() {
                self.unfit.remove(0);
            }
            // There is room now.
            let _ = self.unfit.push(bin);
        }
        (self.scored, self.unusual) = (0, 0);
    }

    /// Does the machine end sooner by this word than an earlier one promised? Both ends are of the head's own interval, so a head that
    /// fits the machine seldom says so; one that knew machines which wear slower takes back what it said, window after window.
    pub(crate) fn breaks_promise(&mut self, now_h: f64, rul: Rul) -> bool {
        let promise = &mut self.promise;
        let broken = promise.until_h.is_some_and(|until_h| now_h + f64::from(rul.high.0) < until_h);
        promise.sum_h += now_h + f64::from(rul.low.0);
        promise.count += 1;
        if u32::from(promise.count) == DRIFT_WINDOWS {
            let mean_h = promise.sum_h / f64::from(DRIFT_WINDOWS);
            let until_h = promise.until_h.map_or(mean_h, |until_h| until_h.max(mean_h));
            *promise = Promise { until_h: Some(until_h), ..Promise::default() };
        }
        broken
    }

    /// One steady window more; the share outside when an episode of drift begins.
    pub(crate) fn drift(&mut self, outside: bool) -> Option<f32> {
        self.outside = (self.outside << 1 | u32::from(outside)) & (u32::MAX >> (32 - DRIFT_WINDOWS));
        self.known = (self.known + 1).min(DRIFT_WINDOWS as u8);
        let share = self.outside.count_ones() as f32 / DRIFT_WINDOWS as f32;
        let begins = !self.drifting && share > DRIFT_BEGINS;
        self.drifting = begins || self.drifting && share > DRIFT_ENDS;
        begins.then_some(share)
    }
}

/// Where a window lies on the axis that a remaining life is counted on: time, or cycles, of which each stands for an hour.
pub(crate) fn hours_of(row: &FeatureRow) -> f64 {
    if row.kind == GroupKind::Cycle { row.index as f64 } else { row.end.as_secs_f64() / 3_600.0 }
}

/// A model that calls more than this share of a regime's commissioning windows unusual does not know it.
const MISJUDGED: f32 = 0.2;
/// Windows over which drift is judged.
const DRIFT_WINDOWS: u32 = 20;
const DRIFT_BEGINS: f32 = 0.5;
const DRIFT_ENDS: f32 = 0.25;
/// From this share of a model's features outside their training range on, a window counts as outside.
pub(crate) const OUTSIDE_SHARE: f32 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;

    /// In how many windows of a life of 200 hours is a promise broken by a head that sees `stretch` times what is left, off by up to
    /// eight hours, with an interval of ten?
    fn broken(stretch: f32) -> usize {
        let mut fit = Fit::default();
        let says = |hour: u16| {
            let hours = (stretch * f32::from(200 - hour) + 8.0 * libm::sinf(f32::from(hour))).min(125.0);
            Rul { hours: Hours(hours), low: Hours((hours - 10.0).max(0.0)), high: Hours(hours + 10.0) }
        };
        (0..200).filter(|hour| fit.breaks_promise(f64::from(*hour), says(*hour))).count()
    }

    #[test]
    fn a_head_that_takes_back_what_it_promised_is_noticed_and_one_that_fits_is_not() {
        assert_eq!(broken(1.0), 0);
        assert!(broken(1.5) > DRIFT_WINDOWS as usize, "{}", broken(1.5));
        // Machines that wear slower than those it knew: it promised too little, and breaks nothing.
        assert_eq!(broken(0.7), 0);
    }
}
