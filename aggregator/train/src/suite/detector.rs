//! Detectors for recordings that bring their own healthy beginning: a quadratic form around it, as an artifact.
//!
//! How far a healthy machine strays from its own beginning is learned from the training rows of machines in the same operating
//! state: of each the first half is the beginning and the second half strays. What strays much when healthy weighs little. The
//! threshold is a quantile of all their scores, each machine scored by what the others taught.

use kilter_infer::{Body, Draft, Range, ResetRule, Scratch};
use kilter_types::{FeatureRef, GroupKind};

use super::{SuiteError, path::failed};
use crate::{calibrate, export::Room, life::moments};

/// Rows of one width, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) width: usize,
    pub(crate) values: Vec<f32>,
}

/// How rows are smoothed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) ewma: f64,
    /// Of the healthy scores of a fleet this share lies below the threshold: hysteresis asks for several above.
    pub(crate) healthy_below: f64,
}

impl Tuning {
    pub(crate) const fn new(ewma: f64) -> Self {
        Self { ewma, healthy_below: 0.9 }
    }
}

/// How healthy machines of a kind stray from their beginning, in each operating state that their beginnings show.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    /// Mean products of deviations of each piece, in its own scales.
    each: Vec<Vec<f64>>,
    /// The level of each piece's columns.
    levels: Vec<Vec<f64>>,
    /// Columns that tell operating states apart: those that lie well above their own noise everywhere.
    telling: Vec<usize>,
    width: usize,
    threshold: f64,
}

/// How one machine strays when healthy.
#[derive(Clone, Debug)]
pub(crate) struct Straying {
    products: Vec<f64>,
    width: usize,
    threshold: f64,
}

impl Table {
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }

    pub(crate) fn first(&self, rows: usize) -> Self {
        Self { width: self.width, values: self.values[..self.values.len().min(rows * self.width)].to_vec() }
    }

    fn halves(&self) -> (Self, Self) {
        let middle = self.values.len() / self.width / 2 * self.width;
        let part = |values: &[f32]| Self { width: self.width, values: values.to_vec() };
        (part(&self.values[..middle]), part(&self.values[middle..]))
    }

    /// Mean and scale of each column.
    fn normal(&self) -> Vec<(f64, f64)> {
        let of = |column: usize| {
            let (mean, scale) = moments(self.values.iter().skip(column).step_by(self.width).copied());
            (mean, scale.max(1e-6 * mean.abs()).max(1e-9))
        };
        (0..self.width).map(of).collect()
    }
}

impl Fleet {
    /// From the training rows of several machines. Each machine's scores come from what the others of its state taught.
    pub(crate) fn learn(pieces: &[Table], tuning: Tuning) -> Result<Self, SuiteError> {
        let width = pieces.first().map_or(0, |piece| piece.width);
        let beginnings: Vec<Vec<(f64, f64)>> = pieces.iter().map(|piece| piece.halves().0.normal()).collect();
        let strayed: Vec<Vec<Vec<f64>>> = pieces
            .iter()
            .zip(&beginnings)
            .map(|(piece, beginning)| smoothed(&piece.halves().1, beginning, tuning.ewma))
            .collect();
        let stands_out = |column: &usize| beginnings.iter().all(|b| b[*column].0.abs() > 2.0 * b[*column].1);
        let mut fleet = Self {
            each: strayed.iter().map(|rows| products(rows, width)).collect(),
            levels: beginnings.iter().map(|b| b.iter().map(|(mean, _)| *mean).collect()).collect(),
            telling: (0..width).filter(stands_out).collect(),
            width,
            threshold: 0.0,
        };
        let mut scores = Vec::new();
        for (number, rows) in strayed.iter().enumerate() {
            let map = whitening(&fleet.products_like(&fleet.levels[number], Some(number)), width);
            scores.extend(rows.iter().map(|row| squared(&map, row)));
        }
        scores.sort_by(f64::total_cmp);
        let place = (tuning.healthy_below * scores.len().saturating_sub(1) as f64) as usize;
        fleet.threshold = scores.get(place).copied().ok_or_else(|| failed("there is nothing to learn from"))?;
        Ok(fleet)
    }

    /// How a machine strays that begins like this.
    pub(crate) fn straying(&self, beginning: &Table) -> Straying {
        let level: Vec<f64> = beginning.halves().0.normal().iter().map(|(mean, _)| *mean).collect();
        Straying { products: self.products_like(&level, None), width: self.width, threshold: self.threshold }
    }

    /// What the machines in this state taught; all machines where they are too few.
    fn products_like(&self, level: &[f64], without: Option<usize>) -> Vec<f64> {
        let apart = |other: &Vec<f64>| {
            let ratio = |column: &usize| (level[*column].abs() / other[*column].abs().max(1e-12)).ln().abs();
            self.telling.iter().map(ratio).sum::<f64>() / self.telling.len().max(1) as f64
        };
        let others: Vec<usize> = (0..self.each.len()).filter(|number| Some(*number) != without).collect();
        let near: Vec<usize> =
            others.iter().copied().filter(|number| apart(&self.levels[*number]) < SAME_STATE).collect();
        let least = LEAST_LIKE + usize::from(without.is_none());
        let used = if near.len() >= least || others.is_empty() { near } else { others };
        mean_of(used.iter().map(|number| &self.each[*number]), self.width)
    }
}

impl Straying {
    /// From one machine alone: how it varied around itself in its beginning. The threshold lies where the tail of its own scores
    /// would be exceeded once in ten thousand rows, and above the largest of them; twice as high after a short beginning, which
    /// has not seen all that is healthy.
    pub(crate) fn alone(beginning: &Table, tuning: Tuning) -> Self {
        let width = beginning.width;
        let rows = smoothed(beginning, &beginning.normal(), tuning.ewma);
        let products = products(&rows, width);
        let map = whitening(&products, width);
        let scores: Vec<f32> = rows.iter().map(|row| squared(&map, row) as f32).collect();
        let threshold = f64::from(calibrate::threshold(&scores, TAIL));
        let short = if rows.len() < LONG_BEGINNING { 2.0 } else { 1.0 };
        Self { products, width, threshold: threshold * short }
    }

    /// From machines of the kind that ran until they failed: how each strayed from its own beginning in the first half of its life,
    /// run-in included. The threshold is a quantile of their scores, each scored by what the others taught.
    pub(crate) fn from_lives(lives: &[&Table], beginning: usize, tuning: Tuning) -> Result<Self, SuiteError> {
        let width = lives.first().map_or(0, |life| life.width);
        let strayed: Vec<Vec<Vec<f64>>> = lives
            .iter()
            .map(|life| {
                let half = life.first(life.rows().len() / 2);
                smoothed(&half, &life.first(beginning).normal(), tuning.ewma)
                    .split_off(beginning.min(half.rows().len()))
            })
            .collect();
        let each: Vec<Vec<f64>> = strayed.iter().map(|rows| products(rows, width)).collect();
        let mut scores = Vec::new();
        for (number, rows) in strayed.iter().enumerate() {
            let others = each.iter().enumerate().filter(|(other, _)| each.len() == 1 || *other != number);
            let map = whitening(&mean_of(others.map(|(_, products)| products), width), width);
            scores.extend(rows.iter().map(|row| squared(&map, row)));
        }
        scores.sort_by(f64::total_cmp);
        let place = (tuning.healthy_below * scores.len().saturating_sub(1) as f64) as usize;
        let threshold =
            *scores.get(place).ok_or_else(|| failed("the other machines lived too shortly to teach anything"))?;
        Ok(Self { products: mean_of(each.iter(), width), width, threshold })
    }

    /// Where a machine's whole life would first have been called unusual: five of eight rows above the threshold.
    pub(crate) fn first_alarm(&self, life: &Table, beginning: usize, tuning: Tuning) -> Option<usize> {
        let map = whitening(&self.products, self.width);
        let mut recent = 0u8;
        let rows = smoothed(life, &life.first(beginning).normal(), tuning.ewma);
        rows.iter().position(|row| {
            recent = recent << 1 | u8::from(squared(&map, row) > self.threshold);
            recent.count_ones() >= 5
        })
    }

    /// The detector of a machine that begins like this.
    pub(crate) fn artifact(
        &self,
        beginning: &Table,
        features: &[FeatureRef],
        group: GroupKind,
        tuning: Tuning,
    ) -> Result<Vec<u8>, SuiteError> {
        let normal = beginning.normal();
        let map: Vec<f32> = whitening(&self.products, self.width).iter().map(|v| *v as f32).collect();
        let mean: Vec<f32> = normal.iter().map(|(mean, _)| *mean as f32).collect();
        let inverse: Vec<f32> = normal.iter().map(|(_, scale)| (1.0 / scale) as f32).collect();
        let range: Vec<Range> = normal
            .iter()
            .map(|(mean, scale)| Range { low: (mean - 8.0 * scale) as f32, high: (mean + 8.0 * scale) as f32 })
            .collect();
        let golden = &beginning.values[..GOLDEN_ROWS.min(beginning.values.len() / self.width) * self.width];
        let draft = Draft {
            group,
            features,
            mean: &mean,
            inverse_scale: &inverse,
            range: &range,
            weight: &vec![1.0; self.width],
            regimes: &[],
            threshold: self.threshold as f32,
            input_clip: CLIP as f32,
            residual_clip: CLIP as f32,
            sequence_len: 1,
            reset: ResetRule::after(&[kilter_infer::Interruption::Switch]),
            body: Body::Quadratic { ewma: tuning.ewma as f32, matrix: &map, rows: self.width },
            golden,
        };
        let mut bytes = vec![0; draft.size_bytes()];
        let (mut state, mut scratch) = (Box::new(Room::new()), Scratch::new());
        draft.write(&mut bytes, &mut *state, &mut scratch).map_err(failed)?;
        Ok(bytes)
    }
}

/// Exponentially weighted means of the deviations from what is normal, in its scales.
fn smoothed(rows: &Table, normal: &[(f64, f64)], ewma: f64) -> Vec<Vec<f64>> {
    let mut mean = vec![0.0; normal.len()];
    rows.rows()
        .map(|row| {
            for ((mean, value), (centre, scale)) in mean.iter_mut().zip(row).zip(normal) {
                let z = ((f64::from(*value) - centre) / scale).clamp(-CLIP, CLIP);
                *mean += ewma * (z - *mean);
            }
            mean.clone()
        })
        .collect()
}

/// The mean of the products of all pairs; no single row counts for more than a few scales.
pub(crate) fn products(rows: &[Vec<f64>], width: usize) -> Vec<f64> {
    let mut all = vec![0.0; width * width];
    let share = 1.0 / rows.len().max(1) as f64;
    for row in rows {
        for i in 0..width {
            for j in 0..width {
                all[i * width + j] += share * row[i].clamp(-REACH, REACH) * row[j].clamp(-REACH, REACH);
            }
        }
    }
    all
}

fn mean_of<'p>(each: impl Iterator<Item = &'p Vec<f64>>, width: usize) -> Vec<f64> {
    let mut all = vec![0.0; width * width];
    let mut count = 0.0;
    for products in each {
        count += 1.0;
        all.iter_mut().zip(products).for_each(|(sum, value)| *sum += value);
    }
    all.iter_mut().for_each(|value| *value /= f64::max(count, 1.0));
    all
}

/// `A` with `|A d|^2 = d' S^-1 d / width`: the inverse of Cholesky's factor.
pub(crate) fn whitening(products: &[f64], width: usize) -> Vec<f64> {
    let mut factor = products.to_vec();
    (0..width).for_each(|i| factor[i * width + i] += RIDGE);
    for i in 0..width {
        for j in 0..=i {
            let mut sum = factor[i * width + j];
            (0..j).for_each(|k| sum -= factor[i * width + k] * factor[j * width + k]);
            factor[i * width + j] = if i == j { sum.max(1e-12).sqrt() } else { sum / factor[j * width + j] };
        }
    }
    let share = (width as f64).sqrt();
    let mut inverse = vec![0.0; width * width];
    for column in 0..width {
        for i in column..width {
            let before: f64 = (column..i).map(|k| factor[i * width + k] * inverse[k * width + column]).sum();
            let one = if i == column { 1.0 / share } else { 0.0 };
            inverse[i * width + column] = (one - before) / factor[i * width + i];
        }
    }
    inverse
}

fn squared(map: &[f64], row: &[f64]) -> f64 {
    map.chunks_exact(row.len()).map(|line| line.iter().zip(row).map(|(a, b)| a * b).sum::<f64>().powi(2)).sum()
}

/// Deviations are compared within so many scales …
const CLIP: f64 = 50.0;
/// … and taught from within so many.
const REACH: f64 = 8.0;
const RIDGE: f64 = 1e-3;
const TAIL: f64 = 1e-4;
const LONG_BEGINNING: usize = 500;
/// Machines whose levels differ by less than this on average, as a logarithm, work in the same state.
const SAME_STATE: f64 = 0.2;
/// So many machines of a state speak for it.
const LEAST_LIKE: usize = 3;
const GOLDEN_ROWS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn what_strays_when_healthy_weighs_little_and_the_map_whitens() {
        let mut random = Random::new(6, "straying");
        let piece = |drift: f32| {
            let mut random = Random::new(drift as u64 + 40, "piece");
            let row = |i: usize| [random.normal(), random.normal() + drift * i as f32 / 100.0];
            Table { width: 2, values: (0..200).flat_map(row).collect() }
        };
        let tuning = Tuning::new(0.1);
        let pieces = [piece(3.0), piece(5.0), piece(-4.0)];
        let straying = Fleet::learn(&pieces, tuning).expect("pieces").straying(&pieces[0]);
        let map = whitening(&straying.products, 2);
        let (steady, wanders) = (squared(&map, &[2.0, 0.0]), squared(&map, &[0.0, 2.0]));
        assert!(steady > 5.0 * wanders, "{steady} against {wanders}");
        let row = [f64::from(random.normal()), 0.3];
        let product = squared(&map, &row);
        assert!(product.is_finite() && product >= 0.0);
    }
}
