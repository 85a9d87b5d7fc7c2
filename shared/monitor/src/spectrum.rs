//! Spectra made small for display.

use kilter_signal::spectrum::Amplitudes;
use kilter_types::{RowRef, Spectrum};

/// A spectrum for display: the largest line of each of at most 256 stretches.
pub(crate) fn spectrum(amplitudes: &Amplitudes<'_>, envelope: bool, input: RowRef) -> Spectrum {
    let lines = amplitudes.lines;
    let stretch = lines.len().div_ceil(MAX_LINES).max(1);
    let full_scale = lines.iter().fold(0.0f32, |most, line| most.max(*line));
    let unit = if full_scale > 0.0 { 65_535.0 / full_scale } else { 0.0 };
    let largest = |part: &[f32]| part.iter().fold(0.0f32, |most, line| most.max(*line));
    Spectrum {
        group: input.group,
        index: input.index,
        envelope,
        line_hz: amplitudes.spacing_hz * stretch as f32,
        full_scale,
        lines: lines.chunks(stretch).map(|part| libm::roundf(largest(part) * unit) as u16).collect(),
    }
}

const MAX_LINES: usize = 256;
