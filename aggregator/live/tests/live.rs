//! Latest by event time, alarms that open and close once, silence that shows.

#[path = "live/outlook.rs"]
mod outlook;

use kilter_fold::{Output, Row};
use kilter_live::{AssetKey, Live};
use kilter_types::{
    Alarm, AlarmSource, AlarmState, Cause, DeviceId, Digest, Epoch, FeatureRow, FeatureVector, Generation, GroupKind,
    Micros, Monotonic, Name, OperatingState, Payload, Point, Quality, Record, Report, RowRef, Rpm, SchemaHash,
    Severity, Timeline,
};

const SECOND: i64 = 1_000_000;

fn output(t_s: i64, payload: Payload) -> Output {
    let event_time = Micros(t_s * SECOND);
    Output::Row(Box::new(Row {
        device: DeviceId::new("edge-1").expect("a good name"),
        received: Micros(100 * SECOND),
        offset: 0,
        event_time,
        event_bound: Micros(0),
        record: Record {
            point: Point::parse("default/north/pump-1/drive-end").expect("a good address"),
            epoch: Epoch(1),
            seq: 0,
            monotonic: Monotonic(0),
            timeline: Timeline::Source,
            wall: Some(event_time),
            uncertainty: Micros(0),
            payload,
        },
    }))
}

fn features(t_s: i64, rms: f32) -> Output {
    let mut values = heapless::Vec::new();
    values.extend([0.0, rms].into_iter().chain((2..51).map(|_| 0.0)));
    let row = FeatureRow {
        group: 0,
        kind: GroupKind::Vibration,
        index: 0,
        start: Micros((t_s - 1) * SECOND),
        end: Micros(t_s * SECOND),
        state: OperatingState::Steady(1),
        rpm: Rpm(1500.0),
        quality: Quality::GOOD,
        vector: FeatureVector { schema: SchemaHash(1), values, valid: u64::MAX },
    };
    output(t_s, Payload::Features(row))
}

fn alarm(t_s: i64, state: AlarmState, severity: Severity) -> Output {
    output(
        t_s,
        Payload::Alarm(Alarm {
            id: 1,
            state,
            severity,
            source: AlarmSource::Physics,
            cause: Cause::OuterRace,
            since: Micros(50 * SECOND),
            input: RowRef { group: 0, index: 0, seq: 0 },
            model: Digest::NONE,
            evidence: heapless::Vec::new(),
            contributions: heapless::Vec::new(),
            unjournaled: false,
        }),
    )
}

fn key() -> AssetKey {
    AssetKey::of(&Point::parse("default/north/pump-1/drive-end").expect("a good address"))
}

#[test]
fn latest_is_by_event_time_even_when_history_comes_late() {
    let mut live = Live::new();
    for (t, rms) in [(10, 1.0), (30, 3.0), (20, 2.0)] {
        live.apply(&features(t, rms));
    }
    let view = live.machine_view(&key(), Micros(101 * SECOND)).expect("the machine is known");
    let rms = view.features.iter().find(|(name, ..)| name == "rms").expect("rms is a feature");
    assert_eq!(rms.2, Some(3.0));
    let trend = view.trends.iter().find(|trend| trend.name == "rms").expect("rms has a trend");
    assert_eq!(trend.values.iter().map(|(_, v)| *v).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
}

#[test]
fn times_of_a_machine_are_those_of_its_data_whatever_clock_its_node_reports_by() {
    let mut live = Live::new();
    let report = Report {
        version: Name::new("1").expect("a good name"),
        asset_class: Name::new("pump").expect("a good name"),
        generation: Generation(0),
        models: heapless::Vec::new(),
        journal_bytes: 0,
        dropped: 0,
        resident_bytes: 0,
        journal_dead: false,
    };
    live.apply(&output(1_000_000, Payload::Report(report.clone())));
    live.apply(&features(10, 1.0));
    live.apply(&features(20, 2.0));
    live.apply(&output(1_000_001, Payload::Report(report)));
    let fleet = live.fleet(Micros(101 * SECOND));
    assert_eq!((fleet.machines[0].last_event_us, fleet.machines[0].since_us), (20 * SECOND, 10 * SECOND));
}

#[test]
fn an_alarm_opens_worsens_and_closes_as_one_entry() {
    let mut live = Live::new();
    live.apply(&features(49, 1.0));
    live.apply(&alarm(50, AlarmState::Raised, Severity::Alarm));
    live.apply(&alarm(60, AlarmState::Changed, Severity::Danger));
    let fleet = live.fleet(Micros(101 * SECOND));
    assert_eq!(
        (fleet.machines[0].state, fleet.machines[0].cause, fleet.open_alarms),
        ("danger", Some("outer_race"), 1)
    );
    live.apply(&alarm(70, AlarmState::Cleared, Severity::Healthy));
    let alarms = live.alarm_views();
    assert_eq!((alarms.len(), alarms[0].open, alarms[0].worst), (1, false, Severity::Danger));
    assert_eq!(alarms[0].history.len(), 3);
}

#[test]
fn a_machine_that_says_nothing_is_silent_not_healthy() {
    let mut live = Live::new();
    live.apply(&features(99, 1.0));
    assert_eq!(live.fleet(Micros(101 * SECOND)).machines[0].state, "unknown");
    assert_eq!(live.fleet(Micros(200 * SECOND)).machines[0].state, "silent");
}

#[test]
fn a_snapshot_gives_the_same_state_back() {
    let mut live = Live::new();
    live.apply(&features(10, 1.0));
    live.apply(&alarm(50, AlarmState::Raised, Severity::Alarm));
    assert_eq!(Live::restore(&live.snapshot()), Ok(live));
}

#[test]
fn s4_12_late_windows_are_counted_and_correct_the_run_that_they_belong_to() {
    let mut live = Live::new();
    // Windows each minute, then silence for an hour, then one more; received as they happen.
    let at = |t_s: i64| {
        let Output::Row(mut row) = features(t_s, 1.0) else { unreachable!("features are rows") };
        row.received = Micros(t_s * SECOND);
        Output::Row(row)
    };
    for minute in (0..10).filter(|minute| *minute != 4) {
        live.apply(&at(minute * 60));
    }
    live.apply(&at(4_000));
    let runs = |live: &Live| {
        let view = live.machine_view(&key(), Micros(4_001 * SECOND)).expect("the machine is known");
        view.runs
            .iter()
            .map(|run| (run.start_us / SECOND, run.end_us.map(|end| end / SECOND), run.windows))
            .collect::<Vec<_>>()
    };
    assert_eq!(runs(&live), [(0, Some(540 + 600), 9), (4_000, None, 1)]);
    // What the node had kept comes now: within the lateness it corrects, later it is only counted.
    live.apply(&at(240));
    assert_eq!(runs(&live), [(0, Some(540 + 600), 10), (4_000, None, 1)]);
    live.apply(&at(9_000));
    live.apply(&at(300));
    assert_eq!(runs(&live)[0], (0, Some(540 + 600), 10));
    let fleet = live.fleet(Micros(9_001 * SECOND));
    assert_eq!((fleet.late, fleet.too_late, fleet.watermark_us), (1, 1, Some(8_995 * SECOND)));
    assert_eq!(Live::restore(&live.snapshot()).expect("its own snapshot"), live);
}

#[test]
fn s4_20_a_machine_that_is_gone_leaves_the_page_in_time_and_one_with_an_open_alarm_stays() {
    // Everything comes in at 100 s.
    let (heard, after) = (Micros(100 * SECOND), Micros::from_secs(86_400));
    let mut live = Live::new();
    live.apply(&features(1, 0.5));
    assert_eq!(live.forget(heard + after, after), 0, "not yet");
    let mut alarmed = live.clone();
    alarmed.apply(&alarm(2, AlarmState::Raised, Severity::Alarm));
    // A copy that went through its snapshot forgets the same.
    let mut copy = Live::restore(&live.snapshot()).expect("a good snapshot");
    for live in [&mut live, &mut copy] {
        assert_eq!(live.forget(heard + after + Micros(1), after), 2, "the machine and its node");
    }
    assert_eq!(live, copy);
    let view = live.fleet(heard);
    assert!(view.machines.is_empty() && view.devices.is_empty());
    assert_eq!(
        (view.rows, view.watermark_us.is_some()),
        (1, true),
        "what was counted stays, and time does not go back"
    );
    assert_eq!(alarmed.forget(heard + after + Micros(1), after), 0, "somebody has to look at its alarm");
    alarmed.apply(&alarm(3, AlarmState::Cleared, Severity::Healthy));
    assert_eq!(alarmed.forget(heard + after + Micros(1), after), 2);
    // It may come back.
    live.apply(&features(3, 0.5));
    assert_eq!(live.fleet(heard).machines.len(), 1);
}
