//! The LSTM forecaster: each row against what the rows before it announced.
//!
//! Before the first row the healthy mean is announced. The residual's exponentially weighted mean (weight 1: the residual
//! itself) makes the anomaly. In streaming mode hidden state, cell, announcement and mean are carried and a row costs one
//! step; in sequence mode the last rows run from a zero state. Both run the same steps: after as many rows as a sequence has
//! they agree in every bit, and so does a state that was saved and taken up again.

use crate::{
    Artifact, Family, Mode, Scratch, State, autoencoder::ring_row, kernel::within, matrix::Matrix, score::Scored, simd,
};

/// What a forecaster carries from row to row.
struct Carried<'c> {
    hidden: &'c mut [f32],
    cell: &'c mut [f32],
    announced: &'c mut [f32],
    mean: &'c mut [f32],
}

impl<'c> Carried<'c> {
    fn of(values: &'c mut [f32], hidden: usize, inputs: usize) -> Self {
        let (h, rest) = values.split_at_mut(hidden);
        let (cell, rest) = rest.split_at_mut(hidden);
        let (announced, rest) = rest.split_at_mut(inputs);
        Self { hidden: h, cell, announced, mean: &mut rest[..inputs] }
    }
}

impl Artifact<'_> {
    /// One step with the normalised row in the scratch.
    pub(crate) fn stream(&self, values: &mut [f32], scratch: &mut Scratch) {
        let network = self.network();
        let carried = Carried::of(values, self.hidden(), self.inputs());
        self.compare(&scratch.row, carried.announced, carried.mean);
        self.step(&network.0, carried.hidden, carried.cell, scratch);
        self.announce(&network.1, carried.hidden, carried.announced, scratch);
    }

    pub(crate) fn score_stream<'s>(&self, values: &[f32], scratch: &'s mut Scratch) -> Scored<'s> {
        let mean = &values[2 * self.hidden() + self.inputs()..];
        self.score_residual(|i| mean[i], scratch)
    }

    /// The ring of normalised rows whose oldest is number `oldest`, from a zero state.
    pub(crate) fn score_forecast<'s>(&self, ring: &[f32], oldest: usize, scratch: &'s mut Scratch) -> Scored<'s> {
        let n = self.inputs();
        self.run_sequence(ring, oldest, End::Compared, scratch);
        let means = scratch.forecast;
        self.score_residual(|i| means[n + i], scratch)
    }

    /// What the forecaster announces for the row after the newest one, normalised.
    ///
    /// Nothing for another family, while no score is due, or when `out` has not one place per input. Export compares this with
    /// the trainer's own output (P3).
    pub fn forecast<const FLOATS: usize>(
        &self,
        state: &State<FLOATS>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Option<()> {
        let n = self.inputs();
        let full = state.rows() == self.sequence_len() && self.state_floats() <= FLOATS;
        if self.family() != Family::LstmForecaster || !full || out.len() != n {
            return None;
        }
        match self.mode() {
            Mode::Streaming => out.copy_from_slice(&state.values[2 * self.hidden()..][..n]),
            Mode::Sequence => {
                self.run_sequence(&state.values, usize::from(state.next), End::Announced, scratch);
                out.copy_from_slice(&scratch.forecast[..n]);
            }
        }
        Some(())
    }

    /// Leaves what is announced and the mean residual in `scratch.forecast`.
    fn run_sequence(&self, ring: &[f32], oldest: usize, end: End, scratch: &mut Scratch) {
        let (n, length) = (self.inputs(), self.sequence_len());
        let network = self.network();
        let (mut hidden, mut cell, mut forecast) = (scratch.hidden, scratch.cell, scratch.forecast);
        let (hidden, cell) = (&mut hidden[..self.hidden()], &mut cell[..self.hidden()]);
        let (announced, rest) = forecast.split_at_mut(n);
        let mean = &mut rest[..n];
        for carried in [&mut *hidden, &mut *cell, &mut *announced, &mut *mean] {
            carried.fill(0.0);
        }
        // With weight 1 only the newest residual counts, so only what is announced for it does.
        let every = self.layout().ewma < 1.0;
        for age in 0..length {
            let newest = age + 1 == length;
            scratch.row[..n].copy_from_slice(ring_row(ring, oldest + age, length, n));
            self.compare(&scratch.row, announced, mean);
            if newest && end == End::Compared {
                break;
            }
            self.step(&network.0, hidden, cell, scratch);
            if every || age + 2 >= length {
                self.announce(&network.1, hidden, announced, scratch);
            }
        }
        scratch.forecast = forecast;
    }

    fn network(&self) -> (Matrix<'_>, Matrix<'_>) {
        let mut matrices = self.matrices();
        (Artifact::take(&mut matrices), Artifact::take(&mut matrices))
    }

    fn compare(&self, row: &[f32], announced: &[f32], mean: &mut [f32]) {
        let ewma = self.layout().ewma;
        for ((mean, value), announced) in mean.iter_mut().zip(row).zip(announced) {
            let residual = value - announced;
            // With weight 1 the residual itself, without a rounding in between.
            *mean = if ewma < 1.0 { *mean + ewma * (residual - *mean) } else { residual };
        }
    }

    fn step(&self, lstm: &Matrix<'_>, hidden: &mut [f32], cell: &mut [f32], scratch: &mut Scratch) {
        let clip = self.layout().input_clip;
        let Scratch { gates, row, integers, .. } = scratch;
        let (gates, row) = (&mut gates[..4 * hidden.len()], &mut row[..self.inputs()]);
        row.iter_mut().for_each(|value| *value = within(*value, -clip, clip));
        lstm.begin(row, clip, gates, integers);
        lstm.more(hidden, 1.0, gates, integers);
        simd::cell(gates, cell, hidden);
    }

    fn announce(&self, output: &Matrix<'_>, hidden: &[f32], announced: &mut [f32], scratch: &mut Scratch) {
        let clip = self.layout().residual_clip;
        output.begin(hidden, 1.0, announced, &mut scratch.integers);
        announced.iter_mut().for_each(|value| *value = within(*value, -clip, clip));
    }

    fn score_residual<'s>(&self, mean: impl Fn(usize) -> f32, scratch: &'s mut Scratch) -> Scored<'s> {
        let n = self.inputs();
        for (i, part) in scratch.contributions[..n].iter_mut().enumerate() {
            let mean = mean(i);
            *part = self.weight(i) * (mean * mean);
        }
        scratch.scored(n)
    }
}

/// How far a sequence is run.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The newest row was compared with what was announced for it.
    Compared,
    /// The row after it is announced.
    Announced,
}
