//! The two operations that the compiler does not put into lanes by itself: square roots (without `std`) and a transposition.
//!
//! IEEE 754 rounds a square root correctly, and a transposition only moves values, so the vector unit gives the same bits as scalar
//! code (F1).

/// The square root of each value.
#[inline(always)]
pub(crate) fn sqrt(values: [f32; 8]) -> [f32; 8] {
    let [a, b, c, d, e, f, g, h] = values;
    let (low, high) = (sqrt_4([a, b, c, d]), sqrt_4([e, f, g, h]));
    [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
}

/// The square root of each value, in place.
pub(crate) fn sqrt_all(values: &mut [f32]) {
    let (chunks, rest) = values.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = sqrt(*chunk);
    }
    for x in rest {
        *x = libm::sqrtf(*x);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(unsafe_code, reason = "vector instructions, and no safe way from a vector to an array")]
fn sqrt_4(x: [f32; 4]) -> [f32; 4] {
    use core::arch::x86_64::{__m128, _mm_set_ps, _mm_sqrt_ps};
    // SAFETY: every x86-64 has SSE2; a vector and an array are both 16 bytes of four f32 in the same order.
    unsafe {
        let roots = _mm_sqrt_ps(_mm_set_ps(x[3], x[2], x[1], x[0]));
        core::mem::transmute::<__m128, [f32; 4]>(roots)
    }
}

/// Four rows of four to four columns.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(unsafe_code, reason = "vector instructions, and no safe way from a vector to an array")]
pub(crate) fn transpose(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    use core::arch::x86_64::{__m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};
    // SAFETY: every x86-64 has SSE; a vector and an array are both 16 bytes of four f32 in the same order.
    unsafe {
        let [a, b, c, d] = core::mem::transmute::<[[f32; 4]; 4], [__m128; 4]>(rows);
        let (low_ab, high_ab) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
        let (low_cd, high_cd) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
        core::mem::transmute::<[__m128; 4], [[f32; 4]; 4]>([
            _mm_movelh_ps(low_ab, low_cd),
            _mm_movehl_ps(low_cd, low_ab),
            _mm_movelh_ps(high_ab, high_cd),
            _mm_movehl_ps(high_cd, high_ab),
        ])
    }
}

/// Four rows of four to four columns.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn transpose(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    core::array::from_fn(|j| core::array::from_fn(|i| rows[i][j]))
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn sqrt_4(x: [f32; 4]) -> [f32; 4] {
    [libm::sqrtf(x[0]), libm::sqrtf(x[1]), libm::sqrtf(x[2]), libm::sqrtf(x[3])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposition_moves_rows_to_columns() {
        let rows = core::array::from_fn(|i| core::array::from_fn(|j| (4 * i + j) as f32));
        let columns = transpose(rows);
        for (i, row) in rows.iter().enumerate() {
            for (j, x) in row.iter().enumerate() {
                assert_eq!(columns[j][i], *x);
            }
        }
    }

    #[test]
    fn roots_in_lanes_have_the_bits_of_libm() {
        let mut bits = 1u32;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let values = core::array::from_fn(|i| f32::from_bits(bits.rotate_left(i as u32) >> 1));
            for (root, x) in sqrt(values).into_iter().zip(values) {
                let expected = libm::sqrtf(x);
                assert!(root.to_bits() == expected.to_bits() || x.is_nan() && root.is_nan(), "{x}");
            }
        }
    }
}
