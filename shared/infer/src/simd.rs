//! The kernel's hot loops in wide registers, with the bits of [`crate::kernel`]: AVX2 where the processor has it, else SSE2, on
//! ARM64 NEON, elsewhere the portable loops themselves.
//!
//! Outputs lie side by side in a matrix, so lanes are outputs and no sum is split: every lane multiplies, then adds, in the
//! portable order, and nothing is fused. The only unsafe code of this crate: pointers into slices whose lengths are checked at
//! the door, and instructions whose presence was asked for. `tests/simd.rs` compares every width with the portable loops.
#![cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(unsafe_code, reason = "wide loads from unaligned bytes")
)]

use crate::rescore::SIDE;

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

pub(crate) fn add_rows(rows: &[u8], inputs: &[f32], out: &mut [f32]) {
    add_rows_with(Width::best(), rows, inputs, out);
}

/// [`add_rows`] for several vectors, each weight loaded once for all.
pub(crate) fn add_rows_beside(rows: &[u8], inputs: [&[f32]; SIDE], out: [&mut [f32]; SIDE]) {
    add_rows_beside_with(Width::best(), rows, inputs, out);
}

pub(crate) fn add_pairs(pairs: &[u8], inputs: &[i16], scales: &[u8], step: f32, out: &mut [f32]) {
    add_pairs_with(Width::best(), pairs, inputs, scales, step, out);
}

pub(crate) fn cell(gates: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
    cell_with(Width::best(), gates, cell, hidden);
}

/// [`crate::kernel::add_rows`] in registers of this width; a width that this processor lacks becomes its best.
pub fn add_rows_with(width: Width, rows: &[u8], inputs: &[f32], out: &mut [f32]) {
    assert!(rows.len() >= 4 * inputs.len() * out.len(), "a row of weights per input");
    match admitted(width) {
        Width::Portable => crate::kernel::add_rows(rows, inputs, out),
        // SAFETY: the processor has the width's instructions (`admitted`), and there is a row per input (asserted).
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        Width::Half => unsafe { wide::add_rows::<half::Floats>(rows.as_ptr(), inputs, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Width::Full => unsafe { full::add_rows(rows.as_ptr(), inputs, out) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => crate::kernel::add_rows(rows, inputs, out),
    }
}

/// [`add_rows_with`] for several vectors of one length.
pub fn add_rows_beside_with(width: Width, rows: &[u8], inputs: [&[f32]; SIDE], out: [&mut [f32]; SIDE]) {
    let (count, size) = (inputs[0].len(), out[0].len());
    assert!(rows.len() >= 4 * count * size, "a row of weights per input");
    assert!(inputs.iter().all(|x| x.len() == count) && out.iter().all(|y| y.len() == size), "vectors of one length");
    match admitted(width) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has AVX2, the lengths were asserted.
        Width::Full => unsafe { full::add_rows_beside(rows.as_ptr(), inputs, out) },
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        // SAFETY: the processor has the width's instructions, the lengths were asserted.
        Width::Half => unsafe { wide::add_rows_beside::<half::Floats>(rows.as_ptr(), inputs, out) },
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
        Width::Half => unsafe { wide::add_pairs::<half::Floats>(pairs.as_ptr(), inputs, scales.as_ptr(), step, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Width::Full => unsafe { full::add_pairs(pairs.as_ptr(), inputs, scales.as_ptr(), step, out) },
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
        Width::Half => unsafe { wide::cell::<half::Floats>(gates, cell, hidden) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Width::Full => unsafe { full::cell(gates, cell, hidden) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => crate::kernel::cell(gates, cell, hidden),
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

/// The loops, over whatever register.
#[expect(
    clippy::needless_range_loop,
    reason = "constant indices keep the sums in registers, without closures in between"
)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod wide {
    use crate::{
        kernel::{P, Q, sigmoid, tanh},
        rescore::SIDE,
    };

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
    pub(super) unsafe fn add_rows_beside<V: Wide>(rows: *const u8, inputs: [&[f32]; SIDE], out: [&mut [f32]; SIDE]) {
        let (count, size) = (inputs[0].len(), out[0].len());
        let places = out.map(<[f32]>::as_mut_ptr);
        let mut at = 0;
        while at + 2 * V::LANES <= size {
            // SAFETY: two registers from `at` on lie within each output and each row; `k` counts inputs.
            unsafe {
                let mut sums = [[V::splat(0.0); 2]; SIDE];
                for s in 0..SIDE {
                    sums[s] = [V::load(places[s].add(at).cast()), V::load(places[s].add(at + V::LANES).cast())];
                }
                let mut weights = rows.add(4 * at);
                for k in 0..count {
                    let (first, second) = (V::load(weights), V::load(weights.add(4 * V::LANES)));
                    for s in 0..SIDE {
                        let value = V::splat(*inputs[s].get_unchecked(k));
                        sums[s] = [sums[s][0].add(first.mul(value)), sums[s][1].add(second.mul(value))];
                    }
                    weights = weights.wrapping_add(4 * size);
                }
                for s in 0..SIDE {
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

    /// # Safety
    /// The processor has `V`; `gates` holds four times as many values as `cell` and `hidden`.
    #[inline(always)]
    pub(super) unsafe fn cell<V: Wide>(gates: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
        let size = hidden.len();
        let mut at = 0;
        while at + V::LANES <= size {
            // SAFETY: a register from `at` on lies within each gate, cell and hidden.
            unsafe {
                let input = V::load(gates.as_ptr().add(at).cast());
                let forget = V::load(gates.as_ptr().add(size + at).cast());
                let candidate = V::load(gates.as_ptr().add(2 * size + at).cast());
                let output = V::load(gates.as_ptr().add(3 * size + at).cast());
                let place = cell.as_mut_ptr().add(at);
                let kept = wide_sigmoid(forget).mul(V::load(place.cast()));
                let next = kept.add(wide_sigmoid(input).mul(wide_tanh(candidate)));
                next.store(place);
                wide_sigmoid(output).mul(wide_tanh(next)).store(hidden.as_mut_ptr().add(at));
            }
            at += V::LANES;
        }
        for i in at..size {
            cell[i] = sigmoid(gates[size + i]) * cell[i] + sigmoid(gates[i]) * tanh(gates[2 * size + i]);
            hidden[i] = sigmoid(gates[3 * size + i]) * tanh(cell[i]);
        }
    }

    /// # Safety
    /// The processor has `V`.
    #[inline(always)]
    unsafe fn wide_tanh<V: Wide>(x: V) -> V {
        // SAFETY: as promised.
        unsafe {
            let x = x.clamp(-9.0, 9.0);
            let u = x.mul(x);
            x.mul(polynomial(P, u)).div(polynomial(Q, u)).clamp(-1.0, 1.0)
        }
    }

    /// # Safety
    /// The processor has `V`.
    #[inline(always)]
    unsafe fn polynomial<V: Wide>(c: [f32; 5], u: V) -> V {
        // SAFETY: as promised.
        unsafe {
            let sum = V::splat(c[4]).mul(u).add(V::splat(c[3]));
            let sum = sum.mul(u).add(V::splat(c[2]));
            let sum = sum.mul(u).add(V::splat(c[1]));
            sum.mul(u).add(V::splat(c[0]))
        }
    }

    /// # Safety
    /// The processor has `V`.
    #[inline(always)]
    unsafe fn wide_sigmoid<V: Wide>(x: V) -> V {
        // SAFETY: as promised.
        unsafe {
            let half = V::splat(0.5);
            half.mul(wide_tanh(half.mul(x))).add(half)
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod half {
    use core::arch::x86_64::*;

    use super::wide::Wide;

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
                _mm_add_epi32(sums, _mm_madd_epi16(words, _mm_set1_epi32(super::pair(a, b))))
            }
        }
        #[inline(always)]
        unsafe fn from_integers(integers: __m128i) -> Self {
            // SAFETY: SSE2 is always there.
            Self(unsafe { _mm_cvtepi32_ps(integers) })
        }
    }
}

/// Two 16-bit integers side by side, the first one low.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pair(a: i16, b: i16) -> i32 {
    i32::from(b) << 16 | i32::from(a as u16)
}

#[cfg(target_arch = "x86_64")]
mod full {
    use core::arch::x86_64::*;

    use super::wide::{self, Wide};
    use crate::rescore::SIDE;

    /// # Safety
    /// The processor has AVX2; else as [`wide::add_rows`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn add_rows(rows: *const u8, inputs: &[f32], out: &mut [f32]) {
        // SAFETY: as promised.
        unsafe { wide::add_rows::<Floats>(rows, inputs, out) }
    }

    /// # Safety
    /// The processor has AVX2; else as [`wide::add_rows_beside`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn add_rows_beside(rows: *const u8, inputs: [&[f32]; SIDE], out: [&mut [f32]; SIDE]) {
        // SAFETY: as promised.
        unsafe { wide::add_rows_beside::<Floats>(rows, inputs, out) }
    }

    /// # Safety
    /// The processor has AVX2; else as [`wide::add_pairs`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn add_pairs(pairs: *const u8, inputs: &[i16], scales: *const u8, step: f32, out: &mut [f32]) {
        // SAFETY: as promised.
        unsafe { wide::add_pairs::<Floats>(pairs, inputs, scales, step, out) }
    }

    /// # Safety
    /// The processor has AVX2; else as [`wide::cell`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn cell(gates: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
        // SAFETY: as promised.
        unsafe { wide::cell::<Floats>(gates, cell, hidden) }
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
                _mm256_add_epi32(sums, _mm256_madd_epi16(words, _mm256_set1_epi32(super::pair(a, b))))
            }
        }
        #[inline]
        #[target_feature(enable = "avx2")]
        unsafe fn from_integers(integers: __m256i) -> Self {
            Self(_mm256_cvtepi32_ps(integers))
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod half {
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
}
