//! From f32 to int8: the same model with integer weights, and how far it is from the f32 one.
//!
//! Weights get one scale per output and entering vector, the largest weight being 127. Activations become 16-bit integers, so
//! almost all of the loss is the weights'. The loss is measured on rows that the caller gives and declared in the artifact.

use kilter_types::KernelId;

use crate::{
    Artifact, DraftError, Family, Layout, Scratch, State,
    draft::write_golden_bits,
    header,
    matrix::{Matrix, Part, Shape},
};

impl Artifact<'_> {
    /// How many bytes the int8 form takes.
    pub fn int8_bytes(&self) -> usize {
        Layout { kernel: KernelId::PORTABLE_I8, ..self.layout() }.size_bytes()
    }

    /// Writes the int8 form of an f32 network, certified by its own bits, and declares its loss on `rows`: rows as measured,
    /// one after the other, of one sequence from a reset.
    pub fn to_int8<'o, const FLOATS: usize>(
        &self,
        rows: &[f32],
        out: &'o mut [u8],
        state: &mut State<FLOATS>,
        scratch: &mut Scratch,
    ) -> Result<Artifact<'o>, DraftError> {
        let old = self.layout();
        let has_form = match old.family {
            Family::LstmAutoencoder | Family::LstmForecaster | Family::RulHead => true,
            Family::Statistic | Family::Quadratic => false,
        };
        if !has_form || old.kernel != KernelId::PORTABLE_F32 {
            return Err(DraftError::Kernel);
        }
        let mut new = Layout { kernel: KernelId::PORTABLE_I8, ..old };
        let size = new.size_bytes();
        let out = out.get_mut(..size).ok_or(DraftError::Buffer { needed: size })?;
        let before = old.matrices_offset();
        out[..before].copy_from_slice(&self.bytes()[..before]);
        header::write(&new, out);
        let mut at = before;
        for matrix in self.matrices() {
            let bytes = matrix.shape.bytes(new.kernel);
            write_integers(&matrix, &mut out[at..at + bytes]);
            at += bytes;
        }
        for window in 0..old.golden {
            let golden = &mut out[new.golden_offset() + window * new.golden_bytes()..][..new.golden_bytes()];
            golden.copy_from_slice(self.golden(window));
        }
        let mut loss = 0.0f32;
        {
            let quantised = Artifact::parse(out)?;
            for window in 0..old.golden {
                let exact = self.run_golden(window, state, scratch)?;
                let exact = (exact.anomaly, exact.rul.map(|rul| rul.value));
                let ours = quantised.run_golden(window, state, scratch)?;
                loss = loss.max(self.difference(exact, (ours.anomaly, ours.rul.map(|rul| rul.value))));
            }
            state.reset();
            let mut other = State::<FLOATS>::new();
            for row in rows.chunks_exact(old.inputs) {
                let exact = self.push(row, state, scratch)?.map(|s| (s.anomaly, s.rul.map(|rul| rul.value)));
                let ours = quantised.push(row, &mut other, scratch)?.map(|s| (s.anomaly, s.rul.map(|rul| rul.value)));
                if let (Some(exact), Some(ours)) = (exact, ours) {
                    loss = loss.max(self.difference(exact, ours));
                }
            }
            state.reset();
        }
        new.loss = loss;
        header::write(&new, out);
        write_golden_bits(out, &new, state, scratch)?;
        Ok(Artifact::parse(out)?)
    }

    fn difference(&self, exact: (f32, Option<f32>), ours: (f32, Option<f32>)) -> f32 {
        let anomaly = (exact.0 - ours.0).abs() / exact.0.max(1.0);
        match (exact.1, ours.1) {
            (Some(exact), Some(ours)) => anomaly.max((exact - ours).abs() / self.cap()),
            _ => anomaly,
        }
    }
}

fn write_integers(matrix: &Matrix<'_>, out: &mut [u8]) {
    let Shape { outputs, first, second } = matrix.shape;
    let shape = matrix.shape;
    out.fill(0);
    let (floats, integers) = out.split_at_mut(4 * shape.floats(KernelId::PORTABLE_I8));
    let mut put = |place: usize, value: f32| floats[4 * place..4 * place + 4].copy_from_slice(&value.to_le_bytes());
    let mut start = 0;
    for (part, inputs, place) in [(Part::First, first, 1), (Part::Second, second, 2)] {
        for o in 0..outputs {
            if part == Part::First {
                put(o, matrix.bias(o));
            }
            let weights = (0..inputs).map(|k| matrix.weight(part, k, o));
            let largest = weights.clone().fold(0.0f32, |largest, w| largest.max(w.abs()));
            if inputs > 0 {
                put(place * outputs + o, largest / 127.0);
            }
            for (k, weight) in weights.enumerate() {
                let scaled = if largest > 0.0 { weight / (largest / 127.0) } else { 0.0 };
                // Half away from 0: a trainer's affair, its outcome travels.
                let rounded = (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }).clamp(-127.0, 127.0) as i8;
                integers[start + 2 * (k / 2 * outputs + o) + k % 2] = rounded.to_le_bytes()[0];
            }
        }
        start += 2 * outputs * inputs.div_ceil(2);
    }
}
