//! Many sequences of one forecaster or autoencoder at once: for back-tests, which score the past again.
//!
//! The sequences run side by side, so that weights are loaded once for several of them and stay in the first cache while all of them pass
//! ([`panels`]). Each keeps the order of its own sums, so a score has the bits that [`Artifact::push`] gives: a back-test
//! reproduces what the edge recorded.

pub mod panels;
mod sequences;

use crate::{
    Artifact, Family, Mode, RowError, ScoreOf,
    artifact::normalised,
    format::{MAX_HIDDEN, MAX_INPUTS},
    kernel::{sum, tanh, within},
    matrix::{Integers, Matrix},
    simd::ABREAST,
};
use sequences::Sequences;

/// How many sequences run side by side.
pub const SIDE: usize = 32;

/// The most gates of an LSTM: four per hidden unit.
pub const GATES: usize = 4 * MAX_HIDDEN;

/// Room for [`SIDE`] sequences: 250 kB.
#[derive(Clone, Debug)]
pub struct Rescorer {
    sequences: Sequences,
    code: Beside<MAX_HIDDEN>,
    row: Beside<MAX_INPUTS>,
    announced: Beside<MAX_INPUTS>,
    mean: Beside<MAX_INPUTS>,
    /// Healthy mean and inverse scale of each input.
    normaliser: [[f32; MAX_INPUTS]; 2],
    integers: Integers,
}

/// One vector per sequence.
type Beside<const N: usize> = [[f32; N]; SIDE];

impl Default for Rescorer {
    fn default() -> Self {
        Self::new()
    }
}

impl Rescorer {
    /// Empty room.
    pub const fn new() -> Self {
        Self {
            sequences: Sequences::new(),
            code: [[0.0; MAX_HIDDEN]; SIDE],
            row: [[0.0; MAX_INPUTS]; SIDE],
            announced: [[0.0; MAX_INPUTS]; SIDE],
            mean: [[0.0; MAX_INPUTS]; SIDE],
            normaliser: [[0.0; MAX_INPUTS]; 2],
            integers: [0; crate::format::MAX_WIDE],
        }
    }

    /// Scores up to [`SIDE`] whole sequences of a network in sequence mode: `rows` as measured, sequence after sequence, each of
    /// [`Artifact::sequence_len`] rows; `anomalies` has one place per sequence.
    ///
    /// The anomalies have the bits of [`Artifact::push`] from an empty state.
    pub fn score(&mut self, artifact: &Artifact<'_>, rows: &[f32], anomalies: &mut [f32]) -> Result<(), RescoreError> {
        let (n, length) = (artifact.inputs(), artifact.sequence_len());
        if artifact.mode() != Mode::Sequence {
            return Err(RescoreError::Mode);
        }
        let window = n * length;
        if anomalies.len() > SIDE || rows.len() != window * anomalies.len() {
            return Err(RescoreError::Row(RowError::Length { expected: window * anomalies.len(), found: rows.len() }));
        }
        // All of them first, which runs in wide registers.
        if !rows.iter().fold(true, |finite, value| finite & value.is_finite()) {
            let place = rows.iter().position(|value| !value.is_finite()).unwrap_or(0);
            return Err(RescoreError::Row(RowError::NonFinite(place)));
        }
        for side in [&mut self.announced, &mut self.mean] {
            side.iter_mut().for_each(|values| values.fill(0.0));
        }
        let [means, inverse_scales] = &mut self.normaliser;
        for (i, (mean, inverse_scale)) in means.iter_mut().zip(inverse_scales).enumerate().take(n) {
            (*mean, *inverse_scale) = artifact.normaliser(i).unwrap_or((0.0, 0.0));
        }
        match artifact.family() {
            Family::LstmForecaster => self.forecast(artifact, rows, anomalies),
            _ => self.rebuild(artifact, rows, anomalies),
        }
        Ok(())
    }

    fn forecast(&mut self, artifact: &Artifact<'_>, rows: &[f32], anomalies: &mut [f32]) {
        let (n, length, layout) = (artifact.inputs(), artifact.sequence_len(), artifact.layout());
        let mut matrices = artifact.matrices();
        let (lstm, output) = (Artifact::take(&mut matrices), Artifact::take(&mut matrices));
        let (count, clip) = (anomalies.len(), layout.residual_clip);
        self.sequences.reset(&lstm, n, layout.hidden);
        // With weight 1 only the newest residual counts, so only what is announced for it does.
        let every = layout.ewma < 1.0;
        for age in 0..length {
            let newest = age + 1 == length;
            self.take_rows(artifact, rows, age, count);
            if every || newest {
                for (mean, (row, announced)) in
                    self.mean.iter_mut().zip(self.row.iter().zip(&self.announced)).take(count)
                {
                    for (mean, (row, announced)) in mean.iter_mut().zip(row.iter().zip(announced)).take(n) {
                        let residual = row - announced;
                        *mean = if every { *mean + layout.ewma * (residual - *mean) } else { residual };
                    }
                }
            }
            if newest {
                break;
            }
            self.step(&lstm, layout.input_clip, n, count);
            if every || age + 2 == length {
                self.announce(&output, n, count);
                for announced in &mut self.announced[..count] {
                    announced[..n].iter_mut().for_each(|value| *value = within(*value, -clip, clip));
                }
            }
        }
        for (s, anomaly) in anomalies.iter_mut().enumerate() {
            for i in 0..n {
                let mean = self.mean[s][i];
                self.row[s][i] = artifact.weight(i) * (mean * mean);
            }
            *anomaly = sum(&self.row[s][..n]);
        }
    }

    fn rebuild(&mut self, artifact: &Artifact<'_>, rows: &[f32], anomalies: &mut [f32]) {
        let (n, length, layout) = (artifact.inputs(), artifact.sequence_len(), artifact.layout());
        let (hidden, count) = (layout.hidden, anomalies.len());
        let mut matrices = artifact.matrices();
        let mut next = || Artifact::take(&mut matrices);
        let (encoder, bottleneck, decoder, output) = (next(), next(), next(), next());
        self.sequences.reset(&encoder, n, hidden);
        for age in 0..length {
            self.take_rows(artifact, rows, age, count);
            self.step(&encoder, layout.input_clip, n, count);
        }
        let (sequences, room) = (&self.sequences, &mut self.integers);
        begin(&bottleneck, |s| sequences.hidden(s), &mut self.code[..count], layout.code, room);
        for code in &mut self.code[..count] {
            code[..layout.code].iter_mut().for_each(|value| *value = tanh(*value));
        }
        // The code is fed at every step, so its part of the gates is the same.
        self.sequences.reset(&decoder, 0, hidden);
        let (code, start) = (&self.code, &mut self.sequences.start[..count]);
        begin(&decoder, |s| &code[s][..layout.code], start, 4 * hidden, &mut self.integers);
        let steps = if layout.score_of == ScoreOf::LastRow { 1 } else { length };
        for back in 0..steps {
            self.sequences.step(&decoder, layout.input_clip, count, &mut self.integers);
            self.announce(&output, n, count);
            self.take_rows(artifact, rows, length - 1 - back, count);
            for s in 0..count {
                for i in 0..n {
                    let residual = self.row[s][i] - self.announced[s][i];
                    self.mean[s][i] += match layout.score_of {
                        ScoreOf::LastRow | ScoreOf::Sequence => residual * residual,
                        ScoreOf::MeanResidual => residual,
                    };
                }
            }
        }
        for (s, anomaly) in anomalies.iter_mut().enumerate() {
            for i in 0..n {
                let mean = self.mean[s][i] / steps as f32;
                self.row[s][i] = artifact.weight(i)
                    * match layout.score_of {
                        ScoreOf::LastRow | ScoreOf::Sequence => mean,
                        ScoreOf::MeanResidual => mean * mean,
                    };
            }
            *anomaly = sum(&self.row[s][..n]);
        }
    }

    /// Row `age` of each sequence, normalised.
    fn take_rows(&mut self, artifact: &Artifact<'_>, rows: &[f32], age: usize, count: usize) {
        let (n, length, clip) = (artifact.inputs(), artifact.sequence_len(), artifact.layout().residual_clip);
        let [mean, inverse_scale] = self.normaliser.each_ref().map(|values| &values[..n]);
        for (s, row) in self.row[..count].iter_mut().enumerate() {
            let measured = &rows[(s * length + age) * n..][..n];
            for ((row, value), (mean, inverse_scale)) in
                row.iter_mut().zip(measured).zip(mean.iter().zip(inverse_scale))
            {
                *row = normalised(*value, *mean, *inverse_scale, clip);
            }
        }
    }

    /// One step with the rows that were taken, held within +-`clip`.
    fn step(&mut self, lstm: &Matrix<'_>, clip: f32, inputs: usize, count: usize) {
        for (s, row) in self.row[..count].iter().enumerate() {
            for (entering, value) in self.sequences.row(s).iter_mut().zip(&row[..inputs]) {
                *entering = within(*value, -clip, clip);
            }
        }
        self.sequences.step(lstm, clip, count, &mut self.integers);
    }

    fn announce(&mut self, output: &Matrix<'_>, inputs: usize, count: usize) {
        let sequences = &self.sequences;
        begin(output, |s| sequences.hidden(s), &mut self.announced[..count], inputs, &mut self.integers);
    }
}

/// `out = biases + weights * of`, `outputs` values of it, for as many sequences as `out` has places; no value lies outside +-1.
fn begin<'o, const O: usize>(
    matrix: &Matrix<'_>,
    of: impl Fn(usize) -> &'o [f32],
    out: &mut [[f32; O]],
    outputs: usize,
    room: &mut Integers,
) {
    let (fours, rest) = out.as_chunks_mut::<ABREAST>();
    let done = fours.len() * ABREAST;
    for (four, out) in fours.iter_mut().enumerate() {
        let first = core::array::from_fn(|i| of(four * ABREAST + i));
        matrix.begin_abreast(first, 1.0, out.each_mut().map(|out| &mut out[..outputs]), room);
    }
    for (i, out) in rest.iter_mut().enumerate() {
        matrix.begin(of(done + i), 1.0, &mut out[..outputs], room);
    }
}

/// Sequences that can't be scored together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RescoreError {
    /// Only networks in sequence mode have sequences without a past.
    Mode,
    /// The rows have the wrong number of values, or one that is not finite.
    Row(RowError),
}

impl core::fmt::Display for RescoreError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Mode => f.write_str("score whole sequences with a model that is not in sequence mode"),
            Self::Row(error) => write!(f, "score sequences side by side: {error}"),
        }
    }
}

impl core::error::Error for RescoreError {}
