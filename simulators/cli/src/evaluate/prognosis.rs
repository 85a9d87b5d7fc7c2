//! What a word on the remaining life is worth beyond its mean error: does its interval hold the truth, and from when on can it be relied on?
//!
//! **Coverage.** The share of a machine's windows whose truth lies within the 90 % interval, then the mean over machines, so that each counts
//! alike; the standard error over machines, of which a seed keeps few, says how sure that is. The truth is capped as the head's is; where it
//! lies below the cap coverage is told once more, because a cap is easily held.
//!
//! **Prognostic horizon** (Saxena, Celaya, Saha, Saha and Goebel, *Metrics for Offline Evaluation of Prognostic Performance*, International
//! Journal of Prognostics and Health Management 1, 2010): how long before the end of a life the word comes within a share of the whole life
//! around the truth. There the first such word counts; here it counts from when on *every* word to the end does. The truth is not capped.
//! The median machine is told.
//!
//! **Baseline.** The mean life of the machines that the head learned from, less the age; its interval lies between the lives of which a
//! twentieth is shorter and a twentieth longer.

use super::{Row, head::Head};

/// One word on what a machine has left, and the truth beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) said_h: f64,
    pub(super) low_h: f64,
    pub(super) high_h: f64,
    pub(super) age_h: f64,
    pub(super) left_h: f64,
}

impl Word {
    /// What is to be said where nothing beyond the cap is told apart.
    fn truth_h(&self, cap_h: f64) -> f64 {
        self.left_h.min(cap_h)
    }

    fn is_covered(&self, cap_h: f64) -> bool {
        (self.low_h..=self.high_h).contains(&self.truth_h(cap_h))
    }
}

/// What was said of machines that took no part in making the head, the words of each in order.
#[derive(Clone, Debug)]
pub(super) struct Prognoses {
    machines: Vec<Vec<Word>>,
    cap_h: f64,
}

impl Prognoses {
    pub(super) fn new(machines: Vec<Vec<Word>>, cap_h: f64) -> Self {
        Self { machines, cap_h }
    }

    pub(super) fn rmse_h(&self) -> f64 {
        let square = |word: &Word| (word.said_h - word.truth_h(self.cap_h)).powi(2);
        mean(&self.words().map(square).collect::<Vec<_>>()).sqrt()
    }

    /// The error of the mean of the truth itself, which no honest constant can undercut.
    pub(super) fn constant_h(&self) -> f64 {
        let truth: Vec<f64> = self.words().map(|word| word.truth_h(self.cap_h)).collect();
        let centre = mean(&truth);
        mean(&truth.iter().map(|truth| (truth - centre).powi(2)).collect::<Vec<_>>()).sqrt()
    }

    /// The same machines, of which somebody says the mean of these lives less their age.
    fn by_age(&self, lives_h: &[f64]) -> Self {
        let mut lives_h = lives_h.to_vec();
        lives_h.sort_by(f64::total_cmp);
        let at = |share: f64| lives_h[(share * (lives_h.len() - 1) as f64).round() as usize];
        let (mean_h, short_h, long_h) = (mean(&lives_h), at(0.05), at(0.95));
        let left_h = |life_h: f64, word: &Word| (life_h - word.age_h).clamp(0.0, self.cap_h);
        let word = |word: &Word| Word {
            said_h: left_h(mean_h, word),
            low_h: left_h(short_h, word),
            high_h: left_h(long_h, word),
            ..*word
        };
        let machines = self.machines.iter().map(|words| words.iter().map(word).collect()).collect();
        Self { machines, cap_h: self.cap_h }
    }

    /// Percent of the windows that count that the interval covers, by machine.
    fn covered(&self, counts: impl Fn(&Word) -> bool) -> Vec<f64> {
        let of = |words: &Vec<Word>| {
            let counted: Vec<&Word> = words.iter().filter(|word| counts(word)).collect();
            let covered = counted.iter().filter(|word| word.is_covered(self.cap_h)).count();
            (!counted.is_empty()).then(|| 100.0 * covered as f64 / counted.len() as f64)
        };
        self.machines.iter().filter_map(of).collect()
    }

    fn width_h(&self) -> f64 {
        mean(&self.words().map(|word| word.high_h.min(self.cap_h) - word.low_h).collect::<Vec<_>>())
    }

    fn horizon_h(&self, share: f64) -> f64 {
        let mut all: Vec<f64> = self.machines.iter().map(|words| horizon_h(words, share)).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
    }

    fn words(&self) -> impl Iterator<Item = &Word> {
        self.machines.iter().flatten()
    }
}

/// What a head says of machines, beside what their age alone says.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    which: &'static str,
    said: Prognoses,
    plain: Prognoses,
    heads: Vec<Head>,
}

impl Beside {
    /// Machines of this name, and the lives of those that the head learned from.
    pub(super) fn new(which: &'static str, said: &Prognoses, lives_h: &[f64], head: &Head) -> Self {
        Self { which, said: said.clone(), plain: said.by_age(lives_h), heads: vec![head.clone()] }
    }

    /// With the machines of another seed.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.said.machines.extend(other.said.machines);
        self.plain.machines.extend(other.plain.machines);
        self.heads.extend(other.heads);
        self
    }

    /// All figures of these machines, of one seed or of several.
    pub(super) fn rows(&self, dataset: &str, seed: Option<u64>) -> Vec<Row> {
        let heads: Vec<&Head> = self.heads.iter().collect();
        let row = |metric: &str, of: &dyn Fn(&Prognoses) -> f64| {
            let metric = format!("{metric}, {}", self.which);
            let row = Row::new("shift", dataset, 0, &metric, of(&self.said), Some(of(&self.plain))).by(&heads);
            Row { seed, ..row }
        };
        vec![
            row("rmse against life less age", &Prognoses::rmse_h),
            row("90 % interval covers, %", &|all| mean(&all.covered(|_| true))),
            row("its standard error over machines", &|all| standard_error(&all.covered(|_| true))),
            row("the same below the cap, %", &|all| mean(&all.covered(|word| word.left_h < all.cap_h))),
            row("its mean width, hours", &Prognoses::width_h),
            row("prognostic horizon 20 %, hours", &|all| all.horizon_h(0.2)),
            row("prognostic horizon 10 %, hours", &|all| all.horizon_h(0.1)),
        ]
    }
}

/// What is left when the word first comes within this share of the life around the truth, and stays; 0 where the last word does not.
fn horizon_h(words: &[Word], share: f64) -> f64 {
    let holds = |word: &&Word| (word.said_h - word.left_h).abs() <= share * (word.age_h + word.left_h);
    words.iter().rev().take_while(holds).last().map_or(0.0, |word| word.left_h)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn standard_error(values: &[f64]) -> f64 {
    let (count, mean) = (values.len().max(2) as f64, mean(values));
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0) / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A life of so many hours, a word per hour.
    fn words(life_h: u32, said: impl Fn(f64) -> f64) -> Vec<Word> {
        let word = |age: u32| {
            let left_h = f64::from(life_h - age);
            let said_h = said(left_h);
            Word { said_h, low_h: said_h - 5.0, high_h: said_h + 5.0, age_h: f64::from(age), left_h }
        };
        (1..=life_h).map(word).collect()
    }

    #[test]
    fn the_horizon_begins_where_every_later_word_is_near_enough_and_not_where_the_first_is() {
        // Ten hours of a hundred; the cap lets words come near at 60 hours.
        let capped = words(100, |left_h| left_h.min(50.0));
        assert_eq!(horizon_h(&capped, 0.1), 60.0);
        assert_eq!(horizon_h(&capped, 0.2), 70.0);
        // One word far off at 30 hours: what was said before counts no more.
        let astray = words(100, |left_h| if left_h == 30.0 { 55.0 } else { left_h });
        assert_eq!(horizon_h(&astray, 0.2), 29.0);
        assert_eq!(horizon_h(&words(100, |left_h| left_h + 30.0), 0.2), 0.0);
    }

    #[test]
    fn each_machine_counts_alike_and_the_cap_is_left_out_where_it_is_asked_for() {
        // The first is always right, the second never, and a quarter as long.
        let all = Prognoses::new(vec![words(100, |left_h| left_h), words(25, |left_h| left_h + 9.0)], 50.0);
        assert_eq!(all.covered(|word| word.left_h < 50.0), [100.0, 0.0]);
        // Above the cap the first says more than there is to be said, by more than five hours from 56 on.
        let said_too_much = (56..100).count() as f64;
        assert_eq!(all.covered(|_| true), [100.0 - said_too_much, 0.0]);
        assert_eq!(standard_error(&[100.0, 0.0]), 50.0);
        let square: f64 = (1..50).map(|wrong| f64::from(wrong * wrong)).sum::<f64>() + 25.0 * 81.0;
        assert!((all.rmse_h() - (square / 125.0).sqrt()).abs() < 1e-9, "{}", all.rmse_h());
    }

    #[test]
    fn the_baseline_knows_the_mean_life_and_the_age() {
        let lives_h: Vec<f64> = (80..=120).map(f64::from).collect();
        let plain = Prognoses::new(vec![words(100, |_| 0.0), words(130, |_| 0.0)], 50.0).by_age(&lives_h);
        assert!(plain.machines[0].iter().all(|word| word.said_h == word.truth_h(50.0) && word.is_covered(50.0)));
        // Of a machine that lives 30 hours longer it is wrong by up to 30, and outside what 95 of 100 lived.
        assert!(plain.machines[1].iter().any(|word| (word.said_h - word.left_h).abs() == 30.0));
        assert!(plain.machines[1].iter().any(|word| !word.is_covered(50.0)));
        // Of two machines the one that does worse is told.
        assert_eq!((horizon_h(&plain.machines[0], 0.2), plain.horizon_h(0.2)), (70.0, 26.0));
    }
}
