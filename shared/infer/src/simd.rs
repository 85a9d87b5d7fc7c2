//! The kernel's hot loops in wide registers, with the bits of [`crate::kernel`]: AVX2 where the processor has it, else SSE2, on
//! ARM64 NEON, elsewhere the portable loops themselves.
//!
//! Outputs lie side by side in a matrix, so lanes are outputs and no sum is split: every lane multiplies, then adds, in the
//! portable order, and nothing is fused. This module and its children hold the only unsafe code of this crate: pointers into
//! slices whose lengths are checked here, at the door, and instructions whose presence was asked for. `tests/infer/simd.rs` compares every
//! width with the portable loops.
#![cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(unsafe_code, reason = "wide loads from unaligned bytes")
)]

use crate::{
    format::{MAX_HIDDEN, MAX_INPUTS},
    kernel::LANES,
    rescore::{GATES, SIDE, panels},
};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[expect(clippy::needless_range_loop, reason = "constant indices keep the sums in registers")]
mod lstm;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[expect(clippy::needless_range_loop, reason = "constant indices keep the sums in registers")]
mod pairs;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[expect(clippy::needless_range_loop, reason = "constant indices keep the sums in registers")]
mod rows;
#[cfg(target_arch = "x86_64")]
mod sse2;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod wide;

#[cfg(target_arch = "aarch64")]
use neon as half;
#[cfg(target_arch = "x86_64")]
use sse2 as half;

/// How many vectors share a weight while it lies in a register.
pub const ABREAST: usize = 4;

/// Which registers compute; the bits are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The portable loops.
    Portable,
    /// 128 bits: SSE2 on x86-64, NEON on ARM64.
    Half,
    /// 256 bits: AVX2.
    Full,
}

impl Width {
    /// The widest that this processor has.
    #[inline]
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        return if has_avx2::get() { Self::Full } else { Self::Half };
        #[cfg(target_arch = "aarch64")]
        return Self::Half;
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        return Self::Portable;
    }
}

/// One step of LSTMs that share their weights, of at most [`SIDE`] sequences: what it reads.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The weights, as [`panels::lay`] leaves them.
    pub panels: &'a [f32],
    /// What the gates begin with: input, forget, candidate, output, each as long as there are units; one for all, or one each.
    pub start: &'a [[f32; GATES]],
    /// Sequence after sequence, the inputs and then the hidden state.
    pub entering: &'a [f32],
    /// Sequences.
    pub count: usize,
    /// Values that enter beside the hidden state.
    pub inputs: usize,
    /// Hidden units, a multiple of eight.
    pub units: usize,
}

pub(crate) fn add_rows(rows: &[u8], inputs: &[f32], out: &mut [f32]) {
    add_rows_with(Width::best(), rows, inputs, out);
}

/// [`add_rows`] for several vectors, each weight loaded once for all.
pub(crate) fn add_rows_beside(rows: &[u8], inputs: [&[f32]; ABREAST], out: [&mut [f32]; ABREAST]) {
    add_rows_beside_with(Width::best(), rows, inputs, out);
}

pub(crate) fn add_pairs(pairs: &[u8], inputs: &[i16], scales: &[u8], step: f32, out: &mut [f32]) {
    add_pairs_with(Width::best(), pairs, inputs, scales, step, out);
}

pub(crate) fn cell(gates: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
    cell_with(Width::best(), gates, cell, hidden);
}

pub(crate) fn step(step: &Step<'_>, cell: &mut [f32], next: &mut [f32]) {
    step_with(Width::best(), step, cell, next);
}

/// [`crate::kernel::add_rows`] in registers of this width; a width that this processor lacks becomes its best.
pub fn add_rows_with(width: Width, rows: &[u8], inputs: &[f32], out: &mut [f32]) {
    assert!(rows.len() >= 4 * inputs.len() * out.len(), "a row of weights per input");
    match admitted(width) {
        Width::Portable => crate::kernel::add_rows(rows, inputs, out),
        // SAFETY: the processor has the width's instructions (`admitted`), and there is a row per input (asserted).
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        Width::Half => unsafe { rows::add_rows::<half::Floats>(rows.as_ptr(), inputs, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Width::Full => unsafe { avx2::add_rows(rows.as_ptr(), inputs, out) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => crate::kernel::add_rows(rows, inputs, out),
    }
}

/// [`add_rows_with`] for several vectors of one length.
pub fn add_rows_beside_with(width: Width, rows: &[u8], inputs: [&[f32]; ABREAST], out: [&mut [f32]; ABREAST]) {
    let (count, size) = (inputs[0].len(), out[0].len());
    assert!(rows.len() >= 4 * count * size, "a row of weights per input");
    assert!(inputs.iter().all(|x| x.len() == count) && out.iter().all(|y| y.len() == size), "vectors of one length");
    match admitted(width) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has AVX2, the lengths were asserted.
        Width::Full => unsafe { avx2::add_rows_beside(rows.as_ptr(), inputs, out) },
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        // SAFETY: the processor has the width's instructions, the lengths were asserted.
        Width::Half => unsafe { rows::add_rows_beside::<half::Floats>(rows.as_ptr(), inputs, out) },
        _ => inputs.into_iter().zip(out).for_each(|(inputs, out)| crate::kernel::add_rows(rows, inputs, out)),
    }
}

/// [`crate::kernel::add_pairs`] in registers of this width.
pub fn add_pairs_with(width: Width, pairs: &[u8], inputs: &[i16], scales: &[u8], step: f32, out: &mut [f32]) {
    assert!(inputs.len().is_multiple_of(2) && pairs.len() >= inputs.len() * out.len(), "a pair of weights per output");
    assert!(scales.len() >= 4 * out.len(), "a scale per output");
    match admitted(width) {
        Width::Portable => crate::kernel::add_pairs(pairs, inputs, scales, step, out),
        // SAFETY: the processor has the instructions, weights and scales cover inputs and outputs (asserted).
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        Width::Half => unsafe { pairs::add_pairs::<half::Floats>(pairs.as_ptr(), inputs, scales.as_ptr(), step, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Width::Full => unsafe { avx2::add_pairs(pairs.as_ptr(), inputs, scales.as_ptr(), step, out) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => crate::kernel::add_pairs(pairs, inputs, scales, step, out),
    }
}

/// [`crate::kernel::cell`] in registers of this width.
pub fn cell_with(width: Width, gates: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
    let size = hidden.len();
    assert!(
        gates.len() >= 4 * size && cell.len() == size && size.is_multiple_of(8),
        "four gates per unit, units in eights"
    );
    match admitted(width) {
        Width::Portable => crate::kernel::cell(gates, cell, hidden),
        // SAFETY: the processor has the instructions, the slices' lengths were asserted, a register holds 4 or 8 floats.
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        Width::Half => unsafe { lstm::cell::<half::Floats>(gates, cell, hidden) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Width::Full => unsafe { avx2::cell(gates, cell, hidden) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => crate::kernel::cell(gates, cell, hidden),
    }
}

/// [`panels::step`] in registers of this width: `cell` holds the units of each sequence, and `next`, which is laid out as
/// [`Step::entering`], gets the hidden states; what enters beside them stays.
pub fn step_with(width: Width, step: &Step<'_>, cell: &mut [f32], next: &mut [f32]) {
    let (units, entering) = (step.units, step.inputs + step.units);
    assert!(step.count <= SIDE && units <= MAX_HIDDEN && step.inputs <= MAX_INPUTS, "no more than there is room for");
    assert!(units.is_multiple_of(LANES), "units in eights");
    assert!(step.panels.len() >= 4 * units * entering, "four weights per unit and entering value");
    assert!(step.start.len() == 1 || step.start.len() >= step.count, "a start for all, or one each");
    assert!(
        step.entering.len() >= step.count * entering && next.len() >= step.count * entering,
        "inputs and a hidden state per sequence"
    );
    assert!(cell.len() >= step.count * units, "a cell per unit and sequence");
    match admitted(width) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has AVX2, the lengths were asserted.
        Width::Full => unsafe { avx2::step(step, cell, next) },
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        // SAFETY: the processor has the width's instructions, the lengths were asserted.
        Width::Half => unsafe { lstm::step::<half::Floats>(step, cell, next) },
        _ => panels::step(step, cell, next),
    }
}

/// The width, or the best one where the processor lacks it.
fn admitted(width: Width) -> Width {
    if width == Width::Portable || width == Width::Half && Width::best() != Width::Portable {
        width
    } else {
        Width::best()
    }
}

#[cfg(target_arch = "x86_64")]
mod has_avx2 {
    cpufeatures::new!(token, "avx2");

    #[inline]
    pub(super) fn get() -> bool {
        token::get()
    }
}
