//! The LSTM forecaster in Burn: after each row it announces the next one.
//!
//! It is trained through Burn's autodiff with the layers of `ops`; the plain forward pass below is the reference that the kernel is
//! compared with at the export.

use burn::{
    module::{Module, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use kilter_infer::Family;

use crate::{
    TrainError,
    fit::Learner,
    fused::by_step,
    network::{by_output, numbers, parameter, step},
    ops,
    random::Random,
};

/// Weights with inputs along the rows: `x * w + b`.
#[derive(Module, Debug)]
pub(crate) struct ForecasterNetwork {
    input: Param<Tensor<2>>,
    recurrent: Param<Tensor<2>>,
    bias: Param<Tensor<2>>,
    output: Param<Tensor<2>>,
    output_bias: Param<Tensor<2>>,
}

/// Weights as the artifact wants them: one row per output.
pub(crate) struct ForecasterWeights {
    pub(crate) lstm: [Vec<f32>; 3],
    pub(crate) output: [Vec<f32>; 2],
}

impl ForecasterNetwork {
    /// Uniform weights scaled by the number of inputs; forget gates start open, and nothing is announced but the mean.
    pub(crate) fn new(inputs: usize, hidden: usize, random: &mut Random, device: &Device) -> Self {
        let mut drawn = |rows: usize, columns: usize| -> Vec<f32> {
            let bound = (1.0 / rows as f32).sqrt();
            (0..rows * columns).map(|_| random.symmetric() * bound).collect()
        };
        let open = |i: usize| if (hidden..2 * hidden).contains(&i) { 1.0 } else { 0.0 };
        let values = [
            drawn(inputs, 4 * hidden),
            drawn(hidden, 4 * hidden),
            (0..4 * hidden).map(open).collect(),
            drawn(hidden, inputs),
            vec![0.0; inputs],
        ];
        Self::from_values(values, inputs, hidden, device)
    }

    /// Weights that are there, in the order of the fields.
    pub(crate) fn from_values(values: [Vec<f32>; 5], inputs: usize, hidden: usize, device: &Device) -> Self {
        let [input, recurrent, bias, output, output_bias] = values;
        Self {
            input: parameter(input, [inputs, 4 * hidden], device),
            recurrent: parameter(recurrent, [hidden, 4 * hidden], device),
            bias: parameter(bias, [1, 4 * hidden], device),
            output: parameter(output, [hidden, inputs], device),
            output_bias: parameter(output_bias, [1, inputs], device),
        }
    }

    /// How many numbers each parameter has, in the order of the fields.
    pub(crate) fn sizes(inputs: usize, hidden: usize) -> [usize; 5] {
        [inputs * 4 * hidden, 4 * hidden * hidden, 4 * hidden, hidden * inputs, inputs]
    }

    /// What is announced after each row; rows oldest first, one `[batch, inputs]` tensor per step.
    pub(crate) fn forward(&self, rows: &[Tensor<2>]) -> Vec<Tensor<2>> {
        let mut state = None;
        let mut announced = Vec::with_capacity(rows.len());
        for row in rows {
            let input = row.clone().matmul(self.input.val()) + self.bias.val();
            let next = step(input, self.recurrent.val(), state);
            announced.push(next.0.clone().matmul(self.output.val()) + self.output_bias.val());
            state = Some(next);
        }
        announced
    }

    pub(crate) fn weights(&self) -> Result<ForecasterWeights, TrainError> {
        Ok(ForecasterWeights {
            lstm: [by_output(&self.input)?, by_output(&self.recurrent)?, by_output(&self.bias)?],
            output: [by_output(&self.output)?, by_output(&self.output_bias)?],
        })
    }

    /// The mean squared error of what is announced for the rows after the first, through the fused layers.
    fn fused_loss(&self, windows: &[&[f32]]) -> Result<Tensor<1>, TrainError> {
        let [inputs, _] = self.input.val().dims();
        let batch = windows.len();
        let length = windows.first().map_or(0, |window| window.len() / inputs);
        let all = by_step(windows, inputs, length);
        let rows = (length - 1) * batch;
        let device = self.input.val().device();
        let part = |values: &[f32]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, inputs]), &device);
        let (x, wanted) = (part(&all[..rows * inputs]), part(&all[batch * inputs..]));
        let hidden = ops::lstm(x, self.input.val(), self.recurrent.val(), self.bias.val(), batch)?;
        let announced = ops::dense(hidden, self.output.val(), self.output_bias.val())?;
        Ok((announced - wanted).powi_scalar(2).mean())
    }
}

impl Learner for ForecasterNetwork {
    const FAMILY: Family = Family::LstmForecaster;

    fn learn(&self, windows: &[&[f32]]) -> Result<(f32, GradientsParams), TrainError> {
        let loss = self.fused_loss(windows)?;
        let gradients = GradientsParams::from_grads(loss.backward(), self);
        let loss = numbers(loss.inner())?.iter().sum();
        Ok((loss, gradients))
    }

    /// What is announced for the row after the last.
    fn said(&self, rows: &[Tensor<2>]) -> Vec<Tensor<2>> {
        self.forward(rows).pop().into_iter().collect()
    }

    fn loss(&self, rows: &[Tensor<2>]) -> Tensor<1> {
        let announced = Tensor::cat(self.forward(&rows[..rows.len() - 1]), 0);
        let wanted = Tensor::cat(rows[1..].to_vec(), 0);
        (announced - wanted).powi_scalar(2).mean()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::steps;

    #[test]
    fn the_loss_through_the_fused_layers_and_its_gradients_are_those_of_the_plain_ones() {
        let (inputs, hidden, length) = (4, 8, 5);
        let device = Device::flex().autodiff();
        let mut random = Random::new(9, "forecaster");
        let network = ForecasterNetwork::new(inputs, hidden, &mut random, &device);
        let windows: Vec<Vec<f32>> =
            (0..6).map(|_| (0..length * inputs).map(|_| 2.0 * random.symmetric()).collect()).collect();
        let windows: Vec<&[f32]> = windows.iter().map(Vec::as_slice).collect();
        let (loss, fused) = network.learn(&windows).expect("a loss");
        let plain = network.loss(&steps(&windows, inputs, &device));
        let expected = GradientsParams::from_grads(plain.backward(), &network);
        assert!((loss - numbers(plain.inner()).expect("a loss")[0]).abs() < 1e-5);
        for parameter in [&network.input, &network.recurrent, &network.bias, &network.output, &network.output_bias] {
            let of = |gradients: &GradientsParams| {
                numbers(gradients.get::<2>(parameter.id).expect("it takes part")).expect("numbers")
            };
            for (found, expected) in of(&fused).iter().zip(of(&expected)) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }
}
