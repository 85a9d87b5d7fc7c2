//! A rollout's way through the fleet, and what the guard says of every step.

mod room;

use std::collections::{BTreeMap, BTreeSet};

use kilter_fleet::{Observed, Planner, Policy, Registry, Stage, guard};
use kilter_types::{DeviceId, Digest, Generation, Micros, Name, Role};
use proptest::prelude::*;

const POLICY: Policy = Policy { canaries: 1, probation: Micros::from_secs(10) };

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

/// Models that lead, without pairs.
fn registry(count: u8) -> (Registry, Vec<Digest>) {
    let mut registry = Registry::default();
    let digests = (0..count).map(|i| import(&mut registry, i, "leader", None, 0.0)).collect();
    (registry, digests)
}

fn digest(artifact: u8) -> Digest {
    Digest::of(&[artifact; 16])
}

fn import(registry: &mut Registry, artifact: u8, role: &str, pair: Option<u8>, worth: f64) -> Digest {
    let card = serde_json::json!({
        "digest": digest(artifact).to_string(), "name": "anomaly-pump",
        "key": { "task": "anomaly", "asset_class": "pump", "asset": null },
        "family": "statistic", "role": role, "pair": pair.map(|pair| digest(pair).to_string()),
        "features": [{ "id": 1, "hash": 2 }], "metrics": { "worth": worth },
    });
    registry.import(&[artifact; 16], &card, Micros(i64::from(artifact))).expect("a good card").digest
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
    settle(&mut planner, &registry, &mut fleet, 0);
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
    settle(&mut planner, &registry, &mut fleet, 0);
    planner.start(digests[1], "second", &registry, Micros::from_secs(20)).expect("a leader");
    planner.step(&POLICY, &fleet, Micros::from_secs(21));
    let canary = DeviceId::new("edge-0").expect("a good name");
    fleet.get_mut(&canary).expect("it is there").refused.insert(digests[1]);
    settle(&mut planner, &registry, &mut fleet, 22);
    settle(&mut planner, &registry, &mut fleet, 42);
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
        settle(&mut planner, &registry, &mut fleet, start);
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
    settle(&mut planner, &registry, &mut fleet, 0);
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

#[test]
fn of_a_pair_that_loses_to_the_simple_rule_the_better_one_begins_once_both_are_there() {
    let mut registry = Registry::default();
    let first = import(&mut registry, 1, "shadow", Some(2), 0.6);
    assert_eq!(registry.beginners(&[first]), [], "the other one may lead");
    let second = import(&mut registry, 2, "shadow", Some(1), 0.5);
    assert_eq!(registry.beginners(&[second]), [first]);
    assert_eq!(registry.beginners(&[first, second]), [first], "once");
    // Where one leads, its shadow comes with it.
    let shadow = import(&mut registry, 3, "shadow", Some(4), 0.9);
    let leader = import(&mut registry, 4, "leader", Some(3), 0.8);
    assert_eq!(registry.beginners(&[shadow]), []);
    assert_eq!(registry.beginners(&[shadow, leader]), [leader]);
    let alone = import(&mut registry, 5, "shadow", None, 0.1);
    assert_eq!(registry.beginners(&[alone]), [alone]);
}

/// Twenty seconds in which every node does what it shall.
fn settle(planner: &mut Planner, registry: &Registry, fleet: &mut BTreeMap<DeviceId, Observed>, from_s: i64) {
    for second in from_s..from_s + 20 {
        let before = planner.clone();
        planner.step(&POLICY, fleet, Micros::from_secs(second));
        guard::check(&before, planner, &POLICY, registry, fleet).expect("the guard agrees");
        obey(planner, fleet);
    }
}

/// What every node shall run.
fn plan(planner: &Planner) -> Vec<(Digest, Role)> {
    let mut plans: Vec<Vec<_>> = planner
        .all_desired()
        .values()
        .map(|desired| desired.models.iter().map(|model| (model.digest, model.role)).collect())
        .collect();
    plans.dedup();
    assert_eq!(plans.len(), 1, "every node shall run the same: {plans:?}");
    plans.remove(0)
}

#[test]
fn what_does_not_lead_watches_beside_the_baseline_and_later_beside_the_champion() {
    let mut registry = Registry::default();
    let mut fleet = fleet(3);
    let mut planner = Planner::default();
    let watching = import(&mut registry, 1, "shadow", None, 0.5);
    planner.start(watching, "command", &registry, Micros(0)).expect("it may watch");
    planner.step(&POLICY, &fleet, Micros(0));
    obey(&planner, &mut fleet);
    assert_eq!(fleet.values().filter(|node| node.running.contains(&watching)).count(), 1, "a shadow has a canary too");
    settle(&mut planner, &registry, &mut fleet, 1);
    assert_eq!(plan(&planner), [(watching, Role::Shadow)]);
    assert!(matches!(planner.rollouts()[0].stage, Stage::Complete { .. }));

    let leader = import(&mut registry, 2, "leader", None, 0.9);
    planner.start(leader, "growth", &registry, Micros::from_secs(100)).expect("it leads");
    settle(&mut planner, &registry, &mut fleet, 100);
    assert_eq!(plan(&planner), [(leader, Role::Leader)]);
    let device = DeviceId::new("edge-0").expect("a good name");
    let led_since = planner.desired(&device).expect("a plan").models[0].generation;

    // The next training finds no leader: the champion stays, as it is.
    let second = import(&mut registry, 3, "shadow", None, 0.5);
    planner.start(second, "drift", &registry, Micros::from_secs(200)).expect("it may watch");
    settle(&mut planner, &registry, &mut fleet, 200);
    assert_eq!(plan(&planner), [(leader, Role::Leader), (second, Role::Shadow)]);
    assert_eq!(planner.desired(&device).expect("a plan").models[0].generation, led_since);

    // Who rolls back now means the leader.
    planner.roll_back(&name("pump"), "too many alarms", Micros::from_secs(300)).expect("there is a way back");
    settle(&mut planner, &registry, &mut fleet, 300);
    assert_eq!(plan(&planner), [(watching, Role::Shadow)]);
}

#[test]
fn a_shadow_that_the_canary_refuses_takes_neither_the_leader_nor_its_way_back_with_it() {
    let mut registry = Registry::default();
    let mut fleet = fleet(2);
    let mut planner = Planner::default();
    let leaders = [1, 2].map(|i| import(&mut registry, i, "leader", None, 0.9));
    for (round, leader) in leaders.iter().enumerate() {
        let at = 100 * round as i64;
        planner.start(*leader, "command", &registry, Micros::from_secs(at)).expect("it leads");
        settle(&mut planner, &registry, &mut fleet, at);
    }
    let shadow = import(&mut registry, 3, "shadow", None, 0.5);
    let canary = DeviceId::new("edge-0").expect("a good name");
    fleet.get_mut(&canary).expect("it is there").refused.insert(shadow);
    planner.start(shadow, "drift", &registry, Micros::from_secs(200)).expect("it may watch");
    settle(&mut planner, &registry, &mut fleet, 200);
    assert_eq!(plan(&planner), [(leaders[1], Role::Leader)]);
    planner.roll_back(&name("pump"), "not wanted", Micros::from_secs(300)).expect("there is a way back");
    settle(&mut planner, &registry, &mut fleet, 300);
    assert_eq!(plan(&planner), [(leaders[0], Role::Leader)]);
}

#[test]
fn a_leader_on_its_way_is_not_stopped_by_a_shadow_that_comes_after_it() {
    let mut registry = Registry::default();
    let mut fleet = fleet(3);
    let mut planner = Planner::default();
    let leader = import(&mut registry, 1, "leader", None, 0.9);
    planner.start(leader, "command", &registry, Micros(0)).expect("it leads");
    planner.step(&POLICY, &fleet, Micros(0));
    let shadow = import(&mut registry, 2, "shadow", None, 0.5);
    planner.start(shadow, "command", &registry, Micros::from_secs(1)).expect("it may watch");
    settle(&mut planner, &registry, &mut fleet, 1);
    assert_eq!(plan(&planner), [(leader, Role::Leader), (shadow, Role::Shadow)]);
}

#[derive(Clone, Debug)]
enum Action {
    Start(u8),
    Room(u8),
    RollBack,
    Refuse(u8, u8),
    Offline(u8),
    Obey(u8),
    Wait(u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0u8..6).prop_map(Action::Start),
        (0u8..5).prop_map(Action::Room),
        Just(Action::RollBack),
        (0u8..5, 0u8..6).prop_map(|(d, m)| Action::Refuse(d, m)),
        (0u8..5).prop_map(Action::Offline),
        (0u8..5).prop_map(Action::Obey),
        (0u8..15).prop_map(Action::Wait),
    ]
}

proptest! {
    #[test]
    fn r2_r3_r5_hold_for_any_history(actions in proptest::collection::vec(action(), 1..60)) {
        let (mut registry, mut digests) = registry(4);
        digests.extend([4, 5].map(|i| import(&mut registry, i, "shadow", None, 0.5)));
        let mut fleet = fleet(5);
        let mut planner = Planner::default();
        let mut now = Micros(0);
        for action in actions {
            let device = |d: u8| DeviceId::new(&format!("edge-{d}")).expect("a good name");
            match action {
                Action::Start(m) => drop(planner.start(digests[usize::from(m)], "x", &registry, now)),
                Action::Room(d) => drop(fleet.get_mut(&device(d)).map(|n| {
                    let had = n.leaders_only.remove(&name("pump"));
                    had || n.leaders_only.insert(name("pump"))
                })),
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
