//! A whole transform as work for the widest lanes: the passes in order, and the separation of even and odd samples after them.

use super::{
    Complex,
    pass::{self, Roots},
};
use crate::simd;

/// The passes over `len` complex points.
pub(super) struct Transform<'a, 'd> {
    pub(super) roots: Roots<'a>,
    pub(super) len: usize,
    pub(super) data: Complex<'d>,
    pub(super) work: Complex<'d>,
}

impl simd::Work for Transform<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<const N: usize>(self) {
        let Self { roots, len, mut data, mut work } = self;
        let mut rest = len;
        let mut width = 1;
        let mut in_data = true;
        while rest > 1 {
            let radix = pass::next_radix(rest);
            rest /= radix;
            let (x, y) = if in_data { (data.reborrow(), work.reborrow()) } else { (work.reborrow(), data.reborrow()) };
            match radix {
                4 if width == 1 => pass::first_4::<N>(&roots, rest, x, y),
                4 => pass::pass_4::<N>(&roots, rest, width, x, y),
                2 => pass::pass_2(&roots, rest, width, x, y),
                3 => pass::pass_3(&roots, rest, width, x, y),
                _ => pass::pass_5(&roots, rest, width, x, y),
            }
            width *= radix;
            in_data = !in_data;
        }
        if !in_data {
            data.re[..len].copy_from_slice(&work.re[..len]);
            data.im[..len].copy_from_slice(&work.im[..len]);
        }
    }
}

/// Separates the spectra of even and odd samples, line by line with its mirror.
pub(super) struct Separate<'a, 'd> {
    pub(super) root_re: &'a [f32],
    pub(super) root_im: &'a [f32],
    pub(super) stride: usize,
    pub(super) re: &'d mut [f32],
    pub(super) im: &'d mut [f32],
}

impl simd::Work for Separate<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<const N: usize>(self) {
        let Self { root_re, root_im, stride, re, im } = self;
        let half = re.len();
        let (r0, i0) = (re[0], im[0]);
        re[0] = r0 + i0;
        im[0] = r0 - i0;
        let middle = half.div_ceil(2);
        let (low_re, high_re) = re[1..].split_at_mut(middle - 1);
        let (low_im, high_im) = im[1..].split_at_mut(middle - 1);
        // Line k with its mirror half - k, some at a time and then one by one.
        let (some_re, low_re) = low_re.as_chunks_mut::<N>();
        let (some_im, low_im) = low_im.as_chunks_mut::<N>();
        let (high_re, mirrors_re) = high_re.as_rchunks_mut::<N>();
        let (high_im, mirrors_im) = high_im.as_rchunks_mut::<N>();
        let done = N * some_re.len();
        let lows = some_re.iter_mut().zip(some_im);
        let mirrors = mirrors_re.iter_mut().rev().zip(mirrors_im.iter_mut().rev());
        for (i, (low, high)) in lows.zip(mirrors).enumerate() {
            let from = 1 + N * i;
            let w = if N > 4 && stride == 1 {
                (pass::lanes::<N>(root_re, from), pass::lanes::<N>(root_im, from))
            } else {
                let (mut w_re, mut w_im) = ([0.0; N], [0.0; N]);
                for j in 0..N {
                    (w_re[j], w_im[j]) = (root_re[(from + j) * stride], root_im[(from + j) * stride]);
                }
                (w_re, w_im)
            };
            pass::split_some(low, high, w);
        }
        let left = mirrors_re.len() * N - done;
        let (rest_re, rest_im) = (mirrors_re.as_flattened_mut(), mirrors_im.as_flattened_mut());
        let rest_re = rest_re[..left].iter_mut().rev().chain(high_re.iter_mut().rev());
        let rest_im = rest_im[..left].iter_mut().rev().chain(high_im.iter_mut().rev());
        let rests = low_re.iter_mut().zip(low_im).zip(rest_re.zip(rest_im));
        for (i, (low, high)) in rests.enumerate() {
            let root = (1 + done + i) * stride;
            pass::split(low, high, (root_re[root], root_im[root]));
        }
        if half.is_multiple_of(2) {
            im[half / 2] = -im[half / 2];
        }
    }
}
