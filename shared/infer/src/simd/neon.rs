//! Four floats in a register of NEON, which belongs to every ARM64 target that is built.

use core::arch::aarch64::*;

use super::wide::Wide;

/// Four floats.
#[derive(Clone, Copy)]
pub(super) struct Floats(float32x4_t);

// SAFETY of the impl: NEON belongs to every ARM64 target that is built; loads and stores need no alignment.
impl Wide for Floats {
    const LANES: usize = 4;
    type Integers = int32x4_t;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: NEON is there.
        Self(unsafe { vdupq_n_f32(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller vouches for 16 bytes.
        Self(unsafe { vreinterpretq_f32_u8(vld1q_u8(from)) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for 16 bytes.
        unsafe { vst1q_f32(to, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: NEON is there.
        Self(unsafe { vaddq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: NEON is there.
        Self(unsafe { vmulq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: NEON is there.
        Self(unsafe { vdivq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn clamp(self, low: f32, high: f32) -> Self {
        // SAFETY: NEON is there.
        Self(unsafe { vminq_f32(vdupq_n_f32(high), vmaxq_f32(vdupq_n_f32(low), self.0)) })
    }
    #[inline(always)]
    unsafe fn zero_integers() -> int32x4_t {
        // SAFETY: NEON is there.
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn add_pair(sums: int32x4_t, from: *const u8, a: i16, b: i16) -> int32x4_t {
        // SAFETY: the caller vouches for 8 bytes; NEON is there.
        unsafe {
            let words = vmovl_s8(vreinterpret_s8_u8(vld1_u8(from)));
            let pair = vreinterpretq_s16_u32(vdupq_n_u32(u32::from(b as u16) << 16 | u32::from(a as u16)));
            let low = vmull_s16(vget_low_s16(words), vget_low_s16(pair));
            let high = vmull_high_s16(words, pair);
            vaddq_s32(sums, vpaddq_s32(low, high))
        }
    }
    #[inline(always)]
    unsafe fn from_integers(integers: int32x4_t) -> Self {
        // SAFETY: NEON is there.
        Self(unsafe { vcvtq_f32_s32(integers) })
    }
}
