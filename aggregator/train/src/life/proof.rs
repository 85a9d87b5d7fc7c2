//! Is a head worth having? Asked of the machines that failed last, of a head that knew only machines that had failed before.
//!
//! Cross-validation among known lives chooses a head and its interval; it knows late lives when it judges early ones. This does not: the third of
//! the machines that failed last is judged by a head of the others, of whose lives each had ended before any that is judged did. Beside it
//! stand the mean of what was left, and what the age alone says: the mean life that was left of those that got as old. All three
//! know the same lives and speak of the same rows, through the kernel and the artifact as a device would run them.

use std::collections::BTreeMap;

use kilter_infer::{Artifact, Scratch};

use super::{
    Life, LifeDataset, LifeOptions,
    members::{groups, taken},
    train_life,
};
use crate::{TrainError, export::Room};

/// What a head, the mean and the age said of lives that ended later than all they knew. Errors are root mean squares of capped hours.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LifeProof {
    /// Lives that were known.
    pub known: usize,
    /// Lives that were judged.
    pub judged: usize,
    /// Rows of these.
    pub rows: usize,
    /// More than this was not told apart.
    pub cap_h: f64,
    /// Of the head.
    pub error_h: f64,
    /// Of the mean of what was left.
    pub constant_h: f64,
    /// Of the age alone.
    pub by_age_h: f64,
    /// Share of rows whose truth lay in the interval.
    pub coverage: f64,
    /// Its mean width.
    pub width_h: f64,
}

impl LifeProof {
    /// Trains on the earlier lives and judges by the later ones; lives come in the order of their ends.
    pub(crate) fn of(
        dataset: &LifeDataset,
        (seed, steps, workers): (u64, usize, usize),
        progress: &mut dyn FnMut(usize, usize, f32),
    ) -> Result<Self, TrainError> {
        let (known, judged) = divided(&dataset.machines);
        let lives = |places: &[usize]| places.iter().map(|place| dataset.machines[*place].clone()).collect();
        let known = LifeDataset { machines: lives(&known), ..dataset.clone() };
        let options = LifeOptions { workers, ..LifeOptions::of_lives(&known, seed, steps) };
        let model = train_life(&known, &options, progress)?;
        let artifact = Artifact::parse(&model.artifact).map_err(|error| TrainError::Draft(error.into()))?;
        let mut sums = Sums::new(&known.machines, &options);
        for place in &judged {
            sums.judge(&dataset.machines[*place], dataset, &artifact, &options)?;
        }
        Ok(sums.proof(known.machines.len(), judged.len(), &options))
    }

    /// Is it better than both that need no measurement, and does its interval hold often enough to be believed?
    pub fn wins(&self) -> bool {
        self.rows > 0 && self.error_h < MUST_BEAT * self.constant_h.min(self.by_age_h) && self.coverage >= LEAST_COVERED
    }
}

/// Known lives, and those of the machines that failed last which ended after all of these.
fn divided(lives: &[Life]) -> (Vec<usize>, Vec<usize>) {
    let group_of = groups(lives);
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    group_of.iter().enumerate().for_each(|(place, group)| {
        last.insert(*group, place);
    });
    let mut by_end: Vec<(usize, usize)> = last.into_iter().map(|(group, place)| (place, group)).collect();
    by_end.sort_unstable();
    let kept = by_end.split_off(by_end.len() - by_end.len() / 3);
    let is_kept = |place: &usize| kept.iter().any(|(_, group)| *group == group_of[*place]);
    let (later, known): (Vec<usize>, Vec<usize>) = (0..lives.len()).partition(is_kept);
    let newest = known.last().copied().unwrap_or_default();
    (known, later.into_iter().filter(|place| *place > newest).collect())
}

/// Squares of what was wrong.
struct Sums {
    mean: f64,
    /// How long each known life was.
    lengths: Vec<f64>,
    rows: usize,
    head: f64,
    constant: f64,
    by_age: f64,
    covered: usize,
    width: f64,
}

impl Sums {
    fn new(known: &[Life], options: &LifeOptions) -> Self {
        let cap = f64::from(options.cap);
        let left = || known.iter().flat_map(|life| life.left.iter().map(|left| f64::from(*left).min(cap)));
        Self {
            mean: left().sum::<f64>() / left().count().max(1) as f64,
            lengths: known.iter().map(length).collect(),
            rows: 0,
            head: 0.0,
            constant: 0.0,
            by_age: 0.0,
            covered: 0,
            width: 0.0,
        }
    }

    fn judge(
        &mut self,
        life: &Life,
        dataset: &LifeDataset,
        artifact: &Artifact<'_>,
        options: &LifeOptions,
    ) -> Result<(), TrainError> {
        let place = |wanted| dataset.features.iter().position(|feature| feature.reference == wanted);
        let places: Option<Vec<usize>> = artifact.features().map(place).collect();
        let places = places.ok_or(TrainError::Dataset("a head asks for a column that is not there"))?;
        let (cap, unit_h) = (f64::from(options.cap), f64::from(options.hours_per_unit));
        let (mut state, mut scratch) = (Box::new(Room::new()), Scratch::new());
        let mut asked = taken(life.left.len(), options.every).peekable();
        for (row, values) in life.rows.chunks_exact(dataset.features.len()).enumerate() {
            let picked: Vec<f32> = places.iter().map(|place| values[*place]).collect();
            let scored = artifact.push(&picked, &mut *state, &mut scratch).map_err(kilter_infer::CertifyError::Row)?;
            if asked.next_if_eq(&row).is_none() {
                continue;
            }
            let Some(said) = scored.and_then(|scored| scored.rul) else { continue };
            let left = f64::from(life.left[row]);
            let truth = left.min(cap) * unit_h;
            let (low, high) = (f64::from(said.low), f64::from(said.high));
            self.rows += 1;
            self.head += (f64::from(said.value) - truth).powi(2);
            self.constant += (self.mean * unit_h - truth).powi(2);
            self.by_age += (self.left_at(length(life) - left, cap) * unit_h - truth).powi(2);
            self.covered += usize::from((low..=high).contains(&truth));
            self.width += high.min(cap * unit_h) - low;
        }
        Ok(())
    }

    /// What those had left that got as old; nothing where none did.
    fn left_at(&self, age: f64, cap: f64) -> f64 {
        let older = || self.lengths.iter().filter(|length| **length > age).map(|length| (length - age).min(cap));
        older().sum::<f64>() / older().count().max(1) as f64
    }

    fn proof(self, known: usize, judged: usize, options: &LifeOptions) -> LifeProof {
        let rows = self.rows.max(1) as f64;
        LifeProof {
            known,
            judged,
            rows: self.rows,
            cap_h: f64::from(options.cap * options.hours_per_unit),
            error_h: (self.head / rows).sqrt(),
            constant_h: (self.constant / rows).sqrt(),
            by_age_h: (self.by_age / rows).sqrt(),
            coverage: self.covered as f64 / rows,
            width_h: self.width / rows,
        }
    }
}

/// What was left after its first row.
fn length(life: &Life) -> f64 {
    life.left.first().copied().map_or(0.0, f64::from)
}

/// A head must be better than what needs no measurement by 2 %.
const MUST_BEAT: f64 = 0.98;
/// An interval for nine tenths that holds less often than this tells nobody how sure the head is.
const LEAST_COVERED: f64 = 0.7;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(assets: &[Option<u32>]) -> (Vec<usize>, Vec<usize>) {
        let life = |asset: &Option<u32>| Life { asset: *asset, ..Life::default() };
        divided(&assets.iter().map(life).collect::<Vec<_>>())
    }

    #[test]
    fn machines_that_failed_last_are_judged_by_others_that_had_all_failed_before() {
        assert_eq!(of(&[None; 6]), (vec![0, 1, 2, 3], vec![4, 5]));
        // The third machine failed twice: its earlier life ended before a known one did and is left out.
        let failed = [Some(1), Some(3), Some(2), Some(3), Some(1)];
        assert_eq!(of(&failed), (vec![1, 2, 3], vec![4]));
        // Two measuring points of one machine are judged together.
        assert_eq!(of(&[Some(1), Some(2), Some(3), Some(3)]), (vec![0, 1], vec![2, 3]));
        assert_eq!(of(&[]), (vec![], vec![]));
    }

    #[test]
    fn a_head_wins_that_beats_mean_and_age_with_an_interval_that_holds() {
        let good = LifeProof {
            rows: 100,
            error_h: 9.0,
            constant_h: 12.0,
            by_age_h: 10.0,
            coverage: 0.88,
            ..LifeProof::default()
        };
        assert!(good.wins());
        assert!(!LifeProof { by_age_h: 9.1, ..good }.wins(), "hardly better than the age");
        assert!(!LifeProof { constant_h: 8.0, ..good }.wins());
        assert!(!LifeProof { coverage: 0.6, ..good }.wins(), "its interval says nothing");
        assert!(!LifeProof::default().wins(), "nothing was judged");
    }

    #[test]
    fn the_age_says_what_others_had_left_that_got_as_old() {
        let life = |hours: f32| Life { left: vec![hours, 0.0], ..Life::default() };
        let sums = Sums::new(&[life(10.0), life(30.0)], &LifeOptions { cap: 25.0, ..LifeOptions::default() });
        assert_eq!([0.0, 5.0, 10.0, 20.0, 30.0].map(|age| sums.left_at(age, 25.0)), [17.5, 15.0, 20.0, 10.0, 0.0]);
    }
}
