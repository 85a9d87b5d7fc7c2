//! From trained numbers to an artifact, and the proof that the kernel says what the trainer said (P3).

use burn::tensor::{Device, Tensor};
use kilter_infer::{
    Artifact, Autoencoder, Body, Dense, Draft, Family, Forecaster, Lstm, Mode, Range, Regime, ResetRule, ScoreOf,
    Scratch, State,
};
use kilter_types::{FeatureRef, GroupKind};

use crate::{
    TrainError,
    fit::Learner,
    forecaster::ForecasterWeights,
    network::{Weights, numbers, steps},
};

/// Room for the longest sequence of the widest model.
pub(crate) type Room = State<4096>;

/// An artifact that is still being decided on.
pub(crate) struct Blueprint {
    pub(crate) group: GroupKind,
    pub(crate) features: Vec<FeatureRef>,
    pub(crate) mean: Vec<f32>,
    pub(crate) scale: Vec<f32>,
    pub(crate) range: Vec<Range>,
    pub(crate) weight: Vec<f32>,
    pub(crate) regimes: Vec<Regime>,
    pub(crate) threshold: f32,
    pub(crate) sequence_len: usize,
    pub(crate) family: FamilyParts,
    /// Windows as measured, one after the other.
    pub(crate) golden: Vec<f32>,
}

/// What differs between families.
pub(crate) enum FamilyParts {
    Statistic {
        ewma: f32,
    },
    /// A square map: one row of weights per input.
    Quadratic {
        ewma: f32,
        matrix: Vec<f32>,
    },
    Autoencoder {
        hidden: usize,
        code: usize,
        score_of: ScoreOf,
        weights: Weights,
    },
    Forecaster {
        hidden: usize,
        ewma: f32,
        weights: ForecasterWeights,
    },
}

impl Blueprint {
    /// The artifact's bytes, certified once here.
    pub(crate) fn write(&self) -> Result<Vec<u8>, TrainError> {
        let inverse_scale: Vec<f32> = self.scale.iter().map(|scale| 1.0 / scale).collect();
        let draft = Draft {
            group: self.group,
            features: &self.features,
            mean: &self.mean,
            inverse_scale: &inverse_scale,
            range: &self.range,
            weight: &self.weight,
            regimes: &self.regimes,
            threshold: self.threshold,
            input_clip: INPUT_CLIP,
            residual_clip: RESIDUAL_CLIP,
            sequence_len: self.sequence_len,
            reset: ResetRule::ALWAYS,
            body: self.body(),
            golden: &self.golden,
        };
        let mut bytes = vec![0; draft.size_bytes()];
        let (mut state, mut scratch) = (Box::new(Room::new()), Scratch::new());
        draft.write(&mut bytes, &mut *state, &mut scratch)?.certify(&mut *state, &mut scratch)?;
        Ok(bytes)
    }

    fn body(&self) -> Body<'_> {
        match &self.family {
            FamilyParts::Statistic { ewma } => Body::Statistic { ewma: *ewma },
            FamilyParts::Quadratic { ewma, matrix } => {
                Body::Quadratic { ewma: *ewma, matrix, rows: self.features.len() }
            }
            FamilyParts::Autoencoder { hidden, code, score_of, weights } => Body::LstmAutoencoder(Autoencoder {
                hidden: *hidden,
                code: *code,
                score_of: *score_of,
                encoder: lstm_of(&weights.encoder),
                bottleneck: dense_of(&weights.bottleneck),
                decoder: lstm_of(&weights.decoder),
                output: dense_of(&weights.output),
            }),
            FamilyParts::Forecaster { hidden, ewma, weights } => Body::LstmForecaster(Forecaster {
                hidden: *hidden,
                mode: Mode::Streaming,
                ewma: *ewma,
                lstm: lstm_of(&weights.lstm),
                output: dense_of(&weights.output),
            }),
        }
    }
}

/// The largest difference between what the kernel makes of these windows and what Burn does, relative to max(1, |y|); an error when it
/// is more than 1e-5.
pub(crate) fn parity<N: Learner>(
    artifact: &Artifact<'_>,
    network: &N,
    raw: &[Vec<f32>],
    normalised: &[Vec<f32>],
) -> Result<f64, TrainError> {
    let inputs = artifact.inputs();
    let views: Vec<&[f32]> = normalised.iter().map(Vec::as_slice).collect();
    let said: Vec<Tensor<2>> = network.said(&steps(&views, inputs, &Device::flex()));
    let trainer = said.into_iter().map(numbers).collect::<Result<Vec<_>, _>>()?;
    let (mut state, mut scratch) = (Box::new(Room::new()), Scratch::new());
    let mut ours = vec![0.0; trainer.len() * inputs];
    let mut worst = 0.0f64;
    for (number, window) in raw.iter().enumerate() {
        state.reset();
        for row in window.chunks_exact(inputs) {
            artifact.push(row, &mut *state, &mut scratch).map_err(kilter_infer::CertifyError::Row)?;
        }
        let said = match artifact.family() {
            Family::LstmForecaster => artifact.forecast(&*state, &mut scratch, &mut ours),
            _ => artifact.reconstruct(&*state, &mut scratch, &mut ours),
        };
        said.expect("the sequence is full and the family has a network");
        for (step, row) in ours.chunks_exact(inputs).enumerate() {
            for (kernel, burn) in row.iter().zip(&trainer[step][number * inputs..]) {
                let difference = (f64::from(*kernel) - f64::from(*burn)).abs() / f64::from(burn.abs()).max(1.0);
                // A difference that is no number is no agreement.
                worst = if difference <= worst { worst } else { difference };
            }
        }
    }
    if worst <= ALLOWED { Ok(worst) } else { Err(TrainError::Parity { found: worst, allowed: ALLOWED }) }
}

fn lstm_of([input, recurrent, bias]: &[Vec<f32>; 3]) -> Lstm<'_> {
    Lstm { input, recurrent, bias }
}

fn dense_of([weight, bias]: &[Vec<f32>; 2]) -> Dense<'_> {
    Dense { weight, bias }
}

/// Normalised values enter the network within this.
pub(crate) const INPUT_CLIP: f32 = 6.0;
/// Normalised values are compared within this.
const RESIDUAL_CLIP: f32 = 100.0;
const ALLOWED: f64 = 1e-5;
