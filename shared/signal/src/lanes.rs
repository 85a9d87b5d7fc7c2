//! Sums in eight fixed lanes with a fixed reduction tree, so that every target adds in the same order (F1).
//!
//! Item `i` goes to lane `i mod 8`; the lanes meet as `((0+4)+(2+6)) + ((1+5)+(3+7))`. A vector unit of 4 or 8 lanes adds
//! in exactly this order, and so does a scalar core.

use crate::simd::Sums;

/// How many lanes.
pub const LANES: usize = 8;

/// The sum of `f(x)` over all values.
#[inline(always)]
pub fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let [total] = sums(values, |x| [f(x)]);
    total
}

/// `K` sums in one pass over the values.
#[inline(always)]
pub fn sums<const K: usize>(values: &[f32], f: impl Fn(f32) -> [f32; K]) -> [f32; K] {
    let mut sums = [Sums::zero(); K];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        Sums::add_all(&mut sums, |j| f(chunk[j]));
    }
    let mut lanes = sums.map(Sums::lanes);
    for (j, &x) in rest.iter().enumerate() {
        let terms = f(x);
        for k in 0..K {
            lanes[k][j] += terms[k];
        }
    }
    lanes.map(reduce)
}

/// `K` sums of terms that also depend on the value's place.
#[inline(always)]
pub fn sums_at<const K: usize>(values: &[f32], f: impl Fn(f32, f32) -> [f32; K]) -> [f32; K] {
    let mut sums = [Sums::zero(); K];
    let (chunks, rest) = values.as_chunks::<LANES>();
    // Places are whole numbers below 2^24, so counting in f32 is exact.
    let mut places: [f32; LANES] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
    for chunk in chunks {
        Sums::add_all(&mut sums, |j| f(places[j], chunk[j]));
        for place in &mut places {
            *place += LANES as f32;
        }
    }
    let mut lanes = sums.map(Sums::lanes);
    for (j, &x) in rest.iter().enumerate() {
        let terms = f(places[j], x);
        for k in 0..K {
            lanes[k][j] += terms[k];
        }
    }
    lanes.map(reduce)
}

/// Least and greatest value; `(0, 0)` of nothing.
pub fn min_max(values: &[f32]) -> (f32, f32) {
    let Some(&first) = values.first() else {
        return (0.0, 0.0);
    };
    let (mut low, mut high) = ([first; LANES], [first; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    // One comparison per loop: with both in one, the compiler leaves the lanes.
    for chunk in chunks {
        for j in 0..LANES {
            low[j] = if chunk[j] < low[j] { chunk[j] } else { low[j] };
        }
    }
    for chunk in chunks {
        for j in 0..LANES {
            high[j] = if chunk[j] > high[j] { chunk[j] } else { high[j] };
        }
    }
    for &x in rest {
        low[0] = f32::min(low[0], x);
        high[0] = f32::max(high[0], x);
    }
    (low.into_iter().fold(first, f32::min), high.into_iter().fold(first, f32::max))
}

/// Are all values finite?
pub fn all_finite(values: &[f32]) -> bool {
    // An exponent of all ones means NaN or infinity; no early exit, so that it runs in lanes.
    let bad = values.iter().fold(0u32, |bad, x| bad | u32::from(x.to_bits() & EXPONENT == EXPONENT));
    bad == 0
}

/// The fixed tree.
pub fn reduce(l: [f32; LANES]) -> f32 {
    ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

const EXPONENT: u32 = 0x7f80_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_addition_is_the_stated_one() {
        let values: [f32; 11] = core::array::from_fn(|i| 1.0 / (i as f32 + 3.0));
        let mut lanes = [0.0f32; 8];
        for (i, x) in values.iter().enumerate() {
            lanes[i % 8] += x;
        }
        let expected =
            ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
        assert_eq!(sum(&values, |x| x).to_bits(), expected.to_bits());
    }

    #[test]
    fn extremes_and_finiteness_see_every_value() {
        let mut values = [1.0f32; 19];
        values[18] = -4.0;
        values[8] = 7.0;
        assert_eq!(min_max(&values), (-4.0, 7.0));
        assert!(all_finite(&values));
        values[17] = f32::NAN;
        assert!(!all_finite(&values));
    }
}
