//! An LSTM layer forwards and backwards, each in one pass over the steps of a whole batch.
//!
//! The non-linear functions are the kernel's that will score the model. `fused` builds the autoencoder's gradients on it, `ops`
//! makes it an operation of Burn's autodiff: there is one implementation.

use kilter_infer::kernel::{sigmoid, tanh};

use crate::matrix::{add_product, product, transposed};

/// What an LSTM's backward pass needs of its forward pass: `[step][row of the batch][unit]`.
#[derive(Debug)]
pub(crate) struct Trace {
    /// After their functions: input, forget, cell, output.
    gates: Vec<f32>,
    cell: Vec<f32>,
    cell_tanh: Vec<f32>,
    pub(crate) hidden: Vec<f32>,
}

impl Trace {
    /// From a zero state; `projected` gives the input's share of the gates at each step.
    pub(crate) fn run<'p>(
        projected: impl Fn(usize) -> &'p [f32],
        recurrent: &[f32],
        length: usize,
        batch: usize,
        size: usize,
    ) -> Self {
        let room = || vec![0.0; length * batch * size];
        let mut trace =
            Self { gates: vec![0.0; length * batch * 4 * size], cell: room(), cell_tanh: room(), hidden: room() };
        for step in 0..length {
            let gates = &mut trace.gates[step * batch * 4 * size..][..batch * 4 * size];
            gates.copy_from_slice(projected(step));
            let (before, now) = trace.hidden.split_at_mut(step * batch * size);
            let (cells_before, cells) = trace.cell.split_at_mut(step * batch * size);
            let previous = step.checked_sub(1).map(|last| last * batch * size..step * batch * size);
            if let Some(range) = previous.clone() {
                add_product(&before[range], recurrent, gates, batch, size);
            }
            let cells_before = previous.map_or(&[][..], |range| &cells_before[range]);
            let tanhs = &mut trace.cell_tanh[step * batch * size..];
            for row in 0..batch {
                let [i, f, g, o] = quarters(&mut gates[row * 4 * size..][..4 * size]);
                i.iter_mut().chain(f.iter_mut()).chain(o.iter_mut()).for_each(|gate| *gate = sigmoid(*gate));
                g.iter_mut().for_each(|gate| *gate = tanh(*gate));
                let at = row * size..(row + 1) * size;
                let (cells, tanhs, hidden) = (&mut cells[at.clone()], &mut tanhs[at.clone()], &mut now[at.clone()]);
                for (k, cell) in cells.iter_mut().enumerate() {
                    let kept = cells_before.get(at.start + k).map_or(0.0, |before| f[k] * before);
                    *cell = kept + i[k] * g[k];
                    tanhs[k] = tanh(*cell);
                    hidden[k] = o[k] * tanhs[k];
                }
            }
        }
        trace
    }

    /// The gradient of the gates before their functions, from the gradient of each step's hidden state.
    pub(crate) fn backward(
        &self,
        mut d_hidden: Vec<f32>,
        recurrent: &[f32],
        length: usize,
        batch: usize,
        size: usize,
    ) -> Vec<f32> {
        let back = transposed(recurrent, size, 4 * size);
        let mut d_gates = vec![0.0; length * batch * 4 * size];
        let mut d_cell = vec![0.0; batch * size];
        for step in (0..length).rev() {
            let here = step * batch * size;
            for row in 0..batch {
                let at = here + row * size;
                let gates = &self.gates[4 * at..][..4 * size];
                let (i, rest) = gates.split_at(size);
                let (f, rest) = rest.split_at(size);
                let (g, o) = rest.split_at(size);
                let [di, df, dg, d_o] = quarters(&mut d_gates[4 * at..][..4 * size]);
                let (d_cell, d_hidden) = (&mut d_cell[row * size..][..size], &d_hidden[at..][..size]);
                let tanhs = &self.cell_tanh[at..][..size];
                for k in 0..size {
                    let dc = d_cell[k] + d_hidden[k] * o[k] * (1.0 - tanhs[k] * tanhs[k]);
                    d_o[k] = d_hidden[k] * tanhs[k] * o[k] * (1.0 - o[k]);
                    di[k] = dc * g[k] * i[k] * (1.0 - i[k]);
                    dg[k] = dc * i[k] * (1.0 - g[k] * g[k]);
                    let before = if step == 0 { 0.0 } else { self.cell[at - batch * size + k] };
                    df[k] = dc * before * f[k] * (1.0 - f[k]);
                    d_cell[k] = dc * f[k];
                }
            }
            if step > 0 {
                let gates = &d_gates[4 * here..][..batch * 4 * size];
                add_product(gates, &back, &mut d_hidden[here - batch * size..here], batch, 4 * size);
            }
        }
        d_gates
    }

    pub(crate) fn recurrent_gradient(&self, d_gates: &[f32], length: usize, batch: usize, size: usize) -> Vec<f32> {
        let rows = (length - 1) * batch;
        product(&transposed(&self.hidden[..rows * size], rows, size), &d_gates[batch * 4 * size..], size, rows)
    }
}

fn quarters(values: &mut [f32]) -> [&mut [f32]; 4] {
    let size = values.len() / 4;
    let (a, rest) = values.split_at_mut(size);
    let (b, rest) = rest.split_at_mut(size);
    let (c, d) = rest.split_at_mut(size);
    [a, b, c, d]
}
