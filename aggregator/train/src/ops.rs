//! An LSTM layer and a dense layer as custom operations of Burn's autodiff: forwards and backwards are ours, the graph is Burn's.
//!
//! Burn's own LSTM is a few dozen small tensors per step, and each of them costs more than its numbers. Here a layer is one node of
//! the graph: what its backward pass needs is kept from its forward pass. Tests compare value and gradients with Burn's own layer
//! and with finite differences.

use std::sync::Arc;

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        flex::FlexTensor,
        tensor::FloatTensor,
    },
    tensor::{Tensor, TensorData},
};

use crate::{
    TrainError,
    lstm::Trace,
    matrix::{affine, column_sums, product, transposed},
};

/// The hidden states of an LSTM that begins with zeros, rows `[step][row of the batch]` in and out; gates in the order input, forget,
/// cell, output.
pub(crate) fn lstm(
    x: Tensor<2>,
    input: Tensor<2>,
    recurrent: Tensor<2>,
    bias: Tensor<2>,
    batch: usize,
) -> Result<Tensor<2>, TrainError> {
    let [rows, inputs] = x.dims();
    let [size, width] = recurrent.dims();
    let length = rows / batch.max(1);
    let (x, of_x) = primitive(x)?.into_parts();
    let (input, of_input) = primitive(input)?.into_parts();
    let (recurrent, of_recurrent) = primitive(recurrent)?.into_parts();
    let (bias, of_bias) = primitive(bias)?.into_parts();
    let (x, input, recurrent, bias) = (floats(x), floats(input), floats(recurrent), floats(bias));
    let projected = affine(&x, &input, &bias, rows, inputs);
    let trace = Trace::run(|step| &projected[step * batch * width..][..batch * width], &recurrent, length, batch, size);
    let hidden = tensor(trace.hidden.clone(), [rows, size]);
    let guards = [of_x, of_input, of_recurrent, of_bias];
    let output = match LstmLayer.prepare::<NoCheckpointing>(guards).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let kept = Unrolled { x, input, recurrent, trace, inputs, batch, size };
            prepared.finish(Arc::new(kept), hidden)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(hidden),
    };
    Ok(Tensor::from_primitive::<Autodiff<Flex>>(output))
}

/// `x * weight + bias`.
pub(crate) fn dense(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<2>) -> Result<Tensor<2>, TrainError> {
    let [rows, inputs] = x.dims();
    let [_, outputs] = weight.dims();
    let (x, of_x) = primitive(x)?.into_parts();
    let (weight, of_weight) = primitive(weight)?.into_parts();
    let (bias, of_bias) = primitive(bias)?.into_parts();
    let (x, weight, bias) = (floats(x), floats(weight), floats(bias));
    let said = tensor(affine(&x, &weight, &bias, rows, inputs), [rows, outputs]);
    let guards = [of_x, of_weight, of_bias];
    let output = match DenseLayer.prepare::<NoCheckpointing>(guards).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(Arc::new(Mapped { x, weight, inputs, outputs }), said),
        OpsKind::UnTracked(prepared) => prepared.finish(said),
    };
    Ok(Tensor::from_primitive::<Autodiff<Flex>>(output))
}

#[derive(Debug)]
struct LstmLayer;

/// What an LSTM's backward pass needs.
#[derive(Debug)]
struct Unrolled {
    x: Vec<f32>,
    input: Vec<f32>,
    recurrent: Vec<f32>,
    trace: Trace,
    inputs: usize,
    batch: usize,
    size: usize,
}

impl Backward<Flex, 4> for LstmLayer {
    type State = Arc<Unrolled>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let Unrolled { x, input, recurrent, trace, inputs, batch, size } = &*ops.state;
        let (inputs, batch, size) = (*inputs, *batch, *size);
        let rows = x.len() / inputs;
        let d_hidden = floats(grads.consume::<Flex>(&ops.node));
        let d_gates = trace.backward(d_hidden, recurrent, rows / batch, batch, size);
        let [of_x, of_input, of_recurrent, of_bias] = ops.parents;
        if let Some(node) = of_x {
            let d_x = product(&d_gates, &transposed(input, inputs, 4 * size), rows, 4 * size);
            grads.register::<Flex>(node.id, tensor(d_x, [rows, inputs]));
        }
        if let Some(node) = of_input {
            let d_input = product(&transposed(x, rows, inputs), &d_gates, inputs, rows);
            grads.register::<Flex>(node.id, tensor(d_input, [inputs, 4 * size]));
        }
        if let Some(node) = of_recurrent {
            let d_recurrent = trace.recurrent_gradient(&d_gates, rows / batch, batch, size);
            grads.register::<Flex>(node.id, tensor(d_recurrent, [size, 4 * size]));
        }
        if let Some(node) = of_bias {
            grads.register::<Flex>(node.id, tensor(column_sums(&d_gates, 4 * size), [1, 4 * size]));
        }
    }
}

#[derive(Debug)]
struct DenseLayer;

/// What a dense layer's backward pass needs.
#[derive(Debug)]
struct Mapped {
    x: Vec<f32>,
    weight: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl Backward<Flex, 3> for DenseLayer {
    type State = Arc<Mapped>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let Mapped { x, weight, inputs, outputs } = &*ops.state;
        let (inputs, outputs) = (*inputs, *outputs);
        let rows = x.len() / inputs;
        let back = floats(grads.consume::<Flex>(&ops.node));
        let [of_x, of_weight, of_bias] = ops.parents;
        if let Some(node) = of_x {
            let d_x = product(&back, &transposed(weight, inputs, outputs), rows, outputs);
            grads.register::<Flex>(node.id, tensor(d_x, [rows, inputs]));
        }
        if let Some(node) = of_weight {
            let d_weight = product(&transposed(x, rows, inputs), &back, inputs, rows);
            grads.register::<Flex>(node.id, tensor(d_weight, [inputs, outputs]));
        }
        if let Some(node) = of_bias {
            grads.register::<Flex>(node.id, tensor(column_sums(&back, outputs), [1, outputs]));
        }
    }
}

/// Training happens on Burn's Flex backend with autodiff; another device is a mistake of the caller's.
fn primitive(tensor: Tensor<2>) -> Result<FloatTensor<Autodiff<Flex>>, TrainError> {
    tensor.try_into_primitive::<Autodiff<Flex>>().map_err(|error| TrainError::Tensor(format!("{error:?}")))
}

fn floats(tensor: FlexTensor) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().expect("every tensor of a network is f32")
}

fn tensor(values: Vec<f32>, shape: [usize; 2]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

#[cfg(test)]
mod tests {
    use burn::{
        module::Param,
        nn::{GateController, LstmConfig},
        tensor::Device,
    };

    use super::*;
    use crate::{network::numbers, random::Random};

    const INPUTS: usize = 5;
    const SIZE: usize = 8;
    const LENGTH: usize = 6;
    const BATCH: usize = 3;

    /// Rows, weights of the input, recurrent weights and biases; gates in the order of the layer.
    fn numbers_of_a_layer(random: &mut Random) -> [Vec<f32>; 4] {
        [LENGTH * BATCH * INPUTS, INPUTS * 4 * SIZE, SIZE * 4 * SIZE, 4 * SIZE]
            .map(|count| (0..count).map(|_| 0.7 * random.symmetric()).collect())
    }

    fn leaf(values: &[f32], shape: [usize; 2], device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), device).require_grad()
    }

    /// A sum that every hidden state enters with a weight of its own.
    fn weights(device: &Device) -> Tensor<2> {
        let mut random = Random::new(8, "weights of the sum");
        let values: Vec<f32> = (0..LENGTH * BATCH * SIZE).map(|_| random.symmetric()).collect();
        Tensor::from_data(TensorData::new(values, [LENGTH * BATCH, SIZE]), device)
    }

    fn close(found: &[f32], expected: &[f32], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0), "{what}: {found} {expected}");
        }
    }

    fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        numbers(tensor).expect("numbers")
    }

    /// Ours: the sum and its gradients by rows, input, recurrent weights and biases.
    fn ours(values: &[Vec<f32>; 4]) -> (f32, Vec<f32>, [Vec<f32>; 4]) {
        let device = Device::flex().autodiff();
        let shapes = [[LENGTH * BATCH, INPUTS], [INPUTS, 4 * SIZE], [SIZE, 4 * SIZE], [1, 4 * SIZE]];
        let leaves: Vec<Tensor<2>> = values.iter().zip(shapes).map(|(v, shape)| leaf(v, shape, &device)).collect();
        let [x, input, recurrent, bias] = [0, 1, 2, 3].map(|i| leaves[i].clone());
        let hidden = lstm(x, input, recurrent, bias, BATCH).expect("the device is the right one");
        let sum = (hidden.clone() * weights(&device)).sum();
        let grads = sum.backward();
        let of = |i: usize| read(leaves[i].grad(&grads).expect("it takes part"));
        (read(sum.inner())[0], read(hidden.inner()), [of(0), of(1), of(2), of(3)])
    }

    #[test]
    fn the_layer_and_its_gradients_are_those_of_burns_own_lstm() {
        let values = numbers_of_a_layer(&mut Random::new(5, "against Burn"));
        let (sum, hidden, gradients) = ours(&values);
        let [x, input, recurrent, bias] = &values;
        let device = Device::flex().autodiff();
        let gate = |place: usize, controller: GateController| {
            let columns = |values: &[f32], rows: usize| -> Vec<f32> {
                (0..rows).flat_map(|row| &values[(row * 4 + place) * SIZE..][..SIZE]).copied().collect()
            };
            let mut controller = controller;
            let weight =
                |values: Vec<f32>, rows: usize| Param::from_data(TensorData::new(values, [rows, SIZE]), &device);
            controller.input_transform.weight = weight(columns(input, INPUTS), INPUTS);
            controller.hidden_transform.weight = weight(columns(recurrent, SIZE), SIZE);
            let biases = |values: Vec<f32>| Some(Param::from_data(TensorData::new(values, [SIZE]), &device));
            controller.input_transform.bias = biases(columns(bias, 1));
            controller.hidden_transform.bias = biases(vec![0.0; SIZE]);
            controller
        };
        let mut layer = LstmConfig::new(INPUTS, SIZE, true).with_batch_first(false).init(&device);
        layer.input_gate = gate(0, layer.input_gate);
        layer.forget_gate = layer.forget_gate.map(|controller| gate(1, controller));
        layer.cell_gate = gate(2, layer.cell_gate);
        layer.output_gate = gate(3, layer.output_gate);
        let rows = Tensor::<3>::from_data(TensorData::new(x.clone(), [LENGTH, BATCH, INPUTS]), &device).require_grad();
        let (theirs, _) = layer.forward(rows.clone(), None);
        let theirs = theirs.reshape([LENGTH * BATCH, SIZE]);
        let their_sum = (theirs.clone() * weights(&device)).sum();
        let grads = their_sum.backward();
        close(&hidden, &read(theirs.inner()), "hidden states");
        close(&[sum], &read(their_sum.inner()), "sum");
        close(&gradients[0], &read(rows.grad(&grads).expect("it takes part")), "rows");
        let forget = layer.forget_gate.as_ref().expect("it has one");
        let gates = [&layer.input_gate, forget, &layer.cell_gate, &layer.output_gate];
        for (place, gate) in gates.into_iter().enumerate() {
            let columns = |values: &[f32], rows: usize| -> Vec<f32> {
                (0..rows).flat_map(|row| &values[(row * 4 + place) * SIZE..][..SIZE]).copied().collect()
            };
            let of = |param: &Param<Tensor<2>>| read(param.val().grad(&grads).expect("it takes part"));
            close(&columns(&gradients[1], INPUTS), &of(&gate.input_transform.weight), "weights of the input");
            close(&columns(&gradients[2], SIZE), &of(&gate.hidden_transform.weight), "recurrent weights");
            let bias = gate.input_transform.bias.as_ref().expect("it has one");
            close(&columns(&gradients[3], 1), &read(bias.val().grad(&grads).expect("it takes part")), "biases");
        }
    }

    #[test]
    fn the_layers_gradients_are_those_of_finite_differences() {
        let mut values = numbers_of_a_layer(&mut Random::new(6, "finite differences"));
        let (_, _, gradients) = ours(&values);
        let step = 1e-2;
        for part in 0..4 {
            for place in (0..values[part].len()).step_by(7) {
                let kept = values[part][place];
                values[part][place] = kept + step;
                let (above, ..) = ours(&values);
                values[part][place] = kept - step;
                let (below, ..) = ours(&values);
                values[part][place] = kept;
                let slope = (above - below) / (2.0 * step);
                let found = gradients[part][place];
                // Rounding of the sum divided by the step, and the curvature over it.
                assert!((slope - found).abs() < 2e-3 * found.abs().max(1.0), "part {part}, {place}: {slope} {found}");
            }
        }
    }

    #[test]
    fn a_dense_layer_and_its_gradients_are_those_of_burns_own_arithmetic() {
        let device = Device::flex().autodiff();
        let mut random = Random::new(7, "dense");
        let mut drawn = |rows: usize, columns: usize| {
            let values: Vec<f32> = (0..rows * columns).map(|_| random.symmetric()).collect();
            [leaf(&values, [rows, columns], &device), leaf(&values, [rows, columns], &device)]
        };
        let ([x, other_x], [w, other_w], [b, other_b]) = (drawn(6, 5), drawn(5, 3), drawn(1, 3));
        let ours = dense(x.clone(), w.clone(), b.clone()).expect("the device is the right one");
        let theirs = other_x.clone().matmul(other_w.clone()) + other_b.clone();
        let (grads, other_grads) =
            (ours.clone().powi_scalar(2).sum().backward(), theirs.clone().powi_scalar(2).sum().backward());
        close(&read(ours.inner()), &read(theirs.inner()), "values");
        for (ours, theirs) in [(x, other_x), (w, other_w), (b, other_b)] {
            close(
                &read(ours.grad(&grads).expect("it takes part")),
                &read(theirs.grad(&other_grads).expect("it takes part")),
                "gradient",
            );
        }
    }
}
