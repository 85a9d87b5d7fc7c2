//! Fits the network: Adam, a budget in steps, and the weights of the best held-out loss.

use burn::{grad_clipping::GradientClippingConfig, module::Module, optim::AdamConfig, tensor::Device};
use kilter_infer::Family;

use crate::{
    TrainError,
    clock::Stopwatch,
    fused::{Values, loss_and_gradients},
    network::{Network, Shape, numbers, steps},
    options::{Progress, TrainOptions},
    random::Random,
    warm::Batches,
};

/// What fitting gave.
pub(crate) struct Fitted {
    /// The weights with the best held-out loss, without gradients.
    pub(crate) network: Network,
    /// Steps done.
    pub(crate) steps: usize,
    /// That loss.
    pub(crate) held_out_loss: f32,
}

/// Where fitting begins; by default with drawn weights and windows that are all alike.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beginning {
    pub(crate) values: Option<Values>,
    /// Which windows are to be rehearsed, and their share of each batch.
    pub(crate) known: Option<(Vec<bool>, f64)>,
}

/// Windows are normalised rows, oldest first.
pub(crate) fn fit(
    train: &[Vec<f32>],
    held_out: &[Vec<f32>],
    shape: Shape,
    options: &TrainOptions,
    beginning: Beginning,
    progress: &mut dyn FnMut(Progress),
) -> Result<Fitted, TrainError> {
    let plain = Device::flex();
    let device = Device::flex().autodiff();
    let mut network = match beginning.values {
        Some(values) => Network::from_values(values, shape, &device),
        None => Network::new(shape, &mut Random::new(options.seed, "weights"), &device),
    };
    let mut optimizer =
        AdamConfig::new().with_epsilon(1e-8).with_grad_clipping(Some(GradientClippingConfig::Norm(1.0))).init();
    let every = held_out.len().div_ceil(HELD_OUT_WINDOWS).max(1);
    let watched: Vec<&[f32]> = held_out.iter().step_by(every).map(Vec::as_slice).collect();
    let watched = steps(&watched, shape.inputs, &plain);

    let stopwatch = Stopwatch::start();
    let random = Random::new(options.seed, "batches");
    let mut batches = match beginning.known {
        Some((old, share)) => Batches::mixed(&old, share, options.batch, random),
        None => Batches::of(train.len(), options.batch, random),
    };
    let mut best = Fitted { network: network.valid(), steps: 0, held_out_loss: f32::INFINITY };
    let (mut losses, mut looks_without) = (Vec::new(), 0);
    for step in 1..=options.max_steps {
        let windows: Vec<&[f32]> = batches.next().into_iter().map(|i| train[i].as_slice()).collect();
        let (loss, gradients) = loss_and_gradients(&network.values()?, &windows, shape);
        losses.push(loss);
        let gradients = network.gradients(gradients, &plain);
        network = optimizer.step(rate(step, options), network, gradients);
        if step % options.look_every != 0 && step != options.max_steps {
            continue;
        }
        let loss = losses.iter().sum::<f32>() / losses.len() as f32;
        losses.clear();
        let held_out_loss = numbers(network.valid().loss(&watched))?.iter().sum::<f32>();
        if !loss.is_finite() || !held_out_loss.is_finite() {
            return Err(TrainError::Diverged { step });
        }
        let eta_secs = stopwatch.secs() / step as f32 * (options.max_steps - step) as f32;
        let (family, steps) = (Family::LstmAutoencoder, options.max_steps);
        progress(Progress { family, step, steps, loss, held_out_loss, eta_secs });
        // Less than a tenth of a percent is no progress.
        if held_out_loss < 0.999 * best.held_out_loss {
            best = Fitted { network: network.valid(), steps: step, held_out_loss };
            looks_without = 0;
        } else {
            looks_without += 1;
        }
        if looks_without >= options.patience {
            break;
        }
    }
    Ok(best)
}

fn rate(step: usize, options: &TrainOptions) -> f64 {
    let done = step as f64 / options.max_steps as f64;
    options.learning_rate * (0.1 + 0.45 * (1.0 + (std::f64::consts::PI * done).cos()))
}

const HELD_OUT_WINDOWS: usize = 256;
