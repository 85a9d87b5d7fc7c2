//! Loss and gradients of the whole network in one pass, by hand.
//!
//! At this size a general autodiff spends its time on a thousand small tensors per step. Here all rows of a batch meet a weight
//! matrix at once, forwards and backwards, in a fixed order. The non-linear functions are the kernel's that will score the
//! model. A test compares every gradient with Burn's own autodiff of the same network.

use kilter_infer::kernel::tanh;

use crate::{
    lstm::Trace,
    matrix::{affine, column_sums, product, transposed},
    network::{PARAMETERS, Shape},
};

/// One vector per parameter, inputs along the rows, in the network's order.
pub(crate) type Values = [Vec<f32>; PARAMETERS];

/// The mean squared error over the windows, and its gradient for each parameter.
///
/// Windows are normalised rows, oldest first, all of one length.
pub(crate) fn loss_and_gradients(values: &Values, windows: &[&[f32]], shape: Shape) -> (f32, Values) {
    let Shape { inputs, hidden, code } = shape;
    let [enc_in, enc_rec, enc_bias, squeeze, squeeze_bias, dec_in, dec_rec, dec_bias, out, out_bias] = values;
    let batch = windows.len();
    let length = windows.first().map_or(0, |window| window.len() / inputs);
    let rows = batch * length;
    let x = by_step(windows, inputs, length);

    let projected = affine(&x, enc_in, enc_bias, rows, inputs);
    let encoder = Trace::run(
        |step| &projected[step * batch * 4 * hidden..][..batch * 4 * hidden],
        enc_rec,
        length,
        batch,
        hidden,
    );
    let last = &encoder.hidden[(length - 1) * batch * hidden..];
    let mut squeezed = affine(last, squeeze, squeeze_bias, batch, hidden);
    squeezed.iter_mut().for_each(|value| *value = tanh(*value));
    let projected = affine(&squeezed, dec_in, dec_bias, batch, code);
    let decoder = Trace::run(|_| &projected, dec_rec, length, batch, hidden);
    let rebuilt = affine(&decoder.hidden, out, out_bias, rows, hidden);

    // The decoder gives the newest row first.
    let share = 1.0 / (rows * inputs) as f32;
    let mut loss = 0.0f64;
    let mut d_rebuilt = rebuilt;
    for (step, part) in d_rebuilt.chunks_exact_mut(batch * inputs).enumerate() {
        let wanted = &x[(length - 1 - step) * batch * inputs..][..batch * inputs];
        for (value, wanted) in part.iter_mut().zip(wanted) {
            let residual = *value - wanted;
            loss += f64::from(residual * residual);
            *value = 2.0 * share * residual;
        }
    }

    let d_out = product(&transposed(&decoder.hidden, rows, hidden), &d_rebuilt, hidden, rows);
    let d_hidden = product(&d_rebuilt, &transposed(out, hidden, inputs), rows, inputs);
    let d_gates = decoder.backward(d_hidden, dec_rec, length, batch, hidden);
    let d_dec_rec = decoder.recurrent_gradient(&d_gates, length, batch, hidden);
    let summed = column_sums(&d_gates, batch * 4 * hidden);
    let d_dec_in = product(&transposed(&squeezed, batch, code), &summed, code, batch);
    let mut d_code = product(&summed, &transposed(dec_in, code, 4 * hidden), batch, 4 * hidden);
    d_code.iter_mut().zip(&squeezed).for_each(|(d, value)| *d *= 1.0 - value * value);
    let d_squeeze = product(&transposed(last, batch, hidden), &d_code, hidden, batch);

    let mut d_hidden = vec![0.0; rows * hidden];
    let d_last = product(&d_code, &transposed(squeeze, hidden, code), batch, code);
    d_hidden[(length - 1) * batch * hidden..].copy_from_slice(&d_last);
    let d_enc_gates = encoder.backward(d_hidden, enc_rec, length, batch, hidden);
    let d_enc_rec = encoder.recurrent_gradient(&d_enc_gates, length, batch, hidden);
    let d_enc_in = product(&transposed(&x, rows, inputs), &d_enc_gates, inputs, rows);
    let gradients = [
        d_enc_in,
        d_enc_rec,
        column_sums(&d_enc_gates, 4 * hidden),
        d_squeeze,
        column_sums(&d_code, code),
        d_dec_in,
        d_dec_rec,
        column_sums(&d_gates, 4 * hidden),
        d_out,
        column_sums(&d_rebuilt, inputs),
    ];
    ((loss * f64::from(share)) as f32, gradients)
}

/// `[step][window][input]`.
pub(crate) fn by_step(windows: &[&[f32]], inputs: usize, length: usize) -> Vec<f32> {
    let row = |step: usize| windows.iter().flat_map(move |window| &window[step * inputs..(step + 1) * inputs]);
    (0..length).flat_map(row).copied().collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{
        fit::Learner,
        network::{Network, numbers, steps},
        random::Random,
    };

    #[test]
    fn loss_and_every_gradient_agree_with_autodiff() {
        for (shape, batch, length) in [
            (Shape { inputs: 5, hidden: 8, code: 3 }, 6, 4),
            (Shape { inputs: 17, hidden: 16, code: 9 }, 5, 7),
            (Shape { inputs: 1, hidden: 8, code: 1 }, 1, 2),
        ] {
            let device = Device::flex().autodiff();
            let mut random = Random::new(3, "gradient check");
            let network = Network::new(shape, &mut random, &device);
            let windows: Vec<Vec<f32>> =
                (0..batch).map(|_| (0..length * shape.inputs).map(|_| 2.0 * random.symmetric()).collect()).collect();
            let windows: Vec<&[f32]> = windows.iter().map(Vec::as_slice).collect();
            let loss = network.loss(&steps(&windows, shape.inputs, &device));
            let expected_loss = numbers(loss.clone().inner()).expect("a loss")[0];
            let expected = network.autodiff_gradients(&loss).expect("gradients");
            let (found_loss, found) = loss_and_gradients(&network.values().expect("values"), &windows, shape);
            assert!((found_loss - expected_loss).abs() < 1e-5 * expected_loss.max(1.0));
            for (parameter, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let largest = expected.iter().fold(1e-3f32, |largest, v| largest.max(v.abs()));
                assert_eq!(found.len(), expected.len(), "parameter {parameter}");
                for (found, expected) in found.iter().zip(expected) {
                    // Two orders of summation in f32, and two approximations of tanh.
                    assert!((found - expected).abs() < 1e-4 * largest, "parameter {parameter}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn the_loss_falls_along_its_gradient_as_finite_differences_say() {
        let shape = Shape { inputs: 3, hidden: 8, code: 2 };
        let mut random = Random::new(4, "finite differences");
        let device = Device::flex().autodiff();
        let mut values = Network::new(shape, &mut random, &device).values().expect("values");
        let window: Vec<f32> = (0..15).map(|_| random.symmetric()).collect();
        let windows = [window.as_slice(), &window];
        let (_, gradients) = loss_and_gradients(&values, &windows, shape);
        for parameter in 0..PARAMETERS {
            let step = 1e-2;
            let kept = values[parameter][0];
            values[parameter][0] = kept + step;
            let (above, _) = loss_and_gradients(&values, &windows, shape);
            values[parameter][0] = kept - step;
            let (below, _) = loss_and_gradients(&values, &windows, shape);
            values[parameter][0] = kept;
            let slope = (above - below) / (2.0 * step);
            // Rounding of the loss divided by the step, and the curvature over it.
            assert!((slope - gradients[parameter][0]).abs() < 1e-3, "parameter {parameter}: {slope}");
        }
    }
}
