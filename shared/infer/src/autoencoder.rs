//! The LSTM autoencoder: squeezes a sequence of rows through a small code and asks how well the rows come back.
//!
//! It works in sequence mode: every score runs the whole sequence from a zero state, so it depends on the last rows and on
//! nothing before them.

use crate::{
    Artifact, ScoreOf, Scratch,
    kernel::{affine, sigmoid, tanh},
    score::Scored,
};

impl Artifact<'_> {
    /// Scores the ring of normalised rows whose oldest is number `oldest`.
    pub(crate) fn score_sequence<'s>(&self, ring: &[f32], oldest: usize, scratch: &'s mut Scratch) -> Scored<'s> {
        let (n, length, clip) = (self.inputs(), self.sequence_len(), self.layout().input_clip);
        let row = |age: usize| {
            let start = (oldest + age) % length * n;
            &ring[start..start + n]
        };
        let hidden = self.hidden();
        let [encoder, bottleneck, decoder, output] = self.matrices();
        let Scratch { gates, hidden: h, cell: c, code, row: x, contributions } = scratch;
        let (gates, h, c) = (&mut gates[..4 * hidden], &mut h[..hidden], &mut c[..hidden]);
        let (code, x, contributions) = (&mut code[..self.layout().code], &mut x[..n], &mut contributions[..n]);

        h.fill(0.0);
        c.fill(0.0);
        for age in 0..length {
            for (x, value) in x.iter_mut().zip(row(age)) {
                *x = value.clamp(-clip, clip);
            }
            affine(encoder, x, h, gates);
            step(gates, c, h);
        }
        affine(bottleneck, h, &[], code);
        code.iter_mut().for_each(|value| *value = tanh(*value));

        h.fill(0.0);
        c.fill(0.0);
        contributions.fill(0.0);
        let score_of = self.score_of();
        let steps = if score_of == ScoreOf::LastRow { 1 } else { length };
        for back in 0..steps {
            affine(decoder, code, h, gates);
            step(gates, c, h);
            affine(output, h, &[], x);
            for ((sum, value), rebuilt) in contributions.iter_mut().zip(row(length - 1 - back)).zip(&*x) {
                let residual = value - rebuilt;
                *sum += match score_of {
                    ScoreOf::LastRow | ScoreOf::Sequence => residual * residual,
                    ScoreOf::MeanResidual => residual,
                };
            }
        }
        for (i, part) in contributions.iter_mut().enumerate() {
            let mean = *part / steps as f32;
            *part = self.weight(i)
                * match score_of {
                    ScoreOf::LastRow | ScoreOf::Sequence => mean,
                    ScoreOf::MeanResidual => mean * mean,
                };
        }
        scratch.scored(n)
    }
}

/// One step of an LSTM whose four gates were summed: input, forget, cell, output.
fn step(gates: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
    let size = hidden.len();
    let (input, rest) = gates.split_at(size);
    let (forget, rest) = rest.split_at(size);
    let (candidate, output) = rest.split_at(size);
    for i in 0..size {
        cell[i] = sigmoid(forget[i]) * cell[i] + sigmoid(input[i]) * tanh(candidate[i]);
        hidden[i] = sigmoid(output[i]) * tanh(cell[i]);
    }
}
