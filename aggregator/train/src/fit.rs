//! Fits a network: Adam, a budget in steps, and the weights of the best held-out loss.

use burn::{
    grad_clipping::GradientClippingConfig,
    module::Module,
    optim::{AdamConfig, GradientsParams},
    tensor::{Device, Tensor},
};
use kilter_infer::Family;

use crate::{
    TrainError,
    clock::Stopwatch,
    network::{numbers, steps},
    options::{Progress, TrainOptions},
    random::Random,
    warm::Batches,
};

/// A network that can be fitted; its parameters lie on a device with autodiff.
pub(crate) trait Learner: Module {
    /// Which kind it is.
    const FAMILY: Family;

    /// The loss over normalised windows, oldest row first, and its gradients.
    fn learn(&self, windows: &[&[f32]]) -> Result<(f32, GradientsParams), TrainError>;

    /// What the kernel can be asked for after these rows, by Burn's plain operations: `[batch, inputs]` tensors.
    fn said(&self, rows: &[Tensor<2>]) -> Vec<Tensor<2>>;

    /// The same loss by Burn's plain operations; one `[batch, inputs]` tensor per step.
    fn loss(&self, rows: &[Tensor<2>]) -> Tensor<1>;
}

/// What fitting gave.
pub(crate) struct Fitted<N> {
    /// The weights with the best held-out loss, without gradients.
    pub(crate) network: N,
    /// Where they were.
    pub(crate) steps: usize,
    /// That loss.
    pub(crate) held_out_loss: f32,
}

/// Which windows are to be rehearsed, and their share of each batch; without it windows are all alike.
pub(crate) type Known = Option<(Vec<bool>, f64)>;

/// Windows are normalised rows of `inputs` values, oldest first. Only those that train are ever augmented.
pub(crate) fn fit<N: Learner>(
    train: &[Vec<f32>],
    held_out: &[Vec<f32>],
    inputs: usize,
    mut network: N,
    options: &TrainOptions,
    known: Known,
    progress: &mut dyn FnMut(Progress),
) -> Result<Fitted<N>, TrainError> {
    let plain = Device::flex();
    let mut optimizer =
        AdamConfig::new().with_epsilon(1e-8).with_grad_clipping(Some(GradientClippingConfig::Norm(1.0))).init();
    let every = held_out.len().div_ceil(HELD_OUT_WINDOWS).max(1);
    let watched: Vec<&[f32]> = held_out.iter().step_by(every).map(Vec::as_slice).collect();
    let watched = steps(&watched, inputs, &plain);

    let stopwatch = Stopwatch::start();
    let random = Random::new(options.seed, "batches");
    let mut batches = match known {
        Some((old, share)) => Batches::mixed(&old, share, options.batch, random),
        None => Batches::of(train.len(), options.batch, random),
    };
    let mut augmenting = Random::new(options.seed, "augmentation");
    let mut best = Fitted { network: network.valid(), steps: 0, held_out_loss: f32::INFINITY };
    let (mut losses, mut looks_without) = (Vec::new(), 0);
    for step in 1..=options.max_steps {
        let drawn = batches.next();
        let windows: Vec<_> =
            drawn.into_iter().map(|i| options.augment.apply(&train[i], inputs, &mut augmenting)).collect();
        let windows: Vec<&[f32]> = windows.iter().map(AsRef::as_ref).collect();
        let (loss, gradients) = network.learn(&windows)?;
        losses.push(loss);
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
        let (family, steps) = (N::FAMILY, options.max_steps);
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
