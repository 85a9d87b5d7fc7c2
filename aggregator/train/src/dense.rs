//! A small dense network with one output, fitted by squared error: the head of a life model.
//!
//! As with the autoencoder, one hand-written pass gives the gradients and Burn's Adam takes the steps; Burn's autodiff is the
//! reference in the gradient check, its forward pass the reference at the export. Hidden layers are hyperbolic tangents.

use burn::{
    grad_clipping::GradientClippingConfig,
    module::{Module, Param},
    optim::{AdamConfig, GradientsParams},
    tensor::{Device, Tensor, TensorData, activation},
};
use kilter_infer::kernel::tanh;

use crate::{
    TrainError,
    matrix::{add_product, affine, column_sums, product, transposed},
    network::numbers,
    random::Random,
};

/// Weights and biases in turn, inputs along the rows.
pub(crate) type Layers = Vec<Vec<f32>>;

/// Rows of the same width, one after the other, each with what the network should say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Examples<'a> {
    pub(crate) width: usize,
    pub(crate) rows: &'a [f32],
    pub(crate) wanted: &'a [f32],
}

/// How long and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) learning_rate: f64,
    /// Standard deviation of the noise added to each input: augmentation, on training rows only.
    pub(crate) noise: f32,
}

/// The network as Burn holds it.
#[derive(Module, Debug)]
pub(crate) struct DenseNetwork {
    weights: Vec<Param<Tensor<2>>>,
    biases: Vec<Param<Tensor<2>>>,
}

impl DenseNetwork {
    /// Uniform weights scaled by the number of inputs; `sizes` begins with the inputs and ends with 1.
    pub(crate) fn new(sizes: &[usize], random: &mut Random, device: &Device) -> Self {
        let mut weights = Vec::new();
        for pair in sizes.windows(2) {
            let bound = (1.0 / pair[0] as f32).sqrt();
            let values: Vec<f32> = (0..pair[0] * pair[1]).map(|_| random.symmetric() * bound).collect();
            weights.push(Param::from_data(TensorData::new(values, [pair[0], pair[1]]), device));
        }
        let bias = |size: &usize| Param::from_data(TensorData::new(vec![0.0f32; *size], [1, *size]), device);
        Self { weights, biases: sizes[1..].iter().map(bias).collect() }
    }

    /// One number per row.
    pub(crate) fn forward(&self, rows: Tensor<2>) -> Tensor<2> {
        let mut x = rows;
        for (place, (weight, bias)) in self.weights.iter().zip(&self.biases).enumerate() {
            x = x.matmul(weight.val()) + bias.val();
            if place + 1 < self.weights.len() {
                x = activation::tanh(x);
            }
        }
        x
    }

    /// The numbers that Burn's own forward pass gives.
    pub(crate) fn say(&self, rows: &[f32], width: usize) -> Result<Vec<f32>, TrainError> {
        let device = Device::flex();
        let data = TensorData::new(rows.to_vec(), [rows.len() / width.max(1), width]);
        numbers(self.clone().valid().forward(Tensor::from_data(data, &device)))
    }

    pub(crate) fn layers(&self) -> Result<Layers, TrainError> {
        let pairs = self.weights.iter().zip(&self.biases);
        pairs.flat_map(|(weight, bias)| [weight, bias]).map(|parameter| numbers(parameter.val().inner())).collect()
    }

    fn gradients(&self, gradients: Layers, device: &Device) -> GradientsParams {
        let mut all = GradientsParams::new();
        let pairs = self.weights.iter().zip(&self.biases);
        for (parameter, values) in pairs.flat_map(|(weight, bias)| [weight, bias]).zip(gradients) {
            let shape = parameter.val().dims();
            all.register(parameter.id, Tensor::<2>::from_data(TensorData::new(values, shape), device));
        }
        all
    }
}

/// Fits a network; the same seed gives the same bits.
pub(crate) fn fit(
    examples: &Examples<'_>,
    hidden: &[usize],
    schedule: &Schedule,
    random: &mut Random,
    watch: &mut dyn FnMut(usize, f32),
) -> Result<DenseNetwork, TrainError> {
    let (plain, device) = (Device::flex(), Device::flex().autodiff());
    let sizes: Vec<usize> = [examples.width].iter().chain(hidden).chain(&[1]).copied().collect();
    let mut network = DenseNetwork::new(&sizes, random, &device);
    let mut optimizer =
        AdamConfig::new().with_epsilon(1e-8).with_grad_clipping(Some(GradientClippingConfig::Norm(1.0))).init();
    let count = examples.wanted.len();
    let batch = schedule.batch.min(count);
    let (mut rows, mut wanted) = (Vec::new(), Vec::new());
    for step in 1..=schedule.steps {
        rows.clear();
        wanted.clear();
        for _ in 0..batch {
            let row = random.below(count);
            let values = &examples.rows[row * examples.width..(row + 1) * examples.width];
            rows.extend(values.iter().map(|value| value + schedule.noise * random.normal()));
            wanted.push(examples.wanted[row]);
        }
        let drawn = Examples { width: examples.width, rows: &rows, wanted: &wanted };
        let (loss, gradients) = loss_and_gradients(&network.layers()?, &sizes, &drawn);
        if !loss.is_finite() {
            return Err(TrainError::Diverged { step });
        }
        let done = step as f64 / schedule.steps as f64;
        let rate = schedule.learning_rate * (0.02 + 0.49 * (1.0 + (std::f64::consts::PI * done).cos()));
        let gradients = network.gradients(gradients, &plain);
        network = optimizer.step(rate, network, gradients);
        watch(step, loss);
    }
    Ok(network)
}

/// What the network says of each row, by the kernel's functions.
pub(crate) fn say(layers: &Layers, sizes: &[usize], rows: &[f32]) -> Vec<f32> {
    let mut all = forward(layers, sizes, rows);
    all.pop().unwrap_or_default()
}

/// The mean squared error and its gradient for each layer.
fn loss_and_gradients(layers: &Layers, sizes: &[usize], examples: &Examples<'_>) -> (f32, Layers) {
    let rows = examples.wanted.len();
    let outputs = forward(layers, sizes, examples.rows);
    let depth = sizes.len() - 1;
    let share = 1.0 / rows as f32;
    let mut loss = 0.0f64;
    let mut back: Vec<f32> = outputs[depth - 1].clone();
    for (value, wanted) in back.iter_mut().zip(examples.wanted) {
        let residual = *value - wanted;
        loss += f64::from(residual * residual);
        *value = 2.0 * share * residual;
    }
    let mut gradients = vec![Vec::new(); 2 * depth];
    for layer in (0..depth).rev() {
        let (inputs, columns) = (sizes[layer], sizes[layer + 1]);
        let below = if layer == 0 { examples.rows } else { &outputs[layer - 1] };
        gradients[2 * layer] = product(&transposed(below, rows, inputs), &back, inputs, rows);
        gradients[2 * layer + 1] = column_sums(&back, columns);
        if layer > 0 {
            let mut next = vec![0.0; rows * inputs];
            add_product(&back, &transposed(&layers[2 * layer], inputs, columns), &mut next, rows, columns);
            next.iter_mut().zip(below).for_each(|(d, value)| *d *= 1.0 - value * value);
            back = next;
        }
    }
    ((loss * f64::from(share)) as f32, gradients)
}

/// The outputs of each layer.
fn forward(layers: &Layers, sizes: &[usize], rows: &[f32]) -> Vec<Vec<f32>> {
    let count = rows.len() / sizes[0].max(1);
    let mut outputs: Vec<Vec<f32>> = Vec::new();
    for layer in 0..sizes.len() - 1 {
        let below = outputs.last().map_or(rows, Vec::as_slice);
        let mut out = affine(below, &layers[2 * layer], &layers[2 * layer + 1], count, sizes[layer]);
        if layer + 2 < sizes.len() {
            out.iter_mut().for_each(|value| *value = tanh(*value));
        }
        outputs.push(out);
    }
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gradient_of_the_head_agrees_with_autodiff() {
        for hidden in [vec![], vec![8], vec![16, 8]] {
            let sizes: Vec<usize> = [5].iter().chain(&hidden).chain(&[1]).copied().collect();
            let mut random = Random::new(2, "dense gradient check");
            let device = Device::flex().autodiff();
            let network = DenseNetwork::new(&sizes, &mut random, &device);
            let rows: Vec<f32> = (0..35).map(|_| 2.0 * random.symmetric()).collect();
            let wanted: Vec<f32> = (0..7).map(|_| random.symmetric()).collect();
            let examples = Examples { width: 5, rows: &rows, wanted: &wanted };
            let said = network.forward(Tensor::from_data(TensorData::new(rows.clone(), [7, 5]), &device));
            let target = Tensor::<2>::from_data(TensorData::new(wanted.clone(), [7, 1]), &device);
            let loss = (said - target).powi_scalar(2).mean();
            let expected_loss = numbers(loss.clone().inner()).expect("a loss")[0];
            let backward = loss.backward();
            let (found_loss, found) = loss_and_gradients(&network.layers().expect("values"), &sizes, &examples);
            assert!((found_loss - expected_loss).abs() < 1e-5 * expected_loss.max(1.0));
            let parameters = network.weights.iter().zip(&network.biases).flat_map(|(w, b)| [w, b]);
            for (place, (parameter, found)) in parameters.zip(&found).enumerate() {
                let expected = numbers(parameter.val().grad(&backward).expect("takes part")).expect("values");
                assert_eq!(found.len(), expected.len(), "parameter {place}");
                for (found, expected) in found.iter().zip(&expected) {
                    // Two orders of summation in f32, and two approximations of tanh.
                    assert!((found - expected).abs() < 1e-5, "parameter {place}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn a_curve_is_learned_and_the_same_seed_gives_the_same_bits() {
        let rows: Vec<f32> = (0..200).map(|i| i as f32 / 100.0 - 1.0).collect();
        let wanted: Vec<f32> = rows.iter().map(|x| (3.0 * x).sin()).collect();
        let examples = Examples { width: 1, rows: &rows, wanted: &wanted };
        let schedule = Schedule { steps: 600, batch: 64, learning_rate: 2e-2, noise: 0.0 };
        let run = || {
            let random = &mut Random::new(9, "curve");
            fit(&examples, &[16], &schedule, random, &mut |_, _| {}).expect("a network").layers().expect("values")
        };
        let layers = run();
        let said = say(&layers, &[1, 16, 1], &rows);
        let error = said.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / 200.0;
        assert!(error < 0.01, "mean squared error {error}");
        assert_eq!(layers, run());
    }
}
