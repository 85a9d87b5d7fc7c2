//! Going on from the champion: its weights are where a network starts, and windows that it learned from are rehearsed.
//!
//! A network that goes on with new windows alone forgets the old machines. So each batch holds a share of windows from before:
//! what the champion knew stays in the loss. The champion's weights belong to its normaliser; they are rewritten for the new one
//! so that the network says at the first step exactly what the champion said.

use kilter_infer::{Artifact, Family};

use crate::{Dataset, columns::is_alive, random::Random};

/// What a run goes on from.
#[derive(Clone, Debug, PartialEq)]
pub struct Warm {
    /// The artifact of the network that goes on.
    pub champion: Vec<u8>,
    /// Windows up to here are those that it knows, in microseconds of event time.
    pub until_us: i64,
    /// Share of such windows in each batch, 0 to 1.
    pub rehearsal: f64,
}

impl Warm {
    /// The champion's columns, if it is a network in f32 and the data set has all of them, valid and alive in these rows.
    pub(crate) fn columns(&self, dataset: &Dataset, rows: &[usize]) -> Option<Vec<usize>> {
        let artifact = self.network()?;
        let place = |reference| dataset.features.iter().position(|feature| feature.reference == reference);
        let columns: Vec<usize> = artifact.features().map(place).collect::<Option<_>>()?;
        columns.iter().all(|column| is_alive(dataset, rows, *column)).then_some(columns)
    }

    /// What kind of network the champion is.
    pub(crate) fn family(&self) -> Option<Family> {
        self.network().map(|artifact| artifact.family())
    }

    /// The champion's weights for another normaliser, if it is of this family and has parameters of these sizes: first those of an LSTM
    /// that reads the rows, last those of the layer that gives a row.
    pub(crate) fn values<const N: usize>(
        &self,
        family: Family,
        sizes: [usize; N],
        hidden: usize,
        mean: &[f32],
        scale: &[f32],
    ) -> Option<[Vec<f32>; N]> {
        let inputs = mean.len();
        let artifact = self.network().filter(|artifact| artifact.family() == family)?;
        let numbers: Vec<f32> = artifact.numbers().collect();
        if (artifact.inputs(), artifact.hidden()) != (inputs, hidden) || numbers.len() != sizes.iter().sum::<usize>() {
            return None;
        }
        let mut rest = numbers.as_slice();
        let mut values = sizes.map(|size| {
            let (own, after) = rest.split_at(size);
            rest = after;
            own.to_vec()
        });
        for i in 0..inputs {
            let (old_mean, old_inverse) = artifact.normaliser(i)?;
            // What the champion saw is `stretch` times what is seen now, and `shift`.
            let (stretch, shift) = (scale[i] * old_inverse, (mean[i] - old_mean) * old_inverse);
            for unit in 0..4 * hidden {
                let weight = &mut values[0][i * 4 * hidden + unit];
                let moved = shift * *weight;
                *weight *= stretch;
                values[2][unit] += moved;
            }
            (0..hidden).for_each(|unit| values[N - 2][unit * inputs + i] /= stretch);
            values[N - 1][i] = (values[N - 1][i] - shift) / stretch;
        }
        Some(values)
    }

    fn network(&self) -> Option<Artifact<'_>> {
        let artifact = Artifact::parse(&self.champion).ok()?;
        let is_network = [Family::LstmAutoencoder, Family::LstmForecaster].contains(&artifact.family());
        (is_network && artifact.kernel() == kilter_types::KernelId::PORTABLE_F32).then_some(artifact)
    }
}

/// Which windows come next: every window of its kind once per round, in a new order each round.
pub(crate) struct Batches {
    kinds: Vec<Kind>,
    random: Random,
}

struct Kind {
    order: Vec<usize>,
    at: usize,
    /// Of each batch.
    size: usize,
}

impl Batches {
    /// Windows alike.
    pub(crate) fn of(windows: usize, batch: usize, random: Random) -> Self {
        Self { kinds: vec![Kind::new((0..windows).collect(), batch)], random }
    }

    /// `old` says of each window whether it is one to rehearse.
    pub(crate) fn mixed(old: &[bool], rehearsal: f64, batch: usize, random: Random) -> Self {
        let (known, new): (Vec<usize>, Vec<usize>) = (0..old.len()).partition(|window| old[*window]);
        if known.is_empty() || new.is_empty() {
            return Self::of(old.len(), batch, random);
        }
        let rehearsed = ((batch as f64 * rehearsal).round() as usize).min(batch);
        let kinds = [(known, rehearsed), (new, batch - rehearsed)].into_iter().filter(|(_, size)| *size > 0);
        Self { kinds: kinds.map(|(order, size)| Kind::new(order, size)).collect(), random }
    }

    pub(crate) fn next(&mut self) -> Vec<usize> {
        let mut batch = Vec::new();
        for kind in &mut self.kinds {
            if kind.at + kind.size > kind.order.len() {
                self.random.shuffle(&mut kind.order);
                kind.at = 0;
            }
            kind.at += kind.size;
            batch.extend_from_slice(&kind.order[kind.at - kind.size..kind.at]);
        }
        batch
    }
}

impl Kind {
    fn new(order: Vec<usize>, size: usize) -> Self {
        Self { at: order.len(), size: size.min(order.len()), order }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{
        TrainOptions,
        fit::{Known, fit},
        fused::{Values, loss_and_gradients},
        network::{Network, Shape},
        random::Random,
    };

    const SHAPE: Shape = Shape { inputs: 6, hidden: 16, code: 4 };
    const LENGTH: usize = 6;

    /// Windows of machines whose features follow two hidden quantities in their own way.
    fn windows(kind: u64, count: usize, purpose: &str) -> Vec<Vec<f32>> {
        let mut mixing = Random::new(kind, "mixing");
        let weights: Vec<[f32; 2]> = (0..SHAPE.inputs).map(|_| [mixing.symmetric(), mixing.symmetric()]).collect();
        let mut random = Random::new(kind, purpose);
        (0..count)
            .map(|_| {
                let mut hidden = [random.normal(), random.normal()];
                let mut window = Vec::new();
                for _ in 0..LENGTH {
                    hidden = hidden.map(|h| 0.8 * h + 0.3 * random.normal());
                    window.extend(weights.iter().map(|[a, b]| a * hidden[0] + b * hidden[1]));
                }
                window
            })
            .collect()
    }

    fn error(values: &Values, windows: &[Vec<f32>]) -> f32 {
        let views: Vec<&[f32]> = windows.iter().map(Vec::as_slice).collect();
        loss_and_gradients(values, &views, SHAPE).0
    }

    #[test]
    fn rehearsal_keeps_what_the_champion_knew_of_old_machines() {
        let options = TrainOptions { batch: 32, look_every: 50, patience: 99, ..TrainOptions::default() };
        let (old, new) = (windows(1, 300, "train"), windows(2, 300, "train"));
        let (old_unseen, new_unseen) = (windows(1, 200, "test"), windows(2, 200, "test"));
        let device = Device::flex().autodiff();
        let learn = |train: &[Vec<f32>], held_out: &[Vec<f32>], steps: usize, network: Network, known: Known| {
            let options = TrainOptions { max_steps: steps, ..options.clone() };
            let fitted = fit(train, held_out, SHAPE.inputs, network, &options, known, &mut |_| {}).expect("a network");
            fitted.network.values().expect("values")
        };
        let fresh = Network::new(SHAPE, &mut Random::new(options.seed, "weights"), &device);
        let champion = learn(&old, &old[..60], 400, fresh, None);
        let both: Vec<Vec<f32>> = old.iter().chain(&new).cloned().collect();
        let is_old: Vec<bool> = (0..both.len()).map(|window| window < old.len()).collect();
        let watched: Vec<Vec<f32>> = both.iter().step_by(10).cloned().collect();
        let go_on = |rehearsal: f64, held_out: &[Vec<f32>]| {
            let known = Some((is_old.clone(), rehearsal));
            learn(&both, held_out, 150, Network::from_values(champion.clone(), SHAPE, &device), known)
        };
        let (without, with) = (go_on(0.0, &new[..60]), go_on(0.5, &watched));
        let errors =
            [&champion, &without, &with].map(|values| (error(values, &old_unseen), error(values, &new_unseen)));
        let [(before, _), (forgot, learned), (kept, learned_too)] = errors;
        println!(
            "error on old machines: champion {before}, without rehearsal {forgot}, with {kept}; on new {learned}, {learned_too}"
        );
        assert!(forgot > 2.0 * before, "without rehearsal the old machines are forgotten: {errors:?}");
        assert!(kept - before < 0.25 * (forgot - before), "with it they are not: {errors:?}");
        assert!(learned_too < 2.0 * learned, "and the new ones are learned all the same: {errors:?}");
    }

    #[test]
    fn batches_hold_the_share_asked_for_and_each_window_once_a_round() {
        let old: Vec<bool> = (0..40).map(|window| window < 10).collect();
        let mut batches = Batches::mixed(&old, 0.25, 8, Random::new(1, "batches"));
        let mut seen: Vec<usize> = (0..5).flat_map(|_| batches.next()).collect();
        assert_eq!(seen.iter().filter(|window| old[**window]).count(), 10);
        seen.sort_unstable();
        assert_eq!(seen, (0..40).collect::<Vec<_>>());
        let mut alone = Batches::mixed(&[true; 12], 0.0, 8, Random::new(1, "batches"));
        assert_eq!(alone.next().len(), 8, "where there is nothing new, what is known is learned on");
    }
}
