//! The passes of the transform: one butterfly per radix, the loops around them, and the factors they read.
//!
//! A pass reads `radix` blocks of `blocks * width` values and writes them interleaved by `width` (Stockham). Radix 4 comes
//! first and runs four or eight butterflies at a time; the odd radices come last, where `width` is long.

use super::Complex;
use crate::simd;

/// Roots of unity of the current transform, read from the plan's table with a stride.
pub(super) struct Roots<'a> {
    pub(super) re: &'a [f32],
    pub(super) im: &'a [f32],
    pub(super) stride: usize,
    /// Factors of the first pass in reading order: for each of three the real parts, then the imaginary ones.
    pub(super) first: Option<&'a [f32]>,
}

impl Roots<'_> {
    /// Roots from `j` on, `step` apart.
    #[inline(always)]
    fn lanes<const N: usize>(&self, j: usize, step: usize) -> (Lanes<N>, Lanes<N>) {
        let (mut re, mut im) = ([0.0; N], [0.0; N]);
        for i in 0..N {
            (re[i], im[i]) = self.at(j + i * step);
        }
        (re, im)
    }

    /// The root at `j` four times, then the one `step` further on four times.
    #[inline(always)]
    fn beside(&self, j: usize, step: usize) -> (Lanes<8>, Lanes<8>) {
        let (a, b) = (self.at(j), self.at(j + step));
        let beside = |a: f32, b: f32| [a, a, a, a, b, b, b, b];
        (beside(a.0, b.0), beside(a.1, b.1))
    }

    /// `exp(-2*pi*i*j/len)` for `j < len`; the second half is the first one negated.
    #[inline(always)]
    pub(super) fn at(&self, j: usize) -> (f32, f32) {
        let j = j * self.stride;
        match self.re.get(j) {
            Some(&re) => (re, self.im[j]),
            None => {
                let j = j - self.re.len();
                (-self.re[j], -self.im[j])
            }
        }
    }
}

pub(super) fn next_radix(rest: usize) -> usize {
    match rest {
        _ if rest.is_multiple_of(4) => 4,
        _ if rest.is_multiple_of(2) => 2,
        _ if rest.is_multiple_of(3) => 3,
        _ => 5,
    }
}

#[inline(always)]
fn mul(a: (f32, f32), w: (f32, f32)) -> (f32, f32) {
    (a.0 * w.0 - a.1 * w.1, a.0 * w.1 + a.1 * w.0)
}

#[inline(always)]
fn butterfly_4(a: [(f32, f32); 4], w: &[(f32, f32); 3]) -> [(f32, f32); 4] {
    let (sum_ac, dif_ac) = ((a[0].0 + a[2].0, a[0].1 + a[2].1), (a[0].0 - a[2].0, a[0].1 - a[2].1));
    let (sum_bd, dif_bd) = ((a[1].0 + a[3].0, a[1].1 + a[3].1), (a[1].0 - a[3].0, a[1].1 - a[3].1));
    [
        (sum_ac.0 + sum_bd.0, sum_ac.1 + sum_bd.1),
        mul((dif_ac.0 + dif_bd.1, dif_ac.1 - dif_bd.0), w[0]),
        mul((sum_ac.0 - sum_bd.0, sum_ac.1 - sum_bd.1), w[1]),
        mul((dif_ac.0 - dif_bd.1, dif_ac.1 + dif_bd.0), w[2]),
    ]
}

/// Neighbours at a time: what a vector unit does, four or eight of them.
type Lanes<const N: usize> = [f32; N];

#[inline(always)]
fn zip<const N: usize>(a: Lanes<N>, b: Lanes<N>, f: impl Fn(f32, f32) -> f32) -> Lanes<N> {
    let mut c = a;
    if N == 4 {
        // Spelt out, so that small code unrolls it too.
        (c[0], c[1], c[2], c[3]) = (f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3]));
    } else {
        for i in 0..N {
            c[i] = f(a[i], b[i]);
        }
    }
    c
}

#[inline(always)]
fn add<const N: usize>(a: Lanes<N>, b: Lanes<N>) -> Lanes<N> {
    zip(a, b, |a, b| a + b)
}

#[inline(always)]
fn sub<const N: usize>(a: Lanes<N>, b: Lanes<N>) -> Lanes<N> {
    zip(a, b, |a, b| a - b)
}

#[inline(always)]
fn turn<const N: usize>(a: (Lanes<N>, Lanes<N>), w: (Lanes<N>, Lanes<N>)) -> (Lanes<N>, Lanes<N>) {
    let times = |a, b| zip(a, b, |a, b| a * b);
    (sub(times(a.0, w.0), times(a.1, w.1)), add(times(a.0, w.1), times(a.1, w.0)))
}

/// `N` butterflies of radix 4, with the twiddle factors of each.
#[inline(always)]
fn butterflies_4<const N: usize>(
    re: [Lanes<N>; 4],
    im: [Lanes<N>; 4],
    w: &[(Lanes<N>, Lanes<N>); 3],
) -> [(Lanes<N>, Lanes<N>); 4] {
    let (sum_ac, dif_ac) = ((add(re[0], re[2]), add(im[0], im[2])), (sub(re[0], re[2]), sub(im[0], im[2])));
    let (sum_bd, dif_bd) = ((add(re[1], re[3]), add(im[1], im[3])), (sub(re[1], re[3]), sub(im[1], im[3])));
    [
        (add(sum_ac.0, sum_bd.0), add(sum_ac.1, sum_bd.1)),
        turn((add(dif_ac.0, dif_bd.1), sub(dif_ac.1, dif_bd.0)), w[0]),
        turn((sub(sum_ac.0, sum_bd.0), sub(sum_ac.1, sum_bd.1)), w[1]),
        turn((sub(dif_ac.0, dif_bd.1), add(dif_ac.1, dif_bd.0)), w[2]),
    ]
}

/// The first pass of radix 4: width 1, so the loop runs over the blocks, `N` at a time.
#[inline(always)]
pub(super) fn first_4<const N: usize>(roots: &Roots<'_>, blocks: usize, x: Complex<'_>, y: Complex<'_>) {
    let re: [&[f32]; 4] = core::array::from_fn(|k| &x.re[k * blocks..][..blocks]);
    let im: [&[f32]; 4] = core::array::from_fn(|k| &x.im[k * blocks..][..blocks]);
    let (y_re, _) = y.re[..4 * blocks].as_chunks_mut::<4>();
    let (y_im, _) = y.im[..4 * blocks].as_chunks_mut::<4>();
    let (y_re, rest_re) = y_re.as_chunks_mut::<N>();
    let (y_im, rest_im) = y_im.as_chunks_mut::<N>();
    for (i, (y_re, y_im)) in y_re.iter_mut().zip(y_im).enumerate() {
        let p = N * i;
        let w = match roots.first {
            Some(first) => {
                let read = |k: usize| lanes(first, k * blocks + p);
                [(read(0), read(1)), (read(2), read(3)), (read(4), read(5))]
            }
            None => [roots.lanes(p, 1), roots.lanes(2 * p, 2), roots.lanes(3 * p, 3)],
        };
        let re = [lanes(re[0], p), lanes(re[1], p), lanes(re[2], p), lanes(re[3], p)];
        let im = [lanes(im[0], p), lanes(im[1], p), lanes(im[2], p), lanes(im[3], p)];
        let b = butterflies_4::<N>(re, im, &w);
        for (four, (y_re, y_im)) in y_re.as_chunks_mut::<4>().0.iter_mut().zip(y_im.as_chunks_mut::<4>().0).enumerate()
        {
            *y_re = simd::transpose(b.map(|b| lanes(&b.0, 4 * four)));
            *y_im = simd::transpose(b.map(|b| lanes(&b.1, 4 * four)));
        }
    }
    let done = blocks - rest_re.len();
    for (i, (y_re, y_im)) in rest_re.iter_mut().zip(rest_im).enumerate() {
        let p = done + i;
        let w = [roots.at(p), roots.at(2 * p), roots.at(3 * p)];
        let b = butterfly_4(core::array::from_fn(|k| (re[k][p], im[k][p])), &w);
        *y_re = b.map(|b| b.0);
        *y_im = b.map(|b| b.1);
    }
}

/// Later passes of radix 4: the width is a multiple of four.
#[inline(always)]
pub(super) fn pass_4<const N: usize>(roots: &Roots<'_>, blocks: usize, width: usize, x: Complex<'_>, y: Complex<'_>) {
    if N == 4 || width.is_multiple_of(N) {
        long_4::<N>(roots, blocks, width, x, y);
    } else if blocks.is_multiple_of(2) {
        short_4(roots, blocks, x, y);
    } else {
        long_4::<4>(roots, blocks, width, x, y);
    }
}

/// The width is a multiple of `N`.
#[inline(always)]
fn long_4<const N: usize>(roots: &Roots<'_>, blocks: usize, width: usize, x: Complex<'_>, y: Complex<'_>) {
    let quarter = blocks * width;
    for p in 0..blocks {
        let w = [splat(roots.at(p * width)), splat(roots.at(2 * p * width)), splat(roots.at(3 * p * width))];
        let at = p * width;
        let re = quarters::<N>(x.re, at, quarter, width);
        let im = quarters::<N>(x.im, at, quarter, width);
        let [r0, r1, r2, r3] = parts::<N>(&mut y.re[4 * at..], width);
        let [i0, i1, i2, i3] = parts::<N>(&mut y.im[4 * at..], width);
        let count = width / N;
        let outputs = r0.iter_mut().zip(r1).zip(r2).zip(r3).zip(i0).zip(i1).zip(i2).zip(i3);
        for (q, (((((((r0, r1), r2), r3), i0), i1), i2), i3)) in outputs.enumerate().take(count) {
            let re = [re[0][q], re[1][q], re[2][q], re[3][q]];
            let im = [im[0][q], im[1][q], im[2][q], im[3][q]];
            let b = butterflies_4(re, im, &w);
            (*r0, *i0) = b[0];
            (*r1, *i1) = b[1];
            (*r2, *i2) = b[2];
            (*r3, *i3) = b[3];
        }
    }
}

/// Width four in lanes of eight: two blocks at a time, which lie side by side.
#[inline(always)]
fn short_4(roots: &Roots<'_>, blocks: usize, x: Complex<'_>, y: Complex<'_>) {
    const WIDTH: usize = 4;
    let quarter = blocks * WIDTH;
    let x_re: [&[Lanes<8>]; 4] = core::array::from_fn(|k| x.re[k * quarter..][..quarter].as_chunks().0);
    let x_im: [&[Lanes<8>]; 4] = core::array::from_fn(|k| x.im[k * quarter..][..quarter].as_chunks().0);
    let (y_re, _) = y.re[..4 * quarter].as_chunks_mut::<{ 8 * WIDTH }>();
    let (y_im, _) = y.im[..4 * quarter].as_chunks_mut::<{ 8 * WIDTH }>();
    for (pair, (y_re, y_im)) in y_re.iter_mut().zip(y_im).enumerate() {
        let p = 2 * pair * WIDTH;
        let w = [roots.beside(p, WIDTH), roots.beside(2 * p, 2 * WIDTH), roots.beside(3 * p, 3 * WIDTH)];
        let re = [x_re[0][pair], x_re[1][pair], x_re[2][pair], x_re[3][pair]];
        let im = [x_im[0][pair], x_im[1][pair], x_im[2][pair], x_im[3][pair]];
        let b = butterflies_4(re, im, &w);
        for (k, b) in b.into_iter().enumerate() {
            for (y, b) in [(&mut *y_re, b.0), (&mut *y_im, b.1)] {
                y[WIDTH * k..][..WIDTH].copy_from_slice(&b[..WIDTH]);
                y[WIDTH * (k + 4)..][..WIDTH].copy_from_slice(&b[WIDTH..]);
            }
        }
    }
}

#[inline(always)]
pub(super) fn pass_2(roots: &Roots<'_>, blocks: usize, width: usize, x: Complex<'_>, y: Complex<'_>) {
    let part = blocks * width;
    if cfg!(not(target_arch = "x86_64")) {
        return small_2(roots, blocks, width, x, y);
    }
    let (a_re, b_re) = x.re[..2 * part].split_at(part);
    let (a_im, b_im) = x.im[..2 * part].split_at(part);
    for p in 0..blocks {
        let w = roots.at(p * width);
        let (sum_re, dif_re) = y.re[2 * p * width..][..2 * width].split_at_mut(width);
        let (sum_im, dif_im) = y.im[2 * p * width..][..2 * width].split_at_mut(width);
        let block = p * width..(p + 1) * width;
        let a = a_re[block.clone()].iter().zip(&a_im[block.clone()]);
        let b = b_re[block.clone()].iter().zip(&b_im[block]);
        let sums = sum_re.iter_mut().zip(sum_im);
        let difs = dif_re.iter_mut().zip(dif_im);
        for (((a, b), sum), dif) in a.zip(b).zip(sums).zip(difs) {
            (*sum.0, *sum.1) = (a.0 + b.0, a.1 + b.1);
            (*dif.0, *dif.1) = mul((a.0 - b.0, a.1 - b.1), w);
        }
    }
}

/// The same in little code.
#[inline(always)]
fn small_2(roots: &Roots<'_>, blocks: usize, width: usize, x: Complex<'_>, y: Complex<'_>) {
    let part = blocks * width;
    for p in 0..blocks {
        let w = roots.at(p * width);
        for q in 0..width {
            let at = p * width + q;
            let a = (x.re[at], x.im[at]);
            let b = (x.re[part + at], x.im[part + at]);
            let to = 2 * p * width + q;
            (y.re[to], y.im[to]) = (a.0 + b.0, a.1 + b.1);
            (y.re[to + width], y.im[to + width]) = mul((a.0 - b.0, a.1 - b.1), w);
        }
    }
}

#[inline(always)]
pub(super) fn pass_3(roots: &Roots<'_>, blocks: usize, width: usize, x: Complex<'_>, y: Complex<'_>) {
    let part = blocks * width;
    for p in 0..blocks {
        let w = [roots.at(p * width), roots.at(2 * p * width)];
        for q in 0..width {
            let at = p * width + q;
            let a: [(f32, f32); 3] = core::array::from_fn(|k| (x.re[k * part + at], x.im[k * part + at]));
            let sum = (a[1].0 + a[2].0, a[1].1 + a[2].1);
            let dif = (a[1].0 - a[2].0, a[1].1 - a[2].1);
            let mid = (a[0].0 - 0.5 * sum.0, a[0].1 - 0.5 * sum.1);
            let turn = (SIN_60 * dif.1, -(SIN_60 * dif.0));
            let to = 3 * p * width + q;
            (y.re[to], y.im[to]) = (a[0].0 + sum.0, a[0].1 + sum.1);
            let b = [mul((mid.0 + turn.0, mid.1 + turn.1), w[0]), mul((mid.0 - turn.0, mid.1 - turn.1), w[1])];
            for (k, b) in b.into_iter().enumerate() {
                (y.re[to + (k + 1) * width], y.im[to + (k + 1) * width]) = b;
            }
        }
    }
}

#[inline(always)]
pub(super) fn pass_5(roots: &Roots<'_>, blocks: usize, width: usize, x: Complex<'_>, y: Complex<'_>) {
    let part = blocks * width;
    for p in 0..blocks {
        let w: [(f32, f32); 4] = core::array::from_fn(|k| roots.at((k + 1) * p * width));
        for q in 0..width {
            let at = p * width + q;
            let a: [(f32, f32); 5] = core::array::from_fn(|k| (x.re[k * part + at], x.im[k * part + at]));
            let (s1, d1) = ((a[1].0 + a[4].0, a[1].1 + a[4].1), (a[1].0 - a[4].0, a[1].1 - a[4].1));
            let (s2, d2) = ((a[2].0 + a[3].0, a[2].1 + a[3].1), (a[2].0 - a[3].0, a[2].1 - a[3].1));
            let m1 = (a[0].0 + (COS_72 * s1.0 + COS_144 * s2.0), a[0].1 + (COS_72 * s1.1 + COS_144 * s2.1));
            let m2 = (a[0].0 + (COS_144 * s1.0 + COS_72 * s2.0), a[0].1 + (COS_144 * s1.1 + COS_72 * s2.1));
            let t1 = (SIN_72 * d1.1 + SIN_144 * d2.1, -(SIN_72 * d1.0 + SIN_144 * d2.0));
            let t2 = (SIN_144 * d1.1 - SIN_72 * d2.1, SIN_72 * d2.0 - SIN_144 * d1.0);
            let to = 5 * p * width + q;
            (y.re[to], y.im[to]) = (a[0].0 + (s1.0 + s2.0), a[0].1 + (s1.1 + s2.1));
            let b = [
                mul((m1.0 + t1.0, m1.1 + t1.1), w[0]),
                mul((m2.0 + t2.0, m2.1 + t2.1), w[1]),
                mul((m2.0 - t2.0, m2.1 - t2.1), w[2]),
                mul((m1.0 - t1.0, m1.1 - t1.1), w[3]),
            ];
            for (k, b) in b.into_iter().enumerate() {
                (y.re[to + (k + 1) * width], y.im[to + (k + 1) * width]) = b;
            }
        }
    }
}

/// Separates the spectra of even and odd samples at a line and its mirror.
#[inline(always)]
pub(super) fn split(low: (&mut f32, &mut f32), high: (&mut f32, &mut f32), w: (f32, f32)) {
    let (k, m) = ((*low.0, *low.1), (*high.0, *high.1));
    let even = ((k.0 + m.0) * 0.5, (k.1 - m.1) * 0.5);
    let odd = ((k.1 + m.1) * 0.5, (m.0 - k.0) * 0.5);
    let t = (w.0 * odd.0 - w.1 * odd.1, w.0 * odd.1 + w.1 * odd.0);
    (*low.0, *low.1) = (even.0 + t.0, even.1 + t.1);
    (*high.0, *high.1) = (even.0 - t.0, t.1 - even.1);
}

/// The same for some neighbours; their mirrors stand in falling order.
#[inline(always)]
pub(super) fn split_some<const N: usize>(
    low: (&mut Lanes<N>, &mut Lanes<N>),
    high: (&mut Lanes<N>, &mut Lanes<N>),
    w: (Lanes<N>, Lanes<N>),
) {
    let mirrored = |mut x: Lanes<N>| {
        x.reverse();
        x
    };
    let half = |x: Lanes<N>| zip(x, x, |x, _| x * 0.5);
    let (k, m) = ((*low.0, *low.1), (mirrored(*high.0), mirrored(*high.1)));
    let even = (half(add(k.0, m.0)), half(sub(k.1, m.1)));
    let odd = (half(add(k.1, m.1)), half(sub(m.0, k.0)));
    let t = turn(odd, w);
    (*low.0, *low.1) = (add(even.0, t.0), add(even.1, t.1));
    (*high.0, *high.1) = (mirrored(sub(even.0, t.0)), mirrored(sub(t.1, even.1)));
}

#[inline(always)]
fn parts<const N: usize>(y: &mut [f32], width: usize) -> [&mut [Lanes<N>]; 4] {
    let (y0, y) = y.split_at_mut(width);
    let (y1, y) = y.split_at_mut(width);
    let (y2, y) = y.split_at_mut(width);
    [y0.as_chunks_mut().0, y1.as_chunks_mut().0, y2.as_chunks_mut().0, y[..width].as_chunks_mut().0]
}

#[inline(always)]
fn quarters<const N: usize>(x: &[f32], at: usize, quarter: usize, width: usize) -> [&[Lanes<N>]; 4] {
    let part = |k: usize| x[k * quarter + at..][..width].as_chunks().0;
    [part(0), part(1), part(2), part(3)]
}

#[inline(always)]
fn splat<const N: usize>(w: (f32, f32)) -> (Lanes<N>, Lanes<N>) {
    ([w.0; N], [w.1; N])
}

#[inline(always)]
pub(super) fn lanes<const N: usize>(x: &[f32], at: usize) -> Lanes<N> {
    let mut lanes = [0.0; N];
    lanes.copy_from_slice(&x[at..at + N]);
    lanes
}

const SIN_60: f32 = 0.866_025_4;
const COS_72: f32 = 0.309_017;
const SIN_72: f32 = 0.951_056_5;
const COS_144: f32 = -0.809_017;
const SIN_144: f32 = 0.587_785_25;
