//! The quadratic detector: the squared length of a linear map of an exponentially weighted mean.
//!
//! With the inverse root of a covariance as the map it is the full Mahalanobis distance; with principal components it is T²,
//! with what they leave over it is Q, and stacked with weights it is their weighted sum.

use crate::{Artifact, Scratch, kernel::sum, score::Scored};

impl Artifact<'_> {
    /// `y = A e`, anomaly `y·y = Σ e_i (Aᵀ y)_i`: the terms are the contributions, negative ones given to the others.
    pub(crate) fn score_square<'s>(&self, mean: &[f32], scratch: &'s mut Scratch) -> Scored<'s> {
        let layout = self.layout();
        let map = Artifact::take(&mut self.matrices());
        let Scratch { code: y, start: squares, contributions, integers, .. } = &mut *scratch;
        let (y, squares) = (&mut y[..layout.code], &mut squares[..layout.code]);
        map.begin(mean, layout.residual_clip, y, integers);
        for (square, y) in squares.iter_mut().zip(&*y) {
            *square = y * y;
        }
        for (i, (part, mean)) in contributions.iter_mut().zip(mean).enumerate() {
            *part = mean * map.back(i, y);
        }
        let anomaly = sum(squares);
        scratch.share_out(anomaly, mean.len());
        scratch.scored(mean.len())
    }
}
