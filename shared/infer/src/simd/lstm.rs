//! A step of an LSTM: the gates of one sequence, and the whole step of many sequences that share their weights.
//!
//! Many sequences pass a panel of weights (two gates of eight units) while it lies in the first cache, and four of them at a time
//! while a weight lies in a register. What the gates open is computed for all of them before what they let out, since the
//! second waits for the first: so the divisions of several units run at once.

use super::{ABREAST, Step, wide::Wide};
use crate::{
    kernel::{LANES, P, Q},
    rescore::{GATES, SIDE},
};

/// # Safety
/// The processor has `V`; `gates` holds four times as many values as `cell` and `hidden`, and these a multiple of eight.
#[inline(always)]
pub(super) unsafe fn cell<V: Wide>(gates: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
    let size = hidden.len();
    let (gates, cell, hidden) = (gates.as_ptr(), cell.as_mut_ptr(), hidden.as_mut_ptr());
    // SAFETY: a register from `at` on lies within each gate, cell and hidden.
    unsafe {
        for at in (0..size).step_by(V::LANES) {
            open::<V>(gates.add(at), size, cell.add(at), hidden.add(at));
        }
        for at in (0..size).step_by(V::LANES) {
            let_out::<V>(cell.add(at), hidden.add(at));
        }
    }
}

/// # Safety
/// The processor has `V`; the lengths of `step`, `cell` and `next` are those that [`super::step_with`] asserts.
#[inline(always)]
pub(super) unsafe fn step<V: Wide>(step: &Step<'_>, cell: &mut [f32], next: &mut [f32]) {
    let (units, width, count) = (step.units, step.inputs + step.units, step.count);
    let start_apart = if step.start.len() == 1 { 0 } else { GATES };
    let mut gates = [[0.0f32; 4 * LANES]; SIDE];
    let gates = gates.as_mut_ptr().cast::<f32>();
    for group in 0..units / LANES {
        // SAFETY: `group` counts eights of units, `pair` the two panels of each, `lane` the registers of eight units; `s` counts
        // sequences, of which there are at most as many as there is room for gates.
        unsafe {
            for pair in 0..2 {
                for lane in (0..LANES).step_by(V::LANES) {
                    let pass = Pass {
                        weights: step.panels.as_ptr().add((2 * group + pair) * width * 2 * LANES + lane),
                        start: step.start.as_ptr().cast::<f32>().add(2 * pair * units + group * LANES + lane),
                        start_apart,
                        units,
                        entering: step.entering.as_ptr(),
                        width,
                        gates: gates.add(2 * pair * LANES + lane),
                    };
                    let mut s = 0;
                    while s + ABREAST <= count {
                        block::<V, ABREAST>(&pass, s);
                        s += ABREAST;
                    }
                    while s < count {
                        block::<V, 1>(&pass, s);
                        s += 1;
                    }
                }
            }
            for lane in (0..LANES).step_by(V::LANES) {
                let cell = cell.as_mut_ptr().add(group * LANES + lane);
                let next = next.as_mut_ptr().add(step.inputs + group * LANES + lane);
                for s in 0..count {
                    open::<V>(gates.add(s * 4 * LANES + lane), LANES, cell.add(s * units), next.add(s * width));
                }
                for s in 0..count {
                    let_out::<V>(cell.add(s * units), next.add(s * width));
                }
            }
        }
    }
}

/// One register of two gates, for every sequence.
struct Pass {
    /// Of the first entering value; those of the next one follow two eights later.
    weights: *const f32,
    /// What the first gate begins with, the second gate's `units` further; of the next sequence so far apart.
    start: *const f32,
    start_apart: usize,
    units: usize,
    /// `width` values of each sequence.
    entering: *const f32,
    width: usize,
    /// Where the first gate goes, the second one an eight further; of the next sequence four eights further.
    gates: *mut f32,
}

/// # Safety
/// The processor has `V`; `pass` leads to what it says for sequences `s` to `s + W - 1`.
#[inline(always)]
unsafe fn block<V: Wide, const W: usize>(pass: &Pass, s: usize) {
    // SAFETY: as promised.
    unsafe {
        let mut sums = [[V::splat(0.0); 2]; W];
        for w in 0..W {
            let start = pass.start.add((s + w) * pass.start_apart);
            sums[w] = [V::load(start.cast()), V::load(start.add(pass.units).cast())];
        }
        let entering = pass.entering.add(s * pass.width);
        for k in 0..pass.width {
            let weights = pass.weights.add(k * 2 * LANES);
            let (first, second) = (V::load(weights.cast()), V::load(weights.add(LANES).cast()));
            for w in 0..W {
                let value = V::splat(*entering.add(w * pass.width + k));
                sums[w] = [sums[w][0].add(first.mul(value)), sums[w][1].add(second.mul(value))];
            }
        }
        for w in 0..W {
            let gates = pass.gates.add((s + w) * 4 * LANES);
            sums[w][0].store(gates);
            sums[w][1].store(gates.add(LANES));
        }
    }
}

/// Forgets, takes in, and leaves in `hidden` how far the output gate is open.
///
/// # Safety
/// The processor has `V`; a register lies at `gates`, at one, two and three times `apart` from it, at `cell` and at `hidden`.
#[inline(always)]
unsafe fn open<V: Wide>(gates: *const f32, apart: usize, cell: *mut f32, hidden: *mut f32) {
    // SAFETY: as promised.
    unsafe {
        let input = V::load(gates.cast());
        let forget = V::load(gates.add(apart).cast());
        let candidate = V::load(gates.add(2 * apart).cast());
        let output = V::load(gates.add(3 * apart).cast());
        let kept = sigmoid(forget).mul(V::load(cell.cast()));
        kept.add(sigmoid(input).mul(tanh(candidate))).store(cell);
        sigmoid(output).store(hidden);
    }
}

/// Lets out as much of the cell as [`open`] said.
///
/// # Safety
/// The processor has `V`; a register lies at `cell` and at `hidden`.
#[inline(always)]
unsafe fn let_out<V: Wide>(cell: *const f32, hidden: *mut f32) {
    // SAFETY: as promised.
    unsafe { V::load(hidden.cast()).mul(tanh(V::load(cell.cast()))).store(hidden) }
}

/// # Safety
/// The processor has `V`.
#[inline(always)]
unsafe fn tanh<V: Wide>(x: V) -> V {
    // SAFETY: as promised.
    unsafe {
        let x = x.clamp(-9.0, 9.0);
        let u = x.mul(x);
        x.mul(polynomial(P, u)).div(polynomial(Q, u)).clamp(-1.0, 1.0)
    }
}

/// # Safety
/// The processor has `V`.
#[inline(always)]
unsafe fn polynomial<V: Wide>(c: [f32; 5], u: V) -> V {
    // SAFETY: as promised.
    unsafe {
        let sum = V::splat(c[4]).mul(u).add(V::splat(c[3]));
        let sum = sum.mul(u).add(V::splat(c[2]));
        let sum = sum.mul(u).add(V::splat(c[1]));
        sum.mul(u).add(V::splat(c[0]))
    }
}

/// # Safety
/// The processor has `V`.
#[inline(always)]
unsafe fn sigmoid<V: Wide>(x: V) -> V {
    // SAFETY: as promised.
    unsafe {
        let half = V::splat(0.5);
        half.mul(tanh(half.mul(x))).add(half)
    }
}
