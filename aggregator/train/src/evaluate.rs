//! How good a model is: quiet on healthy rows that it never saw, loud when something grows.
//!
//! Labelled faults are rare, so faults are also simulated: healthy rows are shifted the way a fault of physics shifts them
//! (the table in `bench/faults.rs`), by 1 to 8 healthy scales, and by seeded directions for what no table foresees. A detector's
//! detection is the share of shifted windows above its threshold, averaged over directions and sizes. Every score here is
//! the kernel's, on the artifact's bytes.

use kilter_infer::{Artifact, CertifyError, Scratch};

use crate::{TrainError, bench::faults, export::Room, random::Random};

/// Rows of one run as measured, one after the other.
pub(crate) type RawRun = Vec<f32>;

/// One way in which a fault moves the features: its name, and the shift of each feature in healthy scales.
pub(crate) struct Direction {
    pub(crate) name: String,
    pub(crate) shift: Vec<f32>,
}

/// What the comparison of models rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Share of healthy windows above the threshold.
    pub(crate) false_alarm_share: f64,
    /// Share of simulated faulty windows above it.
    pub(crate) detection: f64,
    /// Share of labelled faulty windows above it, where there are any.
    pub(crate) labelled: Option<f64>,
    /// Healthy windows scored.
    pub(crate) windows: usize,
}

impl Figures {
    /// Upper end of the 95 % interval of the false alarm share, for Poisson counts: none in `n` windows may still be 3 in `n`.
    pub(crate) fn quiet_at_worst(&self) -> f64 {
        let count = self.false_alarm_share * self.windows as f64;
        (count + 3.0 + 2.0 * count.sqrt()) / self.windows.max(1) as f64
    }

    /// What models and the simple rule are compared by: faults found, less ten times the share of healthy windows above the threshold
    /// beyond one percent.
    pub(crate) fn worth(&self) -> f64 {
        self.merit() - FALSE_COSTS * (self.false_alarm_share - ALLOWED_FALSE).max(0.0)
    }

    /// Labelled faults count as much as all simulated ones together.
    pub(crate) fn merit(&self) -> f64 {
        self.labelled.map_or(self.detection, |labelled| (self.detection + labelled) / 2.0)
    }
}

/// Anomalies of all windows; sequences start anew with each run.
pub(crate) fn anomalies(artifact: &Artifact<'_>, runs: &[RawRun]) -> Result<Vec<f32>, TrainError> {
    let mut all = Vec::new();
    visit(artifact, runs, &mut |anomaly, _| all.push(anomaly))?;
    Ok(all)
}

/// The mean of each feature's contribution over all windows.
pub(crate) fn mean_contributions(artifact: &Artifact<'_>, runs: &[RawRun]) -> Result<Vec<f64>, TrainError> {
    let mut sums = vec![0.0; artifact.inputs()];
    let mut count = 0usize;
    visit(artifact, runs, &mut |_, contributions| {
        count += 1;
        sums.iter_mut().zip(contributions).for_each(|(sum, part)| *sum += f64::from(*part));
    })?;
    Ok(sums.into_iter().map(|sum| sum / count.max(1) as f64).collect())
}

/// Scores healthy, shifted and labelled rows against the artifact's own threshold.
pub(crate) fn figures(
    artifact: &Artifact<'_>,
    healthy: &[RawRun],
    faulty: &[RawRun],
    scale: &[f32],
    directions: &[Direction],
) -> Result<Figures, TrainError> {
    let score = |runs: &[RawRun]| anomalies(artifact, runs);
    judged(&score, artifact.threshold(), artifact.inputs(), healthy, faulty, scale, directions)
}

/// What gives a score per window.
pub(crate) type Score<'s> = dyn Fn(&[RawRun]) -> Result<Vec<f32>, TrainError> + 's;

/// The same of whatever gives scores.
pub(crate) fn judged(
    score: &Score<'_>,
    threshold: f32,
    inputs: usize,
    healthy: &[RawRun],
    faulty: &[RawRun],
    scale: &[f32],
    directions: &[Direction],
) -> Result<Figures, TrainError> {
    let above = |scores: &[f32]| share(scores, |score| *score > threshold);
    let scores = score(healthy)?;
    let sample = thin(healthy, inputs);
    let mut detection = 0.0;
    for direction in directions {
        for size in SIZES {
            detection += above(&score(&shifted(&sample, &direction.shift, scale, size))?);
        }
    }
    let labelled = score(faulty)?;
    Ok(Figures {
        false_alarm_share: above(&scores),
        detection: detection / (directions.len() * SIZES.len()).max(1) as f64,
        labelled: (!labelled.is_empty()).then(|| above(&labelled)),
        windows: scores.len(),
    })
}

/// Of each direction, how many shifted windows lie above the threshold and how many do not; all sizes together.
pub(crate) fn found(
    artifact: &Artifact<'_>,
    healthy: &[RawRun],
    scale: &[f32],
    directions: &[Direction],
) -> Result<Vec<(usize, usize)>, TrainError> {
    let sample = thin(healthy, artifact.inputs());
    let of = |direction: &Direction| {
        let (mut above, mut below) = (0, 0);
        for size in SIZES {
            let scores = anomalies(artifact, &shifted(&sample, &direction.shift, scale, size))?;
            let high = scores.iter().filter(|score| **score > artifact.threshold()).count();
            (above, below) = (above + high, below + scores.len() - high);
        }
        Ok((above, below))
    };
    directions.iter().map(of).collect()
}

/// The same figures for the simple rule: one value of a row lies beyond four healthy scales.
pub(crate) fn simple_rule(
    healthy: &[RawRun],
    faulty: &[RawRun],
    mean: &[f32],
    scale: &[f32],
    directions: &[Direction],
) -> Figures {
    let beyond = |row: &[f32]| row.iter().zip(mean.iter().zip(scale)).any(|(v, (m, s))| (v - m).abs() > 4.0 * s);
    let rows = |runs: &[RawRun]| -> Vec<bool> {
        runs.iter().flat_map(|run| run.chunks_exact(mean.len()).map(beyond).collect::<Vec<_>>()).collect()
    };
    let above = |runs: &[RawRun]| share(&rows(runs), |beyond| *beyond);
    let sample = thin(healthy, mean.len());
    let mut detection = 0.0;
    for direction in directions {
        detection += SIZES.iter().map(|size| above(&shifted(&sample, &direction.shift, scale, *size))).sum::<f64>();
    }
    Figures {
        false_alarm_share: above(healthy),
        detection: detection / (directions.len() * SIZES.len()).max(1) as f64,
        labelled: (!faulty.is_empty()).then(|| above(faulty)),
        windows: rows(healthy).len(),
    }
}

/// The directions of the table that these features can show, and four seeded ones.
pub(crate) fn directions(names: &[&str], seed: u64) -> Vec<Direction> {
    let mut all = faults::shown(names);
    let mut random = Random::new(seed, "fault directions");
    for number in 1..=SEEDED {
        let mut shift = vec![0.0; names.len()];
        for _ in 0..names.len().div_ceil(4) {
            shift[random.below(names.len())] = if random.symmetric() < 0.0 { -1.0 } else { 1.0 };
        }
        all.push(Direction { name: format!("unforeseen {number}"), shift });
    }
    all
}

fn visit(artifact: &Artifact<'_>, runs: &[RawRun], each: &mut dyn FnMut(f32, &[f32])) -> Result<(), TrainError> {
    let (mut state, mut scratch) = (Box::new(Room::new()), Scratch::new());
    for run in runs {
        state.reset();
        for row in run.chunks_exact(artifact.inputs()) {
            if let Some(scored) = artifact.push(row, &mut *state, &mut scratch).map_err(CertifyError::Row)? {
                each(scored.anomaly, scored.contributions);
            }
        }
    }
    Ok(())
}

fn shifted(runs: &[RawRun], shift: &[f32], scale: &[f32], size: f32) -> Vec<RawRun> {
    let moved = |(i, value): (usize, &f32)| value + size * shift[i % shift.len()] * scale[i % shift.len()];
    runs.iter().map(|run| run.iter().enumerate().map(moved).collect()).collect()
}

/// As many rows as a comparison needs: the beginnings of runs spread over all of them.
pub(crate) fn thin(runs: &[RawRun], inputs: usize) -> Vec<RawRun> {
    let long: Vec<&RawRun> = runs.iter().filter(|run| run.len() >= SAMPLE_ROWS * inputs / 2).collect();
    let used = if long.is_empty() { runs.iter().collect() } else { long };
    let stride = used.len().div_ceil(SAMPLE_RUNS).max(1);
    used.iter().step_by(stride).map(|run| run[..run.len().min(SAMPLE_ROWS * inputs)].to_vec()).collect()
}

fn share<T>(items: &[T], counts: impl Fn(&T) -> bool) -> f64 {
    items.iter().filter(|item| counts(item)).count() as f64 / items.len().max(1) as f64
}

const ALLOWED_FALSE: f64 = 0.01;
const FALSE_COSTS: f64 = 10.0;
/// Healthy scales by which a simulated fault shifts its strongest feature.
const SIZES: [f32; 4] = [1.0, 2.0, 4.0, 8.0];
/// Directions that no table foresees.
const SEEDED: usize = 4;
const SAMPLE_RUNS: usize = 8;
const SAMPLE_ROWS: usize = 48;
