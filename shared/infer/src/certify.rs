//! The parity certificate: golden windows with the kernel's own bits, run again wherever a model is loaded (P3).

use crate::{
    Artifact, CertifyError, RowError, Scratch, State,
    layout::{f32_at, u32_at},
};

impl Artifact<'_> {
    /// Runs the golden windows and compares every bit; the state is empty afterwards.
    pub fn certify<const FLOATS: usize>(
        &self,
        state: &mut State<FLOATS>,
        scratch: &mut Scratch,
    ) -> Result<(), CertifyError> {
        for window in 0..self.layout().golden {
            let expected = self.golden_bits(window);
            let (anomaly, contributions) = self.run_golden(window, state, scratch)?;
            if u32_at(expected, 0) != anomaly.to_bits() {
                return Err(CertifyError::Anomaly(window));
            }
            let differs = |(i, part): (usize, &f32)| u32_at(expected, 4 + 4 * i) != part.to_bits();
            if let Some(feature) = contributions.iter().enumerate().position(differs) {
                return Err(CertifyError::Contribution { window, feature });
            }
        }
        Ok(())
    }

    /// Scores golden window `i` from an empty state, and empties the state again.
    pub(crate) fn run_golden<'s, const FLOATS: usize>(
        &self,
        window: usize,
        state: &mut State<FLOATS>,
        scratch: &'s mut Scratch,
    ) -> Result<(f32, &'s [f32]), RowError> {
        let rows = self.golden(window);
        let mut row = [0.0f32; crate::MAX_INPUTS];
        let row = &mut row[..self.inputs()];
        state.reset();
        for step in 0..self.sequence_len() {
            for (i, value) in row.iter_mut().enumerate() {
                *value = f32_at(rows, 4 * (step * self.inputs() + i));
            }
            self.push(row, state, scratch)?;
        }
        state.reset();
        // The last push filled the sequence, so its score is in the scratch.
        let scored = scratch.scored(self.inputs());
        Ok((scored.anomaly, scored.contributions))
    }

    /// The bits that golden window `i` must give: anomaly, then contributions.
    fn golden_bits(&self, window: usize) -> &[u8] {
        &self.golden(window)[4 * self.sequence_len() * self.inputs()..]
    }
}
