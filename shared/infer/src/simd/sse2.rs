//! Four floats in a register of SSE2, which belongs to every x86-64.

use core::arch::x86_64::*;

use super::wide::{Wide, pair};

/// Four floats.
#[derive(Clone, Copy)]
pub(super) struct Floats(__m128);

// SAFETY of the impl: SSE2 belongs to every x86-64; loads and stores are the unaligned ones.
impl Wide for Floats {
    const LANES: usize = 4;
    type Integers = __m128i;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: SSE is always there.
        Self(unsafe { _mm_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller vouches for 16 bytes.
        Self(unsafe { _mm_loadu_ps(from.cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for 16 bytes.
        unsafe { _mm_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: SSE is always there.
        Self(unsafe { _mm_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: SSE is always there.
        Self(unsafe { _mm_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: SSE is always there.
        Self(unsafe { _mm_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn clamp(self, low: f32, high: f32) -> Self {
        // SAFETY: SSE is always there. The second operand wins where neither is greater.
        Self(unsafe { _mm_min_ps(_mm_set1_ps(high), _mm_max_ps(_mm_set1_ps(low), self.0)) })
    }
    #[inline(always)]
    unsafe fn zero_integers() -> __m128i {
        // SAFETY: SSE2 is always there.
        unsafe { _mm_setzero_si128() }
    }
    #[inline(always)]
    unsafe fn add_pair(sums: __m128i, from: *const u8, a: i16, b: i16) -> __m128i {
        // SAFETY: the caller vouches for 8 bytes; SSE2 is always there.
        unsafe {
            let bytes = _mm_loadl_epi64(from.cast());
            let words = _mm_srai_epi16::<8>(_mm_unpacklo_epi8(bytes, bytes));
            _mm_add_epi32(sums, _mm_madd_epi16(words, _mm_set1_epi32(pair(a, b))))
        }
    }
    #[inline(always)]
    unsafe fn from_integers(integers: __m128i) -> Self {
        // SAFETY: SSE2 is always there.
        Self(unsafe { _mm_cvtepi32_ps(integers) })
    }
}
