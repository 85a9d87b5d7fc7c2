//! A gear's mesh and the sidebands of a damaged tooth.
//!
//! A wheel with `z` teeth on a shaft of `f` Hz meshes `z f` times per second. Even wear raises the mesh line itself; a damaged or
//! eccentric tooth is louder once per revolution and puts sidebands `f` beside the mesh. So the sign is the ratio of the sidebands to
//! the mesh, read only where the mesh and both of its sidebands stand as lines of their own.

use kilter_types::{Cause, Evidence, Hertz};

use crate::{
    diagnose::{Diagnosis, Finding, clarity},
    line::{Form, Line, Reach},
    spectrum::{self, Amplitudes},
    table::{GEAR_MESH, GEAR_SIDEBANDS},
};

/// The lines of a gear in an acceleration spectrum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mesh {
    /// The mesh itself, amplitude interpolated.
    pub mesh: Line,
    /// One shaft speed below and above.
    pub sidebands: [Line; 2],
}

impl Mesh {
    /// The lines of a wheel with so many teeth; `None` where the spectrum does not hold or resolve them.
    pub fn read(amplitudes: &Amplitudes<'_>, shaft: Hertz, teeth: u16, work: &mut [f32]) -> Option<Self> {
        if shaft.0 < 4.0 * amplitudes.spacing_hz || teeth < 3 {
            return None;
        }
        let reach = Reach { line: 1.5, around: f32::max(0.4 * shaft.0 / amplitudes.spacing_hz, 10.0) };
        let mesh_hz = f32::from(teeth) * shaft.0;
        let mut line = |frequency_hz: f32| -> Option<Line> {
            let line = amplitudes.line(Hertz(frequency_hz), reach, work)?;
            let place = libm::roundf(line.frequency.0 / amplitudes.spacing_hz) as usize;
            let peak = spectrum::interpolate(amplitudes.lines, place);
            Some(Line { amplitude: peak.amplitude, frequency: Hertz(peak.place * amplitudes.spacing_hz), ..line })
        };
        let mesh = line(mesh_hz)?;
        Some(Self { mesh, sidebands: [line(mesh_hz - shaft.0)?, line(mesh_hz + shaft.0)?] })
    }

    /// Mean amplitude of the sidebands over the mesh's.
    pub fn ratio(&self) -> f32 {
        let [below, above] = self.sidebands;
        0.5 * (below.amplitude + above.amplitude) / f32::max(self.mesh.amplitude, f32::MIN_POSITIVE)
    }

    /// Damage, where mesh and sidebands stand at least `snr` above what surrounds them and the ratio passes [`DAMAGED`].
    pub fn diagnose(&self, snr: f32) -> Diagnosis {
        let mut diagnosis = Diagnosis::default();
        let stands = |line: &Line| line.form == Form::Peak && line.snr >= snr;
        let ratio = self.ratio();
        if stands(&self.mesh) && self.sidebands.iter().all(stands) && ratio >= DAMAGED {
            let lines = [
                Evidence { feature: GEAR_SIDEBANDS, value: ratio, limit: DAMAGED },
                Evidence { feature: GEAR_MESH, value: self.mesh.amplitude, limit: 0.0 },
            ];
            let evidence = lines.into_iter().collect();
            diagnosis.insert(Finding { cause: Cause::Gear, score: clarity(ratio / DAMAGED), evidence });
        }
        diagnosis
    }
}

/// Sidebands of an eighth of the mesh (a modulation of a quarter) are beyond what sound wheels do.
pub const DAMAGED: f32 = 0.125;
