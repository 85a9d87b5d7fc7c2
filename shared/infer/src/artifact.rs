//! A parsed artifact: what a model is, and what it was trained on.

use kilter_types::{FeatureId, FeatureRef, GroupKind, KernelId};

use crate::{
    ArtifactError, Family, Layout, Mode, Range, Regime, ResetRule, ScoreOf,
    format::HEADER_BYTES,
    kernel::within,
    layout::{f32_at, u16_at, u32_at},
    matrix::{Matrix, Shape},
};

/// A model whose every byte was checked; it borrows the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Artifact<'a> {
    layout: Layout,
    bytes: &'a [u8],
}

impl<'a> Artifact<'a> {
    /// Checks the bytes. Total: any bytes return, in time proportional to their number.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ArtifactError> {
        Ok(Self::new(Layout::parse(bytes)?, bytes))
    }

    pub(crate) fn new(layout: Layout, bytes: &'a [u8]) -> Self {
        Self { layout, bytes }
    }

    /// The header, to keep beside owned bytes.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What kind of model it is.
    pub fn family(&self) -> Family {
        self.layout.family
    }

    /// Which arithmetic scores it.
    pub fn kernel(&self) -> KernelId {
        self.layout.kernel
    }

    /// How a network meets the rows; what has no sequence to run is streaming by nature.
    pub fn mode(&self) -> Mode {
        match self.layout.family {
            Family::Statistic | Family::Quadratic | Family::RulHead => Mode::Streaming,
            Family::LstmAutoencoder | Family::LstmForecaster => self.layout.mode,
        }
    }

    /// How far int8 was seen from f32: the largest difference of the anomaly, relative to max(1, anomaly). 0 for f32.
    pub fn declared_loss(&self) -> f32 {
        self.layout.loss
    }

    /// Which groups of features it is for.
    pub fn group(&self) -> GroupKind {
        self.layout.group
    }

    /// The anomaly above which a row is unusual.
    pub fn threshold(&self) -> f32 {
        self.layout.threshold
    }

    /// Rows from a reset to the first score.
    pub fn sequence_len(&self) -> usize {
        self.layout.sequence
    }

    /// Values per row.
    pub fn inputs(&self) -> usize {
        self.layout.inputs
    }

    /// Hidden units of a network, first layer of a RUL head; 0 for a statistic.
    pub fn hidden(&self) -> usize {
        self.layout.hidden
    }

    /// Which residuals make the anomaly.
    pub fn score_of(&self) -> ScoreOf {
        self.layout.score_of
    }

    /// After which interruptions the sequence starts anew.
    pub fn reset_rule(&self) -> ResetRule {
        self.layout.reset
    }

    /// How many floats of state a sequence needs.
    pub fn state_floats(&self) -> usize {
        self.layout.state_floats()
    }

    /// How many bytes a saved state takes.
    pub fn state_bytes(&self) -> usize {
        self.layout.state_bytes()
    }

    /// The features it asks for, in the order of a row (M1).
    pub fn features(&self) -> impl ExactSizeIterator<Item = FeatureRef> + 'a {
        let Self { layout, bytes } = *self;
        (0..layout.inputs).map(move |i| {
            let offset = HEADER_BYTES + 8 * i;
            FeatureRef { id: FeatureId(u16_at(bytes, offset)), hash: u32_at(bytes, offset + 4) }
        })
    }

    /// The values of feature `i` that training saw, with the trainer's margin.
    pub fn training_range(&self, i: usize) -> Option<Range> {
        (i < self.layout.inputs).then(|| self.range_at(self.layout.ranges_offset() + 8 * i))
    }

    /// The speeds and loads that training saw; none when training knew of none.
    pub fn regimes(&self) -> impl ExactSizeIterator<Item = Regime> + 'a {
        let this = *self;
        (0..this.layout.regimes).map(move |i| {
            let offset = this.layout.regimes_offset() + 16 * i;
            Regime { rpm: this.range_at(offset), load: this.range_at(offset + 8) }
        })
    }

    /// The regime that this speed and load belong to; a load that is not known fits any.
    pub fn regime(&self, rpm: f32, load: Option<f32>) -> Option<usize> {
        self.regimes().position(|regime| regime.rpm.contains(rpm) && load.is_none_or(|load| regime.load.contains(load)))
    }

    /// How many values of the row lie outside their training range.
    pub fn outside(&self, row: &[f32]) -> usize {
        let inside = |(i, value): (usize, &f32)| self.training_range(i).is_some_and(|range| range.contains(*value));
        row.iter().enumerate().filter(|item| !inside(*item)).count()
    }

    /// The healthy mean of feature `i` and 1 / its healthy scale.
    pub fn normaliser(&self, i: usize) -> Option<(f32, f32)> {
        let offset = self.layout.normaliser_offset() + 8 * i;
        (i < self.layout.inputs).then(|| (f32_at(self.bytes, offset), f32_at(self.bytes, offset + 4)))
    }

    /// The numbers of the body's matrices in their order, for training to go on from: of each, one row of weights per input, then
    /// the biases. None of an int8 model.
    pub fn numbers(&self) -> impl Iterator<Item = f32> {
        let this = *self;
        let exact = this.layout.kernel == KernelId::PORTABLE_F32;
        let offsets = this.layout.matrices_offset()..if exact { this.layout.golden_offset() } else { 0 };
        offsets.step_by(4).map(move |offset| f32_at(this.bytes, offset))
    }

    /// Value `i` of a row as the model sees it: distance from the healthy mean in healthy scales, clipped.
    pub(crate) fn normalise(&self, i: usize, value: f32) -> f32 {
        let offset = self.layout.normaliser_offset() + 8 * i;
        normalised(value, f32_at(self.bytes, offset), f32_at(self.bytes, offset + 4), self.layout.residual_clip)
    }

    pub(crate) fn weight(&self, i: usize) -> f32 {
        f32_at(self.bytes, self.layout.weights_offset() + 4 * i)
    }

    /// The body's matrices, in order.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = Matrix<'a>> {
        let mut rest = &self.bytes[self.layout.matrices_offset()..];
        let kernel = self.layout.kernel;
        self.layout.shapes().map(move |shape| {
            let (bytes, after) = rest.split_at(shape.bytes(kernel));
            rest = after;
            Matrix { shape, kernel, bytes }
        })
    }

    /// The next of them; the parser saw to it that there are as many as the family takes.
    pub(crate) fn take(matrices: &mut impl Iterator<Item = Matrix<'a>>) -> Matrix<'a> {
        matrices.next().unwrap_or(Matrix { shape: Shape::NONE, kernel: KernelId::PORTABLE_F32, bytes: &[] })
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Golden window `i`: its rows, then the anomaly and the contributions.
    pub(crate) fn golden(&self, i: usize) -> &'a [u8] {
        let size = self.layout.golden_bytes();
        &self.bytes[self.layout.golden_offset() + i * size..][..size]
    }

    fn range_at(&self, offset: usize) -> Range {
        Range { low: f32_at(self.bytes, offset), high: f32_at(self.bytes, offset + 4) }
    }
}

/// A value as distance from the healthy mean in healthy scales, held within +-`clip`.
#[inline(always)]
pub(crate) fn normalised(value: f32, mean: f32, inverse_scale: f32, clip: f32) -> f32 {
    within((value - mean) * inverse_scale, -clip, clip)
}
