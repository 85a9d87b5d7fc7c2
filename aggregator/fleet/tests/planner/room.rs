//! Gateways whose nodes have room for leaders only: no shadow is planned for them.

use std::collections::BTreeMap;

use kilter_fleet::{Desired, Observed, Planner, Registry, Rollout, Stage};
use kilter_types::{DeviceId, Digest, Micros};

use super::{POLICY, fleet, import, name, settle};

/// These gateways have room for leaders only.
fn leaders_only(fleet: &mut BTreeMap<DeviceId, Observed>, gateways: &[&str]) {
    for (device, node) in fleet {
        node.leaders_only.clear();
        if gateways.contains(&device.as_str()) {
            node.leaders_only.insert(name("pump"));
        }
    }
}

/// Which gateways are to run this model.
fn holders(planner: &Planner, model: Digest) -> Vec<&str> {
    let runs = |desired: &Desired| desired.models.iter().any(|known| known.digest == model);
    planner.all_desired().iter().filter(|(_, desired)| runs(desired)).map(|(device, _)| device.as_str()).collect()
}

#[test]
fn a_shadow_goes_to_no_gateway_that_has_room_for_leaders_only_not_even_as_its_canary() {
    let mut registry = Registry::default();
    let mut fleet = fleet(3);
    leaders_only(&mut fleet, &["edge-0"]);
    let mut planner = Planner::default();
    let alone = import(&mut registry, 1, "shadow", None, 0.5);
    planner.start(alone, "command", &registry, Micros(0)).expect("it may watch");
    planner.step(&POLICY, &fleet, Micros(0));
    assert_eq!(holders(&planner, alone), ["edge-1"], "the canary");
    settle(&mut planner, &registry, &mut fleet, 1);
    assert_eq!(holders(&planner, alone), ["edge-1", "edge-2"]);
    assert!(matches!(planner.rollouts()[0].stage, Stage::Complete { .. }), "who has no room holds nothing up");

    // A pair is tried where both have room; then the leader goes everywhere.
    let shadow = import(&mut registry, 2, "shadow", Some(3), 0.5);
    let leader = import(&mut registry, 3, "leader", Some(2), 0.9);
    planner.start(leader, "growth", &registry, Micros::from_secs(100)).expect("it leads");
    planner.step(&POLICY, &fleet, Micros::from_secs(100));
    assert_eq!((holders(&planner, leader), holders(&planner, shadow)), (vec!["edge-1"], vec!["edge-1"]));
    settle(&mut planner, &registry, &mut fleet, 101);
    assert_eq!(holders(&planner, leader), ["edge-0", "edge-1", "edge-2"]);
    assert_eq!(holders(&planner, shadow), ["edge-1", "edge-2"]);
}

#[test]
fn where_no_gateway_has_room_for_a_shadow_the_plan_says_so_and_waits_for_one_that_has() {
    let mut registry = Registry::default();
    let mut fleet = fleet(2);
    leaders_only(&mut fleet, &["edge-0", "edge-1"]);
    let mut planner = Planner::default();
    let shadow = import(&mut registry, 1, "shadow", None, 0.5);
    planner.start(shadow, "command", &registry, Micros(0)).expect("it may watch");
    let changes = planner.step(&POLICY, &fleet, Micros(0));
    assert!(matches!(&planner.rollouts()[0].stage, Stage::Waiting { why } if why.contains("room for a leader only")));
    assert_eq!((changes.len(), planner.step(&POLICY, &fleet, Micros(1)).len()), (1, 0), "it is said once");
    assert!(planner.all_desired().is_empty());
    // What was stored before there was a reason can be read.
    let stored = r#"{"stage":"waiting"}"#;
    assert_eq!(serde_json::from_str::<Stage>(stored).expect("a stage"), Stage::Waiting { why: String::new() });
    leaders_only(&mut fleet, &["edge-0"]);
    settle(&mut planner, &registry, &mut fleet, 1);
    assert_eq!(holders(&planner, shadow), ["edge-1"]);
    assert!(matches!(planner.rollouts()[0].stage, Stage::Complete { .. }));
}

#[test]
fn a_canary_that_turns_out_to_have_no_room_for_a_shadow_makes_way_for_another_and_the_rollout_goes_on() {
    let mut registry = Registry::default();
    let mut fleet = fleet(2);
    let mut planner = Planner::default();
    let shadow = import(&mut registry, 1, "shadow", None, 0.5);
    planner.start(shadow, "command", &registry, Micros(0)).expect("it may watch");
    planner.step(&POLICY, &fleet, Micros(0));
    assert_eq!(holders(&planner, shadow), ["edge-0"]);
    // Its gateway refuses in the node's stead.
    leaders_only(&mut fleet, &["edge-0"]);
    fleet.values_mut().next().expect("edge-0").refused.insert(shadow);
    settle(&mut planner, &registry, &mut fleet, 1);
    assert_eq!(holders(&planner, shadow), ["edge-1"]);
    assert!(
        matches!(planner.rollouts()[..], [Rollout { stage: Stage::Complete { .. }, .. }]),
        "nothing was taken back"
    );
}
