//! The parity certificate: golden windows with the kernel's own bits, run again wherever a model is loaded (P3).

use crate::{
    Artifact, CertifyError, RowError, Scratch, State,
    layout::{f32_at, u32_at},
    score::Scored,
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
            let scored = self.run_golden(window, state, scratch)?;
            if u32_at(expected, 0) != scored.anomaly.to_bits() {
                return Err(CertifyError::Anomaly(window));
            }
            let differs = |(i, part): (usize, &f32)| u32_at(expected, 4 + 4 * i) != part.to_bits();
            if let Some(feature) = scored.contributions.iter().enumerate().position(differs) {
                return Err(CertifyError::Contribution { window, feature });
            }
            if let Some(rul) = scored.rul {
                let start = 4 * (1 + self.inputs());
                let found = [rul.value, rul.low, rul.high];
                if found.iter().enumerate().any(|(i, value)| u32_at(expected, start + 4 * i) != value.to_bits()) {
                    return Err(CertifyError::Estimate(window));
                }
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
    ) -> Result<Scored<'s>, RowError> {
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
        Ok(scratch.scored(self.inputs()))
    }

    /// The bits that golden window `i` must give: anomaly, then contributions, then an estimate.
    fn golden_bits(&self, window: usize) -> &[u8] {
        &self.golden(window)[4 * self.sequence_len() * self.inputs()..]
    }
}
