//! Rules and models together: rules from the first window, models once the baseline stands, one alarm with the stated precedence.

use kilter_machine::{FaultChange, FaultKind, Growth, MachineSpec};
use kilter_monitor::{FeatureLimit, Output};
use kilter_signal::table::{VIBRATION, at};
use kilter_types::{AlarmSource, AlarmState, Cause, Digest, Event, FeatureId, Generation, Role, Severity};

use crate::model::{features, train, vibration_rows};
use crate::support::*;

const VELOCITY: FeatureId = VIBRATION[at::VELOCITY_RMS].id;

fn spec(kind: FaultKind, start_s: f64, growth_s: f64) -> MachineSpec {
    let mut spec = MachineSpec::named("m");
    spec.faults.push(FaultChange { kind, start_s, growth_s, severity: 1.0, growth: Growth::Linear });
    spec
}

#[test]
fn the_velocity_limit_of_iso_20816_alarms_in_the_first_windows_before_anything_is_learned() {
    let spec = spec(FaultKind::Unbalance, 0.0, 0.0);
    let (mut monitor, mut said) = (build(pump(&spec, 4096)), Vec::new());
    Feeder::new(spec, 1).run(4.0, &mut monitor, &mut said);
    let (index, alarm) = raised(&said).into_iter().next().expect("the machine shakes");
    // Five windows of a third of a second: nothing else is waited for.
    assert_eq!((index, alarm.source), (4, AlarmSource::Rule), "{alarm:?}");
    // The diagnosis looks at the velocity too, with a limit of its own; the rule's line comes after it.
    let line = alarm.evidence.iter().rfind(|line| line.feature == VELOCITY).expect("by its velocity");
    let limits = [2.8, 4.5];
    assert!(line.value > line.limit && limits.contains(&line.limit), "{line:?}");
    assert_eq!(alarm.severity, if line.limit == limits[1] { Severity::Danger } else { Severity::Alarm });
    let learned = events(&said).iter().any(|(_, event)| matches!(event, Event::Commissioned { .. }));
    assert!(!learned && scores(&said).is_empty(), "nothing was learned, no model spoke");
    // A quiet machine under the same limit.
    let quiet = MachineSpec::named("m");
    let (mut monitor, mut said) = (build(pump(&quiet, 4096)), Vec::new());
    Feeder::new(quiet, 1).run(4.0, &mut monitor, &mut said);
    assert_eq!(alarms(&said), []);
}

#[test]
fn a_rule_that_joins_a_model_takes_its_alarm_over_and_the_model_goes_on_scoring() {
    let spec = spec(FaultKind::RollingElement, 14.0, 20.0);
    let mut config = pump(&spec, 4096);
    config.commissioning_windows = 20;
    // What the healthy machine shows fixes the limit: the fault passes it late.
    let (mut monitor, mut said) = (build(config.clone()), Vec::new());
    Feeder::new(spec.clone(), 1).run(10.0, &mut monitor, &mut said);
    let healthy = vibration_rows(&said);
    let most = healthy.iter().filter_map(|row| row.vector.get(at::ENVELOPE_RMS)).fold(0.0, f32::max);
    let feature = VIBRATION[at::ENVELOPE_RMS].id;
    let limit = FeatureLimit { feature, alarm: 2.0 * most, danger: 1e6, cause: Cause::Severity };
    config.limits.features.push(limit).expect("room");
    // Nobody names a cause here, so that the rule and the model are alone.
    (config.patience.diagnosis_raise, config.patience.diagnosis_of) = (32, 32);

    let (mut monitor, mut said) = (build(config), Vec::new());
    let mut feeder = Feeder::new(spec, 1);
    feeder.run(10.0, &mut monitor, &mut said);
    let bytes = train(&healthy, &features(), 1600.0);
    let digest = Digest::of(&bytes);
    let sink = &mut |output: Output<'_>| said.push(Said::of(&output));
    monitor.install(Role::Leader, bytes, digest, Generation(1), sink).expect("a good model");
    feeder.run(30.0, &mut monitor, &mut said);

    let told: Vec<_> = alarms(&said).into_iter().filter(|(_, alarm)| alarm.state != AlarmState::Cleared).collect();
    let (first, joined) = (&told[0], told.iter().find(|(_, alarm)| alarm.source == AlarmSource::Rule));
    let (at_rule, joined) = joined.expect("the limit is passed too");
    assert_eq!((first.1.source, first.1.model, first.1.state), (AlarmSource::Model, digest, AlarmState::Raised));
    assert!(first.0 < *at_rule, "the model at {}, the rule at {at_rule}", first.0);
    // One alarm: the same number, told as the rule's from then on, which never gives it back to the model.
    assert!(told.iter().all(|(_, alarm)| alarm.id == first.1.id), "{told:?}");
    assert_eq!((joined.state, joined.model), (AlarmState::Changed, Digest::NONE));
    let line = joined.evidence.iter().find(|line| line.feature == feature).expect("the rule's evidence");
    assert!(line.value > line.limit && line.limit == 2.0 * most);
    assert!(!joined.contributions.is_empty(), "what the model ranks stands beside the rule's evidence");
    let after = told.iter().filter(|(index, _)| index > at_rule);
    assert!(after.clone().all(|(_, alarm)| alarm.source == AlarmSource::Rule));
    // Each goes on: the model leads the scores of every window after.
    let leading = scores(&said).into_iter().filter(|(index, s)| index > at_rule && s.role == Role::Leader);
    let leading: Vec<_> = leading.filter(|(_, score)| score.model == digest).collect();
    assert!(leading.len() >= 10 && leading.iter().all(|(_, s)| s.anomaly > s.threshold), "{}", leading.len());
}
