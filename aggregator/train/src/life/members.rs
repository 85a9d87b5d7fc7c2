//! The candidates: an ensemble of networks, a linear head and the mean, each with its words on machines it did not see.

use super::{Head, LifeDataset, LifeOptions, LifeWord, interval::bands, moments, points::Points, ridge::ridge};
use crate::{
    TrainError,
    dense::{DenseNetwork, Examples, Layers, Schedule, fit, say as say_all},
    parallel,
    random::Random,
};

/// The data as the head sees it.
pub(crate) struct Prepared {
    /// The chosen columns of the data set.
    pub(crate) columns: Vec<usize>,
    /// The normaliser of these columns.
    pub(crate) points: Points,
    /// What the head sees, per machine.
    pub(crate) banks: Vec<Vec<f32>>,
    /// What is left after each row, capped, per machine.
    pub(crate) left: Vec<Vec<f32>>,
    /// How often each machine counts in training beyond once.
    pub(crate) extra: Vec<usize>,
    /// Values per row of a bank.
    pub(crate) width: usize,
}

/// What training gave.
pub(crate) struct Trained {
    pub(crate) head: Head,
    /// Networks as Burn holds them, for the parity check; none unless the network won.
    pub(crate) networks: Vec<DenseNetwork>,
    /// The members of the head that won.
    pub(crate) members: Vec<Layers>,
    /// Below and above, per band.
    pub(crate) bands: Vec<(f32, f32)>,
    pub(crate) held_out: Vec<(Head, f64)>,
    pub(crate) words: Vec<LifeWord>,
}

/// One member, and its words on the machines it did not see.
struct Member {
    network: DenseNetwork,
    layers: Layers,
    line: Layers,
    by_network: Vec<f32>,
    by_line: Vec<f32>,
    by_mean: Vec<f32>,
    truth: Vec<f32>,
}

impl Prepared {
    pub(crate) fn new(dataset: &LifeDataset, options: &LifeOptions) -> Result<Self, TrainError> {
        let width = dataset.features.len();
        let rows: Vec<f32> = dataset.machines.iter().flat_map(|life| life.rows.iter().copied()).collect();
        let left: Vec<Vec<f32>> = dataset
            .machines
            .iter()
            .map(|life| life.left.iter().map(|left| left.clamp(0.0, options.cap)).collect())
            .collect();
        let points = Points::fit(&rows, width, &dataset.settings);
        let columns = choose(&rows, width, &points, &left.concat());
        if columns.is_empty() {
            return Err(TrainError::NoFeatures { percent: 100 });
        }
        let points = points.only(&columns);
        let bank_of = |rows: &Vec<f32>| {
            let picked = rows.chunks_exact(width).map(|row| columns.iter().map(|c| row[*c]).collect::<Vec<f32>>());
            let normalised: Vec<Vec<f32>> = picked.map(|row| points.normalise(&row, CLIP)).collect();
            options.bank.run(&normalised)
        };
        let banks = dataset.machines.iter().map(|life| bank_of(&life.rows)).collect();
        let extra = dataset.machines.iter().map(|life| life.extra).collect();
        Ok(Self { width: options.bank.width(columns.len()), columns, points, banks, left, extra })
    }

    /// Rows and what they should say, of each machine so many times; what is left is scaled to [-0.5, 0.5].
    fn examples(&self, cap: f32, times: impl Fn(usize) -> usize) -> (Vec<f32>, Vec<f32>) {
        let (mut rows, mut wanted) = (Vec::new(), Vec::new());
        for (number, (bank, left)) in self.banks.iter().zip(&self.left).enumerate() {
            for _ in 0..times(number) {
                rows.extend_from_slice(bank);
                wanted.extend(left.iter().map(|left| left / cap - 0.5));
            }
        }
        (rows, wanted)
    }
}

pub(crate) fn train(
    prepared: &Prepared,
    options: &LifeOptions,
    progress: &mut dyn FnMut(usize, usize, f32),
) -> Result<Trained, TrainError> {
    let (cap, count) = (options.cap, options.members);
    // Each machine is kept from one member, drawn once.
    let mut order: Vec<usize> = (0..prepared.banks.len()).collect();
    Random::new(options.seed, "machines of members").shuffle(&mut order);
    let mut share_of = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, machine)| share_of[*machine] = place % count);

    let schedule = Schedule {
        steps: options.steps,
        batch: options.batch,
        learning_rate: options.learning_rate,
        noise: options.noise,
    };
    let sizes: Vec<usize> = [prepared.width].iter().chain(&options.hidden).chain(&[1]).copied().collect();
    // Members see nothing of each other, so they are trained side by side.
    let work = |member: usize, say: &mut dyn FnMut((usize, usize, f32))| -> Result<Member, TrainError> {
        let (rows, wanted) =
            prepared.examples(cap, |machine| if share_of[machine] == member { 0 } else { 1 + prepared.extra[machine] });
        let examples = Examples { width: prepared.width, rows: &rows, wanted: &wanted };
        let random = &mut Random::new(options.seed.wrapping_add(member as u64), "life member");
        let mut told = |step: usize, loss: f32| {
            if step.is_multiple_of(TOLD_EVERY) {
                say((member, step, loss));
            }
        };
        let network = fit(&examples, &options.hidden, &schedule, random, &mut told)?;
        let line = ridge(&examples, PENALTY);
        let mean = wanted.iter().map(|w| f64::from(*w)).sum::<f64>() / wanted.len().max(1) as f64;

        let (held_rows, held_wanted) = prepared.examples(cap, |machine| usize::from(share_of[machine] == member));
        let in_units = |said: Vec<f32>| said.into_iter().map(|y| ((y + 0.5) * cap).clamp(0.0, cap)).collect();
        let layers = network.layers()?;
        Ok(Member {
            by_network: in_units(say_all(&layers, &sizes, &held_rows)),
            by_line: in_units(say_all(&line, &[prepared.width, 1], &held_rows)),
            by_mean: in_units(vec![mean as f32; held_wanted.len()]),
            truth: held_wanted.iter().map(|w| (w + 0.5) * cap).collect(),
            layers,
            line,
            network,
        })
    };
    let mut steps_of = vec![0; count];
    let mut hear = |(member, step, loss): (usize, usize, f32)| {
        steps_of[member] = step;
        progress(steps_of.iter().sum(), count * options.steps, loss);
    };
    let trained = parallel::each((0..count).collect(), parallel::workers(), &work, &mut hear);
    let (mut networks, mut layers, mut linear) = (Vec::new(), Vec::new(), Vec::new());
    let (mut by_network, mut by_line, mut by_mean, mut truth) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for member in trained {
        let member = member?;
        by_network.extend(member.by_network);
        by_line.extend(member.by_line);
        by_mean.extend(member.by_mean);
        truth.extend(member.truth);
        layers.push(member.layers);
        linear.push(member.line);
        networks.push(member.network);
    }
    let held_out = vec![
        (Head::Constant, root_mean_square(&by_mean, &truth)),
        (Head::Linear, root_mean_square(&by_line, &truth)),
        (Head::Network, root_mean_square(&by_network, &truth)),
    ];
    let head = if options.must_win { winner(&held_out) } else { Head::Network };
    let (members, said) = match head {
        Head::Network => (layers, by_network),
        Head::Linear => (linear, by_line),
        Head::Constant => {
            let (_, wanted) = prepared.examples(cap, |_| 1);
            let mean = moments(wanted.iter().copied()).0 as f32;
            (vec![vec![vec![0.0; prepared.width], vec![mean]]], by_mean)
        }
    };
    if head != Head::Network {
        networks.clear();
    }
    let words = words(&said, &truth, &share_of, prepared, options);
    Ok(Trained { head, networks, members, bands: bands(&said, &truth, cap, options.coverage), held_out, words })
}

/// Every word on a machine that was kept away, with an interval that its own errors had no part in.
fn words(said: &[f32], truth: &[f32], share_of: &[usize], prepared: &Prepared, options: &LifeOptions) -> Vec<LifeWord> {
    let rows_of = |share: usize| {
        let machines = (0..share_of.len()).filter(move |machine| share_of[*machine] == share);
        machines.flat_map(|machine| (0..prepared.left[machine].len()).map(move |row| (machine, row)))
    };
    let places: Vec<(usize, usize)> = (0..options.members).flat_map(rows_of).collect();
    let mut words = Vec::with_capacity(places.len());
    for share in 0..options.members {
        let (mut other_said, mut other_truth) = (Vec::new(), Vec::new());
        for (place, _) in places.iter().enumerate().filter(|(_, (machine, _))| share_of[*machine] != share) {
            other_said.push(said[place]);
            other_truth.push(truth[place]);
        }
        let bands = bands(&other_said, &other_truth, options.cap, options.coverage);
        for (place, (machine, row)) in places.iter().enumerate().filter(|(_, (machine, _))| share_of[*machine] == share)
        {
            let band = ((said[place] / options.cap * bands.len() as f32) as usize).min(bands.len() - 1);
            let (below, above) = bands[band];
            words.push(LifeWord {
                machine: *machine,
                row: *row,
                said: said[place],
                low: (said[place] - below).max(0.0),
                high: (said[place] + above).min(options.cap),
                truth: truth[place],
            });
        }
    }
    words
}

/// The simplest head that no other beats by more than chance would.
fn winner(held_out: &[(Head, f64)]) -> Head {
    let mut best = held_out[0];
    for candidate in &held_out[1..] {
        if candidate.1 < MUST_BEAT * best.1 {
            best = *candidate;
        }
    }
    best.0
}

/// Columns that move within a point and say something of what is left, and the settings that tell points apart.
fn choose(rows: &[f32], width: usize, points: &Points, left: &[f32]) -> Vec<usize> {
    let normalised: Vec<Vec<f32>> = rows.chunks_exact(width).map(|row| points.normalise(row, CLIP)).collect();
    let (left_mean, left_scale) = moments(left.iter().copied());
    let says = |column: usize| {
        let (mean, scale) = moments(normalised.iter().map(|row| row[column]));
        if scale < 1e-3 || left_scale == 0.0 {
            return false;
        }
        let product = |(row, left): (&Vec<f32>, &f32)| (f64::from(row[column]) - mean) * (f64::from(*left) - left_mean);
        let shared = normalised.iter().zip(left).map(product).sum::<f64>() / left.len() as f64;
        (shared / (scale * left_scale)).abs() > LEAST_CORRELATION
    };
    let is_setting = |column: usize| points.settings.iter().any(|(setting, _)| *setting == column);
    let chosen: Vec<usize> = (0..width).filter(|column| is_setting(*column) || says(*column)).collect();
    // Where nothing says anything, everything that moves may try.
    if chosen.len() > points.settings.len() {
        return chosen;
    }
    let moves = |column: &usize| moments(normalised.iter().map(|row| row[*column])).1 > 1e-3;
    (0..width).filter(|column| is_setting(*column) || moves(column)).collect()
}

fn root_mean_square(said: &[f32], truth: &[f32]) -> f64 {
    let squares = said.iter().zip(truth).map(|(a, b)| f64::from(a - b).powi(2));
    (squares.sum::<f64>() / said.len().max(1) as f64).sqrt()
}

/// Normalised values enter the head within this.
pub(crate) const CLIP: f32 = 6.0;
const PENALTY: f64 = 1e-3;
/// Steps between two reports.
const TOLD_EVERY: usize = 500;
/// A head must be better than the simpler one by 2 %.
const MUST_BEAT: f64 = 0.98;
const LEAST_CORRELATION: f64 = 0.1;
