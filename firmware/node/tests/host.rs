//! The whole node on the host, with hardware that a test can watch and break.

use std::collections::VecDeque;

use kilter_monitor::{Carve, ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Monitor, Protection, needed};
use kilter_node::{Accelerometer, AlarmOutput, Filled, Identity, Line, Link, Node};
use kilter_types::{
    AlarmSource, ChannelId, Class, Epoch, FeatureId, GroupKind, Hertz, Micros, Monotonic, Name, Payload, Quality,
    Record, Severity, Unit,
};
use kilter_wire::{
    Command, CommandKind, Down, Outcome, TimeReply, Up, cobs, decode_record,
    frame::{self, Kind},
};

const RATE: f32 = 3200.0;
const WINDOW: usize = 1024;

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

/// Noise of this size, or one value for ever.
struct Sensor {
    state: u32,
    size: f32,
    position: u64,
    lost: u64,
    broken: bool,
}

impl Accelerometer for Sensor {
    type Error = ();

    fn fill(&mut self, samples: &mut [f32]) -> Result<Filled, ()> {
        if self.broken {
            return Err(());
        }
        let lost = std::mem::take(&mut self.lost);
        self.position += lost;
        let t0 = Monotonic(self.position * 1_000_000 / RATE as u64);
        for sample in samples.iter_mut() {
            self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = self.size * ((self.state >> 8) as f32 / 8_388_608.0 - 1.0);
        }
        self.position += samples.len() as u64;
        Ok(Filled { len: samples.len(), lost, t0 })
    }
}

#[derive(Default)]
struct Wire {
    sent: Vec<u8>,
    coming: VecDeque<u8>,
    cut: bool,
}

impl Link for Wire {
    type Error = ();

    fn send(&mut self, bytes: &[u8]) -> Result<(), ()> {
        if self.cut {
            return Err(());
        }
        self.sent.extend_from_slice(bytes);
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, ()> {
        let count = bytes.len().min(self.coming.len());
        for (to, from) in bytes.iter_mut().zip(self.coming.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }
}

#[derive(Default)]
struct Lamp {
    shown: Severity,
    trips: u32,
    released: u32,
}

impl AlarmOutput for Lamp {
    fn show(&mut self, severity: Severity) {
        self.shown = severity;
    }

    fn trip(&mut self) {
        self.trips += 1;
    }

    fn release(&mut self) {
        self.released += 1;
    }
}

type Bench<'a> = Node<Sensor, Wire, Lamp, Carve<'a>, 1, 64, 1024>;

fn config() -> MachineConfig {
    let mut config = MachineConfig::new(name("pump"));
    let kind = ChannelKind::Vibration { rate: Hertz(RATE) };
    config.channels.push(ChannelConfig { name: name("z"), unit: Unit::G, kind }).expect("room");
    let channels = [ChannelId(0)].into_iter().collect();
    let window = WINDOW as u32;
    let group = GroupConfig { kind: GroupKind::Vibration, point: name("drive-end"), channels, window, hop: window };
    config.groups.push(group).expect("room");
    config.regimes = 1;
    config.commissioning_windows = 12;
    // rms
    config.protection.push(Protection { feature: FeatureId(2), above: 2.0, windows: 2 }).expect("room");
    config
}

fn node<'a>(floats: &'a mut [f32], times: &'a mut [Micros]) -> Bench<'a> {
    let monitor = Monitor::new(config(), &mut Carve::new(floats, times)).expect("a good configuration");
    let identity = Identity {
        tenant: name("default"),
        site: name("north"),
        asset: name("pump-1"),
        epoch: Epoch(42),
        channel: ChannelId(0),
        rate: Hertz(RATE),
    };
    let sensor = Sensor { state: 1, size: 0.1, position: 0, lost: 0, broken: false };
    Node::new(identity, sensor, Line::new(Wire::default()), Lamp::default(), monitor)
}

fn memory() -> (Vec<f32>, Vec<Micros>) {
    let needed = needed(&config()).expect("a good configuration");
    (vec![0.0; needed.floats], vec![Micros(0); needed.times])
}

/// Polls until so many windows are through.
fn run(node: &mut Bench<'_>, windows: usize) {
    for turn in 0..windows * WINDOW / kilter_node::BLOCK {
        node.poll(Monotonic(turn as u64 * 40_000));
    }
}

/// Everything whole that was sent.
fn sent(node: &mut Bench<'_>) -> (Vec<Record>, Vec<(u64, Outcome)>) {
    let (mut records, mut results) = (Vec::new(), Vec::new());
    let bytes = std::mem::take(&mut node.link().sent);
    for part in bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty()) {
        let mut part = part.to_vec();
        let frame = cobs::decode(&mut part).expect("a frame that was sent is whole");
        match frame::decode::<Up<'_>>(Kind::Up, frame).expect("a good frame") {
            Up::Batch(batch) => {
                let all = batch.iter().map(|bytes| decode_record(bytes.expect("whole").bytes).expect("a good record"));
                records.extend(all);
            }
            Up::CommandResult(result) => results.push((result.id, result.outcome)),
            Up::Hello(_) | Up::TimeRequest(_) | Up::Fetch(_) => {}
        }
    }
    (records, results)
}

fn send_down(node: &mut Bench<'_>, message: &Down<'_>) {
    let (mut plain, mut coded) = (vec![0; 1024], vec![0; 1100]);
    let bytes = frame::encode(Kind::Down, message, &mut plain).expect("it fits");
    let coded = cobs::encode(bytes, &mut coded).expect("it fits");
    node.link().coming.extend(coded.iter().copied());
}

#[test]
fn a_healthy_node_sends_rows_in_order_and_learns_its_baseline() {
    let (mut floats, mut times) = memory();
    let mut node = node(&mut floats, &mut times);
    run(&mut node, 20);
    let (records, _) = sent(&mut node);
    let rows: Vec<&Record> = records.iter().filter(|r| r.class() == Class::Feature).collect();
    assert_eq!(rows.iter().map(|r| r.seq).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert!(rows.iter().all(|r| r.epoch == Epoch(42) && r.point.point.as_str() == "drive-end"));
    let scores: Vec<_> = records
        .iter()
        .filter_map(|r| if let Payload::Score(score) = &r.payload { Some(score.input) } else { None })
        .collect();
    assert!(!scores.is_empty() && scores.iter().all(|input| input.seq == input.index), "{scores:?}");
    assert_eq!(node.output().shown, Severity::Healthy);
    assert_eq!(node.counters(), Default::default());
}

#[test]
fn samples_lost_in_the_ring_are_counted_and_become_a_gap() {
    let (mut floats, mut times) = memory();
    let mut node = node(&mut floats, &mut times);
    run(&mut node, 2);
    node.accelerometer().lost = 300;
    run(&mut node, 3);
    assert_eq!(node.counters().lost, 300);
    let (records, _) = sent(&mut node);
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
    let (mut floats, mut times) = memory();
    let mut node = node(&mut floats, &mut times);
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
fn a_dead_sensor_is_told_as_such() {
    let (mut floats, mut times) = memory();
    let mut node = node(&mut floats, &mut times);
    node.accelerometer().size = 0.0;
    run(&mut node, 8);
    let (records, _) = sent(&mut node);
    let alarm = records.iter().find_map(|r| if let Payload::Alarm(a) = &r.payload { Some(a) } else { None });
    assert_eq!(alarm.map(|a| a.source), Some(AlarmSource::Sensor));
    node.accelerometer().broken = true;
    assert_eq!(node.poll(Monotonic(0)), 0);
    assert_eq!(node.counters().failed_reads, 1);
}

#[test]
fn commands_are_done_once_within_their_time_and_garbage_on_the_line_passes() {
    let (mut floats, mut times) = memory();
    let mut node = node(&mut floats, &mut times);
    let now = Monotonic(1_000_000);
    let reset = |id, expires, asset: &str| {
        Down::Command(Command { id, expires, kind: CommandKind::Reset { asset: name(asset) } })
    };
    send_down(&mut node, &reset(1, Micros(i64::MAX), "pump-1"));
    node.poll(now);
    let reply = TimeReply { id: 0, sent: Monotonic(900_000), received: Micros(5_000_000), replied: Micros(5_000_100) };
    node.link().coming.extend([7, 200, 0, 1, 0, 9, 9, 9]);
    node.link().coming.push_back(0);
    send_down(&mut node, &Down::TimeReply(reply));
    node.poll(now);
    for command in [
        reset(2, Micros(5_060_000), "pump-1"),
        reset(3, Micros(5_000_000), "pump-1"),
        reset(4, Micros(i64::MAX), "fan"),
    ] {
        send_down(&mut node, &command);
        node.poll(now);
    }
    send_down(&mut node, &reset(4, Micros(i64::MAX), "fan"));
    node.poll(now);
    let (_, results) = sent(&mut node);
    assert_eq!(
        results,
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
