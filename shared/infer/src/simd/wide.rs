//! A register of floats, whatever its width.

/// A register of floats, and the one of 32-bit integers that goes with it.
///
/// Every operation is rounded once, lane by lane, as the scalar one is.
pub(super) trait Wide: Copy {
    /// Floats in the register.
    const LANES: usize;
    /// As many integers.
    type Integers: Copy;
    // SAFETY of all of them: the processor has the register; pointers lead to `LANES` values of their kind.
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const u8) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// Within these, which are neither NaN nor 0.
    unsafe fn clamp(self, low: f32, high: f32) -> Self;
    unsafe fn zero_integers() -> Self::Integers;
    /// `sums + a * w[2 i] + b * w[2 i + 1]` for each lane `i`; `from` leads to `2 LANES` signed bytes.
    unsafe fn add_pair(sums: Self::Integers, from: *const u8, a: i16, b: i16) -> Self::Integers;
    unsafe fn from_integers(integers: Self::Integers) -> Self;
}

/// Two 16-bit integers side by side, the first one low.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn pair(a: i16, b: i16) -> i32 {
    i32::from(b) << 16 | i32::from(a as u16)
}
