//! What a model remembers between rows.

use crate::{Artifact, Family, Interruption, RowError, Scratch, score::Scored};

/// The memory of one sequence: the last rows for an autoencoder, the running mean for a statistic.
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
}

impl<const FLOATS: usize> Default for State<FLOATS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const FLOATS: usize> State<FLOATS> {
    /// An empty sequence.
    pub const fn new() -> Self {
        Self { values: [0.0; FLOATS], rows: 0, next: 0 }
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
        let out = out.get_mut(..2 + 4 * floats)?;
        out[..2].copy_from_slice(&[self.rows, self.next]);
        for (bytes, value) in out[2..].chunks_exact_mut(4).zip(values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        Some(out.len())
    }

    /// Reads a state that was saved with the same artifact, and how many bytes it took; nothing when the bytes can't be one.
    pub fn load(artifact: &Artifact<'_>, bytes: &[u8]) -> Option<(Self, usize)> {
        let floats = artifact.state_floats();
        let bytes = bytes.get(..2 + 4 * floats)?;
        let mut state = Self::new();
        let values = state.values.get_mut(..floats)?;
        for (value, bytes) in values.iter_mut().zip(bytes[2..].chunks_exact(4)) {
            *value = f32::from_le_bytes(bytes.try_into().expect("chunks have four bytes"));
        }
        let clip = artifact.layout().residual_clip;
        let good = values.iter().all(|value| value.abs() <= clip);
        (state.rows, state.next) = (bytes[0], bytes[1]);
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
        match self.family() {
            Family::Statistic => self.smooth(row, &mut state.values),
            Family::LstmAutoencoder => {
                let start = usize::from(state.next) * row.len();
                for (i, (slot, value)) in state.values[start..].iter_mut().zip(row).enumerate() {
                    *slot = self.normalise(i, *value);
                }
                state.next = ((usize::from(state.next) + 1) % self.sequence_len()) as u8;
            }
        }
        state.rows = (state.rows() + 1).min(self.sequence_len()) as u8;
        if state.rows() < self.sequence_len() {
            return Ok(None);
        }
        Ok(Some(match self.family() {
            Family::Statistic => self.score_mean(&state.values[..row.len()], scratch),
            Family::LstmAutoencoder => self.score_sequence(&state.values, usize::from(state.next), scratch),
        }))
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
