//! What a search may try: the given options first, then drawn ones that fit the device.
//!
//! Room and time on a device are reckoned from counts, not measured here: the same search must come to the same choice on any
//! machine. Bytes are those of the artifact, its state and the kernel's work space; the time is multiplications over the
//! device's rate.

use std::collections::BTreeMap;

use kilter_infer::Scratch;
use kilter_types::Digest;

use super::{
    SearchOptions,
    halving::{Outcome, Standing},
};
use crate::{Dataset, TrainError, TrainOptions, prepare::by_key, random::Random};

/// What a model must fit in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Device {
    /// Memory for artifact, state and work space, in bytes.
    pub ram_bytes: usize,
    /// Time for one score, in seconds.
    pub latency_secs: f64,
    /// Multiplications with addition in f32 that it does in a second.
    pub products_per_sec: f64,
}

/// What is tried, and what was left out.
pub(crate) struct Space {
    pub(crate) candidates: Vec<TrainOptions>,
    /// Are the given options among them, as the first?
    given: bool,
    /// Drawn and found too large or too slow.
    too_much: usize,
    inputs: usize,
}

/// The candidates; the first is what the caller gave, unless the device has no room for it.
pub(crate) fn candidates(base: &TrainOptions, search: &SearchOptions, features: usize) -> Result<Space, TrainError> {
    let fits = |options: &TrainOptions| {
        search.device.is_none_or(|device| {
            let need = Need::of(options, features);
            need.bytes <= device.ram_bytes && need.secs(device) <= device.latency_secs
        })
    };
    let mut random = Random::new(base.seed, "search");
    let mut space = Space { candidates: Vec::new(), given: fits(base), too_much: 0, inputs: features };
    let mut next = base.clone();
    for _ in 0..DRAWS {
        if space.candidates.len() == search.candidates {
            break;
        }
        if !fits(&next) {
            space.too_much += 1;
        } else if !space.candidates.iter().any(|other| describe(other) == describe(&next)) {
            space.candidates.push(next);
        }
        let mut pick = |values: &[usize]| values[random.below(values.len())];
        next = TrainOptions {
            sequence_len: pick(&[4, 8, 12, 16, 24]),
            hidden: pick(&[8, 16, 24, 32, 48]),
            code: pick(&[4, 8, 12, 16]),
            max_inputs: pick(&[8, 12, 24, 40]),
            learning_rate: RATES[random.below(RATES.len())],
            ..base.clone()
        };
    }
    if space.candidates.is_empty() {
        return Err(TrainError::NothingFits { smallest_bytes: Need::of(&smallest(base), features).bytes });
    }
    Ok(space)
}

/// The options that candidates differ in.
pub(crate) fn describe(options: &TrainOptions) -> BTreeMap<String, f64> {
    let TrainOptions { sequence_len, hidden, code, max_inputs, learning_rate, .. } = options;
    let counts = [("sequence_len", sequence_len), ("hidden", hidden), ("code", code), ("max_inputs", max_inputs)];
    let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), *count as f64));
    counts.chain([("learning_rate".to_owned(), *learning_rate)]).collect()
}

/// Names a search: its rows in the order of their key, the options that decide and the budget.
pub(crate) fn key(dataset: &Dataset, options: &TrainOptions, search: &SearchOptions) -> String {
    let rows = &dataset.healthy;
    let width = dataset.features.len();
    let mut bytes = Vec::with_capacity(rows.len() * (4 * width + 32));
    for feature in &dataset.features {
        bytes.extend(feature.reference.id.0.to_le_bytes());
        bytes.extend(feature.reference.hash.to_le_bytes());
    }
    for row in by_key(rows) {
        bytes.extend(rows.row(row, width).iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(rows.valid[row].to_le_bytes());
        bytes.extend(rows.asset[row].to_le_bytes());
        bytes.extend(rows.series[row].to_le_bytes());
        bytes.extend(rows.index[row].to_le_bytes());
        bytes.extend(rows.time_us[row].to_le_bytes());
        bytes.push(rows.regime[row]);
        bytes.extend([rows.rpm[row], rows.load[row]].iter().flat_map(|value| value.to_le_bytes()));
    }
    let TrainOptions { seed, batch, patience, max_windows, false_alarms_per_month, window_period_secs, .. } = options;
    let SearchOptions { candidates, first_steps, folds, device, workers: _ } = search;
    let decides = format!(
        "{seed} {batch} {patience} {max_windows} {false_alarms_per_month} {window_period_secs} {:?} {candidates} {first_steps} {folds} \
         {device:?} {}",
        describe(options),
        Digest::of(&bytes)
    );
    Digest::of(decides.as_bytes()).to_string()
}

/// The choice in words.
pub(crate) fn explain(space: &Space, search: &SearchOptions, outcome: &Outcome) -> String {
    let Some(last) = outcome.standings.last().map(|standing| standing.rung) else { return String::new() };
    let of_last = |candidate: usize| {
        let found = outcome.standings.iter().find(|s: &&Standing| s.rung == last && s.candidate == candidate);
        found.and_then(|standing| standing.merit)
    };
    let options = &space.candidates[outcome.winner];
    let TrainOptions { sequence_len, hidden, code, max_inputs, learning_rate, .. } = options;
    let mut text = format!(
        "of {} candidates in {} rungs and {} folds: sequences of {sequence_len}, {hidden} hidden, code {code}, at most {max_inputs} \
         features, rate {learning_rate}; merit {:.3} on machines and times it did not see",
        space.candidates.len(),
        last + 1,
        search.folds,
        of_last(outcome.winner).unwrap_or_default(),
    );
    if space.given && outcome.winner != 0 {
        text += &match of_last(0) {
            Some(merit) => format!(", {merit:.3} with the options given"),
            None => "; the options given could not be trained on every fold".to_owned(),
        };
    }
    if let Some(device) = search.device {
        let need = Need::of(options, space.inputs);
        text += &format!(
            "; {} of {} bytes and {:.2} of {:.2} ms on the device ({} drawn ones needed more)",
            need.bytes,
            device.ram_bytes,
            1e3 * need.secs(device),
            1e3 * device.latency_secs,
            space.too_much,
        );
    }
    text
}

/// What a network takes on a device, at most.
struct Need {
    bytes: usize,
    products: usize,
}

impl Need {
    fn of(options: &TrainOptions, features: usize) -> Self {
        let TrainOptions { sequence_len, hidden, code, .. } = *options;
        let inputs = options.max_inputs.min(features);
        let lstm = |inputs: usize| 4 * hidden * (inputs + hidden);
        let weights = lstm(inputs) + lstm(code) + hidden * code + inputs * hidden + 8 * hidden + code + inputs;
        let golden = 2 * (sequence_len * inputs + 1 + inputs);
        let around = HEADER_BYTES + 28 * inputs + 16 * kilter_infer::MAX_REGIMES;
        let state = 4 * sequence_len * inputs;
        let steps = lstm(inputs) + 4 * hidden * hidden + inputs * hidden;
        Self {
            bytes: around + 4 * (weights + golden) + state + size_of::<Scratch>(),
            products: sequence_len * steps + hidden * code + 4 * hidden * code,
        }
    }

    fn secs(&self, device: Device) -> f64 {
        self.products as f64 / device.products_per_sec
    }
}

/// The least that a search draws.
fn smallest(base: &TrainOptions) -> TrainOptions {
    TrainOptions { sequence_len: 4, hidden: 8, code: 4, max_inputs: 8, ..base.clone() }
}

const RATES: [f64; 4] = [1.5e-3, 3e-3, 6e-3, 1.2e-2];
/// Draws that may be in vain: too large for the device, or drawn before.
const DRAWS: usize = 2_000;
const HEADER_BYTES: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::sample::dataset;

    fn device(ram_bytes: usize, latency_secs: f64) -> Option<Device> {
        Some(Device { ram_bytes, latency_secs, products_per_sec: 30e6 })
    }

    #[test]
    fn every_candidate_fits_the_device_and_no_two_are_alike() {
        let base = TrainOptions::default();
        let search = SearchOptions { candidates: 12, device: device(64 << 10, 1e-3), ..SearchOptions::default() };
        let space = candidates(&base, &search, 51).expect("something fits");
        assert_eq!(space.candidates.len(), 12);
        for (place, candidate) in space.candidates.iter().enumerate() {
            let need = Need::of(candidate, 51);
            assert!(need.bytes <= 64 << 10 && need.products <= 30_000, "{candidate:?}");
            assert!(space.candidates[..place].iter().all(|other| describe(other) != describe(candidate)));
            assert!(candidate.check().is_ok());
        }
        assert!(space.too_much > 0, "the default takes longer than a millisecond there");
        let none = SearchOptions { device: device(4 << 10, 1e-3), ..search };
        assert!(matches!(candidates(&base, &none, 51), Err(TrainError::NothingFits { .. })));
    }

    #[test]
    fn without_a_device_the_given_options_are_the_first_candidate() {
        let base = TrainOptions { hidden: 40, ..TrainOptions::default() };
        let space = candidates(&base, &SearchOptions::default(), 51).expect("everything fits");
        assert_eq!((space.candidates[0].hidden, space.candidates.len()), (40, 9));
    }

    #[test]
    fn a_search_is_named_by_its_rows_options_and_budget_but_not_by_its_threads() {
        let (data, options, budget) = (dataset(), TrainOptions::default(), SearchOptions::default());
        let name = key(&data, &options, &budget);
        assert_eq!(name, key(&data, &options, &SearchOptions { workers: 7, ..budget.clone() }));
        assert_ne!(name, key(&data, &options, &SearchOptions { folds: 4, ..budget.clone() }));
        assert_ne!(name, key(&data, &TrainOptions { seed: 2, ..options.clone() }, &budget));
        let mut other = data.clone();
        other.healthy.values[7] += 1e-6;
        assert_ne!(name, key(&other, &options, &budget));
    }
}
