//! One speed kept away: how a model that is made in the same way does at a speed that it never learned from.
//!
//! The model that is sent learns from every speed that there are rows of, so it can't be asked itself. Its like is made once more for
//! each speed in turn: the same options and as many steps as its best weights took, from the same parts without that speed, columns
//! and normaliser included. It is judged by the tested rows of that speed, and so is the simple rule. Where there is one speed only,
//! loads are kept away in turn; where there is one load as well, the card says that it can't be told.

use std::collections::{BTreeMap, BTreeSet};

use kilter_infer::Family;
use serde::{Deserialize, Serialize};

use crate::{
    Dataset, Networks, TrainError, TrainOptions,
    bench::{Bench, Exported},
    evaluate::Figures,
    parallel,
    prepare::Prepared,
};

/// What a model's like did at a speed or load that was kept from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptSpeed {
    /// `speed`; `load` where there is one speed only.
    pub kept: String,
    /// The bins of the steady state that were kept.
    pub bins: Vec<u8>,
    /// The slowest and the fastest tested window there.
    pub rpm: [f32; 2],
    /// Healthy windows scored.
    pub windows: u64,
    /// Share of simulated faults found.
    pub detection: f64,
    /// Share of healthy windows above the threshold.
    pub false_alarm_share: f64,
    /// Share of simulated faults that the simple rule found, made without that speed as well.
    pub rule_detection: f64,
    /// Share of healthy windows that it took for faults.
    pub rule_false_alarm_share: f64,
}

/// The scores of one model, or why there are none.
pub(crate) type Scores = Result<Vec<KeptSpeed>, String>;

/// The scores of a run's network, where there is one, and of its statistic.
pub(crate) struct Kept {
    pub(crate) network: Option<Scores>,
    pub(crate) statistic: Scores,
}

/// Keeps the speeds with most tested windows away, one after the other; several are worked on side by side.
pub(crate) fn kept(bench: &Bench<'_>, network: Option<&Exported>) -> Kept {
    let none = |why: &str| Kept { network: network.map(|_| Err(why.to_owned())), statistic: Err(why.to_owned()) };
    let (dataset, options) = (bench.dataset, bench.options);
    if options.kept_speeds == 0 {
        return none("not asked for");
    }
    let groups = groups(dataset, &bench.prepared, options.kept_speeds);
    if groups.is_empty() {
        return none("not possible: one speed only");
    }
    let alike = |exported: &Exported| TrainOptions {
        networks: match exported.family {
            Family::LstmForecaster => Networks::Forecaster,
            _ => Networks::Autoencoder,
        },
        max_steps: exported.steps.max(1),
        // A champion knows the speed.
        warm: None,
        ..options.clone()
    };
    let alike = network.map_or(TrainOptions { networks: Networks::None, warm: None, ..options.clone() }, alike);
    let work = |group: Group, _: &mut dyn FnMut(())| group.judged(dataset, &alike);
    let judged = parallel::each(groups, parallel::workers(), &work, &mut drop);
    let (mut networks, mut statistics, mut failed) = (Vec::new(), Vec::new(), None);
    for result in judged {
        match result {
            Ok((network, statistic)) => {
                networks.extend(network);
                statistics.push(statistic);
            }
            Err(error) => failed = failed.or(Some(format!("not possible: failed to {error}"))),
        }
    }
    let told = |scores: Vec<KeptSpeed>| match (scores.is_empty(), &failed) {
        (true, Some(why)) => Err(why.clone()),
        (_, _) => Ok(scores),
    };
    Kept { network: network.map(|_| told(networks)), statistic: told(statistics) }
}

/// Bins that are kept together.
struct Group {
    kept: &'static str,
    bins: BTreeSet<u8>,
}

/// The speeds that training saw, or else its loads, those with most tested windows first; none where it saw one alone.
fn groups(dataset: &Dataset, prepared: &Prepared, most: usize) -> Vec<Group> {
    let bins = |runs: &[Vec<usize>]| runs.iter().flatten().map(|row| dataset.healthy.regime[*row]).collect::<Vec<_>>();
    let trained: BTreeSet<u8> = bins(&prepared.parts.fit).into_iter().collect();
    let mut tested: BTreeMap<u8, usize> = BTreeMap::new();
    bins(&prepared.parts.test).into_iter().for_each(|bin| *tested.entry(bin).or_default() += 1);
    let by = |kept: &'static str, key: fn(u8) -> u8| {
        let mut groups: BTreeMap<u8, Group> = BTreeMap::new();
        for bin in &trained {
            groups.entry(key(*bin)).or_insert_with(|| Group { kept, bins: BTreeSet::new() }).bins.insert(*bin);
        }
        groups.into_values().collect::<Vec<_>>()
    };
    let mut groups = by("speed", |bin| bin / LOADS);
    if groups.len() < 2 {
        groups = by("load", |bin| bin);
    }
    if groups.len() < 2 {
        return Vec::new();
    }
    let windows = |group: &Group| group.bins.iter().filter_map(|bin| tested.get(bin)).sum::<usize>();
    // The slower of equals first: the sort is stable.
    groups.sort_by_key(|group| std::cmp::Reverse(windows(group)));
    groups.truncate(most);
    groups
}

impl Group {
    /// The likes of network and statistic, made without these bins and judged in them.
    fn judged(&self, dataset: &Dataset, options: &TrainOptions) -> Result<(Option<KeptSpeed>, KeptSpeed), TrainError> {
        let bench = Bench::of(dataset, options, Prepared::without(dataset, options, &self.bins)?);
        let rows = || bench.prepared.parts.test.iter().flatten().map(|row| dataset.healthy.rpm[*row]);
        let rpm = [rows().fold(f32::MAX, f32::min), rows().fold(f32::MIN, f32::max)];
        let rule = bench.simple_rule();
        let told = |figures: Figures| KeptSpeed {
            kept: self.kept.to_owned(),
            bins: self.bins.iter().copied().collect(),
            rpm,
            windows: figures.windows as u64,
            detection: figures.detection,
            false_alarm_share: figures.false_alarm_share,
            rule_detection: rule.detection,
            rule_false_alarm_share: rule.false_alarm_share,
        };
        let statistic = told(bench.judge(&bench.statistic()?)?);
        let network = match bench.network(&mut |_| {})? {
            Some(exported) => Some(told(bench.judge(&exported.bytes)?)),
            None => None,
        };
        Ok((network, statistic))
    }
}

/// The scores in words, for a card's `why`.
pub(crate) fn words(scores: &Scores) -> String {
    let scores = match scores {
        Ok(scores) => scores,
        Err(why) => return format!("; without one speed: {why}"),
    };
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let one = |score: &KeptSpeed| {
        let [low, high] = score.rpm;
        format!(
            "{} at the {} of {low:.0} to {high:.0} rpm with {} of {} healthy windows above the threshold (the simple rule {} with {})",
            percent(score.detection),
            score.kept,
            percent(score.false_alarm_share),
            score.windows,
            percent(score.rule_detection),
            percent(score.rule_false_alarm_share),
        )
    };
    let all: Vec<String> = scores.iter().map(one).collect();
    format!("; its like that never saw it finds {}", all.join(", "))
}

/// Bins of load in one bin of speed (`shared/monitor`, `regime`).
const LOADS: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::sample::{dataset_of, options};

    /// Three speeds: two thirds of the windows at the first, the rest at the others, in turn for both machines' sake.
    fn three_speeds() -> Dataset {
        let mut dataset = dataset_of(600);
        for row in 0..dataset.healthy.len() {
            let speed = match dataset.healthy.index[row] % 300 {
                0..150 => 8,
                150..240 => 9,
                _ => 10,
            };
            dataset.healthy.regime[row] = LOADS * speed + u8::from(dataset.healthy.index[row] >= 300);
            dataset.healthy.rpm[row] = 150.0 * f32::from(speed);
        }
        dataset
    }

    #[test]
    fn speeds_are_kept_away_with_all_their_loads_those_with_most_windows_first() {
        let dataset = three_speeds();
        let prepared = Prepared::new(&dataset, &options()).expect("enough rows");
        let bins = |most| -> Vec<Vec<u8>> {
            groups(&dataset, &prepared, most).iter().map(|group| group.bins.iter().copied().collect()).collect()
        };
        assert_eq!(bins(9), [[64, 65], [72, 73], [80, 81]]);
        assert_eq!(bins(2), [[64, 65], [72, 73]]);
    }

    #[test]
    fn nothing_of_a_speed_that_is_kept_away_is_learned_from_and_nothing_else_judges() {
        let dataset = three_speeds();
        let rows = &dataset.healthy;
        let kept = BTreeSet::from([72, 73]);
        let whole = Prepared::new(&dataset, &options()).expect("enough rows");
        let clean = Prepared::without(&dataset, &options(), &kept).expect("enough rows");
        let parts = &clean.parts;
        assert!(
            [&parts.fit, &parts.stop, &parts.calibrate]
                .into_iter()
                .flatten()
                .flatten()
                .all(|row| !kept.contains(&rows.regime[*row]))
        );
        assert!(parts.test.iter().flatten().all(|row| kept.contains(&rows.regime[*row])));
        // The rows that judge are rows that test the whole model too: no run ever learned from them.
        let tested: BTreeSet<usize> = whole.parts.test.iter().flatten().copied().collect();
        assert!(parts.test.iter().flatten().all(|row| tested.contains(row)));
        assert!(!clean.regimes.is_empty() && clean.regimes.len() < whole.regimes.len());
        // A plant in any row of that speed reaches neither columns nor normaliser.
        let mut planted = dataset.clone();
        for row in (0..rows.len()).filter(|row| kept.contains(&rows.regime[*row])) {
            planted.healthy.values[row * 2..][..2].fill(if row % 2 == 0 { 1e6 } else { -1e6 });
        }
        let leaked = Prepared::without(&planted, &options(), &kept).expect("enough rows");
        assert_eq!(
            (&clean.columns, &clean.mean, &clean.scale, &clean.range),
            (&leaked.columns, &leaked.mean, &leaked.scale, &leaked.range)
        );
    }

    #[test]
    fn one_speed_gives_its_loads_and_one_load_gives_none() {
        let mut dataset = three_speeds();
        dataset.healthy.regime.iter_mut().for_each(|bin| *bin = 80 + *bin % LOADS);
        let prepared = Prepared::new(&dataset, &options()).expect("enough rows");
        let found = groups(&dataset, &prepared, 9);
        assert_eq!(found.iter().map(|group| group.kept).collect::<Vec<_>>(), ["load", "load"]);
        dataset.healthy.regime.fill(80);
        let prepared = Prepared::new(&dataset, &options()).expect("enough rows");
        assert!(groups(&dataset, &prepared, 9).is_empty());
    }
}
