//! Models: looked up by definition (M1), certified before they switch, named by every score, silent where they know nothing.

use kilter_infer::{Body, Draft, Range, Regime, ResetRule, Scratch};
use kilter_machine::{FaultChange, FaultKind, Growth, LoadChange, MachineSpec};
use kilter_monitor::{InstallError, Output};
use kilter_signal::table::{VIBRATION, at};
use kilter_types::{
    AlarmSource, Digest, Event, FeatureRef, FeatureRow, Generation, GroupKind, Hertz, Input, KernelId, MachineEvent,
    Micros, Role, Rpm, Score,
};

use crate::support::*;

const PLACES: [usize; 4] = [at::RMS, at::KURTOSIS, at::ENVELOPE_RMS, at::CREST_FACTOR];

fn spec() -> MachineSpec {
    MachineSpec::named("m")
}

fn monitor() -> Heaped {
    let mut config = pump(&spec(), 4096);
    config.commissioning_windows = 20;
    build(config)
}

/// A statistic trained on these rows, good for speeds up to `most_rpm`.
pub(crate) fn train(rows: &[FeatureRow], features: &[FeatureRef], most_rpm: f32) -> Vec<u8> {
    train_in(rows, features, most_rpm, 3, 12.0)
}

/// The same over so many windows at a time, unusual above this.
fn train_in(
    rows: &[FeatureRow],
    features: &[FeatureRef],
    most_rpm: f32,
    sequence_len: usize,
    threshold: f32,
) -> Vec<u8> {
    let count = rows.len() as f32;
    let column = |place: usize| rows.iter().map(move |row| row.vector.values[place]);
    let mean = PLACES.map(|place| column(place).sum::<f32>() / count);
    let scale: Vec<f32> = PLACES
        .iter()
        .zip(mean)
        .map(|(place, mean)| 1.0 / (column(*place).map(|x| (x - mean).powi(2)).sum::<f32>() / count).sqrt())
        .collect();
    let range = PLACES.map(|place| {
        let low = column(place).fold(f32::MAX, f32::min);
        let high = column(place).fold(f32::MIN, f32::max);
        Range { low: low - 0.2 * (high - low), high: high + 0.2 * (high - low) }
    });
    let golden: Vec<f32> = rows[..3].iter().flat_map(|row| PLACES.map(|place| row.vector.values[place])).collect();
    let regimes = [Regime { rpm: Range { low: 1000.0, high: most_rpm }, load: Range::ANY }];
    let draft = Draft {
        group: GroupKind::Vibration,
        features,
        mean: &mean,
        inverse_scale: &scale,
        range: &range,
        weight: &[0.25; 4],
        regimes: &regimes,
        threshold,
        input_clip: 8.0,
        residual_clip: 8.0,
        sequence_len,
        reset: ResetRule::ALWAYS,
        body: Body::Statistic { ewma: 0.5 },
        golden: &golden,
    };
    let mut bytes = vec![0; draft.size_bytes()];
    let mut state = kilter_infer::State::<64>::new();
    draft.write(&mut bytes, &mut state, &mut Scratch::new()).expect("a good draft");
    bytes
}

pub(crate) fn features() -> Vec<FeatureRef> {
    PLACES.iter().map(|place| VIBRATION[*place].reference()).collect()
}

pub(crate) fn vibration_rows(said: &[Said]) -> Vec<FeatureRow> {
    rows(said).into_iter().filter(|row| row.kind == GroupKind::Vibration).collect()
}

fn install(monitor: &mut Heaped, bytes: Vec<u8>, said: &mut Vec<Said>) -> Result<Digest, InstallError> {
    let digest = Digest::of(&bytes);
    let sink = &mut |output: Output<'_>| said.push(Said::of(&output));
    monitor.install(Role::Leader, bytes, digest, Generation(7), sink).map(|()| digest)
}

/// Feeds vibration alone, so many samples at a time; before each step somebody may do something to the monitor.
fn in_steps(
    feeder: &mut Feeder,
    seconds: f64,
    samples: usize,
    monitor: &mut Heaped,
    said: &mut Vec<Said>,
    mut before: impl FnMut(u64, &mut Heaped, &mut Vec<Said>),
) {
    let mut step = 0;
    for _ in 0..(seconds * 10.0).round() as u64 {
        feeder.synthesise();
        let (t_s, position) = (feeder.tenths as f64 / 10.0, feeder.tenths * feeder.block.len() as u64);
        for (i, piece) in feeder.block.chunks(samples).enumerate() {
            before(step, monitor, said);
            step += 1;
            let offset = (i * samples) as u64;
            let t = Micros((t_s * 1e6) as i64 + T0 + (offset as f64 * 1e6 / feeder.rate_hz) as i64);
            let mut sink = |output: Output<'_>| said.push(Said::of(&output));
            if offset == 0 {
                monitor.machine_event(t, MachineEvent::Speed(Rpm(feeder.machine.speed(t_s))), &mut sink);
                monitor.machine_event(t, MachineEvent::Load(100.0 * feeder.machine.load(t_s)), &mut sink);
            }
            let block = Input::Block { t0: t, rate: Hertz(feeder.rate_hz as f32), samples: piece };
            monitor.push(crate::support::VIBRATION, position + offset, block, &mut sink).expect("a block fits");
        }
        feeder.tenths += 1;
    }
}

#[test]
fn every_score_names_exactly_one_model_and_the_switch_lies_between_two_windows() {
    let (mut monitor, mut said) = (monitor(), Vec::new());
    let mut feeder = Feeder::new(spec(), 1);
    feeder.run(10.0, &mut monitor, &mut said);
    let bytes = train(&vibration_rows(&said), &features(), 1600.0);
    let before = said.len();
    let digest = install(&mut monitor, bytes, &mut said).expect("a good model");
    let (_, switched) = events(&said[before..]).pop().expect("the switch is told");
    let Event::ModelSwitched { from, to, generation, first } = switched else { panic!("{switched:?}") };
    assert_eq!((from, to, generation), (Digest::NONE, digest, Generation(7)));
    feeder.run(10.0, &mut monitor, &mut said);
    let scores: Vec<Score> = scores(&said[before..]).into_iter().map(|(_, score)| score).collect();
    let by_model: Vec<&Score> = scores.iter().filter(|score| score.model == digest).collect();
    // A sequence of three: the first score comes with the third window.
    assert_eq!(by_model[0].input.index, first.index + 2);
    assert!(by_model.iter().all(|s| s.role == Role::Leader && s.kernel == KernelId::PORTABLE_F32));
    let statistic: Vec<&Score> = scores.iter().filter(|score| score.model == Digest::NONE).collect();
    let watching = statistic.iter().filter(|s| s.input.index >= first.index + 2);
    assert!(watching.clone().count() > 10 && watching.clone().all(|s| s.role == Role::Shadow));
    assert_eq!(alarms(&said), []);
    assert_eq!(monitor.model(Role::Leader), Some((digest, Generation(7))));
    monitor.remove(Role::Leader);
    assert_eq!(monitor.model(Role::Leader), None);
}

#[test]
fn s0_05_at_a_thousand_windows_a_second_a_swap_skips_no_window_and_each_is_scored_by_one_model() {
    // 16 kHz and a window each 16 samples; a block is one window, so a model can come between any two.
    let mut spec = spec();
    spec.rate_hz = 16_000.0;
    let mut config = pump(&spec, 256);
    config.groups[0].hop = 16;
    config.commissioning_windows = 20;
    let (mut monitor, mut said) = (build(config), Vec::new());
    let mut feeder = Feeder::new(spec, 1);
    in_steps(&mut feeder, 1.0, 16, &mut monitor, &mut said, |_, _, _| ());
    let learnt = vibration_rows(&said);
    // Each model knows other rows, so each has a digest of its own.
    let models: Vec<Vec<u8>> =
        (0..5).map(|i| train_in(&learnt[100 * i..100 * i + 300], &features(), 1600.0, 1, 12.0)).collect();
    let mut due = [17, 18, 400, 977, 1_500].into_iter().zip(models).peekable();
    let before = said.len();
    in_steps(&mut feeder, 2.0, 16, &mut monitor, &mut said, |step, monitor, said| {
        if let Some((_, model)) = due.next_if(|(at, _)| *at == step) {
            install(monitor, model, said).expect("a good model");
        }
    });
    assert!(due.next().is_none(), "not every model was pushed");

    let rows = vibration_rows(&said);
    let skipped = rows.windows(2).find(|pair| pair[1].index != pair[0].index + 1);
    assert!(skipped.is_none() && rows[0].index == 0 && rows.len() > 2_950, "{} windows, {skipped:?}", rows.len());
    assert!(rows.windows(2).all(|pair| pair[1].end - pair[0].end == Micros(1_000)), "not a thousand a second");
    let switches: Vec<(u64, Digest)> = events(&said[before..])
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::ModelSwitched { to, first, .. } => Some((first.index, to)),
            _ => None,
        })
        .collect();
    assert!(switches.len() == 5 && switches.windows(2).all(|pair| pair[0].0 < pair[1].0), "{switches:?}");
    let serving = |index: u64| switches.iter().rev().find(|(first, _)| *first <= index).map(|(_, model)| *model);
    let mut scored = std::collections::BTreeMap::new();
    for (_, score) in scores(&said[before..]).into_iter().filter(|(_, score)| score.model != Digest::NONE) {
        assert_eq!(Some(score.model), serving(score.input.index), "window {}", score.input.index);
        assert_eq!(score.role, Role::Leader);
        *scored.entry(score.input.index).or_insert(0) += 1;
    }
    let last = rows[rows.len() - 1].index;
    let expected: std::collections::BTreeMap<u64, u32> = (switches[0].0..=last).map(|index| (index, 1)).collect();
    assert_eq!(scored, expected, "each window since the first model has one score of a model");
}

#[test]
fn a_leader_raises_the_alarm_and_ranks_what_speaks_for_it() {
    let (mut monitor, mut said) = (monitor(), Vec::new());
    let mut spec = spec();
    spec.faults.push(FaultChange {
        kind: FaultKind::RollingElement,
        start_s: 14.0,
        growth_s: 20.0,
        severity: 1.0,
        growth: Growth::Linear,
    });
    let mut feeder = Feeder::new(spec, 1);
    feeder.run(10.0, &mut monitor, &mut said);
    let bytes = train(&vibration_rows(&said), &features(), 1600.0);
    let digest = install(&mut monitor, bytes, &mut said).expect("a good model");
    feeder.run(16.0, &mut monitor, &mut said);
    let raised = raised(&said);
    assert_eq!(raised.len(), 1, "{raised:?}");
    let alarm = &raised[0].1;
    assert_eq!((alarm.source, alarm.model), (AlarmSource::Model, digest));
    assert!(alarm.contributions.len() == 4 && alarm.contributions[0].amount > 0.0);
}

#[test]
fn a_model_made_for_this_very_machine_is_heard_without_the_baselines_consent_and_one_for_its_kind_is_not() {
    let raised_by_it = |own: bool| {
        let (mut monitor, mut said) = (monitor(), Vec::new());
        let mut feeder = Feeder::new(spec(), 1);
        feeder.run(15.0, &mut monitor, &mut said);
        // It calls a healthy machine unusual; it came when the baseline was learned, so nothing shows that it does not fit.
        let bytes = train_in(&vibration_rows(&said), &features(), 1600.0, 1, 0.01);
        install(&mut monitor, bytes, &mut said).expect("a good model");
        if own {
            monitor.trust(Role::Leader);
        }
        feeder.run(10.0, &mut monitor, &mut said);
        raised(&said).iter().filter(|(_, alarm)| alarm.source == AlarmSource::Model).count()
    };
    assert_eq!((raised_by_it(false), raised_by_it(true)), (0, 1));
}

#[test]
fn a_model_that_was_not_trained_on_a_regime_raises_no_alarm_there_and_drift_is_told_once() {
    let (mut monitor, mut said) = (monitor(), Vec::new());
    let mut spec = spec();
    spec.load_changes.push(LoadChange { at_s: 12.0, rpm: 1800.0, load: 1.0, ramp_s: 1.0 });
    let mut feeder = Feeder::new(spec, 1);
    feeder.run(10.0, &mut monitor, &mut said);
    let bytes = train(&vibration_rows(&said), &features(), 1600.0);
    let digest = install(&mut monitor, bytes, &mut said).expect("a good model");
    feeder.run(30.0, &mut monitor, &mut said);
    assert_eq!(alarms(&said), []);
    let above = scores(&said).iter().filter(|(_, s)| s.model == digest && s.anomaly > s.threshold).count();
    assert!(above > 20, "the test shows nothing: only {above} scores are above the threshold");
    let drift: Vec<_> = events(&said).into_iter().filter(|(_, e)| matches!(e, Event::Drift { .. })).collect();
    assert!(matches!(drift[..], [(_, Event::Drift { model, share })] if model == digest && share > 0.5), "{drift:?}");
    // In the new regime the machine's own baseline decides once it stands.
    let last = scores(&said).into_iter().rev().find(|(_, s)| s.model == Digest::NONE).expect("a statistic's score");
    assert_eq!(last.1.role, Role::Leader);
}

#[test]
fn a_model_that_misjudges_a_regimes_healthy_windows_does_not_speak_there() {
    // The artifact claims to know every speed; its figures say otherwise.
    let (mut monitor, mut said) = (monitor(), Vec::new());
    let mut spec = spec();
    spec.load_changes.push(LoadChange { at_s: 12.0, rpm: 1800.0, load: 1.0, ramp_s: 1.0 });
    let mut feeder = Feeder::new(spec, 1);
    feeder.run(10.0, &mut monitor, &mut said);
    let bytes = train(&vibration_rows(&said), &features(), 3000.0);
    let digest = install(&mut monitor, bytes, &mut said).expect("a good model");
    feeder.run(30.0, &mut monitor, &mut said);
    assert_eq!(alarms(&said), []);
    let above = scores(&said).iter().filter(|(_, s)| s.model == digest && s.anomaly > s.threshold).count();
    assert!(above > 20, "the test shows nothing: only {above} scores are above the threshold");
}

#[test]
fn a_model_is_refused_for_a_missing_definition_or_a_bit_and_the_one_before_stays_m1() {
    let (mut monitor, mut said) = (monitor(), Vec::new());
    Feeder::new(spec(), 1).run(5.0, &mut monitor, &mut said);
    let rows = vibration_rows(&said);
    let good = install(&mut monitor, train(&rows, &features(), 1600.0), &mut said).expect("a good model");
    let mut other = features();
    other[2].hash ^= 1;
    let refused = install(&mut monitor, train(&rows, &other, 1600.0), &mut said);
    assert_eq!(refused, Err(InstallError::Features));
    let mut bytes = train(&rows, &features(), 1600.0);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(matches!(install(&mut monitor, bytes, &mut said), Err(InstallError::Certify(_))));
    assert!(matches!(install(&mut monitor, vec![1, 2, 3], &mut said), Err(InstallError::Artifact(_))));
    assert_eq!(monitor.model(Role::Leader).map(|(digest, _)| digest), Some(good));
    let reasons: Vec<String> = events(&said)
        .into_iter()
        .filter_map(|(_, e)| if let Event::ModelRefused { reason, .. } = e { Some(reason.to_string()) } else { None })
        .collect();
    assert_eq!(reasons, ["missing_feature", "not_reproducible", "malformed"]);
}

#[test]
fn a_model_for_fewer_features_than_the_group_has_is_welcome_m1() {
    let (mut monitor, mut said) = (monitor(), Vec::new());
    Feeder::new(spec(), 1).run(3.0, &mut monitor, &mut said);
    let bytes = train(&vibration_rows(&said), &features(), 1600.0);
    assert!(features().len() < vibration_rows(&said)[0].vector.values.len());
    install(&mut monitor, bytes, &mut said).expect("the other features do not matter");
}
