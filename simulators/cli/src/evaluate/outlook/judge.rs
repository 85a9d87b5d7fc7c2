//! What is told against what came.
//!
//! **Interval**: a word names bins ahead and what their mean will lie between; the mean is taken from the scores themselves. Words from before
//! another sensor are not held against what it showed. The share is by machine, then the mean over machines, so that each counts alike.
//!
//! **Limit**: it is reached in the first hour, from the beginning of the fault on, in which the score was at its limit on the mean. Words from
//! the beginning of the fault until then, while the level is below the limit, say between which hours that will be; one that says "not within
//! 64 hours" is right where it takes longer. The error in hours counts where it came within what was foreseen.

use std::collections::BTreeMap;

use kilter_live::{Fan, Outlook};
use kilter_types::{Micros, Score};

use super::{Life, Row};

/// What was told of one machine.
pub(super) struct Tally {
    /// By horizon.
    ahead: [Ahead; HORIZONS],
    /// Words while the level was below the limit, and those of them that named an hour.
    words: u32,
    named: u32,
    /// Where its score reached the limit.
    growth: Option<Growth>,
}

/// Words at one horizon.
#[derive(Clone, Copy, Default)]
struct Ahead {
    words: u32,
    held: u32,
    error: f64,
    /// Of the level that stays.
    plain: f64,
}

/// Words on when the limit is reached.
struct Growth {
    words: u32,
    held: u32,
    /// Hours wrong, and what never is wrong by.
    errors_h: Vec<(f64, f64)>,
    /// From so long before on each word named an hour.
    told_h: f64,
}

impl Growth {
    /// Percent of the words whose interval held.
    fn held(&self) -> f64 {
        percent(self.held, self.words)
    }
}

impl Life {
    /// With intervals of this share of their width.
    pub(super) fn judge(&self, width: f64) -> Tally {
        let mut tally = Tally { ahead: [Ahead::default(); HORIZONS], words: 0, named: 0, growth: None };
        let mut groups: Vec<u8> = self.scores.iter().map(|(_, score)| score.input.group).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            let series: Vec<_> = self.scores.iter().filter(|(_, score)| score.input.group == group).collect();
            let words = self.words(&series);
            self.intervals(&series, &words, width, &mut tally);
            // The faults are of what vibrates.
            if let (Some(onset), VIBRATION) = (self.onset, group) {
                tally.growth = growth(&series, &words, onset);
            }
        }
        tally
    }

    /// What was told behind each score.
    fn words(&self, series: &[&(Micros, Score)]) -> Vec<(Micros, Fan)> {
        let (mut outlook, mut words, mut anew) = (Outlook::default(), Vec::new(), self.anew);
        for (t, score) in series {
            if anew.take_if(|anew| *t >= *anew).is_some() {
                outlook = Outlook::default();
            }
            outlook.take(*t, score);
            words.extend(outlook.fan().map(|fan| (*t, fan)));
        }
        words
    }

    fn intervals(&self, series: &[&(Micros, Score)], words: &[(Micros, Fan)], width: f64, tally: &mut Tally) {
        let mut truth = BTreeMap::new();
        // Of a machine with a fault, what is told from its beginning on.
        let counts = |t: &Micros| self.onset.is_none_or(|onset| *t >= onset);
        for (t, fan) in words.iter().filter(|(t, _)| counts(t)) {
            let means = truth.entry(fan.bin_us).or_insert_with(|| means(series, fan.bin_us));
            for step in &fan.steps {
                let bin = t.0.div_euclid(fan.bin_us) + i64::from(step.bins);
                let is_another = self.anew.is_some_and(|anew| *t < anew && (bin + 1) * fan.bin_us > anew.0);
                let Some(came) = means.get(&bin).filter(|_| !is_another) else { continue };
                let [low, mid, high] = [step.low, step.mid, step.high].map(|end| f64::from(end).ln());
                let ahead = &mut tally.ahead[step.bins.trailing_zeros() as usize];
                ahead.words += 1;
                ahead.held += u32::from((mid + width * (low - mid)..=mid + width * (high - mid)).contains(came));
                ahead.error += (mid - came).abs();
                ahead.plain += (f64::from(fan.level).ln() - came).abs();
            }
            if fan.level < 1.0 {
                tally.words += 1;
                tally.named += u32::from(fan.limit.estimate_h.is_some());
            }
        }
    }
}

/// The mean logarithm in each bin of this width.
fn means(series: &[&(Micros, Score)], width_us: i64) -> BTreeMap<i64, f64> {
    let mut bins: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for (t, score) in series {
        let (sum, count) = bins.entry(t.0.div_euclid(width_us)).or_default();
        (*sum, *count) = (*sum + logarithm(score), *count + 1.0);
    }
    // The last is not whole.
    bins.pop_last();
    bins.into_iter().map(|(bin, (sum, count))| (bin, sum / count)).collect()
}

fn growth(series: &[&(Micros, Score)], words: &[(Micros, Fan)], onset: Micros) -> Option<Growth> {
    let reached = means(series, HOUR_US).into_iter().find(|(hour, mean)| hour * HOUR_US >= onset.0 && *mean >= 0.0)?;
    let reached_h = reached.0 as f64 + 0.5;
    let mut growth = Growth { words: 0, held: 0, errors_h: Vec::new(), told_h: 0.0 };
    let mut is_unbroken = true;
    for (t, fan) in words.iter().rev() {
        let left_h = reached_h - t.0 as f64 / HOUR_US as f64;
        if *t < onset || left_h <= 0.0 || fan.level >= 1.0 {
            continue;
        }
        let limit = fan.limit;
        let within_h = f64::from(limit.within_h);
        let earliest_h = limit.earliest_h.map_or(within_h, f64::from);
        let latest_h = limit.latest_h.map_or(f64::INFINITY, f64::from);
        is_unbroken &= limit.estimate_h.is_some();
        if is_unbroken {
            growth.told_h = left_h;
        }
        growth.words += 1;
        growth.held += u32::from((earliest_h..=latest_h).contains(&left_h));
        if left_h <= within_h {
            let said_h = limit.estimate_h.map_or(within_h, f64::from);
            growth.errors_h.push(((said_h - left_h).abs(), within_h - left_h));
        }
    }
    Some(growth)
}

/// Was the score of what vibrates at its limit on the mean of the last hour?
pub(super) fn is_at_limit(scores: &[(Micros, Score)]) -> bool {
    let newest = scores.iter().rev().filter(|(_, score)| score.input.group == VIBRATION).take(HOUR_WINDOWS);
    let (count, sum) = newest.fold((0, 0.0), |(count, sum), (_, score)| (count + 1, sum + logarithm(score)));
    count == HOUR_WINDOWS && sum >= 0.0
}

/// Percent of the words whose interval held, at all horizons; the mean over machines.
pub(super) fn coverage(tallies: &[Tally]) -> f64 {
    mean(&covered(tallies, 0..HORIZONS))
}

/// What is told ahead, by horizon.
pub(super) fn of_intervals(name: &str, seed: u64, tallies: &[Tally]) -> Vec<Row> {
    let row = |metric: &str, value: f64, baseline| Row::new(SUITE, name, seed, metric, value, baseline);
    let all = covered(tallies, 0..HORIZONS);
    let error = (all.iter().map(|share| (share - mean(&all)).powi(2)).sum::<f64>() / all.len().max(2) as f64).sqrt();
    let mut rows = vec![
        row("90 % interval covers, %", coverage(tallies), None),
        row("its standard error over machines", error / (all.len().max(2) as f64 - 1.0).sqrt(), None),
    ];
    // A machine of two weeks has not learned every horizon.
    for place in (0..HORIZONS).filter(|place| !covered(tallies, *place..place + 1).is_empty()) {
        let bins = 1 << place;
        rows.push(row(&format!("covers {bins} ahead, %"), mean(&covered(tallies, place..place + 1)), None));
        let per_word = |of: fn(&Ahead) -> f64| {
            let told = tallies.iter().map(|tally| &tally.ahead[place]).filter(|ahead| ahead.words > 0);
            mean(&told.map(|ahead| of(ahead) / f64::from(ahead.words)).collect::<Vec<_>>())
        };
        let (ours, plain) = (per_word(|ahead| ahead.error), per_word(|ahead| ahead.plain));
        rows.push(row(&format!("error {bins} ahead"), ours, Some(plain)));
    }
    let named: Vec<f64> = tallies.iter().map(|tally| percent(tally.named, tally.words)).collect();
    rows.push(row("words that name an hour, %", mean(&named), None));
    rows
}

/// What is told of the hour of the limit.
pub(super) fn of_growth(name: &str, seed: u64, tallies: &[Tally]) -> Vec<Row> {
    let row = |metric: &str, value: f64, baseline| Row::new(SUITE, name, seed, metric, value, baseline);
    let growths: Vec<&Growth> = tallies.iter().filter_map(|tally| tally.growth.as_ref()).collect();
    let errors =
        |of: fn(&(f64, f64)) -> f64| median(growths.iter().flat_map(|growth| growth.errors_h.iter().map(of)).collect());
    vec![
        row("machines that reached the limit", growths.len() as f64, Some(tallies.len() as f64)),
        row("hours of the limit hold, %", mean(&growths.iter().map(|growth| growth.held()).collect::<Vec<_>>()), None),
        row("median error, hours", errors(|error| error.0), Some(errors(|error| error.1))),
        row("median hours told before", median(growths.iter().map(|growth| growth.told_h).collect()), Some(0.0)),
    ]
}

/// Percent held at these horizons, by machine.
fn covered(tallies: &[Tally], horizons: std::ops::Range<usize>) -> Vec<f64> {
    let of = |tally: &Tally| {
        let (words, held) = tally.ahead[horizons.clone()]
            .iter()
            .fold((0, 0), |(words, held), ahead| (words + ahead.words, held + ahead.held));
        (words > 0).then(|| percent(held, words))
    };
    tallies.iter().filter_map(of).collect()
}

/// The natural logarithm of score over threshold, as far as it says something.
fn logarithm(score: &Score) -> f64 {
    f64::from(score.anomaly / score.threshold).clamp(1e-3, 1e4).ln()
}

fn percent(part: u32, whole: u32) -> f64 {
    100.0 * f64::from(part) / f64::from(whole.max(1))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

const SUITE: &str = "outlook";
/// 1, 2, 4 … 64 bins ahead.
const HORIZONS: usize = 7;
const VIBRATION: u8 = 0;
const HOUR_US: i64 = 3_600_000_000;
const HOUR_WINDOWS: usize = 12;
