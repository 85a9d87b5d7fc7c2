//! The LSTM states of the sequences that run side by side.

use kilter_types::KernelId;

use crate::{
    format::{MAX_HIDDEN, MAX_INPUTS},
    matrix::{Integers, Matrix, Part},
    rescore::{
        GATES, SIDE,
        panels::{self, Panels},
    },
    simd::{self, Step},
};

/// Hidden states and cells, and the weights as the sequences pass them.
#[derive(Clone, Debug)]
pub(super) struct Sequences {
    panels: Panels,
    /// What the gates begin with: the biases for all, or what a decoder's code makes for each.
    pub(super) start: [[f32; GATES]; SIDE],
    /// Sequence after sequence, what enters a step: the row, then the hidden state. One is read while the other is written.
    entering: [[f32; SIDE * (MAX_INPUTS + MAX_HIDDEN)]; 2],
    cell: [f32; SIDE * MAX_HIDDEN],
    gates: [f32; GATES],
    now: usize,
    inputs: usize,
    units: usize,
}

impl Sequences {
    pub(super) const fn new() -> Self {
        Self {
            panels: Panels([0.0; GATES * (MAX_INPUTS + MAX_HIDDEN)]),
            start: [[0.0; GATES]; SIDE],
            entering: [[0.0; SIDE * (MAX_INPUTS + MAX_HIDDEN)]; 2],
            cell: [0.0; SIDE * MAX_HIDDEN],
            gates: [0.0; GATES],
            now: 0,
            inputs: 0,
            units: 0,
        }
    }

    /// Zero states of an LSTM; with no `inputs` every step begins with [`Sequences::start`], else with the biases and a row.
    pub(super) fn reset(&mut self, lstm: &Matrix<'_>, inputs: usize, units: usize) {
        (self.now, self.inputs, self.units) = (0, inputs, units);
        self.entering[0].fill(0.0);
        self.cell.fill(0.0);
        if lstm.kernel == KernelId::PORTABLE_F32 {
            let rows = if inputs == 0 { lstm.weights(Part::Second) } else { lstm.rows() };
            panels::lay(rows, units, &mut self.panels.0)
                .expect("an artifact's LSTM has at most so many weights, and units in eights");
        }
        if inputs > 0 {
            lstm.biases(&mut self.start[0][..4 * units]);
        }
    }

    /// The row that sequence `s` takes next.
    pub(super) fn row(&mut self, s: usize) -> &mut [f32] {
        let start = s * (self.inputs + self.units);
        &mut self.entering[self.now][start..start + self.inputs]
    }

    /// The hidden state of sequence `s`.
    pub(super) fn hidden(&self, s: usize) -> &[f32] {
        &self.entering[self.now][s * (self.inputs + self.units) + self.inputs..][..self.units]
    }

    /// One step of the first `count`; no value of a row lies outside +-`clip`.
    pub(super) fn step(&mut self, lstm: &Matrix<'_>, clip: f32, count: usize, room: &mut Integers) {
        let (units, inputs) = (self.units, self.inputs);
        let [even, odd] = &mut self.entering;
        let (entering, next) = if self.now == 0 { (even, odd) } else { (odd, even) };
        self.now = 1 - self.now;
        if lstm.kernel == KernelId::PORTABLE_F32 {
            let start = if inputs == 0 { &self.start[..] } else { &self.start[..1] };
            let step = Step { panels: &self.panels.0, start, entering, count, inputs, units };
            simd::step(&step, &mut self.cell, next);
            return;
        }
        let gates = &mut self.gates[..4 * units];
        let cells = self.cell.chunks_exact_mut(units);
        let entering = entering.chunks_exact(inputs + units).zip(next.chunks_exact_mut(inputs + units));
        for ((start, cell), (entering, next)) in self.start.iter().zip(cells).zip(entering).take(count) {
            let (row, hidden) = entering.split_at(inputs);
            if inputs == 0 {
                gates.copy_from_slice(&start[..4 * units]);
            } else {
                lstm.begin(row, clip, gates, room);
            }
            lstm.more(hidden, 1.0, gates, room);
            simd::cell(gates, cell, &mut next[inputs..]);
        }
    }
}
