//! The candidates: an ensemble of networks, a linear head and the mean, each with its words on machines it did not see.

use std::collections::BTreeMap;

use super::{Head, Life, LifeDataset, LifeOptions, LifeWord, interval::bands, moments, points::Points, ridge::ridge};
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

/// What was said of the machines that one member did not see.
struct Said {
    by_network: Vec<f32>,
    by_line: Vec<f32>,
    by_mean: Vec<f32>,
    truth: Vec<f32>,
}

impl Prepared {
    /// Columns and normaliser are learned from those machines alone of which `learns` says so; the others are seen through them.
    pub(crate) fn new(
        dataset: &LifeDataset,
        options: &LifeOptions,
        learns: impl Fn(usize) -> bool,
    ) -> Result<Self, TrainError> {
        let width = dataset.features.len();
        let learned: Vec<usize> = (0..dataset.machines.len()).filter(|machine| learns(*machine)).collect();
        let thinned = |values: &[f32], width: usize| -> Vec<f32> {
            let rows = taken(values.len() / width.max(1), options.every);
            rows.flat_map(|row| values[row * width..][..width].iter().copied()).collect()
        };
        let rows: Vec<f32> =
            learned.iter().flat_map(|machine| thinned(&dataset.machines[*machine].rows, width)).collect();
        let left: Vec<Vec<f32>> = dataset
            .machines
            .iter()
            .map(|life| thinned(&life.left, 1).into_iter().map(|left| left.clamp(0.0, options.cap)).collect())
            .collect();
        let points = Points::fit(&rows, width, &dataset.settings);
        let left_of_learned: Vec<f32> = learned.iter().flat_map(|machine| left[*machine].iter().copied()).collect();
        let columns = choose(&rows, width, &points, &left_of_learned);
        if columns.is_empty() {
            return Err(TrainError::NoFeatures { percent: 100 });
        }
        let points = points.only(&columns);
        let bank_of = |rows: &Vec<f32>| {
            let picked = rows.chunks_exact(width).map(|row| columns.iter().map(|c| row[*c]).collect::<Vec<f32>>());
            let normalised: Vec<Vec<f32>> = picked.map(|row| points.normalise(&row, CLIP)).collect();
            thinned(&options.bank.run(&normalised), options.bank.width(columns.len()))
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
    dataset: &LifeDataset,
    prepared: &Prepared,
    options: &LifeOptions,
    progress: &mut dyn FnMut(usize, usize, f32),
) -> Result<Trained, TrainError> {
    let (cap, count) = (options.cap, options.members);
    let share_of = shares(&dataset.machines, options);
    let schedule = Schedule {
        steps: options.steps,
        batch: options.batch,
        learning_rate: options.learning_rate,
        noise: options.noise,
    };
    let seen_by = |member: usize| {
        let share_of = &share_of;
        move |machine: usize| if share_of[machine] == member { 0 } else { 1 + prepared.extra[machine] }
    };
    let fitted = |member: usize, seen: &Prepared, say: &mut dyn FnMut(Told)| -> Result<DenseNetwork, TrainError> {
        let (rows, wanted) = seen.examples(cap, seen_by(member));
        let examples = Examples { width: seen.width, rows: &rows, wanted: &wanted };
        let random = &mut Random::new(options.seed.wrapping_add(member as u64), "life member");
        let mut told = |step: usize, loss: f32| {
            if step.is_multiple_of(TOLD_EVERY) {
                say((member, step, loss));
            }
        };
        fit(&examples, &options.hidden, &schedule, random, &mut told)
    };
    // First what decides: nothing of a machine, not even its part in columns and normaliser, reaches what is said of it.
    let judged = |member: usize, say: &mut dyn FnMut(Told)| -> Result<Said, TrainError> {
        let fold = Prepared::new(dataset, options, |machine| share_of[machine] != member)?;
        let network = fitted(member, &fold, say)?;
        let (rows, wanted) = fold.examples(cap, seen_by(member));
        let line = ridge(&Examples { width: fold.width, rows: &rows, wanted: &wanted }, PENALTY);
        let mean = wanted.iter().map(|w| f64::from(*w)).sum::<f64>() / wanted.len().max(1) as f64;
        let (held_rows, held_wanted) = fold.examples(cap, |machine| usize::from(share_of[machine] == member));
        let in_units = |said: Vec<f32>| said.into_iter().map(|y| ((y + 0.5) * cap).clamp(0.0, cap)).collect();
        let sizes: Vec<usize> = [fold.width].iter().chain(&options.hidden).chain(&[1]).copied().collect();
        Ok(Said {
            by_network: in_units(say_all(&network.layers()?, &sizes, &held_rows)),
            by_line: in_units(say_all(&line, &[fold.width, 1], &held_rows)),
            by_mean: in_units(vec![mean as f32; held_wanted.len()]),
            truth: held_wanted.iter().map(|w| (w + 0.5) * cap).collect(),
        })
    };
    let mut steps_of = vec![0; 2 * count];
    let mut hear = |place: usize, step: usize, loss: f32| {
        steps_of[place] = step;
        progress(steps_of.iter().sum(), 2 * count * options.steps, loss);
    };
    // Members see nothing of each other, so they are trained side by side.
    let all = || (0..count).collect::<Vec<usize>>();
    let trained =
        parallel::each(all(), options.workers(), &judged, &mut |(member, step, loss)| hear(member, step, loss));
    let (mut by_network, mut by_line, mut by_mean, mut truth) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for said in trained {
        let said = said?;
        by_network.extend(said.by_network);
        by_line.extend(said.by_line);
        by_mean.extend(said.by_mean);
        truth.extend(said.truth);
    }
    let held_out = vec![
        (Head::Constant, root_mean_square(&by_mean, &truth)),
        (Head::Linear, root_mean_square(&by_line, &truth)),
        (Head::Network, root_mean_square(&by_network, &truth)),
    ];
    let head = if options.must_win { winner(&held_out) } else { Head::Network };
    // Then what is sent: members that share one normaliser, as an artifact has one, each without its share all the same.
    let mut networks = Vec::new();
    let (members, said) = match head {
        Head::Network => {
            let work = |member: usize, say: &mut dyn FnMut(Told)| fitted(member, prepared, say);
            let mut told = |(member, step, loss): Told| hear(count + member, step, loss);
            for network in parallel::each(all(), options.workers(), &work, &mut told) {
                networks.push(network?);
            }
            (networks.iter().map(DenseNetwork::layers).collect::<Result<Vec<Layers>, _>>()?, by_network)
        }
        Head::Linear => {
            let line = |member: usize| {
                let (rows, wanted) = prepared.examples(cap, seen_by(member));
                ridge(&Examples { width: prepared.width, rows: &rows, wanted: &wanted }, PENALTY)
            };
            ((0..count).map(line).collect(), by_line)
        }
        Head::Constant => {
            let (_, wanted) = prepared.examples(cap, |_| 1);
            let mean = moments(wanted.iter().copied()).0 as f32;
            (vec![vec![vec![0.0; prepared.width], vec![mean]]], by_mean)
        }
    };
    let words = words(&said, &truth, &share_of, (dataset, prepared), options);
    Ok(Trained { head, networks, members, bands: bands(&said, &truth, cap, options.coverage), held_out, words })
}

/// Which member each life is kept from, drawn once; all lives of a machine from the same.
pub(crate) fn shares(lives: &[Life], options: &LifeOptions) -> Vec<usize> {
    let group_of = groups(lives);
    let machines = group_of.iter().max().map_or(0, |last| last + 1);
    let mut order: Vec<usize> = (0..machines).collect();
    Random::new(options.seed, "machines of members").shuffle(&mut order);
    let mut share_of = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, machine)| share_of[*machine] = place % options.members);
    group_of.into_iter().map(|machine| share_of[machine]).collect()
}

/// Which machine each life is of, numbered as they come.
pub(crate) fn groups(lives: &[Life]) -> Vec<usize> {
    let (mut known, mut machines) = (BTreeMap::new(), 0);
    let group_of = |life: &Life| {
        let next = machines;
        let group = life.asset.map_or(next, |asset| *known.entry(asset).or_insert(next));
        machines += usize::from(group == next);
        group
    };
    lives.iter().map(group_of).collect()
}

/// Which of so many rows take part: every so many, the last for certain.
pub(crate) fn taken(rows: usize, every: usize) -> impl Iterator<Item = usize> {
    (0..rows).filter(move |row| (rows - 1 - row).is_multiple_of(every))
}

/// Every word on a machine that was kept away, with an interval that its own errors had no part in.
fn words(
    said: &[f32],
    truth: &[f32],
    share_of: &[usize],
    (dataset, prepared): (&LifeDataset, &Prepared),
    options: &LifeOptions,
) -> Vec<LifeWord> {
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
            let (rows, taken) = (dataset.machines[*machine].left.len(), prepared.left[*machine].len());
            words.push(LifeWord {
                machine: *machine,
                row: rows - 1 - (taken - 1 - row) * options.every,
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

pub(crate) fn root_mean_square(said: &[f32], truth: &[f32]) -> f64 {
    let squares = said.iter().zip(truth).map(|(a, b)| f64::from(a - b).powi(2));
    (squares.sum::<f64>() / said.len().max(1) as f64).sqrt()
}

/// A member, its step and its loss.
type Told = (usize, usize, f32);

/// Normalised values enter the head within this.
pub(crate) const CLIP: f32 = 6.0;
const PENALTY: f64 = 1e-3;
/// Steps between two reports.
const TOLD_EVERY: usize = 500;
/// A head must be better than the simpler one by 2 %.
const MUST_BEAT: f64 = 0.98;
const LEAST_CORRELATION: f64 = 0.1;

#[cfg(test)]
pub(crate) mod sample {
    use kilter_types::{FeatureId, FeatureRef, GroupKind};

    use super::*;
    use crate::{Feature, life::Life};

    /// Machines whose columns follow their wear, each a little off.
    pub(crate) fn lives() -> LifeDataset {
        let mut random = Random::new(1, "lives");
        let life = |machine: usize| {
            let mut life = Life::default();
            for row in 0..40 {
                let worn = row as f32 / 40.0;
                life.rows
                    .extend((0..3).map(|i| worn * (i + 1) as f32 + 0.1 * random.symmetric() + machine as f32 * 0.01));
                life.left.push((40 - row) as f32);
            }
            life
        };
        let feature = |id| Feature { reference: FeatureRef { id: FeatureId(id), hash: 1 }, name: format!("f{id}") };
        LifeDataset {
            group: GroupKind::Cycle,
            features: (1..4).map(feature).collect(),
            settings: Vec::new(),
            machines: (0..8).map(life).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_machine_reaches_what_the_member_without_it_says_not_even_by_the_normaliser() {
        let options = LifeOptions {
            cap: 40.0,
            hidden: vec![8],
            members: 4,
            steps: 20,
            must_win: false,
            ..LifeOptions::default()
        };
        let share_of = shares(&sample::lives().machines, &options);
        let said = |dataset: &LifeDataset| {
            let prepared = Prepared::new(dataset, &options, |_| true).expect("columns");
            train(dataset, &prepared, &options, &mut |_, _, _| {}).expect("a head").words
        };
        let clean = sample::lives();
        let mut planted = clean.clone();
        planted.machines[0].rows.iter_mut().for_each(|value| *value = *value * 3.0 - 1.0);
        let (clean, planted) = (said(&clean), said(&planted));
        let of = |words: &[LifeWord], beside: bool| -> Vec<u32> {
            let kept = words.iter().filter(|w| w.machine != 0 && (share_of[w.machine] == share_of[0]) == beside);
            kept.map(|word| word.said.to_bits()).collect()
        };
        assert_eq!(of(&clean, true).len(), 40, "another machine is kept with it");
        assert_eq!(of(&clean, true), of(&planted, true));
        assert_ne!(of(&clean, false), of(&planted, false), "the members that learn from it learn otherwise");
    }
}
