//! Where things lie in an artifact: the checked header, which every offset follows from.

use kilter_types::{GroupKind, KernelId};

use crate::{
    Artifact, ArtifactError, Family, Mode, ResetRule, ScoreOf,
    format::{HEADER_BYTES, MAX_ARTIFACT_BYTES},
    header,
    matrix::Shape,
};

/// The header of an artifact whose every byte was checked.
///
/// It borrows nothing, so an owner of bytes can keep it beside them and [`Layout::bind`] them at each score without another
/// look at the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    pub(crate) kernel: KernelId,
    pub(crate) family: Family,
    pub(crate) group: GroupKind,
    pub(crate) reset: ResetRule,
    pub(crate) score_of: ScoreOf,
    pub(crate) inputs: usize,
    pub(crate) sequence: usize,
    pub(crate) hidden: usize,
    pub(crate) code: usize,
    pub(crate) regimes: usize,
    pub(crate) golden: usize,
    pub(crate) mode: Mode,
    pub(crate) head: Head,
    pub(crate) threshold: f32,
    pub(crate) input_clip: f32,
    pub(crate) residual_clip: f32,
    pub(crate) ewma: f32,
    pub(crate) loss: f32,
}

/// The counts that only a RUL head has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Head {
    pub(crate) means: usize,
    pub(crate) members: usize,
    pub(crate) points: usize,
    pub(crate) bins: usize,
}

impl Layout {
    /// Checks header, size and every number.
    pub fn parse(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let layout = header::parse(bytes)?;
        let expected = layout.size_bytes();
        let declared = u32_at(bytes, 20) as usize;
        if expected != bytes.len() || expected != declared || expected > MAX_ARTIFACT_BYTES {
            return Err(ArtifactError::Size { expected, found: bytes.len() });
        }
        header::check_numbers(&layout, bytes)?;
        Ok(layout)
    }

    /// The artifact in the bytes that this layout was parsed from. Other bytes of the same length give other numbers, never
    /// a panic; other lengths give nothing.
    pub fn bind(self, bytes: &[u8]) -> Option<Artifact<'_>> {
        (bytes.len() == self.size_bytes()).then(|| Artifact::new(self, bytes))
    }

    /// The artifact's size.
    pub fn size_bytes(&self) -> usize {
        self.golden_offset() + self.golden * self.golden_bytes()
    }

    /// How many floats of state a sequence needs.
    pub fn state_floats(&self) -> usize {
        match (self.family, self.mode) {
            (Family::Statistic | Family::Quadratic, _) => self.inputs,
            (Family::LstmForecaster, Mode::Streaming) => 2 * (self.hidden + self.inputs),
            (Family::LstmAutoencoder | Family::LstmForecaster, _) => self.inputs * self.sequence,
            (Family::RulHead, _) => self.inputs * self.head.means,
        }
    }

    /// How many bytes a saved state takes.
    pub fn state_bytes(&self) -> usize {
        let age = if self.family == Family::RulHead { 4 } else { 0 };
        2 + 4 * self.state_floats() + age
    }

    pub(crate) fn normaliser_offset(&self) -> usize {
        HEADER_BYTES + 8 * self.inputs
    }

    pub(crate) fn ranges_offset(&self) -> usize {
        self.normaliser_offset() + 8 * self.inputs
    }

    pub(crate) fn weights_offset(&self) -> usize {
        self.ranges_offset() + 8 * self.inputs
    }

    pub(crate) fn regimes_offset(&self) -> usize {
        self.weights_offset() + 4 * self.inputs
    }

    pub(crate) fn body_offset(&self) -> usize {
        self.regimes_offset() + 16 * self.regimes
    }

    /// Where the first matrix lies, after what else the family's body holds.
    pub(crate) fn matrices_offset(&self) -> usize {
        let Head { means, points, bins, .. } = self.head;
        let before = match self.family {
            Family::RulHead => 3 + means + self.points_floats(points) + 2 * bins,
            Family::Statistic | Family::LstmAutoencoder | Family::LstmForecaster | Family::Quadratic => 0,
        };
        self.body_offset() + 4 * before
    }

    pub(crate) fn points_floats(&self, points: usize) -> usize {
        if points == 0 { 0 } else { self.inputs * (1 + 3 * points) }
    }

    pub(crate) fn golden_offset(&self) -> usize {
        self.matrices_offset() + self.shapes().map(|shape| shape.bytes(self.kernel)).sum::<usize>()
    }

    pub(crate) fn golden_bytes(&self) -> usize {
        let estimate = if self.family == Family::RulHead { 3 } else { 0 };
        4 * (self.sequence * self.inputs + 1 + self.inputs + estimate)
    }

    /// The matrices of the body, in order.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = Shape> {
        let (n, h, c) = (self.inputs, self.hidden, self.code);
        let shape = |outputs, first, second| Shape { outputs, first, second };
        let wide = n * self.head.means;
        let (once, count) = match self.family {
            Family::Statistic => ([Shape::NONE; 4], 1),
            Family::LstmAutoencoder => ([shape(4 * h, n, h), shape(c, h, 0), shape(4 * h, c, h), shape(n, h, 0)], 1),
            Family::LstmForecaster => ([shape(4 * h, n, h), shape(n, h, 0), Shape::NONE, Shape::NONE], 1),
            Family::Quadratic => ([shape(c, n, 0), Shape::NONE, Shape::NONE, Shape::NONE], 1),
            Family::RulHead => {
                let layers = match (h, c) {
                    (0, _) => [shape(1, wide, 1), Shape::NONE, Shape::NONE, Shape::NONE],
                    (_, 0) => [shape(h, wide, 1), shape(1, h, 0), Shape::NONE, Shape::NONE],
                    (_, _) => [shape(h, wide, 1), shape(c, h, 0), shape(1, c, 0), Shape::NONE],
                };
                (layers, self.head.members)
            }
        };
        (0..count).flat_map(move |_| once).filter(|shape| *shape != Shape::NONE)
    }
}

pub(crate) fn f32_at(bytes: &[u8], offset: usize) -> f32 {
    f32::from_bits(u32_at(bytes, offset))
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes make a u32"))
}

pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}
