//! An LSTM's weights as many sequences pass them: in panels of two gates of eight units, each small enough for the first cache.
//!
//! ```text
//! units 0..8:   for each entering value: 8 weights of the input gate, 8 of the forget gate
//!               for each entering value: 8 weights of the candidate, 8 of the output gate
//! units 8..16:  ...
//! ```
//!
//! An artifact has the weights row by row, so that one sequence reads them once from end to end. Many sequences would read each part of
//! a row again and again, from the second cache and across the lines of the first.

use crate::{
    format::{MAX_HIDDEN, MAX_INPUTS},
    kernel::{self, LANES},
    rescore::GATES,
    simd::Step,
};

/// Room for the panels of the largest LSTM, so that no register of weights crosses a cache line.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Panels(pub(crate) [f32; GATES * (MAX_INPUTS + MAX_HIDDEN)]);

/// Lays out rows of `4 * units` weights, one row per entering value, into `panels`; says how many floats they take.
///
/// Nothing when there are more of them than room, or the units are not in eights.
pub fn lay(rows: &[u8], units: usize, panels: &mut [f32]) -> Option<usize> {
    let (rows, _) = rows.as_chunks::<4>();
    if units == 0 || !units.is_multiple_of(LANES) {
        return None;
    }
    let entering = rows.len() / (4 * units);
    let panels = panels.get_mut(..4 * units * entering)?;
    for (k, row) in rows.chunks_exact(4 * units).enumerate() {
        for (eight, weights) in row.chunks_exact(LANES).enumerate() {
            let (gate, group) = (eight / (units / LANES), eight % (units / LANES));
            let place = ((2 * group + gate / 2) * entering + k) * 2 * LANES + gate % 2 * LANES;
            for (place, weight) in panels[place..place + LANES].iter_mut().zip(weights) {
                *place = f32::from_le_bytes(*weight);
            }
        }
    }
    Some(panels.len())
}

/// The portable step: each gate adds its products in the order in which the values enter, as [`kernel::add_rows`] does.
pub fn step(step: &Step<'_>, cell: &mut [f32], next: &mut [f32]) {
    let (units, entering) = (step.units, step.inputs + step.units);
    let mut gates = [0.0; GATES];
    let gates = &mut gates[..4 * units];
    for s in 0..step.count {
        let start = step.start.get(s).unwrap_or(&step.start[0]);
        gates.copy_from_slice(&start[..4 * units]);
        let values = &step.entering[s * entering..][..entering];
        for (number, panel) in step.panels[..4 * units * entering].chunks_exact(2 * LANES * entering).enumerate() {
            let (first, second) = gates[number % 2 * 2 * units..][..2 * units].split_at_mut(units);
            let places = number / 2 * LANES..(number / 2 + 1) * LANES;
            for (value, weights) in values.iter().zip(panel.chunks_exact(2 * LANES)) {
                let sums = first[places.clone()].iter_mut().chain(&mut second[places.clone()]);
                sums.zip(weights).for_each(|(sum, weight)| *sum += weight * value);
            }
        }
        let (cell, next) = (&mut cell[s * units..][..units], &mut next[s * entering + step.inputs..][..units]);
        kernel::cell(gates, cell, next);
    }
}
