//! The RUL head: running means of the rows, a few small networks, and an interval around their mean.
//!
//! Each input has `K` running means, from the last row (weight 1) to the mean since the reset (weight 0); they and the age are
//! what the networks see. A machine with several operating points has one normaliser per point, chosen by the nearest
//! centroid. The remaining life is the networks' mean, within 0 and a cap; the interval comes from held-out errors near that
//! estimate. The anomaly is the share of the cap that is gone, explained by gradient times input: what each input's means
//! took from the estimate.

use crate::{
    Artifact, Scratch,
    format::{MAX_AGE, MAX_HIDDEN},
    kernel::{tanh, within},
    layout::{Head, f32_at},
    matrix::Matrix,
    score::{Estimate, Scored},
};

impl Artifact<'_> {
    /// Takes a row into the running means; it is number `age` since the reset, from 1.
    pub(crate) fn accumulate(&self, row: &[f32], age: u32, means: &mut [f32]) {
        let layout = self.layout();
        let (n, clip) = (row.len(), layout.input_clip);
        let normaliser = self.normaliser_of(row);
        let smallest = 1.0 / age as f32;
        for (k, means) in means.chunks_mut(n).take(layout.head.means).enumerate() {
            let weight = self.body(3 + k).max(smallest);
            for (i, (mean, value)) in means.iter_mut().zip(row).enumerate() {
                let z =
                    (value - f32_at(self.bytes(), normaliser + 8 * i)) * f32_at(self.bytes(), normaliser + 8 * i + 4);
                *mean = within(*mean + weight * (within(z, -clip, clip) - *mean), -clip, clip);
            }
        }
    }

    pub(crate) fn score_life<'s>(&self, values: &[f32], age: u32, scratch: &'s mut Scratch) -> Scored<'s> {
        let layout = self.layout();
        let (n, head) = (self.inputs(), layout.head);
        let (age_scale, scale, cap) = (self.body(0), self.body(1), self.body(2));
        let means = &values[..n * head.means];
        let age = [(age as f32 * age_scale).min(MAX_AGE)];
        scratch.contributions[..n].fill(0.0);
        let mut total = 0.0;
        let mut matrices = self.matrices();
        for _ in 0..head.members {
            total += self.run_member(&mut matrices, means, &age, scratch);
        }
        let value = within(total / head.members as f32 * scale, 0.0, cap);
        scratch.rul = Some(self.interval(value, cap));
        // A smaller estimate is a greater anomaly.
        scratch.contributions[..n].iter_mut().for_each(|part| *part = -*part);
        scratch.share_out((1.0 - value / cap).max(0.0), n);
        scratch.scored(n)
    }

    /// One network's output; adds each input's part of it to the contributions.
    fn run_member<'m>(
        &self,
        matrices: &mut impl Iterator<Item = Matrix<'m>>,
        means: &[f32],
        age: &[f32],
        scratch: &mut Scratch,
    ) -> f32 {
        let (layout, n) = (self.layout(), self.inputs());
        let (h, c) = (layout.hidden, layout.code);
        let Scratch { hidden, code, gates, contributions, integers, .. } = scratch;
        let (first, second) = (&mut hidden[..h], &mut code[..c]);
        let (back, rest) = gates.split_at_mut(MAX_HIDDEN);
        let mut out = [0.0];
        let wide = Artifact::take(matrices);
        if h == 0 {
            wide.begin(means, layout.input_clip, &mut out, integers);
            wide.more(age, MAX_AGE, &mut out, integers);
            back[0] = 1.0;
        } else {
            wide.begin(means, layout.input_clip, first, integers);
            wide.more(age, MAX_AGE, first, integers);
            first.iter_mut().for_each(|value| *value = tanh(*value));
            let next = Artifact::take(matrices);
            if c == 0 {
                next.begin(first, 1.0, &mut out, integers);
                for (j, (back, first)) in back.iter_mut().zip(&*first).enumerate() {
                    *back = next.back(j, &[1.0]) * (1.0 - first * first);
                }
            } else {
                next.begin(first, 1.0, second, integers);
                second.iter_mut().for_each(|value| *value = tanh(*value));
                let last = Artifact::take(matrices);
                last.begin(second, 1.0, &mut out, integers);
                let upper = &mut rest[..c];
                for (j, (upper, second)) in upper.iter_mut().zip(&*second).enumerate() {
                    *upper = last.back(j, &[1.0]) * (1.0 - second * second);
                }
                for (j, (back, first)) in back.iter_mut().zip(&*first).enumerate() {
                    *back = next.back(j, upper) * (1.0 - first * first);
                }
            }
        }
        let back = &back[..h.max(1)];
        for (k, mean) in means.iter().enumerate() {
            contributions[k % n] += mean * wide.back(k, back);
        }
        out[0]
    }

    fn interval(&self, value: f32, cap: f32) -> Estimate {
        let Head { means, points, bins, .. } = self.layout().head;
        let bin = ((value / cap * bins as f32) as usize).min(bins - 1);
        let at = 3 + means + self.layout().points_floats(points) + 2 * bin;
        Estimate { value, low: (value - self.body(at)).max(0.0), high: value + self.body(at + 1) }
    }

    /// Where the normaliser for this row begins: that of the nearest operating point, where there are some.
    fn normaliser_of(&self, row: &[f32]) -> usize {
        let layout = self.layout();
        let (n, Head { means, points, .. }) = (row.len(), layout.head);
        if points == 0 {
            return layout.normaliser_offset();
        }
        let weights = 3 + means;
        let mut nearest = (0, f32::INFINITY);
        for point in 0..points {
            let centroid = weights + n + point * n;
            let distance = row.iter().enumerate().fold(0.0, |sum, (i, value)| {
                let apart = value - self.body(centroid + i);
                sum + self.body(weights + i) * (apart * apart)
            });
            if distance < nearest.1 {
                nearest = (point, distance);
            }
        }
        layout.body_offset() + 4 * (weights + n + points * n + 2 * nearest.0 * n)
    }

    /// The longest life that is told, of a RUL head.
    pub(crate) fn cap(&self) -> f32 {
        self.body(2)
    }

    fn body(&self, float: usize) -> f32 {
        f32_at(self.bytes(), self.layout().body_offset() + 4 * float)
    }
}
