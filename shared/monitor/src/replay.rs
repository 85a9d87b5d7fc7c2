//! Recorded rows scored and judged again, by the code that does it on the machine: what a back-test is made of.
//!
//! A [`Replay`] is one model over one stream of feature rows. It says of each score whether the model's memory was that of the
//! device: so it is from the moment of the switch to the model ([`Replay::begin`]), and again after every break that the row itself
//! tells of and that the artifact's reset rule answers with a new sequence. Rows that are missing may have been seen by the
//! device; after them the memory is unknown until such a break, or until a whole sequence has come of a model that remembers no more
//! than that. A [`Watch`] is the decision's hysteresis over any number against a threshold.

use kilter_infer::{Family, Interruption, Layout, Mode, Scratch, State};
use kilter_signal::table::Schema;
use kilter_types::{Digest, FeatureRow, Generation, GroupKind, Micros, OperatingState, Role, RowRef, Score};

use crate::{
    InstallError, Patience,
    hysteresis::{Hysteresis, Sign},
    model::{Installed, Row, Sequence, places},
    regime::Regime,
};

/// One model on one stream of rows. `S` values of memory, as [`crate::Monitor`] has.
#[derive(Debug)]
pub struct Replay<B, const S: usize = 1024> {
    model: Installed<B>,
    sequence: Sequence<S>,
    scratch: Scratch,
    exact: bool,
    /// Rows taken since rows were missing, up to the sequence length.
    since: usize,
    next: Option<u64>,
    bin: Option<u8>,
}

/// A score, and whether its device's memory is known to have been the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// The score; `seq` of its input is 0, its role that of a leader.
    pub score: Score,
    /// The device must have said the same, bit for bit.
    pub exact: bool,
}

impl<B: AsRef<[u8]>, const S: usize> Replay<B, S> {
    /// Takes a model for rows of this schema, with the checks that a machine makes before it installs one.
    pub fn new(bytes: B, schema: &Schema) -> Result<Self, InstallError> {
        let layout = Layout::parse(bytes.as_ref())?;
        let artifact = layout.bind(bytes.as_ref()).ok_or(InstallError::Features)?;
        let places = places(&artifact, schema).ok_or(InstallError::Features)?;
        let needed = artifact.state_floats();
        if needed > S {
            return Err(InstallError::Memory { needed, kept: S });
        }
        let mut scratch = Scratch::new();
        artifact.certify(&mut State::<S>::new(), &mut scratch)?;
        let digest = Digest::of(bytes.as_ref());
        let mut sequence = Sequence::default();
        sequence.switch(Some(places));
        let model = Installed { bytes, layout, digest, generation: Generation(0), own: false };
        Ok(Self { model, sequence, scratch, exact: false, since: 0, next: None, bin: None })
    }

    /// The model's digest.
    pub fn digest(&self) -> Digest {
        self.model.digest
    }

    /// The groups that the model is for.
    pub fn group(&self) -> Option<GroupKind> {
        self.model.artifact().map(|artifact| artifact.group())
    }

    /// Is the memory known to be that of the device?
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// The device switched to the model before the next row: its memory is empty, there as here.
    pub fn begin(&mut self) {
        let places = core::mem::take(&mut self.sequence.places);
        self.sequence.switch(Some(places));
        (self.exact, self.since, self.next, self.bin) = (true, 0, None, None);
    }

    /// The next row of the stream; a score where the device would have given one.
    pub fn push(&mut self, row: &FeatureRow) -> Option<Replayed> {
        let artifact = self.model.artifact()?;
        let steady = match row.state {
            OperatingState::Steady(bin) => Some(bin),
            OperatingState::Unknown | OperatingState::Off | OperatingState::Transient => None,
        };
        let regime = Regime { state: row.state, rpm: Some(row.rpm).filter(|rpm| rpm.0 > 0.0), load: None };
        let seen = Row::of(row, regime);
        let missing = self.next.is_some_and(|next| next != row.index);
        let turned = steady.is_none() || !missing && self.bin.is_some() && self.bin != steady;
        let resets = |interruption| artifact.reset_rule().resets(interruption);
        if missing {
            (self.exact, self.since) = (false, 0);
        }
        let told = resets(Interruption::Regime) && turned
            || resets(Interruption::Gap) && steady.is_some() && (seen.broken || !seen.usable);
        self.exact |= told;
        self.next = Some(row.index + 1);
        self.bin = steady.or(self.bin);
        let word = self.sequence.push(&seen, &artifact, &mut self.scratch);
        if steady.is_some() && seen.usable {
            self.since = (self.since + 1).min(artifact.sequence_len());
        }
        let remembers = match (artifact.family(), artifact.mode()) {
            (Family::LstmAutoencoder, _) | (Family::LstmForecaster, Mode::Sequence) => Some(artifact.sequence_len()),
            (Family::Statistic | Family::Quadratic | Family::RulHead | Family::LstmForecaster, _) => None,
        };
        self.exact |= remembers.is_some_and(|rows| self.since >= rows);
        let word = word?;
        let score = Score {
            input: RowRef { group: row.group, index: row.index, seq: 0 },
            anomaly: word.anomaly,
            threshold: word.threshold,
            rul: word.rul,
            model: self.model.digest,
            kernel: word.kernel,
            role: Role::Leader,
            contributions: word.ranking.contributions,
            rest: word.ranking.rest,
        };
        Some(Replayed { score, exact: self.exact })
    }
}

/// The decision's patience with one number against its threshold (A1).
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    hysteresis: Hysteresis,
    patience: Patience,
}

impl Watch {
    /// Nothing seen yet.
    pub fn new(patience: Patience) -> Self {
        Self { hysteresis: Hysteresis::default(), patience }
    }

    /// One window more, which began at `start`; does an alarm stand?
    pub fn step(&mut self, value: f32, threshold: f32, start: Micros) -> bool {
        let sign = Sign::score(value, threshold, self.patience.clear_ratio);
        self.hysteresis.step(sign, start, &self.patience);
        self.hysteresis.active().is_some()
    }
}
