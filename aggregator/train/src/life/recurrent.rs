//! An LSTM on the rows themselves, judged as the head on running means is: which of the two tells better how long is left?
//!
//! The format of an artifact knows the second alone, so this one is measured and not sent. Members, folds, columns and normaliser are
//! those of `members`; rows before a machine's first are that row.

use burn::{
    grad_clipping::GradientClippingConfig,
    module::{Module, Param},
    optim::{AdamConfig, GradientsParams},
    tensor::{Device, Tensor, TensorData},
};

use super::{
    Bank, LifeDataset, LifeOptions, check,
    members::{Prepared, root_mean_square, shares},
};
use crate::{
    TrainError,
    lstm::Trace,
    matrix::affine,
    network::{numbers, parameter},
    ops, parallel,
    random::Random,
};

/// The shape and the budget of a recurrent head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecurrentOptions {
    /// Hidden units.
    pub hidden: usize,
    /// Rows that it sees.
    pub rows: usize,
    /// Steps per member.
    pub steps: usize,
    /// Rows per step to speak of.
    pub batch: usize,
}

impl Default for RecurrentOptions {
    fn default() -> Self {
        Self { hidden: 32, rows: 30, steps: 800, batch: 64 }
    }
}

/// The root mean squared error of an LSTM on machines that its member did not see, all rows, capped: to be compared with
/// [`LifeModel::held_out`](super::LifeModel::held_out) of the same options.
pub fn recurrent_error(
    dataset: &LifeDataset,
    options: &LifeOptions,
    recurrent: &RecurrentOptions,
) -> Result<f64, TrainError> {
    check(dataset, options)?;
    let bank = Bank { smoothing: vec![1.0], age_scale: options.bank.age_scale };
    let options = LifeOptions { bank, ..options.clone() };
    let share_of = shares(&dataset.machines, &options);
    let work = |member: usize, _: &mut dyn FnMut(())| -> Result<(Vec<f32>, Vec<f32>), TrainError> {
        let fold = Prepared::new(dataset, &options, |machine| share_of[machine] != member)?;
        let network = fit(&fold, &share_of, member, &options, recurrent)?;
        let kept = (0..share_of.len()).filter(|machine| share_of[*machine] == member);
        let rows: Vec<(usize, usize)> =
            kept.flat_map(|machine| (0..fold.left[machine].len()).map(move |row| (machine, row))).collect();
        let mut said = Vec::new();
        for rows in rows.chunks(256) {
            let scaled = network.say(&sequences(&fold, rows, recurrent.rows), rows.len())?;
            said.extend(scaled.into_iter().map(|y| ((y + 0.5) * options.cap).clamp(0.0, options.cap)));
        }
        Ok((said, rows.iter().map(|(machine, row)| fold.left[*machine][*row]).collect()))
    };
    let members = (0..options.members).collect();
    let (mut said, mut truth) = (Vec::new(), Vec::new());
    for member in parallel::each(members, parallel::workers(), &work, &mut |()| {}) {
        let (of_member, left) = member?;
        said.extend(of_member);
        truth.extend(left);
    }
    Ok(root_mean_square(&said, &truth))
}

/// `[step][row of the batch][value]`.
fn sequences(fold: &Prepared, rows: &[(usize, usize)], length: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(rows.len() * length * fold.width);
    for back in (0..length).rev() {
        for (machine, row) in rows {
            all.extend_from_slice(&fold.banks[*machine][row.saturating_sub(back) * fold.width..][..fold.width]);
        }
    }
    all
}

/// Weights with inputs along the rows: `x * w + b`.
#[derive(Module, Debug)]
struct Recurrent {
    input: Param<Tensor<2>>,
    recurrent: Param<Tensor<2>>,
    bias: Param<Tensor<2>>,
    output: Param<Tensor<2>>,
    output_bias: Param<Tensor<2>>,
}

impl Recurrent {
    fn new(inputs: usize, hidden: usize, random: &mut Random, device: &Device) -> Self {
        let mut drawn = |rows: usize, columns: usize| {
            let bound = (1.0 / rows as f32).sqrt();
            let values = (0..rows * columns).map(|_| random.symmetric() * bound).collect();
            parameter(values, [rows, columns], device)
        };
        let open = |i: usize| if (hidden..2 * hidden).contains(&i) { 1.0 } else { 0.0 };
        Self {
            input: drawn(inputs, 4 * hidden),
            recurrent: drawn(hidden, 4 * hidden),
            output: drawn(hidden, 1),
            bias: parameter((0..4 * hidden).map(open).collect(), [1, 4 * hidden], device),
            output_bias: parameter(vec![0.0], [1, 1], device),
        }
    }

    /// The mean squared error and its gradients.
    fn learn(&self, x: Vec<f32>, wanted: Vec<f32>) -> Result<(f32, GradientsParams), TrainError> {
        let [inputs, _] = self.input.val().dims();
        let (rows, batch) = (x.len() / inputs, wanted.len());
        let device = self.input.val().device();
        let x = Tensor::<2>::from_data(TensorData::new(x, [rows, inputs]), &device);
        let wanted = Tensor::<2>::from_data(TensorData::new(wanted, [batch, 1]), &device);
        let hidden = ops::lstm(x, self.input.val(), self.recurrent.val(), self.bias.val(), batch)?;
        let last = hidden.narrow(0, rows - batch, batch);
        let said = ops::dense(last, self.output.val(), self.output_bias.val())?;
        let loss = (said - wanted).powi_scalar(2).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), self);
        Ok((numbers(loss.inner())?.iter().sum(), gradients))
    }

    /// One number per sequence.
    fn say(&self, x: &[f32], batch: usize) -> Result<Vec<f32>, TrainError> {
        let parameters = [&self.input, &self.recurrent, &self.bias, &self.output, &self.output_bias];
        let [input, recurrent, bias, output, output_bias] =
            parameters.map(|parameter| numbers(parameter.val().inner()));
        let (input, recurrent, bias) = (input?, recurrent?, bias?);
        let (width, size) = (bias.len(), bias.len() / 4);
        let inputs = input.len() / width;
        let rows = x.len() / inputs;
        let projected = affine(x, &input, &bias, rows, inputs);
        let step = |step: usize| &projected[step * batch * width..][..batch * width];
        let trace = Trace::run(step, &recurrent, rows / batch, batch, size);
        Ok(affine(&trace.hidden[(rows - batch) * size..], &output?, &output_bias?, batch, size))
    }
}

fn fit(
    fold: &Prepared,
    share_of: &[usize],
    member: usize,
    options: &LifeOptions,
    recurrent: &RecurrentOptions,
) -> Result<Recurrent, TrainError> {
    let device = Device::flex().autodiff();
    let mut random = Random::new(options.seed.wrapping_add(member as u64), "recurrent member");
    let mut network = Recurrent::new(fold.width, recurrent.hidden, &mut random, &device);
    let mut optimizer =
        AdamConfig::new().with_epsilon(1e-8).with_grad_clipping(Some(GradientClippingConfig::Norm(1.0))).init();
    let learned = (0..share_of.len()).filter(|machine| share_of[*machine] != member);
    let all: Vec<(usize, usize)> =
        learned.flat_map(|machine| (0..fold.left[machine].len()).map(move |row| (machine, row))).collect();
    for step in 1..=recurrent.steps {
        let drawn: Vec<(usize, usize)> = (0..recurrent.batch).map(|_| all[random.below(all.len())]).collect();
        let wanted = drawn.iter().map(|(machine, row)| fold.left[*machine][*row] / options.cap - 0.5).collect();
        let (loss, gradients) = network.learn(sequences(fold, &drawn, recurrent.rows), wanted)?;
        if !loss.is_finite() {
            return Err(TrainError::Diverged { step });
        }
        let done = step as f64 / recurrent.steps as f64;
        let rate = options.learning_rate * (0.02 + 0.49 * (1.0 + (std::f64::consts::PI * done).cos()));
        network = optimizer.step(rate, network, gradients);
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::{Head, members::sample, train_life};

    #[test]
    fn an_lstm_is_judged_on_the_same_machines_as_the_other_heads_and_learns() {
        let dataset = sample::lives();
        let options = LifeOptions { cap: 40.0, hidden: vec![8], members: 4, steps: 60, ..LifeOptions::default() };
        let recurrent = RecurrentOptions { hidden: 8, rows: 6, steps: 60, batch: 32 };
        let error = recurrent_error(&dataset, &options, &recurrent).expect("members");
        let others = train_life(&dataset, &options, &mut |_, _, _| {}).expect("a head").held_out;
        let constant = others.iter().find(|(head, _)| *head == Head::Constant).expect("it is judged").1;
        println!("lstm {error}, {others:?}");
        assert!(error < 0.5 * constant, "{error} against {constant}");
        assert_eq!(recurrent_error(&dataset, &options, &recurrent).expect("members"), error);
    }
}
