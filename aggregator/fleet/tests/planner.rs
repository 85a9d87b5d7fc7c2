//! A rollout's way through the fleet, and what the guard says of every step.

use std::collections::{BTreeMap, BTreeSet};

use kilter_fleet::{Observed, Planner, Policy, Registry, Stage, guard};
use kilter_types::{DeviceId, Digest, Generation, Micros, Name};
use proptest::prelude::*;

const POLICY: Policy = Policy { canaries: 1, probation: Micros::from_secs(10) };

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn registry(count: u8) -> (Registry, Vec<Digest>) {
    let mut registry = Registry::default();
    let digests = (0..count)
        .map(|i| {
            let artifact = [i; 16];
            let digest = Digest::of(&artifact);
            let card = serde_json::json!({
                "digest": digest.to_string(), "name": "anomaly-pump",
                "key": { "task": "anomaly", "asset_class": "pump", "asset": null },
                "family": "statistic", "role": "leader", "pair": null, "features": [{ "id": 1, "hash": 2 }],
            });
            registry.import(&artifact, &card, Micros(i64::from(i))).expect("a good card");
            digest
        })
        .collect();
    (registry, digests)
}

fn fleet(count: usize) -> BTreeMap<DeviceId, Observed> {
    (0..count)
        .map(|i| {
            let device = DeviceId::new(&format!("edge-{i}")).expect("a good name");
            let classes = BTreeSet::from([name("pump")]);
            (device, Observed { classes, online: true, ..Observed::default() })
        })
        .collect()
}

/// Every node does at once what it shall.
fn obey(planner: &Planner, fleet: &mut BTreeMap<DeviceId, Observed>) {
    for (device, node) in fleet {
        if let Some(desired) = planner.desired(device) {
            node.running = desired.models.iter().map(|model| model.digest).collect();
        }
    }
}

#[test]
fn a_canary_runs_it_for_the_probation_then_everyone() {
    let (registry, digests) = registry(1);
    let mut fleet = fleet(3);
    let mut planner = Planner::default();
    planner.start(digests[0], "first model", &registry, Micros(0)).expect("a leader");
    let mut holders = Vec::new();
    for second in 0..20 {
        planner.step(&POLICY, &fleet, Micros::from_secs(second));
        obey(&planner, &mut fleet);
        holders.push(fleet.values().filter(|node| node.running.contains(&digests[0])).count());
    }
    let first_all = holders.iter().position(|count| *count == 3).expect("everyone has it in the end");
    assert!(holders[..first_all].iter().all(|count| *count == 1), "one canary before that: {holders:?}");
    assert!((10..14).contains(&first_all), "the probation is ten seconds: {first_all}");
    assert!(matches!(planner.rollouts()[0].stage, Stage::Complete { .. }));
}

#[test]
fn r5_after_an_older_catalogue_the_next_plan_is_above_what_a_node_follows() {
    let (registry, digests) = registry(1);
    let mut fleet = fleet(1);
    let mut planner = Planner::default();
    planner.start(digests[0], "first model", &registry, Micros(0)).expect("a leader");
    for second in 0..20 {
        planner.step(&POLICY, &fleet, Micros::from_secs(second));
        obey(&planner, &mut fleet);
    }
    let device = DeviceId::new("edge-0").expect("a good name");
    let before = planner.desired(&device).expect("a plan").clone();
    // The node followed plans that the restored catalogue knows nothing of.
    let node = fleet.get_mut(&device).expect("the node");
    node.generation = Generation(before.generation.0 + 40);
    let old = planner.clone();
    planner.step(&POLICY, &fleet, Micros::from_secs(20));
    let after = planner.desired(&device).expect("a plan");
    assert!(after.generation > fleet[&device].generation, "{after:?} would be refused");
    assert!(after.models.iter().all(|model| model.generation == after.generation), "and so would its manifests");
    guard::check(&old, &planner, &POLICY, &registry, &fleet).expect("the guard agrees");
    // A number that no plan can have been given is not believed.
    fleet.get_mut(&device).expect("the node").generation = Generation(u64::MAX);
    planner.step(&POLICY, &fleet, Micros::from_secs(21));
    assert!(planner.last_generation().0 < 1_000);
}

#[test]
fn r4_a_model_that_the_canary_refuses_goes_no_further() {
    let (registry, digests) = registry(2);
    let mut fleet = fleet(3);
    let mut planner = Planner::default();
    planner.start(digests[0], "first", &registry, Micros(0)).expect("a leader");
    for second in 0..20 {
        planner.step(&POLICY, &fleet, Micros::from_secs(second));
        obey(&planner, &mut fleet);
    }
    planner.start(digests[1], "second", &registry, Micros::from_secs(20)).expect("a leader");
    planner.step(&POLICY, &fleet, Micros::from_secs(21));
    let canary = DeviceId::new("edge-0").expect("a good name");
    fleet.get_mut(&canary).expect("it is there").refused.insert(digests[1]);
    for second in 22..60 {
        planner.step(&POLICY, &fleet, Micros::from_secs(second));
        obey(&planner, &mut fleet);
    }
    assert!(fleet.values().all(|node| node.running == BTreeSet::from([digests[0]])));
    assert!(planner.rollouts().iter().any(|r| matches!(&r.stage, Stage::RolledBack { .. })));
}

#[test]
fn r5_a_rollback_is_a_new_generation_that_names_the_older_model() {
    let (registry, digests) = registry(2);
    let mut fleet = fleet(2);
    let mut planner = Planner::default();
    for (round, digest) in digests.iter().enumerate() {
        let start = 100 * round as i64;
        planner.start(*digest, "next", &registry, Micros::from_secs(start)).expect("a leader");
        for second in 0..20 {
            planner.step(&POLICY, &fleet, Micros::from_secs(start + second));
            obey(&planner, &mut fleet);
        }
    }
    let before: Vec<_> = planner.all_desired().values().map(|desired| desired.generation).collect();
    planner.roll_back(&name("pump"), "too many alarms", Micros::from_secs(300)).expect("an older model is known");
    planner.step(&POLICY, &fleet, Micros::from_secs(301));
    for (desired, before) in planner.all_desired().values().zip(before) {
        assert_eq!(desired.models[0].digest, digests[0]);
        assert!(desired.generation > before && desired.models[0].generation > before);
    }
}

#[test]
fn r5_a_canary_that_goes_back_gets_the_old_model_in_a_new_generation() {
    let (registry, digests) = registry(2);
    let mut fleet = fleet(2);
    let mut planner = Planner::default();
    planner.start(digests[0], "first", &registry, Micros(0)).expect("a leader");
    for second in 0..20 {
        planner.step(&POLICY, &fleet, Micros::from_secs(second));
        obey(&planner, &mut fleet);
    }
    planner.start(digests[1], "second", &registry, Micros::from_secs(20)).expect("a leader");
    planner.step(&POLICY, &fleet, Micros::from_secs(21));
    let canary = DeviceId::new("edge-0").expect("a good name");
    let on_trial = planner.desired(&canary).expect("it has a plan").clone();
    assert_eq!(on_trial.models[0].digest, digests[1]);
    planner.roll_back(&name("pump"), "not wanted", Micros::from_secs(22)).expect("an older model is known");
    planner.step(&POLICY, &fleet, Micros::from_secs(23));
    let back = planner.desired(&canary).expect("it has a plan");
    assert_eq!(back.models[0].digest, digests[0]);
    assert!(back.models[0].generation > on_trial.models[0].generation);
}

#[derive(Clone, Debug)]
enum Action {
    Start(u8),
    RollBack,
    Refuse(u8, u8),
    Offline(u8),
    Obey(u8),
    Wait(u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0u8..4).prop_map(Action::Start),
        Just(Action::RollBack),
        (0u8..5, 0u8..4).prop_map(|(d, m)| Action::Refuse(d, m)),
        (0u8..5).prop_map(Action::Offline),
        (0u8..5).prop_map(Action::Obey),
        (0u8..15).prop_map(Action::Wait),
    ]
}

proptest! {
    #[test]
    fn r2_r3_r5_hold_for_any_history(actions in proptest::collection::vec(action(), 1..60)) {
        let (registry, digests) = registry(4);
        let mut fleet = fleet(5);
        let mut planner = Planner::default();
        let mut now = Micros(0);
        for action in actions {
            let device = |d: u8| DeviceId::new(&format!("edge-{d}")).expect("a good name");
            match action {
                Action::Start(m) => drop(planner.start(digests[usize::from(m)], "x", &registry, now)),
                Action::RollBack => drop(planner.roll_back(&name("pump"), "x", now)),
                Action::Refuse(d, m) => drop(fleet.get_mut(&device(d)).map(|n| n.refused.insert(digests[usize::from(m)]))),
                Action::Offline(d) => drop(fleet.get_mut(&device(d)).map(|n| n.online = !n.online)),
                Action::Obey(d) => {
                    if let (Some(desired), Some(node)) = (planner.desired(&device(d)), fleet.get_mut(&device(d))) {
                        node.running = desired.models.iter().map(|model| model.digest).collect();
                    }
                }
                Action::Wait(s) => now = now + Micros::from_secs(i64::from(s)),
            }
            let before = planner.clone();
            planner.step(&POLICY, &fleet, now);
            prop_assert_eq!(guard::check(&before, &planner, &POLICY, &registry, &fleet), Ok(()));
        }
    }
}
