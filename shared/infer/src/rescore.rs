//! Many sequences of one forecaster or autoencoder at once: for back-tests, which score the past again.
//!
//! Some sequences run side by side so that each weight is loaded once for all of them. Each keeps the order of its own
//! sums, so a score has the bits that [`Artifact::push`] gives: a back-test reproduces what the edge recorded.

use crate::{
    Artifact, Family, Mode, RowError, ScoreOf,
    format::{MAX_HIDDEN, MAX_INPUTS},
    kernel::{sum, tanh, within},
    matrix::{Integers, Matrix},
    simd,
};

/// How many sequences run side by side.
pub const SIDE: usize = 4;

/// Room for [`SIDE`] sequences.
#[derive(Clone, Debug)]
pub struct Rescorer {
    gates: Beside<{ 4 * MAX_HIDDEN }>,
    start: Beside<{ 4 * MAX_HIDDEN }>,
    hidden: Beside<MAX_HIDDEN>,
    cell: Beside<MAX_HIDDEN>,
    code: Beside<MAX_HIDDEN>,
    row: Beside<MAX_INPUTS>,
    announced: Beside<MAX_INPUTS>,
    mean: Beside<MAX_INPUTS>,
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
            gates: [[0.0; 4 * MAX_HIDDEN]; SIDE],
            start: [[0.0; 4 * MAX_HIDDEN]; SIDE],
            hidden: [[0.0; MAX_HIDDEN]; SIDE],
            cell: [[0.0; MAX_HIDDEN]; SIDE],
            code: [[0.0; MAX_HIDDEN]; SIDE],
            row: [[0.0; MAX_INPUTS]; SIDE],
            announced: [[0.0; MAX_INPUTS]; SIDE],
            mean: [[0.0; MAX_INPUTS]; SIDE],
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
        if let Some(place) = rows.iter().position(|value| !value.is_finite()) {
            return Err(RescoreError::Row(RowError::NonFinite(place)));
        }
        for side in [&mut self.hidden, &mut self.cell] {
            side.iter_mut().for_each(|values| values.fill(0.0));
        }
        for side in [&mut self.announced, &mut self.mean] {
            side.iter_mut().for_each(|values| values.fill(0.0));
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
        let count = anomalies.len();
        for age in 0..length {
            self.take_rows(artifact, rows, age, count);
            for s in 0..count {
                for i in 0..n {
                    let residual = self.row[s][i] - self.announced[s][i];
                    let mean = &mut self.mean[s][i];
                    *mean = if layout.ewma < 1.0 { *mean + layout.ewma * (residual - *mean) } else { residual };
                }
            }
            if age + 1 == length {
                break;
            }
            self.step(&lstm, layout.input_clip, n, layout.hidden, count);
            if layout.ewma < 1.0 || age + 2 >= length {
                begin(&output, &self.hidden, layout.hidden, 1.0, &mut self.announced, n, count, &mut self.integers);
                let clip = layout.residual_clip;
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
        for age in 0..length {
            self.take_rows(artifact, rows, age, count);
            self.step(&encoder, layout.input_clip, n, hidden, count);
        }
        begin(&bottleneck, &self.hidden, hidden, 1.0, &mut self.code, layout.code, count, &mut self.integers);
        for code in &mut self.code[..count] {
            code[..layout.code].iter_mut().for_each(|value| *value = tanh(*value));
        }
        for side in [&mut self.hidden, &mut self.cell] {
            side.iter_mut().for_each(|values| values.fill(0.0));
        }
        begin(&decoder, &self.code, layout.code, 1.0, &mut self.start, 4 * hidden, count, &mut self.integers);
        let steps = if layout.score_of == ScoreOf::LastRow { 1 } else { length };
        for back in 0..steps {
            for (gates, start) in self.gates.iter_mut().zip(&self.start) {
                gates[..4 * hidden].copy_from_slice(&start[..4 * hidden]);
            }
            self.finish(&decoder, hidden, count);
            begin(&output, &self.hidden, hidden, 1.0, &mut self.announced, n, count, &mut self.integers);
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
        let (n, length) = (artifact.inputs(), artifact.sequence_len());
        for (s, row) in self.row[..count].iter_mut().enumerate() {
            let measured = &rows[(s * length + age) * n..][..n];
            for (i, (row, value)) in row.iter_mut().zip(measured).enumerate() {
                *row = artifact.normalise(i, *value);
            }
        }
    }

    fn step(&mut self, lstm: &Matrix<'_>, clip: f32, inputs: usize, hidden: usize, count: usize) {
        for row in &mut self.row[..count] {
            row[..inputs].iter_mut().for_each(|value| *value = within(*value, -clip, clip));
        }
        begin(lstm, &self.row, inputs, clip, &mut self.gates, 4 * hidden, count, &mut self.integers);
        self.finish(lstm, hidden, count);
    }

    fn finish(&mut self, lstm: &Matrix<'_>, hidden: usize, count: usize) {
        let inputs = self.hidden.each_ref().map(|values| &values[..hidden]);
        let out = self.gates.each_mut().map(|gates| &mut gates[..4 * hidden]);
        lstm.more_beside(inputs, 1.0, out, count, &mut self.integers);
        for s in 0..count {
            simd::cell(&self.gates[s][..4 * hidden], &mut self.cell[s][..hidden], &mut self.hidden[s][..hidden]);
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "vectors with their used lengths")]
fn begin<const I: usize, const O: usize>(
    matrix: &Matrix<'_>,
    inputs: &Beside<I>,
    used: usize,
    bound: f32,
    out: &mut Beside<O>,
    outputs: usize,
    count: usize,
    room: &mut Integers,
) {
    let inputs = inputs.each_ref().map(|values| &values[..used]);
    let out = out.each_mut().map(|values| &mut values[..outputs]);
    matrix.begin_beside(inputs, bound, out, count, room);
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
