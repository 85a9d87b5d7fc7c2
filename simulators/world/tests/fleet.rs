//! Fleets of production cores under faults, in virtual time: what is promised holds, and mistakes planted around them are found.

use kilter_world::{Fleet, FleetConfig, Outcome, Plant, shrink};

const HOUR_US: u64 = 3_600_000_000;

fn config(plant: Option<Plant>) -> FleetConfig {
    let weather_us = 2 * HOUR_US;
    FleetConfig { agents: 5, weather_us, record_interval_us: 30_000_000, steady_links: false, calm: 1, plant }
}

/// How many seeds; `KILTER_SEEDS` asks for another number, `KILTER_FIRST_SEED` for other ones.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("KILTER_FIRST_SEED").unwrap_or(0);
    first..first + number("KILTER_SEEDS").unwrap_or(30)
}

#[test]
fn j1_j3_d1_d2_d3_d4_l1_t1_hold_for_every_seed() {
    let mut sum = Outcome::default();
    let mut broken = Vec::new();
    for seed in seeds() {
        match Fleet::new(seed, config(None)).run() {
            Ok(outcome) => sum.add(&outcome),
            Err(violation) => broken.push(violation.to_string()),
        }
    }
    println!("{sum:?}");
    assert!(broken.is_empty(), "{} seeds: {broken:#?}", broken.len());
    // The faults did happen.
    assert!(sum.gaps > 0 && sum.duplicates > 0 && sum.journals_lost > 0 && sum.agent_ends > 0 && sum.partitions > 0);
    assert!(sum.rebinds > 0 && sum.disks_full > 0 && sum.reopened > 0 && sum.copies > 0 && sum.full > 0);
    assert!(sum.older_images > 0);
    assert!(sum.node_starts > 0 && sum.portals > 0 && sum.garbage > 0 && sum.crowded > 0);
    // What the lake lost came again, or was told to be gone.
    assert!(sum.restored_rows > 0 && sum.lost_rows > sum.restored_rows);
}

#[test]
fn the_same_seed_ends_the_same_way_and_another_one_does_not() {
    let run = |seed| Fleet::new(seed, FleetConfig { weather_us: HOUR_US / 2, ..config(None) }).run();
    let one = run(3);
    assert_eq!(one, run(3));
    assert_ne!(one.map(|outcome| outcome.hash), run(4).map(|outcome| outcome.hash));
}

#[test]
fn t1_solved_time_is_within_its_bound_over_links_of_any_latency() {
    // A row outside its bound is a violation. Half a round trip bounds it however unlike the ways there and back are.
    let bounds = |steady_links| {
        let mut sum = Outcome::default();
        for seed in seeds().take(12) {
            let run = Fleet::new(seed, FleetConfig { steady_links, ..config(None) }).run();
            sum.add(&run.unwrap_or_else(|violation| panic!("{violation}")));
        }
        println!("steady {steady_links}: {:?} of {} rows", sum.bounds, sum.rows);
        assert!(sum.bounds.rows() > sum.rows / 4, "most are dated by an exchange: {sum:?}");
        sum.bounds.at_permille(500)
    };
    assert!(bounds(true) <= bounds(false));
}

#[test]
fn a_round_trip_that_is_told_too_short_is_found() {
    found(Plant::HalfARoundTrip, &["T1"]);
}

/// The first of 50 seeds that notices the mistake, and the smallest fleet in which it still does.
fn found(plant: Plant, invariants: &[&str]) {
    let config = FleetConfig { weather_us: HOUR_US, ..config(Some(plant)) };
    let violation = (0..50).find_map(|seed| Fleet::new(seed, config.clone()).run().err());
    let violation = violation.unwrap_or_else(|| panic!("50 seeds and nobody noticed {plant:?}"));
    println!("{plant:?}: {violation}");
    assert!(invariants.iter().any(|id| violation.invariant.contains(id)), "{violation}");
    let (smaller, again) = shrink(violation.seed, &config).expect("the same seed breaks it again");
    println!("  shrunk to {} agents and {} s: {again}", smaller.agents, smaller.weather_us / 1_000_000);
}

#[test]
fn an_agent_that_acknowledges_before_its_sync_is_found() {
    found(Plant::AgentAcksBeforeSync, &["J1"]);
}

#[test]
fn an_aggregator_that_accepts_before_its_sync_is_found() {
    found(Plant::AggregatorAcksBeforeSync, &["D1", "D4"]);
}

#[test]
fn an_agent_that_releases_what_is_only_accepted_is_found() {
    found(Plant::ReleaseOnAccepted, &["D4"]);
}

#[test]
fn dedup_that_is_off_by_one_is_found() {
    found(Plant::DedupOffByOne, &["J1", "D1", "D4"]);
}

#[test]
fn a_seam_that_is_off_by_one_is_found() {
    found(Plant::SeamOffByOne, &["L1"]);
}

#[test]
fn marks_that_outlive_their_journal_are_found() {
    found(Plant::MarksOutliveJournal, &["J1", "D1", "D4"]);
}

#[test]
fn an_unlink_before_the_ledger_is_found() {
    found(Plant::UnlinkBeforeLedger, &["J2", "J1"]);
}

#[test]
fn marks_that_lag_behind_the_lake_are_found() {
    found(Plant::StaleMarks, &["L1"]);
}

#[test]
fn rows_that_are_put_back_without_a_look_at_the_lake_are_found() {
    found(Plant::PutBackUnseen, &["L1"]);
}

#[test]
fn an_agent_whose_epoch_a_restarting_node_pushes_out_is_found() {
    found(Plant::ForgetByFirstSight, &["L1", "D2", "D4"]);
}
