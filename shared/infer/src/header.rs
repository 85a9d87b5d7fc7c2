//! Reads, checks and writes an artifact's header, and checks every number behind it.

use kilter_types::{GroupKind, KernelId};

use crate::{
    ArtifactError, Family, Layout, Mode, ResetRule, ScoreOf,
    format::{
        HEADER_BYTES, MAGIC, MAX_BINS, MAX_CLIP, MAX_GOLDEN, MAX_HIDDEN, MAX_INPUTS, MAX_MEANS, MAX_MEMBERS,
        MAX_POINTS, MAX_REGIMES, MAX_SEQUENCE, MAX_WEIGHT, MAX_WIDE, VERSION,
    },
    layout::{Head, f32_at, u16_at},
};

pub(crate) fn parse(bytes: &[u8]) -> Result<Layout, ArtifactError> {
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
    let kernel = KernelId(u16_at(bytes, 6));
    let quantised = match kernel {
        KernelId::PORTABLE_F32 => false,
        KernelId::PORTABLE_I8 => true,
        KernelId(other) => return Err(ArtifactError::Kernel(other)),
    };
    let family = Family::parse(bytes[8]).ok_or(ArtifactError::Family(bytes[8]))?;
    let has_integers = match family {
        Family::LstmAutoencoder | Family::LstmForecaster | Family::RulHead => true,
        Family::Statistic | Family::Quadratic => false,
    };
    if quantised && !has_integers {
        return Err(ArtifactError::Kernel(kernel.0));
    }
    let groups = [GroupKind::Vibration, GroupKind::Temperature, GroupKind::Reading, GroupKind::Cycle];
    let count = |offset: usize, low: usize, high: usize| {
        let value = usize::from(bytes[offset]);
        if (low..=high).contains(&value) { Ok(value) } else { Err(ArtifactError::Header(offset)) }
    };
    let (hidden, code) = match family {
        Family::Statistic => (0..=0, 0..=0),
        Family::LstmAutoencoder => (8..=MAX_HIDDEN, 1..=MAX_HIDDEN),
        Family::LstmForecaster => (8..=MAX_HIDDEN, 0..=0),
        Family::RulHead => (0..=MAX_HIDDEN, 0..=MAX_HIDDEN),
        Family::Quadratic => (0..=0, 1..=MAX_HIDDEN),
    };
    let smooths = match family {
        Family::Statistic | Family::Quadratic | Family::LstmForecaster => true,
        Family::LstmAutoencoder | Family::RulHead => false,
    };
    let (head, last_mode) = (usize::from(family == Family::RulHead), u8::from(family == Family::LstmForecaster));
    let layout = Layout {
        kernel,
        family,
        group: *groups.get(usize::from(bytes[9])).ok_or(ArtifactError::Header(9))?,
        reset: ResetRule(count(10, 0, usize::from(ResetRule::ALWAYS.0)).map(|_| bytes[10])?),
        score_of: ScoreOf::parse(bytes[11]).ok_or(ArtifactError::Header(11))?,
        inputs: count(12, 1, MAX_INPUTS)?,
        sequence: count(13, 1, MAX_SEQUENCE)?,
        hidden: count(14, *hidden.start(), *hidden.end())?,
        code: count(15, *code.start(), *code.end())?,
        regimes: count(16, 0, MAX_REGIMES)?,
        golden: count(17, 1, MAX_GOLDEN)?,
        mode: Mode::parse(bytes[18]).filter(|_| bytes[18] <= last_mode).ok_or(ArtifactError::Header(18))?,
        threshold: bounded(bytes, 24, f32::MIN_POSITIVE, f32::MAX)?,
        input_clip: bounded(bytes, 28, f32::MIN_POSITIVE, MAX_CLIP)?,
        residual_clip: bounded(bytes, 32, f32::MIN_POSITIVE, MAX_CLIP)?,
        ewma: if smooths { bounded(bytes, 36, f32::MIN_POSITIVE, 1.0)? } else { bounded(bytes, 36, 0.0, 0.0)? },
        head: Head {
            means: count(40, head, head * MAX_MEANS)?,
            members: count(41, head, head * MAX_MEMBERS)?,
            points: count(42, 0, head * MAX_POINTS)?,
            bins: count(43, head, head * MAX_BINS)?,
        },
        loss: bounded(bytes, 44, 0.0, if quantised { f32::MAX } else { 0.0 })?,
    };
    let multiples = layout.hidden.is_multiple_of(8) && (family != Family::RulHead || layout.code.is_multiple_of(8));
    if !multiples || family == Family::RulHead && layout.hidden == 0 && layout.code != 0 {
        return Err(ArtifactError::Header(if layout.hidden.is_multiple_of(8) { 15 } else { 14 }));
    }
    if family != Family::LstmAutoencoder && layout.score_of != ScoreOf::LastRow {
        return Err(ArtifactError::Header(11));
    }
    if family == Family::RulHead && layout.inputs * layout.head.means + 1 > MAX_WIDE {
        return Err(ArtifactError::Header(40));
    }
    if bytes[19] == 0 { Ok(layout) } else { Err(ArtifactError::Header(19)) }
}

pub(crate) fn write(layout: &Layout, out: &mut [u8]) {
    out[..HEADER_BYTES].fill(0);
    out[0..4].copy_from_slice(&MAGIC);
    out[4..6].copy_from_slice(&VERSION.to_le_bytes());
    out[6..8].copy_from_slice(&layout.kernel.0.to_le_bytes());
    out[8] = layout.family.byte();
    out[9] = match layout.group {
        GroupKind::Vibration => 0,
        GroupKind::Temperature => 1,
        GroupKind::Reading => 2,
        GroupKind::Cycle => 3,
    };
    out[10] = layout.reset.0;
    out[11] = layout.score_of.byte();
    // A draft's counts are cut to a byte.
    let byte = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
    let counts = [layout.inputs, layout.sequence, layout.hidden, layout.code, layout.regimes, layout.golden];
    for (out, count) in out[12..18].iter_mut().zip(counts) {
        *out = byte(count);
    }
    out[18] = layout.mode.byte();
    out[20..24].copy_from_slice(&u32::try_from(layout.size_bytes()).unwrap_or(u32::MAX).to_le_bytes());
    let numbers = [layout.threshold, layout.input_clip, layout.residual_clip, layout.ewma];
    for (field, number) in out[24..40].chunks_exact_mut(4).zip(numbers) {
        field.copy_from_slice(&number.to_le_bytes());
    }
    let head = layout.head;
    out[40..44].copy_from_slice(&[head.means, head.members, head.points, head.bins].map(byte));
    out[44..48].copy_from_slice(&layout.loss.to_le_bytes());
}

/// Every number behind the header.
pub(crate) fn check_numbers(layout: &Layout, bytes: &[u8]) -> Result<(), ArtifactError> {
    for i in 0..layout.inputs {
        let reserved = HEADER_BYTES + 8 * i + 2;
        if u16_at(bytes, reserved) != 0 {
            return Err(ArtifactError::Number(reserved));
        }
        normaliser(bytes, layout.normaliser_offset() + 8 * i)?;
        range(bytes, layout.ranges_offset() + 8 * i)?;
        bounded(bytes, layout.weights_offset() + 4 * i, 0.0, MAX_WEIGHT)?;
    }
    for i in 0..2 * layout.regimes {
        range(bytes, layout.regimes_offset() + 8 * i)?;
    }
    if layout.family == Family::RulHead {
        check_head(layout, bytes)?;
    }
    let mut at = layout.matrices_offset();
    for shape in layout.shapes() {
        let size = shape.bytes(layout.kernel);
        let floats = 4 * shape.floats(layout.kernel);
        let biases = shape.biases(layout.kernel);
        for offset in (0..floats).step_by(4) {
            let (low, high) = match (layout.kernel == KernelId::PORTABLE_I8, biases.contains(&offset)) {
                (true, false) => (0.0, MAX_WEIGHT / 127.0),
                (false, true) if layout.family == Family::Quadratic => (0.0, 0.0),
                (true, true) | (false, _) => (-MAX_WEIGHT, MAX_WEIGHT),
            };
            bounded(bytes, at + offset, low, high)?;
        }
        let padding = at + floats + shape.integers(layout.kernel)..at + size;
        if let Some(offset) = padding.into_iter().find(|offset| bytes[*offset] != 0) {
            return Err(ArtifactError::Number(offset));
        }
        at += size;
    }
    for offset in (layout.golden_offset()..layout.size_bytes()).step_by(4) {
        bounded(bytes, offset, f32::MIN, f32::MAX)?;
    }
    Ok(())
}

fn check_head(layout: &Layout, bytes: &[u8]) -> Result<(), ArtifactError> {
    let mut at = layout.body_offset();
    let mut next = |low: f32, high: f32| {
        at += 4;
        bounded(bytes, at - 4, low, high)
    };
    next(0.0, MAX_WEIGHT)?;
    next(f32::MIN_POSITIVE, MAX_WEIGHT)?;
    next(f32::MIN_POSITIVE, MAX_WEIGHT)?;
    for _ in 0..layout.head.means {
        next(0.0, 1.0)?;
    }
    if layout.head.points > 0 {
        for _ in 0..layout.inputs {
            next(0.0, f32::MAX)?;
        }
        for _ in 0..layout.head.points * layout.inputs {
            next(f32::MIN, f32::MAX)?;
        }
        for _ in 0..layout.head.points * layout.inputs {
            next(f32::MIN, f32::MAX)?;
            next(f32::MIN_POSITIVE, f32::MAX)?;
        }
    }
    for _ in 0..2 * layout.head.bins {
        next(0.0, MAX_WEIGHT)?;
    }
    Ok(())
}

fn normaliser(bytes: &[u8], offset: usize) -> Result<(), ArtifactError> {
    bounded(bytes, offset, f32::MIN, f32::MAX)?;
    bounded(bytes, offset + 4, f32::MIN_POSITIVE, f32::MAX).map(|_| ())
}

fn bounded(bytes: &[u8], offset: usize, low: f32, high: f32) -> Result<f32, ArtifactError> {
    let value = f32_at(bytes, offset);
    if (low..=high).contains(&value) { Ok(value) } else { Err(ArtifactError::Number(offset)) }
}

fn range(bytes: &[u8], offset: usize) -> Result<(), ArtifactError> {
    let low = bounded(bytes, offset, f32::MIN, f32::MAX)?;
    bounded(bytes, offset + 4, low, f32::MAX).map(|_| ())
}
