//! Products of vectors with rows of f32 weights: lanes are outputs, so each output adds its products in the order of the inputs.

use super::{ABREAST, wide::Wide};

/// # Safety
/// The processor has `V`; `rows` leads to a row of `out.len()` floats per input.
#[inline(always)]
pub(super) unsafe fn add_rows<V: Wide>(rows: *const u8, inputs: &[f32], out: &mut [f32]) {
    let mut at = 0;
    // SAFETY: each block lies within the outputs, and so within each row.
    unsafe {
        while at + 8 * V::LANES <= out.len() {
            add_rows_block::<V, 8>(rows, inputs, out, at);
            at += 8 * V::LANES;
        }
        while at + 4 * V::LANES <= out.len() {
            add_rows_block::<V, 4>(rows, inputs, out, at);
            at += 4 * V::LANES;
        }
        while at + V::LANES <= out.len() {
            add_rows_block::<V, 1>(rows, inputs, out, at);
            at += V::LANES;
        }
    }
    let size = out.len();
    for (o, out) in out.iter_mut().enumerate().skip(at) {
        for (k, value) in inputs.iter().enumerate() {
            // SAFETY: weight `o` of row `k`; bytes may be read at any address.
            let weight = unsafe { rows.add(4 * (k * size + o)).cast::<f32>().read_unaligned() };
            *out += weight * value;
        }
    }
}

/// # Safety
/// As for [`add_rows`], and `B` registers lie within the outputs from `at` on.
#[inline(always)]
unsafe fn add_rows_block<V: Wide, const B: usize>(rows: *const u8, inputs: &[f32], out: &mut [f32], at: usize) {
    let row_bytes = 4 * out.len();
    // SAFETY: the block lies within outputs and rows.
    unsafe {
        let place = out.as_mut_ptr().add(at);
        let mut sums = [V::splat(0.0); B];
        for b in 0..B {
            sums[b] = V::load(place.add(b * V::LANES).cast());
        }
        let mut weights = rows.add(4 * at);
        for value in inputs {
            let value = V::splat(*value);
            for b in 0..B {
                sums[b] = sums[b].add(V::load(weights.add(4 * b * V::LANES)).mul(value));
            }
            weights = weights.wrapping_add(row_bytes);
        }
        for b in 0..B {
            sums[b].store(place.add(b * V::LANES));
        }
    }
}

/// # Safety
/// As for [`add_rows`]; all inputs have one length, all outputs too.
#[inline(always)]
pub(super) unsafe fn add_rows_beside<V: Wide>(rows: *const u8, inputs: [&[f32]; ABREAST], out: [&mut [f32]; ABREAST]) {
    let (count, size) = (inputs[0].len(), out[0].len());
    let places = out.map(<[f32]>::as_mut_ptr);
    let mut at = 0;
    while at + 2 * V::LANES <= size {
        // SAFETY: two registers from `at` on lie within each output and each row; `k` counts inputs.
        unsafe {
            let mut sums = [[V::splat(0.0); 2]; ABREAST];
            for s in 0..ABREAST {
                sums[s] = [V::load(places[s].add(at).cast()), V::load(places[s].add(at + V::LANES).cast())];
            }
            let mut weights = rows.add(4 * at);
            for k in 0..count {
                let (first, second) = (V::load(weights), V::load(weights.add(4 * V::LANES)));
                for s in 0..ABREAST {
                    let value = V::splat(*inputs[s].get_unchecked(k));
                    sums[s] = [sums[s][0].add(first.mul(value)), sums[s][1].add(second.mul(value))];
                }
                weights = weights.wrapping_add(4 * size);
            }
            for s in 0..ABREAST {
                sums[s][0].store(places[s].add(at));
                sums[s][1].store(places[s].add(at + V::LANES));
            }
        }
        at += 2 * V::LANES;
    }
    for o in at..size {
        for (place, inputs) in places.iter().zip(&inputs) {
            for (k, value) in inputs.iter().enumerate() {
                // SAFETY: output `o`, weight `o` of row `k`.
                unsafe {
                    let weight = rows.add(4 * (k * size + o)).cast::<f32>().read_unaligned();
                    *place.add(o) += weight * value;
                }
            }
        }
    }
}
