//! The data on the bench: cut once, then each model is made, calibrated and measured on it by the kernel that will score it.

pub(crate) mod faults;
#[cfg(test)]
mod forest;
#[cfg(test)]
mod injected;
mod networks;
#[cfg(test)]
mod physics;
#[cfg(test)]
mod simulated;

use std::collections::BTreeSet;

use kilter_infer::Artifact;

use crate::{
    Dataset, Progress, TrainError, TrainOptions, calibrate,
    evaluate::{self, Direction, Figures, RawRun},
    events::Events,
    evidence::{Confusion, Evidence, ScoredWindow},
    export::{Blueprint, FamilyParts, INPUT_CLIP},
    prepare::{Prepared, Run},
    suite::detector::{products, whitening},
};

pub(crate) use networks::{Exported, family_name};

/// The data on the bench, cut once for both models.
pub(crate) struct Bench<'a> {
    pub(crate) dataset: &'a Dataset,
    pub(crate) options: &'a TrainOptions,
    pub(crate) prepared: Prepared,
    stop: Vec<RawRun>,
    calibrate: Vec<RawRun>,
    test: Vec<RawRun>,
    faulty: Vec<RawRun>,
    /// Of the tested runs, those of machines that nothing was learned from.
    strangers: Vec<RawRun>,
    directions: Vec<Direction>,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(dataset: &'a Dataset, options: &'a TrainOptions) -> Result<Self, TrainError> {
        Ok(Self::of(dataset, options, Prepared::new(dataset, options)?))
    }

    /// Data that were cut in another way.
    pub(crate) fn of(dataset: &'a Dataset, options: &'a TrainOptions, prepared: Prepared) -> Self {
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
        let known: BTreeSet<u32> = prepared.parts.fit.iter().flatten().map(|row| dataset.healthy.asset[*row]).collect();
        let strange = |run: &&Run| run.first().is_some_and(|row| !known.contains(&dataset.healthy.asset[*row]));
        let strangers: Vec<Run> = prepared.parts.test.iter().filter(strange).cloned().collect();
        Self {
            strangers: raw(&dataset.healthy, &strangers),
            stop,
            calibrate: raw(&dataset.healthy, &prepared.parts.calibrate),
            test: raw(&dataset.healthy, &prepared.parts.test),
            faulty: raw(&dataset.faulty, &prepared.faulty),
            directions: evaluate::directions(&names, options.seed),
            dataset,
            options,
            prepared,
        }
    }

    /// The simple detector: each feature by itself, or what features usually do together taken into account, with the better memory.
    pub(crate) fn statistic(&self) -> Result<Vec<u8>, TrainError> {
        let alone = EWMA.into_iter().map(|ewma| FamilyParts::Statistic { ewma });
        let together =
            EWMA.into_iter().chain([1.0]).map(|ewma| FamilyParts::Quadratic { ewma, matrix: self.map(ewma) });
        self.better(alone.chain(together).map(|family| self.calibrated(self.blueprint(family))))
    }

    /// The map that makes the squared length of a mean of training rows a Mahalanobis distance.
    fn map(&self, ewma: f32) -> Vec<f32> {
        let inputs = self.prepared.columns.len();
        let mut means = Vec::new();
        for run in &self.prepared.parts.fit {
            let mut mean = vec![0.0f64; inputs];
            for value in self.normalised(&self.raw_window(run)).chunks_exact(inputs) {
                mean.iter_mut()
                    .zip(value)
                    .for_each(|(mean, value)| *mean += f64::from(ewma) * (f64::from(*value) - *mean));
                means.push(mean.clone());
            }
        }
        let mut products = products(&means, inputs);
        // Directions in which training hardly moved are not trusted to be as still as they seemed.
        let average = (0..inputs).map(|i| products[i * (inputs + 1)]).sum::<f64>() / inputs as f64;
        (0..inputs).for_each(|i| products[i * (inputs + 1)] += SHRINKAGE * average);
        whitening(&products, inputs).into_iter().map(|weight| weight as f32).collect()
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

    pub(crate) fn test(&self, bytes: &[u8]) -> Result<Figures, TrainError> {
        self.figures(bytes, &self.test, &self.faulty)
    }

    /// Healthy windows and simulated faults of machines that nothing was learned from; none where no machine could be spared.
    pub(crate) fn test_strangers(&self, bytes: &[u8]) -> Result<Option<Figures>, TrainError> {
        (!self.strangers.is_empty()).then(|| self.figures(bytes, &self.strangers, &[])).transpose()
    }

    /// The test in the terms of a person on watch.
    pub(crate) fn events(&self, bytes: &[u8]) -> Result<Events, TrainError> {
        let artifact = Artifact::parse(bytes).map_err(|error| TrainError::Draft(error.into()))?;
        Events::of(&artifact, &self.test, &self.faulty, &self.prepared.scale, &self.directions)
    }

    /// As `test`, without labelled faults: what a search may see.
    pub(crate) fn judge(&self, bytes: &[u8]) -> Result<Figures, TrainError> {
        self.figures(bytes, &self.test, &[])
    }

    /// What the pictures of a report show.
    pub(crate) fn evidence(&self, bytes: &[u8], losses: Vec<Progress>) -> Result<Evidence, TrainError> {
        let artifact = Artifact::parse(bytes).map_err(|error| TrainError::Draft(error.into()))?;
        let mut scores = Vec::new();
        let parts = [
            (&self.dataset.healthy, &self.prepared.parts.test, &self.test, false),
            (&self.dataset.faulty, &self.prepared.faulty, &self.faulty, true),
        ];
        for (rows, runs, raw, faulty) in parts {
            for (run, raw) in runs.iter().zip(raw) {
                let anomalies = evaluate::anomalies(&artifact, std::slice::from_ref(raw))?;
                // The first rows of a run have no score yet.
                let scored = &run[run.len() - anomalies.len()..];
                let point = |(row, anomaly): (&usize, &f32)| ScoredWindow {
                    asset: rows.asset[*row],
                    time_us: rows.time_us[*row],
                    anomaly: *anomaly,
                    faulty,
                };
                scores.extend(scored.iter().zip(&anomalies).map(point));
            }
        }
        let names: Vec<String> = self.directions.iter().map(|direction| direction.name.clone()).collect();
        let found = evaluate::found(&artifact, &self.test, &self.prepared.scale, &self.directions)?;
        let confusion = names.into_iter().zip(found);
        let confusion = confusion.map(|(name, (above, below))| Confusion { name, above, below }).collect();
        let calibration = evaluate::anomalies(&artifact, &self.calibrate)?;
        Ok(Evidence { threshold: artifact.threshold(), losses, scores, calibration, confusion })
    }

    fn figures(&self, bytes: &[u8], healthy: &[RawRun], faulty: &[RawRun]) -> Result<Figures, TrainError> {
        let artifact = Artifact::parse(bytes).map_err(|error| TrainError::Draft(error.into()))?;
        evaluate::figures(&artifact, healthy, faulty, &self.prepared.scale, &self.directions)
    }

    pub(crate) fn simple_rule(&self) -> Figures {
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
}

/// Weight of the newest row, longest memory first.
const EWMA: [f32; 2] = [0.15, 0.35];
/// Part of the average variance that every direction is given beyond its own.
const SHRINKAGE: f64 = 0.02;
/// A feature's healthy residual counts as at least this share of the average one.
const LEAST_RESIDUAL: f64 = 0.05;
const PARITY_WINDOWS: usize = 64;
