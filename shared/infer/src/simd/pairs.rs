//! The product of a vector with pairs of int8 weights: integer sums are exact, so their order is free.

use super::wide::Wide;

/// # Safety
/// The processor has `V`; `pairs` leads to `out.len()` pairs per two inputs, `scales` to `out.len()` floats.
#[inline(always)]
pub(super) unsafe fn add_pairs<V: Wide>(
    pairs: *const u8,
    inputs: &[i16],
    scales: *const u8,
    step: f32,
    out: &mut [f32],
) {
    let mut at = 0;
    // SAFETY: each block lies within the outputs, and so within each row of pairs.
    unsafe {
        while at + 8 * V::LANES <= out.len() {
            add_pairs_block::<V, 8>(pairs, inputs, scales, step, out, at);
            at += 8 * V::LANES;
        }
        while at + V::LANES <= out.len() {
            add_pairs_block::<V, 1>(pairs, inputs, scales, step, out, at);
            at += V::LANES;
        }
    }
    let size = out.len();
    for (o, out) in out.iter_mut().enumerate().skip(at) {
        let mut sum = 0i32;
        for (k, [a, b]) in inputs.as_chunks::<2>().0.iter().enumerate() {
            // SAFETY: pair `o` of row `k`.
            let [wa, wb] = unsafe { pairs.add(2 * (k * size + o)).cast::<[i8; 2]>().read_unaligned() };
            sum += i32::from(wa) * i32::from(*a) + i32::from(wb) * i32::from(*b);
        }
        // SAFETY: scale `o`.
        let scale = unsafe { scales.add(4 * o).cast::<f32>().read_unaligned() };
        *out += sum as f32 * (scale * step);
    }
}

/// # Safety
/// As for [`add_pairs`], and `B` registers lie within the outputs from `at` on.
#[inline(always)]
unsafe fn add_pairs_block<V: Wide, const B: usize>(
    pairs: *const u8,
    inputs: &[i16],
    scales: *const u8,
    step: f32,
    out: &mut [f32],
    at: usize,
) {
    let row_bytes = 2 * out.len();
    // SAFETY: the block lies within outputs, scales and rows.
    unsafe {
        let mut sums = [V::zero_integers(); B];
        let mut weights = pairs.add(2 * at);
        for [first, second] in inputs.as_chunks::<2>().0 {
            for b in 0..B {
                sums[b] = V::add_pair(sums[b], weights.add(2 * b * V::LANES), *first, *second);
            }
            weights = weights.wrapping_add(row_bytes);
        }
        let step = V::splat(step);
        for b in 0..B {
            let place = out.as_mut_ptr().add(at + b * V::LANES);
            let scale = V::load(scales.add(4 * (at + b * V::LANES))).mul(step);
            V::load(place.cast()).add(V::from_integers(sums[b]).mul(scale)).store(place);
        }
    }
}
