//! The networks on the bench: each is fitted, exported in its better variant, compared with the trainer and tried in int8.

use std::collections::BTreeMap;

use burn::tensor::Device;
use kilter_infer::{Artifact, Family, ScoreOf, Scratch};

use super::{Bench, EWMA};
use crate::{
    Progress, TrainError, TrainOptions,
    export::{self, FamilyParts, Room},
    fit::{Fitted, Known, Learner, fit},
    forecaster::ForecasterNetwork,
    network::{Network, Shape},
    prepare::{Prepared, windows},
    random::Random,
};

/// A network's artifact and what its card says beyond the figures.
pub(crate) struct Exported {
    /// Its kind.
    pub(crate) family: Family,
    /// What is sent.
    pub(crate) bytes: Vec<u8>,
    /// The same in f32, where what is sent is int8.
    pub(crate) exact: Option<Vec<u8>>,
    /// The most that int8 changes an anomaly of the validation by, relative to max(1, anomaly), sent or not.
    pub(crate) int8_loss: f32,
    pub(crate) parity: f64,
    pub(crate) losses: Vec<Progress>,
    /// Where the best weights were.
    pub(crate) steps: usize,
    pub(crate) held_out_loss: f32,
    windows: usize,
    /// Did it go on from the champion?
    pub(crate) warm: bool,
    /// Faults that it found on the rows that calibrate.
    merit: f64,
    /// The network that did worse there, and what it found.
    pub(crate) beside: Option<(Family, f64)>,
}

impl Exported {
    /// What its card says of the training.
    pub(crate) fn history(&self) -> BTreeMap<String, f64> {
        let warm = self.warm.then_some(("warm", 1.0));
        let exact = self.exact.as_ref().map(|exact| ("exact_bytes", exact.len() as f64));
        let figures = [
            ("steps", self.steps as f64),
            ("held_out_loss", f64::from(self.held_out_loss)),
            ("training_windows", self.windows as f64),
            ("int8_loss", f64::from(self.int8_loss)),
            ("bytes", self.bytes.len() as f64),
        ];
        figures.into_iter().chain(warm).chain(exact).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Why it and not the other network, and in which arithmetic it is sent.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        if let Some((family, merit)) = self.beside {
            words += &format!(
                "; chosen before the {}, {:.1} % of simulated faults against {:.1} % on the rows that calibrate",
                family_name(family).replace('_', " "),
                100.0 * self.merit,
                100.0 * merit
            );
        }
        let loss = 100.0 * self.int8_loss;
        words += &match &self.exact {
            Some(exact) => format!(
                "; sent in int8, {} of {} bytes, which changes an anomaly of the validation by at most {loss:.2} %",
                self.bytes.len(),
                exact.len()
            ),
            None => format!("; sent in f32, int8 would change an anomaly of the validation by up to {loss:.2} %"),
        };
        words
    }
}

/// The word for a family on cards.
pub(crate) fn family_name(family: Family) -> &'static str {
    match family {
        Family::LstmAutoencoder => "lstm_autoencoder",
        Family::LstmForecaster => "lstm_forecaster",
        Family::RulHead => "rul_head",
        Family::Quadratic => "quadratic",
        Family::Statistic => "statistic",
    }
}

/// What a network learns from.
struct Lessons<'w> {
    windows: Vec<&'w [usize]>,
    train: Vec<Vec<f32>>,
    held_out: Vec<Vec<f32>>,
}

impl Bench<'_> {
    /// The better of the networks that are asked for, judged by the rows that calibrate; none if none is asked for.
    pub(crate) fn network(&self, progress: &mut dyn FnMut(Progress)) -> Result<Option<Exported>, TrainError> {
        let champion = self.options.warm.as_ref().and_then(|warm| warm.family());
        let families = self.options.networks.families();
        // What goes on from a champion is of its kind.
        let tried = families.iter().filter(|family| champion.is_none_or(|champion| champion == **family));
        let (mut best, mut failed): (Option<Exported>, _) = (None, None);
        for family in tried {
            let made = match family {
                Family::LstmForecaster => self.forecaster(progress),
                _ => self.autoencoder(progress),
            };
            match (made, best.take()) {
                (Ok(made), None) => best = Some(made),
                (Ok(made), Some(other)) => {
                    let (mut better, worse, lost) = if made.merit > other.merit {
                        (made, other.merit, families[0])
                    } else {
                        (other, made.merit, *family)
                    };
                    better.beside = Some((lost, worse));
                    best = Some(better);
                }
                // One that could not be trained leaves the field to the other.
                (Err(error), other) => (best, failed) = (other, Some(error)),
            }
        }
        match (best, failed) {
            (None, Some(error)) => Err(error),
            (best, _) => Ok(best),
        }
    }

    /// The autoencoder with the better way to score.
    fn autoencoder(&self, progress: &mut dyn FnMut(Progress)) -> Result<Exported, TrainError> {
        let TrainOptions { hidden, code, seed, .. } = *self.options;
        let shape = Shape { inputs: self.prepared.columns.len(), hidden, code };
        let device = Device::flex().autodiff();
        let before = self.champion(Family::LstmAutoencoder, Network::sizes(shape));
        let warm = before.is_some();
        let network = match before {
            Some(values) => Network::from_values(values, shape, &device),
            None => Network::new(shape, &mut Random::new(seed, "weights"), &device),
        };
        let variants = |network: &Network| {
            let of = |score_of| {
                let weights = network.weights()?;
                self.calibrated(self.blueprint(FamilyParts::Autoencoder { hidden, code, score_of, weights }))
            };
            self.better([ScoreOf::LastRow, ScoreOf::Sequence, ScoreOf::MeanResidual].into_iter().map(of))
        };
        self.made(network, warm, &variants, progress)
    }

    /// The forecaster with the better memory of its residuals.
    fn forecaster(&self, progress: &mut dyn FnMut(Progress)) -> Result<Exported, TrainError> {
        let TrainOptions { hidden, seed, .. } = *self.options;
        let inputs = self.prepared.columns.len();
        let device = Device::flex().autodiff();
        let before = self.champion(Family::LstmForecaster, ForecasterNetwork::sizes(inputs, hidden));
        let warm = before.is_some();
        let network = match before {
            Some(values) => ForecasterNetwork::from_values(values, inputs, hidden, &device),
            None => ForecasterNetwork::new(inputs, hidden, &mut Random::new(seed, "forecaster"), &device),
        };
        let variants = |network: &ForecasterNetwork| {
            let of = |ewma| {
                let weights = network.weights()?;
                self.calibrated(self.blueprint(FamilyParts::Forecaster { hidden, ewma, weights }))
            };
            self.better(EWMA.into_iter().chain([1.0]).map(of))
        };
        self.made(network, warm, &variants, progress)
    }

    /// Fits a network, exports the better variant of it and compares that with the trainer.
    fn made<N: Learner>(
        &self,
        network: N,
        warm: bool,
        variants: &dyn Fn(&N) -> Result<Vec<u8>, TrainError>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Exported, TrainError> {
        let Lessons { windows, train, held_out } = self.lessons();
        let known = warm.then(|| self.known(&windows)).flatten();
        let mut losses = Vec::new();
        let mut told = |step: Progress| {
            losses.push(step);
            progress(step);
        };
        let inputs = self.prepared.columns.len();
        let fitted = fit(&train, &held_out, inputs, network, self.options, known, &mut told)?;
        let Fitted { network, steps, held_out_loss } = fitted;
        let exact = variants(&network)?;
        let compared = self.parity_windows();
        let normalised: Vec<Vec<f32>> = compared.iter().map(|window| self.normalised(window)).collect();
        let artifact = Artifact::parse(&exact).map_err(kilter_infer::DraftError::from)?;
        let parity = export::parity(&artifact, &network, &compared, &normalised)?;
        let int8 = self.int8(&artifact)?;
        let int8_loss = Artifact::parse(&int8).map_err(kilter_infer::DraftError::from)?.declared_loss();
        let TrainOptions { int8_loss: most, int8_needed, .. } = *self.options;
        let small = int8_needed || most > 0.0 && int8_loss <= most;
        let (bytes, exact) = if small { (int8, Some(exact)) } else { (exact, None) };
        let merit = self.figures(&bytes, &self.calibrate, &[])?.merit();
        let windows = train.len();
        Ok(Exported {
            family: N::FAMILY,
            bytes,
            exact,
            int8_loss,
            parity,
            losses,
            steps,
            held_out_loss,
            windows,
            warm,
            merit,
            beside: None,
        })
    }

    /// The int8 form, which declares what it loses on the rows that calibrate.
    fn int8(&self, exact: &Artifact<'_>) -> Result<Vec<u8>, TrainError> {
        let mut bytes = vec![0; exact.int8_bytes()];
        let (mut state, mut scratch) = (Box::new(Room::new()), Scratch::new());
        exact.to_int8(&self.calibrate.concat(), &mut bytes, &mut *state, &mut scratch)?;
        Ok(bytes)
    }

    fn lessons(&self) -> Lessons<'_> {
        let TrainOptions { sequence_len, max_windows, .. } = *self.options;
        let inputs = self.prepared.columns.len();
        let windows = windows(&self.prepared.parts.fit, sequence_len, max_windows);
        let train = windows.iter().map(|rows| self.normalised(&self.raw_window(rows))).collect();
        let sequences = self.stop.iter().flat_map(|run| run.windows(sequence_len * inputs).step_by(inputs));
        Lessons { train, held_out: sequences.map(|window| self.normalised(window)).collect(), windows }
    }

    /// The champion's weights for this normaliser, where a run goes on from one of this family and size.
    fn champion<const N: usize>(&self, family: Family, sizes: [usize; N]) -> Option<[Vec<f32>; N]> {
        let Prepared { mean, scale, .. } = &self.prepared;
        self.options.warm.as_ref()?.values(family, sizes, self.options.hidden, mean, scale)
    }

    /// Which windows the champion knows.
    fn known(&self, windows: &[&[usize]]) -> Known {
        let warm = self.options.warm.as_ref()?;
        let newest = |window: &&[usize]| window.last().map_or(i64::MAX, |row| self.dataset.healthy.time_us[*row]);
        Some((windows.iter().map(|window| newest(window) <= warm.until_us).collect(), warm.rehearsal))
    }
}
