//! Trains heads that say how long a machine has left, with an interval: machines that ran to failure in, one artifact out.
//!
//! Whole machines are kept from each member of the ensemble in turn, so that its word on them is a fair one (grouped
//! cross-validation; columns and normaliser are the member's own there). What these words are wrong by decides two things: whether the
//! network leads, or the linear head, or the mean, each only if it beats the simpler one; and how wide the interval is (split conformal, per
//! band of the estimate).
//! Nothing is fitted on any other machine: no test row comes near this module.

mod bank;
mod card;
mod export;
mod interval;
mod members;
mod points;
mod proof;
mod recurrent;
mod ridge;

use kilter_types::{Digest, GroupKind, KernelId};

pub use bank::Bank;
pub use card::{TaughtLife, teach_life};
pub(crate) use points::moments;
pub use proof::LifeProof;
pub use recurrent::{RecurrentOptions, recurrent_error};

use crate::{Feature, TrainError};

/// Machines that ran until something known: the rows of each, and what was left after each row.
#[derive(Clone, Debug)]
pub struct LifeDataset {
    /// What the rows are computed from.
    pub group: GroupKind,
    /// The columns of a row, in order.
    pub features: Vec<Feature>,
    /// Columns that say where the machine works rather than how it is.
    pub settings: Vec<usize>,
    /// The machines.
    pub machines: Vec<Life>,
}

/// One machine.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// Row-major values, one per feature; all finite.
    pub rows: Vec<f32>,
    /// What is left after each row, in the unit of [`LifeOptions::cap`].
    pub left: Vec<f32>,
    /// How often the machine counts in training beyond once: a population with few machines is rehearsed more.
    pub extra: usize,
    /// Which machine it is a life of, where one machine has several; none: a machine of its own. What is learned from one life of a machine
    /// is never judged by another of the same.
    pub asset: Option<u32>,
}

/// Everything but the data that decides the result.
#[derive(Clone, Debug, PartialEq)]
pub struct LifeOptions {
    /// All random choices follow from it (P2).
    pub seed: u64,
    /// More than this is not told apart.
    pub cap: f32,
    /// Hours per unit of the cap, for the artifact.
    pub hours_per_unit: f32,
    /// What the head sees.
    pub bank: Bank,
    /// Hidden units of the one or two layers; multiples of 8 up to 64.
    pub hidden: Vec<usize>,
    /// Members of the ensemble, 2 to 8; each sees all machines but its share.
    pub members: usize,
    /// Steps per member.
    pub steps: usize,
    /// Rows per step.
    pub batch: usize,
    /// Step size at the start; it falls along a cosine.
    pub learning_rate: f64,
    /// Noise added to training rows, in scales.
    pub noise: f32,
    /// Share of machines that the interval is to cover.
    pub coverage: f64,
    /// Rows before the first word.
    pub least_rows: usize,
    /// Must a head beat the simpler one? Off, the network is exported whatever it is worth.
    pub must_win: bool,
    /// Every so many rows of a life take part in training, counted from its last; what a head sees of a row comes from all rows before it.
    pub every: usize,
    /// Members that are trained side by side at most; 0: as many as the machine runs at once. It changes no bit.
    pub workers: usize,
}

impl Default for LifeOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            cap: 125.0,
            hours_per_unit: 1.0,
            bank: Bank { smoothing: vec![0.2, 0.05, 0.0], age_scale: 0.005 },
            hidden: vec![32, 32],
            members: 5,
            steps: 3_000,
            batch: 256,
            learning_rate: 6e-3,
            noise: 0.0,
            coverage: 0.9,
            least_rows: 1,
            must_win: true,
            every: 1,
            workers: 0,
        }
    }
}

impl LifeOptions {
    /// For lives of any length: what is told apart, how far back a head looks and which rows take part follow from the lives themselves.
    ///
    /// The age plays no part: a device counts it from the day on which the head came, not from the machine's first.
    pub fn of_lives(dataset: &LifeDataset, seed: u64, steps: usize) -> Self {
        let median = |of: fn(&Life) -> f32| {
            let mut all: Vec<f32> = dataset.machines.iter().map(of).collect();
            all.sort_by(f32::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        let rows = median(|life| life.left.len() as f32);
        let memory = |share: f32| (1.0 / (share * rows)).clamp(LEAST_WEIGHT, 1.0);
        let all: usize = dataset.machines.iter().map(|life| life.left.len()).sum();
        let machines = members::groups(&dataset.machines).into_iter().max().map_or(0, |last| last + 1);
        Self {
            seed,
            cap: CAP_SHARE * median(|life| life.left.first().copied().unwrap_or_default()),
            bank: Bank { smoothing: vec![memory(0.025), memory(0.1)], age_scale: 0.0 },
            hidden: vec![16],
            members: machines.clamp(2, 5),
            steps,
            least_rows: 4,
            every: all.div_ceil(MOST_ROWS).max(1),
            ..Self::default()
        }
    }

    pub(crate) fn workers(&self) -> usize {
        if self.workers == 0 { crate::parallel::workers() } else { self.workers }
    }
}

/// Of the median life so much is told apart, as of the engines of C-MAPSS.
const CAP_SHARE: f32 = 0.6;
/// Rows that take part in training, of all lives together.
const MOST_ROWS: usize = 60_000;
/// The longest memory that still moves in f32.
const LEAST_WEIGHT: f32 = 1e-5;

/// Which head won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The mean of what was left.
    Constant,
    /// One linear layer.
    Linear,
    /// The ensemble of networks.
    Network,
}

impl Head {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Linear => "linear",
            Self::Network => "network",
        }
    }
}

/// A trained head.
#[derive(Clone, Debug)]
pub struct LifeModel {
    /// The bytes that `kilter_infer::Artifact` parses.
    pub artifact: Vec<u8>,
    /// SHA-256 of them.
    pub digest: Digest,
    /// Which arithmetic scores them.
    pub kernel: KernelId,
    /// Which head it holds.
    pub head: Head,
    /// Numbers that were fitted in that head.
    pub parameters: usize,
    /// Root mean squared error of each candidate on machines it did not see, all rows, capped.
    pub held_out: Vec<(Head, f64)>,
    /// Largest difference between kernel and Burn, relative to max(1, |y|) (P3); 0 without a network.
    pub parity: f64,
    /// What it said of each machine that its member did not see, in the unit of the cap.
    pub words: Vec<LifeWord>,
}

/// A word on a machine that was kept away.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LifeWord {
    /// Which machine, as a place in [`LifeDataset::machines`].
    pub machine: usize,
    /// Which of its rows.
    pub row: usize,
    /// What was said to be left.
    pub said: f32,
    /// Lower end of the interval, whose width this machine had no part in.
    pub low: f32,
    /// Upper end.
    pub high: f32,
    /// What was left, capped.
    pub truth: f32,
}

/// Trains the candidates, chooses by machines they did not see, exports the winner.
pub fn train_life(
    dataset: &LifeDataset,
    options: &LifeOptions,
    progress: &mut dyn FnMut(usize, usize, f32),
) -> Result<LifeModel, TrainError> {
    check(dataset, options)?;
    let prepared = members::Prepared::new(dataset, options, |_| true)?;
    let trained = members::train(dataset, &prepared, options, progress)?;
    export::export(dataset, &prepared, &trained, options)
}

fn check(dataset: &LifeDataset, options: &LifeOptions) -> Result<(), TrainError> {
    let width = dataset.features.len();
    let option = |good: bool, name| if good { Ok(()) } else { Err(TrainError::Option(name)) };
    option((2..=8).contains(&options.members), "members")?;
    option(options.hidden.len() <= 2 && options.hidden.iter().all(|h| h % 8 == 0 && (8..=64).contains(h)), "hidden")?;
    option((1..=8).contains(&options.bank.smoothing.len()), "smoothing")?;
    option(options.cap > 0.0 && options.steps > 0 && options.batch > 0, "cap, steps or batch")?;
    option((1..=64).contains(&options.least_rows), "least_rows")?;
    option(options.every > 0, "every")?;
    let machines = members::groups(&dataset.machines).into_iter().max().map_or(0, |last| last + 1);
    if !(1..=64).contains(&width) || machines < options.members {
        return Err(TrainError::Dataset("there must be 1 to 64 columns and a machine per member"));
    }
    for life in &dataset.machines {
        if life.rows.len() != life.left.len() * width {
            return Err(TrainError::Dataset("the columns differ in length"));
        }
        if life.rows.iter().chain(&life.left).any(|value| !value.is_finite()) {
            return Err(TrainError::Dataset("a value is not finite"));
        }
    }
    Ok(())
}
