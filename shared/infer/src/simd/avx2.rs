//! Eight floats in a register of AVX2, and the loops compiled for it: whoever calls them has asked for it.

use core::arch::x86_64::*;

use super::{
    ABREAST, Step, lstm, pairs, rows,
    wide::{Wide, pair},
};

/// # Safety
/// The processor has AVX2; else as [`rows::add_rows`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn add_rows(rows: *const u8, inputs: &[f32], out: &mut [f32]) {
    // SAFETY: as promised.
    unsafe { rows::add_rows::<Floats>(rows, inputs, out) }
}

/// # Safety
/// The processor has AVX2; else as [`rows::add_rows_beside`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn add_rows_beside(rows: *const u8, inputs: [&[f32]; ABREAST], out: [&mut [f32]; ABREAST]) {
    // SAFETY: as promised.
    unsafe { rows::add_rows_beside::<Floats>(rows, inputs, out) }
}

/// # Safety
/// The processor has AVX2; else as [`pairs::add_pairs`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn add_pairs(pairs: *const u8, inputs: &[i16], scales: *const u8, step: f32, out: &mut [f32]) {
    // SAFETY: as promised.
    unsafe { pairs::add_pairs::<Floats>(pairs, inputs, scales, step, out) }
}

/// # Safety
/// The processor has AVX2; else as [`lstm::cell`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn cell(gates: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
    // SAFETY: as promised.
    unsafe { lstm::cell::<Floats>(gates, cell, hidden) }
}

/// # Safety
/// The processor has AVX2; else as [`lstm::step`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn step(step: &Step<'_>, cell: &mut [f32], next: &mut [f32]) {
    // SAFETY: as promised.
    unsafe { lstm::step::<Floats>(step, cell, next) }
}

/// Eight floats.
#[derive(Clone, Copy)]
struct Floats(__m256);

// SAFETY of the impl: only the functions above use it, and their callers vouch for AVX2.
impl Wide for Floats {
    const LANES: usize = 8;
    type Integers = __m256i;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn splat(value: f32) -> Self {
        Self(_mm256_set1_ps(value))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller vouches for 32 bytes.
        Self(unsafe { _mm256_loadu_ps(from.cast()) })
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for 32 bytes.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn add(self, other: Self) -> Self {
        Self(_mm256_add_ps(self.0, other.0))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn mul(self, other: Self) -> Self {
        Self(_mm256_mul_ps(self.0, other.0))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn div(self, other: Self) -> Self {
        Self(_mm256_div_ps(self.0, other.0))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn clamp(self, low: f32, high: f32) -> Self {
        // The second operand wins where neither is greater.
        Self(_mm256_min_ps(_mm256_set1_ps(high), _mm256_max_ps(_mm256_set1_ps(low), self.0)))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn zero_integers() -> __m256i {
        _mm256_setzero_si256()
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn add_pair(sums: __m256i, from: *const u8, a: i16, b: i16) -> __m256i {
        // SAFETY: the caller vouches for 16 bytes; AVX2 is there.
        unsafe {
            let words = _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast()));
            _mm256_add_epi32(sums, _mm256_madd_epi16(words, _mm256_set1_epi32(pair(a, b))))
        }
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn from_integers(integers: __m256i) -> Self {
        Self(_mm256_cvtepi32_ps(integers))
    }
}
