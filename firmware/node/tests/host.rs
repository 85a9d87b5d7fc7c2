//! The whole node on the host, with hardware that a test can watch and break.

mod bench;

use bench::{boot, name, node, run, run_from, send_down, send_node, sent};
use kilter_types::{AlarmSource, Class, Epoch, Event, Micros, Monotonic, Payload, Quality, Record, Severity, Who};
use kilter_wire::node::{NodeDown, NodeSettings};
use kilter_wire::{Command, CommandKind, Down, Outcome, TimeReply};

#[test]
fn a_healthy_node_sends_rows_in_order_and_learns_its_baseline() {
    let mut node = node();
    run(&mut node, 20);
    let records = sent(&mut node).records;
    let rows: Vec<&Record> = records.iter().filter(|r| r.class() == Class::Feature).collect();
    assert_eq!(rows.iter().map(|r| r.seq).collect::<Vec<_>>(), (0..rows.len() as u64).collect::<Vec<_>>());
    assert!(rows.iter().all(|r| r.epoch == Epoch(42) && r.point.point.as_str() == "drive-end"));
    let of = |record: &Record| match &record.payload {
        Payload::Features(row) => (row.group, row.index),
        _ => panic!("a row was asked for"),
    };
    let vibration: Vec<u64> = rows.iter().map(|r| of(r)).filter(|(group, _)| *group == 0).map(|(_, i)| i).collect();
    assert_eq!(vibration, (0..20).collect::<Vec<_>>());
    let scores: Vec<_> = records
        .iter()
        .filter_map(|r| if let Payload::Score(score) = &r.payload { Some(score.input) } else { None })
        .collect();
    let named = |input: &kilter_types::RowRef| of(rows[input.seq as usize]) == (input.group, input.index);
    assert!(!scores.is_empty() && scores.iter().all(named), "{scores:?}");
    assert_eq!(node.output().shown, Severity::Healthy);
    assert_eq!(node.counters(), Default::default());
}

#[test]
fn samples_lost_in_the_ring_are_counted_and_become_a_gap() {
    let mut node = node();
    run(&mut node, 2);
    node.accelerometer().lost = 300;
    run(&mut node, 3);
    assert_eq!(node.counters().lost, 300);
    let records = sent(&mut node).records;
    let rows: Vec<(u64, bool)> = records
        .iter()
        .filter_map(|r| match &r.payload {
            Payload::Features(row) => Some((row.index, row.quality.contains(Quality::GAP))),
            _ => None,
        })
        .collect();
    assert_eq!(rows, [(0, false), (1, false), (3, true), (4, false)]);
}

#[test]
fn alarm_and_trip_work_with_the_link_cut_and_only_a_person_releases_a2() {
    let mut node = node();
    node.link().cut = true;
    run(&mut node, 14);
    node.accelerometer().size = 10.0;
    run(&mut node, 4);
    assert_eq!((node.output().trips, node.output().shown), (1, Severity::Danger));
    assert!(node.counters().unsent > 0);
    node.accelerometer().size = 0.1;
    run(&mut node, 30);
    assert_eq!(node.output().shown, Severity::Danger);
    node.reset(Monotonic(9));
    assert_eq!((node.output().released, node.output().shown), (1, Severity::Healthy));
}

#[test]
fn a_trip_holds_over_a_reset_of_the_node_until_a_person_releases_it_a2() {
    let mut node = node();
    run(&mut node, 14);
    node.accelerometer().size = 10.0;
    run(&mut node, 4);
    assert_eq!(node.output().trips, 1);
    // The power goes and comes; the machine is quiet.
    let mut node = boot(node.into_flash());
    assert_eq!((node.output().trips, node.output().shown), (1, Severity::Danger));
    run(&mut node, 14);
    assert_eq!((node.output().released, node.output().shown), (0, Severity::Danger));
    node.reset(Monotonic(9));
    assert_eq!((node.output().released, node.output().shown), (1, Severity::Healthy));
    run(&mut node, 1);
    let by = Event::Reset { by: Who::new("at the node").expect("a good name") };
    assert!(sent(&mut node).records.iter().any(|record| record.payload == Payload::Event(by.clone())));
    let node = boot(node.into_flash());
    assert_eq!((node.output().trips, node.output().shown), (0, Severity::Healthy));
}

#[test]
fn a_dead_sensor_is_told_as_such() {
    let mut node = node();
    node.accelerometer().size = 0.0;
    run(&mut node, 8);
    let records = sent(&mut node).records;
    let alarm = records.iter().find_map(|r| if let Payload::Alarm(a) = &r.payload { Some(a) } else { None });
    assert_eq!(alarm.map(|a| a.source), Some(AlarmSource::Sensor));
    node.accelerometer().broken = true;
    assert_eq!(node.poll(Monotonic(0)).taken, 0);
    assert_eq!(node.counters().failed_reads, 1);
}

#[test]
fn commands_are_done_once_within_their_time_and_garbage_on_the_line_passes() {
    let mut node = node();
    let now = Monotonic(1_000_000);
    let reset = |id, expires, asset: &str| {
        Down::Command(Command { id, expires, kind: CommandKind::Reset { asset: name(asset) } })
    };
    send_down(&mut node, &reset(1, Micros(i64::MAX), "pump-1"));
    node.poll(now);
    let reply = TimeReply { id: 0, sent: now, received: Micros(5_000_000), replied: Micros(5_000_100) };
    let now = Monotonic(1_100_000);
    node.link().coming.extend([7, 200, 0, 1, 0, 9, 9, 9]);
    node.link().coming.push_back(0);
    send_down(&mut node, &Down::TimeReply(reply));
    node.poll(now);
    let by = Who::new("anna").expect("a good name");
    let kind = CommandKind::ResetBy { asset: name("pump-1"), by: by.clone() };
    for command in [
        Down::Command(Command { id: 2, expires: Micros(5_060_000), kind }),
        reset(3, Micros(5_000_000), "pump-1"),
        reset(4, Micros(i64::MAX), "fan"),
    ] {
        send_down(&mut node, &command);
        node.poll(now);
    }
    send_down(&mut node, &reset(4, Micros(i64::MAX), "fan"));
    node.poll(now);
    let said = sent(&mut node);
    let named = said.records.iter().filter(|record| record.payload == Payload::Event(Event::Reset { by: by.clone() }));
    assert_eq!(named.count(), 1);
    assert_eq!(
        said.results,
        [
            (1, Outcome::Refused),
            (2, Outcome::Done),
            (3, Outcome::Expired),
            (4, Outcome::Refused),
            (4, Outcome::Refused),
        ]
    );
    assert_eq!(node.output().released, 1);
    assert!(node.counters().garbled >= 2);
}

#[test]
fn the_time_is_asked_for_and_dates_records_with_its_bound() {
    let mut node = node();
    node.poll(Monotonic(1_000_000));
    let asked = sent(&mut node).times[0];
    let reply = TimeReply { id: asked.id, sent: asked.sent, received: Micros(7_000_000), replied: Micros(7_000_100) };
    send_down(&mut node, &Down::TimeReply(TimeReply { id: 99, ..reply }));
    send_down(&mut node, &Down::TimeReply(reply));
    node.poll(Monotonic(1_002_100));
    let now = run_from(&mut node, 2_000_000, 2);
    let said = sent(&mut node);
    // Away for 2100 us, of which 100 were spent at the other end.
    assert_eq!(said.times.first().map(|next| (next.id, next.last_round_trip_us)), Some((asked.id + 1, 2_000)));
    let record = said.records.iter().find(|record| record.class() == Class::Feature).expect("a row");
    let wall = record.wall.expect("it is dated");
    assert_eq!(wall.0 - record.monotonic.0 as i64, 7_000_100 + 1_000 - 1_002_100);
    assert!((1_000..1_200).contains(&record.uncertainty.0), "{:?} at {now}", record.uncertainty);
}

#[test]
fn a_duty_cycle_sleeps_skips_positions_and_costs_less() {
    let mut node = node();
    run(&mut node, 2);
    let always = node.status().charge_uah_per_day;
    let settings = NodeSettings { generation: 1, windows: 2, sleep_secs: 60, ..NodeSettings::default() };
    send_node(&mut node, &NodeDown::Settings(settings));
    let mut now = 10_000_000;
    let mut sleeps = 0;
    while sleeps < 5 {
        let turn = node.poll(Monotonic(now));
        now += turn.sleep.map_or(40_000, |sleep| sleep.0.unsigned_abs());
        sleeps += u32::from(turn.sleep.is_some());
    }
    run_from(&mut node, now, 2);
    let records = sent(&mut node).records;
    let indices: Vec<(u64, bool)> = records
        .iter()
        .filter_map(|r| match &r.payload {
            Payload::Features(row) if row.group == 0 => Some((row.index, row.quality.contains(Quality::GAP))),
            _ => None,
        })
        .collect();
    let gaps: Vec<u64> = indices.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|step| *step > 1).collect();
    // A minute holds 187.5 windows.
    assert!(gaps.len() >= 5 && gaps.iter().all(|step| (187..=190).contains(step)), "{indices:?}");
    assert_eq!(node.counters().lost, 0, "what was slept is not lost");
    let status = node.status();
    assert_eq!(status.settings, 1);
    assert!(status.charge_uah_per_day < always / 4, "{} of {always}", status.charge_uah_per_day);
    // A second time the same settings change nothing, and older ones neither.
    send_node(&mut node, &NodeDown::Settings(NodeSettings { generation: 1, sleep_secs: 0, ..settings }));
    node.poll(Monotonic(now + 40_000_000));
    assert_eq!(node.status().settings, 1);
}

#[test]
fn temperature_is_read_at_its_own_pace_and_makes_rows() {
    let mut node = node();
    run(&mut node, 60);
    let records = sent(&mut node).records;
    let levels: Vec<f32> = records
        .iter()
        .filter_map(|r| match &r.payload {
            Payload::Features(row) if row.group == 1 => row.vector.get(0),
            _ => None,
        })
        .collect();
    assert!(levels.len() >= 3 && levels.iter().all(|level| *level == 45.0), "{levels:?}");
}

#[test]
fn each_turn_feeds_the_watchdog_once_and_the_node_introduces_itself() {
    let mut node = node();
    run(&mut node, 8);
    let said = sent(&mut node);
    assert_eq!(said.hellos, 1);
    let status = said.status.expect("it tells how it is");
    assert_eq!((status.faults.boots, status.model, status.on_trial), (1, None, false));
}
