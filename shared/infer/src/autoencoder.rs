//! The LSTM autoencoder: squeezes a sequence of rows through a small code and asks how well the rows come back.
//!
//! It works in sequence mode: every score runs the whole sequence from a zero state, so it depends on the last rows and on
//! nothing before them.

use crate::{
    Artifact, Family, ScoreOf, Scratch, State,
    kernel::{tanh, within},
    score::Scored,
    simd,
};

impl Artifact<'_> {
    /// Scores the ring of normalised rows whose oldest is number `oldest`.
    pub(crate) fn score_sequence<'s>(&self, ring: &[f32], oldest: usize, scratch: &'s mut Scratch) -> Scored<'s> {
        let (n, length) = (self.inputs(), self.sequence_len());
        let score_of = self.score_of();
        let steps = if score_of == ScoreOf::LastRow { 1 } else { length };
        scratch.contributions.fill(0.0);
        self.rebuild(ring, oldest, steps, scratch, |back, rebuilt, contributions| {
            let row = ring_row(ring, oldest + length - 1 - back, length, n);
            for ((sum, value), rebuilt) in contributions.iter_mut().zip(row).zip(rebuilt) {
                let residual = value - rebuilt;
                *sum += match score_of {
                    ScoreOf::LastRow | ScoreOf::Sequence => residual * residual,
                    ScoreOf::MeanResidual => residual,
                };
            }
        });
        for (i, part) in scratch.contributions[..n].iter_mut().enumerate() {
            let mean = *part / steps as f32;
            *part = self.weight(i)
                * match score_of {
                    ScoreOf::LastRow | ScoreOf::Sequence => mean,
                    ScoreOf::MeanResidual => mean * mean,
                };
        }
        scratch.scored(n)
    }

    /// What the network makes of the rows in the state, normalised, newest row first, for as many rows as `out` has room.
    ///
    /// Nothing for a statistic, or while the sequence is not full. Export compares this with the trainer's own output (P3).
    pub fn reconstruct<const FLOATS: usize>(
        &self,
        state: &State<FLOATS>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Option<()> {
        let full = state.rows() == self.sequence_len() && self.state_floats() <= FLOATS;
        if self.family() != Family::LstmAutoencoder || !full {
            return None;
        }
        let steps = (out.len() / self.inputs()).min(self.sequence_len());
        self.rebuild(&state.values, usize::from(state.next), steps, scratch, |back, rebuilt, _| {
            out[back * rebuilt.len()..][..rebuilt.len()].copy_from_slice(rebuilt);
        });
        Some(())
    }

    /// Encodes the ring and decodes `steps` rows, newest first; `visit` gets each with the contributions so far.
    fn rebuild(
        &self,
        ring: &[f32],
        oldest: usize,
        steps: usize,
        scratch: &mut Scratch,
        mut visit: impl FnMut(usize, &[f32], &mut [f32]),
    ) {
        let (n, length, clip) = (self.inputs(), self.sequence_len(), self.layout().input_clip);
        let hidden = self.hidden();
        let mut matrices = self.matrices();
        let mut next = || Artifact::take(&mut matrices);
        let (encoder, bottleneck, decoder, output) = (next(), next(), next(), next());
        let Scratch { gates, start, hidden: h, cell: c, code, row: x, contributions, integers, .. } = scratch;
        let (gates, start) = (&mut gates[..4 * hidden], &mut start[..4 * hidden]);
        let (h, c) = (&mut h[..hidden], &mut c[..hidden]);
        let (code, x, contributions) = (&mut code[..self.layout().code], &mut x[..n], &mut contributions[..n]);
        h.fill(0.0);
        c.fill(0.0);
        for age in 0..length {
            for (x, value) in x.iter_mut().zip(ring_row(ring, oldest + age, length, n)) {
                *x = within(*value, -clip, clip);
            }
            encoder.begin(x, clip, gates, integers);
            encoder.more(h, 1.0, gates, integers);
            simd::cell(gates, c, h);
        }
        bottleneck.begin(h, 1.0, code, integers);
        code.iter_mut().for_each(|value| *value = tanh(*value));
        h.fill(0.0);
        c.fill(0.0);
        // The code is fed at every step, so its part of the gates is the same.
        decoder.begin(code, 1.0, start, integers);
        for back in 0..steps {
            gates.copy_from_slice(start);
            decoder.more(h, 1.0, gates, integers);
            simd::cell(gates, c, h);
            output.begin(h, 1.0, x, integers);
            visit(back, x, contributions);
        }
    }
}

pub(crate) fn ring_row(ring: &[f32], number: usize, length: usize, inputs: usize) -> &[f32] {
    let start = number % length * inputs;
    &ring[start..start + inputs]
}
