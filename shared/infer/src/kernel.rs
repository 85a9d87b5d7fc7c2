//! The arithmetic of `KernelId::PORTABLE_F32` and `KernelId::PORTABLE_I8`: additions, multiplications and divisions in a fixed
//! order, nothing else.
//!
//! A sum of values runs in eight lanes; every output of a matrix adds its own products one after the other; no multiply-add is
//! fused. So the bits do not depend on how wide the target's registers are. `tanh` and the logistic function are one rational approximation, because a
//! target's own `exp` differs in the last bits. Changing any bit here means a new kernel id.

use crate::matrix::INTEGER_REACH;

/// How many sums run side by side.
pub const LANES: usize = 8;

/// The sum of the values: lane `l` takes values `l`, `l + 8`, ...; then halves are added pairwise.
pub fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for chunk in values.chunks(LANES) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// `x` held within bounds that are not known to the compiler, bit for bit as `f32::clamp` has it. That one panics where the bounds are no range, and its message links
/// the formatting of floats into a microcontroller: ten thousand bytes.
#[inline(always)]
pub fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// The hyperbolic tangent within 4e-7 of the true value; never outside [-1, 1].
#[inline]
pub fn tanh(x: f32) -> f32 {
    let x = x.clamp(-9.0, 9.0);
    let u = x * x;
    let p = (((P[4] * u + P[3]) * u + P[2]) * u + P[1]) * u + P[0];
    let q = (((Q[4] * u + Q[3]) * u + Q[2]) * u + Q[1]) * u + Q[0];
    (x * p / q).clamp(-1.0, 1.0)
}

/// The logistic function within 2e-7 of the true value; never outside [0, 1].
#[inline]
pub fn sigmoid(x: f32) -> f32 {
    0.5 * tanh(0.5 * x) + 0.5
}

/// The sum of `values[i] * other(i)`, in the lanes of [`sum`].
pub(crate) fn dot(values: &[f32], other: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (i, value) in values.iter().enumerate() {
        lanes[i % LANES] += value * other(i);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// `out += rows * inputs`: one row of weights per input; every output adds its own products in the order of the inputs.
///
/// Four rows at a time, so that a sum is loaded and stored once for four products; their order stays.
pub fn add_rows(rows: &[u8], inputs: &[f32], out: &mut [f32]) {
    let size = out.len();
    let (rows, _) = rows.as_chunks::<4>();
    let (fours, last) = inputs.as_chunks::<4>();
    let (four_rows, last_rows) = rows.split_at(fours.len() * 4 * size);
    for ([a, b, c, d], rows) in fours.iter().zip(four_rows.chunks_exact(4 * size)) {
        let (row_a, rows) = rows.split_at(size);
        let (row_b, rows) = rows.split_at(size);
        let (row_c, row_d) = rows.split_at(size);
        for ((out, (wa, wb)), (wc, wd)) in out.iter_mut().zip(row_a.iter().zip(row_b)).zip(row_c.iter().zip(row_d)) {
            let sum = *out + f32::from_le_bytes(*wa) * a;
            let sum = sum + f32::from_le_bytes(*wb) * b;
            let sum = sum + f32::from_le_bytes(*wc) * c;
            *out = sum + f32::from_le_bytes(*wd) * d;
        }
    }
    for (value, row) in last.iter().zip(last_rows.chunks_exact(size)) {
        for (out, weight) in out.iter_mut().zip(row) {
            *out += f32::from_le_bytes(*weight) * value;
        }
    }
}

/// The values as integers, `bound` being 32767; ties go to the even one. A place beyond the values becomes 0.
pub fn quantise(values: &[f32], bound: f32, out: &mut [i16]) {
    let scale = INTEGER_REACH / bound;
    for (i, out) in out.iter_mut().enumerate() {
        let scaled = values.get(i).map_or(0.0, |value| (value * scale).clamp(-INTEGER_REACH, INTEGER_REACH));
        *out = ((scaled + ROUND) - ROUND) as i16;
    }
}

/// `out += (pairs * inputs) * (scale * step)`: `pairs` holds for each two inputs the two weights of every output, as int8.
///
/// The integer sums are exact, so their order is free; at most 320 products of 128 and 32767 stay within 32 bits.
pub fn add_pairs(pairs: &[u8], inputs: &[i16], scales: &[u8], step: f32, out: &mut [f32]) {
    let size = out.len();
    let (inputs, _) = inputs.as_chunks::<2>();
    let (scales, _) = scales.as_chunks::<4>();
    for (first, (out, scales)) in out.chunks_mut(LANES).zip(scales.chunks(LANES)).enumerate() {
        let mut sums = [0i32; LANES];
        for ([a, b], row) in inputs.iter().zip(pairs.chunks_exact(2 * size)) {
            let (row, _) = row[2 * LANES * first..].as_chunks::<2>();
            for (sum, [wa, wb]) in sums.iter_mut().zip(row) {
                *sum += i32::from(*wa as i8) * i32::from(*a) + i32::from(*wb as i8) * i32::from(*b);
            }
        }
        for ((out, scale), sum) in out.iter_mut().zip(scales).zip(sums) {
            *out += sum as f32 * (f32::from_le_bytes(*scale) * step);
        }
    }
}

/// One step of an LSTM whose four gates were summed: input, forget, cell, output.
pub fn cell(gates: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
    let size = hidden.len();
    let (input, rest) = gates.split_at(size);
    let (forget, rest) = rest.split_at(size);
    let (candidate, output) = rest.split_at(size);
    let gates = input.iter().zip(forget).zip(candidate.iter().zip(output));
    for ((cell, hidden), ((input, forget), (candidate, output))) in cell.iter_mut().zip(hidden).zip(gates) {
        *cell = sigmoid(*forget) * *cell + sigmoid(*input) * tanh(*candidate);
        *hidden = sigmoid(*output) * tanh(*cell);
    }
}

/// Adding and taking away one and a half times 2^23 rounds to an integer, ties to the even one.
const ROUND: f32 = 12_582_912.0;

// tanh(x) / x = P(x^2) / Q(x^2) on [-9, 9]; a weighted least-squares fit, iterated until the largest relative error was even.
pub(crate) const P: [f32; 5] = [1.0, 0.133_810_2, 0.003_495_583, 2.060_9e-5, 1.335_455_2e-8];
pub(crate) const Q: [f32; 5] = [1.0, 0.467_143_36, 0.025_876_964, 0.000_328_562_66, 7.776_513e-7];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tanh_and_sigmoid_stay_within_their_stated_errors() {
        let (mut worst_tanh, mut worst_sigmoid) = (0.0f64, 0.0f64);
        for i in -120_000i32..=120_000 {
            let x = i as f32 / 8_000.0;
            worst_tanh = worst_tanh.max((f64::from(tanh(x)) - f64::from(x).tanh()).abs());
            worst_sigmoid = worst_sigmoid.max((f64::from(sigmoid(x)) - 1.0 / (1.0 + (-f64::from(x)).exp())).abs());
        }
        assert!(worst_tanh < 4e-7 && worst_sigmoid < 2e-7, "tanh {worst_tanh:e}, sigmoid {worst_sigmoid:e}");
        assert_eq!((tanh(f32::MAX), tanh(f32::MIN), tanh(0.0)), (1.0, -1.0, 0.0));
    }

    #[test]
    fn tanh_rises_but_for_its_stated_error_and_is_odd() {
        let mut last = -1.0;
        for i in -20_000i32..=20_000 {
            let x = i as f32 / 2_000.0;
            let y = tanh(x);
            assert!(y >= last - 8e-7, "tanh fell at {x}");
            assert_eq!(tanh(-x).to_bits(), (-y).to_bits());
            last = y;
        }
    }

    #[test]
    fn the_sum_has_the_bits_of_its_written_order() {
        let values: std::vec::Vec<f32> = (0..19).map(|i| 0.1 * i as f32 - 0.7).collect();
        let lane = |l: usize| values.iter().skip(l).step_by(8).fold(0.0f32, |sum, v| sum + v);
        let expected = ((lane(0) + lane(4)) + (lane(2) + lane(6))) + ((lane(1) + lane(5)) + (lane(3) + lane(7)));
        assert_eq!(sum(&values).to_bits(), expected.to_bits());
    }

    #[test]
    fn blocks_of_rows_do_not_change_a_bit() {
        for outputs in [1usize, 7, 8, 20, 33, 64] {
            let x = [0.3f32, -1.7, 2.5, 0.7, -0.2, 0.01, 9.0, 1.1, -3.0];
            let weight = |out: usize, k: usize| ((out * 31 + k * 17) % 23) as f32 * 0.137 - 1.1;
            let bytes: std::vec::Vec<u8> =
                (0..9).flat_map(|k| (0..outputs).flat_map(move |out| weight(out, k).to_le_bytes())).collect();
            let mut out: std::vec::Vec<f32> = (0..outputs).map(|o| o as f32 * 0.5).collect();
            add_rows(&bytes, &x, &mut out);
            for (o, value) in out.iter().enumerate() {
                let expected = (0..9).fold(o as f32 * 0.5, |sum, k| sum + weight(o, k) * x[k]);
                assert_eq!(value.to_bits(), expected.to_bits());
            }
        }
    }

    #[test]
    fn integers_are_rounded_to_the_nearest_and_never_leave_their_bound() {
        let mut out = [0i16; 8];
        quantise(&[0.0, 6.0, -6.0, 7.0, 1e30, -0.00009, 6.0 * 0.5 / 32_767.0], 6.0, &mut out);
        assert_eq!(out, [0, 32_767, -32_767, 32_767, 32_767, 0, 0, 0]);
    }
}
