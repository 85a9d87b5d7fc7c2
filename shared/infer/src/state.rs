//! What a model remembers between rows.

use crate::{Artifact, Family, Interruption, Mode, RowError, Scratch, score::Scored};

/// The memory of one sequence: the last rows for a network in sequence mode, its hidden state in streaming mode, running means
/// for the others.
///
/// `FLOATS` is what the owner affords; [`Artifact::state_floats`] says what a model needs. A state belongs to the artifact
/// that it was pushed with: whoever switches models calls [`State::interrupt`] with [`Interruption::Switch`].
#[derive(Clone, Debug)]
pub struct State<const FLOATS: usize> {
    pub(crate) values: [f32; FLOATS],
    /// Rows since the reset, counted up to the sequence length.
    pub(crate) rows: u8,
    /// Where the next row goes in the ring.
    pub(crate) next: u8,
    /// Rows since the reset; kept for a RUL head only.
    pub(crate) age: u32,
}

impl<const FLOATS: usize> Default for State<FLOATS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const FLOATS: usize> State<FLOATS> {
    /// An empty sequence.
    pub const fn new() -> Self {
        Self { values: [0.0; FLOATS], rows: 0, next: 0, age: 0 }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// Something broke the sequence: starts anew if the artifact's rule says so.
    pub fn interrupt(&mut self, interruption: Interruption, artifact: &Artifact<'_>) {
        if artifact.reset_rule().resets(interruption) {
            self.reset();
        }
    }

    /// Rows since the reset, up to the sequence length.
    pub fn rows(&self) -> usize {
        usize::from(self.rows)
    }

    /// Writes the state; how many bytes, or nothing when `out` is too small.
    pub fn save(&self, artifact: &Artifact<'_>, out: &mut [u8]) -> Option<usize> {
        let floats = artifact.state_floats();
        let values = self.values.get(..floats)?;
        let out = out.get_mut(..artifact.state_bytes())?;
        out[..2].copy_from_slice(&[self.rows, self.next]);
        for (bytes, value) in out[2..].chunks_exact_mut(4).zip(values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        if let Some(age) = out.get_mut(2 + 4 * floats..2 + 4 * floats + 4) {
            age.copy_from_slice(&self.age.to_le_bytes());
        }
        Some(out.len())
    }

    /// Reads a state that was saved with the same artifact, and how many bytes it took; nothing when the bytes can't be one.
    pub fn load(artifact: &Artifact<'_>, bytes: &[u8]) -> Option<(Self, usize)> {
        let floats = artifact.state_floats();
        let bytes = bytes.get(..artifact.state_bytes())?;
        let mut state = Self::new();
        let values = state.values.get_mut(..floats)?;
        for (value, bytes) in values.iter_mut().zip(bytes[2..].chunks_exact(4)) {
            *value = f32::from_le_bytes(bytes.try_into().expect("chunks have four bytes"));
        }
        let bound = artifact.state_bound();
        let good = values.iter().all(|value| value.abs() <= bound);
        (state.rows, state.next) = (bytes[0], bytes[1]);
        if let Some(age) = bytes.get(2 + 4 * floats..).and_then(|age| age.first_chunk()) {
            state.age = u32::from_le_bytes(*age);
        }
        let length = artifact.sequence_len();
        let counts = state.rows() <= length && usize::from(state.next) < length;
        (good && counts).then_some((state, bytes.len()))
    }
}

impl Artifact<'_> {
    /// Takes the next row of the sequence; a score once [`Artifact::sequence_len`] rows came since the last reset.
    ///
    /// A row that is refused leaves the state as it was.
    pub fn push<'s, const FLOATS: usize>(
        &self,
        row: &[f32],
        state: &mut State<FLOATS>,
        scratch: &'s mut Scratch,
    ) -> Result<Option<Scored<'s>>, RowError> {
        self.admit(row, FLOATS)?;
        scratch.rul = None;
        match (self.family(), self.mode()) {
            (Family::Statistic | Family::Quadratic, _) => self.smooth(row, &mut state.values),
            (Family::LstmForecaster, Mode::Streaming) => {
                for (i, value) in row.iter().enumerate() {
                    scratch.row[i] = self.normalise(i, *value);
                }
                self.stream(&mut state.values, scratch);
            }
            (Family::LstmAutoencoder | Family::LstmForecaster, _) => {
                let start = usize::from(state.next) * row.len();
                for (i, (slot, value)) in state.values[start..].iter_mut().zip(row).enumerate() {
                    *slot = self.normalise(i, *value);
                }
                state.next = ((usize::from(state.next) + 1) % self.sequence_len()) as u8;
            }
            (Family::RulHead, _) => {
                state.age = state.age.saturating_add(1);
                self.accumulate(row, state.age, &mut state.values);
            }
        }
        state.rows = (state.rows() + 1).min(self.sequence_len()) as u8;
        if state.rows() < self.sequence_len() {
            return Ok(None);
        }
        let oldest = usize::from(state.next);
        Ok(Some(match (self.family(), self.mode()) {
            (Family::Statistic, _) => self.score_mean(&state.values[..row.len()], scratch),
            (Family::Quadratic, _) => self.score_square(&state.values[..row.len()], scratch),
            (Family::LstmForecaster, Mode::Streaming) => self.score_stream(&state.values, scratch),
            (Family::LstmForecaster, Mode::Sequence) => self.score_forecast(&state.values, oldest, scratch),
            (Family::LstmAutoencoder, _) => self.score_sequence(&state.values, oldest, scratch),
            (Family::RulHead, _) => self.score_life(&state.values, state.age, scratch),
        }))
    }

    /// No value of a state that this artifact made is further from 0.
    fn state_bound(&self) -> f32 {
        let layout = self.layout();
        match (self.family(), self.mode()) {
            (Family::RulHead, _) => layout.input_clip,
            // A cell's state grows by at most 1 a step, until 1 is less than half its last digit.
            (Family::LstmForecaster, Mode::Streaming) => (2.0 * layout.residual_clip).max(16_777_216.0),
            (Family::Statistic | Family::Quadratic | Family::LstmAutoencoder | Family::LstmForecaster, _) => {
                layout.residual_clip
            }
        }
    }

    fn admit(&self, row: &[f32], floats: usize) -> Result<(), RowError> {
        if row.len() != self.inputs() {
            return Err(RowError::Length { expected: self.inputs(), found: row.len() });
        }
        if floats < self.state_floats() {
            return Err(RowError::State { needed: self.state_floats(), found: floats });
        }
        match row.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(RowError::NonFinite(index)),
            None => Ok(()),
        }
    }
}
