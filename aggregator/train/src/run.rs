//! One training run, from rows to two models and the choice between them.

use std::collections::BTreeMap;

use kilter_infer::{Artifact, Family, ScoreOf};
use kilter_types::{Digest, Role};

use crate::{
    Card, CardFeature, Dataset, Progress, TrainError, TrainOptions, calibrate,
    evaluate::{self, Direction, Figures, RawRun},
    export::{self, Blueprint, FamilyParts, INPUT_CLIP},
    fit::fit,
    network::Shape,
    prepare::{Prepared, Run, windows},
};

/// What a run gives: the leader first.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Both models.
    pub models: Vec<TrainedModel>,
}

/// One model.
#[derive(Clone, Debug)]
pub struct TrainedModel {
    /// The bytes that `kilter_infer::Artifact` parses.
    pub artifact: Vec<u8>,
    /// What to know about it.
    pub card: Card,
}

/// Trains both models and says which leads.
pub fn train(
    dataset: &Dataset,
    options: &TrainOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Trained, TrainError> {
    options.check()?;
    dataset.check()?;
    let bench = Bench::new(dataset, options)?;
    let statistic = bench.statistic()?;
    let Exported { bytes: network, parity, history } = bench.autoencoder(progress)?;

    let (ours, theirs) = (bench.test(&network)?, bench.test(&statistic)?);
    // The simpler one leads unless the network is better, and seen to be quiet on enough healthy windows to believe it.
    let network_leads = ours.quiet_at_worst() <= MOST_FALSE && ours.merit() > theirs.merit();
    let rule = bench.simple_rule();
    let why = |name: &str, own: &Figures, other: &Figures| {
        format!(
            "{name}: {:.1} % of simulated{} faults found with {:.2} % of {} healthy windows above the threshold (at worst {:.2} %, at most {:.0} % may lead); the other model {:.1} % with {:.2} %, the simple rule {:.1} % with {:.2} %",
            100.0 * own.merit(),
            if own.labelled.is_some() { " and labelled" } else { "" },
            100.0 * own.false_alarm_share,
            own.windows,
            100.0 * own.quiet_at_worst(),
            100.0 * MOST_FALSE,
            100.0 * other.merit(),
            100.0 * other.false_alarm_share,
            100.0 * rule.merit(),
            100.0 * rule.false_alarm_share,
        )
    };
    let role = |leads: bool| if leads { Role::Leader } else { Role::Shadow };
    let verdict = |leads: bool| if leads { "leads" } else { "runs as shadow" };
    let mut network_card = bench.card(&network, role(network_leads), &ours, &rule);
    network_card.why = why(verdict(network_leads), &ours, &theirs);
    network_card.parity_max_abs = parity;
    network_card.metrics.extend(history);
    let mut statistic_card = bench.card(&statistic, role(!network_leads), &theirs, &rule);
    statistic_card.why = why(verdict(!network_leads), &theirs, &ours);
    network_card.pair = Some(statistic_card.digest.clone());
    statistic_card.pair = Some(network_card.digest.clone());

    let mut models = vec![
        TrainedModel { artifact: network, card: network_card },
        TrainedModel { artifact: statistic, card: statistic_card },
    ];
    if !network_leads {
        models.reverse();
    }
    Ok(Trained { models })
}

/// The network's artifact and what its card says beyond the figures.
struct Exported {
    bytes: Vec<u8>,
    parity: f64,
    history: BTreeMap<String, f64>,
}

/// The data on the bench, cut once for both models.
struct Bench<'a> {
    dataset: &'a Dataset,
    options: &'a TrainOptions,
    prepared: Prepared,
    stop: Vec<RawRun>,
    calibrate: Vec<RawRun>,
    test: Vec<RawRun>,
    faulty: Vec<RawRun>,
    directions: Vec<Direction>,
}

impl<'a> Bench<'a> {
    fn new(dataset: &'a Dataset, options: &'a TrainOptions) -> Result<Self, TrainError> {
        let prepared = Prepared::new(dataset, options)?;
        let features = dataset.features.len();
        let raw = |rows, runs: &[Run]| -> Vec<RawRun> {
            runs.iter().map(|run| run.iter().flat_map(|row| prepared.raw(rows, *row, features)).collect()).collect()
        };
        let names: Vec<&str> = prepared.columns.iter().map(|column| dataset.features[*column].name.as_str()).collect();
        // Too few rows decide when to stop when there are few rows at all: then the end of the training part does.
        let stop = if prepared.parts.stop.iter().any(|run| run.len() >= options.sequence_len) {
            raw(&dataset.healthy, &prepared.parts.stop)
        } else {
            raw(&dataset.healthy, &prepared.parts.fit)
        };
        Ok(Self {
            stop,
            calibrate: raw(&dataset.healthy, &prepared.parts.calibrate),
            test: raw(&dataset.healthy, &prepared.parts.test),
            faulty: raw(&dataset.faulty, &prepared.faulty),
            directions: evaluate::directions(&names, options.seed),
            dataset,
            options,
            prepared,
        })
    }

    /// The simple detector, with the better of two memories.
    fn statistic(&self) -> Result<Vec<u8>, TrainError> {
        let of_memory = |ewma| self.calibrated(self.blueprint(FamilyParts::Statistic { ewma }));
        self.better(EWMA.into_iter().map(of_memory))
    }

    /// The network with the better way to score, its parity with Burn, and what to say about its training.
    fn autoencoder(&self, progress: &mut dyn FnMut(Progress)) -> Result<Exported, TrainError> {
        let TrainOptions { sequence_len, hidden, code, max_windows, .. } = *self.options;
        let inputs = self.prepared.columns.len();
        let windows = windows(&self.prepared.parts.fit, sequence_len, max_windows);
        let train: Vec<Vec<f32>> = windows.iter().map(|rows| self.normalised(&self.raw_window(rows))).collect();
        let held_out: Vec<Vec<f32>> = self
            .stop
            .iter()
            .flat_map(|run| run.windows(sequence_len * inputs).step_by(inputs))
            .map(|window| self.normalised(window))
            .collect();
        let fitted = fit(&train, &held_out, Shape { inputs, hidden, code }, self.options, progress)?;
        let of_score = |score_of| {
            let weights = fitted.network.weights()?;
            self.calibrated(self.blueprint(FamilyParts::Autoencoder { hidden, code, score_of, weights }))
        };
        let bytes =
            self.better([ScoreOf::LastRow, ScoreOf::Sequence, ScoreOf::MeanResidual].into_iter().map(of_score))?;

        let compared = self.parity_windows();
        let normalised: Vec<Vec<f32>> = compared.iter().map(|window| self.normalised(window)).collect();
        let artifact = Artifact::parse(&bytes).map_err(kilter_infer::DraftError::from)?;
        let parity = export::parity(&artifact, &fitted.network, &compared, &normalised)?;
        let history = BTreeMap::from([
            ("steps".to_owned(), fitted.steps as f64),
            ("held_out_loss".to_owned(), f64::from(fitted.held_out_loss)),
            ("training_windows".to_owned(), train.len() as f64),
        ]);
        Ok(Exported { bytes, parity, history })
    }

    /// Features weighted by how well they come back when healthy, and the threshold for the false-alarm budget.
    fn calibrated(&self, mut blueprint: Blueprint) -> Result<Vec<u8>, TrainError> {
        let parse = |bytes| Artifact::parse(bytes).map_err(|error| TrainError::Draft(error.into()));
        let bytes = blueprint.write()?;
        let healthy = evaluate::mean_contributions(&parse(&bytes)?, &self.stop)?;
        let count = healthy.len() as f64;
        // No feature weighs so much that its smallest tremble is an alarm.
        let floor = (LEAST_RESIDUAL * healthy.iter().sum::<f64>() / count).max(1e-6);
        blueprint.weight = healthy.iter().map(|mean| (1.0 / (count * mean.max(floor))) as f32).collect();
        let bytes = blueprint.write()?;
        let scores = evaluate::anomalies(&parse(&bytes)?, &self.calibrate)?;
        let probability = calibrate::probability(self.options.false_alarms_per_month, self.options.window_period_secs);
        blueprint.threshold = calibrate::threshold(&scores, probability);
        blueprint.write()
    }

    /// The variant that finds most simulated faults on the calibration part; the first of equals.
    fn better(&self, variants: impl Iterator<Item = Result<Vec<u8>, TrainError>>) -> Result<Vec<u8>, TrainError> {
        let mut best: Option<(f64, Vec<u8>)> = None;
        for variant in variants {
            let bytes = variant?;
            let merit = self.figures(&bytes, &self.calibrate, &[])?.merit();
            if best.as_ref().is_none_or(|(least, _)| merit > *least) {
                best = Some((merit, bytes));
            }
        }
        Ok(best.map(|(_, bytes)| bytes).expect("there is at least one variant"))
    }

    fn test(&self, bytes: &[u8]) -> Result<Figures, TrainError> {
        self.figures(bytes, &self.test, &self.faulty)
    }

    fn figures(&self, bytes: &[u8], healthy: &[RawRun], faulty: &[RawRun]) -> Result<Figures, TrainError> {
        let artifact = Artifact::parse(bytes).map_err(|error| TrainError::Draft(error.into()))?;
        evaluate::figures(&artifact, healthy, faulty, &self.prepared.scale, &self.directions)
    }

    fn simple_rule(&self) -> Figures {
        let Prepared { mean, scale, .. } = &self.prepared;
        evaluate::simple_rule(&self.test, &self.faulty, mean, scale, &self.directions)
    }

    fn blueprint(&self, family: FamilyParts) -> Blueprint {
        let prepared = &self.prepared;
        Blueprint {
            group: self.dataset.group,
            features: prepared.columns.iter().map(|column| self.dataset.features[*column].reference).collect(),
            mean: prepared.mean.clone(),
            scale: prepared.scale.clone(),
            range: prepared.range.clone(),
            weight: vec![1.0; prepared.columns.len()],
            regimes: prepared.regimes.clone(),
            threshold: 1.0,
            sequence_len: self.options.sequence_len,
            family,
            golden: self.golden(),
        }
    }

    /// A window that calibration saw, as it was and with everything shifted far out.
    fn golden(&self) -> Vec<f32> {
        let length = self.options.sequence_len * self.prepared.columns.len();
        let window = self.calibrate.iter().find(|run| run.len() >= length).map_or(&[][..], |run| &run[..length]);
        let scale = self.prepared.scale.iter().cycle();
        let shifted = window.iter().zip(scale).enumerate().map(|(i, (value, scale))| value + (i % 7) as f32 * scale);
        window.iter().copied().chain(shifted).collect()
    }

    /// Healthy, faulty and far-out windows for the comparison with Burn.
    fn parity_windows(&self) -> Vec<Vec<f32>> {
        let inputs = self.prepared.columns.len();
        let length = self.options.sequence_len * inputs;
        let of_runs = |runs: &[RawRun]| -> Vec<Vec<f32>> {
            runs.iter().flat_map(|run| run.chunks_exact(length).map(<[f32]>::to_vec).collect::<Vec<_>>()).collect()
        };
        let mut all = of_runs(&self.test);
        all.truncate(PARITY_WINDOWS);
        let mut faulty = of_runs(&self.faulty);
        faulty.truncate(PARITY_WINDOWS);
        all.extend(faulty);
        all.extend(self.golden().chunks_exact(length).map(<[f32]>::to_vec));
        all
    }

    fn raw_window(&self, rows: &[usize]) -> Vec<f32> {
        let features = self.dataset.features.len();
        rows.iter().flat_map(|row| self.prepared.raw(&self.dataset.healthy, *row, features)).collect()
    }

    /// As the kernel feeds a network.
    fn normalised(&self, window: &[f32]) -> Vec<f32> {
        let Prepared { mean, scale, .. } = &self.prepared;
        let normal = |(i, value): (usize, &f32)| {
            let column = i % mean.len();
            ((value - mean[column]) * (1.0 / scale[column])).clamp(-INPUT_CLIP, INPUT_CLIP)
        };
        window.iter().enumerate().map(normal).collect()
    }

    fn card(&self, bytes: &[u8], role: Role, figures: &Figures, rule: &Figures) -> Card {
        let family = Artifact::parse(bytes).map(|artifact| artifact.family());
        let options = self.options;
        let feature = |column: &usize| {
            let feature = &self.dataset.features[*column];
            CardFeature { id: feature.reference.id.0, hash: feature.reference.hash, name: feature.name.clone() }
        };
        let reproduce = [
            ("seed", options.seed as f64),
            ("sequence_len", options.sequence_len as f64),
            ("max_inputs", options.max_inputs as f64),
            ("hidden", options.hidden as f64),
            ("code", options.code as f64),
            ("batch", options.batch as f64),
            ("max_steps", options.max_steps as f64),
            ("look_every", options.look_every as f64),
            ("patience", options.patience as f64),
            ("learning_rate", options.learning_rate),
            ("max_windows", options.max_windows as f64),
            ("false_alarms_per_month", options.false_alarms_per_month),
            ("window_period_secs", options.window_period_secs),
        ];
        Card {
            digest: Digest::of(bytes).to_string(),
            name: options.origin.name.clone(),
            key: options.origin.key.clone(),
            family: match family {
                Ok(Family::LstmAutoencoder) => "lstm_autoencoder".to_owned(),
                Ok(Family::LstmForecaster) => "lstm_forecaster".to_owned(),
                Ok(Family::RulHead) => "rul_head".to_owned(),
                Ok(Family::Quadratic) => "quadratic".to_owned(),
                Ok(Family::Statistic) | Err(_) => "statistic".to_owned(),
            },
            role,
            pair: None,
            features: self.prepared.columns.iter().map(feature).collect(),
            trained_at_us: options.origin.trained_at_us,
            snapshot: options.origin.snapshot.clone(),
            seed: options.seed,
            rows: self.dataset.healthy.len() as u64,
            reason: options.origin.reason.clone(),
            metrics: metrics(figures),
            baseline: metrics(rule),
            parity_max_abs: 0.0,
            reproduce: reproduce.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            why: String::new(),
        }
    }
}

fn metrics(figures: &Figures) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::from([
        ("false_alarm_share".to_owned(), figures.false_alarm_share),
        ("detection".to_owned(), figures.detection),
        ("test_windows".to_owned(), figures.windows as f64),
    ]);
    if let Some(labelled) = figures.labelled {
        metrics.insert("labelled_detection".to_owned(), labelled);
    }
    metrics
}

/// Weight of the newest row, longest memory first.
const EWMA: [f32; 2] = [0.15, 0.35];
/// A network that may raise a larger share of healthy windows than this does not lead.
const MOST_FALSE: f64 = 0.01;
/// A feature's healthy residual counts as at least this share of the average one.
const LEAST_RESIDUAL: f64 = 0.05;
const PARITY_WINDOWS: usize = 64;
