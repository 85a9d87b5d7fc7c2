//! What the compiler does not do by itself: wider lanes where the processor has them, square roots (without `std`), a transposition.
//!
//! IEEE 754 rounds a square root correctly, a transposition only moves values, and the wider lanes do the same operations on more
//! values at a time without ever joining a product and a sum, so every path gives the same bits as scalar code (F1).

/// A piece of work that gains from wider lanes: it works on `N` neighbours at a time, which changes no bit.
pub(crate) trait Work {
    /// What comes out.
    type Out;

    /// Does it. Inlined, with all that it calls, so that the lanes of the caller hold inside.
    fn run<const N: usize>(self) -> Self::Out;
}

/// Does the work in the widest lanes that the processor has: eight with AVX2, otherwise the four that every x86-64 has.
#[inline(always)]
pub(crate) fn widest<W: Work>(work: W) -> W::Out {
    #[cfg(target_arch = "x86_64")]
    if avx2::is_there() {
        return avx2::run(work);
    }
    work.run::<4>()
}

/// AVX2, asked for at run time: the build is for every x86-64.
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2 {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    use core::sync::atomic::{AtomicU8, Ordering};

    use super::Work;

    /// Has this processor AVX2, and does the system keep its registers? Asked once: the question takes longer than some answers.
    #[inline(always)]
    pub(crate) fn is_there() -> bool {
        match KNOWN.load(Ordering::Relaxed) {
            UNKNOWN => ask(),
            known => known == YES,
        }
    }

    /// Does the work compiled for AVX2; only after [`is_there`].
    #[inline(always)]
    #[expect(unsafe_code, reason = "code for instructions that not every processor has")]
    pub(super) fn run<W: Work>(work: W) -> W::Out {
        debug_assert!(is_there());
        // SAFETY: the only caller has just seen that processor and system have AVX2.
        unsafe { compiled(work) }
    }

    #[target_feature(enable = "avx2")]
    fn compiled<W: Work>(work: W) -> W::Out {
        work.run::<8>()
    }

    #[cold]
    fn ask() -> bool {
        let is_there = detect();
        KNOWN.store(if is_there { YES } else { NO }, Ordering::Relaxed);
        is_there
    }

    /// As Intel's manual (volume 1, 14.3 and 14.7) has it: the instructions, and the system's word that it keeps both register halves.
    fn detect() -> bool {
        let has = |register: u32, bits: u32| register & bits == bits;
        if __cpuid(0).eax < 7 || !has(__cpuid(1).ecx, OSXSAVE | AVX) {
            return false;
        }
        has(kept_registers(), SSE_STATE | AVX_STATE) && has(__cpuid_count(7, 0).ebx, AVX2)
    }

    #[expect(unsafe_code, reason = "an instruction that not every processor has")]
    fn kept_registers() -> u32 {
        #[target_feature(enable = "xsave")]
        fn read() -> u64 {
            // SAFETY: register 0 exists wherever the instruction does.
            unsafe { _xgetbv(0) }
        }
        // SAFETY: the only caller has seen OSXSAVE, which says that the instruction may be used.
        let low = unsafe { read() };
        low as u32
    }

    static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN);
    const UNKNOWN: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    const OSXSAVE: u32 = 1 << 27;
    const AVX: u32 = 1 << 28;
    const AVX2: u32 = 1 << 5;
    const SSE_STATE: u32 = 1 << 1;
    const AVX_STATE: u32 = 1 << 2;

    /// Tests: as on a processor without (`true`), or as it is. Other tests may run meanwhile: no bit depends on it.
    #[cfg(test)]
    pub(crate) fn forbid(forbidden: bool) {
        KNOWN.store(if forbidden { NO } else { UNKNOWN }, Ordering::Relaxed);
    }
}

/// Eight running sums. The compiler may keep lanes of its own in any order and pays for it with every load; these stay in order.
#[derive(Clone, Copy)]
pub(crate) struct Sums(Kept);

#[cfg(target_arch = "x86_64")]
type Kept = [core::arch::x86_64::__m128; 2];
#[cfg(not(target_arch = "x86_64"))]
type Kept = [f32; 8];

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions, and no safe way between a vector and an array")]
impl Sums {
    /// All zero.
    #[inline(always)]
    pub(crate) fn zero() -> Self {
        // SAFETY: every x86-64 has SSE; two vectors and an array are both 32 bytes of eight f32 in the same order.
        Self(unsafe { core::mem::transmute::<[f32; 8], Kept>([0.0; 8]) })
    }

    /// Adds `K` terms of each lane to the lane of `K` sums.
    #[expect(clippy::needless_range_loop, reason = "lanes go by number, whichever of the arrays they are in")]
    #[inline(always)]
    pub(crate) fn add_all<const K: usize>(sums: &mut [Self; K], f: impl Fn(usize) -> [f32; K]) {
        let mut terms = [[0.0f32; 8]; K];
        for j in 0..8 {
            let each = f(j);
            for k in 0..K {
                terms[k][j] = each[k];
            }
        }
        for k in 0..K {
            sums[k].add(terms[k]);
        }
    }

    #[inline(always)]
    fn add(&mut self, terms: [f32; 8]) {
        use core::arch::x86_64::_mm_add_ps;
        // SAFETY: as above.
        unsafe {
            let [low, high] = core::mem::transmute::<[f32; 8], Kept>(terms);
            self.0 = [_mm_add_ps(self.0[0], low), _mm_add_ps(self.0[1], high)];
        }
    }

    /// Each of them.
    #[inline(always)]
    pub(crate) fn lanes(self) -> [f32; 8] {
        // SAFETY: as above.
        unsafe { core::mem::transmute::<Kept, [f32; 8]>(self.0) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Sums {
    /// All zero.
    #[inline(always)]
    pub(crate) fn zero() -> Self {
        Self([0.0; 8])
    }

    /// Adds `K` terms of each lane to the lane of `K` sums.
    #[inline(always)]
    pub(crate) fn add_all<const K: usize>(sums: &mut [Self; K], f: impl Fn(usize) -> [f32; K]) {
        for j in 0..8 {
            let each = f(j);
            for k in 0..K {
                sums[k].0[j] += each[k];
            }
        }
    }

    /// Each of them.
    #[inline(always)]
    pub(crate) fn lanes(self) -> [f32; 8] {
        self.0
    }
}

/// The square root of each value.
#[inline(always)]
pub(crate) fn sqrt(values: [f32; 8]) -> [f32; 8] {
    let [a, b, c, d, e, f, g, h] = values;
    let (low, high) = (sqrt_4([a, b, c, d]), sqrt_4([e, f, g, h]));
    [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
}

/// The square root of each value, in place.
#[inline(always)]
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

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn wider_lanes_change_no_bit() {
        use crate::extract::{self, Vibration, VibrationSetup};
        use crate::{bearing::Orders, fft};
        use kilter_types::{Hertz, Rpm};
        use std::{println, vec, vec::Vec};

        if !avx2::is_there() {
            println!("not run: 1 (the processor has no AVX2)");
            return;
        }
        let bearing = Orders::catalogue("6205").expect("built in");
        let mut state = 1u32;
        // Odd numbers of blocks, all radices, and lengths that leave a rest in every pass.
        for len in [16, 48, 64, 100, 144, 240, 400, 720, 960, 1024, 1536, 2048, 2500, 3200, 4096, 12_000, 12_800] {
            let samples: Vec<f32> = (0..len)
                .map(|i| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as f32 / (1 << 23) as f32 - 1.0 + if i % 119 < 9 { 3.0 } else { 0.0 }
                })
                .collect();
            let setup = VibrationSetup::new(Hertz(12_800.0)).expect("a sound rate");
            let setup = setup.with_shaft(Rpm(1797.0)).with_bearing(bearing);
            for table in [fft::table_len(len), fft::fast_table_len(len)] {
                let plan = fft::Plan::new(len, vec![0.0; table]).expect("supported");
                let [narrow, wide] = [true, false].map(|forbidden| {
                    avx2::forbid(forbidden);
                    let mut scratch = vec![0.0; extract::scratch_len(len)];
                    let mut out = Vibration::default();
                    let spectra = extract::vibration(&samples, &setup, &plan, &mut scratch, &mut out).expect("it fits");
                    let lines = spectra.acceleration.lines.iter().chain(spectra.envelope.lines);
                    let bits: Vec<u32> = lines.chain(&out.values).map(|x| x.to_bits()).collect();
                    (bits, out.valid)
                });
                assert!(narrow == wide, "length {len}, table of {table}");
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
