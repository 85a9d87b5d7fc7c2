//! Where things lie in an artifact: the checked header, which every offset follows from.

use kilter_types::{GroupKind, KernelId};

use crate::{
    Artifact, ArtifactError, Family, ResetRule, ScoreOf,
    format::{
        HEADER_BYTES, MAGIC, MAX_ARTIFACT_BYTES, MAX_CLIP, MAX_GOLDEN, MAX_HIDDEN, MAX_INPUTS, MAX_REGIMES,
        MAX_SEQUENCE, MAX_WEIGHT, VERSION,
    },
    kernel::matrix_bytes,
};

/// The header of an artifact whose every byte was checked.
///
/// It borrows nothing, so an owner of bytes can keep it beside them and [`Layout::bind`] them at each score without another
/// look at the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
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
    pub(crate) threshold: f32,
    pub(crate) input_clip: f32,
    pub(crate) residual_clip: f32,
    pub(crate) ewma: f32,
}

impl Layout {
    /// Checks header, size and every number.
    pub fn parse(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let layout = Self::parse_header(bytes)?;
        let expected = layout.size_bytes();
        let declared = u32_at(bytes, 20) as usize;
        if expected != bytes.len() || expected != declared || expected > MAX_ARTIFACT_BYTES {
            return Err(ArtifactError::Size { expected, found: bytes.len() });
        }
        layout.check_numbers(bytes)?;
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
        match self.family {
            Family::Statistic => self.inputs,
            Family::LstmAutoencoder => self.inputs * self.sequence,
        }
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

    pub(crate) fn golden_offset(&self) -> usize {
        self.body_offset() + self.matrices().iter().map(|(out, inputs)| matrix_bytes(*out, *inputs)).sum::<usize>()
    }

    pub(crate) fn golden_bytes(&self) -> usize {
        4 * (self.sequence * self.inputs + 1 + self.inputs)
    }

    /// Outputs and inputs of each matrix of the body, in order; a statistic's have no outputs.
    pub(crate) fn matrices(&self) -> [(usize, usize); 4] {
        let (n, h, c) = (self.inputs, self.hidden, self.code);
        match self.family {
            Family::Statistic => [(0, 0); 4],
            Family::LstmAutoencoder => [(4 * h, n + h), (c, h), (4 * h, c + h), (n, h)],
        }
    }

    pub(crate) fn write_header(&self, out: &mut [u8]) {
        out[..HEADER_BYTES].fill(0);
        out[0..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6..8].copy_from_slice(&KernelId::PORTABLE_F32.0.to_le_bytes());
        out[8] = self.family.byte();
        out[9] = match self.group {
            GroupKind::Vibration => 0,
            GroupKind::Temperature => 1,
            GroupKind::Reading => 2,
            GroupKind::Cycle => 3,
        };
        out[10] = self.reset.0;
        out[11] = self.score_of.byte();
        let counts = [self.inputs, self.sequence, self.hidden, self.code, self.regimes, self.golden];
        for (byte, count) in out[12..18].iter_mut().zip(counts) {
            // A draft's counts are cut to a byte.
            *byte = u8::try_from(count).unwrap_or(u8::MAX);
        }
        out[20..24].copy_from_slice(&u32::try_from(self.size_bytes()).unwrap_or(u32::MAX).to_le_bytes());
        let numbers = [self.threshold, self.input_clip, self.residual_clip, self.ewma];
        for (field, number) in out[24..40].chunks_exact_mut(4).zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
    }

    fn parse_header(bytes: &[u8]) -> Result<Self, ArtifactError> {
        if bytes.len() < HEADER_BYTES {
            return Err(ArtifactError::Truncated);
        }
        if bytes[0..4] != MAGIC {
            return Err(ArtifactError::Magic);
        }
        let version = u16_at(bytes, 4);
        if version != VERSION {
            return Err(ArtifactError::Version(version));
        }
        let kernel = u16_at(bytes, 6);
        if kernel != KernelId::PORTABLE_F32.0 {
            return Err(ArtifactError::Kernel(kernel));
        }
        let family = Family::parse(bytes[8]).ok_or(ArtifactError::Family(bytes[8]))?;
        let groups = [GroupKind::Vibration, GroupKind::Temperature, GroupKind::Reading, GroupKind::Cycle];
        let count = |offset: usize, low: usize, high: usize| {
            let value = usize::from(bytes[offset]);
            if (low..=high).contains(&value) { Ok(value) } else { Err(ArtifactError::Header(offset)) }
        };
        let network = family == Family::LstmAutoencoder;
        let (least, most) = if network { (1, MAX_HIDDEN) } else { (0, 0) };
        let layout = Self {
            family,
            group: *groups.get(usize::from(bytes[9])).ok_or(ArtifactError::Header(9))?,
            reset: ResetRule(count(10, 0, usize::from(ResetRule::ALWAYS.0)).map(|_| bytes[10])?),
            score_of: ScoreOf::parse(bytes[11]).ok_or(ArtifactError::Header(11))?,
            inputs: count(12, 1, MAX_INPUTS)?,
            sequence: count(13, 1, MAX_SEQUENCE)?,
            hidden: count(14, least, most)?,
            code: count(15, least, most)?,
            regimes: count(16, 0, MAX_REGIMES)?,
            golden: count(17, 1, MAX_GOLDEN)?,
            threshold: bounded(bytes, 24, f32::MIN_POSITIVE, f32::MAX)?,
            input_clip: bounded(bytes, 28, f32::MIN_POSITIVE, MAX_CLIP)?,
            residual_clip: bounded(bytes, 32, f32::MIN_POSITIVE, MAX_CLIP)?,
            ewma: if network { bounded(bytes, 36, 0.0, 0.0)? } else { bounded(bytes, 36, f32::MIN_POSITIVE, 1.0)? },
        };
        if !layout.hidden.is_multiple_of(8) {
            return Err(ArtifactError::Header(14));
        }
        if !network && layout.score_of != ScoreOf::LastRow {
            return Err(ArtifactError::Header(11));
        }
        match (18..20).chain(40..48).find(|offset| bytes[*offset] != 0) {
            Some(offset) => Err(ArtifactError::Header(offset)),
            None => Ok(layout),
        }
    }

    fn check_numbers(&self, bytes: &[u8]) -> Result<(), ArtifactError> {
        for i in 0..self.inputs {
            let reserved = HEADER_BYTES + 8 * i + 2;
            if u16_at(bytes, reserved) != 0 {
                return Err(ArtifactError::Number(reserved));
            }
            let normaliser = self.normaliser_offset() + 8 * i;
            bounded(bytes, normaliser, f32::MIN, f32::MAX)?;
            bounded(bytes, normaliser + 4, f32::MIN_POSITIVE, f32::MAX)?;
            range(bytes, self.ranges_offset() + 8 * i)?;
            bounded(bytes, self.weights_offset() + 4 * i, 0.0, MAX_WEIGHT)?;
        }
        for i in 0..2 * self.regimes {
            range(bytes, self.regimes_offset() + 8 * i)?;
        }
        for offset in (self.body_offset()..self.golden_offset()).step_by(4) {
            bounded(bytes, offset, -MAX_WEIGHT, MAX_WEIGHT)?;
        }
        for window in 0..self.golden {
            let start = self.golden_offset() + window * self.golden_bytes();
            for offset in (start..start + self.golden_bytes()).step_by(4) {
                bounded(bytes, offset, f32::MIN, f32::MAX)?;
            }
        }
        Ok(())
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

fn bounded(bytes: &[u8], offset: usize, low: f32, high: f32) -> Result<f32, ArtifactError> {
    let value = f32_at(bytes, offset);
    if (low..=high).contains(&value) { Ok(value) } else { Err(ArtifactError::Number(offset)) }
}

fn range(bytes: &[u8], offset: usize) -> Result<(), ArtifactError> {
    let low = bounded(bytes, offset, f32::MIN, f32::MAX)?;
    bounded(bytes, offset + 4, low, f32::MAX).map(|_| ())
}
