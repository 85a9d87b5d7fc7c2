//! A matrix with its biases in an artifact's bytes, as f32 or as int8 with scales, and the products with it.

use kilter_types::KernelId;

use crate::{
    format::MAX_WIDE,
    kernel::{dot, quantise},
    layout::f32_at,
    simd::{self, ABREAST},
};

/// How many outputs, and how many inputs of the two vectors that enter one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) outputs: usize,
    pub(crate) first: usize,
    pub(crate) second: usize,
}

impl Shape {
    pub(crate) const NONE: Self = Self { outputs: 0, first: 0, second: 0 };

    /// The bytes it takes.
    pub(crate) fn bytes(self, kernel: KernelId) -> usize {
        4 * self.floats(kernel) + self.integers(kernel).next_multiple_of(4)
    }

    pub(crate) fn floats(self, kernel: KernelId) -> usize {
        match kernel {
            KernelId::PORTABLE_I8 => self.outputs * if self.second == 0 { 2 } else { 3 },
            _ => self.outputs * (self.first + self.second + 1),
        }
    }

    pub(crate) fn integers(self, kernel: KernelId) -> usize {
        match kernel {
            KernelId::PORTABLE_I8 => 2 * self.outputs * (self.first.div_ceil(2) + self.second.div_ceil(2)),
            _ => 0,
        }
    }

    /// Where its biases lie, in bytes.
    pub(crate) fn biases(self, kernel: KernelId) -> core::ops::Range<usize> {
        let start = match kernel {
            KernelId::PORTABLE_I8 => 0,
            _ => 4 * self.outputs * (self.first + self.second),
        };
        start..start + 4 * self.outputs
    }
}

/// A matrix in an artifact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) shape: Shape,
    pub(crate) kernel: KernelId,
    pub(crate) bytes: &'a [u8],
}

/// Room for a vector as integers.
pub(crate) type Integers = [i16; MAX_WIDE];

impl<'a> Matrix<'a> {
    /// `out = biases + weights * first`; no value of `first` lies outside +-`bound`.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn begin(&self, first: &[f32], bound: f32, out: &mut [f32], room: &mut Integers) {
        self.biases(out);
        self.add(Part::First, first, bound, out, room);
    }

    /// `out = out + weights * second`.
    pub(crate) fn more(&self, second: &[f32], bound: f32, out: &mut [f32], room: &mut Integers) {
        self.add(Part::Second, second, bound, out, room);
    }

    /// [`Matrix::begin`] for several vectors.
    pub(crate) fn begin_abreast(
        &self,
        first: [&[f32]; ABREAST],
        bound: f32,
        mut out: [&mut [f32]; ABREAST],
        room: &mut Integers,
    ) {
        if self.kernel == KernelId::PORTABLE_F32 {
            out.iter_mut().for_each(|out| self.biases(out));
            simd::add_rows_beside(self.weights(Part::First), first, out);
        } else {
            for (first, out) in first.into_iter().zip(out) {
                self.begin(first, bound, out, room);
            }
        }
    }

    /// The biases alone.
    pub(crate) fn biases(&self, out: &mut [f32]) {
        let (biases, _) = self.bytes[self.shape.biases(self.kernel)].as_chunks::<4>();
        for (out, bias) in out.iter_mut().zip(biases) {
            *out = f32::from_le_bytes(*bias);
        }
    }

    fn add(&self, part: Part, inputs: &[f32], bound: f32, out: &mut [f32], room: &mut Integers) {
        let out = &mut out[..self.shape.outputs];
        let weights = self.weights(part);
        match self.kernel {
            KernelId::PORTABLE_I8 => {
                let pairs = &mut room[..inputs.len().next_multiple_of(2)];
                quantise(inputs, bound, pairs);
                simd::add_pairs(weights, pairs, self.scales(part), bound / INTEGER_REACH, out);
            }
            _ => simd::add_rows(weights, inputs, out),
        }
    }

    /// What one input of `first` passes to the outputs, weighted by `amounts`: a step backwards through the layer.
    pub(crate) fn back(&self, input: usize, amounts: &[f32]) -> f32 {
        let outputs = self.shape.outputs;
        let weights = self.weights(Part::First);
        match self.kernel {
            KernelId::PORTABLE_I8 => {
                let row = &weights[input / 2 * 2 * outputs..][..2 * outputs];
                let scales = self.scales(Part::First);
                dot(amounts, |o| f32::from(row[2 * o + input % 2] as i8) * f32_at(scales, 4 * o))
            }
            _ => {
                let row = &weights[4 * input * outputs..][..4 * outputs];
                dot(amounts, |o| f32_at(row, 4 * o))
            }
        }
    }

    /// The weight from an input of `part` to an output; of the f32 form.
    pub(crate) fn weight(&self, part: Part, input: usize, output: usize) -> f32 {
        f32_at(self.weights(part), 4 * (input * self.shape.outputs + output))
    }

    pub(crate) fn bias(&self, output: usize) -> f32 {
        f32_at(&self.bytes[self.shape.biases(self.kernel)], 4 * output)
    }

    /// One row of weights per input of `first`, then of `second`; of the f32 form.
    pub(crate) fn rows(&self) -> &'a [u8] {
        &self.bytes[..self.shape.biases(self.kernel).start]
    }

    pub(crate) fn weights(&self, part: Part) -> &'a [u8] {
        let Shape { outputs, first, second } = self.shape;
        let (start, first, second) = match self.kernel {
            KernelId::PORTABLE_I8 => {
                (4 * self.shape.floats(self.kernel), 2 * outputs * first.div_ceil(2), 2 * outputs * second.div_ceil(2))
            }
            _ => (0, 4 * outputs * first, 4 * outputs * second),
        };
        match part {
            Part::First => &self.bytes[start..start + first],
            Part::Second => &self.bytes[start + first..start + first + second],
        }
    }

    fn scales(&self, part: Part) -> &'a [u8] {
        let size = 4 * self.shape.outputs;
        match part {
            Part::First => &self.bytes[size..2 * size],
            Part::Second => &self.bytes[2 * size..3 * size],
        }
    }
}

/// Which of the two vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    First,
    Second,
}

/// The integer that a value at its bound becomes.
pub(crate) const INTEGER_REACH: f32 = 32_767.0;
