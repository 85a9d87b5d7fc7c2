//! The autoencoder as Burn trains it: the same arithmetic that `shared/infer` scores, differentiable.
//!
//! `fused` computes the gradients; this one is its reference, holds the weights for the optimiser and speaks at the export.
//! All four gates of a step are one matrix, rows go in as one tensor per step (slicing what needs no gradient costs nothing
//! backwards), and the decoder's share of the code is computed once per sequence.

use burn::{
    module::{Module, Param},
    optim::GradientsParams,
    tensor::{
        Device, Tensor, TensorData,
        activation::{sigmoid, tanh},
    },
};

use kilter_infer::Family;

use crate::{
    error::TrainError,
    fit::Learner,
    fused::{Values, loss_and_gradients},
    random::Random,
};

/// Weights with inputs along the rows: `x * w + b`.
#[derive(Module, Debug)]
pub(crate) struct Network {
    encoder_input: Param<Tensor<2>>,
    encoder_recurrent: Param<Tensor<2>>,
    encoder_bias: Param<Tensor<2>>,
    bottleneck: Param<Tensor<2>>,
    bottleneck_bias: Param<Tensor<2>>,
    decoder_input: Param<Tensor<2>>,
    decoder_recurrent: Param<Tensor<2>>,
    decoder_bias: Param<Tensor<2>>,
    output: Param<Tensor<2>>,
    output_bias: Param<Tensor<2>>,
}

/// The counts that shape a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) inputs: usize,
    pub(crate) hidden: usize,
    pub(crate) code: usize,
}

/// Weights as the artifact wants them: one row per output.
pub(crate) struct Weights {
    pub(crate) encoder: [Vec<f32>; 3],
    pub(crate) bottleneck: [Vec<f32>; 2],
    pub(crate) decoder: [Vec<f32>; 3],
    pub(crate) output: [Vec<f32>; 2],
}

impl Network {
    /// Uniform weights scaled by the number of inputs; forget gates start open.
    pub(crate) fn new(shape: Shape, random: &mut Random, device: &Device) -> Self {
        let Shape { inputs, hidden, code } = shape;
        let mut matrix = |rows: usize, columns: usize| {
            let bound = (1.0 / rows as f32).sqrt();
            let values = (0..rows * columns).map(|_| random.symmetric() * bound).collect();
            parameter(values, [rows, columns], device)
        };
        let gate_bias = || {
            let open = |i: usize| if (hidden..2 * hidden).contains(&i) { 1.0 } else { 0.0 };
            parameter((0..4 * hidden).map(open).collect(), [1, 4 * hidden], device)
        };
        let zeros = |columns: usize| parameter(vec![0.0; columns], [1, columns], device);
        Self {
            encoder_input: matrix(inputs, 4 * hidden),
            encoder_recurrent: matrix(hidden, 4 * hidden),
            encoder_bias: gate_bias(),
            bottleneck: matrix(hidden, code),
            bottleneck_bias: zeros(code),
            decoder_input: matrix(code, 4 * hidden),
            decoder_recurrent: matrix(hidden, 4 * hidden),
            decoder_bias: gate_bias(),
            output: matrix(hidden, inputs),
            output_bias: zeros(inputs),
        }
    }

    /// How many numbers each parameter has, in the order of the fields.
    pub(crate) fn sizes(shape: Shape) -> [usize; PARAMETERS] {
        let Shape { inputs, hidden, code } = shape;
        [
            inputs * 4 * hidden,
            4 * hidden * hidden,
            4 * hidden,
            hidden * code,
            code,
            code * 4 * hidden,
            4 * hidden * hidden,
            4 * hidden,
            hidden * inputs,
            inputs,
        ]
    }

    /// Weights that are there, in the order of the fields.
    pub(crate) fn from_values(values: Values, shape: Shape, device: &Device) -> Self {
        let Shape { inputs, hidden, code } = shape;
        let [enc_in, enc_rec, enc_bias, squeeze, squeeze_bias, dec_in, dec_rec, dec_bias, out, out_bias] = values;
        let matrix = |values, rows, columns| parameter(values, [rows, columns], device);
        Self {
            encoder_input: matrix(enc_in, inputs, 4 * hidden),
            encoder_recurrent: matrix(enc_rec, hidden, 4 * hidden),
            encoder_bias: matrix(enc_bias, 1, 4 * hidden),
            bottleneck: matrix(squeeze, hidden, code),
            bottleneck_bias: matrix(squeeze_bias, 1, code),
            decoder_input: matrix(dec_in, code, 4 * hidden),
            decoder_recurrent: matrix(dec_rec, hidden, 4 * hidden),
            decoder_bias: matrix(dec_bias, 1, 4 * hidden),
            output: matrix(out, hidden, inputs),
            output_bias: matrix(out_bias, 1, inputs),
        }
    }

    /// Rows in, oldest first, one `[batch, inputs]` tensor per step; the rows as rebuilt, newest first.
    pub(crate) fn forward(&self, rows: &[Tensor<2>]) -> Vec<Tensor<2>> {
        let mut state = None;
        for row in rows {
            let input = row.clone().matmul(self.encoder_input.val()) + self.encoder_bias.val();
            state = Some(step(input, self.encoder_recurrent.val(), state));
        }
        let Some((hidden, _)) = state else { return Vec::new() };
        let code = tanh(hidden.matmul(self.bottleneck.val()) + self.bottleneck_bias.val());
        let input = code.matmul(self.decoder_input.val()) + self.decoder_bias.val();
        let mut state = None;
        let mut rebuilt = Vec::with_capacity(rows.len());
        for _ in rows {
            let next = step(input.clone(), self.decoder_recurrent.val(), state);
            rebuilt.push(next.0.clone().matmul(self.output.val()) + self.output_bias.val());
            state = Some(next);
        }
        rebuilt
    }

    /// All weights, inputs along the rows, in the order of the fields.
    pub(crate) fn values(&self) -> Result<Values, TrainError> {
        let values = self.parameters().map(|parameter| numbers(parameter.val().inner()));
        let mut all: Values = Default::default();
        for (slot, values) in all.iter_mut().zip(values) {
            *slot = values?;
        }
        Ok(all)
    }

    /// Gradients in the same order, as the optimiser takes them.
    fn gradients(&self, gradients: Values, device: &Device) -> GradientsParams {
        let mut all = GradientsParams::new();
        for (parameter, values) in self.parameters().into_iter().zip(gradients) {
            let shape = parameter.val().dims();
            all.register(parameter.id, Tensor::<2>::from_data(TensorData::new(values, shape), device));
        }
        all
    }

    /// What Burn's autodiff says of the same gradients.
    #[cfg(test)]
    pub(crate) fn autodiff_gradients(&self, loss: &Tensor<1>) -> Result<Values, TrainError> {
        let gradients = loss.backward();
        let mut all: Values = Default::default();
        for (slot, parameter) in all.iter_mut().zip(self.parameters()) {
            *slot = numbers(parameter.val().grad(&gradients).expect("each parameter takes part"))?;
        }
        Ok(all)
    }

    fn shape(&self) -> Shape {
        let [inputs, _] = self.encoder_input.val().dims();
        let [hidden, code] = self.bottleneck.val().dims();
        Shape { inputs, hidden, code }
    }

    fn parameters(&self) -> [&Param<Tensor<2>>; PARAMETERS] {
        [
            &self.encoder_input,
            &self.encoder_recurrent,
            &self.encoder_bias,
            &self.bottleneck,
            &self.bottleneck_bias,
            &self.decoder_input,
            &self.decoder_recurrent,
            &self.decoder_bias,
            &self.output,
            &self.output_bias,
        ]
    }

    pub(crate) fn weights(&self) -> Result<Weights, TrainError> {
        Ok(Weights {
            encoder: [
                by_output(&self.encoder_input)?,
                by_output(&self.encoder_recurrent)?,
                by_output(&self.encoder_bias)?,
            ],
            bottleneck: [by_output(&self.bottleneck)?, by_output(&self.bottleneck_bias)?],
            decoder: [
                by_output(&self.decoder_input)?,
                by_output(&self.decoder_recurrent)?,
                by_output(&self.decoder_bias)?,
            ],
            output: [by_output(&self.output)?, by_output(&self.output_bias)?],
        })
    }
}

impl Learner for Network {
    const FAMILY: Family = Family::LstmAutoencoder;

    fn learn(&self, windows: &[&[f32]]) -> Result<(f32, GradientsParams), TrainError> {
        let (loss, gradients) = loss_and_gradients(&self.values()?, windows, self.shape());
        Ok((loss, self.gradients(gradients, &Device::flex())))
    }

    /// The rows as rebuilt, newest first.
    fn said(&self, rows: &[Tensor<2>]) -> Vec<Tensor<2>> {
        self.forward(rows)
    }

    /// The mean squared error of the rebuilt rows.
    fn loss(&self, rows: &[Tensor<2>]) -> Tensor<1> {
        let rebuilt = Tensor::cat(self.forward(rows), 0);
        let wanted = Tensor::cat(rows.iter().rev().cloned().collect(), 0);
        (rebuilt - wanted).powi_scalar(2).mean()
    }
}

/// One `[batch, inputs]` tensor per step from windows of normalised rows.
pub(crate) fn steps(windows: &[&[f32]], inputs: usize, device: &Device) -> Vec<Tensor<2>> {
    let length = windows.first().map_or(0, |window| window.len() / inputs);
    (0..length)
        .map(|step| {
            let rows = windows.iter().flat_map(|window| &window[step * inputs..(step + 1) * inputs]);
            Tensor::from_data(TensorData::new(rows.copied().collect::<Vec<f32>>(), [windows.len(), inputs]), device)
        })
        .collect()
}

/// The numbers in a tensor.
pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, TrainError> {
    tensor.into_data().try_to_vec::<f32>().map_err(|error| TrainError::Tensor(format!("{error:?}")))
}

pub(crate) type StepState = (Tensor<2>, Tensor<2>);

/// One LSTM step; gates in the order input, forget, cell, output. The first step has no state to multiply.
pub(crate) fn step(input: Tensor<2>, recurrent: Tensor<2>, state: Option<StepState>) -> StepState {
    let gates = match &state {
        Some((hidden, _)) => input + hidden.clone().matmul(recurrent),
        None => input,
    };
    let size = gates.dims()[1] / 4;
    let gate = |i: usize| gates.clone().narrow(1, i * size, size);
    let new = sigmoid(gate(0)) * tanh(gate(2));
    let cell = match state {
        Some((_, cell)) => sigmoid(gate(1)) * cell + new,
        None => new,
    };
    let hidden = sigmoid(gate(3)) * tanh(cell.clone());
    (hidden, cell)
}

pub(crate) fn parameter(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Param<Tensor<2>> {
    Param::from_data(TensorData::new(values, shape), device)
}

/// Weight matrices and biases of a network.
pub(crate) const PARAMETERS: usize = 10;

pub(crate) fn by_output(parameter: &Param<Tensor<2>>) -> Result<Vec<f32>, TrainError> {
    numbers(parameter.val().inner().transpose())
}
