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
use crate::{Augmentation, Dataset, Networks, TrainError, TrainOptions, prepare::by_key, random::Random};

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
    // In f32, or in int8 where the device has no room for that.
    let fitting = |options: TrainOptions| {
        let small = TrainOptions { int8_needed: true, ..options.clone() };
        [options, small].into_iter().find(fits)
    };
    let mut random = Random::new(base.seed, "search");
    // One kind of network at a time is judged.
    let first = match base.networks {
        Networks::Both => TrainOptions { networks: Networks::Autoencoder, ..base.clone() },
        Networks::None | Networks::Autoencoder | Networks::Forecaster => base.clone(),
    };
    let given = fitting(first.clone()).is_some();
    let mut space = Space { candidates: Vec::new(), given, too_much: 0, inputs: features };
    let mut next = first;
    for _ in 0..DRAWS {
        if space.candidates.len() == search.candidates {
            break;
        }
        match fitting(next) {
            None => space.too_much += 1,
            Some(fits) if space.candidates.iter().any(|other| describe(other) == describe(&fits)) => {}
            Some(fits) => space.candidates.push(fits),
        }
        let mut pick = |values: &[usize]| values[random.below(values.len())];
        next = TrainOptions {
            sequence_len: pick(&[4, 8, 12, 16, 24]),
            hidden: pick(&[8, 16, 24, 32, 48]),
            code: pick(&[4, 8, 12, 16]),
            max_inputs: pick(&[8, 12, 24, 40]),
            learning_rate: RATES[pick(&[0, 1, 2, 3])],
            networks: match base.networks {
                Networks::Both => [Networks::Autoencoder, Networks::Forecaster][pick(&[0, 1])],
                one => one,
            },
            augment: Augmentation {
                noise: AMOUNTS[pick(&[0, 0, 1, 2])],
                shift: AMOUNTS[pick(&[0, 0, 2, 3])],
                load: AMOUNTS[pick(&[0, 0, 1, 2])],
            },
            ..base.clone()
        };
        if next.networks == Networks::Forecaster {
            // It has none.
            next.code = NO_CODE;
        }
    }
    if space.candidates.is_empty() {
        return Err(TrainError::NothingFits { smallest_bytes: Need::of(&smallest(base), features).bytes });
    }
    Ok(space)
}

/// The options that candidates differ in.
pub(crate) fn describe(options: &TrainOptions) -> BTreeMap<String, f64> {
    let TrainOptions { sequence_len, hidden, code, max_inputs, learning_rate, augment, .. } = options;
    let counts = [("sequence_len", sequence_len), ("hidden", hidden), ("code", code), ("max_inputs", max_inputs)];
    let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), *count as f64));
    let others = [
        ("learning_rate", *learning_rate),
        ("network", options.networks.number()),
        ("int8_needed", f64::from(u8::from(options.int8_needed))),
        ("augment_noise", f64::from(augment.noise)),
        ("augment_shift", f64::from(augment.shift)),
        ("augment_load", f64::from(augment.load)),
    ];
    counts.chain(others.map(|(name, value)| (name.to_owned(), value))).collect()
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
    let TrainOptions {
        seed, batch, patience, max_windows, false_alarms_per_month, window_period_secs, int8_loss, ..
    } = options;
    let SearchOptions { candidates, first_steps, folds, device, workers: _ } = search;
    let decides = format!(
        "{seed} {batch} {patience} {max_windows} {false_alarms_per_month} {window_period_secs} {int8_loss} {:?} {candidates} {first_steps} {folds} \
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
    let TrainOptions { sequence_len, hidden, code, max_inputs, learning_rate, augment, .. } = options;
    let network = match options.networks {
        Networks::Forecaster => format!("a forecaster, {hidden} hidden"),
        _ => format!("an autoencoder, {hidden} hidden, code {code}"),
    };
    let Augmentation { noise, shift, load } = augment;
    let mut text = format!(
        "of {} candidates in {} rungs and {} folds: {network}{}, sequences of {sequence_len}, at most {max_inputs} features, rate \
         {learning_rate}, training windows with noise {noise}, shifts {shift} and loads {load}; merit {:.3} on machines and times it did not see",
        space.candidates.len(),
        last + 1,
        search.folds,
        if options.int8_needed { " in int8" } else { "" },
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
        let TrainOptions { sequence_len, hidden, code, int8_needed, .. } = *options;
        let inputs = options.max_inputs.min(features);
        let forecasts = options.networks == Networks::Forecaster;
        // Outputs, and the one or two vectors that enter.
        let matrices = if forecasts {
            vec![(4 * hidden, inputs, hidden), (inputs, hidden, 0)]
        } else {
            vec![(4 * hidden, inputs, hidden), (code, hidden, 0), (4 * hidden, code, hidden), (inputs, hidden, 0)]
        };
        let bytes_of = |(outputs, first, second): &(usize, usize, usize)| {
            let vectors = 1 + usize::from(*second > 0);
            let pairs = first.div_ceil(2) + second.div_ceil(2);
            match int8_needed {
                true => 4 * outputs * (1 + vectors) + (2 * outputs * pairs).next_multiple_of(4),
                false => 4 * outputs * (first + second + 1),
            }
        };
        let golden = 2 * (sequence_len * inputs + 1 + inputs);
        let around = HEADER_BYTES + 28 * inputs + 16 * kilter_infer::MAX_REGIMES + 4 * golden;
        let lstm = 4 * hidden * (inputs + hidden);
        let (state, products) = match forecasts {
            true => (2 * (hidden + inputs), lstm + inputs * hidden),
            false => {
                let steps = lstm + 4 * hidden * hidden + inputs * hidden;
                (sequence_len * inputs, sequence_len * steps + hidden * code + 4 * hidden * code)
            }
        };
        Self {
            bytes: around + matrices.iter().map(bytes_of).sum::<usize>() + 4 * state + size_of::<Scratch>(),
            products,
        }
    }

    fn secs(&self, device: Device) -> f64 {
        self.products as f64 / device.products_per_sec
    }
}

/// The least that a search draws.
fn smallest(base: &TrainOptions) -> TrainOptions {
    TrainOptions { sequence_len: 4, hidden: 8, code: 4, max_inputs: 8, int8_needed: true, ..base.clone() }
}

/// How much windows may be changed.
const AMOUNTS: [f32; 4] = [0.0, 0.05, 0.1, 0.5];
const NO_CODE: usize = 1;
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
    fn a_network_that_fits_only_in_int8_is_tried_in_int8_and_one_that_fits_is_not() {
        let base = TrainOptions { hidden: 48, max_inputs: 40, ..TrainOptions::default() };
        let need = |int8_needed| {
            let networks = Networks::Autoencoder;
            Need::of(&TrainOptions { int8_needed, networks, ..base.clone() }, 51).bytes
        };
        assert!(2 * need(true) < need(false), "{} {}", need(true), need(false));
        let first = |ram_bytes| {
            let search = SearchOptions { candidates: 1, device: device(ram_bytes, 1.0), ..SearchOptions::default() };
            candidates(&base, &search, 51).expect("something fits").candidates[0].clone()
        };
        assert_eq!((first(need(false)).int8_needed, first(need(false) - 1).int8_needed), (false, true));
        assert_eq!(first(need(false) - 1).hidden, 48);
    }

    #[test]
    fn a_search_tries_both_kinds_of_networks_and_changed_training_windows() {
        let search = SearchOptions { candidates: 12, ..SearchOptions::default() };
        let space = candidates(&TrainOptions::default(), &search, 51).expect("everything fits");
        let of = |networks| space.candidates.iter().filter(|candidate| candidate.networks == networks).count();
        assert!(of(Networks::Autoencoder) > 1 && of(Networks::Forecaster) > 1);
        let changed = space.candidates.iter().filter(|candidate| candidate.augment != Augmentation::default()).count();
        assert!((1..12).contains(&changed), "{changed}");
        assert!(describe(&space.candidates[0]).contains_key("augment_noise"), "the log names it");
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
