//! The simple detector: how far an exponentially weighted mean has moved from the healthy mean.
//!
//! The matrix of the Mahalanobis distance is diagonal, so each feature's part is its own and the parts sum exactly.

use crate::{Artifact, Scratch, kernel::within, score::Scored};

impl Artifact<'_> {
    /// Moves the running mean, which starts at the healthy mean, towards the row.
    pub(crate) fn smooth(&self, row: &[f32], mean: &mut [f32]) {
        let ewma = self.layout().ewma;
        let clip = self.layout().residual_clip;
        for (i, (mean, value)) in mean.iter_mut().zip(row).enumerate() {
            *mean = within(*mean + ewma * (self.normalise(i, *value) - *mean), -clip, clip);
        }
    }

    pub(crate) fn score_mean<'s>(&self, mean: &[f32], scratch: &'s mut Scratch) -> Scored<'s> {
        for (i, (contribution, mean)) in scratch.contributions.iter_mut().zip(mean).enumerate() {
            *contribution = self.weight(i) * (mean * mean);
        }
        scratch.scored(mean.len())
    }
}
